"""TLS around an engine over streams: what gets through, what a flood costs, and what a client hears of its refusal."""

import os
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL, crypto
from tests import dtls_keys
from tests.tls_client import V12, V13, VERSIONS, OpenSslClient, PskClient, TlsClient

from stellwerk.coap.tcp.endpoint import AdoptConnection
from stellwerk.core.identity import CertificateIdentity
from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.dtls.base import Admission
from stellwerk.dtls.failures import REASONS
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.issuing import Issued
from stellwerk.net.tls import TlsLimits, TlsStack

FAR = PeerId("tls", "192.0.2.9", 40_000, "192.0.2.1", 5684)
DEVICE = 7
GREETING = b"hello from inside"


SUITES_1_3 = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
]


class Entropy:
    def take(self, count: int) -> bytes:
        return os.urandom(count)


class Inner:
    """Greets every connection and repeats what it hears; ends one that says ``bye``."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.out: list[tuple[PeerId, bytes]] = []
        self.heard: dict[PeerId, bytes] = {}
        self.ended: list[PeerId] = []

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        if not datagram:
            self.ended.append(peer)
            return
        self.heard[peer] = self.heard.get(peer, b"") + datagram
        self.out.append((peer, datagram))
        if datagram == b"bye":
            self.out.append((peer, b""))

    def tick(self, now: float) -> None:
        pass

    def submit(self, action: Any, now: float) -> None:
        self.told.append(("adopted", action.peer))
        self.out.append((action.peer, GREETING))

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        taken, self.out = self.out, []
        return taken

    def take_events(self) -> list[Any]:
        taken, self.told = self.told, []
        return taken

    def deadline(self) -> float | None:
        return None


def accept(question: Any) -> Any:
    if isinstance(question, events.PskQuestion):
        return actions.GivePsk(question.handshake, bytes(16), DEVICE)
    return actions.AcceptPeer(question.handshake, DEVICE)


def refuse(reason: str) -> Callable[[Any], Any]:
    return lambda question: actions.RefusePeer(question.handshake, reason, "because")


class Ends:
    """A stack as server; what it told and sent."""

    def __init__(self, answer: Callable[[Any], Any] | None = accept, **more: Any) -> None:
        self.inner = Inner()
        identity = more.pop("identity", dtls_keys.server_identity())
        self.stack: TlsStack[Any, Any] = TlsStack(self.inner, Entropy(), identity, **more)
        self.answer = answer
        self.told: list[Any] = []
        self.closed: list[PeerId] = []
        self.now = 0.0
        self.questions: list[Any] = []

    def begin(self, peer: PeerId = FAR) -> None:
        self.stack.submit(AdoptConnection(peer), self.now)
        self.look()

    def connect(self, client: Any, peer: PeerId = FAR) -> Any:
        self.begin(peer)
        return self.pass_on(client, client.take(), peer)

    def pass_on(self, client: Any, data: bytes, peer: PeerId = FAR) -> Any:
        for _ in range(10):
            if data:
                self.stack.feed(data, peer=peer, now=self.now)
            data = b""
            out = self.look()
            for to, found in out:
                if to == peer and found:
                    data += client.take(found)
            if not out:
                break
        return client

    def look(self) -> list[tuple[PeerId, bytes]]:
        while found := self.stack.take_events():
            for event in found:
                self.told.append(event)
                if isinstance(event, events.PskQuestion | events.CertificateQuestion):
                    self.questions.append(event)
                    if self.answer is not None:
                        self.stack.submit(self.answer(event), self.now)
        out = self.stack.take_datagrams()
        self.closed += [peer for peer, data in out if not data]
        return out

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.stack.tick(self.now)
        self.look()

    @property
    def failures(self) -> list[str]:
        return [each.reason for each in self.told if isinstance(each, events.HandshakeFailed)]


def client(version: ssl.TLSVersion = V13, **more: Any) -> TlsClient:
    return TlsClient(version, dtls_keys.client(), **more)


def edwards() -> Any:
    """A certificate with an Ed25519 key."""
    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ed")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(dtls_keys.START).not_valid_after(dtls_keys.END)
    return Issued(key, (builder.sign(key, None),))  # type: ignore[arg-type]


# -- what gets through --


@pytest.mark.spec("SEC-1", "RFC 8323 8.2", "LwM2M-contract 1.8")
@pytest.mark.parametrize("version", VERSIONS)
def test_after_the_handshake_data_passes_both_ways_and_the_peer_is_who_it_has_proven_to_be(
    version: ssl.TLSVersion,
) -> None:
    ends = Ends()
    device = ends.connect(client(version))
    assert device.heard == GREETING
    ends.pass_on(device, device.say(b"x" * 40_000))
    assert device.heard == GREETING + b"x" * 40_000
    (question,) = ends.questions
    assert isinstance(question.identity, CertificateIdentity)
    assert question.identity.common_name == dtls_keys.CLIENT
    assert question.identity.chain[0] == dtls_keys.client().chain[0]
    established, adopted = [each for each in ends.told if not isinstance(each, events.CertificateQuestion)]
    assert (established.peer, established.device) == (FAR, DEVICE)
    assert adopted == ("adopted", FAR)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_of_the_handshake_and_the_first_message_leave_together(version: ssl.TLSVersion) -> None:
    ends, device = Ends(), client(version)
    ends.begin()
    data, sizes = device.take(), []
    while data:
        ends.stack.feed(data, peer=FAR, now=0.0)
        out = ends.look()
        sizes.append(len(out))
        data = b"".join(device.take(found) for _, found in out)
    assert device.heard == GREETING
    assert set(sizes) <= {0, 1}


@pytest.mark.parametrize("version", VERSIONS)
def test_data_of_any_length_leaves_whole(version: ssl.TLSVersion) -> None:
    """Also where a record ends exactly where a read of the library's output does."""
    ends = Ends()
    device = ends.connect(client(version))
    heard = len(device.heard)
    for length in range(4060, 4100):
        ends.inner.out.append((FAR, bytes(length)))
        ends.pass_on(device, b"")
        heard += length
        assert len(device.heard) == heard


@pytest.mark.spec("RFC 5246 7.4.2", "RFC 8446 4.4.2")
@pytest.mark.parametrize("version", VERSIONS)
def test_what_stands_between_a_certificate_and_its_root_is_told_in_the_order_it_came(version: ssl.TLSVersion) -> None:
    between = dtls_keys.certificate("Between", dtls_keys.authority(), is_ca=True)
    own = dtls_keys.certificate("urn:dev:os:behind", between)
    ends = Ends()
    ends.connect(TlsClient(version, own))
    assert ends.questions[0].identity.chain[:2] == own.chain


@pytest.mark.spec("SEC-1")
@pytest.mark.parametrize("version", VERSIONS)
def test_no_byte_reaches_the_inner_engine_before_the_peer_is_accepted(version: ssl.TLSVersion) -> None:
    ends = Ends(answer=None)
    device = ends.connect(client(version))
    if device.is_ready:
        ends.pass_on(device, device.say(b"too early"))
    assert not ends.inner.heard
    assert ends.inner.told == []
    ends.stack.submit(accept(ends.questions[0]), ends.now)
    ends.pass_on(device, b"")
    assert device.heard.startswith(GREETING)
    if version == V13:
        assert ends.inner.heard == {FAR: b"too early"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 7])
def test_bytes_may_be_cut_anywhere(version: ssl.TLSVersion, size: int) -> None:
    ends = Ends()
    device = client(version)
    ends.begin()
    data = device.take()
    for _ in range(10):
        found = b""
        for start in range(0, len(data), size):
            ends.stack.feed(data[start : start + size], peer=FAR, now=0.0)
            found += b"".join(each for _, each in ends.look())
        data = device.take(found) if found else b""
    assert device.heard == GREETING


@pytest.mark.spec("RFC 8323 8.2", "RFC 7301 3.2")
@pytest.mark.parametrize("version", VERSIONS)
def test_who_offers_no_protocol_comes_in_and_who_offers_others_only_does_not(version: ssl.TLSVersion) -> None:
    assert Ends().connect(client(version, alpn=())).heard == GREETING
    chosen = Ends().connect(client(version, alpn=("h2", "coap")))
    assert chosen.tls.selected_alpn_protocol() == "coap"
    ends = Ends()
    other = ends.connect(client(version, alpn=("h2", "http/1.1")))
    assert "no application protocol" in other.trouble
    assert ends.failures == ["no-common-protocol"]


@pytest.mark.spec("LwM2M-contract 2.2", "RFC 8323 9.1")
@pytest.mark.parametrize(
    "suite", ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES128-GCM-SHA256"]
)
def test_the_suites_of_the_profile_are_there(suite: str) -> None:
    device = Ends().connect(client(V12, suites=f"{suite}:@SECLEVEL=0"))
    assert device.tls.cipher()[0] == suite


@pytest.mark.spec("LwM2M-contract 2.2")
def test_who_offers_a_key_and_certificates_comes_in_with_the_key_as_over_dtls() -> None:
    ends = Ends()
    both = PskClient(b"id", bytes(16), suites="ECDHE-ECDSA-AES128-GCM-SHA256:PSK-AES128-GCM-SHA256")
    assert ends.connect(both).heard == GREETING
    assert ends.connect(client(V12), FAR._replace(remote_port=2)).heard == GREETING


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize(("cbc", "comes_in"), [(False, False), (True, True)])
def test_cbc_suites_are_there_where_they_are_wanted(cbc: bool, comes_in: bool) -> None:
    ends = Ends(cbc=cbc)
    device = ends.connect(client(V12, suites="ECDHE-ECDSA-AES128-SHA256"))
    assert device.is_ready is comes_in
    assert ends.failures == ([] if comes_in else ["no-common-suite"])


def test_a_server_without_a_certificate_takes_pre_shared_keys_only() -> None:
    ends = Ends(identity=ServerIdentity(dtls_keys.server().key))
    assert not ends.stack.has_certificate
    assert ends.connect(PskClient(b"id", bytes(16))).heard == GREETING
    assert not ends.connect(client(V12), FAR._replace(remote_port=2)).is_ready
    assert ends.failures == ["no-common-suite"]


class Without:
    """The library's bindings, less some."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __getattr__(self, name: str) -> Any:
        if name in self.names:
            raise AttributeError(name)
        return getattr(BINDINGS, name)


BINDINGS: Any = vars(SSL)["_lib"]


def test_where_the_library_offers_no_pre_shared_keys_certificates_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSL, "_lib", Without("SSL_CTX_set_psk_server_callback"))
    ends = Ends()
    monkeypatch.undo()
    assert (ends.stack.has_psk, ends.stack.has_certificate, ends.stack.has_short_tags) == (False, True, True)
    assert ends.connect(client(V12)).heard == GREETING
    assert not ends.connect(PskClient(b"id", bytes(16)), FAR._replace(remote_port=2)).is_ready
    assert ends.failures == ["no-common-suite"]


def test_where_weak_signatures_cannot_be_barred_the_suites_that_would_let_them_in_are_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SSL, "_lib", Without("SSL_CTX_set1_sigalgs_list"))
    ends = Ends()
    monkeypatch.undo()
    assert (ends.stack.has_psk, ends.stack.has_short_tags) == (True, False)
    assert ends.connect(PskClient(b"id", bytes(16), suites="PSK-AES128-GCM-SHA256")).heard == GREETING
    assert not ends.connect(PskClient(b"id", bytes(16)), FAR._replace(remote_port=2)).is_ready


@pytest.mark.spec("RFC 4279 5.1")
@pytest.mark.parametrize("identity", [b"id", b"\xff\x01 " + b"i" * 120, "ä".encode()])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_identity_is_asked_about_octet_by_octet(identity: bytes, version: ssl.TLSVersion) -> None:
    ends = Ends()
    assert ends.connect(PskClient(identity, bytes(16), version)).heard == GREETING
    (question,) = ends.questions
    assert question.identity == identity


def test_a_pre_shared_key_is_waited_for() -> None:
    ends = Ends(answer=None)
    device = ends.connect(PskClient(b"id", bytes(16)))
    assert not device.is_ready
    ends.stack.submit(accept(ends.questions[0]), 1.0)
    ends.pass_on(device, b"")
    assert device.heard == GREETING


@pytest.mark.spec("SEC-9", "LwM2M-contract 2.2")
@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_resumes_a_session_so_each_connection_proves_its_identity(version: ssl.TLSVersion) -> None:
    first = client(version)
    ends = Ends()
    ends.connect(first)
    ends.pass_on(first, first.say(b"x"))
    again = client(version, like=first)
    ends.connect(again, FAR._replace(remote_port=2))
    assert again.heard == GREETING
    assert not again.tls.session_reused
    assert len(ends.questions) == 2


@pytest.mark.spec("RFC 8446 4.2.11")
def test_a_client_that_offers_an_old_session_besides_its_key_comes_in_with_the_key() -> None:
    ends = Ends()
    first, again = (PskClient(b"id", bytes(16), V13) for _ in range(2))
    ends.connect(first)
    again.come_again(first)
    assert ends.connect(again, FAR._replace(remote_port=2)).heard == GREETING
    assert [each.identity for each in ends.questions] == [b"id", b"id"]


def test_the_servers_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() -> None:
    ends = Ends()
    old = ends.connect(client())
    other = dtls_keys.certificate("localhost", dtls_keys.authority(), end=dtls_keys.END.replace(year=2060))
    ends.stack.submit(actions.ReplaceIdentity(ServerIdentity(other.key, other.chain)), 0.0)
    new = ends.connect(client(), FAR._replace(remote_port=2))
    assert new.tls.getpeercert(True) == other.chain[0]
    ends.pass_on(old, old.say(b"still here"))
    assert old.heard == GREETING + b"still here"


# -- refusals --


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("reason", "alert"),
    [
        ("untrusted-certificate", "unknown_ca"),
        ("expired-certificate", "certificate_expired"),
        ("unknown-identity", "decrypt_error"),
        ("rate", "internal_error"),
    ],
)
def test_who_is_refused_hears_why_in_an_alert(version: ssl.TLSVersion, reason: str, alert: str) -> None:
    ends = Ends(refuse(reason))
    device = ends.connect(client(version))
    assert device.trouble.endswith(f"_alert_{alert}")
    assert device.heard == b""
    (failed,) = [each for each in ends.told if isinstance(each, events.HandshakeFailed)]
    assert (failed.address, failed.reason, failed.detail) == (FAR, reason, "because")
    assert str(failed.identity).startswith(f"certificate '{dtls_keys.CLIENT}'")
    assert ends.closed == [FAR]


@pytest.mark.spec("RFC 8446 7.3", "RFC 8446 5.2")
@pytest.mark.parametrize("suite", SUITES_1_3)
def test_a_refusal_under_tls_1_3_is_readable_whatever_the_suite(suite: str) -> None:
    ends = Ends(refuse("untrusted-certificate"))
    device = ends.connect(OpenSslClient(V13, dtls_keys.client(), suite))
    assert "unknown ca" in device.trouble


@pytest.mark.spec("LwM2M-contract 2.2", "SEC-1")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_key_that_is_on_none_of_our_curves_is_refused(version: ssl.TLSVersion) -> None:
    ends = Ends()
    device = ends.connect(TlsClient(version, edwards()))
    assert device.trouble
    assert set(ends.failures) <= {"bad-certificate", "no-client-certificate"}
    assert ends.failures
    assert ends.inner.told == []


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_only_openssl_can_read_is_refused(version: ssl.TLSVersion) -> None:
    ends = Ends()
    odd = dtls_keys.client().chain[0].replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)
    device = OpenSslClient(version)
    device.context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, odd))
    device.context.use_privatekey(dtls_keys.client().key)
    ends.connect(device)
    assert "bad certificate" in device.trouble
    assert ends.failures == ["bad-certificate"]
    assert ends.questions == []


def test_a_refusal_before_our_hello_is_an_alert_however_the_clients_was_cut() -> None:
    ends = Ends(refuse("rate"))
    device = PskClient(b"id", bytes(16), V13)
    ends.begin()
    hello = device.take()[5:]
    pieces = (b"\x16\x03\x01" + len(each).to_bytes(2, "big") + each for each in (hello[:50], hello[50:]))
    ends.pass_on(device, b"".join(pieces))
    assert "internal error" in device.trouble


def test_a_client_that_does_not_trust_the_server_says_so() -> None:
    ends = Ends(identity=ServerIdentity(dtls_keys.stranger().key, dtls_keys.stranger().chain))
    ends.connect(client())
    assert ends.failures == ["alert"]
    (failed,) = ends.told[-1:]
    assert "unknown ca" in failed.detail


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", {"bad-message", "version"}),
        (bytes.fromhex("50e12301000020"), {"bad-message", "version"}),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", {"bad-message"}),
        (b"\x16\x03\x01\xff\xff" + bytes(100), {"bad-message"}),
        (b"\x15\x03\x03\x00\x02\x02\x28", {"alert", "unexpected-message"}),
    ],
)
def test_what_is_no_tls_ends_the_connection(said: bytes, reason: set[str]) -> None:
    ends = Ends()
    ends.begin()
    ends.stack.feed(said, peer=FAR, now=0.0)
    ends.look()
    assert ends.closed == [FAR]
    assert set(ends.failures) <= reason
    assert ends.failures


@pytest.mark.parametrize("said", ["50e12301000020", "000100e1"])
def test_who_speaks_coap_in_the_open_where_tls_is_spoken_is_told_so(said: str) -> None:
    ends = Ends()
    ends.begin()
    ends.stack.feed(bytes.fromhex(said) + bytes(20), peer=FAR, now=0.0)
    ends.look()
    (failed,) = (each for each in ends.told if isinstance(each, events.HandshakeFailed))
    assert failed.reason == "version"
    assert "what came is no TLS" in failed.detail
    assert "are port and scheme right?" in failed.detail


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_any_bytes_are_refused_or_waited_for_and_never_let_in(pieces: list[bytes]) -> None:
    ends = Ends()
    ends.begin()
    for each in pieces:
        ends.stack.feed(each, peer=FAR, now=0.0)
        ends.look()
    assert ends.inner.told == []
    assert set(ends.failures) <= REASONS.keys()


@given(st.data())
def test_a_handshake_with_a_changed_byte_never_lets_anybody_in(data: st.DataObject) -> None:
    ends = Ends()
    device = client(V12)
    ends.begin()
    first = device.take()
    ends.stack.feed(first, peer=FAR, now=0.0)
    flight = device.take(b"".join(each for _, each in ends.look()))
    place = data.draw(st.integers(0, 1 << 16)) % len(flight)
    changed = bytearray(flight)
    changed[place] ^= data.draw(st.integers(1, 255))
    ends.stack.feed(bytes(changed), peer=FAR, now=0.0)
    ends.look()
    assert ends.inner.heard == {}
    assert [each for each in ends.told if each == ("adopted", FAR)] == []


# -- bounds --


def test_a_client_that_says_nothing_more_loses_its_place_in_time() -> None:
    ends = Ends()
    ends.begin()
    ends.stack.feed(client().take()[:50], peer=FAR, now=0.0)
    ends.later(29.0)
    assert ends.closed == []
    ends.later(1.1)
    assert ends.closed == [FAR]
    assert ends.failures == ["timeout"]
    assert ends.stack.half_open == 0
    assert ends.stack.deadline() is None


def test_a_client_that_sends_a_byte_now_and_then_gains_no_time() -> None:
    ends = Ends()
    ends.begin()
    hello = client().take()
    for number in range(40):
        ends.stack.feed(hello[number : number + 1], peer=FAR, now=ends.now)
        ends.later(1.0)
    assert ends.failures == ["timeout"]


def test_a_connection_that_never_says_a_word_is_no_failed_handshake() -> None:
    ends = Ends()
    ends.begin()
    ends.later(31.0)
    ends.begin()
    ends.stack.feed(b"", peer=FAR, now=ends.now)
    ends.look()
    assert ends.failures == []
    assert [each.reason for each in ends.told] == ["silent", "silent"]


def test_a_client_that_hangs_up_in_the_middle_has_failed() -> None:
    ends = Ends()
    ends.begin()
    ends.stack.feed(client().take(), peer=FAR, now=0.0)
    ends.stack.feed(b"", peer=FAR, now=0.0)
    ends.look()
    assert ends.failures == ["closed"]


def test_a_question_that_nobody_answers_ends_the_handshake() -> None:
    ends = Ends(answer=None)
    device = ends.connect(client())
    ends.later(10.1)
    assert ends.failures == ["not-answered"]
    assert ends.closed == [FAR]
    # An answer that comes too late is nobody's.
    ends.stack.submit(accept(ends.questions[0]), ends.now)
    ends.look()
    assert device.heard == b""


def test_after_an_answer_the_time_of_the_handshake_runs_on() -> None:
    ends = Ends()
    device = PskClient(b"id", bytes(16))
    ends.begin()
    flight = device.take()
    ends.stack.feed(flight, peer=FAR, now=0.0)
    flight = device.take(b"".join(data for _, data in ends.look()))
    # The identity, and not yet what shows that the key is the same.
    key_exchange = flight[: 5 + int.from_bytes(flight[3:5], "big")]
    ends.stack.feed(key_exchange, peer=FAR, now=0.0)
    ends.look()
    assert len(ends.questions) == 1
    ends.later(29.0)
    assert ends.failures == []
    ends.later(1.1)
    assert ends.failures == ["timeout"]


def test_handshakes_under_way_are_bounded_by_address_and_in_all() -> None:
    ends = Ends(limits=TlsLimits(half_open=3, half_open_per_address=2))
    ports = [FAR._replace(remote_port=number) for number in range(1, 4)]
    for each in ports:
        ends.begin(each)
    assert ends.closed == [ports[2]]
    assert ends.told[-1] == events.Dropped(ports[2], "room")
    # Whoever has waited for long makes room for the next of its address.
    ends.now = 6.0
    ends.begin(ports[2])
    assert ends.closed == [ports[2], ports[0]]
    elsewhere = [FAR._replace(remote_host=f"192.0.2.{number}") for number in (20, 21)]
    for each in elsewhere:
        ends.begin(each)
    assert ends.closed == [ports[2], ports[0], ports[1]]
    assert ends.stack.half_open == 3


def test_connections_are_bounded_with_those_that_make_their_handshake() -> None:
    ends = Ends(limits=TlsLimits(connections=1))
    ends.connect(client())
    ends.begin(FAR._replace(remote_port=2))
    assert ends.closed == [FAR._replace(remote_port=2)]


class Stingy(Admission):
    """Admits addresses or public keys, or neither."""

    def __init__(self, *, addresses: bool = True, keys: bool = True) -> None:
        self.addresses, self.keys = addresses, keys

    def address(self, address: PeerId, now: float) -> bool:
        return self.addresses

    def public_key(self, address: PeerId, now: float) -> bool:
        return self.keys


def test_an_address_that_comes_too_often_is_turned_away_before_it_costs_anything() -> None:
    ends = Ends(admission=Stingy(addresses=False))
    ends.begin()
    assert ends.closed == [FAR]
    assert ends.told == [events.Dropped(FAR, "rate")]


def test_handshakes_with_certificates_have_a_bound_of_their_own() -> None:
    ends = Ends(admission=Stingy(keys=False))
    assert "alert_internal_error" in ends.connect(client()).trouble
    assert ends.failures == ["rate"]
    assert ends.connect(PskClient(b"id", bytes(16)), FAR._replace(remote_port=2)).heard == GREETING


def test_a_handshake_that_is_too_long_ends() -> None:
    ends = Ends()
    ends.begin()
    record = b"\x16\x03\x03\x40\x00" + b"\x01\x00\xff\xf0" + bytes(16_380)
    for _ in range(3):
        ends.stack.feed(record, peer=FAR, now=0.0)
    ends.look()
    assert ends.failures == ["bad-message"]
    assert ends.closed == [FAR]


def test_who_goes_on_before_it_is_let_in_is_read_no_further_at_some_point() -> None:
    ends = Ends(answer=None)
    device = ends.connect(client())
    assert not ends.stack.is_full(FAR)
    while not ends.stack.is_full(FAR):
        ends.pass_on(device, device.say(bytes(16_000)))
    ends.stack.submit(accept(ends.questions[0]), 0.0)
    ends.look()
    assert not ends.stack.is_full(FAR)
    assert len(ends.inner.heard[FAR]) >= 64_000


@pytest.mark.spec("SEC-9")
@pytest.mark.parametrize("kind", ["psk", "established"])
def test_changed_credentials_end_handshakes_and_what_was_let_in_just_now(kind: str) -> None:
    ends = Ends(answer=None)
    device = ends.connect(PskClient(b"id", bytes(16)) if kind == "psk" else client())
    ends.stack.submit(accept(ends.questions[0]), 0.0)
    ends.stack.submit(actions.ForgetHandshakes(DEVICE), 0.0)
    ends.pass_on(device, b"")
    assert ends.closed == [FAR]
    assert ends.inner.ended == [FAR]
    assert ends.stack.half_open == 0
    ends.pass_on(device, device.say(b"am I in?") if device.is_ready else b"")
    assert ends.inner.heard == {}


def test_who_has_left_as_it_was_let_in_ends_once() -> None:
    ends = Ends(answer=None)
    device = ends.connect(client())
    ends.pass_on(device, device.close())
    ends.stack.submit(accept(ends.questions[0]), 0.0)
    ends.stack.submit(actions.ForgetHandshakes(DEVICE), 0.0)
    ends.look()
    assert [each.reason for each in ends.told if isinstance(each, events.SessionEnded)] == ["close-notify"]
    assert ends.closed == [FAR]


# -- ends --


@pytest.mark.spec("RFC 8446 6.1")
@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_on_either_side_is_a_close_notify(version: ssl.TLSVersion) -> None:
    ends = Ends()
    device = ends.connect(client(version))
    ends.pass_on(device, device.say(b"bye"))
    assert device.has_ended
    assert ends.closed == [FAR]
    other = ends.connect(client(version))
    ends.pass_on(other, other.close())
    assert ends.inner.ended == [FAR]
    assert ends.closed == [FAR, FAR]
    assert [each.reason for each in ends.told if isinstance(each, events.SessionEnded)] == ["closed", "close-notify"]


def test_a_stream_that_ends_takes_the_connection_along() -> None:
    ends = Ends()
    ends.connect(client())
    ends.stack.feed(b"", peer=FAR, now=0.0)
    ends.look()
    assert ends.inner.ended == [FAR]
    assert isinstance(ends.told[-1], events.SessionEnded)
    ends.stack.feed(b"late", peer=FAR, now=0.0)
    assert ends.look() == []


def test_a_record_that_does_not_verify_ends_the_connection() -> None:
    ends = Ends()
    device = ends.connect(client())
    record = bytearray(device.say(b"hello"))
    record[-1] ^= 1
    ends.stack.feed(bytes(record), peer=FAR, now=0.0)
    ends.look()
    assert ends.inner.ended == [FAR]
    assert ends.closed == [FAR]
    assert ends.inner.heard == {}
    assert "bad record mac" in ends.told[-1].detail


@pytest.mark.spec("LwM2M-contract 2.2")
def test_renegotiation_is_off() -> None:
    ends = Ends()
    device = PskClient(b"id", bytes(16))
    ends.connect(device)
    ends.pass_on(device, device.renegotiate())
    assert len(ends.questions) == 1
    assert "renegotiation" in device.trouble


def test_the_same_two_ends_may_meet_again() -> None:
    ends = Ends()
    ends.connect(client())
    again = ends.connect(client())
    assert again.heard == GREETING
    assert ends.inner.ended == [FAR]
