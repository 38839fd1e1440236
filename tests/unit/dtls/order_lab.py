"""A server of ours in memory whose questions are answered, and a peer driven by hand at the other end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec
from tests.dtls_hand import ECDHE_CCM8, PSK_CCM8, Hand

from stellwerk.core.identity import PskIdentity
from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.failures import DROPS, REASONS
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters

DEVICE = PeerId("udp", "192.0.2.9", 40_000, "192.0.2.1", 5684)
OTHER = PeerId("udp", "192.0.2.10", 40_000, "192.0.2.1", 5684)
KEYS = {b"device": b"0123456789abcdef", b"another": b"fedcba9876543210"}
DEVICES = {b"device": 7, b"another": 8}
SERVER_KEY = ec.derive_private_key(0x5E44E4, ec.SECP256R1())
CLIENT_KEY = ec.derive_private_key(0xC11E47, ec.SECP256R1())
IDENTITY = ServerIdentity(SERVER_KEY)


class SeededEntropy:
    """Bytes that are the same in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._random = Random(seed)

    def take(self, count: int) -> bytes:
        return self._random.randbytes(count)


Answer = Callable[["Server", events.Event], None]


def answer_well(server: "Server", event: events.Event) -> None:
    """Whoever is known is let in; what is told to be kept is kept at once; nothing is stored."""
    match event:
        case events.PskQuestion(handshake, _, identity):
            if identity in KEYS:
                server.submit(actions.GivePsk(handshake, KEYS[identity], DEVICES[identity]))
            else:
                server.submit(actions.RefusePeer(handshake, "unknown-identity", "nobody"))
        case events.CertificateQuestion(handshake) | events.ResumptionQuestion(handshake):
            server.submit(actions.AcceptPeer(handshake, 9))
        case events.SessionQuestion(question):
            server.submit(actions.NoSession(question))
        case events.SessionState(_, session_id, _, _, _, ceiling):
            server.submit(actions.SessionStored(session_id, ceiling))


@dataclass
class Server:
    """``answer`` answers its questions; everything it told is in ``told``."""

    parameters: ServerParameters = field(default_factory=lambda: ServerParameters(IDENTITY))
    answer: Answer = answer_well
    now: float = 100.0
    told: list[events.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Endpoint(SeededEntropy(), self.parameters)

    def submit(self, action: actions.Action) -> None:
        self.engine.submit(action, self.now)

    def feed(self, *datagrams: bytes, address: PeerId = DEVICE) -> list[bytes]:
        """What comes back to ``address``; nothing goes elsewhere."""
        found: list[bytes] = []
        for datagram in datagrams:
            self.engine.feed(datagram, peer=address, now=self.now)
            found += self.settle(address)
        return found

    def settle(self, address: PeerId = DEVICE) -> list[bytes]:
        """Answer questions until there are none."""
        while new := self.engine.take_events():
            for event in new:
                if isinstance(event, events.HandshakeFailed):
                    assert event.reason in REASONS
                    assert event.detail
                elif isinstance(event, events.Dropped):
                    assert event.reason in DROPS
                self.told.append(event)
                self.answer(self, event)
        sent = self.engine.take_datagrams()
        assert all(peer == address for peer, _ in sent), sent
        return [datagram for _, datagram in sent]

    def wait(self, seconds: float) -> list[bytes]:
        """What it says by itself."""
        self.now += seconds
        due = self.engine.deadline()
        if due is not None and due <= self.now:
            self.engine.tick(self.now)
        return self.settle()

    # -- what it told --

    def of(self, kind: type) -> list[events.Event]:
        return [each for each in self.told if type(each) is kind]

    @property
    def established(self) -> list[events.SessionEstablished]:
        return [each for each in self.told if isinstance(each, events.SessionEstablished)]

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.told if isinstance(each, events.HandshakeFailed)]

    @property
    def data(self) -> list[bytes]:
        return [each.data for each in self.told if isinstance(each, events.DataReceived)]

    # -- with a peer --

    def greet(self, hand: Hand, address: PeerId = DEVICE) -> Hand:
        """Both ClientHellos; the peer has heard the server's flight then."""
        for datagram in self.feed(hand.first_hello(), address=address):
            hand.hear(datagram)
        for datagram in self.feed(hand.second_hello(), address=address):
            hand.hear(datagram)
        return hand

    def tell(self, hand: Hand, *records: bytes, address: PeerId = DEVICE) -> None:
        """Each record in a datagram of its own."""
        for datagram in self.feed(*records, address=address):
            hand.hear(datagram)

    def connect(self, hand: Hand, address: PeerId = DEVICE) -> Hand:
        """An honest handshake; an AssertionError where it fails."""
        before = len(self.established)
        self.greet(hand, address)
        self.tell(hand, *hand.last_flight(), address=address)
        assert hand.finished
        assert len(self.established) == before + 1
        return hand


def psk(**more: object) -> Hand:
    return Hand(**{"suites": (PSK_CCM8,), **more})  # type: ignore[arg-type]


def rpk(**more: object) -> Hand:
    return Hand(**{"suites": (ECDHE_CCM8,), "key": CLIENT_KEY, **more})  # type: ignore[arg-type]


HANDS: dict[str, Callable[..., Hand]] = {"psk": psk, "rpk": rpk}


def identity_of(name: bytes) -> PskIdentity:
    return PskIdentity(name)
