"""How a device treats one request of its server: what befalls it, what is answered, and when."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.actions import Action, Drop, RejectRequest, Respond
from stellwerk.coap.events import RequestReceived
from stellwerk.coap.options import OBSERVE, encode_uint
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path
from stellwerk.sim.access import Access, Answer, observe_of, path_of
from stellwerk.sim.faults import Fault, FaultKind, Faults
from stellwerk.sim.options import Composites
from stellwerk.sim.reactions import Reaction
from stellwerk.sim.tree import Denied

_FORGOTTEN_AFTER_S: Final = 247.0
"""EXCHANGE_LIFETIME: a request without an answer is not repeated any more, and its number is free again."""

_COMPOSITE: Final = (codes.FETCH, codes.IPATCH)
_REFUSALS: Final = {
    Composites.METHOD_NOT_ALLOWED: codes.METHOD_NOT_ALLOWED,
    Composites.NOT_IMPLEMENTED: codes.NOT_IMPLEMENTED,
}


@dataclass(slots=True)
class Service:
    """What comes of a request. ``action``: for the engine now, if anything; ``code`` and ``why``: the answer, None
    where there is none; ``befalls``: what happens to the device itself afterwards."""

    action: Action | None = None
    code: int | None = None
    why: str = ""
    reaction: Reaction = field(default_factory=Reaction)
    befalls: Fault | None = None


class Serving:
    """Requests of one server, with the faults that befall them, and the answers that are late."""

    __slots__ = ("_composites", "_faults", "_handles", "_late")

    def __init__(self, composites: Composites, faults: Faults | None, handles: Iterator[int]) -> None:
        self._composites = composites
        self._faults = faults
        self._handles = handles
        self._late: list[tuple[float, int, Action]] = []

    def serve(
        self, request: RequestReceived, access: Access, segments: tuple[str, ...], now: float, utc_s: float
    ) -> Service:
        """Treat ``request`` for the path ``segments`` of the tree behind ``access``."""
        fault = self._strike(request, segments)
        if fault is not None and not fault.has_effect:
            return _misdo(fault, request)
        if request.code in _COMPOSITE and self._composites is not Composites.ON:
            return self._without_composites(request, now)
        answer = access.answer(request, segments, utc_s)
        options: tuple[tuple[int, bytes], ...] = ()
        observe = observe_of(request)
        if observe == 0 and answer.code == codes.CONTENT and answer.content_format != ContentFormat.LINK_FORMAT:
            if fault is None or fault.kind is not FaultKind.PLAIN_OBSERVE:
                self._observe(request, access, segments, now, utc_s)
                options = ((OBSERVE, encode_uint(1)),)
        elif observe == 1:
            access.reporting.cancel(request.token)
        if fault is not None and self._faults is not None:
            _twist(self._faults, fault, access, segments, answer, utc_s)
        response = Respond(
            request.exchange, answer.code, answer.location, answer.content_format, options, answer.payload
        )
        service = Service(response, answer.code, answer.why, answer.reaction or Reaction())
        if fault is not None and fault.kind is FaultKind.LATE:
            heappush(self._late, (now + (fault.seconds or 0.0), next(self._handles), response))
            service.action = None
        elif fault is not None and fault.kind is FaultKind.MOVE:
            service.befalls = fault
        return service

    def deadline(self) -> float | None:
        """When `take_due` has something."""
        return self._late[0][0] if self._late else None

    def take_due(self, now: float) -> list[Action]:
        """The late answers whose time has come."""
        due = []
        while self._late and self._late[0][0] <= now:
            due.append(heappop(self._late)[2])
        return due

    def abandon(self) -> None:
        """The device restarts: what it had not said yet is never said."""
        self._late.clear()

    def _without_composites(self, request: RequestReceived, now: float) -> Service:
        code = _REFUSALS.get(self._composites)
        if code is not None:
            return Service(Respond(request.exchange, code), code, "composites are switched off")
        # The engine acknowledges by itself what waits for its answer.
        heappush(self._late, (now + _FORGOTTEN_AFTER_S, next(self._handles), Drop(request.exchange)))
        return Service()

    def _observe(
        self, request: RequestReceived, access: Access, segments: tuple[str, ...], now: float, utc_s: float
    ) -> None:
        handle = next(self._handles)
        if request.code == codes.FETCH:
            paths = access.bodies.decode_paths(request)
            accept = access.bodies.choose_for_several(request.content_format, request.accept)
            content, own = access.content_of_several(paths, utc_s), access.own_attributes_of_several(request.query)
            access.reporting.observe_composite(paths, request.token, accept, handle, content, now, own)
            return
        path = path_of(segments)
        content, own = access.content_of(path, utc_s), access.own_attributes(path, request.query)
        access.reporting.observe(path, request.token, request.accept, handle, content, now, own)

    def _strike(self, request: RequestReceived, segments: tuple[str, ...]) -> Fault | None:
        if self._faults is None:
            return None
        try:
            path: Path | None = path_of(segments)
        except Denied:
            path = None
        return self._faults.strike(path, request.token, observe_of(request) == 0)


def _twist(
    faults: Faults, fault: Fault, access: Access, segments: tuple[str, ...], answer: Answer, utc_s: float
) -> None:
    if not answer.payload:
        return
    if fault.kind is FaultKind.GARBAGE:
        answer.payload = faults.garble(answer.payload)
    elif fault.kind is FaultKind.FORMAT and fault.content_format is not None:
        answer.content_format = fault.content_format
    elif fault.kind is FaultKind.FORMAT:
        try:
            path = path_of(segments)
            answer.content_format, answer.payload = access.read_otherwise(path, answer.content_format, utc_s)
        except Denied:
            answer.content_format = ContentFormat.TEXT


def _misdo(fault: Fault, request: RequestReceived) -> Service:
    if fault.kind is FaultKind.REFUSE:
        code = fault.code or codes.INTERNAL_SERVER_ERROR
        return Service(Respond(request.exchange, code), code, "a fault that was asked for")
    if fault.kind is FaultKind.RESET:
        return Service(RejectRequest(request.exchange))
    return Service(Drop(request.exchange), befalls=fault if fault.kind is FaultKind.REBOOT else None)
