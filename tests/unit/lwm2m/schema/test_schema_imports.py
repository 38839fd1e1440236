"""Imported definitions in a library: what counts, and how the types of devices follow."""

import gc

import pytest

from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.ddf import encode_ddf
from stellwerk.lwm2m.schema.library import Library, Rule
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel
from stellwerk.lwm2m.schema.source import CompressedSource
from stellwerk.lwm2m.value import ResourceType

INTEGER, STRING = ResourceType.INTEGER, ResourceType.STRING


def source(object_id: int, version: str, kind: ResourceType = INTEGER) -> CompressedSource:
    resource = ResourceModel.define(1, "One", "RW", multiple=False, mandatory=False, type=kind)
    model = ObjectModel.define(object_id, "Own", version, [resource], multiple=True, mandatory=False)
    return CompressedSource.of(object_id, version, encode_ddf(model))


def library(*imported: tuple[str, CompressedSource]) -> Library:
    made = Library.builtin().with_models()
    made.replace_imported(imported)
    return made


@pytest.mark.spec("LwM2M-contract 9")
def test_an_imported_model_counts_before_the_built_in_one_of_its_version() -> None:
    own = library(("", source(3, "1.1", STRING)))
    types = own.for_device("1.1", {3: None})
    assert types.resource_type(Path(3, 0, 1)) is STRING
    assert types.resource_type(Path(3, 0, 9)) is None
    assert own.for_device("1.0", {3: None}).resource_type(Path(3, 0, 9)) is INTEGER
    assert Library.builtin().for_device("1.1", {3: None}).resource_type(Path(3, 0, 9)) is INTEGER


def test_a_tenants_own_model_counts_for_its_devices_alone() -> None:
    own = library(("", source(30000, "1.0")), ("acme", source(30000, "1.0", STRING)), ("acme", source(30001, "1.0")))
    path, other = Path(30000, 0, 1), Path(30001, 0, 1)
    for tenant, expected in (("", (INTEGER, None)), ("acme", (STRING, INTEGER)), ("stranger", (INTEGER, None))):
        types = own.for_device("1.1", {30000: None, 30001: None}, tenant)
        assert (types.resource_type(path), types.resource_type(other)) == expected


@pytest.mark.spec("LwM2M-contract 9")
def test_versions_stand_side_by_side() -> None:
    own = library(("", source(30000, "1.0")), ("", source(30000, "1.2", STRING)), ("", source(30000, "2.0")))
    kinds = {each: own.for_device("1.1", {30000: each}).resource_type(Path(30000, 0, 1)) for each in ("1.0", "1.2")}
    assert kinds == {"1.0": INTEGER, "1.2": STRING}
    assert own.choose(30000, "2.7", "1.1").rule is Rule.NEAREST
    assert own.choose(30000, "3.0", "1.1").rule is Rule.NONE


def test_types_that_devices_hold_follow_an_import_and_its_removal() -> None:
    own = library()
    types = own.for_device("1.1", {3: None, 30000: "1.0"}, "acme")
    path = Path(30000, 0, 1)
    assert types.resource_type(path) is None
    assert len(types.warnings) == 1
    for imported, expected in (([("acme", source(30000, "1.0"))], INTEGER), ([], None)):
        for stale in own.replace_imported(imported):
            stale.refresh()
        assert types.resource_type(path) is expected
        assert bool(types.warnings) is (expected is None)
        assert types.resource_type(Path(3, 0, 9)) is INTEGER
        assert own.for_device("1.1", {3: None, 30000: "1.0"}, "acme") is types


def test_types_of_long_lists_follow_too_and_are_let_go_with_their_device() -> None:
    own = library()
    versions = dict.fromkeys(range(30000, 31000))
    types = own.for_device("1.1", versions)
    assert types in own.replace_imported([("", source(30500, "1.0"))])
    types.refresh()
    assert types.resource_type(Path(30500, 0, 1)) is INTEGER
    del types
    gc.collect()
    assert own.replace_imported([]) == []


def test_a_version_that_is_none_changes_nothing() -> None:
    own = library(("", source(30000, "1.0")))
    with pytest.raises(ValueError, match=r"version 'x' is not major\.minor"):
        own.replace_imported([("", source(30001, "1.0")), ("", CompressedSource.of(30000, "x", b""))])
    assert own.get(30000, "1.0") is not None
    assert own.get(30001, "1.0") is None


@pytest.mark.parametrize("xml", [b"", b"<LWM2M>", encode_ddf(Library.builtin().models()[0])])
def test_a_source_that_does_not_define_its_object_counts_as_not_there(xml: bytes) -> None:
    own = library(("", CompressedSource.of(3, "1.1", xml)), ("", CompressedSource.of(30000, "1.0", xml)))
    device = own.choose(3, "1.1", "1.1")
    assert device.model is not None
    assert (device.model.version, device.rule) == ("1.0", Rule.NEAREST)
    assert own.choose(30000, "1.0", "1.1").rule is Rule.NONE
    assert own.get(30000, "1.0") is None


def test_a_source_is_read_once_and_only_when_a_device_has_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    load = CompressedSource.load
    monkeypatch.setattr(CompressedSource, "load", lambda self: (read.append(self.object_id), load(self))[1])
    own = library(*(("", source(each, "1.0")) for each in range(30000, 30050)))
    types = own.for_device("1.1", {30007: None, 30008: None})
    assert read == []
    for _ in range(3):
        types.resource_type(Path(30007, 0, 1))
    own.for_device("1.0", {30007: None}).resource_type(Path(30007, 0, 1))
    assert read == [30007]
