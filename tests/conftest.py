"""What every test may use: the contracts' folder, and a watch over the words that are logged."""

import functools
import gc
import json
import logging
import os
import re
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
import typer.testing

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
# Servers that tests start shall not compile every module anew, whatever the caller's shell says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# An example that takes long on a busy machine is no finding. (Where ``CI`` is set, Hypothesis has this by itself.)
for name in ("thorough", "house"):
    hypothesis.settings.register_profile(name, hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("house")
# The thousands of tests and modules in memory are no garbage: looking through them again and again would be a sixth of
# the whole time.
gc.set_threshold(3_000, 10, 20)
# The commands are the same at every call of the command line: they are built once.
typer.testing._get_command = functools.cache(typer.testing._get_command)
READERS = tuple(ROOT / "tests" / "unit" / each for each in ("coap", "dtls", "lwm2m"))
EVENT_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of properties gets a third of the examples it asks for, 20 at least; all of them with
    ``--hypothesis-profile thorough``, and always where bytes of strangers are read: those are cheap, and not to be
    missed."""
    if hypothesis.settings.get_current_profile_name() == "thorough":
        return
    fewer_of = [item for item in items if not any(item.path.is_relative_to(each) for each in READERS)]
    for test in {getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None)) for item in fewer_of}:
        asked = getattr(test, "_hypothesis_internal_use_settings", None)
        if asked is not None and asked.max_examples > 20:
            fewer = hypothesis.settings(asked, max_examples=max(20, asked.max_examples // 3))
            test._hypothesis_internal_use_settings = fewer


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(
    report: pytest.CollectReport | pytest.TestReport,
) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Of a step that passed, a worker tells no more than that: every word of its log would go to the other process."""
    data = yield
    if data is not None and report.passed and isinstance(report, pytest.TestReport):
        data["keywords"] = {}
        data["sections"] = []
    return data


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of contracts and public data beside the project; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not beside the project")
    return SHARED


class LogWatch(logging.Handler):
    """Formats every log call as production would and remembers those that do not format.

    A structlog event is a name such as ``registration.expired`` with fields that JSON can carry; a call of the standard
    library's `logging` must fit its arguments to its text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.getMessage()
        except (TypeError, ValueError) as error:
            self.complaints.append(f"{record.pathname}:{record.lineno}: {record.msg!r} {record.args!r}: {error}")

    def __call__(self, logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        """A structlog processor: the last one, renders the line."""
        fields = dict(event)
        name = fields.pop("event", None)
        error_text = str(fields.pop("exception", ""))
        fields.pop("exc_info", None)
        if not isinstance(name, str) or not EVENT_NAME.fullmatch(name):
            self.complaints.append(
                f"{name!r} is no event name such as 'registration.expired' (fields: {sorted(fields)})"
            )
        try:
            line = json.dumps(fields)
        except (TypeError, ValueError) as error:
            self.complaints.append(f"{name!r}: {error}")
            line = repr(fields)
        return f"{method} {name} {line} {error_text}".rstrip()


@pytest.fixture(autouse=True)
def every_log_call_formats() -> Iterator[LogWatch]:
    """Fails a test whose log call does not format; what was logged is shown with a failing test."""
    watch = LogWatch()
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, watch],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.addHandler(watch)
    yield watch
    root.removeHandler(watch)
    structlog.configure(**before)
    if watch.complaints:
        pytest.fail("log calls that do not format:\n" + "\n".join(watch.complaints), pytrace=False)
