"""Bootstrap over the real CoAP engine, in memory, with a client driven by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.scenario.stack import HOME, After, ManualClock, SeededEntropy, Step, ack, after, con, rst

from stellwerk.app.device_ports import Acknowledgement, DeviceAnswer
from stellwerk.app.handlers.bootstrap_conversations import SESSION_S
from stellwerk.coap import codes
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import ACK, CON, RST, Message, decode_message, encode_message, encode_options
from stellwerk.coap.options import read_options
from stellwerk.coap.tcp.endpoint import AdoptConnection, StreamEndpoint
from stellwerk.coap.tcp.frames import encode_frame
from stellwerk.coap.tcp.signalling import Capabilities, encode_csm
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.bootstrap import (
    BootstrapDelete,
    BootstrapDiscover,
    BootstrapFinish,
    BootstrapPackRequest,
    BootstrapRead,
    BootstrapRequest,
    BootstrapUplink,
    BootstrapWrite,
)
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import Status
from stellwerk.southbound.bootstrap_link import IDLE_S, LINGER_S, PATIENCE_S, STREAM_LINGER_S, BootstrapLink

SESSION = PeerId("dtls", "0011223344556677", 0)
ACCOUNT = Content((Entry(Path(0, 1, 0), "coap://dm"), Entry(Path(0, 1, 1), False), Entry(Path(0, 1, 10), 123)))


class Uses:
    """What stands above the link: remembers, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[BootstrapUplink, PeerId, bool]] = []
        self.answers: list[DeviceAnswer] = []
        self.ended: list[tuple[PeerId, str]] = []
        self.acknowledgement: Acknowledgement | None = Acknowledgement(Status.CHANGED)
        self.waiting: list[Callable[[Acknowledgement], None]] = []
        self.fails = False

    def requested(self, uplink: Any, peer: PeerId, at: Instant, answer: Any, fresh: bool) -> None:
        if self.fails:
            raise RuntimeError("a mistake of ours")
        self.requests.append((uplink, peer, fresh))
        if self.acknowledgement is None:
            self.waiting.append(answer)
        else:
            answer(self.acknowledgement)

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        self.answers.append(answer)

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        self.ended.append((peer, why))


class Bench:
    """``bench << con(...)`` feeds one datagram, or lets time pass; `sent` is what went out since."""

    def __init__(self, *, reaches: bool = True, verified: bool = False) -> None:
        self.clock = ManualClock()
        self.engine = Endpoint(SeededEntropy(), verified=verified)
        self.uses = Uses()
        self.closed: list[PeerId] = []
        self.link = BootstrapLink(
            submit=lambda action: self.engine.submit(action, self.clock.now()),
            entropy=SeededEntropy(7),
            clock=self.clock,
            reaches=lambda peer: reaches,
            close=lambda peer, why: self.closed.append(peer),
        )
        self.link.connect(self.uses)
        self.sizes: list[int] = []

    def __lshift__(self, what: Step | After) -> "Bench":
        if isinstance(what, Step):
            self.engine.feed(encode_message(what.message), peer=what.peer, now=self.clock.now())
        else:
            end = self.clock.at + what.seconds
            while (due := self.engine.deadline()) is not None and due <= end:
                self.clock.at = max(self.clock.at, due)
                self.engine.tick(self.clock.at)
                self.settle()
            self.clock.at = end
        self.settle()
        return self

    def settle(self) -> None:
        while found := self.engine.take_events():
            self.link.handle(found, self.clock.instant())

    def sent(self) -> list[Message]:
        self.settle()
        datagrams = self.engine.take_datagrams()
        self.sizes += [len(each) for _, each in datagrams]
        return [decode_message(each) for _, each in datagrams]

    def one(self) -> Message:
        (message,) = self.sent()
        return message

    def ask(self, handle: int, operation: Any, peer: PeerId = HOME) -> Message:
        self.link.send(handle, peer, operation)
        return self.one()


def known() -> Bench:
    """A client that has asked and has shown where it receives."""
    bench = Bench()
    bench << con(codes.POST, "/bs?ep=dev1", mid=1, token=b"t")
    bench.sent()
    request = bench.ask(0, BootstrapDiscover())
    bench << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=b"</0/0>")
    bench.uses.answers.clear()
    return bench


# -- up --


@pytest.mark.spec("LwM2M-contract 5", "B-1", "ETS 0")
def test_a_request_is_answered_before_the_first_step_leaves():
    bench = Bench()
    bench << con(codes.POST, "/bs?ep=dev1&pct=112", mid=1, token=b"t")
    bench.link.send(5, HOME, BootstrapDiscover())
    answer, discover = bench.sent()
    assert (answer.type, answer.code, answer.mid, answer.token) == (ACK, codes.CHANGED, 1, b"t")
    assert (discover.type, discover.code) == (CON, codes.GET)
    assert bench.uses.requests == [(BootstrapRequest(("ep=dev1", "pct=112")), HOME, False)]


@pytest.mark.parametrize(
    ("code", "target", "answer"),
    [
        (codes.GET, "/bs?ep=a", codes.METHOD_NOT_ALLOWED),
        (codes.POST, "/bspack?ep=a", codes.METHOD_NOT_ALLOWED),
        (codes.POST, "/rd?ep=a", codes.NOT_FOUND),
        (codes.GET, "/.well-known/core", codes.NOT_FOUND),
        (codes.GET, "/", codes.NOT_FOUND),
        (codes.POST, "/bs/1?ep=a", codes.NOT_FOUND),
    ],
)
def test_only_what_bootstrapping_has_is_served(code: int, target: str, answer: int):
    bench = Bench()
    bench << con(code, target, mid=1)
    assert bench.one().code == answer
    assert bench.uses.requests == []
    assert bench.link.refused == {"path": 1}


def test_a_refusal_says_why_and_what_would_be_right():
    bench = Bench()
    bench.uses.acknowledgement = Acknowledgement(Status.BAD_REQUEST, detail="unknown")
    bench << con(codes.POST, "/bs?ep=nobody-that-we-have-ever-seen", mid=1)
    answer = bench.one()
    assert (answer.code, answer.payload) == (codes.BAD_REQUEST, b"unknown")


def test_an_answer_that_takes_long_comes_separately():
    bench = Bench()
    bench.uses.acknowledgement = None
    bench << con(codes.POST, "/bs?ep=dev1", mid=1, token=b"t") << after(1.5)
    assert (bench.one().type, bench.uses.requests) == (ACK, [(BootstrapRequest(("ep=dev1",)), HOME, False)])
    bench.uses.waiting[0](Acknowledgement(Status.CHANGED))
    answer = bench.one()
    assert (answer.type, answer.code, answer.token) == (CON, codes.CHANGED, b"t")


@pytest.mark.spec("B-1", "RFC 7252 4.7")
@pytest.mark.parametrize("end", ["acknowledged", "reset", "given up"])
def test_no_step_overtakes_an_answer_that_comes_separately(end: str):
    bench = Bench(verified=True)
    bench.uses.acknowledgement = None
    bench << con(codes.POST, "/bs?ep=dev1", mid=1, token=b"t", peer=SESSION) << after(1.5)
    bench.sent()
    bench.uses.waiting[0](Acknowledgement(Status.CHANGED))
    bench.link.send(5, SESSION, BootstrapDiscover())
    answer = bench.one()
    assert answer.code == codes.CHANGED
    bench << after(5)
    assert {each.code for each in bench.sent()} == {codes.CHANGED}
    if end == "given up":
        bench << after(93)
    else:
        bench << (ack if end == "acknowledged" else rst)(mid=answer.mid, peer=SESSION)
    assert [each.code for each in bench.sent() if each.code != codes.CHANGED][:1] == [codes.GET]
    assert bench.uses.answers == []


def test_a_step_that_waits_for_an_answer_can_be_given_up():
    bench = Bench(verified=True)
    bench.uses.acknowledgement = None
    bench << con(codes.POST, "/bs?ep=dev1", mid=1, token=b"t", peer=SESSION) << after(1.5)
    bench.uses.waiting[0](Acknowledgement(Status.CHANGED))
    bench.link.send(5, SESSION, BootstrapDiscover())
    bench.link.cancel(5)
    bench << ack(mid=bench.sent()[-1].mid, peer=SESSION)
    assert [each.failure for each in bench.uses.answers] == ["cancelled"]
    assert bench.sent() == []


def test_a_repeated_request_gets_the_same_answer_and_runs_once():
    bench = Bench()
    bench << con(codes.POST, "/bs?ep=dev1", mid=1) << con(codes.POST, "/bs?ep=dev1", mid=1)
    assert [each.code for each in bench.sent()] == [codes.CHANGED, codes.CHANGED]
    assert len(bench.uses.requests) == 1


def test_a_mistake_with_one_request_is_answered_and_leaves_the_others_alone():
    bench = Bench()
    bench.uses.fails = True
    with capture_logs() as lines:
        bench << con(codes.POST, "/bs?ep=dev1", mid=1)
    assert bench.one().code == codes.INTERNAL_SERVER_ERROR
    assert [each["event"] for each in lines if each["log_level"] == "error"] == ["event.failed"]
    bench.uses.fails = False
    bench << con(codes.POST, "/bs?ep=dev1", mid=2)
    assert bench.one().code == codes.CHANGED


# -- packs --


@pytest.mark.parametrize("accept", [112, 110, 11544, None])
def test_a_pack_is_asked_for_in_the_formats_that_packs_have(accept: int | None):
    bench = Bench(verified=True)
    bench.uses.acknowledgement = Acknowledgement(Status.CONTENT, payload=b"pack", content_format=112)
    bench << con(codes.GET, "/bspack?ep=dev1", mid=1, accept=accept, peer=SESSION)
    answer = bench.one()
    assert bench.uses.requests == [(BootstrapPackRequest(("ep=dev1",), accept), SESSION, False)]
    assert (answer.code, answer.payload, read_options(answer.options).content_format) == (codes.CONTENT, b"pack", 112)


@pytest.mark.parametrize("accept", [0, 40, 60, 11542, 65000])
def test_a_pack_in_another_format_is_not_acceptable(accept: int):
    bench = Bench(verified=True)
    bench << con(codes.GET, "/bspack?ep=dev1", mid=1, accept=accept, peer=SESSION)
    assert bench.one().code == codes.NOT_ACCEPTABLE
    assert bench.link.refused == {"accept": 1}


@pytest.mark.spec("LwM2M-contract 1.7")
def test_nobody_gets_a_pack_at_an_address_that_is_not_proven_and_the_server_says_how_to_prove_it():
    bench = Bench()
    bench.uses.acknowledgement = Acknowledgement(Status.CONTENT, payload=bytes(900), content_format=112)
    asked = con(codes.GET, "/bspack?ep=dev1", mid=1, accept=112)
    bench << asked
    refusal = bench.one()
    assert (refusal.code, bench.uses.requests) == (codes.UNAUTHORIZED, [])
    assert bench.sizes[0] <= 3 * len(encode_message(asked.message))
    echo = next(value for number, value in refusal.options if number == 252)
    bench << con(codes.GET, "/bspack?ep=dev1", mid=2, accept=112, extra=[(252, echo)])
    assert (bench.one().code, bench.uses.requests[0][2]) == (codes.CONTENT, True)
    bench << con(codes.GET, "/bspack?ep=dev1", mid=3, accept=112, extra=[(252, b"wrong")])
    assert bench.one().code == codes.UNAUTHORIZED


@pytest.mark.spec("BLK-7", "ETS 12")
def test_a_large_pack_is_fetched_in_blocks_and_made_once():
    bench = Bench(verified=True)
    pack = bytes(each % 251 for each in range(3000))
    bench.uses.acknowledgement = Acknowledgement(Status.CONTENT, payload=pack, content_format=112)
    bench << con(codes.GET, "/bspack?ep=dev1", mid=1, accept=112, peer=SESSION)
    got, number = b"", 0
    while True:
        answer = bench.one()
        block = read_options(answer.options).block2
        assert block is not None
        assert (answer.code, block.number) == (codes.CONTENT, number)
        got += answer.payload
        if not block.more:
            break
        number += 1
        wanted = (23, bytes([number << 4 | block.exponent]))
        bench << con(codes.GET, "/bspack?ep=dev1", mid=1 + number, accept=112, peer=SESSION, extra=[wanted])
    assert got == pack
    assert len(bench.uses.requests) == 1


def test_the_rest_of_a_pack_that_is_not_kept_any_more_is_no_part_of_another_one():
    bench = Bench(verified=True)
    bench << con(codes.GET, "/bspack?ep=dev1", mid=1, accept=112, peer=SESSION, extra=[(23, bytes([1 << 4 | 6]))])
    assert (bench.one().code, bench.uses.requests) == (codes.REQUEST_ENTITY_INCOMPLETE, [])


# -- down --


@pytest.mark.spec("LwM2M-contract 5", "B-1", "B-4")
@pytest.mark.parametrize(
    ("operation", "code", "path", "content_format", "accept", "payload"),
    [
        (BootstrapDiscover(), codes.GET, (), None, 40, b""),
        (BootstrapDiscover(Path(0)), codes.GET, ("0",), None, 40, b""),
        (BootstrapRead(Path(1), 11542), codes.GET, ("1",), None, 11542, b""),
        (BootstrapDelete(Path()), codes.DELETE, (), None, None, b""),
        (BootstrapDelete(Path(0, 1)), codes.DELETE, ("0", "1"), None, None, b""),
        (
            BootstrapWrite(Path(0, 1), ACCOUNT, ContentFormat.TLV),
            codes.PUT,
            ("0", "1"),
            11542,
            None,
            bytes.fromhex("c80009") + b"coap://dm" + bytes.fromhex("c10100 c10a7b"),
        ),
        (BootstrapFinish(), codes.POST, ("bs",), None, None, b""),
    ],
)
def test_each_operation_is_its_request(
    operation: Any, code: int, path: tuple[str, ...], content_format: int | None, accept: int | None, payload: bytes
):
    bench = known()
    request = bench.ask(5, operation)
    view = read_options(request.options)
    assert (request.type, request.code, len(request.token)) == (CON, code, 8)
    assert (view.path, view.query, view.content_format, view.accept) == (path, (), content_format, accept)
    assert request.payload == payload


def test_an_answer_comes_back_with_its_facts():
    bench = known()
    request = bench.ask(5, BootstrapRead(Path(1), 112))
    bench << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=b"x", content_format=112)
    request = bench.ask(6, BootstrapFinish())
    bench << ack(codes.NOT_ACCEPTABLE, mid=request.mid, token=request.token, payload=b"no account")
    assert bench.uses.answers == [DeviceAnswer(5, 205, 112, b"x"), DeviceAnswer(6, 406, -1, b"no account")]


@pytest.mark.spec("B-13", "ETS 9")
@pytest.mark.parametrize(("code", "text"), [(codes.CHANGED, b""), (codes.NOT_ACCEPTABLE, b"no server account")])
def test_finish_may_be_answered_separately(code: int, text: bytes):
    bench = known()
    request = bench.ask(5, BootstrapFinish())
    bench << ack(mid=request.mid) << after(20) << con(code, "", mid=900, token=request.token, payload=text)
    confirmation = bench.one()
    assert (confirmation.type, confirmation.code, confirmation.mid) == (ACK, 0, 900)
    assert bench.uses.answers == [DeviceAnswer(5, 204 if code == codes.CHANGED else 406, -1, text)]


def test_silence_ends_a_step_and_says_whether_it_arrived():
    bench = known()
    bench.ask(5, BootstrapFinish())
    bench << after(93)
    request = [each for each in bench.sent() if each.type == CON]
    assert {each.mid for each in request} == {request[0].mid}
    assert bench.uses.answers == [DeviceAnswer(5, failure="timeout", detail="no acknowledgement")]
    request_6 = bench.ask(6, BootstrapFinish())
    bench << ack(mid=request_6.mid) << after(PATIENCE_S + 1)
    assert bench.uses.answers[1] == DeviceAnswer(
        6, failure="timeout", detail="no answer after its acknowledgement", acknowledged=True
    )


@pytest.mark.spec("B-1")
def test_the_same_step_again_is_another_message():
    bench = known()
    first = bench.ask(5, BootstrapFinish())
    bench << ack(codes.NOT_ACCEPTABLE, mid=first.mid, token=first.token)
    second = bench.ask(6, BootstrapFinish())
    assert first.mid != second.mid
    assert first.token != second.token


def test_a_large_write_goes_in_blocks_and_has_one_answer():
    bench = known()
    certificate = Content((Entry(Path(0, 1, 3), bytes(1500)),))
    bench.link.send(5, HOME, BootstrapWrite(Path(0, 1), certificate, ContentFormat.TLV))
    numbers = []
    while not bench.uses.answers:
        request = bench.one()
        block = read_options(request.options).block1
        assert block is not None
        numbers.append(block.number)
        value = bytes([block.number << 4 | block.more << 3 | block.exponent])
        code = codes.CONTINUE if block.more else codes.CHANGED
        bench << ack(code, mid=request.mid, token=request.token, extra=[(27, value)])
    assert numbers == [0, 1]
    assert bench.uses.answers == [DeviceAnswer(5, 204)]


@pytest.mark.spec("LwM2M-contract 1.7")
def test_an_address_that_is_not_proven_gets_no_more_than_it_paid_for():
    bench = Bench()
    asked = con(codes.POST, "/bs?ep=dev1", mid=1)
    bench << asked
    certificate = Content((Entry(Path(0, 1, 3), bytes(800)),))
    bench.link.send(5, HOME, BootstrapWrite(Path(0, 1), certificate, ContentFormat.TLV))
    bench << after(100)
    bench.sent()
    assert sum(bench.sizes) <= 3 * len(encode_message(asked.message))


def test_what_a_format_cannot_carry_ends_later_and_sends_nothing():
    async def main() -> Bench:
        bench = Bench()
        bench.link.send(5, HOME, BootstrapWrite(Path(0, 1), ACCOUNT, ContentFormat.TEXT))
        assert bench.uses.answers == []
        await asyncio.sleep(0)
        return bench

    bench = asyncio.run(main())
    assert [(each.handle, each.failure) for each in bench.uses.answers] == [(5, "refused")]
    assert bench.sent() == []


# -- ends --


def test_what_is_given_up_ends_and_its_late_answer_is_reset():
    bench = known()
    request = bench.ask(5, BootstrapFinish())
    bench << ack(mid=request.mid)
    bench.link.cancel(5)
    bench << con(codes.CHANGED, "", mid=900, token=request.token)
    assert bench.uses.answers == [DeviceAnswer(5, failure="cancelled", detail="cancelled")]
    assert bench.one().type == RST


def test_the_end_of_a_session_stops_what_is_under_way():
    bench = Bench(verified=True)
    bench << con(codes.POST, "/bs?ep=dev1", mid=1, peer=SESSION)
    bench.sent()
    bench.ask(5, BootstrapFinish(), SESSION)
    bench.link.lose_peer(SESSION, "closed by the client")
    bench.settle()
    assert bench.uses.ended == [(SESSION, "closed by the client")]
    assert bench.uses.answers == [DeviceAnswer(5, failure="lost", detail="closed by the client")]


def test_nothing_is_asked_of_a_session_that_has_ended():
    async def main() -> Bench:
        bench = Bench(reaches=False, verified=True)
        bench.link.send(5, SESSION, BootstrapFinish())
        await asyncio.sleep(0)
        return bench

    bench = asyncio.run(main())
    assert [(each.handle, each.failure) for each in bench.uses.answers] == [(5, "unconnected")]
    assert bench.sent() == []


@pytest.mark.spec("LwM2M-contract 1.8")
def test_over_a_connection_the_whole_session_hangs_on_it():
    peer = PeerId("tcp", "192.0.2.1", 40000, "192.0.2.100", 5685)
    clock, uses = ManualClock(), Uses()
    engine = StreamEndpoint(SeededEntropy())
    link = BootstrapLink(
        submit=lambda action: engine.submit(action, clock.now()),
        entropy=SeededEntropy(7),
        clock=clock,
        reaches=engine.is_connected,
    )
    link.connect(uses)
    uses.acknowledgement = Acknowledgement(Status.CONTENT, payload=bytes(2000), content_format=112)
    engine.submit(AdoptConnection(peer), clock.now())
    request = Message(CON, codes.GET, 0, b"t", ((11, b"bspack"), (15, b"ep=dev1"), (17, b"\x70")))
    engine.feed(encode_csm(Capabilities(65_536, True)), peer=peer, now=clock.now())
    engine.feed(encode_frame(request.code, request.token, encode_options(request.options), b""), peer=peer, now=0.0)
    link.handle(engine.take_events(), clock.instant())
    assert uses.requests == [(BootstrapPackRequest(("ep=dev1",), 112), peer, True)]
    assert sum(len(data) for _, data in engine.take_datagrams()) > 2000
    link.send(5, peer, BootstrapFinish())
    engine.feed(b"", peer=peer, now=clock.now())
    link.handle(engine.take_events(), clock.instant())
    assert [(each.handle, each.failure) for each in uses.answers] == [(5, "lost")]
    assert [each for each, _ in uses.ended] == [peer]


_TARGETS = st.sampled_from(["/bs", "/bspack", "/", "/bs/1", "/rd"])
_QUERY = st.lists(st.sampled_from(["ep=dev1", "pct=112", "pct=x", "acc=</0/0>", "&", "%"]), max_size=3)
_OPTIONS = st.lists(
    st.tuples(st.sampled_from([6, 14, 17, 23, 27, 60, 252]), st.binary(max_size=3)),
    max_size=3,
    unique_by=lambda each: each[0],
)


@pytest.mark.spec("Design 7")
@given(st.integers(1, 7), _TARGETS, _QUERY, _OPTIONS, st.binary(max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_request_gets_one_answer_and_raises_nothing(
    code: int, target: str, query: list[str], extra: list[tuple[int, bytes]], payload: bytes, proven: bool
):
    bench, peer = Bench(verified=proven), SESSION if proven else HOME
    bench.uses.acknowledgement = Acknowledgement(Status.CONTENT, payload=bytes(100), content_format=112)
    target = f"{target}?{'&'.join(query)}"
    with capture_logs() as lines:
        bench << con(code, target, mid=7, token=b"t", payload=payload, extra=extra, peer=peer)
    answer = bench.one()
    assert (answer.mid, answer.token) == (7, b"t")
    assert answer.code >> 5 in (2, 4)
    assert not [each for each in lines if each["log_level"] == "error"]
    if answer.code == codes.CONTENT:
        assert target.startswith(("/bs?", "/bspack?"))


CONNECTION = PeerId("tcp", "192.0.2.1", 40000, "192.0.2.100", 5685)


class Later:
    """Stands for the loop's timers."""

    def __init__(self, bench: Bench) -> None:
        self.calls: list[tuple[float, Callable[..., None], Any]] = []
        self.cancelled = 0

    def call_later(self, delay: float, callback: Callable[..., None], *values: Any) -> "Later":
        self.calls.append((delay, callback, values))
        return self

    def cancel(self) -> None:
        self.cancelled += 1
        self.calls.clear()


@pytest.mark.parametrize(
    ("peer", "linger_s"),
    [(SESSION, LINGER_S), (CONNECTION, STREAM_LINGER_S)],
)
def test_a_channel_stays_until_the_last_answer_has_arrived_for_sure(
    peer: PeerId, linger_s: float, monkeypatch: pytest.MonkeyPatch
):
    bench = Bench(verified=True)
    later = Later(bench)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: later)
    bench.link.end(peer)
    assert bench.closed == []
    ((delay, callback, values),) = later.calls
    assert delay == linger_s
    callback(*values)
    assert bench.closed == [peer]


def test_a_connection_without_security_stays_for_as_long_as_a_session_may_take(monkeypatch: pytest.MonkeyPatch):
    bench = Bench(verified=True)
    later = Later(bench)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: later)
    bench << con(codes.POST, "/bs?ep=dev1", mid=1, peer=CONNECTION)
    bench << con(codes.POST, "/bs?ep=dev1", mid=2, peer=CONNECTION)
    assert ([delay for delay, _, _ in later.calls], later.cancelled) == ([IDLE_S], 1)
    assert IDLE_S > SESSION_S
    bench.link.end(CONNECTION)
    assert ([delay for delay, _, _ in later.calls], later.cancelled) == ([STREAM_LINGER_S], 2)


def test_a_channel_that_has_ended_is_not_closed_later(monkeypatch: pytest.MonkeyPatch):
    bench = Bench(verified=True, reaches=False)
    later = Later(bench)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: later)
    bench.link.end(CONNECTION)
    assert later.calls == []


def test_a_session_whose_device_asks_again_is_not_closed(monkeypatch: pytest.MonkeyPatch):
    bench = Bench(verified=True)
    later = Later(bench)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: later)
    bench.link.end(SESSION)
    bench << con(codes.POST, "/bs?ep=dev1", mid=1, peer=SESSION)
    assert (later.cancelled, later.calls) == (1, [])


def test_an_address_has_nothing_to_close():
    bench = known()
    bench.link.end(HOME)
    assert bench.closed == []
    bench << con(codes.POST, "/bs?ep=dev1", mid=2)
    assert bench.one().code == codes.CHANGED
