"""A bench for devices that bootstrap: a hand-written bootstrap server that sends a script, and servers to register
with, everything in memory."""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from stellwerk.coap import codes
from stellwerk.coap.actions import ContextStored, Drop, GiveContext, NoContext, Respond, SendRequest
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import ContextQuestion, ContextState, RequestFailed, RequestReceived, ResponseReceived
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.core.identity import PskIdentity
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint as DtlsEndpoint
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.issuing import new_key
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import Value
from stellwerk.net.secure import SECURE_EVENTS, SecureStack
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.faults import StepFault
from stellwerk.sim.bootstrap.memory import Memory
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.bootstrap.ways import Ways
from stellwerk.sim.happenings import BootstrapFailed, Bootstrapped, Happening, Moved, Registered
from stellwerk.sim.network import MemoryNetwork
from stellwerk.sim.objects import device_types
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Leave, Move, Population, Start, Stop
from stellwerk.sim.security import Security, one_for_all
from stellwerk.sim.sessions import client_endpoint

from .conftest import SeededEntropy

BOOTSTRAP: Final = ("10.0.0.1", 5687)
SERVER: Final = ("10.0.0.3", 5683)
OTHER: Final = ("10.0.0.4", 5683)
DEVICE: Final = ("10.0.0.2", 40_000)
TLV: Final = 11542
SENML_CBOR: Final = 112

SERVER_KEY: Final = new_key()


class Step(NamedTuple):
    """One request of the bootstrap server."""

    code: int
    path: str
    payload: bytes = b""
    content_format: int | None = None
    accept: int | None = None


DISCOVER: Final = Step(codes.GET, "", accept=40)
DELETE: Final = Step(codes.DELETE, "")
FINISH: Final = Step(codes.POST, "bs")


def write(path: str, values: dict[str, Value], content_format: int = TLV, release: str = "1.1") -> Step:
    """A Bootstrap-Write of the resources at these paths."""
    entries = tuple(Entry(Path.parse(each), value) for each, value in values.items())
    where = Path.parse(path)
    payload = encode_content(content_format, Content(entries), where, device_types(release))
    return Step(codes.PUT, path.lstrip("/"), payload, content_format)


def security(number: int, uri: str, short_id: int, mode: int = 3, **more: Value) -> dict[str, Value]:
    """Resources of an instance of object 0; ``r3=...`` and so on are further ones."""
    values: dict[int, Value] = {0: uri, 1: False, 2: mode, 10: short_id}
    values |= {int(each.removeprefix("r")): value for each, value in more.items()}
    return {f"/0/{number}/{each}": value for each, value in sorted(values.items())}


def server(number: int, short_id: int, lifetime_s: int = 600) -> dict[str, Value]:
    return {
        f"/1/{number}/0": short_id,
        f"/1/{number}/1": lifetime_s,
        f"/1/{number}/6": True,
        f"/1/{number}/7": "U",
    }


def account(
    number: int = 1, uri: str = f"coap://{SERVER[0]}:{SERVER[1]}", short_id: int = 123, **more: Any
) -> list[Step]:
    """The Writes of one account."""
    content_format = more.pop("content_format", TLV)
    release = more.pop("release", "1.1")
    return [
        write(f"/0/{number}", security(number, uri, short_id, **more), content_format, release),
        write(f"/1/{number}", server(number, short_id), content_format, release),
    ]


PLAIN: Final = (DISCOVER, DELETE, *account(), FINISH)
"""What makes a device register with `SERVER`."""


class Peer:
    """A server of requests: what it is asked is in ``requests``, ``decide`` says what it answers."""

    def __init__(
        self,
        network: MemoryNetwork,
        address: tuple[str, int],
        keys: dict[bytes, bytes] | None = None,
        key: EllipticCurvePrivateKey = SERVER_KEY,
        chain: tuple[bytes, ...] = (),
        context: ContextMaterial | None = None,
    ) -> None:
        """``keys``: pre-shared keys by identity, None: no security; ``context``: what it speaks OSCORE with."""
        self.context = context
        self.requests: list[RequestReceived] = []
        self.established: list[events.SessionEstablished] = []
        self.failed: list[events.HandshakeFailed] = []
        self.ended: list[events.SessionEnded] = []
        self.keys = keys or {}
        self.secure = keys is not None
        self.decide: Callable[[RequestReceived], Respond | Drop | None] = lambda request: None
        self._locations = count(1)
        self.engine: Any = Endpoint(
            SeededEntropy(address[1]), Limits(peers_total=4000), verified=True, oscore=context is not None
        )
        if self.secure:
            dtls = DtlsEndpoint(
                SeededEntropy(77), server=ServerParameters(identity=ServerIdentity(key, chain), cbc=True)
            )
            self.engine = SecureStack(dtls, self.engine)
        self.station = network.attach(address, self.engine, self._hear)
        self._network = network

    def _hear(self, happened: list[Any], instant: Instant) -> None:
        for event in happened:
            if type(event) in SECURE_EVENTS:
                self._hear_secure(event, instant.now)
            else:
                self.hear(event, instant.now)

    def hear(self, event: Any, now: float) -> None:
        if isinstance(event, RequestReceived):
            self.requests.append(event)
            self.engine.submit(self.decide(event) or self._accept(event), now)
        elif isinstance(event, ContextQuestion):
            known = self.context is not None and event.kid == self.context.recipient_id
            self.engine.submit(
                GiveContext(event.question, self.context) if known else NoContext(event.question),  # type: ignore[arg-type]
                now,
            )
        elif isinstance(event, ContextState):
            self.engine.submit(ContextStored(event.number, event.ceiling), now)

    def _accept(self, request: RequestReceived) -> Respond:
        if request.path == ("rd",):
            return Respond(request.exchange, codes.CREATED, ("rd", f"r{next(self._locations)}"))
        return Respond(request.exchange, codes.DELETED if request.code == codes.DELETE else codes.CHANGED)

    def _hear_secure(self, event: Any, now: float) -> None:
        if isinstance(event, events.PskQuestion):
            key = self.keys.get(event.identity)
            answer: Any = actions.GivePsk(event.handshake, key) if key else None
            refusal = actions.RefusePeer(event.handshake, "unknown-identity", "nobody")
            self.engine.submit(answer or refusal, now)
        elif isinstance(event, events.CertificateQuestion):
            self.engine.submit(actions.AcceptPeer(event.handshake), now)
        elif isinstance(event, events.SessionEstablished):
            self.established.append(event)
        elif isinstance(event, events.HandshakeFailed):
            self.failed.append(event)
        elif isinstance(event, events.SessionEnded):
            self.ended.append(event)

    @property
    def identities(self) -> list[bytes]:
        return [each.identity.identity for each in self.established if isinstance(each.identity, PskIdentity)]

    def asked(self, path: str) -> list[RequestReceived]:
        return [each for each in self.requests if "/".join(each.path) == path]


class BootstrapServer(Peer):
    """Sends ``script`` to whoever sends /bs, one step after the other, whatever is answered. ``answers`` has the answer
    to each step, None where there was none."""

    def __init__(self, network: MemoryNetwork, script: Iterable[Step], **more: Any) -> None:
        super().__init__(network, BOOTSTRAP, **more)
        self.script = tuple(script)
        self.answers: list[ResponseReceived | None] = []
        self.after: dict[int, list[Step]] = {}
        """What is sent next instead, once the step with this index was answered."""
        self._handles = count(1)
        self._under_way: dict[int, tuple[PeerId, list[Step]]] = {}

    def hear(self, event: Any, now: float) -> None:
        super().hear(event, now)
        if isinstance(event, RequestReceived) and event.path == ("bs",):
            self.send(event.peer, self.script, now)
        elif isinstance(event, ResponseReceived | RequestFailed):
            peer, rest = self._under_way.pop(event.handle, (None, []))
            self.answers.append(event if isinstance(event, ResponseReceived) else None)
            if peer is not None and isinstance(event, ResponseReceived):
                self.send(peer, self.after.pop(len(self.answers), rest), now)

    def send(self, peer: PeerId, steps: Iterable[Step], now: float | None = None) -> None:
        """Send ``steps``."""
        step, *rest = [*steps] or [None]
        if step is None:
            return
        handle = next(self._handles)
        self._under_way[handle] = peer, rest
        path = tuple(each for each in step.path.split("/") if each)
        request = SendRequest(handle, peer, step.code, handle.to_bytes(4, "big"), path)
        request.content_format, request.accept, request.payload = step.content_format, step.accept, step.payload
        if now is None:
            self.station.submit(request)
        else:
            self.engine.submit(request, now)

    @property
    def codes(self) -> list[str]:
        """The code of each answer."""
        return ["none" if each is None else codes.dotted(each.code) for each in self.answers]


class BootstrapBench:
    """One device, its bootstrap server, and a server at `SERVER`."""

    def __init__(
        self,
        script: Iterable[Step] = PLAIN,
        *,
        keys: dict[bytes, bytes] | None = None,
        chain: tuple[bytes, ...] = (),
        server_keys: dict[bytes, bytes] | None = None,
        faults: Iterable[str] = (),
        network: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.network = MemoryNetwork(**(network or {}))
        self.bootstrap = BootstrapServer(self.network, script, keys=keys, chain=chain)
        self.server = Peer(self.network, SERVER, server_keys)
        self.happenings: list[Happening] = []
        scheme = "coap" if keys is None else "coaps"
        self.options = BootstrapOptions(
            f"{scheme}://{BOOTSTRAP[0]}:{BOOTSTRAP[1]}",
            faults=tuple(StepFault.parse(each) for each in faults),
            **options,
        )
        self._transport = "udp" if keys is None else "dtls"
        self._handles = count(1)
        limits = Limits(peers_total=4000)
        self.offset_s = self.network.instant().wall_ms / 1000 - self.network.now
        nothing = Security(one_for_all(None))  # type: ignore[arg-type]
        self.ways = Ways(
            Endpoint(SeededEntropy(2), limits, Parameters(), verified=True, oscore=True),
            client_endpoint(nothing, 2000, SeededEntropy(4)),
            entropy=SeededEntropy(5),
            utc_offset_s=self.offset_s,
        )
        self.population = Population(self.ways)  # type: ignore[arg-type]
        self.addresses = [DEVICE]
        self.devices = self.network.attach(DEVICE, self.population, self._note)
        self._moves = count(50_000)

    def join(self, local: tuple[str, int]) -> None:
        """The devices have this address too."""
        self.network._stations[local] = self.devices

    def device(self, name: str = "dev-1", local: tuple[str, int] = DEVICE, **options: Any) -> BootstrapDevice:
        memory: Memory | None = options.pop("memory", None)
        return BootstrapDevice(
            DeviceOptions(name, **options),
            PeerId(self._transport, *BOOTSTRAP, *local),
            bootstrap=self.options,
            utc_offset_s=self.offset_s,
            handles=self._handles,
            resolve=lambda host, port: None if host == "nowhere.example" else (host, port),
            memory=memory,
        )

    def start(self, wait_s: float = 1.0, **options: Any) -> BootstrapDevice:
        device = self.device(**options)
        self.devices.submit(Start(device))
        self.network.run_for(wait_s)
        return device

    def restart(self, device: BootstrapDevice, wait_s: float = 1.0, **options: Any) -> BootstrapDevice:
        """The process ends without a word; another goes on from what was kept."""
        self.devices.submit(Leave(device))
        return self.start(wait_s, memory=device.memory(), **options)

    def stop(self, device: BootstrapDevice) -> None:
        self.devices.submit(Stop(device))
        self.network.run_for(1.0)

    def of(self, kind: type[Happening]) -> list[Any]:
        return [each for each in self.happenings if isinstance(each, kind)]

    @property
    def failures(self) -> list[str]:
        """Why bootstraps failed."""
        return [each.reason for each in self.of(BootstrapFailed)]

    @property
    def is_configured(self) -> bool:
        return bool(self.of(Bootstrapped)) and bool(self.of(Registered))

    def _note(self, events: list[Any], instant: Instant) -> None:
        self.happenings.extend(events)
        for each in events:
            if isinstance(each, Moved):
                # What whoever has the sockets does, see `fleet`.
                device = self.population.devices()[0]
                local = (DEVICE[0], next(self._moves))
                self.network.detach((device.server.local_host, device.server.local_port))
                self.join(local)
                self.population.submit(
                    Move(device, device.server._replace(local_host=local[0], local_port=local[1]), unnoticed=True),
                    instant.now,
                )
