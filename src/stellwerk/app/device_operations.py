"""Operations on devices for programs: one call for each, its outcome as a value (docs/embedding.md).

``await operations.read("pump-1", "/3/0/0")`` posts a command and waits for its end. What a device or the network does
is never an exception: it is in the `Outcome`. The same call with `Call.post` gives a `Pending` as soon as the command
is stored, for devices that sleep. Commands of a program are rows like those of every face, in the same queue and under
the same rules; but no message of the Device to Cloud containers goes with them.
"""

import math
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias, Unpack

from stellwerk.app.command_request import CommandRequest, RefusedRequest, Verb
from stellwerk.app.posting import BadArgument, Call, Device, How, Pending, Posting
from stellwerk.app.reports import Report, Reports
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, Value

Writable: TypeAlias = "Value | datetime | Mapping[int | str, Writable] | Sequence[Writable]"
"""A value; a time as `datetime` with its offset; of an instance its resources by number, of a multiple resource its
instances by number, or a list of them."""

Attributes: TypeAlias = Mapping[str, int | float | bool | str | None]

_LONGEST_PATH: Final = 100
_LONGEST_LIST: Final = 4000
_DEEPEST: Final = 3
"""A list of resource instances, in a resource, in an instance."""


class DeviceOperations:
    """The operations of LwM2M on the devices of one tenant.

    Paths are texts (``/3/0/0``) or `Path`; every operation takes the keyword arguments of `How`. Making a call raises
    `BadArgument` or `BadProfile` for a number or value that can be none; everything else that cannot be sent - a path
    that the device does not have, a value of the wrong type - is an outcome that is `Step.REFUSED`. Posting it raises
    what `Call.post` says.
    """

    def __init__(self, posting: Posting, reports: Reports) -> None:
        self._posting = posting
        self._reports = reports

    # -- operations (contract D-1 to D-12) --

    def read(
        self,
        device: Device,
        path: str | Path,
        **how: Unpack[How],
    ) -> Call:
        """Read an object, instance, resource or resource instance (Core §6.3.1): `Outcome.values`."""
        return self._call(device, "read", path, {}, how)

    def discover(
        self,
        device: Device,
        path: str | Path,
        *,
        depth: int | None = None,
        **how: Unpack[How],
    ) -> Call:
        """What is there, with its attributes (Core §6.3.2): `Outcome.links`. ``depth``: 0 to 3, with LwM2M 1.2
        alone."""
        if depth is not None and (isinstance(depth, bool) or depth not in range(4)):
            raise BadArgument("depth", depth, "0, 1, 2 or 3")
        attributes = () if depth is None else (("depth", str(depth)),)
        return self._call(device, "discover", path, {"attributes": attributes}, how)

    def write(
        self,
        device: Device,
        path: str | Path,
        value: Writable,
        *,
        replace: bool | None = None,
        **how: Unpack[How],
    ) -> Call:
        """Write a resource, a resource instance or an instance (Core §6.3.3). ``replace``: whether what ``value`` does
        not name goes; None: of a resource it does, of an instance it stays."""
        given = {"value": _literal(value), "has_value": True, "from_text": False, "replace": replace}
        return self._call(device, "write", path, given, how)

    def write_attributes(
        self,
        device: Device,
        path: str | Path,
        attributes: Attributes,
        **how: Unpack[How],
    ) -> Call:
        """Set notification attributes, ``{"pmin": 10, "pmax": 60}``; None unsets one (Core §6.3.4, contract §7)."""
        given = {"attributes": _pairs(attributes)}
        return self._call(device, "write-attributes", path, given, how)

    def execute(
        self,
        device: Device,
        path: str | Path,
        arguments: str = "",
        **how: Unpack[How],
    ) -> Call:
        """Execute a resource; ``arguments`` as LwM2M writes them, ``5`` or ``0='x',1`` (Core §6.3.5, contract D-8).
        What was sent and not answered when a server ends is never sent again: it is `Step.OUTCOME_UNKNOWN`."""
        return self._call(device, "execute", path, {"arguments": arguments}, how)

    def create(
        self,
        device: Device,
        path: str | Path,
        values: "Mapping[int | str, Writable] | None" = None,
        **how: Unpack[How],
    ) -> Call:
        """Make an instance: ``path`` names it, or its object, and then the device chooses its number
        (`Outcome.created`). ``values``: of its resources by number (Core §6.3.6). Repeated as little as an Execute."""
        given: dict[str, Any] = {"from_text": False}
        if values is not None:
            given |= {"value": _literal(values), "has_value": True}
        return self._call(device, "create", path, given, how)

    def delete(
        self,
        device: Device,
        path: str | Path,
        **how: Unpack[How],
    ) -> Call:
        """Delete an instance, or with LwM2M 1.2 a resource instance (Core §6.3.7). Repeated as little as an Execute."""
        return self._call(device, "delete", path, {}, how)

    def observe(
        self,
        device: Device,
        path: str | Path,
        attributes: Attributes | None = None,
        **how: Unpack[How],
    ) -> Call:
        """Observe a path from now on: `Outcome.values` has what it says now, and its notifications are reports. It
        holds, over restarts and registrations, until it is cancelled (Core §6.4.1)."""
        given = {"attributes": _pairs(attributes or {})}
        return self._call(device, "observe", path, given, how)

    def cancel_observation(
        self,
        device: Device,
        path: str | Path,
        *,
        passive: bool = False,
        **how: Unpack[How],
    ) -> Call:
        """Observe a path no longer (Core §6.4.3). ``passive``: without telling the device, whose next notification is
        reset."""
        given = {"attributes": _passive(passive)}
        return self._call(device, "unobserve", path, given, how)

    def read_composite(
        self,
        device: Device,
        paths: Iterable[str | Path],
        **how: Unpack[How],
    ) -> Call:
        """Read several paths at once (Core §6.3.8): `Outcome.values`, and `Outcome.missing` for what the device left
        out. Of a device that has no composites each is read by itself."""
        return self._call(device, "read-composite", paths, {}, how)

    def write_composite(
        self,
        device: Device,
        values: "Mapping[str | Path, Writable | None]",
        **how: Unpack[How],
    ) -> Call:
        """Write values by path, all or none (Core §6.3.9); None takes a resource instance away, with LwM2M 1.2."""
        value = {_text(path): None if each is None else _literal(each) for path, each in values.items()}
        given = {"value": value, "has_value": True, "from_text": False}
        return self._call(device, "write-composite", values, given, how)

    def observe_composite(
        self,
        device: Device,
        paths: Iterable[str | Path],
        attributes: Attributes | None = None,
        **how: Unpack[How],
    ) -> Call:
        """Observe several paths with one relation (Core §6.4.4), else as `observe`."""
        given = {"attributes": _pairs(attributes or {})}
        return self._call(device, "observe-composite", paths, given, how)

    def cancel_composite(
        self,
        device: Device,
        paths: Iterable[str | Path],
        *,
        passive: bool = False,
        **how: Unpack[How],
    ) -> Call:
        """Cancel what `observe_composite` began with the same paths, in any order (Core §6.4.5)."""
        given = {"attributes": _passive(passive)}
        return self._call(device, "unobserve-composite", paths, given, how)

    # -- for whoever has a request, or a reference --

    def ask(
        self,
        device: Device,
        request: CommandRequest | RefusedRequest,
        **how: Unpack[How],
    ) -> Call:
        """An operation that a face has parsed already."""
        return Call(self._posting, device, request, **how)

    async def pending(self, ref: str) -> Pending:
        """The command that was posted under ``ref``, in this run or before. Of one that ended before the server was
        started the outcome has no values; those are among the device's. Raises `UnknownCommand`."""
        return await self._posting.pending(ref)

    async def reports(self, device: Device, after: int = 0) -> AsyncGenerator[Report]:
        """What the device tells - registrations, notifications, Sends - as `Reports.follow` has it, for ``async for``.
        Raises `UnknownDevice`."""
        found = await self._posting.device(device)
        async with aclosing(self._reports.follow(found.device_id, after)) as reports:
            async for report in reports:
                yield report

    def close(self) -> None:
        """The server ends: whoever waits for a command gets `ServerStopped`; the commands stay as they are stored."""
        self._posting.close()

    # -- inside --

    def _call(
        self,
        device: Device,
        verb: Verb,
        where: str | Path | Iterable[str | Path],
        given: dict[str, Any],
        how: How,
    ) -> Call:
        content: dict[str, Any] = {"method": verb.upper()}
        if isinstance(where, str | Path):
            request = CommandRequest(verb, _text(where), None, **given)
            content["path"] = request.path
        else:
            paths = tuple(map(_text, where))
            if verb != "write-composite":
                given["paths"] = paths
                content["paths"] = list(paths)
            request = CommandRequest(verb, ",".join(paths)[:_LONGEST_LIST], None, **given)
        if request.has_value:
            content["value"] = request.value
        if request.arguments:
            content["args"] = request.arguments
        if request.attributes:
            content["attributes"] = dict(request.attributes)
        return Call(self._posting, device, replace(request, content=content), **how)


def _text(path: str | Path) -> str:
    """A path as it is stored where it is refused: bounded, and Unicode."""
    return str(path)[:_LONGEST_PATH].encode("utf-8", "replace").decode()


def _passive(passive: bool) -> tuple[tuple[str, str | None], ...]:
    return (("passive", None),) if passive else ()


def _pairs(attributes: Attributes) -> tuple[tuple[str, str | None], ...]:
    """Attributes as a query has them."""
    return tuple((name, _number_text(value)) for name, value in attributes.items())


def _number_text(value: int | float | bool | str | None) -> str | None:
    if value is None:
        return None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _literal(value: Writable, deep: int = 0) -> Any:
    """A value as JSON spells it for `lwm2m.schema.values`. Raises `BadArgument` for what is no value."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, ObjectLink):
        return value._asdict()
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadArgument("value", value, "a datetime with its offset from UTC")
        return math.floor(value.timestamp())
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping) and deep < _DEEPEST:
        return {str(key): _literal(each, deep + 1) for key, each in value.items()}
    if isinstance(value, Sequence) and deep < _DEEPEST:
        return [_literal(each, deep + 1) for each in value]
    raise BadArgument("value", value, "str, int, float, bool, bytes, ObjectLink, datetime, or these by number")
