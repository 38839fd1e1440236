"""How log lines leave the process: an event name with fields, for people (console) or machines (JSON)."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

LINES_AT_ONCE: Final = 500
"""So many lines of one event may come together."""
LINES_PER_S: Final = 20
"""And so many a second for as long as they like."""


class Sparing:
    """A processor that leaves lines out where one event comes without end: whoever may send us a datagram shall not
    fill the disk under the log. The next line that is written says how many are missing, as ``left_out``. What is
    logged at ``debug`` somebody asked for, and is written."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        # Event names are literals of the code, so there are only so many.
        self._room: dict[str, tuple[float, float, int]] = {}
        """By event: lines that there is room for, at which time, and how many were left out since the last."""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if method == "debug":
            return event
        name, now = event["event"], self._clock()
        room, since, left_out = self._room.get(name, (float(LINES_AT_ONCE), now, 0))
        room = min(float(LINES_AT_ONCE), room + (now - since) * LINES_PER_S)
        if room < 1:
            self._room[name] = (room, now, left_out + 1)
            raise structlog.DropEvent
        self._room[name] = (room - 1, now, 0)
        if left_out:
            event["left_out"] = left_out
        return event


class _Patient:
    """A text file whose lines are lost where they cannot be written: a full disk under the log must not keep a device
    from its answer."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._file.flush()


def configure_logs(level: str, form: str) -> None:
    """``level``: debug, info, warning or error; ``form``: ``console`` or ``json``. Lines go to standard error."""
    number = getattr(logging, level.upper())
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        # The formatter that comes with Rich prints local variables, and those hold tokens and payloads.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if form == "json" else structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[Sparing(), *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_Patient(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # What libraries say is a line of the same form: a reader of JSON must not stumble over it.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
