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

from stellwerk.logs import configure_logs


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
