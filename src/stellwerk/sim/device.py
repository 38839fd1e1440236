"""A simulated LwM2M device as a value: events of its CoAP engine and time in, actions out.

`Device` is the whole client: its objects and its radio (`body`), an `account.Account` for each of its servers, and
what happens to all of it at once: restarts, end devices that come and go, faults. Whoever runs it (`population`) feeds
it and submits what it wants.
"""

from collections.abc import Iterator
from typing import Final

from stellwerk.coap.actions import Action, Drop, Proceed
from stellwerk.coap.events import Event, RequestQuestion, RequestReceived
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.account import Account
from stellwerk.sim.body import Body
from stellwerk.sim.enrolment import State
from stellwerk.sim.faults import Fault, FaultKind
from stellwerk.sim.gateway import GATEWAY
from stellwerk.sim.happenings import Happening, Moved, Rebooted, Served
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.reactions import Effect, Reaction
from stellwerk.sim.serving import Service
from stellwerk.sim.tree import ObjectTree

_REBOOT_S: Final = 1.5
_BEARER_S: Final = 1.0
"""What it takes to speak over another bearer."""


class Device:
    """One client at one address. ``utc_offset_s`` turns monotonic seconds into UTC seconds since 1970.

    ``handles`` gives numbers that are unique within the engine it runs on; ``server`` is the first server as a peer of
    the device, whose own address is the local one, and ``others`` those of its further accounts. Raises
    `InvalidFormats`, `UnknownObject`.
    """

    __slots__ = ("_actions", "_body", "_down_until", "accounts")

    def __init__(
        self,
        options: DeviceOptions,
        server: PeerId,
        *,
        utc_offset_s: float,
        handles: Iterator[int],
        others: tuple[PeerId, ...] = (),
    ) -> None:
        self._body = Body(options, server.local_host, utc_offset_s, handles)
        self.accounts = tuple(Account(self._body, each, number) for number, each in enumerate((server, *others)))
        self._actions: list[Action] = []
        self._down_until: float | None = None

    # -- from outside --

    def start(self, now: float) -> None:
        """Register now."""
        for each in self.accounts:
            each.start(now)
        if self._body.faults is not None:
            self._body.faults.start(now)
        if self._body.gateway is not None:
            self._body.gateway.start(now)
        self.tick(now)

    def stop(self, now: float) -> None:
        """De-register where registered, then be quiet."""
        self._down_until = None
        if self._body.faults is not None:
            self._body.faults.stop()
        if self._body.gateway is not None:
            self._body.gateway.stop()
        for each in self.accounts:
            each.stop(now)

    def trigger_update(self, now: float) -> None:
        """Send an Update as soon as possible."""
        for each in self.accounts:
            each.enrolment.ask_update(now)
        self.tick(now)

    def change(self, path: Path, value: object, now: float) -> None:
        """``path`` has another value from inside; whoever observes it is told."""
        self.tree.put(path, value)  # type: ignore[arg-type]
        self._touch((path,))
        self.tick(now)

    def send(self, paths: tuple[Path, ...], now: float) -> None:
        """Send what is at ``paths`` now, unless muted. Raises `Denied` for what cannot be read."""
        for each in self.accounts:
            each.add_to_send(paths, now)
            each.send(now)

    def move(self, server: PeerId, *, unnoticed: bool = False) -> None:
        """Speak from the local address in ``server`` from now on; relations stay behind at the old one, unless the
        device does not notice."""
        for each in self.accounts:
            peer = each.server._replace(local_host=server.local_host, local_port=server.local_port)
            each.move(peer, unnoticed=unnoticed)
        if not unnoticed:
            self.tree.put(objects.IP_ADDRESSES, {0: server.local_host})

    def reach(self, server: PeerId) -> None:
        """Speak to its first server as the peer ``server`` from now on; it is the same server."""
        self.accounts[0].move(server, unnoticed=True)

    def interrupt(self, now: float) -> None:
        """The way to its servers broke down; nothing that is under way will be answered."""
        for each in self.accounts:
            each.interrupt(now)

    def strike_handshake(self) -> FaultKind | None:
        """What befalls a handshake that begins, if anything."""
        return None if self._body.faults is None else self._body.faults.strike_handshake()

    @property
    def options(self) -> DeviceOptions:
        return self._body.options

    @property
    def server(self) -> PeerId:
        """Its first server."""
        return self.accounts[0].server

    @property
    def tree(self) -> ObjectTree:
        """Its own objects."""
        return self._body.tree

    @property
    def end_devices(self) -> tuple[str, ...]:
        """The prefixes of those that are behind it."""
        return tuple(self._body.gateway.present) if self._body.gateway is not None else ()

    @property
    def state(self) -> State:
        """Where it stands with its first server."""
        return self.accounts[0].enrolment.state

    @property
    def is_registered(self) -> bool:
        """Whether all its servers know it, as far as it knows."""
        return all(each.enrolment.is_registered for each in self.accounts)

    @property
    def is_leaving(self) -> bool:
        """Whether a De-register has no answer yet."""
        return self.leaving > 0

    @property
    def leaving(self) -> int:
        """How many De-registers have no answer yet."""
        return sum(each.enrolment.state in (State.LEAVING, State.WITHDRAWING) for each in self.accounts)

    @property
    def location(self) -> str:
        """The path of its registration with its first server, ``rd/k7x``."""
        return "/".join(self.accounts[0].enrolment.location)

    @property
    def faults_committed(self) -> int:
        return self._body.faults.committed if self._body.faults is not None else 0

    @property
    def observed_paths(self) -> tuple[Path, ...]:
        """What its servers watch of its own objects; a composite is the root."""
        return tuple(path for each in self.accounts for path in each.observed_paths)

    def is_listening(self, now: float) -> bool:
        """Whether its radio is on: a datagram that arrives while it is off never existed for the device."""
        if self._down_until is not None and now < self._down_until:
            return False
        if all(each.is_silent(now) for each in self.accounts):
            return False
        return self._body.is_awake(now) or any(each.is_waited_for for each in self.accounts)

    def is_awake(self, now: float) -> bool:
        """Whether its radio is on by itself, whatever it waits for: one that sleeps wakes up when it does something."""
        return self._body.is_awake(now)

    def take_actions(self) -> list[Action]:
        """What to submit to the engine."""
        actions, self._actions = self._actions, []
        for each in self.accounts:
            actions += each.take_actions()
        return actions

    def take_happenings(self) -> list[Happening]:
        """What happened, for whoever counts or logs it."""
        happenings, self._body.happenings = self._body.happenings, []
        return happenings

    # -- time --

    def deadline(self) -> float | None:
        """When to tick next; None when nothing is planned."""
        if self._down_until is not None:
            return self._down_until
        times = [each.deadline() for each in self.accounts]
        if self._is_on:
            body = self._body
            times.append(body.faults.deadline() if body.faults is not None else None)
            times.append(body.gateway.deadline() if body.gateway is not None else None)
            installing = body.reactions.deadline()
            times.append(None if installing is None else installing - body.utc_offset_s)
        return min((each for each in times if each is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._down_until is not None:
            if now < self._down_until:
                return
            self._down_until = None
        for each in self.accounts:
            each.take_late(now)
        if self._is_on and not self._go_on(now):
            return
        for each in self.accounts:
            each.tick(now)

    @property
    def _is_on(self) -> bool:
        return self.state is not State.OFF and not self.is_leaving

    def _go_on(self, now: float) -> bool:
        """What comes by time alone. Whether the device is still up."""
        body = self._body
        for fault in body.faults.take_due(now) if body.faults is not None else ():
            self._befall(fault, now)
        if body.gateway is not None and body.gateway.take_due(now):
            self._follow_gateway(now)
        installing = body.reactions.deadline()
        # The same sum as in `deadline`: the other way round could round to just below the time, for ever.
        if installing is not None and installing - body.utc_offset_s <= now:
            self._react(body.reactions.advance(max(installing, body.utc_s(now))), now)
        return self._down_until is None

    # -- events --

    def handle(self, event: Event, now: float) -> None:
        """React to an event of the engine that concerns one of its servers; others are not heard."""
        account = self._account_of(event.peer)
        if account is None or account.is_silent(now):
            if isinstance(event, RequestReceived):
                self._actions.append(Drop(event.exchange))
            elif isinstance(event, RequestQuestion):
                self._actions.append(Proceed(event.exchange))
            return
        service = account.handle(event, now)
        if service is not None and isinstance(event, RequestReceived):
            self._follow(service, event, now)

    def _account_of(self, peer: PeerId) -> Account | None:
        if len(self.accounts) == 1:
            return self.accounts[0]
        return next((each for each in self.accounts if each.is_of == (peer.remote_host, peer.remote_port)), None)

    def _follow(self, service: Service, request: RequestReceived, now: float) -> None:
        if service.code is not None:
            path = "/".join(request.path)
            self._body.tell(Served(self.options.endpoint_name, request.code, path, service.code, service.why))
        self._react(service.reaction, now)
        if service.befalls is not None:
            self._befall(service.befalls, now)
        self.tick(now)

    def _react(self, reaction: Reaction, now: float) -> None:
        if reaction.changed:
            if any(path[0] == GATEWAY for path in reaction.changed):
                self._follow_gateway(now)
            self._touch(reaction.changed)
        if reaction.send:
            self.send(reaction.send, now)
        concerned = [each for each in self.accounts if reaction.account in (None, each.number)]
        if reaction.effect is Effect.UPDATE:
            for each in concerned:
                each.enrolment.ask_update(now)
        elif reaction.effect is Effect.MOVE:
            self._body.tell(Moved(self.options.endpoint_name))
            for each in concerned:
                each.enrolment.ask_update(now + _BEARER_S)
        elif reaction.effect is Effect.REBOOT:
            self._reboot(now)
        elif reaction.effect is Effect.FACTORY_RESET:
            self.tree.reset()
            self._body.reactions.forget()
            self._reboot(now)
        elif reaction.effect is Effect.DISABLE:
            for each in concerned:
                timeout = self.tree.value(Path(objects.SERVER, each.number, objects.DISABLE_TIMEOUT), 0.0)
                each.rejoin_at = now + (timeout if isinstance(timeout, int) else 86_400)
                each.leave(now)

    def _touch(self, changed: tuple[Path, ...]) -> None:
        for each in self.accounts:
            each.touch(changed)

    def _follow_gateway(self, now: float) -> None:
        gateway = self._body.gateway
        if gateway is None:
            return
        gateway.follow()
        for each in self.accounts:
            each.follow_gateway()
            each.touch(())
            # Other instances of object 25 than were registered are told by an Update (Core 1.2.2 6.2.2).
            each.enrolment.ask_update(now)

    def _reboot(self, now: float) -> None:
        if not self._is_on:
            return
        self._down_until = now + _REBOOT_S
        for each in self.accounts:
            each.restart(self._down_until)
        self._body.tell(Rebooted(self.options.endpoint_name))

    def _befall(self, fault: Fault, now: float) -> None:
        if fault.kind is FaultKind.REBOOT:
            self._reboot(now)
        else:
            self._body.tell(Moved(self.options.endpoint_name))
