"""Live sessions: data, alerts, addresses, record numbers, and what is asked of the store."""

import pytest
from dtls_by_hand import ByHand
from dtls_wire import KEY, Bed, Seeded, address, answer, bed, mirrored, psk_client

from stellwerk.core.ids import PeerId, session_of
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import Limits, ServerParameters
from stellwerk.dtls.records import ContentType, split_records
from stellwerk.dtls.session import decode_session

EPOCH = 1 << 48
OTHER = address("203.0.113.50", 50_000)


def established(cid: bytes | None = b"", limits: Limits | None = None, **server: object) -> Bed:
    """A bed with one session."""
    b = bed(ServerParameters(**server), limits)
    b.connect(psk_client(cid=cid))
    return b


def restarted(b: Bed, limits: Limits | None = None, **server: object) -> None:
    """The server begins anew, with what was stored."""
    b.server = Endpoint(Seeded(77), ServerParameters(**server), limits, wall_offset_s=1_700_000_000)


def up_datagram(b: Bed, data: bytes) -> bytes:
    """What the client would send."""
    b.client.submit(actions.SendData(b.client_session().peer, data), b.now)
    [(_, datagram)] = b.client.take_datagrams()
    return datagram


def feed(b: Bed, datagram: bytes, peer: PeerId) -> list[tuple[PeerId, bytes]]:
    """Let ``datagram`` come from ``peer``; what the server sends is not carried on."""
    b.server.feed(datagram, peer=peer, now=b.now)
    b._hear("server", b.server)
    return b.server.take_datagrams()


# --- records -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cid", [None, b""])
@pytest.mark.spec("RFC 6347 4.1.2.6", "SEC-1", "LwM2M-contract 2.2")
def test_a_record_is_taken_once_in_any_order_and_never_behind_the_window(cid: bytes | None) -> None:
    b = established(cid)
    sent = [up_datagram(b, b"%d" % number) for number in range(70)]
    for number in (3, 1, 3, 69, 2, 68, 1, 69):
        feed(b, sent[number], address())
    assert b.data() == [b"3", b"1", b"69", b"68"]
    assert b.drops() == ["replayed"] * 4


@pytest.mark.spec("RFC 6347 4.1.2.7", "LwM2M-contract 2.2")
def test_a_record_that_does_not_verify_is_dropped_in_silence() -> None:
    b = established(None)
    datagram = up_datagram(b, b"hello")
    for at in (13, 21, -1):
        broken = bytearray(datagram)
        broken[at] ^= 1
        assert feed(b, bytes(broken), address()) == []
    assert b.drops() == ["mac"] * 3
    assert feed(b, datagram, address()) == []
    assert b.data() == [b"hello"]


def test_records_of_other_epochs_are_dropped() -> None:
    b = established(None)
    datagram = bytearray(up_datagram(b, b"hello"))
    datagram[4] = 2
    feed(b, bytes(datagram), address())
    assert b.drops() == ["epoch"]


@pytest.mark.parametrize("alert", [b"\x02\x28", b"\x01\x00"])
@pytest.mark.spec("RFC 5246 7.2")
def test_a_protected_alert_that_ends_ends_the_session(alert: bytes) -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange(), client.change(), *client.finished())
    client.send(client.seal(ContentType.ALERT, b"\x01\x5a"))
    assert b.of(events.SessionEnded) == []
    client.send(client.seal(ContentType.ALERT, alert))
    [ended] = b.of(events.SessionEnded)
    assert (ended.reason, ended.detail) == (
        ("alert", "handshake_failure (40)") if alert[0] == 2 else ("close-notify", "")
    )
    assert client.opened() == ([] if alert[0] == 2 else [(ContentType.ALERT, b"\x01\x00")])
    assert b.server.sessions == 0


@pytest.mark.parametrize(("alert", "reason"), [(None, "close-notify"), (48, "alert")])
@pytest.mark.spec("SEC-9")
def test_a_session_that_is_closed_tells_its_peer(alert: int | None, reason: str) -> None:
    b = established()
    b.server.submit(actions.CloseSession(b.session().peer, alert), b.now)
    b.settle()
    assert b.of(events.SessionEnded)[0].reason == "closed"
    assert b.client_of(events.SessionEnded)[0].reason == reason
    assert (b.server.sessions, b.client.sessions) == (0, 0)


# --- connection IDs ----------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9146 3", "LwM2M-contract 2.3")
def test_our_connection_id_is_the_session_id_with_the_node_in_front() -> None:
    b = established(b"", node_id=42)
    datagram = up_datagram(b, b"x")
    assert datagram[0] == ContentType.TLS12_CID
    assert datagram[11:19] == session_of(b.session().peer)
    assert datagram[11] == 42


@pytest.mark.parametrize(("cid", "type"), [(None, 23), (b"", 23), (b"mine", 25)])
@pytest.mark.spec("RFC 9146 3", "LwM2M-contract 2.3")
def test_records_to_the_peer_carry_the_connection_id_that_it_wants(cid: bytes | None, type: int) -> None:
    b = established(cid)
    b.down(b"x")
    datagram = b.sent[-1][2]
    assert datagram[0] == type
    assert datagram[11:15] == (b"mine" if cid else datagram[11:15])
    assert b.client_data() == [b"x"]


@pytest.mark.spec("RFC 9146 4")
def test_a_record_without_the_connection_id_that_was_agreed_on_is_none() -> None:
    b = bed()
    client = ByHand(b)
    client.hello.extensions.connection_id = b""
    client.begin()
    exchange, change, cid = client.key_exchange(), client.change(), client.cid
    client.cid = b""
    client.send(exchange, change, *client.finished())
    assert b.of(events.SessionEstablished) == []
    assert b.of(events.HandshakeFailed) == []
    client.cid, client.message_seq = cid, client.message_seq - 1
    client.transcript = client.transcript[:-24]
    client.send(*client.finished())
    client.cid = b""
    client.send(client.data(b"without"))
    client.cid = cid
    client.send(client.data(b"with"))
    assert b.data() == [b"with"]
    assert b.drops() == ["no-session"]


@pytest.mark.spec("LwM2M-contract 2.3")
def test_a_server_may_give_no_connection_ids_and_may_know_those_from_before_the_rfc() -> None:
    b = established(b"c", cids=False)
    assert not b.session().has_cid
    for points, has_cid in (((54,), False), ((54, 53), True)):
        b = bed(ServerParameters(cid_code_points=points))
        b.connect(psk_client(cid=b"c", cid_code_point=53))
        assert b.session().has_cid is has_cid
        b.up(b"up")
        b.down(b"down")
        assert (b.data(), b.client_data()) == ([b"up"], [b"down"])


# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9146 6", "LwM2M-contract 2.3", "SEC-5")
def test_a_session_with_a_connection_id_goes_on_from_another_address() -> None:
    b = established()
    peer = b.session().peer
    b.client.submit(actions.MoveSession(b.client_session().peer, mirrored(OTHER)), b.now)
    b.up(b"from elsewhere")
    [moved] = b.of(events.PeerMoved)
    assert (moved.peer, moved.old, moved.new) == (peer, address(), OTHER)
    assert b.data() == [b"from elsewhere"]
    b.down(b"hello there")
    assert b.sent[-1][1] == OTHER
    assert b.client_data() == [b"hello there"]
    assert b.of(events.SessionEnded) == []


@pytest.mark.spec("RFC 9146 6", "LwM2M-contract 2.3")
def test_only_the_newest_record_moves_a_session() -> None:
    b = established()
    older, newer = up_datagram(b, b"older"), up_datagram(b, b"newer")
    feed(b, newer, address())
    feed(b, older, OTHER)
    feed(b, newer, OTHER)
    assert b.data() == [b"newer", b"older"]
    assert b.of(events.PeerMoved) == []
    b.down(b"x")
    assert b.sent[-1][1] == address()


def test_without_a_connection_id_nothing_moves() -> None:
    b = established(None)
    feed(b, up_datagram(b, b"x"), OTHER)
    assert b.of(events.PeerMoved) == []
    assert b.data() == []


@pytest.mark.spec("RFC 9146 6", "LwM2M-contract 15")
def test_not_more_than_three_times_what_came_goes_to_an_unproven_address() -> None:
    b = established()
    datagram = up_datagram(b, b"x" * 50)
    feed(b, datagram, OTHER)
    sent = 0
    for _ in range(20):
        b.server.submit(actions.SendData(b.session().peer, b"y" * 60), b.now)
        sent += sum(len(out) for to, out in b.server.take_datagrams() if to == OTHER)
    b._hear("server", b.server)
    assert 0 < sent <= 3 * len(datagram)
    assert "moved-amplification" in b.drops()


def test_an_address_to_which_nothing_was_sent_is_not_proven_by_more_that_comes_from_it() -> None:
    b = established()
    came = 0
    for number in range(3):
        datagram = up_datagram(b, b"%d" % number)
        came += len(datagram)
        feed(b, datagram, OTHER)
    for _ in range(20):
        b.server.submit(actions.SendData(b.session().peer, b"y" * 60), b.now)
    assert 0 < sum(len(out) for _, out in b.server.take_datagrams()) <= 3 * came


@pytest.mark.parametrize("proof", ["record", "action"])
@pytest.mark.spec("RFC 9146 6")
def test_an_address_is_proven_by_what_answers_from_there(proof: str) -> None:
    b = established()
    feed(b, up_datagram(b, b"x"), OTHER)
    b.server.submit(actions.SendData(b.session().peer, b"y"), b.now)
    if proof == "record":
        feed(b, up_datagram(b, b"answer"), OTHER)
    else:
        b.server.submit(actions.ProvePeer(b.session().peer), b.now)
        b._hear("server", b.server)
    for _ in range(20):
        b.server.submit(actions.SendData(b.session().peer, b"y" * 500), b.now)
    assert len(b.server.take_datagrams()) >= 20
    # The store knows the new address too.
    assert b.of(events.SessionState)[-1].address == OTHER


def test_a_session_that_comes_home_needs_no_new_proof() -> None:
    b = established()
    feed(b, up_datagram(b, b"raced"), OTHER)
    feed(b, up_datagram(b, b"home"), address())
    assert [moved.new for moved in b.of(events.PeerMoved)] == [OTHER, address()]
    for _ in range(20):
        b.server.submit(actions.SendData(b.session().peer, b"y" * 500), b.now)
    assert len(b.server.take_datagrams()) == 20


def test_a_session_with_a_connection_id_outlives_somebody_else_at_its_address() -> None:
    b = established()
    old, old_client = b.session().peer, b.client_session().peer
    b.psks[b"device-2"] = (b"k" * 16, 8)
    # The NAT gave the address to another device.
    b.client = Endpoint(Seeded(99))
    first_client, b.client = b.client, Endpoint(Seeded(98))
    b.connect(psk_client(psk_identity=b"device-2", psk=b"k" * 16, cid=b""))
    assert b.session().replaced is None
    assert b.of(events.SessionEnded) == []
    assert b.server.sessions == 2
    assert first_client.sessions == 0
    assert old != b.session().peer
    assert old_client != b.client_session().peer


# --- numbers -----------------------------------------------------------------------------------------------------


def _numbers(b: Bed) -> list[int]:
    """Of the records of epoch 1 that the server sent."""
    return [r.sequence for name, _, d in b.sent if name == "server" for r in split_records(d, 1) if r.epoch]


@pytest.mark.spec("LwM2M-contract 15")
def test_the_next_ceiling_is_asked_for_early_and_nothing_is_sent_above_a_stored_one() -> None:
    b = established(None, sequence_gap=16)
    b.answer = lambda bed, event: None
    assert b.of(events.SessionState)[0].ceiling == EPOCH + 16
    for number in range(40):
        b.down(b"%d" % number)
        if number == 7:
            # One number went to the Finished.
            assert [state.ceiling for state in b.of(events.SessionState)] == [EPOCH + 16, EPOCH + 32]
    assert _numbers(b) == list(range(16))
    assert b.drops() == ["held"] * (40 - 15 - 8)
    newest = b.of(events.SessionState)[-1]
    assert decode_session(newest.state).ceiling == newest.ceiling == EPOCH + 32
    b.server.submit(actions.SessionStored(newest.session_id, newest.ceiling), b.now)
    b.settle()
    assert _numbers(b) == list(range(24))
    assert b.client_data() == [b"%d" % number for number in range(23)]


def test_stored_ceilings_that_nobody_asked_for_mean_nothing() -> None:
    b = established(None, sequence_gap=4)
    b.answer = lambda bed, event: None
    b.server.submit(actions.SessionStored(session_of(b.session().peer), EPOCH + 4000), b.now)
    for number in range(10):
        b.down(b"%d" % number)
    assert _numbers(b) == [0, 1, 2, 3]


@pytest.mark.parametrize("cid", [None, b"", b"c"])
@pytest.mark.spec("SEC-8", "LwM2M-contract 2.3")
def test_a_session_goes_on_after_a_restart_without_a_handshake(cid: bytes | None) -> None:
    b = established(cid, sequence_gap=64)
    for _ in range(5):
        b.down(b"before")
    used = _numbers(b)
    peer = b.session().peer
    restarted(b, sequence_gap=64)
    sent_before = len(b.sent)
    b.up(b"after")
    assert b.data() == [b"after"]
    assert b.of(events.DataReceived)[0].peer == peer
    b.down(b"welcome", peer)
    assert b.client_data()[-1] == b"welcome"
    assert max(used) < 64 <= min(_numbers(b)[len(used) :])
    assert all(split_records(d, 8)[0].epoch for name, _, d in b.sent[sent_before:] if name == "client")
    assert len(b.of(events.SessionEstablished)) == 1


@pytest.mark.parametrize(("cid", "by_address"), [(None, True), (b"", False)])
@pytest.mark.spec("RFC 9146 4")
def test_a_session_is_kept_by_its_address_only_if_it_may_be_asked_for_by_it(
    cid: bytes | None, by_address: bool
) -> None:
    b = established(cid)
    assert b.of(events.SessionState)[-1].by_address is by_address
    data = up_datagram(b, b"hello")
    restarted(b)
    b.answer = lambda bed, event: None
    feed(b, data, address())
    [question] = b.of(events.SessionQuestion)
    assert (question.address is not None) is by_address


def test_a_restored_session_sends_nothing_before_its_next_ceiling_is_stored() -> None:
    b = established()
    restarted(b)
    kept: list[events.SessionState] = []

    def slow_store(bed: Bed, event: events.Event) -> None:
        if isinstance(event, events.SessionState):
            kept.append(event)
        else:
            answer(bed, event)

    b.answer = slow_store
    b.up(b"x")
    b.down(b"y")
    assert (b.data(), b.client_data()) == ([b"x"], [])
    [state] = kept
    assert state.ceiling == EPOCH + 2048
    b.server.submit(actions.SessionStored(state.session_id, state.ceiling), b.now)
    b.settle()
    assert b.client_data() == [b"y"]


@pytest.mark.spec("RFC 6347 4.1.2.6", "LwM2M-contract 15")
def test_a_restored_session_takes_nothing_again_that_was_read_before() -> None:
    b = established()
    sent = [up_datagram(b, b"%d" % number) for number in range(4)]
    for datagram in sent[:3]:
        feed(b, datagram, address())
    [(session_id, mark)] = b.server.take_marks()
    assert b.server.take_marks() == []
    assert mark == EPOCH + 3
    b.marks[session_id] = mark
    restarted(b)
    for datagram in (*sent, *sent):
        feed(b, datagram, address())
    assert b.data() == [b"0", b"1", b"2", b"3"]
    assert b.drops() == ["replayed"] * 7


def test_a_session_is_restored_to_send_to_it() -> None:
    b = established()
    peer = b.session().peer
    restarted(b)
    b.down(b"wake up", peer)
    assert b.client_data() == [b"wake up"]


# --- questions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cid", [None, b""])
@pytest.mark.spec("LwM2M-contract 15")
def test_a_record_of_a_session_that_is_nowhere_is_dropped_in_silence(cid: bytes | None) -> None:
    b = established(cid)
    restarted(b)
    b.stored.clear()
    assert feed(b, up_datagram(b, b"x"), address()) == []
    assert b.drops() == ["no-session"]
    [question] = b.of(events.SessionQuestion)
    if cid is None:
        assert (question.session_id, question.address) == (None, address())
    else:
        assert (question.session_id, question.address) == (session_of(b.session().peer), None)


@pytest.mark.parametrize("cid", [None, b""])
@pytest.mark.spec("LwM2M-contract 15")
def test_a_forged_record_brings_no_stored_session_back(cid: bytes | None) -> None:
    b = established(cid)
    datagram = up_datagram(b, b"x")
    restarted(b)
    states = len(b.of(events.SessionState))
    feed(b, datagram[:-1] + bytes((datagram[-1] ^ 1,)), address())
    assert (b.server.sessions, len(b.of(events.SessionState))) == (0, states)
    assert b.drops() == ["no-session"]
    feed(b, datagram, address())
    assert b.data() == [b"x"]


def test_a_restored_session_leaves_its_address_to_the_one_that_is_there() -> None:
    b = established(None)
    old = b.session().peer
    restarted(b)
    b.connect()
    b.down(b"to the old one", old)
    assert b.server.sessions == 2
    b.up(b"from the new one")
    assert b.data() == [b"from the new one"]


def test_what_waits_for_a_stored_session_is_bounded_and_kept_in_order() -> None:
    b = established()
    sent = [up_datagram(b, b"%d" % number) for number in range(6)]
    restarted(b)
    b.answer = lambda bed, event: None
    for datagram in sent:
        feed(b, datagram, address())
    [question] = b.of(events.SessionQuestion)
    assert b.drops() == ["room", "room"]
    b.answer = None
    answer(b, question)
    b.settle()
    assert b.data() == [b"0", b"1", b"2", b"3"]


def test_questions_are_bounded_of_all_and_of_one_network_and_end_by_themselves() -> None:
    b = bed(limits=Limits(questions=5, questions_per_address=3))
    b.answer = lambda bed, event: None
    record = bytes((23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 7))
    for port in range(9):
        feed(b, record, address("203.0.113.1", 1000 + port))
    for n in range(9):
        feed(b, record, address(f"198.51.100.{n}"))
    assert [question.address.remote_host for question in b.of(events.SessionQuestion)] == [
        *["203.0.113.1"] * 3,
        "198.51.100.0",
        "198.51.100.1",
    ]
    assert b.drops() == ["room"] * 13
    b.wait(11.0)
    assert b.drops()[13:] == ["no-session"] * 5
    assert b.server.deadline() is None
    feed(b, record, address())
    assert len(b.of(events.SessionQuestion)) == 6


def test_answers_that_fit_no_question_or_another_session_restore_nothing() -> None:
    b = established()
    state = b.of(events.SessionState)[0]
    restarted(b)
    b.answer = lambda bed, event: None
    b.server.submit(actions.RestoreSession(4711, state.state, 0), b.now)
    b.server.submit(actions.SendData(PeerId("dtls", "00" * 8, 0), b"x"), b.now)
    b.server.submit(actions.SendData(b.session().peer, b"x"), b.now)
    b._hear("server", b.server)
    other, right = b.of(events.SessionQuestion)
    b.server.submit(actions.RestoreSession(other.question, state.state, 0), b.now)
    b.server.submit(actions.RestoreSession(right.question, b"no state", 0), b.now)
    assert b.server.sessions == 0


@pytest.mark.spec("SEC-9")
def test_a_session_that_is_closed_while_it_is_looked_up_does_not_come_back() -> None:
    b = established()
    peer = b.session().peer
    restarted(b)
    b.answer = lambda bed, event: None
    feed(b, up_datagram(b, b"x"), address())
    b.server.submit(actions.CloseSession(peer), b.now)
    [question] = b.of(events.SessionQuestion)
    answer(b, question)
    b._hear("server", b.server)
    assert b.server.sessions == 0
    assert b.data() == []
    assert b.drops() == ["no-session"]


# --- room --------------------------------------------------------------------------------------------------------


def _device(b: Bed, number: int) -> PeerId:
    """One more session; the server's peer of it."""
    b.connect(psk_client(cid=b"%03d" % number), address(f"198.51.100.{number}"))
    return b.session().peer


def test_the_idlest_session_makes_room_in_memory_and_comes_back_from_the_store() -> None:
    b = bed(limits=Limits(sessions=3))
    peers = [_device(b, number) for number in range(3)]
    clients = [session.peer for session in b.client_of(events.SessionEstablished)]
    _device(b, 3)
    assert [(ended.peer, ended.reason) for ended in b.of(events.SessionEnded)] == [(peers[0], "evicted")]
    # Those that are heard stay.
    b.up(b"1", clients[1])
    _device(b, 4)
    assert [ended.peer for ended in b.of(events.SessionEnded)] == [peers[0], peers[2]]
    assert b.server.sessions == 3
    b.up(b"0", clients[0])
    assert b.data() == [b"1", b"0"]
    assert b.of(events.DataReceived)[-1].peer == peers[0]
    assert b.server.sessions == 3


def test_a_session_that_was_evicted_does_not_forget_what_it_has_read() -> None:
    b = bed(limits=Limits(sessions=1))
    peer = _device(b, 0)
    client = b.client_session().peer
    b.client.submit(actions.SendData(client, b"once"), b.now)
    [(_, datagram)] = b.client.take_datagrams()
    feed(b, datagram, address("198.51.100.0"))
    _device(b, 1)
    feed(b, datagram, address("198.51.100.0"))
    assert b.data() == [b"once"]
    assert dict(b.server.take_marks())[session_of(peer)] == EPOCH + 1


def test_live_sessions_have_no_timer() -> None:
    b = bed()
    for number in range(4):
        _device(b, number)
        b.up(b"x")
    assert b.server.deadline() is None


def test_data_for_a_session_that_is_nowhere_is_dropped() -> None:
    b = bed()
    b.server.submit(actions.SendData(PeerId("dtls", "00" * 8, 0), b"x"), b.now)
    b.client.submit(actions.SendData(PeerId("dtls", "00" * 8, 0), b"x"), b.now)
    b.settle()
    assert [drop.reason for drop in b.client_of(events.Dropped)] == ["no-session"]
    assert len(b.of(events.SessionQuestion)) == 1


def test_secrets_are_in_no_repr() -> None:
    b = established()
    for told in (*b.told, *b.client_told, actions.GivePsk(1, KEY), actions.RestoreSession(1, KEY, 0)):
        assert "sixteen" not in repr(told)
        assert "state=" not in repr(told)
