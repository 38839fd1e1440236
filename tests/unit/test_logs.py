"""What leaves the process as log lines."""

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from stellwerk.logs import LINES_AT_ONCE, LINES_PER_S, Sparing, configure_logs


@contextmanager
def configured(form: str) -> Iterator[None]:
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    # The test runner's own handlers are not ours to close.
    logging.root.handlers.clear()
    try:
        configure_logs("info", form)
        yield
    finally:
        structlog.configure(**before)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_in_the_log_shows_no_local_variables(form: str, capsys: pytest.CaptureFixture[str]):
    with configured(form):
        token = "-".join(["very", "secret"])
        try:
            assert sys.stderr is None, "fails with the token among the locals"
        except AssertionError as error:
            structlog.get_logger("test").exception("http.failed", error=repr(error), length=len(token))
    logged = capsys.readouterr().err
    assert "Traceback" in logged
    assert "very-secret" not in logged


def test_what_a_library_says_is_json_where_json_is_wanted(capsys: pytest.CaptureFixture[str]):
    with configured("json"):
        logging.getLogger("library").warning("it is %s", "late")
        logging.getLogger("library").info("chatter")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["logger"]) == ("it is late", "warning", "library")
    assert line["timestamp"].endswith("Z")


def test_what_a_library_says_is_a_line_for_people_on_a_console(capsys: pytest.CaptureFixture[str]):
    with configured("console"):
        logging.getLogger("library").warning("it is %s", "late")
    assert "it is late" in capsys.readouterr().err


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_full_disk_under_the_log_stops_nobody(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Full())
    with configured(form):
        structlog.get_logger("test").error("disk.full", room=0)


@pytest.mark.spec("LwM2M-contract 15")
def test_an_event_without_end_is_some_lines_and_a_number(capsys: pytest.CaptureFixture[str]):
    with configured("json"):
        log = structlog.get_logger("test")
        for _ in range(LINES_AT_ONCE * 3):
            log.info("register.refused", peer="udp://192.0.2.1:40000")
        log.info("registration.created")
    lines = [json.loads(each) for each in capsys.readouterr().err.splitlines()]
    refused = [each for each in lines if each["event"] == "register.refused"]
    # While they are written, time passes.
    assert LINES_AT_ONCE <= len(refused) < LINES_AT_ONCE * 2
    assert lines[-1]["event"] == "registration.created"


def test_the_next_line_says_how_many_are_missing():
    now = [0.0]
    sparing = Sparing(lambda: now[0])

    def written() -> int | None:
        """How many are missing before this line, None where it is itself left out."""
        try:
            return int(sparing(None, "info", {"event": "send.refused"}).get("left_out", 0))
        except structlog.DropEvent:
            return None

    assert [written() for _ in range(LINES_AT_ONCE + 7)] == [0] * LINES_AT_ONCE + [None] * 7
    now[0] = 1 / LINES_PER_S
    assert [written(), written()] == [7, None]
    now[0] = 1e6
    assert [written() for _ in range(LINES_AT_ONCE + 1)] == [1] + [0] * (LINES_AT_ONCE - 1) + [None]


def test_what_was_asked_for_is_written_to_the_last_line():
    sparing = Sparing(lambda: 0.0)
    for _ in range(LINES_AT_ONCE * 2):
        assert sparing(None, "debug", {"event": "datagram.refused"}) == {"event": "datagram.refused"}
