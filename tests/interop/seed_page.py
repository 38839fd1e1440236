"""The page that describes the API, read as its author printed it: requests and samples in their order, nothing copied.

The page is text out of a browser: headings, tables and code run into each other, and JSON ends where it ends.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "shared" / "spec" / "sources" / "004_ce6ad190abf339b7.txt"

_REQUEST = re.compile(r"(GET|POST|PUT|DELETE) \{\{API_URL\}\}(\S+)(?: HTTP/\d)?")
_HEADER = re.compile(r"([A-Za-z0-9-]+): (.+)")
_QUOTED = re.compile("‘(.+?)’")


@dataclass(frozen=True, slots=True)
class Printed:
    """A request, ``{{...}}`` and ``<...>`` still in it; ``samples`` are the answers printed below it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    line: int
    samples: "tuple[Sample, ...]"


@dataclass(frozen=True, slots=True)
class Sample:
    """``command``: the outgoing message that the text above names, if any."""

    content: dict[str, Any]
    line: int
    command: str | None


def read_page() -> list[Printed]:
    """Every request of the page."""
    found: list[Printed] = []
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for start, end in _spans(lines):
        match = _REQUEST.fullmatch(lines[start].strip())
        assert match is not None
        at, headers = start + 1, {}
        while at < end and (header := _HEADER.fullmatch(lines[at].strip())):
            headers[header[1]] = header[2]
            at += 1
        objects = list(_objects(lines, at, end))
        body = objects.pop(0).content if match[1] == "POST" else None
        found.append(Printed(match[1], match[2], headers, body, start + 1, tuple(objects)))
    return found


def _spans(lines: list[str]) -> Iterator[tuple[int, int]]:
    starts = [number for number, line in enumerate(lines) if _REQUEST.fullmatch(line.strip())]
    yield from zip(starts, [*starts[1:], len(lines)], strict=True)


def _objects(lines: list[str], at: int, end: int) -> Iterator[Sample]:
    command = None
    while at < end:
        if lines[at].strip() == "{":
            content, length = json.JSONDecoder().raw_decode("\n".join(lines[at:end]).lstrip())
            yield Sample(content, at + 1, command)
            command = None
            at += "\n".join(lines[at:end]).lstrip()[:length].count("\n") + 1
        else:
            if quoted := _QUOTED.search(lines[at]):
                command = quoted[1]
            at += 1
