"""A device behind DTLS: the engine of its side, and CoAP messages as a test writes them."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from stellwerk.coap.message import ACK, CON, RST, Message, decode_message, encode_message
from stellwerk.core.ids import PeerId
from stellwerk.dtls.actions import AcceptPeer, CloseSession, Connect, MoveSession, SendData
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.events import (
    CertificateQuestion,
    DataReceived,
    HandshakeFailed,
    SessionEnded,
    SessionEstablished,
    SessionState,
)
from stellwerk.dtls.parameters import ClientParameters
from tests.scenario.stack import SeededEntropy, Stack, Step, con

SERVER = ("192.0.2.100", 5684)
_ROUNDS = 40


class SecureDevice:
    """Talks to the secure port of ``stack``; time is the stack's."""

    def __init__(
        self,
        stack: Stack,
        identity: bytes = b"",
        key: bytes = b"",
        *,
        host: str = "198.51.100.1",
        port: int = 40_000,
        cid: bytes | None = b"",
        seed: int = 7,
        own_key: EllipticCurvePrivateKey | None = None,
        **parameters: Any,
    ) -> None:
        self.stack = stack
        self.parameters = ClientParameters(psk_identity=identity, psk=key, key=own_key, cid=cid, **parameters)
        self.engine = Endpoint(SeededEntropy(seed + port))
        self.address = PeerId("udp", *SERVER, host, port)
        self.session: PeerId | None = None
        self.state = b""
        """What a resumption needs."""
        self.heard: list[Message] = []
        self.failed: HandshakeFailed | None = None
        self.ended: SessionEnded | None = None
        self.location = ""
        self.sent = 0
        """Datagrams that left."""
        self._mid = 100

    def connect(self, resume: bytes | None = None) -> "SecureDevice":
        """Make a handshake; ``session`` is set if it came to one."""
        self.session, self.failed, self.ended = None, None, None
        self.engine.submit(Connect(self.address, self.parameters, resume), self.stack.clock.now())
        self.pump()
        return self

    def tick(self) -> None:
        """It is later by now."""
        self.engine.tick(self.stack.clock.now())
        self.pump()

    def move(self, port: int) -> None:
        """Speak from another port from now on."""
        assert self.session is not None
        self.address = self.address._replace(local_port=port)
        self.engine.submit(MoveSession(self.session, self.address), self.stack.clock.now())

    def close(self) -> None:
        """Say goodbye."""
        assert self.session is not None
        self.engine.submit(CloseSession(self.session), self.stack.clock.now())
        self.pump()

    def say(self, step: Step) -> Message | None:
        """Send a message; the answer to it."""
        message = step.message
        self.send(message)
        found = [each for each in self.heard if each.mid == message.mid and each.type in (ACK, RST)]
        for each in found:
            self.heard.remove(each)
        return found[0] if found else None

    def send(self, message: Message) -> None:
        assert self.session is not None
        self.engine.submit(SendData(self.session, encode_message(message)), self.stack.clock.now())
        self.pump()

    def request(self, code: int, target: str, payload: bytes = b"", **more: Any) -> Message | None:
        """A confirmable request; its answer."""
        self._mid += 1
        return self.say(con(code, target, mid=self._mid, token=b"dev", payload=payload, **more))

    def register(self, target: str = "/rd?lt=300&lwm2m=1.1&b=U", links: bytes = b"</1/0>,</3/0>,</3303/0>") -> int:
        """The code of the answer to a Register."""
        answer = self.request(2, target, links, content_format=40)
        assert answer is not None
        found = [value.decode() for number, value in answer.options if number == 8]
        if found:
            self.location = "/" + "/".join(found)
        return answer.code

    def next_request(self) -> Message:
        """The oldest request of the server that nobody looked at yet; pings are answered by themselves."""
        return self.heard.pop(0)

    def pump(self) -> None:
        """Let datagrams pass both ways until nobody has any."""
        stack = self.stack
        for _ in range(_ROUNDS):
            self._take_events()
            out = self.engine.take_datagrams()
            self.sent += len(out)
            for to, datagram in out:
                stack.feed_secure(datagram, _mirrored(to))
            back = stack.take_secure(_mirrored(self.address))
            for datagram in back:
                self.engine.feed(datagram, peer=self.address, now=stack.clock.now())
            self._take_events()
            if not out and not back:
                return
        raise AssertionError("they talk for ever")

    def _take_events(self) -> None:
        for event in self.engine.take_events():
            if isinstance(event, DataReceived):
                message = decode_message(event.data)
                if message.type == CON and not message.code:
                    self.engine.submit(
                        SendData(event.peer, encode_message(Message(RST, 0, message.mid))), self.stack.clock.now()
                    )
                else:
                    self.heard.append(message)
            elif isinstance(event, SessionEstablished):
                self.session = event.peer
            elif isinstance(event, SessionState):
                self.state = event.state
            elif isinstance(event, HandshakeFailed):
                self.failed = event
            elif isinstance(event, SessionEnded):
                if event.peer == self.session:
                    self.ended, self.session = event, None
            elif isinstance(event, CertificateQuestion):
                self.engine.submit(AcceptPeer(event.handshake), self.stack.clock.now())


def _mirrored(peer: PeerId) -> PeerId:
    """The same two ends seen from the other."""
    return PeerId("udp", peer.local_host, peer.local_port, peer.remote_host, peer.remote_port)
