"""A simulated LwM2M device as a value: events of its CoAP engine and time in, actions out.

`Device` is the whole client: it registers and keeps registered (`enrolment`), answers its server (`serving`), tells
what is observed (`reporting`), sends by itself (`sending`) and gets things wrong where it is told to (`faults`).
Whoever runs it (`population`) feeds it and submits what it wants.
"""

import math
from collections.abc import Iterator
from random import Random
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.actions import (
    AcceptNotification,
    Action,
    ForgetPeer,
    Proceed,
    RejectToken,
    SendNotification,
    SendRequest,
    VerifyPeer,
)
from stellwerk.coap.events import (
    Event,
    NotificationAcked,
    NotificationReceived,
    NotificationRejected,
    RequestFailed,
    RequestQuestion,
    RequestReceived,
    ResponseReceived,
    TokenQuestion,
)
from stellwerk.coap.options import LOCATION_PATH, MAX_AGE, decode_uint
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import ContentFormat, encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.access import Access, registration_links
from stellwerk.sim.enrolment import Ask, Enrolment, Outcome, State
from stellwerk.sim.faults import Fault, FaultKind, Faults
from stellwerk.sim.happenings import (
    Deregistered,
    Happening,
    Moved,
    Notified,
    ObservationEnded,
    Rebooted,
    Registered,
    RegistrationLost,
    RegistrationRefused,
    SendEnded,
    Served,
    Updated,
)
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.reactions import Effect, Reaction, Reactions
from stellwerk.sim.release import RELEASES
from stellwerk.sim.reporting import Observation, Reporting
from stellwerk.sim.sending import Sending
from stellwerk.sim.serving import Serving
from stellwerk.sim.tree import Denied

_TOKEN_BYTES: Final = 8
_REBOOT_S: Final = 1.5
_CONFIRM_AFTER_S: Final = 86_400.0


class Device:
    """One client at one address. ``utc_offset_s`` turns monotonic seconds into UTC seconds since 1970.

    ``handles`` gives numbers that are unique within the engine it runs on; ``server`` is the server as a peer of the
    device, whose own address is the local one.
    """

    __slots__ = (
        "_access",
        "_actions",
        "_awake_until",
        "_down_until",
        "_enrolment",
        "_faults",
        "_handles",
        "_happenings",
        "_random",
        "_reactions",
        "_registered_links",
        "_rejoin_at",
        "_release",
        "_reporting",
        "_sending",
        "_serving",
        "_stated_lifetime_s",
        "_stated_links",
        "_under_way",
        "_utc_offset_s",
        "options",
        "server",
        "tree",
    )

    def __init__(self, options: DeviceOptions, server: PeerId, *, utc_offset_s: float, handles: Iterator[int]) -> None:
        self.options = options
        self.server = server
        self._release = release = RELEASES[options.lwm2m_version]
        self.tree = objects.build_tree(
            serial=options.endpoint_name,
            seed=options.seed,
            server_uri=options.server_uri,
            lifetime_s=options.lifetime_s,
            binding=options.binding + ("Q" if options.queue_mode and release.name == "1.0" else ""),
            moving=options.moving,
            release=release,
            address=server.local_host,
        )
        self._utc_offset_s = utc_offset_s
        self._handles = handles
        self._random = Random(options.seed)
        self._enrolment = Enrolment(self._random, options.patience, options.update_every_s)
        self._reporting = Reporting(math.inf if options.queue_mode else options.sample_every_s, release.name)
        self._reactions = Reactions(self.tree, release, self._random)
        self._access = Access(self.tree, self._reporting, self._reactions, release)
        self._faults = Faults(options.faults, options.seed) if options.faults else None
        self._serving = Serving(self._access, self._reporting, self._faults, handles)
        self._actions: list[Action] = []
        self._happenings: list[Happening] = []
        self._under_way: int | None = None
        self._stated_lifetime_s = options.lifetime_s
        self._stated_links = self._registered_links = b""
        self._sending = Sending()
        self._awake_until = 0.0
        self._down_until: float | None = None
        self._rejoin_at: float | None = None

    # -- from outside --

    def start(self, now: float) -> None:
        """Register now."""
        self._enrolment.start(now)
        if self._faults is not None:
            self._faults.start(now)
        self.tick(now)

    def stop(self, now: float) -> None:
        """De-register if registered, then be quiet."""
        self._sending.due = self._down_until = self._rejoin_at = None
        if self._faults is not None:
            self._faults.stop()
        self._reporting.forget()
        self._ask(self._enrolment.leave(), now)

    def trigger_update(self, now: float) -> None:
        """Send an Update as soon as possible."""
        self._enrolment.ask_update(now)
        self.tick(now)

    def move(self, server: PeerId, *, unnoticed: bool = False) -> None:
        """Speak from the local address in ``server`` from now on; relations stay behind at the old one, unless the
        device does not notice."""
        self.server = server
        if not unnoticed:
            self._reporting.forget()
            self.tree.put(objects.IP_ADDRESSES, {0: server.local_host})

    @property
    def state(self) -> State:
        """Where it stands with its server."""
        return self._enrolment.state

    @property
    def is_registered(self) -> bool:
        return self._enrolment.is_registered

    @property
    def is_leaving(self) -> bool:
        """Whether its De-register has no answer yet."""
        return self._enrolment.state in (State.LEAVING, State.WITHDRAWING)

    @property
    def location(self) -> str:
        """The path of its registration, ``rd/k7x``."""
        return "/".join(self._enrolment.location)

    @property
    def faults_committed(self) -> int:
        return self._faults.committed if self._faults is not None else 0

    @property
    def observed_paths(self) -> tuple[Path, ...]:
        return tuple(each.path for each in self._reporting.watched())

    def is_listening(self, now: float) -> bool:
        """Whether its radio is on: a datagram that arrives while it is off never existed for the device."""
        if self._down_until is not None and now < self._down_until:
            return False
        if not self.options.queue_mode:
            return True
        return now < self._awake_until or self._under_way is not None or self._sending.is_under_way

    def take_actions(self) -> list[Action]:
        """What to submit to the engine."""
        actions, self._actions = self._actions, []
        return actions

    def take_happenings(self) -> list[Happening]:
        """What happened, for whoever counts or logs it."""
        happenings, self._happenings = self._happenings, []
        return happenings

    # -- time --

    def deadline(self) -> float | None:
        """When to tick next; None when nothing is planned."""
        if self._down_until is not None:
            return self._down_until
        times = [self._enrolment.deadline(), self._serving.deadline()]
        if self._is_on:
            times.append(self._faults.deadline() if self._faults is not None else None)
            installing = self._reactions.deadline()
            times.append(None if installing is None else installing - self._utc_offset_s)
        if self._enrolment.is_registered:
            times += (self._sending.due, self._reporting.deadline())
        return min((each for each in times if each is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._down_until is not None:
            if now < self._down_until:
                return
            self._down_until = None
        self._actions += self._serving.take_due(now)
        if self._is_on and not self._go_on(now):
            return
        self._ask(self._enrolment.take_due(now), now)
        if not self._enrolment.is_registered:
            return
        if self._sending.due is not None and self._sending.due <= now:
            self._measure(now)
        self._report(now)

    @property
    def _is_on(self) -> bool:
        return self._enrolment.state is not State.OFF and not self.is_leaving

    def _go_on(self, now: float) -> bool:
        """What comes by time alone. Whether the device is still up."""
        for fault in self._faults.take_due(now) if self._faults is not None else ():
            self._befall(fault, now)
        installing = self._reactions.deadline()
        # The same sum as in `deadline`: the other way round could round to just below the time, for ever.
        if installing is not None and installing - self._utc_offset_s <= now:
            self._react(self._reactions.advance(max(installing, now + self._utc_offset_s)), now)
        return self._down_until is None

    # -- events --

    def handle(self, event: Event, now: float) -> None:
        """React to an event of the engine that concerns this device's server."""
        if isinstance(event, RequestReceived):
            self._stay_awake(now)
            self._serve(event, now)
        elif isinstance(event, RequestQuestion):
            self._actions.append(Proceed(event.exchange))
        elif isinstance(event, ResponseReceived):
            self._stay_awake(now)
            self._hear(event, now)
        elif isinstance(event, RequestFailed):
            self._miss(event, now)
        elif isinstance(event, NotificationAcked):
            self._stay_awake(now)
        elif isinstance(event, NotificationRejected):
            # RFC 7641 4.5: whoever does not take a notification is no observer any more.
            if self._reporting.cancel(event.token):
                self._tell(ObservationEnded(self.options.endpoint_name, event.reason))
        elif isinstance(event, TokenQuestion):
            self._actions.append(RejectToken(event.exchange))
        elif isinstance(event, NotificationReceived):
            self._actions.append(AcceptNotification(event.exchange))

    # -- registration --

    def _ask(self, ask: Ask | None, now: float) -> None:
        if ask is None:
            return
        lifetime_s = self._lifetime_s(now)
        location = self._enrolment.location
        links = registration_links(self.tree.listings(self._release.versions), self._release.stated_formats)
        # The server is configured, not a stranger: answers to it need no bound against amplification.
        self._actions.append(VerifyPeer(self.server))
        if ask is Ask.REGISTER:
            # Contract OB-7: relations of the old registration are gone.
            self._reporting.forget()
            query = (
                f"ep={self.options.endpoint_name}",
                f"lt={lifetime_s}",
                f"lwm2m={self._release.name}",
                *self._release.binding(self.options.binding, queue_mode=self.options.queue_mode),
            )
            handle = self._request(codes.POST, ("rd",), query, ContentFormat.LINK_FORMAT, links, now)
        elif ask is Ask.UPDATE:
            query = (f"lt={lifetime_s}",) if lifetime_s != self._enrolment.registered_lifetime_s else ()
            # Contract R-13: a body is the whole new list.
            body = b"" if links == self._registered_links else links
            handle = self._request(codes.POST, location, query, ContentFormat.LINK_FORMAT if body else None, body, now)
        else:
            handle = self._request(codes.DELETE, location, (), None, b"", now)
        self._stated_lifetime_s, self._stated_links = lifetime_s, links
        self._under_way = handle

    def _request(
        self,
        code: int,
        path: tuple[str, ...],
        query: tuple[str, ...],
        content_format: int | None,
        payload: bytes,
        now: float,
    ) -> int:
        handle = next(self._handles)
        token = self._random.randbytes(_TOKEN_BYTES)
        self._actions.append(
            SendRequest(handle, self.server, code, token, path, query, content_format=content_format, payload=payload)
        )
        self._stay_awake(now)
        return handle

    def _hear(self, event: ResponseReceived, now: float) -> None:
        if event.handle == self._under_way:
            self._under_way = None
            location = tuple(
                value.decode("utf-8", "replace") for number, value in event.options if number == LOCATION_PATH
            )
            outcome = self._enrolment.answered(event.code, location, max_age_of(event), self._stated_lifetime_s, now)
            self._note(outcome, codes.dotted(event.code), now)
        elif self._sending.is_of(event.handle):
            self._end_send(event.code, now)

    def _miss(self, event: RequestFailed, now: float) -> None:
        if event.handle == self._under_way:
            self._under_way = None
            self._note(self._enrolment.unanswered(now), event.reason, now)
        elif self._sending.is_of(event.handle):
            self._end_send(None, now)

    def _note(self, outcome: Outcome, reason: str, now: float) -> None:
        name = self.options.endpoint_name
        if outcome is Outcome.REGISTERED:
            if self.options.send_every_s is not None and self._sending.due is None:
                self._sending.due = now + self.options.send_every_s * self._random.random()
            self._registered_links = self._stated_links
            self._tell(Registered(name, self.location))
            self._awake(now)
        elif outcome is Outcome.UPDATED:
            self._registered_links = self._stated_links
            self._tell(Updated(name))
            self._awake(now)
        elif outcome is Outcome.LOST:
            self._tell(RegistrationLost(name, reason))
        elif outcome is Outcome.REFUSED:
            self._tell(RegistrationRefused(name, reason))
        elif outcome is Outcome.UNWANTED:
            self._ask(self._enrolment.leave(), now)
        else:
            self._tell(Deregistered(name))
            self._rejoin(now)
        self.tick(now)

    def _rejoin(self, now: float) -> None:
        # Disabled, not stopped: it is silent for a while and comes back by itself (Core 1.1.1 App. E.2).
        if self._rejoin_at is not None:
            self._down_until, self._rejoin_at = max(now, self._rejoin_at), None
            self._enrolment.start(self._down_until)

    def _awake(self, now: float) -> None:
        # The radio is on anyway: what waited for it goes out now, and not in the middle of the next sleep.
        if self.options.queue_mode:
            self._reporting.touch()
            self._send(now)

    # -- requests of the server --

    def _serve(self, request: RequestReceived, now: float) -> None:
        service = self._serving.serve(request, now, now + self._utc_offset_s)
        if service.action is not None:
            self._actions.append(service.action)
        if service.code is not None:
            path = "/".join(request.path)
            self._tell(Served(self.options.endpoint_name, request.code, path, service.code, service.why))
        self._react(service.reaction, now)
        if service.befalls is not None:
            self._befall(service.befalls, now)
        self.tick(now)

    def _react(self, reaction: Reaction, now: float) -> None:
        if reaction.changed:
            self._reporting.touch()
            if objects.DEFAULT_PMIN in reaction.changed or objects.DEFAULT_PMAX in reaction.changed:
                self._reporting.set_defaults(self._seconds(objects.DEFAULT_PMIN), self._seconds(objects.DEFAULT_PMAX))
        if reaction.send:
            self._add_to_send(reaction.send, now)
            self._send(now)
        if reaction.effect is Effect.UPDATE:
            self._enrolment.ask_update(now)
        elif reaction.effect is Effect.REBOOT:
            self._reboot(now)
        elif reaction.effect is Effect.DISABLE:
            timeout = self.tree.value(objects.DISABLE_TIMEOUT, now + self._utc_offset_s)
            self._rejoin_at = now + (timeout if isinstance(timeout, int) else 86_400)
            self._ask(self._enrolment.leave(), now)

    def _reboot(self, now: float) -> None:
        if not self._is_on:
            return
        self._down_until = now + _REBOOT_S
        self._under_way = None
        self._sending.abandon()
        self._serving.abandon()
        self._actions.append(ForgetPeer(self.server))
        self._enrolment.start(self._down_until)
        self._tell(Rebooted(self.options.endpoint_name))

    def _befall(self, fault: Fault, now: float) -> None:
        if fault.kind is FaultKind.REBOOT:
            self._reboot(now)
        else:
            self._tell(Moved(self.options.endpoint_name))

    # -- what it tells by itself --

    def _report(self, now: float) -> None:
        for each in self._reporting.watched() if self._reporting else ():
            if self._reporting.due_at(each) <= now:
                self._report_one(each, now)

    def _report_one(self, each: Observation, now: float) -> None:
        try:
            content, content_format, payload = self._access.read(each.path, each.accept, now + self._utc_offset_s)
        except Denied as denied:
            self._reporting.cancel(each.token)
            self._actions.append(SendNotification(each.handle, self.server, each.token, denied.code))
            self._stay_awake(now)
            return
        if not self._reporting.is_due(each, content, now):
            return
        sequence = self._reporting.told(each, content, now)
        con = each.attributes.con
        # RFC 7641 4.5: at least once a day a notification asks whether the observer is still there.
        confirmable = now - each.confirmed_at >= _CONFIRM_AFTER_S or (
            each.notified % self.options.confirm_every == 0 if con is None else con == 1
        )
        if confirmable:
            each.confirmed_at = now
        if self._faults is not None:
            payload = self._faults.spoil(payload, each.path)
        self._actions.append(
            SendNotification(
                each.handle, self.server, each.token, codes.CONTENT, sequence, content_format, payload, confirmable
            )
        )
        self._stay_awake(now)
        self._tell(Notified(self.options.endpoint_name, str(each.path)))

    def _measure(self, now: float) -> None:
        sending, every = self._sending, self.options.send_every_s
        if every is None or sending.due is None:
            sending.due = None
            return
        sending.due = max(sending.due + every, now)
        self._add_to_send(self.options.send_paths, now)
        # A sleeper measures with its radio off, and sends when it is on for an Update.
        if not self.options.queue_mode:
            self._send(now)

    def _add_to_send(self, paths: tuple[Path, ...], now: float) -> None:
        utc_s = now + self._utc_offset_s
        if self.tree.value(objects.MUTE_SEND, utc_s) is False:
            for path in paths:
                entries, _ = self.tree.read(path, utc_s)
                self._sending.add([entry._replace(time_s=round(utc_s, 3)) for entry in entries])

    def _send(self, now: float) -> None:
        entries = self._sending.take()
        if not entries or not self._enrolment.is_registered:
            return
        payload = encode_content(ContentFormat.SENML_CBOR, Content(entries), Path(), self.tree.types)
        if self._faults is not None:
            payload = self._faults.spoil(payload)
        self._sending.sent(self._request(codes.POST, ("dp",), (), ContentFormat.SENML_CBOR, payload, now))

    def _end_send(self, code: int | None, now: float) -> None:
        self._sending.ended(code)
        if code == codes.NOT_FOUND:
            self._enrolment.ask_update(now)
        self._tell(SendEnded(self.options.endpoint_name, code))
        self.tick(now)

    # -- the details --

    def _lifetime_s(self, now: float) -> int:
        value = self.tree.value(objects.LIFETIME, now + self._utc_offset_s)
        return value if isinstance(value, int) else self.options.lifetime_s

    def _seconds(self, path: Path) -> int | None:
        value = self.tree.value(path, 0.0)
        return value if isinstance(value, int) and value > 0 else None

    def _stay_awake(self, now: float) -> None:
        self._awake_until = now + self.options.awake_s

    def _tell(self, happening: Happening) -> None:
        self._happenings.append(happening)


def max_age_of(event: ResponseReceived) -> int | None:
    """The server's Max-Age in seconds, None where it said none."""
    return next((decode_uint(value) for number, value in event.options if number == MAX_AGE), None)
