"""`stellwerk models`: what it reports, what it leaves, and that it works beside a running server."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stellwerk.app.ports import StoreFailing
from stellwerk.cli import app
from stellwerk.core.errors import UserError
from stellwerk.lwm2m.schema.ddf import encode_ddf, load_ddf
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.model import ObjectModel
from stellwerk.storage.lock import DirectoryLock
from stellwerk.storage.migrations import migrate
from stellwerk.storage.sqlite.store import SqliteStore

run = CliRunner()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New database files, to copy: a migration takes longer than most tests."""
    data_dir = tmp_path_factory.mktemp("migrated")
    migrate(data_dir)
    return data_dir


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch, migrated: Path, tmp_path: Path) -> Path:
    """A data directory that the commands find; the files to import lie in ``in``."""
    monkeypatch.setenv("STELLWERK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(migrated, tmp_path / "data")
    (tmp_path / "in").mkdir()
    return tmp_path


def write(file: Path, object_id: int, version: str = "1.0", name: str = "Tank", comment: str = "") -> None:
    model = ObjectModel.define(object_id, name, version, [], multiple=True, mandatory=False)
    file.write_bytes(encode_ddf(model) + comment.encode())


def words(*arguments: str) -> list[list[str]]:
    found = run.invoke(app, ["models", *arguments])
    assert found.exit_code == 0, found.output
    return [line.split("\t") for line in found.stdout.splitlines()]


@pytest.mark.parametrize("command", ["", "import", "list", "export", "remove"])
def test_every_command_has_help(command: str) -> None:
    found = run.invoke(app, ["models", *command.split(), "--help"])
    assert found.exit_code == 0
    assert "Usage" in found.stdout


def test_an_import_says_of_each_file_what_came_of_it(scratch: Path) -> None:
    write(scratch / "in/a.xml", 30000)
    write(scratch / "in/b.xml", 30001, "1.1", "Pump")
    (scratch / "in/index.xml").write_bytes(b"<DDFList/>")
    (scratch / "in/notes.txt").write_bytes(b"")
    assert words("import", "in") == [
        ["imported", "in/a.xml: object 30000 1.0 Tank"],
        ["imported", "in/b.xml: object 30001 1.1 Pump"],
        [
            "skipped",
            "in/index.xml: line 1, column 0, DDFList: the outermost element of a definition is LWM2M, here it is "
            "DDFList, the index of a registry",
        ],
        ["2 imported, 0 replaced, 0 unchanged (models); 0 refused, 1 skipped, 1 others passed over (files)"],
    ]
    write(scratch / "in/b.xml", 30001, "1.1", "Pump", comment="<!-- -->")
    assert [each[0] for each in words("import", "in/a.xml", "in/b.xml")][:2] == ["unchanged", "replaced"]


def test_what_is_refused_ends_the_command_with_1_and_the_others_are_imported(scratch: Path) -> None:
    (scratch / "in/a.xml").write_bytes(b"<LWM2M><Object/></LWM2M>")
    write(scratch / "in/b.xml", 30001)
    found = run.invoke(app, ["models", "import", "in", "absent.xml"])
    assert found.exit_code == 1
    first, second, third, _ = found.stdout.splitlines()
    assert first == "refused\tin/a.xml: line 1, column 7, LWM2M/Object: ObjectType is '', a definition has MODefinition"
    assert second == "imported\tin/b.xml: object 30001 1.0 Tank"
    assert third == "refused\tabsent.xml: No such file or directory"
    assert [each[0] for each in words("list", "--object", "30001")] == ["30001"]


def test_a_file_that_is_named_and_defines_nothing_is_refused(scratch: Path) -> None:
    (scratch / "index.xml").write_bytes(b"<DDFList/>")
    found = run.invoke(app, ["models", "import", "index.xml"])
    assert found.exit_code == 1
    assert found.stdout.startswith("refused\tindex.xml: ")


def test_a_dry_run_changes_nothing(scratch: Path) -> None:
    write(scratch / "a.xml", 30000)
    lines = words("import", "--dry-run", "a.xml")
    assert lines[0] == ["imported", "a.xml: object 30000 1.0 Tank"]
    assert lines[-1][0].endswith("; a dry run, nothing was changed")
    assert words("list", "--object", "30000") == []


def test_models_are_listed_exported_and_removed(scratch: Path) -> None:
    write(scratch / "a.xml", 3, "1.1", "My device")
    write(scratch / "b.xml", 3, "1.10", "My newest")
    words("import", "a.xml", "b.xml")
    assert words("list", "--object", "3") == [
        ["3", "1.0", "built in", "Device"],
        ["3", "1.1", "imported", "My device", "a.xml"],
        ["3", "1.2", "built in", "Device"],
        ["3", "1.10", "imported", "My newest", "b.xml"],
    ]
    assert len(words("list")) == len(Library.builtin().models()) + 1

    def export(*arguments: str) -> bytes:
        found = run.invoke(app, ["models", "export", *arguments])
        assert found.exit_code == 0, found.output
        return found.stdout_bytes

    assert export("3") == (scratch / "b.xml").read_bytes()
    assert export("3", "1.1") == (scratch / "a.xml").read_bytes()
    (built_in,) = load_ddf(export("3", "1.2"))
    assert built_in == Library.builtin().get(3, "1.2")
    assert words("remove", "3", "1.1") == [["removed", "object 3 1.1 My device"]]
    assert words("list", "--object", "3")[1] == ["3", "1.1", "built in", "Device"]
    assert words("remove", "3") == [["removed", "object 3 1.10 My newest"]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["export", "3", "9.9"], "there is no model of object 3 version 9.9"),
        (["export", "39999"], "there is no model of object 39999"),
        (
            ["remove", "39999"],
            "no model of object 39999 was imported for all tenants; `stellwerk models list` names them",
        ),
        (["remove", "3"], "what is built in stays"),
        (["import", "--tenant", "nobody", "a.xml"], "there is no tenant 'nobody'"),
        (["list", "--tenant", "nobody"], "there is no tenant 'nobody'"),
    ],
)
def test_a_mistake_is_said(scratch: Path, arguments: list[str], text: str) -> None:
    write(scratch / "a.xml", 30000)
    found = run.invoke(app, ["models", *arguments])
    assert isinstance(found.exception, UserError)
    assert text in str(found.exception)


def test_a_store_that_cannot_write_is_said_in_a_line(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: SqliteStore, models: object, now_ms: int) -> None:
        raise StoreFailing("database or disk is full")

    monkeypatch.setattr(SqliteStore, "put_object_models", full)
    write(scratch / "a.xml", 30000)
    found = run.invoke(app, ["models", "import", "a.xml"])
    assert isinstance(found.exception, UserError)
    assert "disk is full" in str(found.exception)


def test_models_are_imported_beside_a_running_server(scratch: Path) -> None:
    write(scratch / "a.xml", 30000)
    lock = DirectoryLock.take(scratch / "data")
    try:
        assert words("import", "a.xml")[0][0] == "imported"
    finally:
        lock.release()
