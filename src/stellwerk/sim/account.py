"""One server account of a simulated device: it registers and keeps registered (`enrolment`), answers that server
(`serving`), tells it what it observes (`notifying`) and sends to it by itself (`sending`)."""

from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.actions import (
    AcceptNotification,
    Action,
    ForgetPeer,
    Proceed,
    RejectToken,
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
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.access import Access
from stellwerk.sim.bodies import Bodies
from stellwerk.sim.body import Body
from stellwerk.sim.enrolment import Ask, Enrolment, Outcome, State
from stellwerk.sim.happenings import (
    Deregistered,
    ObservationEnded,
    Registered,
    RegistrationLost,
    RegistrationRefused,
    SendEnded,
    Updated,
)
from stellwerk.sim.notifying import TIMED, Notifying
from stellwerk.sim.options import Composites
from stellwerk.sim.places import Places
from stellwerk.sim.refusals import words_of
from stellwerk.sim.registration import list_beside_profile, object_list, register_query
from stellwerk.sim.reporting import Reporting
from stellwerk.sim.rights import Rights
from stellwerk.sim.sending import Sending
from stellwerk.sim.serving import Service, Serving

_TOKEN_BYTES: Final = 8
_RECONNECT_S: Final = 1.0
"""From the loss of a connection to the next."""


class Account:
    """The server ``server``, whose instance of object 1 is ``number`` and whose Short Server ID is ``short_id``, the
    next number unless told otherwise. What it does is `take_actions`'s; what follows from a request for the device as a
    whole is what `handle` gives."""

    __slots__ = (
        "_actions",
        "_body",
        "_notifying",
        "_places",
        "_profile_refused",
        "_registered_links",
        "_sending",
        "_serving",
        "_short_id",
        "_silent_until",
        "_stated_lifetime_s",
        "_stated_links",
        "_under_way",
        "enrolment",
        "number",
        "rejoin_at",
        "server",
    )

    def __init__(self, body: Body, server: PeerId, number: int, short_id: int | None = None) -> None:
        self._body = body
        self.number = number
        self._short_id = number + 1 if short_id is None else short_id
        self.server = server
        options = body.options
        self.enrolment = Enrolment(body.random, options.patience, options.update_every_s)
        rights = Rights(body.tree, self._short_id)
        bodies = Bodies(body.release, body.release.types, options.root)
        own = Access(body.tree, self._new_reporting(), body.reactions, bodies, rights)
        self._places = Places(own, options.root)
        composites = options.composites
        if body.release.name == "1.0" and composites is Composites.ON:
            composites = Composites.METHOD_NOT_ALLOWED
        self._serving = Serving(composites, body.faults, body.handles)
        self._sending = Sending()
        self._notifying = Notifying(body, self._places, server, number, self._emit)
        self.follow_gateway()
        self._actions: list[Action] = []
        self._under_way: int | None = None
        self._stated_lifetime_s = options.lifetime_s
        self._stated_links = self._registered_links = b""
        self._profile_refused = False
        self._silent_until: float | None = None
        self.rejoin_at: float | None = None
        """When a device that was disabled comes back, once its De-register is answered."""
        self._set_default_periods()

    # -- from outside --

    def start(self, now: float) -> None:
        """Register at ``now``."""
        self.enrolment.start(now)

    def stop(self, now: float) -> None:
        """De-register if registered, then be quiet."""
        self._sending.due = self._silent_until = self.rejoin_at = None
        for each in self._places.all():
            each.reporting.forget()
        self.leave(now)

    def leave(self, now: float) -> None:
        """De-register if registered."""
        self._ask(self.enrolment.leave(), now)

    def restart(self, at: float) -> None:
        """The device restarts: what was under way is forgotten, and it registers at ``at``."""
        self._under_way = self._silent_until = self.rejoin_at = None
        self._sending.abandon()
        self._serving.abandon()
        self._actions.append(ForgetPeer(self.server))
        self.enrolment.start(at)

    def interrupt(self, now: float) -> None:
        """The way to the server broke down: what was under way is made again when there is another."""
        self._actions.append(ForgetPeer(self.server))
        self._serving.abandon()
        if self._sending.is_under_way:
            self._sending.ended(None)
        if self._under_way is not None:
            self._under_way = None
            if self.enrolment.interrupted(now) is not None:
                self._body.tell(Deregistered(self._name))
                self._rejoin(now)

    def lose(self, now: float, *, connection: bool) -> None:
        """The server ended the session, or the ``connection``; there will be another."""
        registered = self.enrolment.is_registered
        if connection:
            # What is observed ended with the connection; in the next one an Update tells who this is.
            self.interrupt(now + _RECONNECT_S)
            self.move(self.server, unnoticed=False)
            self.enrolment.ask_update(now + _RECONNECT_S)
            return
        self.interrupt(now)
        if registered:
            # Transport 1.2.2 6.4.3: in a new security context it registers again.
            self.enrolment.start(now)

    def fail(self, reason: str, now: float) -> None:
        """The way to the server could not be opened: what waits for an answer gets none."""
        self._actions.append(ForgetPeer(self.server))
        if self._sending.is_under_way:
            self._sending.ended(None)
        if self._under_way is not None:
            self._under_way = None
            self._note(self.enrolment.unanswered(now), reason, now)

    def move(self, server: PeerId, *, unnoticed: bool) -> None:
        """Speak from the local address in ``server`` from now on."""
        self.server = self._notifying.server = server
        if not unnoticed:
            for each in self._places.all():
                each.reporting.forget()

    def touch(self, changed: tuple[Path, ...]) -> None:
        """Resources changed from outside: look soon."""
        for each in self._places.all():
            each.reporting.touch()
        if any(path[0] == objects.SERVER for path in changed):
            self._set_default_periods()

    def follow_gateway(self) -> None:
        """End devices came or went."""
        body, gateway = self._body, self._body.gateway
        if gateway is None:
            return
        for prefix in self._places.prefixes - gateway.present.keys():
            self._places.remove(prefix)
            self._sending.forget(prefix)
        for prefix, device in gateway.present.items():
            if prefix not in self._places.prefixes:
                bodies = Bodies(body.release, body.release.types, body.options.root, prefix)
                # Gateway 1.1.1: access control is not for end devices.
                rights = Rights(device.tree, self._short_id)
                self._places.add(prefix, Access(device.tree, self._new_reporting(), device.reactions, bodies, rights))

    @property
    def is_waited_for(self) -> bool:
        """Whether the server owes an answer."""
        return self._under_way is not None or self._sending.is_under_way

    @property
    def is_of(self) -> tuple[str, int]:
        """The server's address."""
        return self.server.remote_host, self.server.remote_port

    @property
    def observed_paths(self) -> tuple[Path, ...]:
        """What the server watches of the device itself."""
        return tuple(each.path for each in self._places.own.reporting.watched())

    def is_silent(self, now: float) -> bool:
        """Whether it ignores this server, having been disabled by it (Core 1.1.1 App. E.2)."""
        return self._silent_until is not None and now < self._silent_until

    def take_actions(self) -> list[Action]:
        """What to submit to the engine."""
        actions, self._actions = self._actions, []
        return actions

    # -- time --

    def deadline(self) -> float | None:
        """When to tick next; None when nothing is planned."""
        if self._silent_until is not None:
            return self._silent_until
        times = [self.enrolment.deadline(), self._serving.deadline()]
        if self.enrolment.is_registered:
            times.append(self._sending.due)
            times += (each.reporting.deadline() for each in self._places.all())
        return min((each for each in times if each is not None), default=None)

    def take_late(self, now: float) -> None:
        """Let the late answers go whose time has come."""
        self._actions += self._serving.take_due(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._silent_until is not None:
            if now < self._silent_until:
                return
            self._silent_until = None
        self._ask(self.enrolment.take_due(now), now)
        if not self.enrolment.is_registered:
            return
        if self._sending.due is not None and self._sending.due <= now:
            self._measure(now)
        self._notifying.report(now)

    # -- events --

    def handle(self, event: Event, now: float) -> Service | None:
        """React to an event of the engine that concerns this server."""
        if isinstance(event, RequestReceived):
            self._body.stay_awake(now)
            access, segments = self._places.find(event)
            service = self._serving.serve(event, access, segments, now, self._body.utc_s(now))
            if service.action is not None:
                self._actions.append(service.action)
            return service
        if isinstance(event, RequestQuestion):
            self._actions.append(Proceed(event.exchange))
        elif isinstance(event, ResponseReceived):
            self._body.stay_awake(now)
            self._hear(event, now)
        elif isinstance(event, RequestFailed):
            self._miss(event, now)
        elif isinstance(event, NotificationAcked):
            self._body.stay_awake(now)
        elif isinstance(event, NotificationRejected):
            # RFC 7641 4.5: whoever does not take a notification is no observer any more.
            if any(each.reporting.cancel(event.token) for each in self._places.all()):
                self._body.tell(ObservationEnded(self._name, event.reason))
        elif isinstance(event, TokenQuestion):
            self._actions.append(RejectToken(event.exchange))
        elif isinstance(event, NotificationReceived):
            self._actions.append(AcceptNotification(event.exchange))
        return None

    # -- registration --

    def _ask(self, ask: Ask | None, now: float) -> None:
        if ask is None:
            return
        lifetime_s = self._lifetime_s(now)
        location = self.enrolment.location
        options, release = self._body.options, self._body.release
        listings = self._body.tree.listings(release.versions)
        links = object_list(options, release, listings)
        # The server is configured, not a stranger: answers to it need no bound against amplification.
        self._actions.append(VerifyPeer(self.server))
        if ask is Ask.REGISTER:
            # Contract OB-7: relations of the old registration are gone.
            for each in self._places.all():
                each.reporting.forget()
            by_profile = bool(options.profile_id) and not self._profile_refused
            body = list_beside_profile(options, release, listings) if by_profile else links
            query = register_query(options, release, lifetime_s, self.server.carrier)
            handle = self._request(codes.POST, ("rd",), query, ContentFormat.LINK_FORMAT if body else None, body, now)
        elif ask is Ask.UPDATE:
            query = (f"lt={lifetime_s}",) if lifetime_s != self.enrolment.registered_lifetime_s else ()
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
        handle = next(self._body.handles)
        token = self._body.random.randbytes(_TOKEN_BYTES)
        self._actions.append(
            SendRequest(handle, self.server, code, token, path, query, content_format=content_format, payload=payload)
        )
        self._body.stay_awake(now)
        return handle

    def _hear(self, event: ResponseReceived, now: float) -> None:
        if event.handle == self._under_way:
            self._under_way = None
            location = tuple(
                value.decode("utf-8", "replace") for number, value in event.options if number == LOCATION_PATH
            )
            registering = self.enrolment.state is State.REGISTERING
            outcome = self.enrolment.answered(event.code, location, max_age_of(event), self._stated_lifetime_s, now)
            self._note(outcome, codes.dotted(event.code), now, words_of(event))
            refused = registering and event.code == codes.CONFLICT and bool(self._body.options.profile_id)
            if refused and not self._profile_refused:
                # Core 1.2.2 6.2.1: the profile is not known here; the whole list follows.
                self._profile_refused = True
                self.enrolment.start(now)
                self.tick(now)
        elif self._sending.is_of(event.handle):
            self._end_send(event.code, now)

    def _miss(self, event: RequestFailed, now: float) -> None:
        if event.handle == self._under_way:
            self._under_way = None
            # That the server answered, and could not read what it was asked, says more than what it is called here.
            reason = f"{event.reason}: {event.detail}" if event.reason == "unprotected" else event.reason
            self._note(self.enrolment.unanswered(now), reason, now)
        elif self._sending.is_of(event.handle):
            self._end_send(None, now)

    def _note(self, outcome: Outcome, reason: str, now: float, detail: str = "") -> None:
        tell, options = self._body.tell, self._body.options
        if outcome is Outcome.REGISTERED:
            self._profile_refused = False
            if options.send_every_s is not None and self._sending.due is None:
                self._sending.due = now + options.send_every_s * self._body.random.random()
            self._registered_links = self._stated_links
            tell(Registered(self._name, "/".join(self.enrolment.location)))
            self._awake(now)
        elif outcome is Outcome.UPDATED:
            self._registered_links = self._stated_links
            tell(Updated(self._name))
            self._awake(now)
        elif outcome is Outcome.LOST:
            tell(RegistrationLost(self._name, reason))
        elif outcome is Outcome.REFUSED:
            tell(RegistrationRefused(self._name, reason, detail))
        elif outcome is Outcome.UNWANTED:
            self.leave(now)
        else:
            tell(Deregistered(self._name))
            self._rejoin(now)
        self.tick(now)

    def _rejoin(self, now: float) -> None:
        # Disabled, not stopped: it is silent for a while and comes back by itself (Core 1.1.1 App. E.2).
        if self.rejoin_at is not None:
            self._silent_until, self.rejoin_at = max(now, self.rejoin_at), None
            self.enrolment.start(self._silent_until)

    def _awake(self, now: float) -> None:
        # The radio is on anyway: what waited for it goes out now, and not in the middle of the next sleep.
        if self._body.options.queue_mode:
            self._notifying.tell_kept(now)
            self.send(now)

    # -- what it tells by itself --

    def _measure(self, now: float) -> None:
        sending, options = self._sending, self._body.options
        if options.send_every_s is None or sending.due is None:
            sending.due = None
            return
        sending.due = max(sending.due + options.send_every_s, now)
        self.add_to_send(options.send_paths, now)
        gateway = self._body.gateway
        for prefix, device in gateway.present.items() if gateway is not None else ():
            self._add(prefix, device.tree.read(objects.SENSOR_VALUE, self._body.utc_s(now))[0], now)
        # A sleeper measures with its radio off, and sends when it is on for an Update.
        if not options.queue_mode:
            self.send(now)

    def add_to_send(self, paths: tuple[Path, ...], now: float) -> None:
        """Measure what is at ``paths`` for the next Send. Raises `Denied` for what cannot be read."""
        for path in paths:
            self._add("", self._body.tree.read(path, self._body.utc_s(now))[0], now)

    def _add(self, prefix: str, entries: tuple[Entry, ...], now: float) -> None:
        if self._body.tree.value(Path(objects.SERVER, self.number, objects.MUTE_SEND), 0.0) is False:
            utc_s = round(self._body.utc_s(now), 3)
            self._sending.add(prefix, [entry._replace(time_s=utc_s) for entry in entries])

    def send(self, now: float) -> None:
        """Send what was measured, unless a Send is under way."""
        if not self.enrolment.is_registered:
            return
        prefix, entries = self._sending.take()
        access = self._places.get(prefix)
        if not entries or access is None:
            return
        chosen = self._body.options.send_format
        if chosen not in TIMED:
            latest = {entry.path: entry._replace(time_s=None) for entry in entries}
            entries = tuple(latest.values())
        payload = access.bodies.encode(chosen, Content(entries), Path())
        if self._body.faults is not None:
            payload = self._body.faults.spoil(payload)
        self._sending.sent(self._request(codes.POST, ("dp",), (), chosen, payload, now))

    def _end_send(self, code: int | None, now: float) -> None:
        kept = self._sending.ended(code)
        if code == codes.NOT_FOUND:
            self.enrolment.ask_update(now)
        self._body.tell(SendEnded(self._name, code))
        # What waits for another end device has its turn.
        if self._sending.waits_in_turn and not kept:
            self.send(now)
        self.tick(now)

    # -- the details --

    def _emit(self, action: Action) -> None:
        self._actions.append(action)

    @property
    def _name(self) -> str:
        return self._body.options.endpoint_name

    def _new_reporting(self) -> Reporting:
        return Reporting(self._body.sample_s, self._body.release.name, self._body.history_s)

    def _set_default_periods(self) -> None:
        pmin, pmax = self._seconds(objects.DEFAULT_PMIN), self._seconds(objects.DEFAULT_PMAX)
        for each in self._places.all():
            each.reporting.set_defaults(pmin, pmax)

    def _lifetime_s(self, now: float) -> int:
        value = self._body.tree.value(Path(objects.SERVER, self.number, objects.LIFETIME), self._body.utc_s(now))
        return value if isinstance(value, int) else self._body.options.lifetime_s

    def _seconds(self, resource_id: int) -> int | None:
        value = self._body.tree.value(Path(objects.SERVER, self.number, resource_id), 0.0)
        return value if isinstance(value, int) and value > 0 else None


def max_age_of(event: ResponseReceived) -> int | None:
    """The server's Max-Age in seconds, None where it said none."""
    return next((decode_uint(value) for number, value in event.options if number == MAX_AGE), None)
