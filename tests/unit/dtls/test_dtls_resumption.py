"""Going on from an earlier session."""

import pytest
from dtls_by_hand import ByHand
from dtls_wire import ID_SECRET, TICKET_KEY, Bed, Seeded, address, answer, bed, ec_key, keyed_server, psk_client
from tests import dtls_keys

from stellwerk.core.identity import CertificateIdentity, PskIdentity
from stellwerk.core.ids import session_of
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import ClientParameters, Limits, ServerParameters
from stellwerk.dtls.tickets import TicketKey

KINDS = [{}, {"tickets": True}]


def kept(b: Bed) -> bytes:
    """What the client kept of its newest session."""
    return b.client_of(events.SessionState)[-1].state


def began(parameters: ClientParameters, server: ServerParameters | None = None, limits: Limits | None = None) -> Bed:
    """A bed with one session."""
    b = bed(server, limits)
    b.connect(parameters)
    return b


def echoes(b: Bed) -> bool:
    b.up(b"up")
    b.down(b"down")
    return (b.data()[-1:], b.client_data()[-1:]) == ([b"up"], [b"down"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cid", [None, b"c"])
@pytest.mark.spec("RFC 5246 7.3", "RFC 5077 3", "LwM2M-contract 2.2")
def test_a_resumed_session_is_a_new_one_of_the_same_device(kind: dict[str, bool], cid: bytes | None) -> None:
    b = began(psk_client(cid=cid, **kind))
    for _ in range(3):
        before = b.session().peer
        questions = len(b.of(events.PskQuestion))
        b.connect(psk_client(cid=cid, **kind), resume=kept(b))
        session = b.session()
        assert (session.resumed, session.device, session.identity) == (before, 7, PskIdentity(b"device-1"))
        assert b.client_session().resumed is not None
        assert session.peer != before
        assert len(b.of(events.PskQuestion)) == questions
        assert (b.of(events.SessionEnded)[-1].peer, b.of(events.SessionEnded)[-1].reason) == (before, "replaced")
        assert b.server.sessions == 1
    assert echoes(b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.spec("RFC 5246 7.3", "LwM2M-contract 2.2")
def test_a_session_that_ended_in_peace_can_be_resumed_from_another_address(kind: dict[str, bool]) -> None:
    b = began(psk_client(**kind))
    state = kept(b)
    b.client.submit(actions.CloseSession(b.client_session().peer), b.now)
    b.settle()
    assert b.server.sessions == 0
    b.connect(psk_client(**kind), address("203.0.113.4"), resume=state)
    assert b.session().resumed is not None
    assert echoes(b)


@pytest.mark.spec("RFC 5077 3.3")
def test_a_ticket_has_room_for_a_client_with_a_long_chain() -> None:
    chain = (*dtls_keys.client().chain, *dtls_keys.stranger().chain, *dtls_keys.server().chain)
    assert sum(map(len, chain)) > 1_400
    parameters = ClientParameters(key=dtls_keys.client().key, chain=chain, tickets=True)
    b = began(parameters, keyed_server(identity=dtls_keys.server_identity()))
    b.connect(parameters, resume=kept(b))
    session = b.session()
    assert session.resumed is not None
    # Those above it were verified before.
    assert isinstance(session.identity, CertificateIdentity)
    assert (session.identity.chain, session.identity.common_name) == (chain[:1], dtls_keys.CLIENT)
    assert echoes(b)


@pytest.mark.spec("RFC 5246 7.2.2", "SEC-9")
def test_a_session_whose_right_was_taken_away_is_not_resumed() -> None:
    b = began(psk_client())
    state = kept(b)
    b.server.submit(actions.CloseSession(b.session().peer, 48), b.now)
    b.settle()
    b.stored.clear()
    b.connect(psk_client(), resume=state)
    assert b.session().resumed is None


def test_a_resumed_session_whose_right_was_taken_away_ends_the_whole_chain() -> None:
    b = began(psk_client())
    state = kept(b)
    b.client.submit(actions.CloseSession(b.client_session().peer), b.now)
    b.settle()
    b.stored.clear()
    b.connect(psk_client(), resume=state)
    assert b.session().resumed is not None
    b.server.submit(actions.CloseSession(b.session().peer, 48), b.now)
    b.settle()
    b.stored.clear()
    b.connect(psk_client(), resume=state)
    assert b.session().resumed is None


@pytest.mark.parametrize("stored", [False, True])
def test_half_a_session_id_resumes_nothing(stored: bool) -> None:
    b = began(psk_client())
    client = ByHand(b, address("203.0.113.1"))
    client.hello.session_id = session_of(b.session().peer) + b"guessed "
    if stored:
        b.server = Endpoint(Seeded(50), ServerParameters(), wall_offset_s=1_700_000_000, id_secret=ID_SECRET)
    client.begin()
    assert b.of(events.ResumptionQuestion) == []
    assert len(b.of(events.SessionQuestion)) == stored
    client.send(client.key_exchange(), client.change(), *client.finished())
    assert b.session().address == client.peer


@pytest.mark.spec("RFC 5246 7.3", "LwM2M-contract 15")
def test_a_session_id_that_is_made_up_is_a_full_handshake_without_a_question() -> None:
    b = began(psk_client())
    given = session_of(b.session().peer)
    client = ByHand(b, address("203.0.113.1"))
    client.hello.session_id = given[:-1] + bytes((given[-1] ^ 1,)) + b"guessed "
    client.begin()
    assert b.of(events.SessionQuestion) == []
    client.send(client.key_exchange(), client.change(), *client.finished())
    assert (b.session().address, b.session().resumed) == (client.peer, None)


@pytest.mark.spec("SEC-9")
def test_the_outside_may_ask_for_a_full_handshake_instead() -> None:
    b = began(psk_client())

    def refusing(bed: Bed, event: events.Event) -> None:
        if isinstance(event, events.ResumptionQuestion):
            assert event.device == 7
            bed.server.submit(actions.RefusePeer(event.handshake, "credentials-changed", "other key"), bed.now)
        else:
            answer(bed, event)

    b.answer = refusing
    b.connect(psk_client(), resume=kept(b))
    assert b.session().resumed is None
    assert b.client_session().resumed is None
    assert len(b.of(events.PskQuestion)) == 2
    assert echoes(b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_resumed_after_a_restart(kind: dict[str, bool]) -> None:
    b = began(psk_client(**kind))
    before = b.session().peer
    keys = {"ticket_keys": (TICKET_KEY,), "id_secret": ID_SECRET}
    b.server = Endpoint(Seeded(50), ServerParameters(), wall_offset_s=1_700_000_000, **keys)
    b.connect(psk_client(**kind), resume=kept(b))
    assert b.session().resumed == before
    assert [question.session_id for question in b.of(events.SessionQuestion)] == ([] if kind else [session_of(before)])
    assert echoes(b)


def test_an_unknown_session_id_becomes_a_full_handshake() -> None:
    b = began(psk_client())
    state = kept(b)
    b.server = Endpoint(Seeded(50), ServerParameters(), wall_offset_s=1_700_000_000, id_secret=ID_SECRET)
    b.stored.clear()
    b.connect(psk_client(), resume=state)
    assert b.session().resumed is None
    assert echoes(b)


@pytest.mark.parametrize(
    "keys", [(), (TicketKey(b"another key name", b"x" * 32),), (TicketKey(TICKET_KEY.name, b"x" * 32),)]
)
@pytest.mark.spec("RFC 5077 3.4", "LwM2M-contract 15")
def test_a_ticket_of_other_keys_becomes_a_full_handshake(keys: tuple[TicketKey, ...]) -> None:
    b = began(psk_client(tickets=True))
    b.server.submit(actions.ReplaceTicketKeys(keys), b.now)
    b.connect(psk_client(tickets=True), resume=kept(b))
    assert b.session().resumed is None
    assert echoes(b)


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_session_is_not_resumed(kind: dict[str, bool]) -> None:
    b = began(psk_client(**kind), ServerParameters(session_lifetime_s=100.0))
    b.wait(101.0)
    b.connect(psk_client(**kind), resume=kept(b))
    assert b.session().resumed is None
    assert echoes(b)


@pytest.mark.spec("RFC 7627 5.3")
def test_extended_master_secret_is_kept_or_there_is_no_session() -> None:
    b = began(psk_client())
    b.connect(psk_client(extended_master_secret=False), resume=kept(b))
    assert b.of(events.HandshakeFailed)[0].reason == "bad-message"
    assert len(b.of(events.SessionEstablished)) == 1
    assert b.of(events.SessionEnded) == []
    b = began(psk_client(extended_master_secret=False))
    b.connect(psk_client(), resume=kept(b))
    assert [session.resumed for session in b.of(events.SessionEstablished)] == [None, None]
    assert echoes(b)


def test_a_suite_that_is_not_offered_again_is_not_resumed() -> None:
    b = began(psk_client(suites=(0xC0A8,)))
    b.connect(psk_client(suites=(0x00A8,)), resume=kept(b))
    assert (b.session().resumed, b.session().suite) == (None, 0x00A8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_of_a_raw_key_comes_with_the_session(kind: dict[str, bool]) -> None:
    parameters = ClientParameters(key=ec_key(2), raw_keys=True, **kind)
    b = began(parameters, keyed_server())
    identity = b.session().identity
    b.connect(parameters, resume=kept(b))
    assert (b.session().resumed is not None, b.session().identity, b.session().device) == (True, identity, 9)
    assert len(b.of(events.CertificateQuestion)) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.spec("RFC 6347 4.2.4")
def test_the_clients_last_flight_is_sent_again_when_the_server_repeats(kind: dict[str, bool]) -> None:
    b = began(psk_client(**kind), ServerParameters(first_timeout_s=1.0))
    state = kept(b)
    lost: list[bytes] = []

    def loses_the_finished(sender: str, datagram: bytes) -> bool:
        if sender == "client" and datagram[0] == 20 and not lost:
            lost.append(datagram)
            return True
        return False

    b.lost = loses_the_finished
    b.connect(psk_client(**kind), resume=state)
    assert lost
    assert b.session().resumed is None
    b.wait(1.5)
    assert b.session().resumed is not None
    assert echoes(b)


def test_ended_sessions_are_remembered_up_to_a_bound() -> None:
    b = bed(limits=Limits(resumable=2))
    states = []
    for number in range(3):
        b.connect(psk_client(), address(f"198.51.100.{number}"))
        states.append(kept(b))
        b.client.submit(actions.CloseSession(b.client_session().peer), b.now)
        b.settle()
    b.stored.clear()
    resumed = []
    for state in states:
        b.connect(psk_client(), address("203.0.113.1"), resume=state)
        resumed.append(b.session().resumed is not None)
    assert resumed == [False, True, True]


def test_what_is_no_session_of_the_clients_begins_a_full_handshake() -> None:
    b = bed()
    b.connect(psk_client(), resume=b"\0\0 and no session")
    assert echoes(b)
