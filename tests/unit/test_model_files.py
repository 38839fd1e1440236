"""Finding DDF files: what is read, what is passed over, and that nothing that is handed in does harm."""

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk import model_files
from stellwerk.lwm2m.schema.ddf import MAX_OCTETS
from stellwerk.model_files import ModelFile, NotReadable, find_model_files


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def reason(file: ModelFile) -> str:
    with pytest.raises(NotReadable) as refused:
        file.read()
    return str(refused.value)


def found(*paths: Path) -> dict[str, bytes]:
    return {file.name: file.read() for file in find_model_files(paths)[0]}


def test_files_folders_and_archives_are_read(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "3.XML").write_bytes(b"three")
    (tmp_path / "in" / "deep" / "4.xml").write_bytes(b"four")
    (tmp_path / "in" / "readme.txt").write_bytes(b"text")
    (tmp_path / "in" / ".hidden.xml").write_bytes(b"no")
    (tmp_path / "any.ddf").write_bytes(b"named")
    archive = zipped(tmp_path / "a.zip", {"x/5.xml": b"five", "6.xml": b"six", "x.png": b"", "__MACOSX/._6.xml": b"no"})
    files, others = find_model_files([tmp_path / "in", tmp_path / "any.ddf", archive])
    assert [file.name for file in files] == [
        f"{tmp_path}/in/3.XML",
        f"{tmp_path}/in/deep/4.xml",
        f"{tmp_path}/any.ddf",
        f"{archive}:6.xml",
        f"{archive}:x/5.xml",
    ]
    assert [file.read() for file in files] == [b"three", b"four", b"named", b"six", b"five"]
    assert [file.named for file in files] == [False, False, True, False, False]
    assert others == 4


def test_what_lies_nearer_to_the_top_comes_first(tmp_path: Path) -> None:
    for name in ("a/old/3.xml", "3.xml", "z/3.xml", "a/4.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [Path(name).relative_to(tmp_path).as_posix() for name in found(tmp_path)] == [
        "3.xml",
        "z/3.xml",
        "a/4.xml",
        "a/old/3.xml",
    ]


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xml")
    absent, pipe = find_model_files([tmp_path / "absent.xml", tmp_path / "pipe.xml"])[0]
    assert reason(absent) == "No such file or directory"
    assert reason(pipe) == "neither a file nor a folder"
    (inside,) = find_model_files([tmp_path])[0]
    assert reason(inside) == "neither a file nor a folder"


def test_a_folder_or_archive_without_definitions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_bytes(b"")
    folder, archive = find_model_files([tmp_path / "in", zipped(tmp_path / "a.zip", {"notes.txt": b""})])[0]
    assert reason(folder) == "no XML file in it or below it"
    assert reason(archive) == "no XML file in it"


def test_a_folder_that_cannot_be_read_is_refused_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "3.xml").write_bytes(b"three")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    # Whoever runs the tests may be allowed to read everything.
    monkeypatch.setattr(os, "scandir", guarded)
    readable, closed = find_model_files([tmp_path])[0]
    assert readable.read() == b"three"
    assert (closed.name, reason(closed)) == (f"{tmp_path}/a", "Permission denied")


def test_a_file_longer_than_any_definition_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b" " * (MAX_OCTETS + 1))
    (tmp_path / "b.xml").write_bytes(b" " * MAX_OCTETS)
    long, longest = find_model_files([tmp_path])[0]
    assert reason(long) == f"more than {MAX_OCTETS} octets; no definition is that long"
    assert len(longest.read()) == MAX_OCTETS


def test_links_to_folders_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "3.xml").write_bytes(b"")
    assert list(found(tmp_path / "in")) == [f"{tmp_path}/in/3.xml"]


@pytest.mark.parametrize(
    "name", ["../3.xml", "a/../../3.xml", "/etc/3.xml", "a\\3.xml", "C:/3.xml", "..\\3.xml", "a/..", "//host/3.xml"]
)
def test_a_name_that_leads_out_of_its_archive_is_refused(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "a.zip", {name: b"<LWM2M/>", "ok.xml": b"fine"})
    files = {file.name: file for file in find_model_files([archive])[0]}
    assert files.pop(f"{archive}:ok.xml").read() == b"fine"
    ((_, trick),) = files.items()
    assert reason(trick) == "the name leads out of the archive"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_bomb_is_not_unpacked(tmp_path: Path, method: int) -> None:
    archive = zipped(tmp_path / "a.zip", {"bomb.xml": bytes(8 << 20)}, method)
    assert archive.stat().st_size < 20_000
    (bomb,) = find_model_files([archive])[0]
    expected = "octets; no definition" if method == zipfile.ZIP_DEFLATED else f"compressed by method {method}"
    assert expected in reason(bomb)


def test_an_archive_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("3.xml", b"x")
    (file,) = find_model_files([zipped(tmp_path / "a.zip", {"b.zip": inner.getvalue()})])[0]
    assert reason(file) == "an archive in an archive is not opened; import it by itself"


def test_links_and_secrets_in_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.xml")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("locked.xml", b"x")
    data = bytearray(path.read_bytes())
    # The flag of encryption in the directory's second entry.
    place = data.rindex(b"PK\x01\x02") + 8
    data[place : place + 2] = struct.pack("<H", 1)
    path.write_bytes(data)
    first, second = find_model_files([path])[0]
    assert reason(first) == "a link, not a file"
    assert reason(second).startswith("encrypted")


def test_too_many_files_are_refused_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "MAX_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.xml").write_bytes(b"")
    with pytest.raises(NotReadable, match="more than 3 files"):
        find_model_files([tmp_path])
    (archive,) = find_model_files([zipped(tmp_path / "a.zip", dict.fromkeys("abcd", b""))])[0]
    assert reason(archive) == "the archive has 4 entries, more than 3"


def test_an_archive_that_unpacks_to_too_much_is_refused_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "MAX_UNPACKED_OCTETS", 1000)
    (file,) = find_model_files([zipped(tmp_path / "a.zip", {"3.xml": bytes(600), "4.xml": bytes(600)})])[0]
    assert reason(file) == "the archive unpacks to 1200 octets, more than 1000"


def test_a_huge_archive_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "a.zip", {"3.xml": b""})
    monkeypatch.setattr(model_files, "MAX_ARCHIVE_OCTETS", 10)
    (file,) = find_model_files([archive])[0]
    assert "octets, more than 10" in reason(file)
    assert file.named


SAMPLE = io.BytesIO()
with zipfile.ZipFile(SAMPLE, "w", zipfile.ZIP_DEFLATED) as sample:
    sample.writestr("3.xml", b"<LWM2M/>" * 20)
    sample.writestr("d/4.xml", b"<LWM2M/>")


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), length=st.integers(0, 8), piece=st.binary(max_size=8))
def test_a_damaged_archive_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int, length: int, piece: bytes
) -> None:
    whole = SAMPLE.getvalue()
    cut %= len(whole)
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(whole[:cut] + piece + whole[cut + length :])
    for file in find_model_files([path])[0]:
        try:
            data = file.read()
        except NotReadable:
            continue
        assert len(data) <= MAX_OCTETS
