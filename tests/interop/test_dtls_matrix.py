"""Our DTLS engine and those of others, each with each: who it is, what is shown, or why it cannot be shown.

The table is `dtls_cases.CASES`; the run ends with it as a list. With ``--write-captures`` the cases that are `kept` are
written to ``captures/``, where a test of the engine alone replays them.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from dtls_cases import AS_CLIENT, AS_SERVER, CASES, Case
from dtls_peer import DtlsPeer
from programs import Program
from raw_coap import Relay
from secure_peers import PEERS, Wish
from tests import dtls_keys
from tests.dtls_story import Known

from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity
from stellwerk.dtls.events import DataReceived, HandshakeFailed, PeerMoved, SessionEnded, SessionEstablished
from stellwerk.dtls.parameters import ClientParameters, ServerParameters

CAPTURES = Path(__file__).parents[2] / "captures"


@dataclass
class Meeting:
    """One case with its ends. ``wish`` is made anew for every start of the other program."""

    case: Case
    folder: Path
    ours: DtlsPeer | None = None
    programs: list[Program] = field(default_factory=list)
    relay: Relay | None = None

    @property
    def engine(self) -> DtlsPeer:
        assert self.ours is not None
        return self.ours

    @property
    def theirs(self) -> Program:
        return self.programs[-1]

    def wish(self, **changes: Any) -> Wish:
        made = Wish(self.case.mode, self.case.suite, self.folder, options=dict(self.case.theirs))
        return replace(made, **changes)

    def begin(
        self,
        *,
        through_relay: bool = False,
        loses: Collection[int] = (),
        misses: Collection[int] = (),
        **changes: Any,
    ) -> None:
        """Both ends, the server first. ``through_relay``: what stands before a client of others. ``loses``, ``misses``:
        see `DtlsPeer`."""
        lost: dict[str, Any] = {"loses": loses, "misses": misses}
        case, peer = self.case, PEERS[self.case.peer]
        does = "coap" if peer.application == "coap" else "echo"
        if case.role == AS_CLIENT:
            server = replace(ServerParameters(identity=dtls_keys.server_identity()), **dict(case.ours))
            self.ours = DtlsPeer(case.name, known(), server=server, does=does, **lost)
            if through_relay:
                self.relay = Relay(self.ours.port)
            self.start_client(**changes)
        else:
            program, port = peer.server(self.wish(**changes))
            self.programs.append(program)
            client = client_parameters(case.mode, case.suite, **dict(case.ours))
            self.ours = DtlsPeer(case.name, known(), client=client, server_port=port, does="nothing", **lost)
            self.ours.order("connect")

    def start_client(self, **changes: Any) -> None:
        port = self.relay.port if self.relay is not None else self.engine.port
        self.programs.append(PEERS[self.case.peer].client(port, self.wish(**changes)))

    def say(self, text: str) -> None:
        """From the other program to us."""
        self.theirs.say(PEERS[self.case.peer].verb + text)

    def established(self, nth: int = 1) -> SessionEstablished:
        """The ``nth`` session; it has the suite and the identity that it should."""
        found = self.engine.wait(SessionEstablished, nth=nth)
        if self.case.suite:
            assert found.suite == self.case.suite, hex(found.suite)
        end = dtls_keys.server() if self.case.role == AS_SERVER else dtls_keys.client()
        match self.case.mode:
            case "psk":
                assert found.identity == PskIdentity(dtls_keys.PSK_IDENTITY)
            case "rpk":
                assert found.identity == RawKeyIdentity(end.spki)
            case "x509":
                assert isinstance(found.identity, CertificateIdentity)
                assert found.identity.chain[0] == end.chain[0]
                names = (dtls_keys.SERVER if self.case.role == AS_SERVER else dtls_keys.CLIENT,)
                assert (found.identity.common_name, found.identity.names) == (names[0], names)
        return found

    def talk(self, text: str = "over the air") -> None:
        """Application data both ways; neither end made it up."""
        peer = PEERS[self.case.peer]
        if self.case.role == AS_CLIENT and peer.application == "coap":
            self.engine.wait(DataReceived)
            self.theirs.wait_said("hello")
        elif self.case.role == AS_CLIENT:
            self.say(text)
            self.engine.wait(DataReceived, lambda event: event.data.strip() == text.encode())
            self.theirs.wait_said(text)
        elif peer.application == "coap":
            before = self.engine.count(DataReceived)
            # CON GET of /, message ID and token made of one byte.
            self.engine.send(b"\x41\x01\x00\x07\x07")
            answer = self.engine.wait(DataReceived, nth=before + 1)
            assert answer.data[:5] == b"\x61\x45\x00\x07\x07"
            assert b"test server made with libcoap" in answer.data
        else:
            self.engine.send(f"{text}\n".encode())
            self.theirs.wait_said(text)
            if not peer.echoes:
                self.say(text)
            self.engine.wait(DataReceived, lambda event: event.data.strip() == text.encode())

    def close(self) -> None:
        for each in self.programs:
            each.close()
        if self.relay is not None:
            self.relay.close()
        if self.ours is not None:
            self.ours.close()


def known() -> Known:
    ends = (dtls_keys.client(), dtls_keys.server())
    return Known(
        {dtls_keys.PSK_IDENTITY: dtls_keys.PSK}, [each.spki for each in ends], [each.chain[0] for each in ends]
    )


def client_parameters(mode: str, suite: int, **more: Any) -> ClientParameters:
    own = dtls_keys.client()
    suites = (suite,) if suite else ()
    match mode:
        case "psk":
            made = ClientParameters(suites=suites, psk_identity=dtls_keys.PSK_IDENTITY, psk=dtls_keys.PSK)
        case "rpk":
            made = ClientParameters(suites=suites, key=own.key, raw_keys=True)
        case _:
            made = ClientParameters(suites=suites, key=own.key, chain=own.chain, server_name=dtls_keys.SERVER)
    return replace(made, **more)


def talk(meeting: Meeting) -> None:
    meeting.begin()
    established = meeting.established()
    assert (established.resumed, established.replaced) == (None, None)
    meeting.talk()


def split_finished(meeting: Meeting) -> None:
    """Its Finished comes in two records here, unless its signature is an unusually short or long one."""
    for _ in range(8):
        meeting.begin()
        meeting.established()
        meeting.talk()
        steps = meeting.engine.conversation.steps
        came = b"".join(bytes.fromhex(what[1]) for kind, _, what in steps if kind == "<")
        # Type handshake, version, epoch 1.
        if came.count(b"\x16\xfe\xfd\x00\x01") == 2:
            return
        meeting.close()
        meeting.programs.clear()
    raise AssertionError("the Finished always came in one record")


def wrong_key(meeting: Meeting) -> None:
    """The other end has another key: it fails at Finished, with a reason to count and a sentence to read."""
    meeting.begin(psk=dtls_keys.WRONG_PSK)
    failed = meeting.engine.wait(HandshakeFailed, within_s=20)
    if meeting.case.role == AS_CLIENT:
        assert (failed.reason, failed.identity) == ("wrong-key", PskIdentity(dtls_keys.PSK_IDENTITY))
        tells_decrypt_error(meeting)
    else:
        assert failed.reason in ("wrong-key", "alert", "timeout")
    assert meeting.engine.count(SessionEstablished) == 0


def tells_decrypt_error(meeting: Meeting) -> None:
    """Clients try again after it; after others they give their configuration up (contract 2.2)."""
    if meeting.case.peer == "openssl" and meeting.case.role == AS_CLIENT:
        meeting.theirs.wait_said("SSL alert number 51")


def unknown_identity(meeting: Meeting) -> None:
    """To the client it looks like a wrong key; we say what it was."""
    meeting.begin(identity="urn:dev:os:nobody")
    failed = meeting.engine.wait(HandshakeFailed, within_s=20)
    assert (failed.reason, failed.identity) == ("unknown-identity", PskIdentity(b"urn:dev:os:nobody"))
    tells_decrypt_error(meeting)
    assert meeting.engine.count(SessionEstablished) == 0


def stranger(meeting: Meeting) -> None:
    """A client whose key or certificate nobody knows."""
    meeting.begin(own="stranger")
    failed = meeting.engine.wait(HandshakeFailed, within_s=20)
    assert failed.reason == ("unknown-identity" if meeting.case.mode == "rpk" else "untrusted-certificate")
    tells_decrypt_error(meeting)
    assert meeting.engine.count(SessionEstablished) == 0


def come_back(meeting: Meeting) -> None:
    """The client begins a second handshake with what it kept of the first session."""
    if meeting.case.peer == "scandium":
        meeting.theirs.say("resume second")
    else:
        meeting.theirs.say("Q")
        meeting.theirs.wait_end()
        options = dict(meeting.case.theirs)
        options["session_in"] = options.pop("session_out")
        meeting.start_client(options=options)


def resumed(meeting: Meeting) -> None:
    """A second session goes on from the first, without keys being proven anew."""
    meeting.begin()
    first = meeting.established()
    if meeting.case.peer == "gnutls" and meeting.case.role == AS_CLIENT:
        # It leaves at once and comes back by itself.
        second = meeting.established(2)
        meeting.theirs.wait_said("This is a resumed session")
    else:
        meeting.talk("first")
        if meeting.case.role == AS_SERVER:
            meeting.engine.order("close")
            meeting.engine.order("resume")
        else:
            come_back(meeting)
        second = meeting.established(2)
    assert (second.resumed, str(second.identity), second.device) == (first.peer, str(first.identity), first.device)
    assert second.peer != first.peer
    if meeting.case.peer == "scandium" and meeting.case.role == AS_CLIENT:
        # It said its ClientHello beside the living session, from the same address (RFC 6347 4.2.8).
        assert second.replaced == first.peer
    meeting.talk("second")


def resumption_refused(meeting: Meeting) -> None:
    """What was resumed in vain becomes a full handshake."""
    meeting.begin()
    first = meeting.established()
    meeting.talk("first")
    meeting.engine.conversation.known.resumes = False
    come_back(meeting)
    second = meeting.established(2)
    assert second.resumed is None
    if meeting.case.peer == "scandium":
        assert second.replaced == first.peer
    meeting.talk("second")


def moves(meeting: Meeting) -> None:
    """With a connection ID another port makes no difference."""
    meeting.begin(through_relay=True)
    assert meeting.established().has_cid
    meeting.talk("before")
    if meeting.relay is not None:
        meeting.relay.move()
        meeting.talk("after")
        moved = meeting.engine.wait(PeerMoved)
        assert moved.old != moved.new
    else:
        meeting.engine.order("move")
        meeting.talk("after")
    assert meeting.engine.count(SessionEstablished) == 1
    meeting.talk("and on")


def renegotiates(meeting: Meeting) -> None:
    """Is refused with no_renegotiation, which OpenSSL takes for an end."""
    meeting.begin()
    established = meeting.established()
    meeting.talk("before")
    meeting.theirs.say("R")
    meeting.theirs.wait_said("no renegotiation")
    ended = meeting.engine.wait(SessionEnded)
    assert (ended.peer, ended.reason) == (established.peer, "alert")
    assert meeting.engine.count(SessionEstablished) == 1


def lossy(meeting: Meeting) -> None:
    """Each flight behind the cookie is lost once: both ends repeat what they said, and understand repetitions."""
    if meeting.case.role == AS_CLIENT:
        # Ours leave as HelloVerifyRequest, ServerHello (lost), again, last flight (lost), again.
        meeting.begin(loses=(2, 4))
    else:
        # Ours leave as ClientHello (lost), again, with cookie, key exchange (lost), again; the server's last flight
        # comes third.
        meeting.begin(loses=(1, 4), misses=(3,))
    meeting.established()
    meeting.talk()
    assert meeting.engine.count(SessionEstablished) == 1


def leaves(meeting: Meeting) -> None:
    """Says goodbye, which ends the session on our side."""
    meeting.begin()
    established = meeting.established()
    meeting.theirs.say("Q")
    ended = meeting.engine.wait(SessionEnded)
    assert (ended.peer, ended.reason) == (established.peer, "close-notify")


EXTRAS: dict[str, Callable[[Meeting], None]] = {
    "talk": talk,
    "split-finished": split_finished,
    "wrong-key": wrong_key,
    "unknown-identity": unknown_identity,
    "stranger": stranger,
    "resumed": resumed,
    "resumption-refused": resumption_refused,
    "moves": moves,
    "renegotiates": renegotiates,
    "lossy": lossy,
    "leaves": leaves,
}


@pytest.fixture
def meeting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Meeting]:
    dtls_keys.write_files(tmp_path)
    made = Meeting(request.param, tmp_path)
    yield made
    made.close()


@pytest.mark.spec("SEC-1", "SEC-10", "LwM2M-contract 2.2", "LwM2M-contract 2.3")
@pytest.mark.parametrize("meeting", [pytest.param(each, id=each.name) for each in CASES], indirect=True)
def test_ours_and_theirs(meeting: Meeting, request: pytest.FixtureRequest, record_property: Any) -> None:
    case = meeting.case
    missing = case.cannot or PEERS[case.peer].missing()
    record_property("matrix", (case.peer if missing else PEERS[case.peer].version(), case.shows, missing))
    if missing:
        pytest.skip(f"{case.peer}: {missing}")
    try:
        EXTRAS[case.extra](meeting)
    except AssertionError as error:
        told = meeting.ours.told() if meeting.ours is not None else ""
        heard = "\n".join(each.said[-3000:] for each in meeting.programs)
        raise AssertionError(f"{error}\n--- ours: {told}\n--- theirs:\n{heard}") from error
    if case.kept and request.config.getoption("--write-captures"):
        meeting.engine.story(PEERS[case.peer].version()).write(CAPTURES / f"{case.name}.json")
