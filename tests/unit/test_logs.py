"""What leaves the process as log lines."""

import sys

import pytest
import structlog

from stellwerk.logs import configure_logs


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_in_the_log_shows_no_local_variables(form: str, capsys: pytest.CaptureFixture[str]):
    before = structlog.get_config()
    try:
        configure_logs("info", form)
        token = "-".join(["very", "secret"])
        try:
            assert sys.stderr is None, "fails with the token among the locals"
        except AssertionError as error:
            structlog.get_logger("test").exception("http.failed", error=repr(error), length=len(token))
    finally:
        structlog.configure(**before)
    logged = capsys.readouterr().err
    assert "Traceback" in logged
    assert "very-secret" not in logged
