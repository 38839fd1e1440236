"""When a device may be asked something, and what else it is asked meanwhile (contract §3, QM-2 to QM-6).

A device that sleeps listens for a while after it was heard. In that time it has one request of ours at a time, whoever
asks: observations that are restored, then commands, then reads of our own. Nothing leaves before the answer to the
uplink had a moment to arrive. When the window closes, what is not acknowledged is not repeated any more; when the
device is heard again it is repeated at once, as the same message, so that even an Execute is safe. A gateway and those
behind it are one such device: they have one radio, one window and one turn.

`Turns` is the link that observations and reads use; `delivery` takes a turn before it commits that a command is sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Final

from stellwerk.app.device_ports import DeviceAnswer, DeviceLink
from stellwerk.app.ports import Clock
from stellwerk.app.profiles import Profiles
from stellwerk.app.registry import NEVER, Known, Registry
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.operations import Operation, Read

GAP_S: Final = 0.1
"""Between our answer to a sleeper's uplink and the first request (QM-6)."""
PROBE_S: Final = 60.0
_SPARE_LOOKS: Final = 64
"""Entries that the heap of looks may hold for nothing before it is made anew."""
_HEARD: Final = ("", "reset", "malformed", "oversized")
"""Failures that a message of the device brought about, and none at all."""

Later = Callable[[float, Callable[[], None]], None]
"""Runs something after so many seconds."""
Answered = Callable[[DeviceAnswer, Instant], None]


@dataclass(slots=True)
class _Out:
    """A request that left. ``since``: when it, or its newest block, did."""

    device_id: DeviceId
    client_id: DeviceId
    since: float
    delivered: bool = False
    held: bool = False
    given_up: bool = False
    over: bool = False
    look_at: float = 0.0
    """When it is looked at next; other entries of the heap are old."""


@dataclass(slots=True)
class _Own:
    """A request of our own that waits for its turn."""

    handle: int
    registration: Registration
    operation: Operation
    token: bytes | None


class Turns:
    """``gap_s``: what passes between our answer to an uplink and the first request (QM-6); ``probe_s``: how long a
    device that does not sleep and left a request unanswered is not tried again unless it is heard."""

    def __init__(
        self,
        *,
        registry: Registry,
        profiles: Profiles,
        clock: Clock,
        link: DeviceLink,
        gap_s: float = GAP_S,
        probe_s: float = PROBE_S,
        later: Later | None = None,
    ) -> None:
        """``later`` runs something after so many seconds; None: the running loop."""
        self._registry = registry
        self._profiles = profiles
        self._clock = clock
        self._link = link
        self._gap_s = gap_s
        self._probe_s = probe_s
        self._later = later or on_the_loop
        self._out: dict[int, _Out] = {}
        # By client: the device, or the gateway that it is behind.
        self._current: dict[DeviceId, int] = {}
        """The one request of each sleeper: it is out, or that it leaves is being stored."""
        self._client_of: dict[int, DeviceId] = {}
        """Whose turn a request in `_current` has."""
        self._waiting: dict[DeviceId, deque[_Own]] = {}
        self._opening: set[DeviceId] = set()
        """Sleepers that were heard a moment ago."""
        self._looks: list[tuple[float, int]] = []
        """A heap: when to look at which request that is out."""
        self._probes: list[tuple[float, DeviceId]] = []
        """A heap: when devices that are silent are tried again although they were not heard."""
        self._probing: set[DeviceId] = set()
        self.on_free: Callable[[DeviceId], bool] = _nobody
        """The client may be sent a command; True where commands for it are not over, so that reads wait."""
        self.on_answer: Answered = _nothing
        """What came of a request that never left."""

    # -- who may be asked --

    def listens(self, known: Known, now: float) -> bool:
        """Whether a request that leaves now may be expected to arrive."""
        if not self._link.reaches(known.registration.peer):
            return False
        # Of one that was not heard in this run nothing is known.
        silent = NEVER < known.silent_since >= known.last_heard
        if not self._profiles.sleeps(known):
            return not silent or now - known.silent_since >= self._probe_s
        if silent:
            return False
        return now <= self._window_end(known) or self._profiles.radio(known).pages

    def free(self, known: Known) -> bool:
        """Whether nothing else is asked of the device, and its uplink has its answer."""
        client_id = _client_id(known)
        return client_id not in self._current and client_id not in self._opening

    def busy(self, known: Known) -> bool:
        """Whether something is asked of a sleeper, or waits to be."""
        # Hot: nearly every device is its own client.
        client_id = known.registration.device_id if type(known) is Known else _client_id(known)
        return client_id in self._current or client_id in self._waiting

    def probe_later(self, known: Known) -> None:
        """A device that does not sleep left something unanswered: `on_free` when it may be tried again."""
        device_id = known.registration.device_id
        is_there = not self._profiles.sleeps(known) and self._link.reaches(known.registration.peer)
        if device_id not in self._probing and is_there:
            self._probing.add(device_id)
            heappush(self._probes, (known.silent_since + self._probe_s, device_id))

    # -- commands --

    def take(self, known: Known, handle: int) -> None:
        """The next request of the device is that of ``handle``; `start` or `leave` follows."""
        if self._profiles.sleeps(known):
            client_id = _client_id(known)
            self._current[client_id] = handle
            self._client_of[handle] = client_id

    def leave(self, handle: int) -> None:
        """It is over, or does not leave after all; `go_on` follows."""
        client_id = self._client_of.pop(handle, None)
        if client_id is not None and self._current.get(client_id) == handle:
            del self._current[client_id]

    def start(self, handle: int, known: Known, operation: Operation, token: bytes | None) -> None:
        """Send what `take` was said of, or the next of its requests."""
        self._start(handle, known, known.registration, operation, token)

    def _start(
        self, handle: int, known: Known, registration: Registration, operation: Operation, token: bytes | None
    ) -> None:
        out = self._out[handle] = _Out(registration.device_id, _client_id(known), self._clock.now())
        self._link.send(handle, registration, operation, token, self._profiles.radio(known).first_timeout_s)
        self._look_later(handle, out, known)

    # -- what happens --

    def heard(self, known: Known) -> None:
        """An uplink of the device was answered."""
        client_id = _client_id(known)
        if not self._gap_s or not self._profiles.sleeps(known):
            self._open(client_id)
        elif client_id not in self._opening:
            self._opening.add(client_id)
            self._later(self._gap_s, lambda: self._open(client_id))

    def registered(self, known: Known) -> None:
        """The device registered, and whatever is asked of it from here on waits for its turn. As `heard`, which costs a
        device that does not sleep more than it gains."""
        if self._profiles.sleeps(known):
            self.heard(known)

    def reacted(self, handle: int, at: Instant, *, delivered: bool, heard: bool = True) -> None:
        """The device acknowledged a request, or took a part of it and the next one left: it listens. Not ``heard``: the
        next part left since it said nothing to the one before."""
        out = self._out.get(handle)
        known = self._registry.of(out.device_id) if out is not None else None
        if out is None or known is None:
            return
        if heard:
            known.heard(at.now, self._link)
        out.delivered = delivered
        out.held = out.given_up = False
        if not delivered:
            out.since = at.now
        self._look_later(handle, out, known)

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        """Before ``answer`` goes to whoever asked: what it says of the device. `done` follows."""
        out = self._out.get(answer.handle)
        if out is None:
            return
        out.over = True
        if out.given_up and answer.failure == "cancelled":
            answer.failure, answer.detail = "timeout", "no answer within the time that its profile gives it"
        known = self._registry.of(out.device_id)
        if known is not None and answer.failure in _HEARD:
            known.heard(at.now, self._link)

    def done(self, handle: int) -> None:
        """Whoever asked has the answer: the next one's turn, unless it asked on."""
        out = self._out.get(handle)
        if out is not None and out.over:
            del self._out[handle]
            self.leave(handle)
            self.go_on(out.client_id)

    def go_on(self, device_id: DeviceId) -> None:
        """Whose turn it is, if the device and its household are asked nothing just now: observations, then commands,
        then reads."""
        known = self._registry.of(device_id)
        if known is None:
            self.device_lost(device_id)
        elif self.free(known):
            client_id = _client_id(known)
            if client_id in self._waiting and not self.listens(known, self._clock.now()):
                for each in self._waiting.pop(client_id):
                    self._fail(each.handle, "timeout", "it sleeps; its turn had not come")
            if not self._start_first(client_id, reads=False) and not self.on_free(client_id):
                self._start_first(client_id, reads=True)

    def device_lost(self, device_id: DeviceId) -> None:
        """The registration ended: nothing of our own is asked any more. What waits for one behind a gateway comes to
        nothing when its turn comes."""
        for each in self._waiting.pop(device_id, ()):
            self._fail(each.handle, "cancelled", "the registration ended")

    def look(self) -> None:
        """Hold what went to devices that sleep by now, give up what takes too long, try silent devices anew."""
        now = self._clock.now()
        while self._probes and self._probes[0][0] <= now:
            _, device_id = heappop(self._probes)
            self._probing.discard(device_id)
            self.on_free(device_id)
        while self._looks and self._looks[0][0] <= now:
            due, handle = heappop(self._looks)
            out = self._out.get(handle)
            known = self._registry.of(out.device_id) if out is not None and out.look_at == due else None
            if out is not None and known is not None and not out.over and not out.given_up:
                self._look_at(handle, out, known, now)

    # -- the link of observations and reads --

    def send(
        self,
        handle: int,
        registration: Registration,
        operation: Operation,
        token: bytes | None = None,
        ack_timeout_s: float | None = None,
    ) -> None:
        """As `DeviceLink.send`; to a sleeper when it is this one's turn, and not at all when it sleeps by then
        (``timeout``)."""
        own = _Own(handle, registration, operation, token)
        known = self._registry.of(registration.device_id)
        if known is None:
            self._fail(handle, "cancelled", "the registration ended")
        elif not self._profiles.sleeps(known):
            self._start_own(own, known)
        else:
            client_id = _client_id(known)
            self._waiting.setdefault(client_id, deque()).append(own)
            if self.free(known):
                self.go_on(client_id)

    def draw_token(self) -> bytes:
        return self._link.draw_token()

    def reaches(self, peer: PeerId) -> bool:
        return self._link.reaches(peer)

    def choose_format(self, registration: Registration, operation: Operation) -> int:
        return self._link.choose_format(registration, operation)

    def cancel(self, handle: int) -> None:
        self._link.cancel(handle)

    def hold(self, handle: int) -> None:
        self._link.hold(handle)

    def repeat(self, handle: int) -> None:
        self._link.repeat(handle)

    def prove_peer(self, peer: PeerId) -> None:
        self._link.prove_peer(peer)

    def move_peer(self, old: PeerId, new: PeerId) -> None:
        self._link.move_peer(old, new)

    def forget_peer(self, peer: PeerId) -> None:
        self._link.forget_peer(peer)

    def forget_observation(self, peer: PeerId, token: bytes) -> None:
        self._link.forget_observation(peer, token)

    # -- inside --

    def _open(self, client_id: DeviceId) -> None:
        self._opening.discard(client_id)
        handle = self._current.get(client_id)
        out = self._out.get(handle) if handle is not None else None
        if handle is None:
            self.go_on(client_id)
        elif out is not None and not out.over and not out.delivered:
            self._link.repeat(handle)
            known = self._registry.of(out.device_id)
            if out.held and known is not None:
                out.held = False
                self._look_later(handle, out, known)

    def _start_first(self, client_id: DeviceId, *, reads: bool) -> bool:
        """Start the first of our own requests that wait; False where none may."""
        while (waiting := self._waiting.get(client_id)) is not None:
            own = next((each for each in waiting if reads or not isinstance(each.operation, Read)), None)
            if own is None:
                return False
            waiting.remove(own)
            if not waiting:
                del self._waiting[client_id]
            known = self._registry.of(own.registration.device_id)
            if known is not None and own.registration.location == known.registration.location:
                self._current[client_id] = own.handle
                self._client_of[own.handle] = client_id
                self._start_own(own, known)
                return True
            ended = "the registration ended" if known is None else "the device registered anew"
            self._fail(own.handle, "cancelled", ended)
        return False

    def _start_own(self, own: _Own, known: Known) -> None:
        # Where it is now, which may be elsewhere than when it was asked for.
        current, registration = known.registration, own.registration
        if registration.peer != current.peer or registration.proven != current.proven:
            registration = replace(registration, peer=current.peer, proven=current.proven)
        self._start(own.handle, known, registration, own.operation, own.token)

    def _window_end(self, known: Known) -> float:
        # Long enough for what waits to leave at all.
        return known.last_heard + max(self._profiles.window_s((known.household or known).record), 2 * self._gap_s)

    def _look_later(self, handle: int, out: _Out, known: Known) -> None:
        longest_s = self._profiles.longest_answer_s(known)
        due = [] if longest_s is None else [out.since + longest_s]
        if not out.delivered and not out.held and self._profiles.sleeps(known):
            due.append(self._window_end(known))
        if due and out.look_at != min(due):
            out.look_at = min(due)
            heappush(self._looks, (out.look_at, handle))
            if len(self._looks) > _SPARE_LOOKS + 2 * len(self._out):
                # A window may be a day long, and each block of a large Write sets another time to look.
                self._looks = [(each.look_at, handle) for handle, each in self._out.items() if each.look_at]
                heapify(self._looks)

    def _look_at(self, handle: int, out: _Out, known: Known, now: float) -> None:
        longest_s = self._profiles.longest_answer_s(known)
        if longest_s is not None and now >= out.since + longest_s:
            out.given_up = True
            self._link.cancel(handle)
            return
        if not out.delivered and self._profiles.sleeps(known) and now >= self._window_end(known):
            out.held = True
            self._link.hold(handle)
        out.look_at = 0.0
        self._look_later(handle, out, known)

    def _fail(self, handle: int, failure: str, detail: str) -> None:
        # Later, like every outcome: whoever asked has not returned yet.
        asyncio.get_running_loop().call_soon(self._fail_now, handle, failure, detail)

    def _fail_now(self, handle: int, failure: str, detail: str) -> None:
        at = Instant(self._clock.now(), self._clock.wall_ms())
        self.on_answer(DeviceAnswer(handle, failure=failure, detail=detail), at)


def _client_id(known: Known) -> DeviceId:
    """The device, or the gateway that it is behind."""
    return (known.household or known).registration.device_id


def on_the_loop(seconds: float, call: Callable[[], None]) -> None:
    """Run ``call`` after so many seconds of the running loop."""
    asyncio.get_running_loop().call_later(seconds, call)


def _nobody(device_id: DeviceId) -> bool:
    return False


def _nothing(answer: DeviceAnswer, at: Instant) -> None:
    pass
