"""Object 5 as a state machine: a package arrives, or is fetched, and is installed (Core 1.2.2 App. E.6; contract §11).

Nothing is fetched really: a download takes `DOWNLOAD_S`, an installation `INSTALL_S`. A package that begins with
``result=N``, or a package URI that ends so, comes to update result N, so that every result can be had on request.
"""

import re
from enum import IntEnum
from typing import Final

from stellwerk.coap import codes
from stellwerk.sim.tree import Denied

DOWNLOAD_S: Final = 3.0
INSTALL_S: Final = 3.0
PROTOCOLS: Final = {"coap": 0, "coaps": 1, "http": 2, "https": 3}
"""Schemes of package URIs, and their numbers in resource 8."""

_RESULT_WANTED: Final = re.compile(r"result=([2-9])")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^\s/]+")


class State(IntEnum):
    """Resource 3."""

    IDLE = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    UPDATING = 3


class Result(IntEnum):
    """Resource 5."""

    INITIAL = 0
    SUCCESS = 1
    NO_FLASH = 2
    NO_MEMORY = 3
    CONNECTION_LOST = 4
    INTEGRITY = 5
    PACKAGE_TYPE = 6
    INVALID_URI = 7
    UPDATE_FAILED = 8
    PROTOCOL = 9
    CANCELLED = 10


class Firmware:
    """Times are UTC seconds. Every method that a server reaches raises `Denied` 4.05 where the state forbids it."""

    __slots__ = ("_due", "_ends", "changed_at", "result", "state")

    def __init__(self) -> None:
        self.state = State.IDLE
        self.result = Result.INITIAL
        self.changed_at = 0.0
        self._due: float | None = None
        self._ends = Result.SUCCESS

    def require_writable(self) -> None:
        """Raises `Denied` while a package is installed."""
        if self.state is State.UPDATING:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the firmware is being updated")

    def take_package(self, package: bytes, utc_s: float) -> None:
        """A whole package was written; an empty one, or a single NUL, resets."""
        self.require_writable()
        if package in (b"", b"\0"):
            self._enter(State.IDLE, Result.INITIAL, utc_s)
            return
        self._begin(package[:16].decode("latin-1"), at_start=True)
        self._downloaded(utc_s)

    def take_uri(self, uri: str, utc_s: float) -> None:
        """A package URI was written; an empty one resets."""
        self.require_writable()
        if not uri:
            self._enter(State.IDLE, Result.INITIAL, utc_s)
            return
        scheme = _SCHEME.match(uri)
        if scheme is None:
            self._enter(State.IDLE, Result.INVALID_URI, utc_s)
        elif scheme[1].lower() not in PROTOCOLS:
            self._enter(State.IDLE, Result.PROTOCOL, utc_s)
        else:
            self._begin(uri[-8:], at_start=False)
            self._enter(State.DOWNLOADING, Result.INITIAL, utc_s, DOWNLOAD_S)

    def update(self, utc_s: float) -> None:
        """Execute resource 2."""
        if self.state is not State.DOWNLOADED:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"no package to install in state {self.state.value}")
        self._enter(State.UPDATING, Result.INITIAL, utc_s, INSTALL_S)

    def cancel(self, utc_s: float) -> None:
        """Execute resource 10."""
        if self.state not in (State.DOWNLOADING, State.DOWNLOADED):
            raise Denied(codes.METHOD_NOT_ALLOWED, f"nothing to cancel in state {self.state.value}")
        self._enter(State.IDLE, Result.CANCELLED, utc_s)

    def deadline(self) -> float | None:
        """When `advance` has something to do."""
        return self._due

    def advance(self, utc_s: float) -> bool:
        """What was under way is over. Whether new firmware runs now, which takes a restart."""
        if self._due is None or self._due > utc_s:
            return False
        if self.state is State.DOWNLOADING:
            self._downloaded(utc_s)
            return False
        if self._ends is Result.UPDATE_FAILED:
            self._enter(State.DOWNLOADED, Result.UPDATE_FAILED, utc_s)
            return False
        self._enter(State.IDLE, Result.SUCCESS, utc_s)
        return True

    def _begin(self, text: str, *, at_start: bool) -> None:
        wanted = _RESULT_WANTED.match(text) if at_start else _RESULT_WANTED.fullmatch(text)
        self._ends = Result(int(wanted[1])) if wanted else Result.SUCCESS

    def _downloaded(self, utc_s: float) -> None:
        if self._ends in (Result.SUCCESS, Result.UPDATE_FAILED):
            self._enter(State.DOWNLOADED, Result.INITIAL, utc_s)
        else:
            self._enter(State.IDLE, self._ends, utc_s)

    def _enter(self, state: State, result: Result, utc_s: float, lasts_s: float | None = None) -> None:
        self.state, self.result, self.changed_at = state, result, utc_s
        self._due = None if lasts_s is None else utc_s + lasts_s


def next_version(version: str) -> str:
    """The version that an update brings: ``1.0.0`` becomes ``1.1.0``."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"
