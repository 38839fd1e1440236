"""A device that speaks OSCORE: the engine of its side over UDP, TCP or a secure session of the stack's."""

from dataclasses import dataclass, replace
from typing import Any

from stellwerk.app.oscore import OscoreContext, render_oscore
from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import Message, decode_message, encode_message
from stellwerk.coap.options import OBSERVE, encode_uint
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.tcp.connection import Role
from stellwerk.coap.tcp.endpoint import AdoptConnection, StreamEndpoint
from stellwerk.core.ids import DeviceId, PeerId, context_peer
from stellwerk.device.record import OSCORE, Credential
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import SeededEntropy, Stack

LINKS = b"</>;ct=112,</1/0>,</3/0>,</3303/0>"
_ROUNDS = 60
_NUMBER = 1


@dataclass(frozen=True)
class Keys:
    """A context as the device sees it."""

    sender_id: bytes = b"dev1"
    recipient_id: bytes = b"us"
    secret: bytes = b""
    """Another one for each ``sender_id`` unless given."""
    salt: bytes = b"salt"
    id_context: bytes = b""

    def __post_init__(self) -> None:
        if not self.secret:
            object.__setattr__(self, "secret", self.sender_id.ljust(16, b"-"))

    def credential(self, name: str, kind: str = OSCORE, secret: str = "") -> Credential:
        """What the server keeps of it, beside what ``kind`` and ``secret`` say."""
        context = OscoreContext(
            0, DeviceId(0), self.sender_id, self.recipient_id, self.secret, self.salt, self.id_context
        )
        return Credential(name, secret, kind=kind, oscore=render_oscore(context), endpoint="")


class OscoreDevice:
    """``session``: the secure session that its messages go through. Time is the stack's."""

    def __init__(
        self,
        stack: Stack,
        keys: Keys | None = None,
        *,
        port: int = 42_000,
        tcp: bool = False,
        session: SecureDevice | None = None,
        unused: int = 0,
        rederive: bool = False,
    ) -> None:
        """``unused``: the first number that was never used; ``rederive``: it has lost track of them."""
        self.stack = stack
        self.session = session
        keys = keys or Keys()
        transport = "tcp" if tcp else "udp"
        self.here = PeerId(transport, "192.0.2.77", port, "192.0.2.100", 5683)
        """As the server sees it."""
        entropy = SeededEntropy(port)
        self.engine: Any = StreamEndpoint(entropy, oscore=True) if tcp else Endpoint(entropy, oscore=True)
        self.server = PeerId(transport, "192.0.2.100", 5683, "192.0.2.77", port)
        self.peer = context_peer(_NUMBER, transport)
        self.ceiling = unused
        """Its numbers below it may have been used."""
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        """What was said both ways, as bytes."""
        self.resources: dict[str, tuple[int, bytes]] = {}
        self.requests: list[events.RequestReceived] = []
        """What the server asked, oldest first."""
        self.answers: dict[int, events.ResponseReceived | events.RequestFailed] = {}
        self.is_deaf = False
        """Nothing of the server arrives."""
        self.location = ""
        self._handles = 0
        if tcp:
            self.engine.submit(AdoptConnection(self.server, Role.INITIATED), self.now)
            stack.streams.submit(AdoptConnection(self.here), self.now)
        material = ContextMaterial(
            _NUMBER,
            keys.sender_id,
            keys.recipient_id,
            keys.secret,
            keys.salt,
            keys.id_context,
            unused=unused,
            ceiling=unused,
        )
        if not tcp:
            self.engine.submit(actions.VerifyPeer(self.server), self.now)
        self.engine.submit(actions.AdoptContext(material, self.server, rederive), self.now)
        self.pump()

    @property
    def now(self) -> float:
        return self.stack.clock.now()

    # -- what it says --

    def request(
        self, code: int, target: str, payload: bytes = b"", content_format: int | None = None
    ) -> events.ResponseReceived | events.RequestFailed | None:
        """A request, protected; what came of it so far."""
        path, _, query = target.partition("?")
        self._handles += 1
        handle = self._handles
        wanted = actions.SendRequest(
            handle,
            self.peer,
            code,
            handle.to_bytes(8, "big"),
            tuple(each for each in path.split("/") if each),
            tuple(each for each in query.split("&") if each),
            content_format=content_format,
            payload=payload,
        )
        self.engine.submit(wanted, self.now)
        self.pump()
        return self.answers.get(handle)

    def ask(self, code: int, target: str, payload: bytes = b"", content_format: int | None = None) -> int:
        """The code of the answer."""
        answer = self.request(code, target, payload, content_format)
        assert isinstance(answer, events.ResponseReceived), answer
        found = [value.decode() for number, value in answer.options if number == 8]
        if found:
            self.location = "/" + "/".join(found)
        return answer.code

    def register(self, target: str = "/rd?lt=300&lwm2m=1.1&b=U", links: bytes = LINKS) -> int:
        """The code of the answer to a Register."""
        return self.ask(codes.POST, target, links, 40)

    def notify(self, request: events.RequestReceived, number: int, payload: bytes, content_format: int = 112) -> None:
        """Tell whoever observes with ``request``."""
        self.engine.submit(
            actions.SendNotification(
                number, self.peer, request.token, codes.CONTENT, number, content_format, payload, True
            ),
            self.now,
        )
        self.pump()

    # -- the wire --

    def move(self, port: int) -> None:
        """A NAT gives it another port."""
        self.here = self.here._replace(remote_port=port)

    def tick(self) -> None:
        """It is later by now."""
        self.engine.tick(self.now)
        self.pump()

    def replay(self, datagram: bytes, port: int = 6666) -> Message:
        """The answer to a copy of ``datagram`` from elsewhere."""
        elsewhere = self.here._replace(remote_host="203.0.113.6", remote_port=port)
        self.stack.engine.feed(datagram, peer=elsewhere, now=self.now)
        self.stack.run(self.stack._settle())
        [answer] = [message for peer, message in self.stack.out if peer == elsewhere]
        self.stack.out = [each for each in self.stack.out if each[0] != elsewhere]
        return answer

    def pump(self) -> None:
        """Let datagrams pass both ways until nobody has any."""
        for _ in range(_ROUNDS):
            self._take_events()
            out = [data for _, data in self.engine.take_datagrams()]
            self.up += out
            for data in out:
                self._carry(data)
            back = self._collect()
            self.down += back
            for data in back:
                if not self.is_deaf:
                    self.engine.feed(data, peer=self.server, now=self.now)
            self._take_events()
            if not out and not back:
                return
        raise AssertionError("they talk for ever")

    def _carry(self, data: bytes) -> None:
        stack = self.stack
        if self.session is not None:
            self.session.send(decode_message(data))
        elif self.here.is_connection:
            stack.say(self.here, data)
        else:
            stack.engine.feed(data, peer=self.here, now=self.now)
            stack.run(stack._settle())

    def _collect(self) -> list[bytes]:
        stack = self.stack
        stack.run(stack._settle())
        if self.session is not None:
            self.session.pump()
            found, self.session.heard = self.session.heard, []
            return [encode_message(each) for each in found]
        if self.here.is_connection:
            data = [each for to, each in stack.stream_bytes if to == self.here]
            stack.stream_bytes = [each for each in stack.stream_bytes if each[0] != self.here]
            stack.stream_out = [each for each in stack.stream_out if each[0] != self.here]
            return data
        mine = [message for to, message in stack.out if to == self.here]
        stack.out = [each for each in stack.out if each[0] != self.here]
        return [encode_message(each) for each in mine]

    def _take_events(self) -> None:
        for event in self.engine.take_events():
            match event:
                case events.ContextState():
                    self.ceiling = event.ceiling
                    self.engine.submit(actions.ContextStored(event.number, event.ceiling), self.now)
                case events.RequestReceived():
                    self.requests.append(event)
                    self._answer(event)
                case events.ResponseReceived() | events.RequestFailed():
                    self.answers[event.handle] = event
                case _:
                    pass

    def _answer(self, request: events.RequestReceived) -> None:
        found = self.resources.get("/" + "/".join(request.path))
        if request.code in (codes.PUT, codes.POST):
            answer = actions.Respond(request.exchange, codes.CHANGED)
        elif request.code == codes.DELETE:
            answer = actions.Respond(request.exchange, codes.DELETED)
        elif found is None:
            answer = actions.Respond(request.exchange, codes.NOT_FOUND)
        else:
            answer = actions.Respond(request.exchange, codes.CONTENT, content_format=found[0], payload=found[1])
            if any(number == OBSERVE and not any(value) for number, value in request.options):
                answer = replace(answer, options=((OBSERVE, encode_uint(1)),))
        self.engine.submit(answer, self.now)
