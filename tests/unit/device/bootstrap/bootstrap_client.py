"""A client by hand for bootstrap conversations: what it answers to each operation is said by the test."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from stellwerk.device.bootstrap.conversation import About, Outcome, converse
from stellwerk.lwm2m.bootstrap import (
    BootstrapDelete,
    BootstrapDiscover,
    BootstrapFinish,
    BootstrapOperation,
    BootstrapRead,
    BootstrapWrite,
)

DISCOVERED = b'</>;lwm2m=1.1,</0/0>,</0/1>;ssid=123;uri="coaps://old",</1/0>;ssid=123,</3/0>'


@dataclass(frozen=True)
class Said:
    """An answer, with the fields that `app.device_ports.DeviceAnswer` has."""

    status: int = 0
    payload: bytes = b""
    content_format: int = -1
    failure: str = ""
    detail: str = ""
    acknowledged: bool = False


SILENT = Said(failure="timeout", detail="no acknowledgement")
Reply: TypeAlias = Callable[[BootstrapOperation, int], Said]
"""The answer to an operation, which is the n-th of its kind (from 0)."""


def agrees(operation: BootstrapOperation, _: int = 0) -> Said:
    """What a client that takes everything says."""
    match operation:
        case BootstrapDiscover():
            return Said(205, DISCOVERED, 40)
        case BootstrapRead():
            return Said(205, b"\x08\x00\x03\xc1\x00\x7b", 11542)
        case BootstrapDelete():
            return Said(202)
        case BootstrapWrite() | BootstrapFinish():
            return Said(204)


def play(about: About, reply: Reply = agrees) -> tuple[Outcome, list[BootstrapOperation]]:
    """The whole conversation: how it ended and what was asked."""
    asked: list[BootstrapOperation] = []
    counts: dict[type, int] = {}
    talk = converse(about)
    try:
        operation = next(talk)
        while True:
            asked.append(operation)
            count = counts.get(type(operation), 0)
            counts[type(operation)] = count + 1
            operation = talk.send(reply(operation, count))
    except StopIteration as end:
        return end.value, asked
