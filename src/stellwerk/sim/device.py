"""A simulated LwM2M 1.1 device as a value: events of its CoAP engine and time in, actions out.

`Device` is the whole client: it registers and keeps registered (`enrolment`), answers its server (`access`), tells what
is observed (`reporting`) and sends by itself. Whoever runs it (`population`) feeds it and submits what it wants.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.actions import (
    AcceptNotification,
    Action,
    ForgetPeer,
    Proceed,
    RejectToken,
    Respond,
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
from stellwerk.coap.options import LOCATION_PATH, MAX_AGE, OBSERVE, decode_uint, encode_uint
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import ContentFormat, encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.access import Access, Answer, Effect, path_of, registration_links
from stellwerk.sim.enrolment import Ask, Enrolment, Outcome, Patience, State
from stellwerk.sim.faults import Faults
from stellwerk.sim.happenings import (
    Deregistered,
    Happening,
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
from stellwerk.sim.reporting import Observation, Reporting
from stellwerk.sim.tree import Denied

_TOKEN_BYTES: Final = 8
_UNSENT_AT_MOST: Final = 64
_REBOOT_S: Final = 1.5
_CONFIRM_AFTER_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """How one device behaves. Times in seconds; None switches a timer off."""

    endpoint_name: str
    server_uri: str = "coap://localhost:5683"
    lifetime_s: int = 300
    update_every_s: float | None = None
    """None: after 80 % of the lifetime."""
    sample_every_s: float = 10.0
    """How often observed values are looked at."""
    send_every_s: float | None = None
    send_paths: tuple[Path, ...] = (objects.SENSOR_VALUE, Path(objects.DEVICE, 0, 9))
    confirm_every: int = 8
    """Each so many-th notification of an observation is confirmable; 1 makes all so."""
    queue_mode: bool = False
    awake_s: float = 93.0
    """How long a queue-mode device listens after its last message (MAX_TRANSMIT_WAIT, contract QM-2)."""
    moving: bool = True
    fault_rate: float = 0.0
    patience: Patience = field(default_factory=Patience)
    seed: int = 0


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
        "_late",
        "_random",
        "_rejoin_at",
        "_reporting",
        "_send_at",
        "_sending",
        "_stated_lifetime_s",
        "_under_way",
        "_unsent",
        "_utc_offset_s",
        "options",
        "server",
        "tree",
    )

    def __init__(self, options: DeviceOptions, server: PeerId, *, utc_offset_s: float, handles: Iterator[int]) -> None:
        self.options = options
        self.server = server
        self.tree = objects.build_tree(
            serial=options.endpoint_name,
            seed=options.seed,
            server_uri=options.server_uri,
            lifetime_s=options.lifetime_s,
            binding="U",
            moving=options.moving,
        )
        self._utc_offset_s = utc_offset_s
        self._handles = handles
        self._random = Random(options.seed)
        self._enrolment = Enrolment(self._random, options.patience, options.update_every_s)
        self._reporting = Reporting(options.sample_every_s)
        self._access = Access(self.tree, self._reporting)
        self._faults = Faults(options.fault_rate, options.seed) if options.fault_rate else None
        self._actions: list[Action] = []
        self._happenings: list[Happening] = []
        self._late: list[tuple[float, int, Action]] = []
        self._under_way: int | None = None
        self._stated_lifetime_s = options.lifetime_s
        self._sending: tuple[int, list[Entry]] | None = None
        self._send_at: float | None = None
        self._unsent: list[Entry] = []
        self._awake_until = 0.0
        self._down_until: float | None = None
        self._rejoin_at: float | None = None

    # -- from outside --

    def start(self, now: float) -> None:
        """Register now."""
        self._enrolment.start(now)
        self.tick(now)

    def stop(self, now: float) -> None:
        """De-register if registered, then be quiet."""
        self._send_at = self._down_until = self._rejoin_at = None
        self._reporting.forget()
        self._ask(self._enrolment.leave(), now)

    def trigger_update(self, now: float) -> None:
        """Send an Update as soon as possible."""
        self._enrolment.ask_update(now)
        self.tick(now)

    def move(self, server: PeerId) -> None:
        """Speak from the local address in ``server`` from now on; relations stay behind at the old one."""
        self.server = server
        self._reporting.forget()

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
        return now < self._awake_until or self._under_way is not None or self._sending is not None

    def take_actions(self) -> list[Action]:
        """What to submit to the engine."""
        actions, self._actions = self._actions, []
        return actions

    def take_happenings(self) -> list[Happening]:
        """What happened, for whoever counts or logs it."""
        happenings, self._happenings = self._happenings, []
        return happenings

    # -- time --

    def deadline(self, now: float) -> float | None:
        """When to tick next; None when nothing is planned."""
        if self._down_until is not None:
            return self._down_until
        times = [self._enrolment.deadline(), self._late[0][0] if self._late else None]
        if self._enrolment.is_registered:
            times.append(self._send_at)
            if self.is_listening(now):
                times.append(self._reporting.deadline(self._defaults(now)))
        return min((each for each in times if each is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._down_until is not None:
            if now < self._down_until:
                return
            self._down_until = None
        while self._late and self._late[0][0] <= now:
            self._actions.append(heappop(self._late)[2])
        self._ask(self._enrolment.take_due(now), now)
        if not self._enrolment.is_registered:
            return
        if self._send_at is not None and self._send_at <= now:
            self._sample_for_send(now)
        if self.is_listening(now):
            self._report(now)

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
        # The server is configured, not a stranger: answers to it need no bound against amplification.
        self._actions.append(VerifyPeer(self.server))
        if ask is Ask.REGISTER:
            # Contract OB-7: relations of the old registration are gone.
            self._reporting.forget()
            query = [f"ep={self.options.endpoint_name}", f"lt={lifetime_s}", f"lwm2m={objects.RELEASE}", "b=U"]
            if self.options.queue_mode:
                query.append("Q")
            links = registration_links(self.tree.listings(objects.VERSIONS)).encode()
            handle = self._request(codes.POST, ("rd",), tuple(query), ContentFormat.LINK_FORMAT, links, now)
        elif ask is Ask.UPDATE:
            changed = lifetime_s != self._enrolment.registered_lifetime_s
            handle = self._request(codes.POST, location, (f"lt={lifetime_s}",) if changed else (), None, b"", now)
        else:
            handle = self._request(codes.DELETE, location, (), None, b"", now)
        self._stated_lifetime_s = lifetime_s
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
        elif self._sending is not None and event.handle == self._sending[0]:
            self._end_send(event.code, now)

    def _miss(self, event: RequestFailed, now: float) -> None:
        if event.handle == self._under_way:
            self._under_way = None
            self._note(self._enrolment.unanswered(now), event.reason, now)
        elif self._sending is not None and event.handle == self._sending[0]:
            self._end_send(None, now)

    def _note(self, outcome: Outcome, reason: str, now: float) -> None:
        name = self.options.endpoint_name
        if outcome is Outcome.REGISTERED:
            if self.options.send_every_s is not None and self._send_at is None:
                self._send_at = now + self.options.send_every_s * self._random.random()
            self._tell(Registered(name, self.location))
        elif outcome is Outcome.UPDATED:
            self._tell(Updated(name))
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

    # -- requests of the server --

    def _serve(self, request: RequestReceived, now: float) -> None:
        utc_s = now + self._utc_offset_s
        answer = self._access.answer(request, utc_s)
        options: tuple[tuple[int, bytes], ...] = ()
        observe = next((decode_uint(value) for number, value in request.options if number == OBSERVE), None)
        if observe == 0 and answer.code == codes.CONTENT and answer.content_format != ContentFormat.LINK_FORMAT:
            options = self._start_observation(request, now, utc_s)
        elif observe == 1:
            self._reporting.cancel(request.token)
        response = Respond(request.exchange, answer.code, (), answer.content_format, options, answer.payload)
        self._respond(response, now)
        self._tell(Served(self.options.endpoint_name, request.code, "/".join(request.path), answer.code, answer.why))
        if answer.changed:
            self._reporting.touch(now)
        self._take_effect(answer, now)
        self.tick(now)

    def _start_observation(self, request: RequestReceived, now: float, utc_s: float) -> tuple[tuple[int, bytes], ...]:
        path = path_of(request)
        content, _, _ = self._access.read(path, request.accept, utc_s)
        self._reporting.observe(path, request.token, request.accept, next(self._handles), content, now)
        return ((OBSERVE, encode_uint(1)),)

    def _respond(self, response: Respond, now: float) -> None:
        if self._faults is None:
            self._actions.append(response)
            return
        delay, action = self._faults.twist(response)
        if delay:
            heappush(self._late, (now + delay, next(self._handles), action))
        else:
            self._actions.append(action)

    def _take_effect(self, answer: Answer, now: float) -> None:
        if answer.effect is Effect.UPDATE:
            self._enrolment.ask_update(now)
        elif answer.effect is Effect.REBOOT:
            self._down_until = now + _REBOOT_S
            self._under_way = self._sending = None
            self._late.clear()
            self._actions.append(ForgetPeer(self.server))
            self._enrolment.start(self._down_until)
            self._tell(Rebooted(self.options.endpoint_name))
        elif answer.effect is Effect.DISABLE:
            timeout = self.tree.value(objects.DISABLE_TIMEOUT, now + self._utc_offset_s)
            self._rejoin_at = now + (timeout if isinstance(timeout, int) else 86_400)
            self._ask(self._enrolment.leave(), now)

    # -- what it tells by itself --

    def _report(self, now: float) -> None:
        if not self._reporting:
            return
        defaults = self._defaults(now)
        due = self._reporting.deadline(defaults)
        if due is None or due > now:
            return
        utc_s = now + self._utc_offset_s
        self._reporting.start_round(now)
        for each in self._reporting.watched():
            self._report_one(each, defaults, now, utc_s)

    def _report_one(self, each: Observation, defaults: dict[str, float], now: float, utc_s: float) -> None:
        try:
            content, content_format, payload = self._access.read(each.path, each.accept, utc_s)
        except Denied as denied:
            self._reporting.cancel(each.token)
            self._actions.append(SendNotification(each.handle, self.server, each.token, denied.code))
            return
        if not self._reporting.is_due(each, content, defaults, now):
            return
        # RFC 7641 4.5: at least once a day a notification asks whether the observer is still there.
        sequence = self._reporting.told(each, content, now)
        confirmable = each.notified % self.options.confirm_every == 0 or now - each.confirmed_at >= _CONFIRM_AFTER_S
        if confirmable:
            each.confirmed_at = now
        if self._faults is not None:
            payload = self._faults.spoil(payload)
        self._actions.append(
            SendNotification(
                each.handle, self.server, each.token, codes.CONTENT, sequence, content_format, payload, confirmable
            )
        )
        self._stay_awake(now)
        self._tell(Notified(self.options.endpoint_name, str(each.path)))

    def _sample_for_send(self, now: float) -> None:
        every = self.options.send_every_s
        if every is None or self._send_at is None:
            self._send_at = None
            return
        self._send_at = max(self._send_at + every, now)
        utc_s = now + self._utc_offset_s
        if self.tree.value(objects.MUTE_SEND, utc_s) is not False:
            return
        for path in self.options.send_paths:
            entries, _ = self.tree.read(path, utc_s)
            self._unsent.extend(entry._replace(time_s=round(utc_s, 3)) for entry in entries)
        del self._unsent[:-_UNSENT_AT_MOST]
        self._send(now)

    def _send(self, now: float) -> None:
        # One Send at a time: what is measured meanwhile waits, with its time.
        if self._sending is not None or not self._unsent:
            return
        entries, self._unsent = self._unsent, []
        payload = encode_content(ContentFormat.SENML_CBOR, Content(tuple(entries)), Path(), self.tree.types)
        if self._faults is not None:
            payload = self._faults.spoil(payload)
        handle = self._request(codes.POST, ("dp",), (), ContentFormat.SENML_CBOR, payload, now)
        self._sending = (handle, entries)

    def _end_send(self, code: int | None, now: float) -> None:
        assert self._sending is not None
        _, entries = self._sending
        self._sending = None
        if code is None or code >> 5 == 5 or code == codes.TOO_MANY_REQUESTS:
            # Not stored: said again with the next one, as far as there is room.
            self._unsent = [*entries, *self._unsent][-_UNSENT_AT_MOST:]
        elif code == codes.NOT_FOUND:
            self._enrolment.ask_update(now)
        self._tell(SendEnded(self.options.endpoint_name, code))
        self.tick(now)

    # -- the details --

    def _lifetime_s(self, now: float) -> int:
        value = self.tree.value(objects.LIFETIME, now + self._utc_offset_s)
        return value if isinstance(value, int) else self.options.lifetime_s

    def _defaults(self, now: float) -> dict[str, float]:
        defaults: dict[str, float] = {}
        for name, path in (("pmin", objects.DEFAULT_PMIN), ("pmax", objects.DEFAULT_PMAX)):
            value = self.tree.value(path, now)
            if isinstance(value, int) and value:
                defaults[name] = float(value)
        return defaults

    def _stay_awake(self, now: float) -> None:
        self._awake_until = now + self.options.awake_s

    def _tell(self, happening: Happening) -> None:
        self._happenings.append(happening)


def max_age_of(event: ResponseReceived) -> int | None:
    """The server's Max-Age in seconds, None where it said none."""
    return next((decode_uint(value) for number, value in event.options if number == MAX_AGE), None)
