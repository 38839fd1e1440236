"""What a server does for peers and networks that mean it no good, or are only unlucky."""

import pytest
from dtls_by_hand import ByHand
from dtls_wire import Bed, address, answer, bed, mirrored, psk_client

from stellwerk.core.ids import session_of
from stellwerk.dtls import actions, events
from stellwerk.dtls.parameters import Limits, ServerParameters
from stellwerk.dtls.session import decode_session
from stellwerk.net.driver import BATCH


@pytest.mark.spec("RFC 6347 4.2.2", "RFC 6347 4.2.1")
@pytest.mark.parametrize("number", [256, 65_534, 65_535])
def test_a_client_hello_whose_number_leaves_none_for_the_answers_is_dropped(number: int) -> None:
    client = ByHand(bed())
    client.get_cookie()
    client.message_seq = number
    assert client.send(client.hello_record()) == []
    assert client.bed.drops() == ["format"]
    assert client.bed.server.half_open == 0


@pytest.mark.spec("RFC 5246 7.3")
def test_a_resumption_that_is_looked_up_by_too_many_is_a_full_handshake() -> None:
    b = bed(ServerParameters(), Limits(questions=0))
    client = ByHand(b)
    client.hello.session_id = b"session of past."
    client.begin()
    client.send(client.key_exchange(), client.change(), *client.finished())
    assert len(b.of(events.SessionEstablished)) == 1


@pytest.mark.parametrize("late", [False, True])
def test_what_is_found_for_a_handshake_that_is_over_does_not_begin_it_again(late: bool) -> None:
    questions: list[int] = []

    def slowly(b: Bed, event: events.Event) -> None:
        if isinstance(event, events.SessionQuestion):
            questions.append(event.question)
        else:
            answer(b, event)

    b = bed()
    b.answer = slowly
    first, second = ByHand(b), ByHand(b)
    first.hello.session_id, second.hello.random = b"session of past.", b"s" * 32
    first.get_cookie()
    first.send(first.hello_record())
    second.begin()
    assert [failed.reason for failed in b.of(events.HandshakeFailed)] == ["timeout"]
    if late:
        b.now += 10.0
        b.server.tick(b.now)
    else:
        b.server.submit(actions.NoSession(questions[0]), b.now)
    sent = [datagram for _, datagram in b.server.take_datagrams()]
    # At most what the second handshake repeats.
    assert len(sent) == late
    assert b.server.half_open == 1
    second.send(second.key_exchange(), second.change(), *second.finished())
    assert len(b.of(events.SessionEstablished)) == 1
    assert b.server.half_open == 0


# --- replays -----------------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-1", "RFC 5246 7.2.1", "RFC 6347 4.1.2.6")
@pytest.mark.parametrize("cid", [None, b""])
def test_neither_a_goodbye_nor_what_was_said_before_it_brings_a_session_back(cid: bytes | None) -> None:
    b = bed()
    b.connect(psk_client(cid=cid))
    peer = b.client_session().peer
    for action in (actions.SendData(peer, b"late"), actions.CloseSession(peer)):
        b.client.submit(action, b.now)
    (_, late), (_, goodbye) = b.client.take_datagrams()
    b.server.feed(goodbye, peer=address(), now=b.now)
    b.settle()
    assert [ended.reason for ended in b.of(events.SessionEnded)] == ["close-notify"]
    states = len(b.of(events.SessionState))
    for datagram in (goodbye, late):
        b.server.feed(datagram, peer=address(), now=b.now)
        b.settle()
    assert b.data() == []
    assert b.server.sessions == 0
    assert len(b.of(events.SessionState)) == states


# --- many behind one address -------------------------------------------------------------------------------------


@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_village_behind_one_address_gets_in_at_once() -> None:
    b = bed()
    devices = [ByHand(b, address(port=1024 + number)) for number in range(500)]
    for device in devices:
        device.begin()
    # One that answers on a link of 10 s is not taken for dead.
    b.now += 10.0
    for device in devices:
        device.send(device.key_exchange(), device.change(), *device.finished())
    assert len(b.of(events.SessionEstablished)) == 500
    assert b.drops() == []


@pytest.mark.spec("LwM2M-contract 2.2")
def test_at_the_bound_of_a_network_nobody_is_pushed_out_within_the_time_of_a_slow_link() -> None:
    b = bed(limits=Limits(half_open_per_address=1))
    first, second = ByHand(b), ByHand(b, address(port=2))
    first.begin()
    b.now += 17.9
    assert second.begin() == []
    first.send(first.key_exchange(), first.change(), *first.finished())
    assert len(b.of(events.SessionEstablished)) == 1


def test_as_many_sessions_as_are_read_at_a_time_may_come_back_behind_one_address() -> None:
    b = bed()
    for number in range(BATCH):
        b.connect(psk_client(cid=b""), address(port=1024 + number))
    for session in b.client_of(events.SessionEstablished):
        b.client.submit(actions.SendData(session.peer, b"on"), b.now)
    b.server = bed(seed=99).server
    for peer, datagram in b.client.take_datagrams():
        b.server.feed(datagram, peer=mirrored(peer), now=b.now)
    b.settle()
    assert b.data() == [b"on"] * BATCH


# --- old datagrams -----------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 6347 4.2.8", "LwM2M-contract 15")
def test_the_client_hello_of_a_handshake_that_was_given_up_does_not_end_the_next_one() -> None:
    b = bed()
    first, second = ByHand(b), ByHand(b)
    second.hello.random = b"s" * 32
    first.begin()
    second.begin()
    old = first.hello_record()
    assert first.send(old) == []
    assert b.drops() == ["replayed"]
    second.send(second.key_exchange(), second.change(), *second.finished())
    assert len(b.of(events.SessionEstablished)) == 1


@pytest.mark.spec("RFC 6347 4.2.4")
def test_the_last_flight_is_repeated_for_twice_the_lifetime_of_a_segment() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    flight = (client.key_exchange(), client.change(), *client.finished())
    assert len(client.send(*flight)) == 1
    b.wait(239.0)
    assert len(client.send(*flight)) == 1
    b.wait(2.0)
    assert client.send(*flight) == []


def test_an_old_session_that_comes_back_is_not_the_one_that_is_resumed() -> None:
    b = bed()
    b.connect()
    for _ in range(2):
        b.connect(resume=b.client_of(events.SessionState)[-1].state)
    _, second, third = [session.peer for session in b.of(events.SessionEstablished)]
    assert b.session().resumed == second
    b.down(b"once more", second)
    assert b.server.is_live(second)
    b.connect(resume=b.client_of(events.SessionState)[-1].state)
    assert b.session().resumed == third


@pytest.mark.spec("SEC-1", "RFC 6347 4.1.2.6")
def test_a_state_that_was_looked_up_long_ago_does_not_bring_used_numbers_back() -> None:
    b = bed(limits=Limits(sessions=1))
    b.connect()
    session, client = b.session(), b.client_session().peer
    state = b.stored[session_of(session.peer)].state
    b.connect(peer=address("198.51.100.9"))
    late: list[int] = []

    def slow_to_send(b: Bed, event: events.Event) -> None:
        if isinstance(event, events.SessionQuestion) and event.session_id is not None:
            late.append(event.question)
        else:
            answer(b, event)

    b.answer = slow_to_send
    b.down(b"wakes it", session.peer)
    b.up(b"is awake", client)
    for number in range(600):
        b.down(b"%d" % number, session.peer)
    assert b.stored[session_of(session.peer)].ceiling > decode_session(state).ceiling + 1024
    b.connect(peer=address("198.51.100.9"))
    assert not b.server.is_live(session.peer)
    b.server.submit(actions.RestoreSession(late[0], state, 0), b.now)
    assert not b.server.is_live(session.peer)


@pytest.mark.spec("LwM2M-contract 15", "RFC 6347 4.1.2.7")
@pytest.mark.parametrize("cid", [None, b""])
def test_a_datagram_costs_one_look_once_a_record_in_it_does_not_verify(cid: bytes | None) -> None:
    b = bed()
    b.connect(psk_client(cid=cid))
    peer = b.client_session().peer
    for data in (b"first", b"second", b"third"):
        b.client.submit(actions.SendData(peer, data), b.now)
    first, second, third = [datagram for _, datagram in b.client.take_datagrams()]
    forged = second[:-1] + bytes((second[-1] ^ 1,))
    b.server.feed(first + forged * 20 + third, peer=address(), now=b.now)
    b.settle()
    assert b.data() == [b"first"]
    assert b.drops() == ["mac"]


@pytest.mark.spec("LwM2M-contract 15")
def test_many_client_hellos_in_one_datagram_get_one_answer() -> None:
    client = ByHand(bed())
    assert len(client.send(*[client.hello_record() for _ in range(10)])) == 1
