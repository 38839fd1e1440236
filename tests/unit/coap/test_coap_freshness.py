"""Who repeats our Echo receives there; to whom never did, little is sent."""

import pytest
from coap_wire import DEVICE, MOVED, Bench, SeededEntropy, con, message, non
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import actions, codes, events
from stellwerk.coap.freshness import KEY_LIFETIME_S, WINDOW_S, Freshness, RequestTags, echo_value, is_fresh
from stellwerk.coap.message import CON, encode_message
from stellwerk.coap.options import ECHO
from stellwerk.coap.parameters import Limits
from stellwerk.core.ids import PeerId

KEY = b"k" * 16
PEERS = st.builds(
    PeerId, st.just("udp"), st.sampled_from(("192.0.2.1", "192.0.2.2", "::1")), st.integers(1, 65535), st.just("x")
)


@pytest.mark.spec("RFC 9175 2.3", "LwM2M-contract 1.7")
@given(peer=PEERS, other=PEERS, made=st.floats(0, 1e7), later=st.floats(0, WINDOW_S))
def test_a_value_holds_for_its_peer_for_a_window_and_for_nobody_else(
    peer: PeerId, other: PeerId, made: float, later: float
):
    value = echo_value(KEY, peer, made)
    assert 1 <= len(value) <= 40
    assert is_fresh(KEY, peer, value, made + later)
    assert not is_fresh(KEY, peer, value, made + 2 * WINDOW_S)
    assert is_fresh(KEY, other, value, made) == (other == peer)
    assert not is_fresh(b"l" * 16, peer, value, made)


@pytest.mark.spec("RFC 9175 2.3")
@given(value=st.binary(max_size=40))
def test_a_guess_is_not_fresh(value: bytes):
    freshness = Freshness(SeededEntropy(1))
    assert not freshness.is_fresh(DEVICE, value, 5.0)
    assert freshness.is_fresh(DEVICE, value, 5.0) == (value == freshness.value(DEVICE, 5.0))


@pytest.mark.spec("RFC 9175 5")
def test_keys_change_and_the_one_before_serves_out_its_values():
    freshness = Freshness(SeededEntropy(1))
    freshness.value(DEVICE, 0.0)
    last = freshness.value(DEVICE, KEY_LIFETIME_S - 1)
    first = freshness.value(MOVED, KEY_LIFETIME_S + 1)
    assert freshness.is_fresh(DEVICE, last, KEY_LIFETIME_S + 1)
    assert freshness.is_fresh(MOVED, first, KEY_LIFETIME_S + 1)
    assert freshness.value(DEVICE, KEY_LIFETIME_S - 1) != last
    assert not freshness.is_fresh(DEVICE, last, KEY_LIFETIME_S + 2 * WINDOW_S + 1)


@pytest.mark.spec("RFC 9175 3.3")
def test_no_request_tag_comes_twice():
    tags = RequestTags()
    drawn = [tags.draw() for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert {len(each) for each in drawn} == {1, 2}


def echo_of(bench: Bench) -> bytes:
    (answer,) = bench.sent()
    return next(value for number, value in answer.options if number == ECHO)


@pytest.mark.spec("RFC 9175 2.3", "RFC 9175 2.4")
def test_a_request_says_whether_it_repeats_our_echo_from_where_we_sent_it():
    bench = Bench()
    bench.feed(con(codes.POST, 1, path=("rd", "x")))
    first = bench.event(events.RequestReceived)
    assert not first.fresh
    bench.submit(actions.Respond(first.exchange, codes.UNAUTHORIZED, ask_echo=True))
    echo = echo_of(bench)
    bench.feed(con(codes.POST, 2, path=("rd", "x"), options=((ECHO, echo),)), peer=MOVED)
    assert not bench.event(events.RequestReceived).fresh
    # A proven address is no proof that this request was sent from there.
    bench.submit(actions.VerifyPeer(DEVICE))
    bench.feed(con(codes.POST, 3, path=("rd", "x")))
    assert not bench.event(events.RequestReceived).fresh
    bench.feed(con(codes.POST, 4, path=("rd", "x"), options=((ECHO, echo),)))
    assert bench.event(events.RequestReceived).fresh


@pytest.mark.spec("LwM2M-contract 1.9", "RFC 9175 2.2")
def test_the_demand_for_an_echo_has_the_bytes_of_the_contracts_vector():
    bench = Bench()
    bench.feed(bytes.fromhex("41020109 0a b27264 0178"))
    received = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(received.exchange, codes.UNAUTHORIZED, ask_echo=True))
    ((_, data),) = bench.engine.take_datagrams()
    assert (data[:7].hex(" "), len(data)) == ("61 81 01 09 0a d8 ef", 15)


def test_an_engine_that_asks_for_no_echo_keeps_the_bound_all_the_same():
    bench = Bench(limits=Limits(ask_echo=False))
    bench.feed(con(codes.GET, 1, path=("big",)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    (answer,) = bench.sent()
    assert (answer.code, answer.options, answer.payload) == (codes.UNAUTHORIZED, (), b"")


STEPS = st.one_of(
    st.tuples(st.just("request"), st.sampled_from((con, non)), st.integers(0, 400), st.integers(0, 2000)),
    st.tuples(st.just("repeat")),
    st.tuples(st.just("bytes"), st.binary(min_size=1, max_size=30)),
    st.tuples(st.just("ask"), st.integers(0, 3000)),
    st.tuples(st.just("move")),
    st.tuples(st.just("owe"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from((0.5, 2.0, 30.0))),
)


@pytest.mark.spec("LwM2M-contract 15", "Design 7", "RFC 7252 11.3")
@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEPS, max_size=25), slow=st.booleans())
def test_an_address_that_never_reacts_gets_at_most_three_bytes_for_one(steps: list[tuple], slow: bool):
    """Whatever a liar sends in somebody else's name, and whatever we want of the device it speaks for."""
    bench = Bench()
    received = {DEVICE: 0, MOVED: 0}
    peer, last = DEVICE, b""
    sent = {DEVICE: 0, MOVED: 0}

    def come(data: bytes) -> None:
        received[peer] += len(data)
        bench.feed(data, peer=peer)

    open_requests: list[events.RequestReceived] = []

    def settle() -> None:
        open_requests.extend(each for each in bench.events() if isinstance(each, events.RequestReceived))
        while open_requests and not owing:
            event = open_requests.pop(0)
            bench.submit(actions.Respond(event.exchange, codes.CONTENT, payload=bytes(answers.get(event.peer, 0))))
        for to, data in bench.engine.take_datagrams():
            sent[to] += len(data)
            assert sent[to] <= 3 * received[to]

    answers: dict[PeerId, int] = {}
    owing = False
    come(encode_message(con(codes.POST, 1, path=("rd",), payload=bytes(20))))
    settle()
    for handle, step in enumerate(steps, 1):
        if step[0] == "request":
            last = encode_message(step[1](codes.POST, 100 + handle, path=("rd",), payload=bytes(step[2])))
            answers[peer] = step[3]
            come(last)
            if slow:
                bench.after(1.5)
        elif step[0] == "repeat" and last:
            come(last)
        elif step[0] == "bytes":
            data = step[1]
            # An acknowledgement or a reset would be a reaction, with a message ID that a liar has to guess.
            come(bytes([data[0] & 0xDF]) + data[1:])
        elif step[0] == "ask":
            token = handle.to_bytes(4, "big")
            bench.submit(
                actions.SendRequest(handle, peer, codes.PUT, token, ("3", "0"), payload=bytes(step[1]), once=True)
            )
        elif step[0] == "move":
            old, peer = peer, MOVED if peer == DEVICE else DEVICE
            come(encode_message(message(CON, codes.POST, 50 + handle, path=("rd", "x"))))
            bench.submit(actions.MovePeer(old, peer))
        elif step[0] == "owe":
            owing = step[1]
        elif step[0] == "wait":
            bench.after(step[1])
        settle()
    bench.after(100)
    settle()
