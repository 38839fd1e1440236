"""Bootstrap sessions under way: each step is sent once the one before has its answer, and each session has an end with
a name (Core 1.2.2 §6.1; contract B-1, B-3, B-16).

One session per device, and one per peer: a new one ends the one before. Time is bounded for the whole; each step has
its own by CoAP.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

import structlog

from stellwerk.app.bootstrap_accounts import Given
from stellwerk.app.bootstrap_admission import Admitted
from stellwerk.app.bootstrap_history import BootstrapHistory
from stellwerk.app.bootstrap_progress import Progress, ended
from stellwerk.app.device_ports import BootstrapLink, DeviceAnswer
from stellwerk.app.handlers.turns import Later, on_the_loop
from stellwerk.app.ports import Clock, DecidingStore, StoreTrouble
from stellwerk.app.records import AlreadyExists, CredentialChanged, DeviceGone
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.bootstrap.conversation import About, Conversation, Outcome, converse, stop
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.device.bootstrap.plan import make_correction, make_plan
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.bootstrap import BootstrapDelete, BootstrapOperation, BootstrapWrite

log = structlog.get_logger(__name__)

SESSION_S: Final = 230.0
"""A client gives a session up 247 s after its request (B-3); what it hears last should arrive before."""


@dataclass(slots=True)
class Session:
    """One under way. ``untold``: its steps that are over and were not told yet. ``armed_ms``: since when its credential
    is good; ``handle``: of the request of ours that is out, 0 for none."""

    record: DeviceRecord
    peer: PeerId
    kept: BootstrapSession
    given: Given
    about: About
    untold: list[StepRecord]
    one_time: bool = False
    armed_ms: int = 0
    deadline: float = 0.0
    talk: Conversation | None = None
    handle: int = 0
    fresh_is_stored: bool = False
    is_stored: bool = False
    is_told: bool = False
    has_ended: bool = False


class BootstrapConversations:
    """``link`` is the way down; ``session_s``: how long a session may take in all."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        link: BootstrapLink,
        history: BootstrapHistory,
        session_s: float = SESSION_S,
        later: Later = on_the_loop,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._history = history
        self._session_s = session_s
        self._later = later
        self._handles = 0
        self._by_device: dict[DeviceId, Session] = {}
        self._by_handle: dict[int, Session] = {}
        self._by_peer: dict[PeerId, Session] = {}
        self._looks = False
        """Whether `_look` is to run."""
        self._spent: dict[DeviceId, int] = {}
        """Whose one-time credential was used up, and when, which the store does not know yet."""

    def __len__(self) -> int:
        return len(self._by_device)

    def under_way(self, device_id: DeviceId) -> BootstrapSession | None:
        """The device's session that runs, with its steps so far."""
        session = self._by_device.get(device_id)
        return None if session is None else replace(session.kept, steps=tuple(session.about.steps))

    def runs_for(self, device_id: DeviceId) -> bool:
        """Whether one of that device is under way."""
        return device_id in self._by_device

    async def settle_spent(self, device_id: DeviceId) -> bool:
        """Tell the store of the device's one-time credential that was used up and it does not know of; whether there
        was one. Raises `StoreTrouble`."""
        ended_ms = self._spent.get(device_id)
        if ended_ms is None:
            return False
        await self._store.spend_bootstrap_credential(device_id, ended_ms)
        self._spent.pop(device_id, None)
        return True

    def peer_of(self, device_id: DeviceId) -> PeerId | None:
        """With whom the one of that device goes on, None: none does."""
        session = self._by_device.get(device_id)
        return None if session is None else session.peer

    # -- what happens --

    def answered(self, answer: DeviceAnswer) -> None:
        """What came of a step."""
        session = self._by_handle.pop(answer.handle, None)
        if session is not None:
            session.handle = 0
            self._go_on(session, answer)

    def lost(self, peer: PeerId, why: str) -> None:
        """The connection or secure session has ended."""
        session = self._by_peer.get(peer)
        if session is not None:
            self._end(session, Outcome(BootstrapState.LOST, "lost", why))

    def revoked(self, device_id: DeviceId) -> None:
        """What the device proves itself with changed, or was taken away: nothing goes on that was begun before."""
        session = self._by_device.get(device_id)
        if session is not None:
            self._end(session, Outcome(BootstrapState.LOST, "revoked", "the credentials of the device changed"))

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone, and its history with it."""
        self._spent.pop(device_id, None)
        session = self._by_device.get(device_id)
        if session is not None:
            session.is_stored = False
            self._end(session, Outcome(BootstrapState.LOST, "removed", "the device was removed"))

    def note(self, device_id: DeviceId, step: StepRecord) -> bool:
        """The device asked for something besides; False where none of its sessions is under way."""
        session = self._by_device.get(device_id)
        if session is None:
            return False
        session.about.aside(step)
        if session.is_told:
            self._tell(session)
        return True

    def replace(self, device_id: DeviceId, peer: PeerId) -> None:
        """The device asked for something else, from ``peer``."""
        session = self._by_device.get(device_id)
        if session is not None:
            self._end(session, _replaced(peer), keep=peer)

    # -- sessions --

    def make(
        self,
        admitted: Admitted,
        given: Given,
        peer: PeerId,
        trigger: BootstrapTrigger,
        at: Instant,
        *,
        pct: int | None = None,
        version: str | None = None,
    ) -> Session:
        """A session that has not begun: `open` it. ``pct``: the Content-Format that the device prefers; ``version``:
        its LwM2M version where that is known."""
        configuration, accounts = given.configuration, given.accounts
        untold: list[StepRecord] = []
        about = About(
            plan_of=lambda held: make_plan(configuration, accounts, held, pct=pct, version=version),
            correction_of=lambda held, servers: make_correction(
                configuration, accounts, held, servers, pct=pct, version=version
            ),
            now_ms=self._clock.wall_ms,
            version=version,
            on_step=untold.append,
        )
        kept = BootstrapSession(
            0,
            admitted.record.device_id,
            admitted.endpoint,
            self._history.whence(peer),
            trigger,
            BootstrapState.RUNNING,
            at.wall_ms,
        )
        armed_ms = 0 if admitted.credential is None else admitted.credential.modified_ms
        deadline = at.now + self._session_s
        one_time = admitted.blocks.one_time
        return Session(admitted.record, peer, kept, given, about, untold, one_time, armed_ms, deadline)

    async def open(self, session: Session, answer: Callable[[], None]) -> bool:
        """Begin, and call ``answer`` in between: once it is stored, before the first step. False, and nothing is
        called, where it was ended by then and no other took its place. Raises `StoreTrouble`; then there is no
        session."""
        device_id = session.record.device_id
        for before in (self._by_device.get(device_id), self._by_peer.get(session.peer)):
            if before is not None:
                self._end(before, _replaced(session.peer), keep=session.peer)
        self._by_device[device_id] = self._by_peer[session.peer] = session
        try:
            number = await self._store.put_bootstrap_session(session.kept)
        except BaseException:
            self._forget(session)
            raise
        session.kept = replace(session.kept, number=number)
        session.is_stored = True
        if session.has_ended:
            self._tell_end(session)
            if session.kept.state is not BootstrapState.REPLACED:
                return False
            # Another request was quicker, perhaps the same once more: what the device hears is the same too.
            answer()
            return True
        answer()
        session.talk = converse(session.about)
        self._look_later()
        self._go_on(session, None)
        return True

    def _look_later(self) -> None:
        if not self._looks and self._by_device:
            self._looks = True
            first = next(iter(self._by_device.values()))
            self._later(max(0.0, first.deadline - self._clock.now()), self._look)

    def _look(self) -> None:
        """End those whose time is over: they stand in the order in which they began."""
        self._looks = False
        now = self._clock.now()
        text = f"{self._session_s:g} s after its request the device was about to give up"
        for session in list(takewhile(lambda each: each.deadline <= now, self._by_device.values())):
            self._end(session, Outcome(BootstrapState.OVERTIME, "time", text))
        self._look_later()

    def _go_on(self, session: Session, answer: DeviceAnswer | None) -> None:
        """The next step, given the answer to the one before."""
        talk = session.talk
        if talk is None:
            return
        try:
            operation = next(talk) if answer is None else talk.send(answer)
        except StopIteration as end:
            session.talk = None
            self._end(session, end.value)
            return
        except Exception as error:
            session.talk = None
            log.exception("bootstrap.failed", device_id=session.record.device_id)
            self._end(session, Outcome(BootstrapState.STEP_FAILED, "internal", type(error).__name__))
            return
        self._tell(session)
        changes = isinstance(operation, BootstrapDelete | BootstrapWrite)
        if changes and session.given.fresh is not None and not session.fresh_is_stored:
            if not self._tasks.start("fresh keys", self._store_fresh(session, operation)):
                text = "the fresh keys could not be stored: too much is going on"
                self._end(session, Outcome(BootstrapState.STEP_FAILED, "not-stored", text))
        else:
            self._send(session, operation)

    def _send(self, session: Session, operation: BootstrapOperation) -> None:
        self._handles += 1
        session.handle = self._handles
        self._by_handle[session.handle] = session
        self._link.send(session.handle, session.peer, operation)

    async def _store_fresh(self, session: Session, operation: BootstrapOperation) -> None:
        """Before anything changes: the device may use its new key as soon as it has it."""
        try:
            given = session.given
            await self._store.put_fresh_credential(session.record.device_id, given.fresh, basis=given.basis)
        except CredentialChanged as error:
            # Whoever did it has not told yet.
            self._end(session, Outcome(BootstrapState.LOST, "revoked", str(error)))
            return
        except Exception as error:
            text = f"the fresh keys could not be stored: {error}"
            self._end(session, Outcome(BootstrapState.STEP_FAILED, "not-stored", text))
            if not isinstance(error, StoreTrouble | AlreadyExists | DeviceGone):
                raise
            return
        session.fresh_is_stored = True
        if not session.has_ended:
            self._send(session, operation)

    def _forget(self, session: Session) -> None:
        session.has_ended = True
        if self._by_device.get(session.record.device_id) is session:
            del self._by_device[session.record.device_id]
        if self._by_peer.get(session.peer) is session:
            del self._by_peer[session.peer]
        if session.handle:
            self._by_handle.pop(session.handle, None)
            self._link.cancel(session.handle)
            session.handle = 0

    def _end(self, session: Session, outcome: Outcome, keep: PeerId | None = None) -> None:
        """``keep``: the peer of the session that takes its place."""
        if session.has_ended:
            return
        self._forget(session)
        if session.talk is not None:
            talk, session.talk = session.talk, None
            stop(talk, outcome)
        session.kept = replace(
            session.kept,
            state=outcome.state,
            ended_ms=self._clock.wall_ms(),
            reason=outcome.reason,
            detail=outcome.detail,
            steps=tuple(session.about.steps),
        )
        if session.peer != keep:
            self._link.end(session.peer)
        if session.is_stored:
            self._tell_end(session)

    def _tell(self, session: Session) -> None:
        """What happened so far, and what is under way from now on: all of it goes to the store with the next group of
        writes, before an answer can come."""
        number, under_way = session.kept.number, session.about.under_way
        if not session.is_told:
            session.is_told = True
            self._history.began(session.kept, Progress(number, None, under_way))
        for step in session.untold:
            self._history.step(session.record.device_id, step, Progress(number, step, under_way))
        session.untold.clear()

    def _tell_end(self, session: Session) -> None:
        self._tell(session)
        spent_ms = 0
        if session.one_time and session.kept.state is BootstrapState.CONFIGURED:
            # By a clock that was set back it ended before it was armed.
            spent_ms = self._spent[session.record.device_id] = max(session.kept.ended_ms, session.armed_ms)
        self._history.ended(session.kept, ended(session.kept, spent_ms))
        if not self._tasks.start("bootstrap ended", self._store_end(session)):
            log.warning("bootstrap.history_lost", device_id=session.record.device_id, why="too much is going on")

    async def _store_end(self, session: Session) -> None:
        await self.settle_spent(session.record.device_id)
        await self._store.put_bootstrap_session(session.kept)


def _replaced(peer: PeerId) -> Outcome:
    return Outcome(BootstrapState.REPLACED, "another-request", f"the device asked again, from {peer}")
