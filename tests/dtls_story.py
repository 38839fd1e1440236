"""A conversation of our DTLS engine with somebody, kept so that it can be heard again without them.

`Conversation` is the engine with all that it is told from outside: time, entropy, datagrams, answers about peers out of
a fixed table. It writes down each of them as a step. What it wrote is a `Story`; `Story.replay` tells a new engine the
same and gives what that one did.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from stellwerk.core.identity import RawKeyIdentity, SecureIdentity
from stellwerk.core.ids import PeerId, session_of
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import ClientParameters, ServerIdentity, ServerParameters
from stellwerk.dtls.tickets import TicketKey

ABOUT = "recorded by tests/interop with keys that guard nothing; captures/README.md"
Step = tuple[str, float, Any]
"""What (``<`` a datagram to us, ``>`` one from us, ``=`` an event, ``!`` an order, ``~`` a tick), when in seconds since
the beginning, and what about it. Datagrams are (port, hex)."""


class SeededEntropy:
    """The same bytes for the same ``seed``."""

    def __init__(self, seed: str) -> None:
        self._seed, self._count = seed, 0

    def take(self, count: int) -> bytes:
        made = b""
        while len(made) < count:
            made += sha256(f"{self._seed} {self._count}".encode()).digest()
            self._count += 1
        return made[:count]


@dataclass
class Known:
    """Who may come in. ``resumes``: whether an earlier session is as good as a handshake."""

    psk: dict[bytes, bytes] = field(default_factory=dict)
    spkis: list[bytes] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    resumes: bool = True


class Conversation:
    """One engine of ours. Addresses are ports: what a peer really has is not part of the story.

    ``does``: what becomes of application data: ``echo`` sends it back, ``coap`` answers requests with 2.05 and their
    path as payload, ``nothing``.
    """

    def __init__(
        self,
        seed: str,
        known: Known,
        *,
        server: ServerParameters | None = None,
        client: ClientParameters | None = None,
        does: str = "echo",
    ) -> None:
        self.seed, self.known, self.server, self.client, self.does = seed, known, server, client, does
        self.steps: list[Step] = []
        self.happened: list[Any] = []
        self.datagrams: list[tuple[int, bytes]] = []
        self.peer: PeerId | None = None
        self._states: dict[bytes, bytes] = {}
        self._last_state: bytes | None = None
        key = TicketKey(sha256(b"name of a ticket key").digest()[:16], sha256(b"ticket key").digest()[:16])
        secret = sha256(b"secret of session ids").digest()
        self.engine = Endpoint(SeededEntropy(seed), server=server, ticket_keys=(key,), id_secret=secret)

    # -- in --

    def feed(self, datagram: bytes, port: int, now: float) -> None:
        self.steps.append(("<", now, (port, datagram.hex())))
        self.engine.feed(datagram, peer=address(port), now=now)
        self._run(now)

    def tick(self, now: float) -> None:
        self.steps.append(("~", now, None))
        self.engine.tick(now)
        self._run(now)

    def order(self, words: str, now: float) -> None:
        """``connect``, ``resume`` (connect with the newest state), ``send HEX``, ``move`` (elsewhere), ``close``."""
        self.steps.append(("!", now, words))
        verb, _, rest = words.partition(" ")
        if verb in ("connect", "resume"):
            assert self.client is not None
            state = self._last_state if verb == "resume" else None
            self._submit(actions.Connect(address(1), self.client, state), now)
        elif self.peer is None:
            raise AssertionError(f"{words}: nobody is there")
        elif verb == "send":
            self._submit(actions.SendData(self.peer, bytes.fromhex(rest)), now)
        elif verb == "move":
            self._submit(actions.MoveSession(self.peer, address(1)), now)
        elif verb == "close":
            self._submit(actions.CloseSession(self.peer), now)
        else:
            raise AssertionError(f"no such order: {words}")
        self._run(now)

    def deadline(self) -> float | None:
        return self.engine.deadline()

    # -- out --

    def take_datagrams(self) -> list[tuple[int, bytes]]:
        taken, self.datagrams = self.datagrams, []
        return taken

    def _submit(self, action: actions.Action, now: float) -> None:
        self.engine.submit(action, now)

    def _run(self, now: float) -> None:
        while True:
            for peer, datagram in self.engine.take_datagrams():
                self.steps.append((">", now, (peer.remote_port, datagram.hex())))
                self.datagrams.append((peer.remote_port, datagram))
            news = self.engine.take_events()
            if not news:
                return
            for each in news:
                self.steps.append(("=", now, describe(each)))
                self.happened.append(each)
                self._answer(each, now)

    def _answer(self, event: Any, now: float) -> None:
        match event:
            case events.PskQuestion(handshake, _, identity):
                key = self.known.psk.get(identity)
                if key is None:
                    self._refuse(handshake, "unknown-identity", now)
                else:
                    self._submit(actions.GivePsk(handshake, key, 1), now)
            case events.CertificateQuestion(handshake, _, identity):
                raw = isinstance(identity, RawKeyIdentity)
                known = identity.spki in self.known.spkis if raw else identity.chain[0] in self.known.certificates
                if known:
                    self._submit(actions.AcceptPeer(handshake, 1), now)
                else:
                    self._refuse(handshake, "unknown-identity" if raw else "untrusted-certificate", now)
            case events.ResumptionQuestion(handshake):
                if self.known.resumes:
                    self._submit(actions.AcceptPeer(handshake, event.device), now)
                else:
                    self._refuse(handshake, "credentials-changed", now)
            case events.SessionQuestion(question, session_id):
                state = self._states.get(session_id) if session_id is not None else None
                if state is None:
                    self._submit(actions.NoSession(question), now)
                else:
                    self._submit(actions.RestoreSession(question, state, 0), now)
            case events.SessionState():
                self._states[event.session_id] = self._last_state = event.state
                self._submit(actions.SessionStored(event.session_id, event.ceiling), now)
            case events.SessionEstablished():
                self.peer = event.peer
            case events.DataReceived(peer, data):
                answer = REPLIES[self.does](data)
                if answer:
                    self._submit(actions.SendData(peer, answer), now)

    def _refuse(self, handshake: int, reason: str, now: float) -> None:
        self._submit(actions.RefusePeer(handshake, reason, "not in the table of this test"), now)

    def state_of(self, peer: PeerId) -> bytes:
        return self._states[session_of(peer)]


def coap_answer(data: bytes) -> bytes:
    """To a CON request: a piggybacked 2.05 with "hello" (RFC 7252 3). To all else nothing."""
    if len(data) < 4 or data[0] & 0xF0 != 0x40 or not 1 <= data[1] < 0x20:
        return b""
    token = data[4 : 4 + (data[0] & 0x0F)]
    return bytes((0x60 | len(token), 0x45)) + data[2:4] + token + b"\xff" + b"hello\n"


REPLIES: dict[str, Callable[[bytes], bytes]] = {"echo": bytes, "coap": coap_answer, "nothing": lambda data: b""}


TOLD: dict[type[Any], tuple[str, ...]] = {
    events.PskQuestion: ("identity",),
    events.CertificateQuestion: ("identity",),
    events.ResumptionQuestion: ("identity", "device"),
    events.SessionQuestion: ("session_id", "address"),
    events.SessionEstablished: ("peer", "address", "identity", "device", "suite", "has_cid", "resumed", "replaced"),
    events.SessionState: ("session_id", "device", "address"),
    events.DataReceived: ("peer", "data"),
    events.PeerMoved: ("peer", "old", "new"),
    events.SessionEnded: ("peer", "reason"),
    events.HandshakeFailed: ("address", "reason", "identity"),
    events.Dropped: ("address", "reason"),
}


def address(port: int) -> PeerId:
    """Where a peer is, in stories: the first one is at 1."""
    return PeerId("udp", "192.0.2.1", port)


def describe(event: Any) -> str:
    """An event in one line: what a peer's words decide, without secrets, sentences and numbers of our own."""
    shown = [f"{name}={_plain(getattr(event, name))}" for name in TOLD[type(event)]]
    return " ".join([type(event).__name__, *shown])


def _plain(value: Any) -> str:
    if isinstance(value, PeerId | SecureIdentity):
        return str(value)
    return value.hex() if isinstance(value, bytes) else repr(value)


# --- stories ---------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """``peer``: which program, in which version. ``told``: what the engine and the table got, as JSON can say it."""

    peer: str
    told: dict[str, Any]
    steps: list[Step]

    @classmethod
    def of(cls, conversation: Conversation, peer: str) -> "Story":
        told: dict[str, Any] = {"seed": conversation.seed, "does": conversation.does}
        told["known"] = _to_json(conversation.known)
        if conversation.server is not None:
            told["server"] = _to_json(conversation.server)
        if conversation.client is not None:
            told["client"] = _to_json(conversation.client)
        return cls(peer, told, conversation.steps)

    def write(self, path: Path) -> None:
        """One step a line, so that people can read and compare it."""
        head = json.dumps({"about": ABOUT, "peer": self.peer, "told": self.told}, indent=1)
        steps = ",\n".join("  " + json.dumps(step) for step in self.steps)
        path.write_text(f'{head[:-2]},\n "steps": [\n{steps}\n ]\n}}\n')

    @classmethod
    def read(cls, path: Path) -> "Story":
        kept = json.loads(path.read_text())
        steps = [(kind, at, tuple(what) if isinstance(what, list) else what) for kind, at, what in kept["steps"]]
        return cls(kept["peer"], kept["told"], steps)

    def conversation(self) -> Conversation:
        """A new one with the same keys and the same entropy; nothing has been said yet."""
        told = self.told
        return Conversation(
            told["seed"],
            _known(told["known"]),
            server=_server(told["server"]) if "server" in told else None,
            client=_client(told["client"]) if "client" in told else None,
            does=told["does"],
        )

    def replay(self) -> Conversation:
        """What our engine does today when the peer says what it said then."""
        now = self.conversation()
        for kind, at, what in self.steps:
            if kind == "<":
                port, datagram = what
                now.feed(bytes.fromhex(datagram), port, at)
            elif kind == "!":
                now.order(what, at)
            elif kind == "~":
                now.tick(at)
        return now


def _to_json(told: Any) -> dict[str, Any]:
    """A dataclass's fields that are not as they are by default."""
    blank = type(told)()
    return {
        each.name: _value_to_json(getattr(told, each.name))
        for each in fields(told)
        if getattr(told, each.name) != getattr(blank, each.name)
    }


def _value_to_json(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {name.hex(): each.hex() for name, each in value.items()}
        case list() | tuple():
            return [_value_to_json(each) for each in value]
        case ServerIdentity():
            return {"key": _value_to_json(value.key), "chain": _value_to_json(value.chain)}
        case None | bool() | int() | float() | str():
            return value
        case _:
            return value.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex()


def _key(text: str) -> Any:
    return load_der_private_key(bytes.fromhex(text), None)


def _chain(texts: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(each) for each in texts)


def _known(told: Mapping[str, Any]) -> Known:
    return Known(
        {bytes.fromhex(name): bytes.fromhex(key) for name, key in told.get("psk", {}).items()},
        list(_chain(told.get("spkis", []))),
        list(_chain(told.get("certificates", []))),
        told.get("resumes", True),
    )


def _server(told: Mapping[str, Any]) -> ServerParameters:
    given = dict(told)
    if "identity" in given:
        identity = given["identity"]
        given["identity"] = ServerIdentity(_key(identity["key"]), _chain(identity["chain"]))
    if "cid_code_points" in given:
        given["cid_code_points"] = tuple(given["cid_code_points"])
    return ServerParameters(**given)


def _client(told: Mapping[str, Any]) -> ClientParameters:
    given = dict(told)
    for name in ("psk_identity", "psk", "cid"):
        if given.get(name) is not None:
            given[name] = bytes.fromhex(given[name])
    if "key" in given:
        given["key"] = _key(given["key"])
    if "chain" in given:
        given["chain"] = _chain(given["chain"])
    if "suites" in given:
        given["suites"] = tuple(given["suites"])
    return ClientParameters(**given)
