"""TLS in the client's role against TLS in the server's, both in memory."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import dtls_keys

from stellwerk.coap.tcp.connection import Role
from stellwerk.coap.tcp.endpoint import AdoptConnection
from stellwerk.core.ids import PeerId
from stellwerk.device.key_material import der_of
from stellwerk.dtls import actions, events
from stellwerk.dtls.parameters import ClientParameters
from stellwerk.issuing import Issuer, make_authority, new_key
from stellwerk.net.tls import TlsStack
from stellwerk.net.tls_client import TlsClients

HERE = PeerId("tls", "192.0.2.1", 5684, "192.0.2.9", 40_000)
"""The server, as the client sees it."""
THERE = PeerId("tls", "192.0.2.9", 40_000, "192.0.2.1", 5684)
KEY = bytes(range(16))
AUTHORITY = make_authority("authority")
OWN = Issuer(AUTHORITY.key, AUTHORITY.chain[0]).client(new_key(), "dev-1")
WITH_PSK = ClientParameters(psk_identity=b"dev-1", psk=KEY)
WITH_CERTIFICATE = ClientParameters(key=OWN.key, chain=tuple(map(der_of, OWN.chain)), server_name="bs.example")


class Entropy:
    def take(self, count: int) -> bytes:
        return os.urandom(count)


class Inner:
    """Greets whoever it is told of."""

    def __init__(self) -> None:
        self.adopted: list[AdoptConnection] = []
        self.heard = b""
        self.ended = 0
        self.out: list[tuple[PeerId, bytes]] = []

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self.heard += datagram
        self.ended += not datagram

    def tick(self, now: float) -> None:
        pass

    def submit(self, action: Any, now: float) -> None:
        self.adopted.append(action)
        self.out.append((action.peer, b"hello"))

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        taken, self.out = self.out, []
        return taken

    def take_events(self) -> list[Any]:
        return []

    def deadline(self) -> float | None:
        return None


class Wire:
    """A client and a server; ``judge`` and ``admit`` answer what each asks about the other."""

    def __init__(self, parameters: ClientParameters | None, *, judge: Any = None, admit: Any = None) -> None:
        self.inside, self.served = Inner(), Inner()
        self.client: TlsClients[Any, Any] = TlsClients(self.inside, Entropy(), handshake_s=5.0)
        self.server: TlsStack[Any, Any] = TlsStack(self.served, Entropy(), dtls_keys.server_identity())
        self.judge = judge or (lambda question: actions.AcceptPeer(question.handshake))
        self.admit = admit or (lambda question: actions.AcceptPeer(question.handshake, 7))
        self.told: list[Any] = []
        self.at_server: list[Any] = []
        self.carried = b""
        """What the client has sent."""
        self.client.submit(AdoptConnection(HERE, Role.INITIATED), 0.0)
        self.server.submit(AdoptConnection(THERE), 0.0)
        if parameters is not None:
            self.client.submit(actions.Connect(HERE, parameters), 0.0)
        self.run()

    def run(self) -> None:
        busy = True
        while busy:
            busy = False
            for event in self.client.take_events():
                self.told.append(event)
                if isinstance(event, events.CertificateQuestion):
                    self.client.submit(self.judge(event), 0.0)
            for event in self.server.take_events():
                self.at_server.append(event)
                if isinstance(event, events.PskQuestion):
                    self.server.submit(actions.GivePsk(event.handshake, KEY, 7), 0.0)
                elif isinstance(event, events.CertificateQuestion):
                    self.server.submit(self.admit(event), 0.0)
            for _, data in self.client.take_datagrams():
                busy = True
                self.carried += data
                self.server.feed(data, peer=THERE, now=0.0)
            for _, data in self.server.take_datagrams():
                busy = True
                self.client.feed(data, peer=HERE, now=0.0)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.told if isinstance(each, kind)]


@pytest.mark.spec("RFC 8323 9.1")
@pytest.mark.parametrize("parameters", [WITH_PSK, WITH_CERTIFICATE])
def test_each_end_hears_the_other_once_both_have_proven_who_they_are(parameters: ClientParameters):
    wire = Wire(parameters)
    assert [each.role for each in wire.inside.adopted] == [Role.INITIATED]
    assert (wire.inside.heard, wire.served.heard) == (b"hello", b"hello")
    assert len(wire.of(events.SessionEstablished)) == 1
    assert wire.client.suite_of(HERE)
    assert b"hello" not in wire.carried


@pytest.mark.parametrize("parameters", [WITH_PSK, WITH_CERTIFICATE])
def test_whoever_has_enough_takes_leave(parameters: ClientParameters):
    wire = Wire(parameters)
    wire.inside.out.append((HERE, b""))
    wire.run()
    assert wire.served.ended == 1
    assert [each.reason for each in wire.at_server if isinstance(each, events.SessionEnded)] == ["close-notify"]
    wire = Wire(parameters)
    wire.served.out.append((THERE, b""))
    wire.run()
    assert wire.inside.ended == 1
    assert [each.reason for each in wire.of(events.SessionEnded)] == ["close-notify"]


def test_nothing_is_said_before_it_is_said_what_to_prove():
    wire = Wire(None)
    assert wire.carried == b""
    assert not wire.told
    wire.client.submit(actions.Connect(HERE, WITH_PSK), 0.0)
    wire.run()
    assert wire.inside.adopted


def test_a_server_that_is_not_the_right_one_gets_nothing_to_hear():
    wire = Wire(WITH_CERTIFICATE, judge=lambda each: actions.RefusePeer(each.handshake, "unknown-identity", "another"))
    (failed,) = wire.of(events.HandshakeFailed)
    assert (failed.reason, failed.detail) == ("unknown-identity", "another")
    assert not wire.inside.adopted
    assert not wire.served.adopted
    # Whose the certificate is has not left either.
    assert not [each for each in wire.at_server if isinstance(each, events.CertificateQuestion)]


def test_a_wrong_key_is_told_as_the_servers_alert():
    wire = Wire(ClientParameters(psk_identity=b"dev-1", psk=bytes(16)))
    (failed,) = wire.of(events.HandshakeFailed)
    assert failed.reason == "alert"
    assert failed.detail.startswith("the server gave up: ")
    assert not wire.inside.adopted


@pytest.mark.spec("RFC 8446 4.4.2.4")
def test_a_certificate_that_the_server_does_not_take_ends_the_session():
    wire = Wire(
        WITH_CERTIFICATE, admit=lambda each: actions.RefusePeer(each.handshake, "untrusted-certificate", "no", 48)
    )
    (ended,) = wire.of(events.SessionEnded)
    assert ended.reason == "alert"
    assert "unknown ca" in ended.detail
    assert wire.inside.ended == 1
    assert not wire.served.adopted


def test_a_connection_that_ends_in_the_middle_has_failed():
    wire = Wire(None)
    wire.client.submit(actions.Connect(HERE, WITH_PSK), 0.0)
    wire.client.feed(b"", peer=HERE, now=0.0)
    assert [each.reason for each in wire.client.take_events()] == ["closed"]
    wire = Wire(None)
    wire.client.feed(b"", peer=HERE, now=0.0)
    wire.client.submit(actions.Connect(HERE, WITH_PSK), 0.0)
    assert [each.reason for each in wire.client.take_events()] == ["closed"]


def test_a_server_that_says_nothing_is_waited_for_so_long():
    wire = Wire(None)
    wire.client.submit(actions.Connect(HERE, WITH_PSK), 0.0)
    wire.client.take_datagrams()
    assert wire.client.deadline() == 5.0
    wire.client.tick(5.0)
    (failed,) = wire.client.take_events()
    assert (failed.reason, failed.detail) == ("timeout", "the server did not complete the handshake within 5 s")
    assert wire.client.take_datagrams() == [(HERE, b"")]


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=4))
def test_what_is_no_tls_fails_and_never_raises(pieces: list[bytes]):
    wire = Wire(None)
    wire.client.submit(actions.Connect(HERE, WITH_PSK), 0.0)
    for each in pieces:
        wire.client.feed(each, peer=HERE, now=0.0)
    wire.client.take_datagrams()
    wire.client.tick(6.0)
    assert [type(each) for each in wire.client.take_events()] == [events.HandshakeFailed]
    assert not wire.inside.adopted
