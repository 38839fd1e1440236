"""Peers that are secure sessions: trusted where they are, asked where they moved to, and lost as a whole."""

from typing import Any

import pytest
from coap_wire import Bench, ack, con, rst

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import CON
from stellwerk.core.ids import session_peer

SESSION = session_peer(b"\x00session")


def bench() -> Bench:
    return Bench(verified=True)


def request(handle: int = 1, token: bytes = b"aaaa", **more: Any) -> actions.SendRequest:
    return actions.SendRequest(handle, SESSION, codes.GET, token, ("3", "0"), **more)


@pytest.mark.spec("LwM2M-contract 1.7", "Design 7")
def test_a_session_has_proven_its_address_and_gets_long_answers() -> None:
    made = bench()
    made.feed(con(codes.GET, 1, path=("rd",)), peer=SESSION)
    exchange = made.event(events.RequestReceived).exchange
    made.submit(actions.Respond(exchange, codes.CONTENT, payload=bytes(800)))
    (answer,) = made.sent()
    assert (answer.code, len(answer.payload)) == (codes.CONTENT, 800)


@pytest.mark.spec("RFC 9146 6", "LwM2M-contract 2.3")
@pytest.mark.parametrize("reaction", [rst, lambda mid: ack(codes.EMPTY, mid)])
def test_a_reaction_to_the_probe_says_that_the_peer_receives_there(reaction: Any) -> None:
    made = bench()
    made.submit(actions.ProbePeer(SESSION))
    (probe,) = made.sent()
    assert (probe.type, probe.code) == (CON, codes.EMPTY)
    made.feed(reaction(probe.mid), peer=SESSION)
    assert made.events() == [events.PeerProbed(SESSION, True)]
    made.after(100)
    assert made.sent() == []


@pytest.mark.spec("RFC 9146 6", "LwM2M-contract 2.3")
def test_an_answer_to_what_was_sent_before_the_move_proves_nothing() -> None:
    made = bench()
    made.submit(request())
    (before,) = made.sent()
    made.submit(actions.ProbePeer(SESSION))
    made.sent()
    made.feed(ack(codes.CONTENT, before.mid, b"aaaa"), peer=SESSION)
    assert not any(isinstance(each, events.PeerProbed) for each in made.events())


@pytest.mark.spec("RFC 9146 6")
def test_a_reaction_to_the_probe_of_an_earlier_address_proves_nothing() -> None:
    made = bench()
    made.submit(actions.ProbePeer(SESSION))
    (first,) = made.sent()
    made.submit(actions.ProbePeer(SESSION))
    (second,) = made.sent()
    made.feed(rst(first.mid), peer=SESSION)
    assert made.events() == []
    made.feed(rst(second.mid), peer=SESSION)
    assert made.events() == [events.PeerProbed(SESSION, True)]


@pytest.mark.spec("RFC 7252 4.2")
def test_a_probe_that_nobody_answers_is_repeated_and_given_up() -> None:
    made = bench()
    made.submit(actions.ProbePeer(SESSION))
    made.after(100)
    assert len(made.sent()) == 5
    assert made.events() == [events.PeerProbed(SESSION, False)]


@pytest.mark.spec("LwM2M-contract 2.2")
def test_requests_to_a_session_that_is_no_more_are_lost_and_its_observations_forgotten() -> None:
    made = bench()
    made.submit(request(1, b"aaaa", observe=0))
    (observe,) = made.sent()
    made.feed(ack(codes.CONTENT, observe.mid, b"aaaa", options=((6, b"\x01"),)), peer=SESSION)
    made.event(events.ResponseReceived)
    made.submit(request(2, b"bbbb"), request(3, b"cccc"))
    made.sent()
    made.submit(actions.LosePeer(SESSION, "the session ended"))
    failed = [(each.handle, each.reason) for each in made.events() if isinstance(each, events.RequestFailed)]
    # The third had not left yet.
    assert sorted(failed) == [(2, "lost"), (3, "unconnected")]
    made.after(300)
    assert made.sent() == []
    made.feed(con(codes.CONTENT, 9, b"aaaa", options=((6, b"\x02"),)), peer=SESSION)
    made.event(events.TokenQuestion)


def test_the_loss_of_a_session_that_nobody_spoke_with_is_nothing() -> None:
    made = bench()
    made.submit(actions.LosePeer(SESSION, "the session ended"))
    assert made.events() == []
    assert made.engine.peers == 0
