"""A device behind TLS: Python's own ssl, and CoAP messages as a test writes them."""

import ssl
from typing import Any

from stellwerk.coap.message import Message
from stellwerk.coap.tcp.frames import FrameDecoder, decode_frame
from stellwerk.coap.tcp.signalling import Capabilities, encode_csm
from stellwerk.core.ids import PeerId
from stellwerk.issuing import Issued
from tests.scenario.stack import BehindTls, Stack
from tests.tls_client import V13, TlsClient

_ROUNDS = 12


class TlsDevice:
    """Talks to the TLS port of ``stack``; time is the stack's."""

    def __init__(
        self,
        stack: Stack,
        issued: Issued | None = None,
        *,
        version: ssl.TLSVersion = V13,
        port: int = 50_001,
        client: Any = None,
        server: Any = None,
        **more: Any,
    ) -> None:
        """``server``: whose port it is, None for that of device management."""
        assert server is not None or stack.behind_tls is not None
        self.stack = stack
        self.server: BehindTls = server or stack.behind_tls
        self.peer = PeerId("tls", "192.0.2.1", port, "192.0.2.100", 5684)
        self.client = client or TlsClient(version, issued, trusts=False, **more)
        self.was_closed = False
        self.signals: list[Message] = []
        """What the server said of the connection."""
        self.location = ""
        self._decoder = FrameDecoder(1 << 20)
        self._read = 0
        self._heard: list[Message] = []

    def connect(self) -> "TlsDevice":
        """Make a handshake, and say a CSM where it came to one."""
        self.server.begin(self.peer)
        self._pass(self.client.take())
        if self.client.is_ready and not self.was_closed:
            self._pass(self.client.say(encode_csm(Capabilities(65_536, True))))
        return self

    @property
    def is_connected(self) -> bool:
        return self.client.is_ready and not self.was_closed

    def say(self, data: bytes) -> None:
        """``data`` behind TLS, and what comes back."""
        self._pass(self.client.say(data))

    def hang_up(self) -> None:
        """The connection breaks."""
        self.server.feed(self.peer, b"")

    def close(self) -> None:
        """Say goodbye."""
        self._pass(self.client.close())

    def listen(self) -> None:
        """Hear what the server said by itself."""
        self._pass(b"")

    def heard(self) -> Message:
        """The oldest message that nobody looked at yet and is no signal."""
        self.listen()
        return self._heard.pop(0)

    def _pass(self, data: bytes) -> None:
        for _ in range(_ROUNDS):
            if data and not self.was_closed:
                self.server.feed(self.peer, data)
            data = b""
            found = self.server.take(self.peer)
            for each in found:
                if each:
                    data += self.client.take(each)
                else:
                    self.was_closed = True
            if not found:
                break
        self._decoder.append(self.client.heard[self._read :])
        self._read = len(self.client.heard)
        while (frame := self._decoder.next()) is not None:
            message = decode_frame(frame)
            (self.signals if message.code >> 5 == 7 else self._heard).append(message)
