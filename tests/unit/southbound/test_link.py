"""Events become calls, calls become actions; one mistake touches nobody else; every request gets one answer."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.scenario.stack import ManualClock, SeededEntropy, Stack, con
from tests.scenario.test_registration import register

from stellwerk.app.brake import Brake
from stellwerk.app.device_ports import Acknowledgement, DeviceAnswer
from stellwerk.app.meters import Meters
from stellwerk.app.tasks import Tasks
from stellwerk.coap import actions, codes, events
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.status import Status
from stellwerk.southbound.link import Link

PEER = PeerId("udp", "192.0.2.1", 40_000, "192.0.2.100", 5683)
AT = Instant(1.0, 2)


class Uses:
    """What stands above the link: remembers, and answers as it is told."""

    def __init__(self) -> None:
        self.answers: list[DeviceAnswer] = []
        self.lost_tokens: list[bytes] = []
        self.reactions: list[tuple[int, bool]] = []
        self.acknowledgement = Acknowledgement(Status.CHANGED)
        self.fails = False
        self.recalls = True

    def receive(self, uplink: Any, peer: PeerId, receipt: bytes, at: Instant, answer: Any, fresh: bool = False) -> None:
        if self.fails:
            raise RuntimeError("a mistake of ours")
        answer(self.acknowledgement)

    def notified(self, notify: Any, peer: PeerId, receipt: bytes, at: Instant, accept: Any) -> None:
        accept(not self.fails)

    def lost(self, token: bytes, reason: str, at: Instant) -> None:
        self.lost_tokens.append(token)

    def finished(self, answer: DeviceAnswer, at: Instant) -> None:
        self.answers.append(answer)

    def reacted(self, handle: int, at: Instant, *, delivered: bool) -> None:
        self.reactions.append((handle, delivered))

    def may_recall(self, receipt: bytes) -> bool:
        return self.recalls

    async def recall(self, receipt: bytes, since_ms: int) -> None:
        raise OSError("the disk is gone")

    async def find(self, peer: PeerId, token: bytes) -> None:
        raise OSError("the disk is gone")


def linked(tasks: Tasks | None = None) -> tuple[Link, Uses, list[Any]]:
    submitted: list[Any] = []
    uses = Uses()
    link = Link(
        submit=submitted.append,
        store=uses,  # type: ignore[arg-type]
        tasks=tasks or Tasks(),
        entropy=SeededEntropy(),
        clock=ManualClock(),
        brake=Brake(SeededEntropy()),
        meters=Meters(lambda: AT.now + 0.02),
    )
    link.connect(uses, uses, uses.finished, uses.reacted)  # type: ignore[arg-type]
    return link, uses, submitted


def request(exchange: int, code: int = codes.POST, path: tuple[str, ...] = ("dp",)) -> events.RequestReceived:
    return events.RequestReceived(exchange, PEER, code, path, (), None, None, (), b"", b"r", True)


def test_a_success_carries_no_text_and_a_created_one_its_location() -> None:
    link, uses, submitted = linked()
    link.handle([request(1)], AT)
    uses.acknowledgement = Acknowledgement(Status.CREATED, location="k7", detail="for people")
    link.handle([request(2)], AT)
    assert submitted == [
        actions.Respond(1, codes.CHANGED),
        actions.Respond(2, codes.CREATED, ("rd", "k7")),
    ]


@pytest.mark.spec("MSG-14")
def test_a_refusal_says_why_and_an_overload_when_to_come_again() -> None:
    link, uses, submitted = linked()
    uses.acknowledgement = Acknowledgement(Status.BAD_REQUEST, detail="ep is missing")
    link.handle([request(1)], AT)
    uses.acknowledgement = Acknowledgement(Status.SERVICE_UNAVAILABLE, detail="full", max_age_s=300)
    link.handle([request(2)], AT)
    assert submitted[0] == actions.Respond(1, codes.BAD_REQUEST, payload=b"ep is missing")
    assert submitted[1] == actions.Respond(2, codes.SERVICE_UNAVAILABLE, options=((14, b"\x01\x2c"),), payload=b"full")


def test_a_mistake_with_one_event_leaves_the_others_alone_and_is_answered() -> None:
    link, uses, submitted = linked()
    uses.fails = True
    lost = events.ObservationLost(0, PEER, b"token", "reset")
    with capture_logs() as lines:
        link.handle([request(1), lost, request(2, path=("nowhere",))], AT)
    assert uses.lost_tokens == [b"token"]
    assert submitted == [actions.Respond(1, codes.INTERNAL_SERVER_ERROR), actions.Respond(2, codes.NOT_FOUND)]
    assert [each["event"] for each in lines if each["log_level"] == "error"] == ["event.failed"]


@pytest.mark.spec("OB-3")
def test_a_mistake_with_a_notification_leaves_it_to_be_repeated() -> None:
    link, uses, submitted = linked()

    def fail(*parameters: Any) -> None:
        raise RuntimeError("a mistake of ours")

    uses.notified = fail  # type: ignore[method-assign]
    with capture_logs():
        link.handle([events.NotificationReceived(5, 0, PEER, b"t", codes.CONTENT, None, (), b"", 2, b"r", True)], AT)
    assert submitted == [actions.Drop(5)]


@pytest.mark.spec("OB-3")
@pytest.mark.parametrize("stored", [True, False])
def test_a_notification_is_accepted_once_stored_and_dropped_otherwise(stored: bool) -> None:
    link, uses, submitted = linked()
    uses.fails = not stored
    link.handle([events.NotificationReceived(5, 0, PEER, b"t", codes.CONTENT, None, (), b"", 2, b"r", True)], AT)
    assert submitted == [actions.AcceptNotification(5) if stored else actions.Drop(5)]


@pytest.mark.parametrize("question", ["request", "token"])
@pytest.mark.parametrize("limit", [0, 10])
def test_a_question_that_cannot_be_looked_up_is_dropped_to_come_again(question: str, limit: int) -> None:
    async def main() -> list[Any]:
        link, _, submitted = linked(Tasks(limit))
        if question == "request":
            link.handle([events.RequestQuestion(7, PEER, b"r")], AT)
        else:
            link.handle([events.TokenQuestion(7, PEER, b"token")], AT)
        for _ in range(5):
            await asyncio.sleep(0)
        return submitted

    assert asyncio.run(main()) == [actions.Drop(7)]


def test_what_the_journal_cannot_know_goes_on_at_once() -> None:
    link, uses, submitted = linked()
    uses.recalls = False
    link.handle([events.RequestQuestion(7, PEER, b"r")], AT)
    assert submitted == [actions.Proceed(7)]


def test_an_answer_and_a_failure_reach_whoever_asked_with_their_facts() -> None:
    link, uses, _ = linked()
    link.handle(
        [
            events.ResponseReceived(3, PEER, b"t", codes.CONTENT, 112, (), b"x", 9),
            events.RequestFailed(4, PEER, "timeout", "no acknowledgement"),
        ],
        AT,
    )
    assert uses.answers == [
        DeviceAnswer(3, 205, 112, b"x", observing=True),
        DeviceAnswer(4, failure="timeout", detail="no acknowledgement"),
    ]


@pytest.mark.spec("MSG-6")
def test_tokens_are_eight_fresh_bytes() -> None:
    link, _, _ = linked()
    drawn = [link.draw_token() for _ in range(100)]
    assert {len(each) for each in drawn} == {8}
    assert len(set(drawn)) == 100


# -- any bytes, through the whole stack --


@pytest.fixture(scope="module")
def alone() -> Any:
    stack = Stack()
    stack.provision("dev1")
    location = register(stack)
    yield stack, location
    stack.close()


_TARGETS = st.sampled_from(["/dp", "/rd", "here", "/rd/unknown"])
_FORMATS = st.sampled_from([None, 0, 40, 42, 50, 60, 110, 112, 11542, 11543, 64999])
_QUERY = st.lists(st.sampled_from(["ep=dev1", "lt=9", "lt=x", "lwm2m=1.1", "lwm2m=9", "b=U", "Q", "sms=1", "&", "%"]))
MIDS: Counter[str] = Counter()


@pytest.mark.spec("Design 7")
@given(_TARGETS, _FORMATS, _QUERY, st.binary(max_size=50))
@settings(max_examples=120, deadline=None)
def test_any_request_gets_exactly_one_answer_and_raises_nothing(
    alone: Any, target: str, content_format: int | None, query: list[str], payload: bytes
) -> None:
    stack, location = alone
    MIDS["next"] += 1
    target = (location if target == "here" else target) + "?" + "&".join(query)
    with capture_logs() as lines:
        stack << con(codes.POST, target, mid=MIDS["next"] + 1, payload=payload, content_format=content_format)
    answers = [message for _, message in stack.out if message.type == 2]
    stack.out.clear()
    assert len(answers) == 1
    assert answers[0].code >> 5 in (2, 4)
    assert not [each for each in lines if each["log_level"] == "error"]
