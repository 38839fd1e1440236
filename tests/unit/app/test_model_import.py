"""What an import does with files, and what it says of each."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.scenario.stack import ManualClock

from stellwerk.app.handlers.models import FileReport, ModelImport, Outcome, UnknownModel, remove_models
from stellwerk.lwm2m.schema.ddf import encode_ddf
from stellwerk.lwm2m.schema.model import ObjectModel
from stellwerk.storage.memory import MemoryStore

IMPORTED, REPLACED, UNCHANGED = Outcome


def ddf(object_id: int, version: str = "1.0", name: str = "Tank", comment: str = "") -> bytes:
    model = ObjectModel.define(object_id, name, version, [], multiple=True, mandatory=False)
    return encode_ddf(model) + comment.encode()


def bundle(*files: bytes) -> bytes:
    objects = [each.split(b"<LWM2M>")[1].split(b"</LWM2M>")[0] for each in files]
    return b"<LWM2M>" + b"".join(objects) + b"</LWM2M>"


class Files:
    """A store to import into."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.runner = asyncio.Runner()

    def add(self, files: dict[str, bytes], tenant: str = "", dry_run: bool = False) -> list[FileReport]:
        async def work() -> list[FileReport]:
            importing = ModelImport(self.store, ManualClock(), tenant, dry_run)
            reports = [await importing.add(name, data) for name, data in files.items()]
            await importing.finish()
            return reports

        return self.runner.run(work())

    def outcomes(self, files: dict[str, bytes], **options: bool) -> list[list[Outcome]]:
        return [[model.outcome for model in report.models] for report in self.add(files, **options)]

    def kept(self) -> list[tuple[str, int, str]]:
        return [each.key for each in self.runner.run(self.store.object_models())]


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    yield made
    made.runner.close()


def test_a_new_file_is_imported_the_same_is_unchanged_and_another_replaces_it(files: Files) -> None:
    for data, outcome in ((ddf(30000), IMPORTED), (ddf(30000), UNCHANGED), (ddf(30000, comment="<!-- -->"), REPLACED)):
        assert files.outcomes({"a.xml": data}) == [[outcome]]
        assert files.runner.run(files.store.model_source("", 30000, "1.0")) == data
    generation = files.runner.run(files.store.models_generation())
    files.add({"a.xml": ddf(30000, comment="<!-- -->")})
    assert files.runner.run(files.store.models_generation()) == generation


def test_a_bad_file_stops_no_other_and_says_why(files: Files) -> None:
    broken = ddf(30001).replace(b"<Mandatory>Optional", b"<Mandatory>maybe")
    first, second, third, last = files.add(
        {"a.xml": ddf(30000), "b.xml": broken, "index.xml": b"<DDFList/>", "c.xml": ddf(30002)}
    )
    assert [each.reason for each in (first, last)] == ["", ""]
    assert second.reason.endswith("'maybe' is neither Optional nor Mandatory")
    assert second.reason.startswith("line ")
    assert (second.models, second.skipped, third.skipped) == ((), False, True)
    assert files.kept() == [("", 30000, "1.0"), ("", 30002, "1.0")]


def test_a_file_of_several_objects_counts_as_a_whole_or_not_at_all(files: Files) -> None:
    assert files.outcomes({"a.xml": bundle(ddf(30000), ddf(30001))}) == [[IMPORTED, IMPORTED]]
    (report,) = files.add({"a.xml": bundle(ddf(30002), ddf(30003).replace(b">30003<", b">x<"))})
    assert "'x' is not an identifier" in report.reason
    assert files.kept() == [("", 30000, "1.0"), ("", 30001, "1.0")]


def test_of_files_that_define_an_object_differently_the_first_counts_whatever_the_store_held(files: Files) -> None:
    two = {"new/3.xml": ddf(30000, name="New"), "old/3.xml": bundle(ddf(30000, name="Old"), ddf(30001))}
    for outcome in (IMPORTED, UNCHANGED):
        first, second = files.add(two)
        assert [each.outcome for each in first.models] == [outcome]
        expected = "object 30000 version 1.0 is defined by new/3.xml too, and differently; that one counts"
        assert (second.reason, second.models) == (expected, ())
    assert files.kept() == [("", 30000, "1.0")]
    assert files.runner.run(files.store.object_models())[0].file_name == "3.xml"


def test_the_same_file_twice_is_imported_once(files: Files) -> None:
    assert files.outcomes({"a.xml": ddf(30000), "b.xml": ddf(30000)}) == [[IMPORTED], [UNCHANGED]]


def test_a_dry_run_says_the_same_and_changes_nothing(files: Files) -> None:
    files.add({"a.xml": ddf(30000)})
    many = {f"{each}.xml": ddf(each) for each in range(30000, 30120)} | {"x.xml": ddf(30000, name="Other"), "y": b"<"}
    dry = files.add(many, dry_run=True)
    assert files.kept() == [("", 30000, "1.0")]
    assert files.add(many) == dry
    assert len(files.kept()) == 120


def test_tenants_keep_models_of_their_own(files: Files) -> None:
    files.add({"a.xml": ddf(30000)})
    (report,) = files.add({"a.xml": ddf(30000)}, tenant="acme")
    assert report.models[0].outcome is IMPORTED
    assert files.kept() == [("", 30000, "1.0"), ("acme", 30000, "1.0")]


def test_removing_takes_one_version_or_all_and_says_which(files: Files) -> None:
    files.add({f"{each}.xml": ddf(30000, each) for each in ("1.0", "1.1", "2.0")})
    files.add({"a.xml": ddf(30000)}, tenant="acme")

    def remove(tenant: str, object_id: int, version: str = "") -> list[str]:
        return [each.version for each in files.runner.run(remove_models(files.store, tenant, object_id, version))]

    assert remove("", 30000, "1.1") == ["1.1"]
    with pytest.raises(UnknownModel, match=r"no model of object 30000 version 1\.1 was imported for all tenants"):
        remove("", 30000, "1.1")
    assert remove("", 30000) == ["1.0", "2.0"]
    assert files.kept() == [("acme", 30000, "1.0")]
    with pytest.raises(UnknownModel, match="for tenant 'default'"):
        remove("default", 30000)
