"""Both ends derive the same keys from what they agreed on, and each proves in its Finished that it saw the same."""

import pytest

from stellwerk.core.ids import PeerId
from stellwerk.dtls.keying import Keying
from stellwerk.dtls.machine import HandshakeFault
from stellwerk.dtls.messages import HandshakeType
from stellwerk.dtls.records import ContentType, split_records
from stellwerk.dtls.suites import SUITES

SUITE = next(each for each in SUITES.values() if each.exchange == "psk")


class ServerEnd(Keying):
    IS_SERVER = True


class ClientEnd(Keying):
    IS_SERVER = False


def end(kind: type[Keying], seen: bytes, *, extended: bool) -> Keying:
    made = kind(PeerId("dtls", "192.0.2.1", 40000))
    made.suite = SUITE
    made.client_random, made.server_random = b"c" * 32, b"s" * 32
    made.session_id = b"12345678"
    made.extended_master_secret = extended
    made._note(HandshakeType.CLIENT_KEY_EXCHANGE, 2, seen)
    made._derive(b"premaster")
    return made


def finish(sender: Keying, receiver: Keying) -> None:
    """The Finished of ``sender`` as ``receiver`` takes it."""
    body = sender._own_verify_data()
    receiver._note(HandshakeType.FINISHED, 3, body)
    receiver._check_finished(body)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.spec("RFC 5246 7.4.9", "RFC 7627 4")
def test_ends_that_saw_the_same_messages_take_each_others_finished_and_records(extended: bool) -> None:
    client, server = (end(kind, b"same", extended=extended) for kind in (ClientEnd, ServerEnd))
    finish(client, server)
    assert client.association is not None
    assert server.association is not None
    (record,) = split_records(client.association.seal(ContentType.APPLICATION_DATA, b"hello"), 0)
    assert server.association.open(record) == (ContentType.APPLICATION_DATA, b"hello")


@pytest.mark.parametrize("extended", [False, True])
def test_an_end_that_saw_another_message_is_found_out(extended: bool) -> None:
    client, server = end(ClientEnd, b"this", extended=extended), end(ServerEnd, b"that", extended=extended)
    with pytest.raises(HandshakeFault, match="it saw other handshake messages than we"):
        finish(client, server)


def test_neither_end_takes_its_own_finished_for_the_others() -> None:
    client = end(ClientEnd, b"same", extended=True)
    with pytest.raises(HandshakeFault):
        finish(client, client)
