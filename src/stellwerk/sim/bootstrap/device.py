"""A simulated device that has no servers but those that its bootstrap server gave it.

It registers with the accounts that it has; without any, or when all of them fail it, it bootstraps (ETS int-6, int-7).
A bootstrap that fails leaves it with what it had: it registers with that again, or tries once more after a while.
"""

from collections.abc import Iterator
from typing import Final, cast

from stellwerk.coap.actions import Action, Drop, ForgetPeer, Proceed, Respond
from stellwerk.coap.codes import UNAUTHORIZED
from stellwerk.coap.events import Event, RequestFailed, RequestQuestion, RequestReceived
from stellwerk.core.ids import PeerId
from stellwerk.sim.account import Account
from stellwerk.sim.bootstrap.accounts import (
    ACCOUNT_TIMEOUT,
    HOLD_OFF,
    ServerAccount,
    keep_certificate,
    purge_bootstrap_account,
    seconds_of_account,
)
from stellwerk.sim.bootstrap.client import BootstrapClient, Configured, Failed, Outcome
from stellwerk.sim.bootstrap.contexts import UNPROTECTED
from stellwerk.sim.bootstrap.est import EstClient, Issued, NotIssued
from stellwerk.sim.bootstrap.est import Outcome as Enrolling
from stellwerk.sim.bootstrap.furnishing import furnish, refurnish
from stellwerk.sim.bootstrap.memory import Memory, memory_of, remember
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.bootstrap.orders import CloseWay, WayCounted, WayEvent, WayFailed, WayLost, WayOrder, WayUp
from stellwerk.sim.bootstrap.reaching import Reaching, Resolve
from stellwerk.sim.bootstrap.stream_ways import UNCONNECTED
from stellwerk.sim.device import Device
from stellwerk.sim.enrolment import State
from stellwerk.sim.happenings import (
    BootstrapFailed,
    Bootstrapped,
    Deregistered,
    Enrolled,
    EnrolmentFailed,
    Forgot,
    HandshakeDone,
    HandshakeFailed,
    RegistrationRefused,
    Remembered,
    SessionLost,
)
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.reactions import Effect, Reaction

_TRIGGERED_S: Final = 0.5
"""From the Execute to the Bootstrap-Request: the answer to the former is on its way by then."""

_LINGER_S: Final = 93.0
"""MAX_TRANSMIT_WAIT: so long a Finish may still be repeated, so the session with the bootstrap server stays."""

_STREAM_LINGER_S: Final = 5.0
"""The same of a connection, where nothing is repeated."""

_SPREAD: Final = 0.2
_TIMED_OUT: Final = "timeout"


class BootstrapDevice(Device):
    """``server`` is its bootstrap server as a peer, over whatever transport; its actions are those of `ways.Ways`.
    ``resolve`` finds the servers that it is given; ``memory`` is what it keeps from an earlier life. Raises as
    `Device`, and `BadMemory`."""

    __slots__ = ("_bootstrap", "_client", "_close_at", "_est", "_expires_at", "_failed", "_on", "_reaching")

    def __init__(
        self,
        options: DeviceOptions,
        server: PeerId,
        *,
        bootstrap: BootstrapOptions,
        utc_offset_s: float,
        handles: Iterator[int],
        resolve: Resolve,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(options, server, utc_offset_s=utc_offset_s, handles=handles)
        self.accounts = ()
        self._bootstrap = bootstrap
        self._reaching = Reaching(options.endpoint_name, self.tree, bootstrap, server, resolve, self.strike_handshake)
        self._client = BootstrapClient(self._body, bootstrap, server)
        self._est = EstClient(self._body, bootstrap, server)
        self._failed = 0
        self._on = False
        self._expires_at: float | None = None
        self._close_at: float | None = None
        furnish(self._body, self._bootstrap)
        if memory is not None:
            self._recall(memory)

    # -- from outside --

    def start(self, now: float) -> None:
        """Register with the accounts that there are, or bootstrap."""
        self._on = True
        self._arm_expiry(now)
        self._reaching.open_home()
        self._client.server = self._est.server = self.server
        self._go(now)
        super().start(now)

    def stop(self, now: float) -> None:
        """De-register where registered, then be quiet."""
        if self._client.is_on:
            self._client.abandon()
        self._est.abandon()
        self._on, self._expires_at, self._close_at = False, None, None
        if self._account_of(self.server) is None:
            self._reaching.close(self.server)
        super().stop(now)
        self._close_left()

    def move(self, server: PeerId, *, unnoticed: bool = False) -> None:
        self._reaching.move((server.local_host, server.local_port))
        self._client.server = self._est.server = self.server
        super().move(server, unnoticed=unnoticed)

    def renew(self, now: float) -> None:
        """Ask for another certificate now, where it enrolled for the one that it has."""
        if (
            any(each.enrols and not each.lacks_certificate for each in self._reaching.found())
            and not self._client.is_on
        ):
            self._est.begin("sren", now)
            self.tick(now)

    def memory(self) -> Memory:
        """What it keeps across restarts."""
        return memory_of(self.tree, self.options.endpoint_name, self._reaching.contexts.ceilings())

    @property
    def server(self) -> PeerId:
        """Its bootstrap server."""
        return self._reaching.home

    @property
    def state(self) -> State:
        """Where it stands with the first of its servers; `State.WAITING` before it has any."""
        if self.accounts:
            return super().state
        return State.WAITING if self._on else State.OFF

    @property
    def is_registered(self) -> bool:
        return bool(self.accounts) and super().is_registered

    @property
    def is_bootstrapping(self) -> bool:
        """Whether a session with the bootstrap server has begun."""
        return self._client.is_under_way

    @property
    def location(self) -> str:
        return super().location if self.accounts else ""

    @property
    def faults_committed(self) -> int:
        return super().faults_committed + self._client.faults_committed + self._est.faults_committed

    def is_listening(self, now: float) -> bool:
        if self._down_until is not None and now < self._down_until:
            return False
        expects = self._client.is_on or self._est.is_under_way or not self.accounts
        return expects or super().is_listening(now)

    def take_actions(self) -> list[Action]:
        """What to submit to the ways."""
        # A way is there before what is said over it.
        orders = cast("list[Action]", self._reaching.take_orders())
        return [*orders, *self._client.take_actions(), *self._est.take_actions(), *super().take_actions()]

    # -- time --

    def deadline(self) -> float | None:
        if self._down_until is not None:
            return self._down_until
        times = [self._client.deadline(), self._close_at, self._expires_at]
        if not self._client.is_under_way:
            times += (super().deadline(), self._est.deadline())
        return min((each for each in times if each is not None), default=None)

    def tick(self, now: float) -> None:
        if self._down_until is not None and now < self._down_until:
            return
        if self._close_at is not None and self._close_at <= now:
            self._close_at = None
            if self._est.is_under_way:
                self._close_at = now + _LINGER_S
            elif not self._client.is_on:
                self._reaching.drop(self.server, tells=True)
        if self._expires_at is not None and self._expires_at <= now:
            self._expire()
        self._conclude(self._client.tick(now), now)
        if self._client.is_under_way:
            # While it bootstraps it does nothing for the servers that it has.
            self._down_until = None
            return
        has_home = self._reaching.home_account is not None
        self._conclude_enrolment(self._est.tick(now, may_ask=has_home), now)
        super().tick(now)
        self._follow_failures(now)

    @property
    def _is_on(self) -> bool:
        return self._on and not self.is_leaving

    # -- events --

    def handle(self, event: Event | WayEvent, now: float) -> None:
        """React to an event of the ways that concerns the bootstrap server or one of the others."""
        if isinstance(event, RequestFailed) and event.reason == UNPROTECTED:
            self._reaching.lose_context(event.peer)
        if isinstance(event, WayCounted):
            if self._reaching.contexts.count(event):
                self._body.tell(Remembered(self.options.endpoint_name))
        elif isinstance(event, WayUp | WayFailed | WayLost):
            self._hear_of_way(event, now)
        elif self._est.is_about(event):
            self._conclude_enrolment(self._est.handle(event, now), now)
            self._doubt(event)
        elif self._is_home(event.peer):
            self._conclude(self._client.handle(event, now), now)
            if self._client.restarts:
                self._client.restarts = False
                self._reboot(now)
            if self._client.closes:
                self._client.closes = False
                self._conclude(self._client.lose("lost", "the device closed it, as it was asked to"), now)
        elif self._client.is_under_way:
            if isinstance(event, RequestReceived):
                # Transport 1.2.2 6.4.2: whatever does not belong to the bootstrap may be ignored meanwhile.
                known = self._account_of(event.peer) is not None
                refusal = Respond(event.exchange, UNAUTHORIZED) if known else Drop(event.exchange)
                self._actions.append(refusal)
            elif isinstance(event, RequestQuestion):
                self._actions.append(Proceed(event.exchange))
        else:
            super().handle(event, now)
            self._doubt(event)
        self._follow_failures(now)
        self._close_left()

    def _doubt(self, event: Event) -> None:
        """The server may have lost the session or connection, or the way back to here."""
        if isinstance(event, RequestFailed) and event.reason == _TIMED_OUT and event.peer.carrier != "udp":
            self._reaching.drop(event.peer)

    def _close_left(self) -> None:
        """It has left, and says so to the DTLS engines of its servers too."""
        for each in self.accounts if not self._on else ():
            if each.enrolment.state is State.OFF and each.server.transport != "udp":
                self._reaching.close(each.server)

    def _account_of(self, peer: PeerId) -> Account | None:
        # A bootstrap device with one account alone is spoken to by its bootstrap server too.
        return next((each for each in self.accounts if each.is_of == (peer.remote_host, peer.remote_port)), None)

    def _is_home(self, peer: PeerId) -> bool:
        if (peer.remote_host, peer.remote_port) != (self.server.remote_host, self.server.remote_port):
            return False
        # The same address may be both servers; then it is the other one's unless the device bootstraps.
        return self._client.is_on or self._account_of(peer) is None

    def _hear_of_way(self, event: WayUp | WayFailed | WayLost, now: float) -> None:
        name = self.options.endpoint_name
        home, account = self._is_home(event.peer), self._account_of(event.peer)
        if isinstance(event, WayUp):
            self._body.tell(HandshakeDone(name, event.suite, event.has_cid))
        elif isinstance(event, WayFailed):
            if event.peer.carrier != "tcp":
                self._body.tell(HandshakeFailed(name, event.reason, event.detail))
            if home:
                failure = "handshake" if event.reason != UNCONNECTED and event.peer.carrier != "tcp" else UNCONNECTED
                self._lose_home(failure, f"{event.reason}: {event.detail}", now)
            elif account is not None:
                leaving = account.enrolment.state is State.LEAVING
                account.fail(event.reason, now)
                if leaving:
                    self._body.tell(Deregistered(name))
        elif home:
            self._body.tell(SessionLost(name, event.reason, event.detail))
            self._lose_home("lost", f"{event.reason}: {event.detail}", now)
        elif account is not None:
            self._body.tell(SessionLost(name, event.reason, event.detail))
            account.lose(now, connection=event.peer.is_connection)
            self.tick(now)

    def _lose_home(self, reason: str, detail: str, now: float) -> None:
        self._conclude(self._client.lose(reason, detail), now)
        self._conclude_enrolment(self._est.lose(reason, detail, now), now)

    # -- bootstrapping --

    def _go(self, now: float) -> None:
        """Register with what there is, or bootstrap."""
        if not self._register(now):
            self._begin(now, now)

    def _register(self, at: float) -> bool:
        """Register at ``at`` with what there is, if anything; whether there was."""
        found = self._reaching.found()
        return bool(found) and self._adopt(found, at)

    def _begin(self, at: float, now: float) -> None:
        """Bootstrap from ``at`` on."""
        if self._reaching.home_account is None:
            self._fail(Failed("no-account", "the device has no account of a bootstrap server"), now)
            return
        self._close_at = None
        self._est.abandon()
        # Not before: what it was given last is finished over the way that it came.
        self._reaching.open_home_anew()
        self._client.server = self._est.server = self.server
        self._client.begin(at, seconds_of_account(self.tree, HOLD_OFF))
        if at <= now:
            self._conclude(self._client.tick(now), now)

    def _conclude(self, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Configured):
            if self.server.carrier != "udp":
                linger_s = _LINGER_S if self.server.carrier == "dtls" else _STREAM_LINGER_S
                self._close_at = now + linger_s
            self._failed = 0
            self._arm_expiry(now)
            if self._adopt(outcome.accounts, now):
                uris = tuple(each.uri for each in outcome.accounts)
                self._body.tell(Bootstrapped(self.options.endpoint_name, uris))
            else:
                self._fail(Failed("unreachable", "none of the servers that it was given can be spoken to"), now)
        elif isinstance(outcome, Failed):
            self._reaching.drop(self.server, tells=True)
            self._fail(outcome, now)

    def _fail(self, failed: Failed, now: float) -> None:
        self._body.tell(BootstrapFailed(self.options.endpoint_name, failed.reason, failed.detail))
        self._failed += 1
        pause = self.options.patience.pause_after(self._failed) * (1 + _SPREAD * self._body.random.random())
        # It has what it had, and goes on from there; where that was of no use either, after a while.
        registered = any(each.enrolment.is_registered for each in self.accounts)
        if not self._register(now if registered else now + pause) and failed.reason != "no-account":
            self._begin(now + pause, now)

    def _follow_failures(self, now: float) -> None:
        """When none of its servers takes it, it asks for others (ETS int-7)."""
        if self._client.is_on or not self._is_on:
            return
        failures = [0 if each.enrolment.is_registered else each.enrolment.failures for each in self.accounts]
        if self._est.is_needed:
            failures.append(self._est.failures)
        if min(failures, default=0) >= self._bootstrap.failures and self._reaching.home_account:
            self._begin(now, now)

    def _adopt(self, accounts: tuple[ServerAccount, ...], at: float) -> bool:
        """Register with ``accounts`` at ``at``, and with nobody else. Whether there is one that can be spoken to."""
        self._est.serve(accounts, at)
        ways = [(each, self._reaching.peer_of(each)) for each in accounts if not each.lacks_certificate]
        reached = [(account, peer) for account, peer in ways if peer is not None]
        for account, peer in ways:
            if peer is None:
                why = f"no way to {account.uri}"
                self._body.tell(RegistrationRefused(self.options.endpoint_name, why))
        self._leave_accounts()
        for account, peer in reached:
            self._add(account, peer, at)
        return bool(reached) or self._est.is_needed

    def _add(self, account: ServerAccount, peer: PeerId, at: float) -> None:
        self._reaching.open(account, peer)
        added = Account(self._body, peer, account.number, account.short_id)
        added.start(at)
        self.accounts = (*self.accounts, added)

    def _leave_accounts(self, *, answered: bool = False) -> None:
        """Speak with no server any more but the bootstrap server; none of them is told. ``answered``: once what they
        asked is."""
        for each in self.accounts:
            if answered:
                self._actions += each.take_actions()
            self._actions.append(ForgetPeer(each.server))
            if each.server.transport != "udp":
                if answered:
                    cast("list[WayOrder]", self._actions).append(CloseWay(each.server))
                else:
                    self._reaching.close(each.server)
        self.accounts = ()

    # -- enrolling --

    def _conclude_enrolment(self, outcome: Enrolling, now: float) -> None:
        name = self.options.endpoint_name
        if isinstance(outcome, NotIssued):
            self._body.tell(EnrolmentFailed(name, outcome.reason, outcome.detail))
        elif isinstance(outcome, Issued):
            keep_certificate(self.tree, outcome.certificate)
            self._body.tell(Enrolled(name, outcome.function))
            self._close_at = now + _LINGER_S
            found = self._reaching.found()
            self._est.serve(found, now)
            for account in found:
                if account.enrols:
                    self._use_certificate(account, now)
        if self._est.restarts:
            self._est.restarts = False
            self._reboot(now)

    def _use_certificate(self, account: ServerAccount, now: float) -> None:
        """Register with ``account`` in a session that its new certificate makes."""
        peer = self._reaching.peer_of(account)
        before = next((each for each in self.accounts if each.number == account.number), None)
        if peer is None:
            self._body.tell(RegistrationRefused(self.options.endpoint_name, f"no way to {account.uri}"))
        elif before is None:
            self._add(account, peer, now)
        else:
            self._reaching.open(account, peer)
            before.interrupt(now)
            before.enrolment.start(now)

    # -- what it has --

    def _recall(self, memory: Memory) -> None:
        where = f"the state of {self.options.endpoint_name}"
        instances, ceilings = remember(memory, where)
        if self._bootstrap.is_bootstrap:
            refurnish(self._body, instances)
        self._reaching.recall(ceilings)

    def _arm_expiry(self, now: float) -> None:
        """Core 1.2.2 E.1: the account of the bootstrap server is purged so long after a bootstrap."""
        seconds = seconds_of_account(self.tree, ACCOUNT_TIMEOUT)
        self._expires_at = now + seconds if seconds and self._reaching.found() else None

    def _expire(self) -> None:
        self._expires_at = None
        if not self._client.is_on:
            purge_bootstrap_account(self.tree)
            self._body.tell(Forgot(self.options.endpoint_name))

    # -- what follows from requests --

    def _react(self, reaction: Reaction, now: float) -> None:
        if reaction.effect is Effect.BOOTSTRAP:
            if not self._client.is_on and self._bootstrap.is_bootstrap:
                self._begin(now + _TRIGGERED_S, now)
            return
        super()._react(reaction, now)
        if reaction.effect is Effect.FACTORY_RESET:
            furnish(self._body, self._bootstrap)
            self._body.tell(Forgot(self.options.endpoint_name))
            if self._bootstrap.is_bootstrap:
                self._leave_accounts(answered=True)
                self._begin(self._down_until or now, now)

    def _reboot(self, now: float) -> None:
        if not self._is_on:
            return
        bootstrapping = self._client.is_on
        if bootstrapping:
            if self._client.is_under_way:
                self._body.tell(BootstrapFailed(self.options.endpoint_name, "restarted", "in the middle"))
            self._client.abandon()
        super()._reboot(now)
        if self._est.is_on:
            # A key that has no certificate is forgotten.
            self._est.serve(self._reaching.found(), self._down_until or now)
        # The sessions are gone with the device's memory, and its servers hear nothing of that.
        for peer in (self.server, *(each.server for each in self.accounts)):
            if peer.carrier != "udp":
                self._reaching.drop(peer)
        self._actions.append(ForgetPeer(self.server))
        if bootstrapping and not self.accounts:
            self._begin(self._down_until or now, now)
