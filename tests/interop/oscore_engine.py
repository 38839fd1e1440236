"""Our engine with OSCORE over a UDP socket, and no device management above it: for what only the two engines say."""

import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from oscore_device import Keys

from stellwerk.coap import actions, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.ids import PeerId, context_peer
from stellwerk.net.clock import SystemEntropy

_NUMBER = 1
CONTEXT = context_peer(_NUMBER, "udp")


@dataclass
class Engine:
    """As the end of ``keys`` that sends as ``keys.sender_id``, towards ``port`` of the loopback."""

    keys: Keys
    port: int
    unused: int = 0
    rederive: bool = False
    said: list[events.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", self.port))
        self._engine = Endpoint(SystemEntropy(), oscore=True)
        self._peer = PeerId("udp", "127.0.0.1", self.port)
        keys = self.keys
        material = ContextMaterial(
            _NUMBER,
            keys.sender_id,
            keys.recipient_id,
            keys.master_secret,
            keys.master_salt,
            keys.id_context or b"",
            unused=self.unused,
            ceiling=self.unused + 1000,
        )
        self._submit(actions.VerifyPeer(self._peer))
        self._submit(actions.AdoptContext(material, self._peer, self.rederive))
        self._handles = 0

    def _submit(self, action: Any) -> None:
        self._engine.submit(action, time.monotonic())

    def ask(self, code: int, path: str, payload: bytes = b"", observe: int | None = None) -> Any:
        """What came of a request within ten seconds."""
        self._handles += 1
        handle = self._handles
        parts = tuple(each for each in path.split("/") if each)
        token = handle.to_bytes(8, "big")
        self._submit(actions.SendRequest(handle, CONTEXT, code, token, parts, observe=observe, payload=payload))
        return self.wait(
            lambda event: getattr(event, "handle", None) == handle and not isinstance(event, events.PeerReacted)
        )

    def wait(self, matches: Any, within_s: float = 10.0) -> Any:
        """The first event that ``matches``."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for event in self._engine.take_events():
                self.said.append(event)
                if isinstance(event, events.ContextState):
                    self._submit(actions.ContextStored(event.number, event.ceiling))
                elif isinstance(event, events.NotificationReceived):
                    self._submit(actions.AcceptNotification(event.exchange))
            for event in self.said:
                if matches(event):
                    self.said.remove(event)
                    return event
            for _, datagram in self._engine.take_datagrams():
                self._socket.send(datagram)
            if select.select([self._socket], [], [], 0.05)[0]:
                self._engine.feed(self._socket.recv(65536), peer=self._peer, now=time.monotonic())
            self._engine.tick(time.monotonic())
        raise AssertionError(f"nothing of the kind; there was {self.said}")

    def close(self) -> None:
        self._socket.close()
