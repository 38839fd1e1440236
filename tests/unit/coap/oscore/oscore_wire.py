"""A device and a server that speak OSCORE, with a network or a stream between them and time as an argument."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.engine import ExchangeEngine
from stellwerk.coap.message import CON, Message, decode_message, encode_message
from stellwerk.coap.options import ECHO, OBSERVE, OSCORE, URI_PATH
from stellwerk.coap.oscore.context import Keys
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.oscore.option import OscoreOption, decode_option, encode_option
from stellwerk.coap.oscore.protection import bind, open_response, seal_request
from stellwerk.coap.tcp.connection import Role
from stellwerk.coap.tcp.endpoint import AdoptConnection, StreamEndpoint
from stellwerk.core.ids import PeerId, context_peer

DEVICE_UDP = PeerId("udp", "192.0.2.9", 40_000, "192.0.2.1", 5683)
MOVED = PeerId("udp", "192.0.2.9", 40_001, "192.0.2.1", 5683)
SERVER_UDP = PeerId("udp", "192.0.2.1", 5683, "192.0.2.9", 40_000)
DEVICE_TCP = PeerId("tcp", "192.0.2.9", 40_000, "192.0.2.1", 5683)
SERVER_TCP = PeerId("tcp", "192.0.2.1", 5683, "192.0.2.9", 40_000)
SECRET, SALT = b"sixteen secret b", b"salt"
NUMBER = 7
"""Of the context at the server; the device calls it 1."""


class SeededEntropy:
    """Bytes that are the same in every run."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def take(self, count: int) -> bytes:
        return self._random.randbytes(count)


def server_material(unused: int = 0, ceiling: int = 256, **more: Any) -> ContextMaterial:
    return ContextMaterial(NUMBER, b"srv", b"dev1", SECRET, SALT, unused=unused, ceiling=ceiling, **more)


def device_material(unused: int = 0, ceiling: int = 256, **more: Any) -> ContextMaterial:
    return ContextMaterial(1, b"dev1", b"srv", SECRET, SALT, unused=unused, ceiling=ceiling, **more)


class End:
    """One engine, and what its application does: answers every request and question."""

    def __init__(self, engine: ExchangeEngine, material: ContextMaterial | None) -> None:
        self.engine = engine
        self.material = material
        """What questions about contexts are answered with."""
        self.ceiling = material.ceiling if material is not None else 0
        """What is stored."""
        self.events: list[events.Event] = []
        self.on_request: Callable[[events.RequestReceived], list[Any]] = lambda event: [
            actions.Respond(event.exchange, codes.CONTENT, payload=b"/".join(each.encode() for each in event.path))
        ]
        self.answers_questions = True
        self.known_tokens: dict[bytes, actions.AdoptObservation] = {}

    def handle(self, event: events.Event, now: float) -> None:
        if not isinstance(event, events.PeerReacted):
            self.events.append(event)
        wishes: list[Any] = []
        if isinstance(event, events.ContextQuestion) and self.answers_questions:
            if self.material is not None and self.material.recipient_id == event.kid:
                wishes.append(actions.GiveContext(event.question, self.material))
            else:
                wishes.append(actions.NoContext(event.question))
        elif isinstance(event, events.ContextState):
            self.ceiling = event.ceiling
            wishes.append(actions.ContextStored(event.number, event.ceiling))
        elif isinstance(event, events.RequestReceived):
            wishes += self.on_request(event)
        elif isinstance(event, events.RequestQuestion):
            wishes.append(actions.Proceed(event.exchange))
        elif isinstance(event, events.NotificationReceived):
            wishes.append(actions.AcceptNotification(event.exchange))
        elif isinstance(event, events.TokenQuestion):
            wishes.append(self.known_tokens.get(event.token) or actions.RejectToken(event.exchange))
        for wish in wishes:
            self.engine.submit(wish, now)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def only(self, kind: type) -> Any:
        (event,) = self.of(kind)
        return event

    def reasons(self) -> list[str]:
        return [event.reason for event in self.of(events.Refused)]


class Talk:
    """A device and a server. Over UDP messages are lost, doubled and delayed; ``recorded`` is what the device sent."""

    def __init__(
        self, *, stream: bool = False, seed: int = 1, loss: float = 0.0, double: float = 0.0, **device: Any
    ) -> None:
        self.now = 0.0
        self.stream = stream
        self.at_server, self.at_device = (DEVICE_TCP, SERVER_TCP) if stream else (DEVICE_UDP, SERVER_UDP)
        self.carrier = self.at_server.transport
        self._random = Random(seed)
        self.loss, self.double = loss, double
        self._flying: list[tuple[float, int, bool, bytes]] = []
        self._order = 0
        self.recorded: list[bytes] = []
        self.sent_by_server: list[bytes] = []
        self.server = End(self.engine(seed + 1), server_material())
        self.device = End(self.engine(seed + 2), None)
        if stream:
            self.device.engine.submit(AdoptConnection(SERVER_TCP, Role.INITIATED), 0.0)  # type: ignore[arg-type]
            self.server.engine.submit(AdoptConnection(DEVICE_TCP), 0.0)  # type: ignore[arg-type]
            self.run()
        self.adopt(**device)

    def engine(self, seed: int) -> ExchangeEngine:
        kind: Any = StreamEndpoint if self.stream else Endpoint
        return kind(SeededEntropy(seed), oscore=True)

    def adopt(self, rederive: bool = False, **material: Any) -> None:
        """The device learns its context."""
        self.device.engine.submit(actions.AdoptContext(device_material(**material), self.at_device, rederive), self.now)

    @property
    def to_server(self) -> PeerId:
        return context_peer(1, self.carrier)

    @property
    def to_device(self) -> PeerId:
        return context_peer(NUMBER, self.carrier)

    def restart_server(self, seed: int = 77, **material: Any) -> None:
        """It knows again what it stored: that numbers below its ceiling may have been used."""
        stored = self.server.ceiling
        self.server = End(self.engine(seed), server_material(stored, stored + 256, **material))

    def restart_device(self, seed: int = 78, rederive: bool = False, **material: Any) -> None:
        self.device = End(self.engine(seed), None)
        self.adopt(rederive, **material)

    def ask_server(self, handle: int = 1, until: float = 100.0, **request: Any) -> None:
        """A request of the device, and what comes of it."""
        given = {"code": codes.GET, "path": ("a", "b"), "token": handle.to_bytes(4, "big"), **request}
        self.device.engine.submit(actions.SendRequest(handle, self.to_server, **given), self.now)
        self.run(until)

    def ask_device(self, handle: int = 1, until: float = 100.0, **request: Any) -> None:
        given = {"code": codes.GET, "path": ("3", "0"), "token": b"S" + handle.to_bytes(3, "big"), **request}
        self.server.engine.submit(actions.SendRequest(handle, self.to_device, **given), self.now)
        self.run(until)

    def run(self, until: float = 0.0) -> None:
        """Deliver and tick until nothing is left to do, at most ``until`` seconds."""
        end = self.now + until
        while True:
            self._settle()
            times = [
                each for each in (self.device.engine.deadline(), self.server.engine.deadline()) if each is not None
            ]
            if self._flying:
                times.append(self._flying[0][0])
            if not times or min(times) > end:
                return
            self.now = max(self.now, min(times))
            while self._flying and self._flying[0][0] <= self.now:
                _, _, to_server, data = heappop(self._flying)
                self.feed(to_server, data)
            self.device.engine.tick(self.now)
            self.server.engine.tick(self.now)

    def feed(self, to_server: bool, data: bytes, peer: PeerId | None = None) -> None:
        if to_server:
            self.server.engine.feed(data, peer=peer or self.at_server, now=self.now)  # type: ignore[attr-defined]
        else:
            self.device.engine.feed(data, peer=self.at_device, now=self.now)  # type: ignore[attr-defined]

    def _settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for end in (self.device, self.server):
                for event in end.engine.take_events():
                    busy = True
                    end.handle(event, self.now)
        for end, to_server in ((self.device, True), (self.server, False)):
            for _, data in end.engine.take_datagrams():
                (self.recorded if to_server else self.sent_by_server).append(data)
                copies = 1
                if not self.stream:
                    copies = (self._random.random() >= self.loss) + (self._random.random() < self.double)
                for _ in range(copies):
                    self._order += 1
                    late = 0.0 if self.stream else self._random.random() * 0.05
                    heappush(self._flying, (self.now + late, self._order, to_server, data))


def alone(**how: object) -> End:
    """A server that is fed by hand."""
    return End(Endpoint(SeededEntropy(5), oscore=True, **how), server_material())  # type: ignore[arg-type]


def feed(end: End, data: bytes, now: float = 0.0, peer: PeerId = DEVICE_UDP) -> list[Message]:
    """What ``end`` sends when ``data`` came and its application has reacted."""
    end.engine.feed(data, peer=peer, now=now)  # type: ignore[attr-defined]
    return settle(end, now)


def settle(end: End, now: float) -> list[Message]:
    while found := end.engine.take_events():
        for event in found:
            end.handle(event, now)
    return [decode_message(data) for _, data in end.engine.take_datagrams()]


def protected(number: int, mid: int, kind: int = CON, kid: bytes = b"dev1", echo: bytes = b"") -> bytes:
    """A request of the device by hand."""
    options = ((URI_PATH, b"rd"), (ECHO, echo)) if echo else ((URI_PATH, b"rd"),)
    sealed, binding = seal_request(Keys(device_material()), number, codes.POST, options, b"x" * 30, None)
    value = encode_option(OscoreOption(binding.piv, kid))
    return encode_message(Message(kind, codes.POST, mid, b"tokn", ((OSCORE, value),), sealed.payload))


def echo_in(answer: Message, request: bytes, *, numbered: bool = True) -> bytes:
    """The Echo in a protected 4.01."""
    keys, message = Keys(device_material()), decode_message(request)
    piv = decode_option(dict(message.options)[OSCORE]).piv
    assert piv is not None
    option = decode_option(dict(answer.options)[OSCORE])
    assert (option.piv is not None) == numbered, "a replayed request would be answered twice with one nonce"
    opened = open_response(keys, bind(keys, b"dev1", piv), option, (), answer.payload)
    assert opened.code == codes.UNAUTHORIZED
    return dict(opened.options)[ECHO]


def observed() -> Talk:
    talk = Talk()
    talk.ask_server()
    talk.device.on_request = lambda event: [
        actions.Respond(event.exchange, codes.CONTENT, options=((OBSERVE, b"\1"),), payload=b"first")
    ]
    talk.ask_device(5, observe=0, token=b"observed")
    return talk
