"""How far bootstrap sessions have come, in lines of the journal."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.bootstrap_progress import Progress, encode_progress, progress_in
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.history import BootstrapState, StepRecord

STEP = StepRecord(1, "Bootstrap-Write", "/0/1", "mode 0, key ***", 204, detail="käse")
PROGRESS = Progress(3, STEP, STEP, BootstrapState.LOST, 5, "lost", "the peer closed the connection", 6)


def lines(*payloads: bytes) -> list[JournalEntry]:
    return [JournalEntry(Kind.LOG, DeviceId(1), 1, payload=each, reason="bootstrap-x") for each in payloads]


def test_what_is_written_is_read() -> None:
    short = Progress(4)
    assert progress_in(lines(encode_progress(PROGRESS), b"", encode_progress(short))) == [PROGRESS, short]


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4), st.binary(max_size=40))
def test_what_another_version_wrote_is_left_out(changes: list[tuple[int, int]], other: bytes) -> None:
    changed = bytearray(encode_progress(PROGRESS))
    for at, byte in changes:
        changed[at % len(changed)] = byte
    assert progress_in(lines(bytes(changed), other, encode_progress(PROGRESS)))[-1] == PROGRESS


def test_an_end_that_this_version_does_not_know_is_left_out() -> None:
    text = encode_progress(PROGRESS)
    assert progress_in(lines(text.replace(b"lost", b"lust"), text)) == [PROGRESS]


def test_text_that_is_none_is_left_out() -> None:
    text = encode_progress(PROGRESS)
    assert progress_in(lines(text.replace("ä".encode(), b"\xff\xff"), text)) == [PROGRESS]
