"""What devices keep of what they were given, in files."""

import json
import stat
from pathlib import Path

import pytest

from stellwerk.lwm2m.value import ObjectLink
from stellwerk.sim.bootstrap.memory import BadMemory, Memory, MemoryFolder, remember

from .bootstrap_bench import FINISH, BootstrapBench, account, write

KEY = bytes(range(16))


def memory() -> Memory:
    acl = write("/2/0", {"/2/0/0": 3, "/2/0/1": 0, "/2/0/2/123": 31, "/2/0/3": 65535})
    link = {"r17": ObjectLink(65535, 65535)}
    bench = BootstrapBench([*account(r3=b"me", r5=KEY, **link), acl, FINISH])
    return bench.start().memory()


def test_a_device_goes_on_from_its_file_with_all_that_it_had(tmp_path: Path):
    folder = MemoryFolder(tmp_path / "states")
    kept = memory()
    folder.store(kept)
    loaded = folder.load("dev-1")
    assert loaded == kept
    assert loaded is not None
    again = BootstrapBench().start(memory=loaded)
    assert again.tree.instances(0)[1][5] == KEY
    assert again.tree.instances(0)[1][17] == ObjectLink(65535, 65535)
    assert again.tree.instances(2)[0][2] == {123: 31}
    assert again.memory() == kept
    assert again.is_registered


def test_a_file_is_its_owners_alone_and_replaced_as_a_whole(tmp_path: Path):
    folder = MemoryFolder(tmp_path / "states")
    kept = memory()
    folder.store(kept)
    path = folder.path_of("dev-1")
    before = path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    folder.store(kept)
    assert path.stat().st_ino != before.st_ino
    assert [each.name for each in path.parent.iterdir()] == ["dev-1.json"]


def test_nothing_was_kept():
    assert BootstrapBench().start().is_registered


def test_there_is_no_file_yet(tmp_path: Path):
    assert MemoryFolder(tmp_path).load("dev-1") is None


@pytest.mark.parametrize("name", ["urn:dev:os:1", "../../etc/passwd", "x" * 300, "ü", ".hidden"])
def test_a_name_that_is_no_name_of_a_file_stays_in_the_folder(name: str, tmp_path: Path):
    folder = MemoryFolder(tmp_path)
    assert folder.path_of(name).parent == tmp_path
    folder.store({**memory(), "endpoint": name})
    assert folder.load(name) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"endpoint": "dev-2"}'])
def test_a_file_that_is_something_else_is_named(text: str, tmp_path: Path):
    folder = MemoryFolder(tmp_path)
    folder.path_of("dev-1").write_text(text)
    with pytest.raises(BadMemory, match=r"dev-1\.json: "):
        folder.load("dev-1")


@pytest.mark.parametrize(
    "objects",
    [
        {"0": {"x": {}}},
        {"0": {"0": {"0": {"hex": "zz"}}}},
        {"0": {"0": {"0": {"other": 1}}}},
        {"0": {"0": {"0": None}}},
        {"3": {"0": {"0": "x"}}},
        {"0": []},
    ],
)
def test_a_damaged_state_is_refused_without_a_word_of_what_is_in_it(objects: object):
    damaged = json.loads(json.dumps({"version": 1, "endpoint": "dev-1", "objects": objects}))
    with pytest.raises(BadMemory, match="it is damaged; delete it"):
        remember(damaged, "here")


def test_a_state_of_another_version_is_refused():
    with pytest.raises(BadMemory, match="no state of a simulated device"):
        remember({"version": 2, "objects": {}}, "here")


def test_a_folder_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadMemory, match="states cannot be kept there"):
        MemoryFolder(tmp_path / "file" / "below")
