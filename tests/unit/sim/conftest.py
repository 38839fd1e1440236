"""A bench for simulated devices: a bare CoAP engine plays the server, everything runs in memory."""

from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import AcceptNotification, RejectToken, Respond, SendRequest
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import (
    NotificationReceived,
    RequestFailed,
    RequestReceived,
    ResponseReceived,
    TokenQuestion,
)
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.sim.device import Device
from stellwerk.sim.happenings import Happening
from stellwerk.sim.network import MemoryNetwork
from stellwerk.sim.objects import device_types
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Leave, Poke, Population, Start, Stop

SERVER = ("10.0.0.1", 5683)
OTHER_SERVER = ("10.0.0.9", 5683)
DEVICE = ("10.0.0.2", 40_000)


class SeededEntropy:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def take(self, count: int) -> bytes:
        return self._random.randbytes(count)


class Bench:
    """One device, and a server that accepts everything unless ``decide`` says otherwise. ``beside`` another bench it is
    a second server of the same device."""

    def __init__(self, beside: "Bench | None" = None, **network: Any) -> None:
        self.network = MemoryNetwork(**network) if beside is None else beside.network
        self.address = SERVER if beside is None else OTHER_SERVER
        self.requests: list[RequestReceived] = []
        self.responses: dict[int, ResponseReceived] = {}
        self.failures: dict[int, RequestFailed] = {}
        self.notifications: list[NotificationReceived] = []
        self.happenings: list[Happening] = []
        self.times: list[float] = []
        self.decide: Callable[[RequestReceived], Respond | None] = lambda request: None
        self.wanted = True
        self.device_address = DEVICE
        self._handles = count(1)
        self._locations = count(1)
        self._server = Endpoint(SeededEntropy(1))
        self.server = self.network.attach(self.address, self._server, self._serve)
        if beside is None:
            self.population = Population(Endpoint(SeededEntropy(2)))
            self.devices = self.network.attach(DEVICE, self.population, self._note)

    def start(self, **options: Any) -> Device:
        options.setdefault("endpoint_name", "dev-1")
        device = Device(
            DeviceOptions(**options),
            PeerId("udp", *SERVER, *DEVICE),
            utc_offset_s=self.network.instant().wall_ms / 1000 - self.network.now,
            handles=count(1),
            others=tuple(PeerId("udp", *OTHER_SERVER, *DEVICE) for _ in options.get("other_server_uris", ())),
        )
        self.devices.submit(Start(device))
        self.network.run_for(0.5)
        return device

    def stop(self, device: Device) -> None:
        self.devices.submit(Stop(device))
        self.network.run_for(0.5)

    def vanish(self, device: Device) -> None:
        self.devices.submit(Leave(device))

    def ask(self, code: int, path: str, wait_s: float = 0.5, **request: Any) -> ResponseReceived | None:
        handle = next(self._handles)
        token = request.pop("token", handle.to_bytes(8, "big"))
        segments = tuple(each for each in path.split("/") if each)
        peer = PeerId("udp", *self.device_address, *self.address)
        self.server.submit(SendRequest(handle, peer, code, token, segments, **request))
        self.network.run_until(lambda: handle in self.responses or handle in self.failures, wait_s)
        return self.responses.get(handle)

    def links(self, path: str, **request: Any) -> list[str]:
        """The links of a Discover."""
        answer = self.ask(codes.GET, path, accept=40, **request)
        assert answer is not None
        return answer.payload.decode().split(",")

    def poke(self, device: Device, act: Callable[[Device, float], None]) -> None:
        """``act`` on the device from inside."""
        self.devices.submit(Poke(device, act))
        self.network.run_for(0.5)

    def read(self, path: str, accept: int | None = 112) -> Content:
        answer = self.ask(codes.GET, path, accept=accept)
        assert answer is not None
        assert answer.code == codes.CONTENT, codes.dotted(answer.code)
        return decode_content(answer.content_format, answer.payload, Path.parse(path), device_types())

    def value(self, path: str) -> object:
        return self.read(path).entries[0].value

    def code(self, code: int, path: str, **request: Any) -> str:
        answer = self.ask(code, path, **request)
        assert answer is not None, f"no answer to {path}"
        return codes.dotted(answer.code)

    def notified(self, index: int = -1) -> Content:
        event = self.notifications[index]
        return decode_content(event.content_format, event.payload, Path(), device_types())

    def asked(self, code: int, first_segment: str) -> list[RequestReceived]:
        return [each for each in self.requests if each.code == code and each.path[:1] == (first_segment,)]

    def _serve(self, events: list[Any], instant: Instant) -> None:
        for event in events:
            if isinstance(event, RequestReceived):
                self.requests.append(event)
                self.times.append(instant.now)
                self._server.submit(self.decide(event) or self._accept(event), instant.now)
            elif isinstance(event, ResponseReceived):
                self.responses[event.handle] = event
            elif isinstance(event, RequestFailed):
                self.failures[event.handle] = event
            elif isinstance(event, NotificationReceived):
                self.notifications.append(event)
                if self.wanted:
                    self._server.submit(AcceptNotification(event.exchange), instant.now)
            elif isinstance(event, TokenQuestion):
                self._server.submit(RejectToken(event.exchange), instant.now)

    def _accept(self, request: RequestReceived) -> Respond:
        if request.path == ("rd",):
            return Respond(request.exchange, codes.CREATED, ("rd", f"r{next(self._locations)}"))
        return Respond(request.exchange, codes.DELETED if request.code == codes.DELETE else codes.CHANGED)

    def _note(self, events: list[Any], instant: Instant) -> None:
        self.happenings.extend(events)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def bench_on() -> type[Bench]:
    """For a bench on a network of one's own choice."""
    return Bench
