"""The whole server in memory, with time as an argument: bytes in, bytes out, read like a sequence chart.

``stack << con(POST, "/rd?ep=dev1", mid=7) >> ack(CREATED, mid=7)`` feeds one datagram and wants one back.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.x509 import Certificate

from stellwerk.app.brake import Brake
from stellwerk.app.channels import SecureChannels
from stellwerk.app.command_request import CommandRequest
from stellwerk.app.device_operations import DeviceOperations
from stellwerk.app.handlers.commands import Commands
from stellwerk.app.handlers.connections import Connections
from stellwerk.app.handlers.devices import Devices
from stellwerk.app.handlers.expiry import Expiry
from stellwerk.app.handlers.gateway_sends import GatewaySends
from stellwerk.app.handlers.gateways import Gateways, read_after_register
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.prolonging import Prolonging
from stellwerk.app.handlers.reading import Reading
from stellwerk.app.handlers.registering import Registering
from stellwerk.app.handlers.tls_connections import TlsConnections
from stellwerk.app.handlers.turns import Turns
from stellwerk.app.listening import Listening
from stellwerk.app.meters import Meters
from stellwerk.app.ports import Limits
from stellwerk.app.posting import Call, Posting
from stellwerk.app.profiles import Profiles
from stellwerk.app.records import NewDevice
from stellwerk.app.registry import Registry
from stellwerk.app.reports import Reports
from stellwerk.app.speaking import Speaking
from stellwerk.app.tasks import Tasks
from stellwerk.app.uplinks import Uplinks
from stellwerk.coap.actions import Action
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import Event
from stellwerk.coap.message import ACK, CON, NON, RST, Message, decode_message, encode_message
from stellwerk.coap.options import encode_uint, sort_options
from stellwerk.coap.tcp.endpoint import AdoptConnection, StreamAction, StreamEndpoint
from stellwerk.coap.tcp.frames import decode_frame
from stellwerk.coap.tcp.signalling import Capabilities, encode_csm
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.record import Credential
from stellwerk.dtls.endpoint import Endpoint as DtlsEndpoint
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.dtls.tickets import TicketKey
from stellwerk.lwm2m.registration_parameters import DEFAULT_TOLERANCES, Tolerances
from stellwerk.lwm2m.schema.library import Library
from stellwerk.net.secure import SecureStack
from stellwerk.net.tls import TlsStack
from stellwerk.southbound.link import Link
from stellwerk.southbound.links import Links
from stellwerk.southbound.secure_listener import Rates, SecureSettings
from stellwerk.southbound.secure_peers import SecurePeers
from stellwerk.southbound.tls_peers import TlsPeers
from stellwerk.storage.memory import MemoryStore

_LOOKS = 30
WALL_MS = 1_790_000_000_000
HOME = PeerId("udp", "192.0.2.1", 40000, "192.0.2.100", 5683)


class ManualClock:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return WALL_MS + int((self.at - 1000.0) * 1000)

    def lifetime_ms(self) -> int:
        return self.wall_ms()

    def instant(self) -> Instant:
        return Instant(self.now(), self.wall_ms())


class SeededEntropy:
    """Bytes that look random and are the same in every run."""

    def __init__(self, seed: int = 0) -> None:
        self._seed, self._count = seed, 0

    def take(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(f"{self._seed}/{self._count}".encode()).digest(count)


TICKET_KEY = TicketKey(b"tickets of tests", bytes(32))
ID_SECRET = b"session ids of tests".ljust(32)


@dataclass(frozen=True)
class Trusted:
    """Authorities that never change."""

    anchors: tuple[Certificate, ...] = ()


@dataclass
class Step:
    """One datagram of a chart; ``check`` looks closer at one that is wanted."""

    message: Message
    peer: PeerId = HOME
    check: Callable[[Message], None] | None = None
    ignore: frozenset[str] = frozenset()


@dataclass
class After:
    seconds: float


def _message(kind: int, code: int, target: str, mid: int, token: bytes, payload: bytes, **options: Any) -> Message:
    path, _, query = target.partition("?")
    found: list[tuple[int, bytes]] = [(11, each.encode()) for each in path.split("/") if each]
    found += [(15, each.encode()) for each in query.split("&") if each]
    for name, number in (("observe", 6), ("content_format", 12), ("accept", 17)):
        if options.get(name) is not None:
            found.append((number, encode_uint(options[name])))
    found += options.get("extra", [])
    return Message(kind, code, mid, token, sort_options(found), payload)


def con(
    code: int, target: str = "", *, mid: int, token: bytes = b"", payload: bytes = b"", peer: PeerId = HOME, **more: Any
) -> Step:
    """A confirmable request or response from the device."""
    return Step(_message(CON, code, target, mid, token, payload, **more), peer)


def non(
    code: int, target: str = "", *, mid: int, token: bytes = b"", payload: bytes = b"", peer: PeerId = HOME, **more: Any
) -> Step:
    """The same, non-confirmable."""
    return Step(_message(NON, code, target, mid, token, payload, **more), peer)


def ack(code: int = 0, *, mid: int, token: bytes = b"", payload: bytes = b"", peer: PeerId = HOME, **more: Any) -> Step:
    """An acknowledgement, empty or with a piggybacked response."""
    return Step(_message(ACK, code, "", mid, token, payload, **more), peer)


def rst(*, mid: int, peer: PeerId = HOME) -> Step:
    return Step(Message(RST, 0, mid), peer)


def after(seconds: float) -> After:
    return After(seconds)


class BehindTls:
    """The part of a `Stack` that speaks TLS."""

    def __init__(self, whole: "Stack", identity: ServerIdentity, by_transport: dict[str, Link]) -> None:
        assert whole.store is not None
        self._whole = whole
        clock = whole.clock
        self.coap = StreamEndpoint(whole.entropy)
        self.stack: TlsStack[Event, StreamAction] = TlsStack(
            self.coap,
            whole.entropy,
            identity,
            admission=None if whole.rates is None else Rates(whole.rates, whole.meters.tls),
            is_full=self.coap.is_full,
        )
        self.link = by_transport["tls"] = Link(
            submit=lambda action: self.stack.submit(action, clock.now()),
            store=whole.store,
            tasks=whole.tasks,
            entropy=whole.entropy,
            clock=clock,
            brake=whole.brake,
            meters=whole.meters,
            reaches=self.coap.is_connected,
        )
        self.peers = TlsPeers(
            submit=lambda action: self.stack.submit(action, clock.now()),
            link=self.link,
            trust=Trusted(whole.trusted),
            check_dates=True,
        )
        self.connections: TlsConnections
        self.out: list[tuple[PeerId, bytes]] = []

    def go_on(self) -> bool:
        told = self.stack.take_events()
        if told:
            self.peers.handle(told, self._whole.clock.instant())
        out = self.stack.take_datagrams()
        self.out += out
        return bool(told or out)

    # -- what a device does --

    def begin(self, peer: PeerId) -> None:
        self.stack.submit(AdoptConnection(peer), self._whole.clock.now())
        self._whole.run(self._whole._settle())

    def feed(self, peer: PeerId, data: bytes) -> None:
        self.stack.feed(data, peer=peer, now=self._whole.clock.now())
        self._whole.run(self._whole._settle())

    def take(self, peer: PeerId) -> list[bytes]:
        self._whole.run(self._whole._settle())
        found = [data for to, data in self.out if to == peer]
        self.out = [each for each in self.out if each[0] != peer]
        return found


@dataclass
class Stack:
    """``store`` may be that of an earlier stack: a restart. ``ask_for_s``: how long old requests are asked for."""

    store: MemoryStore | None = None
    clock: ManualClock = field(default_factory=ManualClock)
    seed: int = 0
    ask_for_s: float | None = None
    grace_s: float = 0.0
    queue_s: float | None = None
    again_s: float = 1.0
    gap_s: float = 0.0
    auto_provision: tuple[str, ...] = ()
    reads: tuple[int, ...] = ()
    """Objects that are read after a Register; none, so that charts show only what they are about."""
    reads_as_messages: bool = False
    read_at_once: int = 256
    end_devices: int = 0
    """How many devices a gateway may bring along; none, as with reads."""
    library: Library = field(default_factory=Library.builtin)
    tolerances: Tolerances = DEFAULT_TOLERANCES
    prove_moves: bool = False
    uplinks_extend: bool = False
    secure: ServerParameters | None = None
    """What the secure port offers; None: there is none."""
    rates: SecureSettings | None = None
    """How many handshakes may begin; None: as many as come."""
    trusted: tuple[Certificate, ...] = ()
    """Authorities of certificates of devices."""
    tls: ServerIdentity | None = None
    """What the secure port shows over TCP; None: there is none."""
    patience: int = 1 << 30
    """How many turns of the event loop a task may take in which nothing else happens."""

    def __post_init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.get_loop()
        self.out: list[tuple[PeerId, Message]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.stream_out: list[tuple[PeerId, Message | None]] = []
        """What was sent over connections; None closes one."""
        self.stream_bytes: list[tuple[PeerId, bytes]] = []
        """The same as bytes."""
        self.secure_out: list[tuple[PeerId, bytes]] = []
        """What was sent from the secure port."""
        self.bootstrap: Any = None
        """A `tests.scenario.bootstrap_port.BootstrapPort` that was made beside."""
        self.run(self._build())

    async def _build(self) -> None:
        self.tasks = Tasks()
        self.followers = Tasks()
        self.entropy = SeededEntropy(self.seed)
        if self.store is None:
            self.store = MemoryStore(library=self.library, limits=Limits())
        store, clock = self.store, self.clock
        self.tenant_id = await store.ensure_tenant("default", clock.wall_ms())
        self.registry = Registry(store)
        prolonging = Prolonging(store=store, clock=clock, grace_s=self.grace_s) if self.uplinks_extend else None
        self.listening = Listening(self.tasks, prolonging)
        ask_until = None if self.ask_for_s is None else clock.now() + self.ask_for_s
        self.engine = Endpoint(self.entropy, ask_until=ask_until, oscore=True)
        self.brake = Brake(self.entropy)
        self.meters = Meters(clock.now)
        self.link = Link(
            submit=lambda action: self.engine.submit(action, clock.now()),
            store=store,
            tasks=self.tasks,
            entropy=self.entropy,
            clock=clock,
            brake=self.brake,
            meters=self.meters,
        )
        self.streams = StreamEndpoint(self.entropy, oscore=True)
        self.stream_link = Link(
            submit=lambda action: self.streams.submit(action, clock.now()),
            store=store,
            tasks=self.tasks,
            entropy=self.entropy,
            clock=clock,
            brake=self.brake,
            meters=self.meters,
            reaches=self.streams.is_connected,
        )
        by_transport = {"udp": self.link, "tcp": self.stream_link}
        devices_of_sessions: dict[PeerId, DeviceId] = {}
        if self.secure is not None:
            self._build_secure(by_transport)
        self.behind_tls = None
        if self.tls is not None:
            self.behind_tls = BehindTls(self, self.tls, by_transport)
        self.links = Links(by_transport, clock=clock)
        self.profiles = Profiles(store=store, registry=self.registry, awake_s=93.0, queue_s=self.queue_s)
        await self.profiles.refresh()
        self.turns = Turns(
            registry=self.registry,
            profiles=self.profiles,
            clock=clock,
            link=self.links,
            gap_s=self.gap_s,
            later=self._later,
        )
        self.observations = Observations(store=store, registry=self.registry, clock=clock, link=self.turns)
        self.commands = Commands(
            store=store,
            registry=self.registry,
            library=self.library,
            observations=self.observations,
            tasks=self.tasks,
            clock=clock,
            entropy=self.entropy,
            link=self.links,
            limits=Limits(),
            profiles=self.profiles,
            turns=self.turns,
            again_s=self.again_s,
            grace_s=self.grace_s,
            meters=self.meters,
        )
        posting = Posting(store=store, commands=self.commands, clock=clock, tenant_id=self.tenant_id)
        # What follows goes on while everything else is quiet.
        reports = Reports(store=store, projected=store.projection, tasks=self.followers, every_s=0.0)
        self.operations = DeviceOperations(posting, reports)
        self.registering = Registering(
            store=store,
            registry=self.registry,
            library=self.library,
            clock=clock,
            entropy=self.entropy,
            link=self.links,
            listener=self.listening,
            brake=self.brake,
            meters=self.meters,
            grace_s=self.grace_s,
            auto_provision=self.auto_provision,
            tenant_id=self.tenant_id,
            tolerances=self.tolerances,
            prove_moves=self.prove_moves,
            speaking=Speaking(store, devices_of_sessions),
        )
        self.reading = Reading(
            store=store,
            registry=self.registry,
            clock=clock,
            link=self.turns,
            objects=read_after_register(self.reads, self.end_devices),
            as_messages=self.reads_as_messages,
            at_once=self.read_at_once,
        )
        self.gateways = Gateways(
            store=store,
            registry=self.registry,
            library=self.library,
            observations=self.observations,
            reading=self.reading,
            tasks=self.tasks,
            clock=clock,
            entropy=self.entropy,
            link=self.turns,
            listener=self.listening,
            most=self.end_devices,
            again_s=self.again_s,
            pause_s=0.0,
            later=self._later,
        )
        self.uplinks = Uplinks(
            store=store,
            registry=self.registry,
            library=self.library,
            registering=self.registering,
            tasks=self.tasks,
            clock=clock,
            link=self.links,
            listener=self.listening,
            brake=self.brake,
            grace_s=self.grace_s,
            gateway_sends=GatewaySends(
                store=store, gateways=self.gateways, tasks=self.tasks, listener=self.listening, brake=self.brake
            )
            if self.end_devices
            else None,
        )
        self.expiry = Expiry(
            store=store,
            registry=self.registry,
            clock=clock,
            link=self.links,
            listener=self.listening,
            brake=self.brake,
            grace_s=self.grace_s,
        )
        self.connections = Connections(
            store=store,
            registry=self.registry,
            link=self.links,
            grace_s=self.grace_s,
            device_of=devices_of_sessions.get,
        )
        self.listening.connect(
            self.commands, self.observations, self.reading, self.turns, self.connections, self.gateways
        )
        self.links.connect(
            self.uplinks, self.observations, self.listening.finished, self.listening.reacted, self.connections.lost
        )

        self.observations.from_elsewhere = self.uplinks.moving.notified_from_elsewhere
        self.devices = Devices(
            store=store,
            registry=self.registry,
            clock=clock,
            link=self.links,
            listener=self.listening,
            relabel=self.commands.delivery.relabel,
        )
        self.devices.revoking.withdraw = self.commands.withdraw_all
        behind_tls = self.behind_tls
        self.channels = SecureChannels(
            store=store,
            tasks=self.tasks,
            clock=clock,
            lines=self.registering.lines,
            meters=self.meters,
            devices=devices_of_sessions,
            dtls=None if self.secure is None else self.secure_peers,
            tls=None if behind_tls is None else behind_tls.peers,
        )
        self.channels.connect(
            self.uplinks.moving.take_over, self.connections.lost, self.registering, self.devices.revoking
        )
        self.failures = self.channels.failures
        assert self.channels.contexts is not None
        self.contexts = self.channels.contexts
        self.links.speak_oscore(self.contexts)
        if self.channels.sessions is not None:
            self.sessions = self.channels.sessions
            self.secure_peers.connect(self.sessions)
            store.marks = self.dtls.take_marks
        if behind_tls is not None and self.channels.connections is not None:
            behind_tls.connections = self.channels.connections
            behind_tls.peers.connect(behind_tls.connections)

    def _build_secure(self, by_transport: dict[str, Link]) -> None:
        assert self.store is not None
        clock = self.clock
        self.dtls = DtlsEndpoint(
            self.entropy,
            self.secure,
            ticket_keys=(TICKET_KEY,),
            id_secret=ID_SECRET,
            wall_offset_s=WALL_MS / 1000 - 1000.0,
            admission=None if self.rates is None else Rates(self.rates, self.meters.secure),
        )
        ask_until = None if self.ask_for_s is None else clock.now() + self.ask_for_s
        inner = Endpoint(self.entropy, ask_until=ask_until, verified=True, room=self.dtls.room, oscore=True)
        self.secure_stack: SecureStack[Event, Action] = SecureStack(self.dtls, inner)
        self.secure_link = Link(
            submit=lambda action: self.secure_stack.submit(action, clock.now()),
            store=self.store,
            tasks=self.tasks,
            entropy=self.entropy,
            clock=clock,
            brake=self.brake,
            meters=self.meters,
            reaches=lambda peer: self.secure_peers.may_reach(peer),
        )
        self.secure_peers = SecurePeers(
            submit=lambda action: self.secure_stack.submit(action, clock.now()),
            link=self.secure_link,
            is_live=self.dtls.is_live,
            trust=Trusted(self.trusted),
            check_dates=True,
        )
        by_transport["dtls"] = self.secure_link

    # -- the secure port --

    def feed_secure(self, datagram: bytes, peer: PeerId) -> None:
        """A datagram of a device behind DTLS."""
        self.secure_stack.feed(datagram, peer=peer, now=self.clock.now())
        self.run(self._settle())

    def take_secure(self, peer: PeerId) -> list[bytes]:
        """What was sent to that address, in order."""
        self.run(self._settle())
        found = [datagram for to, datagram in self.secure_out if to == peer]
        self.secure_out = [each for each in self.secure_out if each[0] != peer]
        return found

    # -- the chart --

    def __lshift__(self, step: Step | After) -> "Stack":
        """Feed a datagram, or let time pass."""
        if isinstance(step, After):
            self.run(self._wait(step.seconds))
        else:
            datagram = encode_message(step.message)
            self.engine.feed(datagram, peer=step.peer, now=self.clock.now())
            self.run(self._settle())
        return self

    def __rshift__(self, step: Step) -> "Stack":
        """Want a datagram: type, code, message ID and token as given; options and payload where they are given."""
        assert self.out, f"nothing was sent; wanted {step.message}"
        peer, sent = self.out.pop(0)
        wanted = step.message
        assert peer == step.peer
        assert (sent.type, sent.code, sent.mid) == (wanted.type, wanted.code, wanted.mid), f"sent {sent}"
        assert sent.token == wanted.token
        for option in wanted.options:
            assert option in sent.options, f"sent {sent}"
        if wanted.payload:
            assert sent.payload == wanted.payload
        return self

    def take(self) -> Message:
        """The next datagram sent, to look at and to answer."""
        assert self.out, "nothing was sent"
        return self.out.pop(0)[1]

    def silent(self) -> bool:
        """Whether nothing was sent that was not wanted yet."""
        return not self.out

    # -- connections --

    def connect(self, peer: PeerId) -> "Stack":
        """A connection that stands, with the CSMs exchanged."""
        self.streams.submit(AdoptConnection(peer), self.clock.now())
        return self.say(peer, encode_csm(Capabilities(65_536, True)))

    def say(self, peer: PeerId, data: bytes) -> "Stack":
        """Bytes of the device behind ``peer``; none for the end of its connection."""
        self.streams.feed(data, peer=peer, now=self.clock.now())
        self.run(self._settle())
        return self

    def heard(self, peer: PeerId) -> Message | None:
        """The next message over the connection of ``peer`` that is no signal, None when it was closed."""
        while True:
            at = next((index for index, each in enumerate(self.stream_out) if each[0] == peer), None)
            assert at is not None, "nothing was sent"
            message = self.stream_out.pop(at)[1]
            if message is None or message.code >> 5 != 7:
                return message

    def hears_nothing(self, peer: PeerId) -> bool:
        """Whether nothing but signals was sent over the connection of ``peer``."""
        return not any(to == peer and (each is None or each.code >> 5 != 7) for to, each in self.stream_out)

    # -- looking inside --

    def provision(self, name: str, labels: tuple[str, ...] = (), credential: Credential | None = None) -> Any:
        assert self.store is not None
        new = NewDevice(name, f"urn:dev:os:{name}", labels, "SCS-LwM2M", (), self.clock.wall_ms(), credential)
        return self.run(self.store.create_device(self.tenant_id, new))

    def post(self, device: Any, *requests: CommandRequest, **fields: Any) -> Any:
        async def work() -> Any:
            text = "; ".join(str(each.content) for each in requests)
            return await self.commands.post(
                device,
                name=None,
                content=text,
                content_info=None,
                creator="CTestApp",
                labels=(),
                requests=requests,
                **fields,
            )

        return self.run(self._then_settle(work()))

    def begin(self, call: Call) -> "asyncio.Future[Any]":
        """Ask for an operation and wait for its end beside the chart."""

        async def work() -> "asyncio.Future[Any]":
            waiting = asyncio.ensure_future(call)
            await self._settle()
            return waiting

        begun: asyncio.Future[Any] = self.run(work())
        return begun

    def received(self, device: Any) -> list[dict[str, Any]]:
        """Contents of received-msg, oldest first."""
        import json

        assert self.store is not None
        records = self.run(self.store.projection.received_messages(device.device_id, 1000, 0))
        return [json.loads(each.content) for each in reversed(records)]

    def values(self, device: Any, path: str) -> list[str]:
        """Stored values of a path, oldest first."""
        assert self.store is not None
        return [
            each.value for each in reversed(self.run(self.store.projection.value_history(device.device_id, path, 1000)))
        ]

    def log(self, device: Any) -> list[str]:
        """Events of the device's log, oldest first."""
        assert self.store is not None
        return [each.event for each in reversed(self.run(self.store.projection.device_log(device.device_id, 1000)))]

    def registrations(self) -> list[str]:
        return sorted(each.registration.endpoint_name for each in self.registry)

    def run(self, work: Any) -> Any:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self.followers.close())
        self.run(self.tasks.close())
        self._runner.close()

    # -- inside --

    async def _then_settle(self, work: Any) -> Any:
        result = await work
        await self._settle()
        return result

    async def _settle(self) -> None:
        # A task may wait for a store that is slow until somebody says otherwise.
        quiet = waited = 0
        while quiet < 3 and waited < self.patience:
            events = self.engine.take_events()
            if events:
                self.link.handle(events, self.clock.instant())
            found = self.streams.take_events()
            if found:
                self.stream_link.handle(found, self.clock.instant())
            for peer, data in self.streams.take_datagrams():
                self.stream_out.append((peer, decode_frame(data) if data else None))
                self.stream_bytes.append((peer, data))
                events = events or [None]  # type: ignore[list-item]
            events = events or found
            if self.secure is not None:
                told = self.secure_stack.take_events()
                if told:
                    self.secure_peers.handle(told, self.clock.instant())
                protected = self.secure_stack.take_datagrams()
                self.secure_out += protected
                if told or protected:
                    events = events or [None]  # type: ignore[list-item]
            if self.behind_tls is not None and self.behind_tls.go_on():
                events = events or [None]  # type: ignore[list-item]
            for peer, datagram in self.engine.take_datagrams():
                self.out.append((peer, decode_message(datagram)))
                events = events or [None]  # type: ignore[list-item]
            if self.bootstrap is not None and self.bootstrap.pump():
                events = events or [None]  # type: ignore[list-item]
            await asyncio.sleep(0)
            waited = waited + 1 if len(self.tasks) and not events else 0
            quiet = 0 if events or waited else quiet + 1

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((self.clock.now() + seconds, call))

    def _deadline(self) -> float | None:
        due = [at for at, _ in self.timers]
        engines: list[Any] = [self.engine, self.streams]
        if self.secure is not None:
            engines.append(self.secure_stack)
        if self.behind_tls is not None:
            engines.append(self.behind_tls.stack)
        due += [each for each in (engine.deadline() for engine in engines) if each is not None]
        if self.bootstrap is not None:
            due += self.bootstrap.deadlines()
        return min(due, default=None)

    def _tick(self, now: float) -> None:
        self.engine.tick(now)
        self.streams.tick(now)
        if self.secure is not None:
            self.secure_stack.tick(now)
        if self.bootstrap is not None:
            self.bootstrap.tick(now)
        if self.behind_tls is not None:
            self.behind_tls.stack.tick(now)

    async def _wait(self, seconds: float) -> None:
        end = self.clock.at + seconds
        while True:
            deadline = self._deadline()
            if deadline is None or deadline > end:
                break
            self.clock.at = max(self.clock.at, deadline)
            due = [call for at, call in self.timers if at <= self.clock.at]
            self.timers = [each for each in self.timers if each[0] > self.clock.at]
            for call in due:
                call()
            self._tick(self.clock.at)
            await self._settle()
        self.clock.at = end
        self._tick(end)
        # A look that finds only what is being stored finds the same again.
        for _ in range(_LOOKS):
            if not (await self.expiry.look() or await self.commands.delivery.look()):
                break
            await self._settle()
        await self._settle()
