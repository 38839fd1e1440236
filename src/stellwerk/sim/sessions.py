"""The secure sessions of simulated devices: an engine of six verbs around a `net.secure.SecureStack`.

Below it datagrams come to the devices' own addresses; above it devices speak to peers that are sessions. A device is
not started before its first handshake is complete. It does nothing while it has no session: what is due waits until it
has another, and so does a sleeper that resumes when it wakes up.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final, cast

from stellwerk.coap.actions import Action, SendNotification, SendRequest
from stellwerk.coap.events import Event
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timers
from stellwerk.dtls import events
from stellwerk.dtls.actions import (
    AcceptPeer,
    CloseSession,
    Connect,
    MoveSession,
    NoSession,
    RefusePeer,
)
from stellwerk.dtls.actions import Action as DtlsAction
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import Limits
from stellwerk.dtls.suites import suite_name
from stellwerk.net.driver import Engine
from stellwerk.net.secure import SECURE_EVENTS, DtlsEvent, SecureEvent, SecureStack
from stellwerk.sim.device import Device
from stellwerk.sim.enrolment import State
from stellwerk.sim.happenings import (
    Deregistered,
    HandshakeDone,
    HandshakeFailed,
    Happening,
    Rebooted,
    Registered,
    RegistrationRefused,
    Resumed,
    SendEnded,
    Served,
    SessionLost,
    Updated,
)
from stellwerk.sim.links import Link, Local, Stage
from stellwerk.sim.population import Leave, Move, Order, Start, Stop
from stellwerk.sim.secure_population import SecurePopulation
from stellwerk.sim.security import AfterHandshake, Credentials, Security, client_parameters
from stellwerk.sim.trust import judge_server

_TIMED_OUT: Final = "timeout"
_SPREAD: Final = 0.05
_ROOM: Final = 64
_HELD: Final = 16
"""Notifications that wait for a session; of more, the newest are kept."""


@dataclass(frozen=True, slots=True)
class Join:
    """Let ``device`` take part: connect, then register."""

    device: Device
    credentials: Credentials = field(repr=False)


class SecureDevices:
    """Runs ``population`` over secure sessions of ``dtls``, a DTLS engine in the client's role. ``utc_offset_s`` turns
    monotonic seconds into UTC seconds since 1970. `take_events` gives what happened to the devices."""

    def __init__(
        self,
        engine: Engine[Event, Action],
        dtls: Engine[DtlsEvent, DtlsAction],
        security: Security,
        *,
        entropy: Entropy,
        utc_offset_s: float,
    ) -> None:
        self.population = SecurePopulation(engine, self._may_act, self._let_out)
        self.dropped: Counter[str] = Counter()
        """Datagrams and records that led to nothing, by reason."""
        self._stack: SecureStack[Happening, Order] = SecureStack(dtls, self.population)
        self._security = security
        self._entropy = entropy
        self._utc_offset_s = utc_offset_s
        self._timers = Timers()
        self._random = Random(int.from_bytes(entropy.take(4), "big"))
        self._by_local: dict[Local, Link] = {}
        self._by_session: dict[str, Link] = {}
        self._by_name: dict[str, Link] = {}
        self._wanted: list[Link] = []
        self._happenings: list[Happening] = []

    @property
    def leaving(self) -> int:
        """How many devices that are registered need a session before they can leave."""
        return sum(each.stopping and each.stage is not Stage.UP for each in self._by_name.values())

    # -- the six verbs --

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        link = self._by_local.get((peer.local_host, peer.local_port))
        # Whoever is in the middle of a handshake listens; and what a radio that is off does not hear, no engine hears.
        if link is not None and (link.stage is Stage.CONNECTING or link.device.is_listening(now)):
            self._stack.feed(datagram, peer=peer, now=now)
            self._run(now)

    def tick(self, now: float) -> None:
        self._timers.fire_due(now)
        self._stack.tick(now)
        self._run(now)

    def submit(self, action: Order | Join, now: float) -> None:
        if isinstance(action, Join):
            link = Link(action.device, action.credentials, self._connect)
            link.starting = True
            self._by_local[link.local] = self._by_name[action.device.options.endpoint_name] = link
            self._connect(link, now)
        else:
            link = self._link_of(action.device)
            if isinstance(action, Stop):
                self._stop(link, now)
            elif isinstance(action, Move):
                self._move(link, action.server, now)
            elif isinstance(action, Leave):
                self._forget(link, now)
            elif not link.starting:
                self._stack.submit(action, now)
        self._run(now)

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        return self._stack.take_datagrams()

    def take_events(self) -> list[Happening]:
        happenings, self._happenings = self._happenings, []
        return happenings

    def deadline(self) -> float | None:
        due, deadline = self._timers.next_due(), self._stack.deadline()
        if deadline is not None and deadline < due:
            return deadline
        return due if due != float("inf") else None

    # -- what devices want --

    def _may_act(self, device: Device, now: float) -> bool:
        link = self._link_of(device)
        if link.stage is Stage.UP:
            # What a sleeper resumes it does not keep while its radio is off; it may still measure meanwhile.
            link.is_stale = link.is_stale or (self._security.resume is not None and not device.is_awake(now))
            return True
        if link.stage is Stage.DOWN:
            self._wanted.append(link)
        return False

    def _let_out(self, device: Device, actions: list[Action], now: float) -> list[Action]:
        link = self._link_of(device)
        if not link.is_stale or not any(isinstance(each, SendRequest | SendNotification) for each in actions):
            return actions
        # Before it says anything it resumes. Requests are made again then, notifications wait.
        notifications = [each for each in actions if isinstance(each, SendNotification)]
        link.held = [*link.held, *notifications][-_HELD:]
        device.interrupt(now)
        if link.stage is Stage.UP:
            link.stage = Stage.DOWN
            self._wanted.append(link)
        rest = [each for each in actions if not isinstance(each, SendRequest | SendNotification)]
        return rest + device.take_actions()

    def _stop(self, link: Link, now: float) -> None:
        link.is_stale = False
        if link.stage is Stage.UP and not link.starting:
            self._stack.submit(Stop(link.device), now)
            if not link.device.is_leaving:
                self._close(link, now)
        elif link.device.is_registered:
            link.stopping = True
            if link.stage is not Stage.CONNECTING:
                self._connect(link, now)
        else:
            if not link.starting:
                self._stack.submit(Stop(link.device), now)
            self._forget(link, now)

    def _move(self, link: Link, server: PeerId, now: float) -> None:
        del self._by_local[link.local]
        link.address = link.address._replace(local_host=server.local_host, local_port=server.local_port)
        self._by_local[link.local] = link
        if link.session is not None:
            self._stack.submit(MoveSession(link.session, link.address), now)
        if link.stage is Stage.CONNECTING:
            # The answers go to the old address.
            self._connect(link, now)

    def _forget(self, link: Link, now: float) -> None:
        self._timers.cancel(link)
        if not link.starting:
            self._stack.submit(Leave(link.device), now)
        self._end(link)
        self._by_local.pop(link.local, None)

    # -- handshakes --

    def _connect(self, link: Link, now: float) -> None:
        self._timers.cancel(link)
        self._end(link)
        link.stage = Stage.CONNECTING
        device, security = link.device, self._security
        name, fault = device.options.endpoint_name, device.strike_handshake()
        parameters = client_parameters(security, link.credentials, name, fault, self._entropy)
        # Who resumes shows no credentials, so nothing could be wrong with them.
        resume = link.state if security.resume is not None and fault is None else None
        self._stack.submit(Connect(link.address, parameters, resume), now)

    def _established(self, event: events.SessionEstablished, now: float) -> None:
        link = self._connecting_at(event.address)
        if link is None:
            return
        link.stage, link.session, link.is_of_use, link.is_stale = Stage.UP, event.peer, False, False
        self._by_session[event.peer.remote_host] = link
        self.population.heard.add(event.peer.remote_host)
        device, name = link.device, link.device.options.endpoint_name
        happening = HandshakeDone if event.resumed is None else Resumed
        self._happenings.append(happening(name, suite_name(event.suite), event.has_cid))
        if link.starting:
            link.starting = False
            self.population.rebind(device, event.peer)
            self._stack.submit(Start(device), now)
        else:
            device.interrupt(now)
            self.population.rebind(device, event.peer)
            if link.stopping:
                self._stack.submit(Stop(device), now)
                return
            if event.resumed is None:
                self._follow(device, now)
            self._tell_held(link, now)
            self.population.wake(device, now)

    def _tell_held(self, link: Link, now: float) -> None:
        held, link.held = link.held, []
        if link.device.is_registered:
            self.population.tell(held, link.device.server, now)

    def _follow(self, device: Device, now: float) -> None:
        """What a full handshake means to a device that is registered (contract §2.2)."""
        rule = self._security.after_handshake
        for each in device.accounts:
            if not each.enrolment.is_registered:
                continue
            if rule is AfterHandshake.REGISTER:
                each.enrolment.start(now)
            elif rule is AfterHandshake.UPDATE:
                each.enrolment.ask_update(now)

    def _failed(self, event: events.HandshakeFailed, now: float) -> None:
        link = self._connecting_at(event.address)
        if link is None:
            return
        self._happenings.append(HandshakeFailed(link.device.options.endpoint_name, event.reason, event.detail))
        link.failures += 1
        if link.stopping:
            self._give_up(link, now)
            return
        if event.reason != _TIMED_OUT:
            # What the server did not take is not offered again.
            link.state = None
        self._pause(link, link.device.options.patience.pause_after(link.failures), now)

    def _give_up(self, link: Link, now: float) -> None:
        """It leaves, and cannot say so."""
        link.stopping = False
        self._happenings.append(Deregistered(link.device.options.endpoint_name))
        self._forget(link, now)

    # -- the end of sessions --

    def _ended(self, event: events.SessionEnded, now: float) -> None:
        link = self._by_session.get(event.peer.remote_host)
        if link is None or link.session != event.peer:
            return
        if event.reason != "close-notify":
            # RFC 5246 7.2.2: what ended with a fatal alert must not be resumed.
            link.state = None
        self._lose(link, event.reason, event.detail, now)

    def _lose(self, link: Link, reason: str, detail: str, now: float) -> None:
        """The session is of no use any more; another one is wanted."""
        self._end(link)
        link.stage = Stage.DOWN
        device = link.device
        self._happenings.append(SessionLost(device.options.endpoint_name, reason, detail))
        leaves = device.is_leaving
        device.interrupt(now)
        self.population.settle(device, now)
        if leaves:
            self._forget(link, now)
        elif device.state is not State.OFF:
            # The successor of one that was of use comes at once; a server that ends them all gets fewer and fewer.
            link.failures += not link.is_of_use
            self._pause(link, device.options.patience.pause_after(link.failures) if link.failures else 0.0, now)

    def _pause(self, link: Link, seconds: float, now: float) -> None:
        link.stage = Stage.PAUSING
        # Not all devices of a fleet at once.
        self._timers.arm(link, now + seconds * (1 + _SPREAD * self._random.random()))

    def _end(self, link: Link) -> None:
        """Its session carries nothing to it any more."""
        if link.session is not None:
            self._by_session.pop(link.session.remote_host, None)
            self.population.heard.discard(link.session.remote_host)

    def _close(self, link: Link, now: float) -> None:
        """It has left, and says so to the DTLS engine of its server too."""
        if link.session is not None and link.stage is Stage.UP:
            self._end(link)
            self._stack.submit(CloseSession(link.session), now)
            link.session = None
        link.stage, link.stopping = Stage.DOWN, False
        self._timers.cancel(link)

    # -- inside --

    def _run(self, now: float) -> None:
        while True:
            happened = self._stack.take_events()
            for event in happened:
                if type(event) in SECURE_EVENTS:
                    self._hear(cast(SecureEvent, event), now)
                else:
                    self._happenings.append(cast(Happening, event))
                    self._note(cast(Happening, event), now)
            wanted, self._wanted = self._wanted, []
            for link in wanted:
                if link.stage is not Stage.CONNECTING:
                    self._connect(link, now)
            if not happened and not wanted:
                return

    def _hear(self, event: SecureEvent, now: float) -> None:
        if isinstance(event, events.SessionEstablished):
            self._established(event, now)
        elif isinstance(event, events.HandshakeFailed):
            self._failed(event, now)
        elif isinstance(event, events.SessionEnded):
            self._ended(event, now)
        elif isinstance(event, events.SessionState):
            self._keep(event)
        elif isinstance(event, events.CertificateQuestion):
            at = datetime.fromtimestamp(now + self._utc_offset_s, UTC)
            refusal = judge_server(self._security, event.identity, at)
            answer = AcceptPeer(event.handshake) if refusal is None else RefusePeer(event.handshake, *refusal)
            self._stack.submit(answer, now)
        elif isinstance(event, events.SessionQuestion):
            self._stack.submit(NoSession(event.question), now)
        elif isinstance(event, events.Dropped):
            self.dropped[event.reason] += 1

    def _keep(self, event: events.SessionState) -> None:
        link = self._by_session.get(event.peer.remote_host)
        if link is not None and self._security.resume is not None:
            link.state = event.state

    def _note(self, happening: Happening, now: float) -> None:
        """What happens to a device may concern its session."""
        if isinstance(happening, Rebooted):
            # The session is gone with the device's memory, and its server hears nothing of that.
            link = self._by_name[happening.endpoint_name]
            self._end(link)
            link.stage, link.failures = Stage.DOWN, 0
            self._timers.cancel(link)
        elif isinstance(happening, Deregistered):
            link = self._by_name[happening.endpoint_name]
            if not link.device.is_leaving:
                self._close(link, now)
        elif (isinstance(happening, RegistrationRefused) and happening.reason == _TIMED_OUT) or (
            isinstance(happening, SendEnded) and happening.code is None
        ):
            link = self._by_name[happening.endpoint_name]
            if link.stage is Stage.UP:
                # The server may have lost the session, or the way back to here.
                self._lose(link, _TIMED_OUT, "the server answers nothing in this session any more", now)
        elif isinstance(happening, Registered | Updated | Served):
            link = self._by_name[happening.endpoint_name]
            link.is_of_use, link.failures = True, 0

    def _connecting_at(self, address: PeerId) -> Link | None:
        link = self._by_local.get((address.local_host, address.local_port))
        return link if link is not None and link.stage is Stage.CONNECTING else None

    def _link_of(self, device: Device) -> Link:
        return self._by_name[device.options.endpoint_name]


def client_endpoint(security: Security, count: int, entropy: Entropy) -> Endpoint:
    """The DTLS engine of ``count`` devices."""
    limits = Limits(
        # A session that a reboot left behind is there until its successor is.
        sessions=4 * count + _ROOM,
        half_open=count + _ROOM,
        half_open_per_address=count + _ROOM,
        handshake_s=security.handshake_s,
    )
    return Endpoint(entropy, limits=limits)
