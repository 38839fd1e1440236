"""Both ends of DTLS in memory: a link that may lose what it carries, and a clock that jumps to what is due."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import ClientParameters, Limits, ServerIdentity, ServerParameters
from stellwerk.dtls.session_ids import SessionIds
from stellwerk.dtls.tickets import TicketKey

SERVER = ("192.0.2.1", 5684)
KEY = b"sixteen byte key"
TICKET_KEY = TicketKey(b"ticket key name.", b"k" * 32)
ID_SECRET = b"i" * 32


class Seeded:
    """Entropy that replays."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def take(self, count: int) -> bytes:
        return self._random.randbytes(count)


def address(host: str = "198.51.100.7", port: int = 40_000) -> PeerId:
    """A client, as the server sees it."""
    return PeerId("udp", host, port, *SERVER)


def mirrored(peer: PeerId) -> PeerId:
    """The same two addresses, seen from the other end."""
    return PeerId(peer.transport, peer.local_host, peer.local_port, peer.remote_host, peer.remote_port)


def ec_key(number: int) -> ec.EllipticCurvePrivateKey:
    """A test key that is the same in every run."""
    return ec.derive_private_key(0xC0FFEE + number, ec.SECP256R1())


@dataclass
class Bed:
    """A server, a client, and everything that happened. ``answer`` says what the outside of the server does with an
    event; the default knows one key and stores at once."""

    server: Endpoint
    client: Endpoint
    now: float = 100.0
    told: list[events.Event] = field(default_factory=list)
    client_told: list[events.Event] = field(default_factory=list)
    sent: list[tuple[str, PeerId, bytes]] = field(default_factory=list)
    answer: Callable[["Bed", events.Event], None] | None = None
    answer_client: Callable[["Bed", events.Event], None] | None = None
    stored: dict[bytes, events.SessionState] = field(default_factory=dict)
    marks: dict[bytes, int] = field(default_factory=dict)
    lost: Callable[[str, bytes], bool] = lambda sender, datagram: False
    psks: dict[bytes, tuple[bytes, int]] = field(default_factory=lambda: {b"device-1": (KEY, 7)})

    def connect(
        self, parameters: ClientParameters | None = None, peer: PeerId | None = None, resume: bytes | None = None
    ) -> None:
        """Begin a handshake from ``peer``, the client's address, and let it end."""
        to = mirrored(peer or address())
        self.client.submit(actions.Connect(to, parameters or psk_client(), resume), self.now)
        self.settle()

    def settle(self) -> None:
        """Carry datagrams to and fro until nothing is under way; no time passes."""
        for _ in range(200):
            if not self._round():
                return
        raise AssertionError("the two ends never come to rest")

    def _round(self) -> bool:
        busy = False
        for name, here, there in (("client", self.client, self.server), ("server", self.server, self.client)):
            self._hear(name, here)
            for peer, datagram in here.take_datagrams():
                busy = True
                self.sent.append((name, peer, datagram))
                if not self.lost(name, datagram):
                    there.feed(datagram, peer=mirrored(peer), now=self.now)
            self._hear("server" if name == "client" else "client", there)
        return busy

    def _hear(self, name: str, endpoint: Endpoint) -> None:
        while happened := endpoint.take_events():
            for event in happened:
                if name == "server":
                    self.told.append(event)
                    (self.answer or answer)(self, event)
                else:
                    self.client_told.append(event)
                    (self.answer_client or answer_as_client)(self, event)

    def wait(self, until: float) -> None:
        """Let time pass until nothing is due before ``until``."""
        end = self.now + until
        while True:
            dues = [due for due in (self.server.deadline(), self.client.deadline()) if due is not None]
            if not dues or min(dues) > end:
                break
            self.now = max(self.now, min(dues))
            self.server.tick(self.now)
            self.client.tick(self.now)
            self.settle()
        self.now = end

    def of(self, kind: type) -> list:
        """What the server told of one kind."""
        return [event for event in self.told if type(event) is kind]

    def client_of(self, kind: type) -> list:
        """What the client told of one kind."""
        return [event for event in self.client_told if type(event) is kind]

    def drops(self) -> list[str]:
        """Why the server dropped what it dropped."""
        return [event.reason for event in self.of(events.Dropped)]

    def session(self) -> events.SessionEstablished:
        """The server's newest."""
        return self.of(events.SessionEstablished)[-1]

    def client_session(self) -> events.SessionEstablished:
        """The client's newest."""
        return self.client_of(events.SessionEstablished)[-1]

    def data(self) -> list[bytes]:
        """What the server received."""
        return [event.data for event in self.of(events.DataReceived)]

    def client_data(self) -> list[bytes]:
        """What the client received."""
        return [event.data for event in self.client_of(events.DataReceived)]

    def up(self, data: bytes, peer: PeerId | None = None) -> None:
        """The client sends."""
        self.client.submit(actions.SendData(peer or self.client_session().peer, data), self.now)
        self.settle()

    def down(self, data: bytes, peer: PeerId | None = None) -> None:
        """The server sends."""
        self.server.submit(actions.SendData(peer or self.session().peer, data), self.now)
        self.settle()


def answer(bed: Bed, event: events.Event) -> None:
    """What the outside of a server does: it knows its keys, trusts everybody else and stores."""
    submit = lambda action: bed.server.submit(action, bed.now)  # noqa: E731
    if isinstance(event, events.PskQuestion):
        found = bed.psks.get(event.identity)
        if found is None:
            submit(actions.RefusePeer(event.handshake, "unknown-identity", "no such device"))
        else:
            submit(actions.GivePsk(event.handshake, *found))
    elif isinstance(event, events.CertificateQuestion):
        submit(actions.AcceptPeer(event.handshake, 9))
    elif isinstance(event, events.ResumptionQuestion):
        submit(actions.AcceptPeer(event.handshake, event.device))
    elif isinstance(event, events.SessionState):
        bed.stored[event.session_id] = event
        submit(actions.SessionStored(event.session_id, event.ceiling))
    elif isinstance(event, events.SessionQuestion):
        state = bed.stored.get(event.session_id) if event.session_id else None
        if event.address is not None:
            state = next((one for one in bed.stored.values() if one.address == event.address), None)
        if state is None:
            submit(actions.NoSession(event.question))
        else:
            mark = bed.marks.get(state.session_id, 0)
            submit(actions.RestoreSession(event.question, state.state, mark))


def answer_as_client(bed: Bed, event: events.Event) -> None:
    """A client that takes any server."""
    if isinstance(event, events.CertificateQuestion):
        bed.client.submit(actions.AcceptPeer(event.handshake), bed.now)


def psk_client(**changes: object) -> ClientParameters:
    """A device with the right key."""
    return ClientParameters(**({"psk_identity": b"device-1", "psk": KEY} | changes))


def given_id(seed: int = 1000) -> bytes:
    """A session id that the server of a `bed` might have given, and has not."""
    return SessionIds(0, ID_SECRET, Seeded(seed)).draw()


def bed(
    server: ServerParameters | None = None, limits: Limits | None = None, seed: int = 1, tickets: bool = True
) -> Bed:
    """A server and a client that have not met."""
    keys: Iterable[TicketKey] = (TICKET_KEY,) if tickets else ()
    return Bed(
        Endpoint(
            Seeded(seed),
            server or ServerParameters(),
            limits,
            ticket_keys=tuple(keys),
            wall_offset_s=1_700_000_000,
            id_secret=ID_SECRET,
        ),
        Endpoint(Seeded(seed + 1)),
    )


def keyed_server(**changes: object) -> ServerParameters:
    """A server with a key of its own."""
    return ServerParameters(**({"identity": ServerIdentity(ec_key(1))} | changes))
