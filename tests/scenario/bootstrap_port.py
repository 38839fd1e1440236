"""The bootstrap server in memory beside a `Stack`, and clients that a test plays by hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.x509 import Certificate

from stellwerk.app.bootstrap_accounts import BootstrapAccounts, Issue
from stellwerk.app.bootstrap_admission import BootstrapAdmission
from stellwerk.app.bootstrap_history import BootstrapHistory
from stellwerk.app.failures import Failures
from stellwerk.app.handlers.bootstrap_channels import ChannelTable
from stellwerk.app.handlers.bootstrap_conversations import BootstrapConversations
from stellwerk.app.handlers.bootstrap_sessions import BootstrapSessions
from stellwerk.app.handlers.bootstrapping import Bootstrapping
from stellwerk.app.handlers.enrolling import Authority, Enrolling
from stellwerk.app.handlers.oscore_contexts import OscoreContexts
from stellwerk.app.rare_lines import RareLines
from stellwerk.coap.actions import Action
from stellwerk.coap.codes import CHANGED, CONTENT, CONTINUE, DELETE, DELETED, GET, POST, PUT
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import Event
from stellwerk.coap.message import ACK, CON, RST, Message, decode_message, encode_message
from stellwerk.coap.options import BLOCK1, read_options
from stellwerk.core.ids import PeerId
from stellwerk.device.bootstrap.account import ServerMaterial
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.bootstrap.enrolment import LONGEST_REQUEST
from stellwerk.device.bootstrap.history import BootstrapSession
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import NOSEC, Credential
from stellwerk.dtls.endpoint import Endpoint as DtlsEndpoint
from stellwerk.dtls.parameters import Limits as DtlsLimits
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.net.secure import SecureStack
from stellwerk.southbound.bootstrap_link import BootstrapLink
from stellwerk.southbound.bootstrap_listeners import BootstrapLinks
from stellwerk.southbound.secure_peers import SecurePeers
from stellwerk.southbound.translate_bootstrap import EST
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import WALL_MS, SeededEntropy, Stack, Trusted, ack, con

HOME = PeerId("udp", "192.0.2.1", 40000, "192.0.2.100", 5687)
AWAY = HOME._replace(remote_port=40001)
METHODS = {GET: "GET", POST: "POST", PUT: "PUT", DELETE: "DELETE"}
NO_SEC = {"securityMode": "NO_SEC"}
EMPTY = "</>;lwm2m=1.1,</0/0>,</1>,</2>,</3/0>"
"""What a device holds that has only its bootstrap account."""
CONFIGURED = '</>;lwm2m=1.1,</0/0>,</0/1>;ssid=123;uri="coap://old:5683",</1/0>;ssid=123,</3/0>'


def psk_block(identity: str, key: bytes) -> dict[str, Any]:
    return {"securityMode": "PSK", "clientPublicKeyOrId": identity, "clientSecretKey": key.hex()}


def with_bootstrap(
    bootstrap_server: dict[str, Any] = NO_SEC,
    lwm2m_server: dict[str, Any] = NO_SEC,
    credential: Credential | None = None,
    **more: Any,
) -> Credential:
    """A credential with that ``bootstrap`` part; alone it proves nothing to the server of device management."""
    own = credential or Credential(f"of {bootstrap_server.get('clientPublicKeyOrId', '')}"[:100], "", kind=NOSEC)
    members = {"bootstrapServer": bootstrap_server, "lwm2mServer": lwm2m_server, **more}
    return replace(own, bootstrap=json.dumps(members))


@dataclass
class BootstrapPort:
    """``secure``: what its DTLS port offers; None: there is none. ``issue``: who makes fresh keys; ``authority``: who
    signs certificates of devices that enrol."""

    stack: Stack
    secure: ServerParameters | None = None
    trusted: tuple[Certificate, ...] = ()
    own: ServerMaterial = field(default_factory=ServerMaterial)
    issue: Issue | None = None
    authority: Authority | None = None
    most: int = 100
    packs: bool = True
    sessions_kept: int = 1_000
    prove_moves: bool = False
    over: tuple[Callable[["BootstrapPort"], Any], ...] = ()
    """What makes its ports for connections (`bootstrap_streams`)."""

    def __post_init__(self) -> None:
        self.clock = self.stack.clock
        self.out: list[tuple[PeerId, Message]] = []
        self.secure_out: list[tuple[PeerId, bytes]] = []
        self.stack.run(self._build())
        self.stack.bootstrap = self

    async def _build(self) -> None:
        stack, clock, store = self.stack, self.clock, self.stack.store
        assert store is not None
        await store.interrupt_bootstrap_sessions(clock.wall_ms())
        entropy = SeededEntropy(77)
        self.engine = Endpoint(entropy, oscore=True)
        self.link = BootstrapLink(
            submit=lambda action: self.engine.submit(action, clock.now()), entropy=entropy, clock=clock
        )
        by_transport = {"udp": self.link}
        lines = RareLines(store)
        self.failures = Failures(tasks=stack.tasks, lines=lines)
        table = self.table = ChannelTable(self.failures)
        if self.secure is not None:
            self.dtls = DtlsEndpoint(
                entropy,
                replace(self.secure, tickets=False, session_lifetime_s=-1.0),
                DtlsLimits(resumable=0, sessions=self.sessions_kept),
                wall_offset_s=WALL_MS / 1000 - 1000.0,
            )
            inner = Endpoint(
                entropy,
                verified=True,
                room=self.dtls.room,
                oscore=True,
                body_bytes_by_path={EST: LONGEST_REQUEST},
            )
            self.secure_stack: SecureStack[Event, Action] = SecureStack(self.dtls, inner)
            self.secure_link = BootstrapLink(
                submit=lambda action: self.secure_stack.submit(action, clock.now()),
                entropy=entropy,
                clock=clock,
                reaches=lambda peer: self.secure_peers.may_reach(peer),
                close=lambda peer, why: self.secure_peers.close(peer),
            )
            self.secure_peers = SecurePeers(
                submit=lambda action: self.secure_stack.submit(action, clock.now()),
                link=self.secure_link,
                is_live=self.dtls.is_live,
                trust=Trusted(self.trusted),
                check_dates=True,
            )
            self.sessions = BootstrapSessions(
                store=store,
                tasks=stack.tasks,
                clock=clock,
                link=self.secure_peers,
                lines=lines,
                meters=stack.meters.secure,
                table=table,
            )
            self.secure_peers.connect(self.sessions)
            by_transport["dtls"] = self.secure_link
        self.history = BootstrapHistory(store, lines, stack.meters.bootstrap, table.whence)
        made = [make(self) for make in self.over]
        self.streams = {each.transport: each for each in made}
        """By transport."""
        by_transport |= {each.transport: each.link for each in made}
        links = BootstrapLinks(by_transport)
        self.contexts = OscoreContexts(
            store=store,
            tasks=stack.tasks,
            failures=self.failures,
            meters=stack.meters.oscore,
            devices=table.devices,
            promoting=None,
            is_bootstrap=True,
        )
        links.speak_oscore(self.contexts)
        accounts = BootstrapAccounts(store, lambda is_bootstrap: self.own, self.issue)
        self.bootstrapping = Bootstrapping(
            store=store,
            tasks=stack.tasks,
            clock=clock,
            link=links,
            admission=BootstrapAdmission(store, table.devices, table.identities),
            accounts=accounts,
            history=self.history,
            conversations=BootstrapConversations(
                store=store, tasks=stack.tasks, clock=clock, link=links, history=self.history, later=stack._later
            ),
            enrolling=Enrolling(store, accounts, self.authority),
            meters=stack.meters.bootstrap,
            most=self.most,
            packs=self.packs,
            brake=stack.brake,
            prove_moves=self.prove_moves,
        )
        self.bootstrapping.listens_at = HOME.local_host, HOME.local_port
        links.connect(self.bootstrapping)
        if self.secure is not None:
            self.sessions.is_used = self.bootstrapping.conversations.runs_for
        if "tls" in self.streams:
            self.streams["tls"].connections.is_used = self.bootstrapping.conversations.runs_for
        self.contexts.connect(self.bootstrapping.lost)

    # -- as `Stack` runs it --

    def pump(self) -> bool:
        """One round; whether anything happened."""
        at = self.clock.instant()
        told = self.engine.take_events()
        if told:
            self.link.handle(told, at)
        sent = [(peer, decode_message(datagram)) for peer, datagram in self.engine.take_datagrams()]
        self.out += sent
        happened = bool(told or sent)
        if self.secure is not None:
            found = self.secure_stack.take_events()
            if found:
                self.secure_peers.handle(found, at)
            protected = self.secure_stack.take_datagrams()
            self.secure_out += protected
            happened = happened or bool(found or protected)
        for each in self.streams.values():
            happened = each.pump() or happened
        return happened

    def deadlines(self) -> list[float]:
        engines: list[Any] = [self.engine] if self.secure is None else [self.engine, self.secure_stack]
        engines += [each.engine for each in self.streams.values()]
        return [each for each in (engine.deadline() for engine in engines) if each is not None]

    def tick(self, now: float) -> None:
        self.engine.tick(now)
        if self.secure is not None:
            self.secure_stack.tick(now)
        for each in self.streams.values():
            each.engine.tick(now)

    # -- for clients --

    def feed(self, message: Message, peer: PeerId) -> None:
        """A datagram of a device without security."""
        self.engine.feed(encode_message(message), peer=peer, now=self.clock.now())
        self.settle()

    def feed_secure(self, datagram: bytes, peer: PeerId) -> None:
        """A datagram of a device behind DTLS (as `Stack.feed_secure`)."""
        self.secure_stack.feed(datagram, peer=peer, now=self.clock.now())
        self.settle()

    def take_secure(self, peer: PeerId) -> list[bytes]:
        """As `Stack.take_secure`."""
        self.settle()
        found = [datagram for to, datagram in self.secure_out if to == peer]
        self.secure_out = [each for each in self.secure_out if each[0] != peer]
        return found

    def settle(self) -> None:
        self.stack.run(self.stack._settle())

    def run(self, work: Any) -> Any:
        """As `Stack.run`."""
        return self.stack.run(work)

    async def _settle(self) -> None:
        await self.stack._settle()

    def gone(self, device: Any) -> None:
        """It was removed."""
        self._tell(self.contexts.removed, device)
        self._tell(self.bootstrapping.conversations.removed, device)

    def revoked(self, device: Any) -> None:
        """Its credentials changed."""
        self._tell(self.contexts.removed, device)
        self._tell(self.bootstrapping.conversations.revoked, device)

    def revoked_now(self, device: Any) -> None:
        """The same, where the loop runs, and of its secure sessions too (as `BootstrapServer.revoked`)."""
        self.sessions.removed(device.device_id)
        if "tls" in self.streams:
            self.streams["tls"].connections.removed(device.device_id)
        self.contexts.removed(device.device_id)
        self.bootstrapping.conversations.revoked(device.device_id)

    def _tell(self, hears: Callable[[Any], None], device: Any) -> None:
        async def tell() -> None:
            hears(device.device_id)

        self.stack.run(tell())
        self.settle()

    def calls(self, what: Callable[[], object]) -> None:
        """``what`` is called where the loop runs."""

        async def now() -> None:
            what()

        self.stack.run(now())
        self.settle()

    # -- looking inside --

    def profile(self, *servers: ServerEntry, name: str = "SCS-LwM2M", **more: Any) -> None:
        """Give the profile of the devices that bootstrap list."""
        assert self.stack.store is not None
        configuration = BootstrapConfiguration(servers, **more)
        record = ProfileRecord(self.stack.tenant_id, name, DEFAULT, WALL_MS, WALL_MS, configuration)
        self.stack.run(self.stack.store.put_profile(record))

    def sessions_of(self, device: Any) -> list[BootstrapSession]:
        """The device's history, newest first."""
        assert self.stack.store is not None
        return list(self.stack.run(self.stack.store.bootstrap_sessions(device.device_id, 100)))

    def ends_of(self, device: Any) -> list[tuple[str, str]]:
        """State and reason of each session, newest first."""
        return [(each.state.value, each.reason) for each in self.sessions_of(device)]


class Client:
    """A device that a test plays, without security. ``answers``: what it answers a step with, by method and path
    (``PUT /0/1``), where that is no success: a code, a body to answer 2.05 with, or None for silence."""

    def __init__(self, port: BootstrapPort, peer: PeerId = HOME, holds: str = EMPTY) -> None:
        self.port, self.peer, self.holds = port, peer, holds
        self.answers: dict[str, Any] = {}
        self.steps: list[str] = []
        """What it was asked, in order."""
        self.requests: list[Message] = []
        self.written: dict[str, bytes] = {}
        self._mid = 100

    def ask(self, target: str = "/bs?ep=urn:dev:os:dev1", code: int = POST, **more: Any) -> Message:
        """A request of the device; its answer."""
        self._mid += 1
        self._say(con(code, target, mid=self._mid, token=b"ask!", peer=self.peer, **more).message)
        return self._take(lambda each: each.type == ACK and each.mid == self._mid)

    def bootstrap(self, target: str = "/bs?ep=urn:dev:os:dev1") -> list[str]:
        """Ask, and do what is asked until nothing is any more; the steps."""
        answer = self.ask(target)
        assert answer.code == CHANGED, answer
        self.steps = []
        self.run()
        return self.steps

    def run(self, most: int = 100) -> None:
        """Do ``most`` steps, or what is asked."""
        while most and self._has_any():
            most -= 1
            self.react(self.next())

    def next(self) -> Message:
        """The next request of the server; it is answered with `react`, or not."""
        request = self._take()
        body = b""
        while (block := dict(request.options).get(BLOCK1)) and block[-1] & 8:
            body += request.payload
            self.reply(request, CONTINUE)
            request = self._take()
        request.payload = body + request.payload
        options = read_options(request.options)
        self.requests.append(request)
        step = f"{METHODS[request.code]} /{'/'.join(options.path)}"
        self.steps.append(step)
        if request.code == PUT:
            self.written["/" + "/".join(options.path)] = request.payload
        return request

    def react(self, request: Message) -> None:
        """Answer as ``answers`` says, with success where it says nothing."""
        step = f"{METHODS[request.code]} /{'/'.join(read_options(request.options).path)}"
        answer = self.answers.get(step, ...)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else ...
        if answer is None:
            return
        if isinstance(answer, int):
            self.reply(request, answer)
        elif isinstance(answer, bytes):
            self.reply(request, CONTENT, answer, 11542)
        elif request.code == GET:
            self.reply(request, CONTENT, self.holds.encode(), 40)
        else:
            self.reply(request, DELETED if request.code == DELETE else CHANGED)

    def reply(self, request: Message, code: int, payload: bytes = b"", content_format: int | None = None) -> None:
        block = [each for each in request.options if each[0] == BLOCK1]
        step = ack(
            code, mid=request.mid, token=request.token, payload=payload, content_format=content_format, extra=block
        )
        self._say(step.message)

    def _say(self, message: Message) -> None:
        self.port.feed(message, self.peer)

    def _take(self, is_it: Callable[[Message], bool] = lambda each: True) -> Message:
        out = self.port.out
        at = next((index for index, (to, each) in enumerate(out) if to == self.peer and is_it(each)), None)
        assert at is not None, f"nothing of the kind was sent to {self.peer}"
        return out.pop(at)[1]

    def _has_any(self) -> bool:
        pings = [each for each in self.port.out if each[0] == self.peer and not each[1].code and each[1].type == CON]
        for ping in pings:
            # An address that has not been heard yet is asked whether anybody is there.
            self.port.out.remove(ping)
            self._say(Message(RST, 0, ping[1].mid))
        return any(to == self.peer for to, _ in self.port.out)

    def hears_nothing(self) -> bool:
        self.port.settle()
        return not self._has_any()


class SecureClient(Client):
    """The same behind DTLS: ``parameters`` of `SecureDevice`."""

    def __init__(self, server: BootstrapPort, *args: Any, holds: str = EMPTY, **parameters: Any) -> None:
        super().__init__(server, holds=holds)
        self.device = SecureDevice(server, *args, **parameters)  # type: ignore[arg-type]

    def connect(self) -> "SecureClient":
        self.device.connect()
        assert self.device.session is not None, self.device.failed
        return self

    def _say(self, message: Message) -> None:
        self.device.send(message)

    def _take(self, is_it: Callable[[Message], bool] = lambda each: True) -> Message:
        self.device.pump()
        found = next(each for each in self.device.heard if is_it(each))
        self.device.heard.remove(found)
        return found

    def _has_any(self) -> bool:
        self.device.pump()
        return bool(self.device.heard)
