"""How a device treats one request of its server: what befalls it, what is answered, and when."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from stellwerk.coap import codes
from stellwerk.coap.actions import Action, Drop, RejectRequest, Respond
from stellwerk.coap.events import RequestReceived
from stellwerk.coap.options import OBSERVE, encode_uint
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path
from stellwerk.sim.access import Access, Answer, observe_of, path_of
from stellwerk.sim.faults import Fault, FaultKind, Faults
from stellwerk.sim.reactions import Reaction
from stellwerk.sim.reporting import Reporting
from stellwerk.sim.tree import Denied


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
    """Requests of one device's server, with the faults that befall them, and the answers that are late."""

    __slots__ = ("_access", "_faults", "_handles", "_late", "_reporting")

    def __init__(self, access: Access, reporting: Reporting, faults: Faults | None, handles: Iterator[int]) -> None:
        self._access = access
        self._reporting = reporting
        self._faults = faults
        self._handles = handles
        self._late: list[tuple[float, int, Action]] = []

    def serve(self, request: RequestReceived, now: float, utc_s: float) -> Service:
        """Treat ``request``."""
        fault = self._strike(request)
        if fault is not None and not fault.has_effect:
            return _misdo(fault, request)
        answer = self._access.answer(request, utc_s)
        options: tuple[tuple[int, bytes], ...] = ()
        observe = observe_of(request)
        if observe == 0 and answer.code == codes.CONTENT and answer.content_format != ContentFormat.LINK_FORMAT:
            if fault is None or fault.kind is not FaultKind.PLAIN_OBSERVE:
                self._observe(request, now, utc_s)
                options = ((OBSERVE, encode_uint(1)),)
        elif observe == 1:
            self._reporting.cancel(request.token)
        if fault is not None and self._faults is not None:
            self._twist(self._faults, fault, request, answer, utc_s)
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

    def _observe(self, request: RequestReceived, now: float, utc_s: float) -> None:
        path = path_of(request)
        content, _, _ = self._access.read(path, request.accept, utc_s)
        own = self._access.own_attributes(path, request.query)
        self._reporting.observe(path, request.token, request.accept, next(self._handles), content, now, own)

    def _strike(self, request: RequestReceived) -> Fault | None:
        if self._faults is None:
            return None
        try:
            path: Path | None = path_of(request)
        except Denied:
            path = None
        return self._faults.strike(path, request.token, observe_of(request) == 0)

    def _twist(self, faults: Faults, fault: Fault, request: RequestReceived, answer: Answer, utc_s: float) -> None:
        if not answer.payload:
            return
        if fault.kind is FaultKind.GARBAGE:
            answer.payload = faults.garble(answer.payload)
        elif fault.kind is FaultKind.FORMAT and fault.content_format is not None:
            answer.content_format = fault.content_format
        elif fault.kind is FaultKind.FORMAT:
            try:
                path = path_of(request)
                answer.content_format, answer.payload = self._access.read_otherwise(path, answer.content_format, utc_s)
            except Denied:
                answer.content_format = ContentFormat.TEXT


def _misdo(fault: Fault, request: RequestReceived) -> Service:
    if fault.kind is FaultKind.REFUSE:
        code = fault.code or codes.INTERNAL_SERVER_ERROR
        return Service(Respond(request.exchange, code), code, "a fault that was asked for")
    if fault.kind is FaultKind.RESET:
        return Service(RejectRequest(request.exchange))
    return Service(Drop(request.exchange), befalls=fault if fault.kind is FaultKind.REBOOT else None)
