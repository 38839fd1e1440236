"""One session with a bootstrap server, as the device takes part in it (Core 1.2.2 §6.1; contract §5).

A session ends with the accounts that the device got, or with a reason; then the objects are what they were before.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto
from heapq import heappop, heappush
from typing import Final, TypeAlias

from stellwerk.coap import codes
from stellwerk.coap.actions import Action, Drop, ForgetPeer, Proceed, RejectRequest, Respond, SendRequest, VerifyPeer
from stellwerk.coap.events import Event, RequestFailed, RequestQuestion, RequestReceived, ResponseReceived
from stellwerk.core.ids import PeerId
from stellwerk.sim.body import Body
from stellwerk.sim.bootstrap.accounts import Inconsistent, ServerAccount
from stellwerk.sim.bootstrap.contexts import unanswered
from stellwerk.sim.bootstrap.faults import StepFault, StepFaultKind, StepFaults
from stellwerk.sim.bootstrap.options import BootstrapOptions, Mode
from stellwerk.sim.bootstrap.serving import BootstrapServing, StepAnswer, step_of
from stellwerk.sim.happenings import BootstrapAsked, Moved, Served
from stellwerk.sim.refusals import words_of
from stellwerk.sim.security import STRANGER
from stellwerk.sim.tree import Denied, Instance

REASONS: Final = frozenset(
    {
        "refused",
        "silent",
        "overtime",
        "lost",
        "handshake",
        "unconnected",
        "pack",
        "no-account",
        "unreachable",
        "restarted",
    }
)
"""Why a bootstrap failed: the server refused the request or did not answer it, did not finish in time, ended the
session or connection, made no session or took no connection; its pack could not be used; the device has no account of a
bootstrap server any more; the servers that it was given cannot be spoken to from here; the device restarted in the
middle."""

_TOKEN_BYTES: Final = 8
_NO_PACK: Final = (codes.METHOD_NOT_ALLOWED, codes.NOT_IMPLEMENTED)
_GARBAGE: Final = 24
"""Bytes of an answer that cannot be decoded."""


class Stage(Enum):
    IDLE = auto()
    HOLDING = auto()
    """The request comes later; the server may begin meanwhile."""
    WAITING = auto()
    """The server is to begin."""
    ASKING = auto()
    """The request has no answer yet. The server's first steps may overtake it."""
    SERVING = auto()


@dataclass(frozen=True, slots=True)
class Configured:
    """The session ended as it should."""

    accounts: tuple[ServerAccount, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """``reason`` is one of `REASONS`; ``detail`` a code or a sentence."""

    reason: str
    detail: str = ""


Outcome: TypeAlias = Configured | Failed | None


class BootstrapClient:
    """The device ``body`` and its bootstrap server; `begin` starts a session, `handle` and `tick` say how it ended."""

    __slots__ = (
        "_actions",
        "_before",
        "_body",
        "_due",
        "_ends_at",
        "_faults",
        "_late",
        "_options",
        "_packing",
        "_serving",
        "_steps",
        "_under_way",
        "closes",
        "restarts",
        "server",
        "stage",
    )

    def __init__(self, body: Body, options: BootstrapOptions, server: PeerId) -> None:
        self._body = body
        self._options = options
        self.server = server
        self.stage = Stage.IDLE
        self.restarts = False
        """A fault wants the device to restart."""
        self.closes = False
        """A fault wants the connection or session with the server closed."""
        self._serving = BootstrapServing(body.tree, body.release, muted=body.options.muted)
        self._faults = StepFaults(options.faults, body.options.seed)
        self._actions: list[Action] = []
        self._late: list[tuple[float, int, Action]] = []
        self._before: dict[int, dict[int, Instance]] | None = None
        self._due: float | None = None
        self._ends_at: float | None = None
        self._under_way: int | None = None
        self._packing = False
        self._steps = 0

    # -- from outside --

    def begin(self, at: float, hold_off_s: float) -> None:
        """Ask ``hold_off_s`` seconds after ``at``, or wait for the server, as the mode wants it."""
        self._before = self._body.tree.snapshot()
        self._steps, self._packing, self._ends_at = 0, self._options.mode is Mode.PACK, None
        if self._options.mode is Mode.SERVER and not hold_off_s:
            self.stage, self._due = Stage.WAITING, None
            # The server is configured, not a stranger: answers to it need no bound against amplification.
            self._actions.append(VerifyPeer(self.server))
        else:
            self.stage, self._due = Stage.HOLDING, at + hold_off_s

    def abandon(self) -> None:
        """The session is over, and the objects are what they were before it."""
        self._rest()
        if self._before is not None:
            self._body.tree.restore(self._before)
            self._before = None

    def take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    @property
    def is_on(self) -> bool:
        """Whether the device bootstraps, or is about to."""
        return self.stage is not Stage.IDLE

    @property
    def is_under_way(self) -> bool:
        """Whether a session has begun: nobody else may change the objects now."""
        return self.stage in (Stage.ASKING, Stage.SERVING)

    @property
    def faults_committed(self) -> int:
        return self._faults.committed

    # -- time --

    def deadline(self) -> float | None:
        times = [self._due, self._ends_at, self._late[0][0] if self._late else None]
        return min((each for each in times if each is not None), default=None)

    def tick(self, now: float) -> Outcome:
        """Do what is due."""
        while self._late and self._late[0][0] <= now:
            self._actions.append(heappop(self._late)[2])
        if self._ends_at is not None and self._ends_at <= now:
            return self._fail("overtime", f"no Finish within {self._options.session_s:g} s")
        if self._due is not None and self._due <= now:
            self._due = None
            self._ask(now)
        return None

    # -- events --

    def lose(self, reason: str, detail: str) -> Outcome:
        """The way to the server could not be opened, or broke down."""
        return self._fail(reason, detail) if self.is_under_way else None

    def handle(self, event: Event, now: float) -> Outcome:
        """React to an event that concerns the bootstrap server."""
        if isinstance(event, RequestReceived):
            return self._serve(event, now)
        if isinstance(event, RequestQuestion):
            self._actions.append(Proceed(event.exchange))
        elif isinstance(event, ResponseReceived) and event.handle == self._under_way:
            self._under_way = None
            return self._hear(event, now)
        elif isinstance(event, RequestFailed) and event.handle == self._under_way:
            self._under_way = None
            # The answer may be lost for good and the steps come all the same.
            return self._fail(*unanswered(event)) if self.stage is Stage.ASKING else None
        return None

    # -- the request --

    def _ask(self, now: float) -> None:
        self.stage = Stage.ASKING
        name = self._body.options.endpoint_name
        # Contract B-3: counted from the request.
        self._ends_at = now + self._options.session_s
        accept, path = None, ("bs",)
        pct = self._options.pct(self._body.release)
        for fault in self._faults.strike_request():
            if fault.kind is StepFaultKind.STRANGER:
                name = STRANGER + name
            else:
                pct = fault.number
        if self._packing:
            accept, path = self._options.accept, ("bspack",)
            query: tuple[str, ...] = (f"ep={name}", f"acc={self._serving.account_links()}")
        else:
            query = (f"ep={name}",) if pct is None else (f"ep={name}", f"pct={pct}")
        self._under_way = next(self._body.handles)
        token = self._body.random.randbytes(_TOKEN_BYTES)
        code = codes.GET if self._packing else codes.POST
        self._actions.append(VerifyPeer(self.server))
        self._actions.append(SendRequest(self._under_way, self.server, code, token, path, query, accept=accept))
        self._body.stay_awake(now)
        self._body.tell(BootstrapAsked(self._body.options.endpoint_name))

    def _hear(self, event: ResponseReceived, now: float) -> Outcome:
        if self._packing:
            if event.code in _NO_PACK:
                self._packing = False
                self._ask(now)
                return None
            if event.code == codes.CONTENT:
                return self._take_pack(event, now)
        elif event.code == codes.CHANGED:
            if self.stage is Stage.ASKING:
                self.stage = Stage.SERVING
            return None
        return self._fail("refused", f"{codes.dotted(event.code)} {words_of(event)}".rstrip())

    def _take_pack(self, event: ResponseReceived, now: float) -> Outcome:
        try:
            accounts = self._serving.take_pack(event.content_format, event.payload, self._body.utc_s(now))
        except (Denied, Inconsistent) as error:
            return self._fail("pack", error.why if isinstance(error, Denied) else str(error))
        self._rest()
        self._before = None
        return Configured(accounts)

    # -- the steps --

    def _serve(self, request: RequestReceived, now: float) -> Outcome:
        if self._options.mode is Mode.SERVER and not self.is_under_way:
            self._begin_unasked(now)
        step, path = step_of(request)
        if not self.is_under_way:
            self._answer(request, StepAnswer(codes.UNAUTHORIZED, why="the device is not bootstrapping"))
            return None
        self.stage = Stage.SERVING
        self._body.stay_awake(now)
        self._steps += 1
        fault = self._faults.strike(step, self._steps, path, request.token)
        if fault is not None and not fault.has_effect:
            self._misdo(fault, request)
            return None
        answer = self._serving.answer(request, self._body.utc_s(now))
        if fault is not None and fault.kind is StepFaultKind.GARBAGE:
            answer = replace(answer, payload=bytes(each ^ 0xA5 for each in answer.payload[:_GARBAGE]))
        late_s = fault.seconds if fault is not None and fault.kind is StepFaultKind.LATE else 0.0
        self._answer(request, answer, at=now + late_s if late_s else None)
        if fault is not None and fault.kind is StepFaultKind.AGAIN:
            self._ask_again(now)
            return None
        if fault is not None and fault.kind is StepFaultKind.MOVE:
            self._body.tell(Moved(self._body.options.endpoint_name))
        if answer.accounts is None:
            return None
        self._rest(but_late=True)
        self._before = None
        return Configured(answer.accounts)

    def _begin_unasked(self, now: float) -> None:
        if self._before is None:
            # It was registered, and waited for nothing.
            self._before, self._steps = self._body.tree.snapshot(), 0
        self.stage, self._due, self._ends_at = Stage.SERVING, None, now + self._options.session_s
        self._body.tell(BootstrapAsked(self._body.options.endpoint_name))

    def _answer(self, request: RequestReceived, answer: StepAnswer, at: float | None = None) -> None:
        respond = Respond(request.exchange, answer.code, (), answer.content_format, (), answer.payload)
        if at is None:
            self._actions.append(respond)
        else:
            heappush(self._late, (at, next(self._body.handles), respond))
        path = "/".join(request.path)
        self._body.tell(Served(self._body.options.endpoint_name, request.code, path, answer.code, answer.why))

    def _misdo(self, fault: StepFault, request: RequestReceived) -> None:
        if fault.kind is StepFaultKind.REFUSE:
            self._answer(request, StepAnswer(fault.code, why="a fault that was asked for"))
        elif fault.kind is StepFaultKind.RESET:
            self._actions.append(RejectRequest(request.exchange))
        else:
            self._actions.append(Drop(request.exchange))
            self.restarts = self.restarts or fault.kind is StepFaultKind.REBOOT
            self.closes = self.closes or fault.kind is StepFaultKind.CLOSE

    def _ask_again(self, now: float) -> None:
        if self._before is not None:
            self._body.tree.restore(self._before)
            self._before = self._body.tree.snapshot()
        self._steps = 0
        self._ask(now)

    # -- the end --

    def _fail(self, reason: str, detail: str) -> Failed:
        self.abandon()
        # What is repeated of this session finds no memory of it.
        self._actions.append(ForgetPeer(self.server))
        return Failed(reason, detail)

    def _rest(self, *, but_late: bool = False) -> None:
        self.stage, self._due, self._ends_at, self._under_way = Stage.IDLE, None, None, None
        if not but_late:
            self._late.clear()
