"""Our DTLS engine on a UDP socket of the loopback, in a thread, telling its `Conversation` down."""

import select
import socket
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from tests.dtls_story import Conversation, Known, Story

from stellwerk.dtls import events
from stellwerk.dtls.parameters import ClientParameters, ServerParameters

E = TypeVar("E")


class DtlsPeer:
    """``server``: one that waits at `port`. ``client``: one that speaks to ``server_port``.

    Peers get the numbers 1, 2, ... in the order in which their addresses are seen: stories do not depend on ports.
    ``loses``: which of the datagrams that leave do not arrive; ``misses``: which of those that come are not heard. Both
    count from 1.
    """

    def __init__(
        self,
        seed: str,
        known: Known,
        *,
        server: ServerParameters | None = None,
        client: ClientParameters | None = None,
        server_port: int = 0,
        does: str = "echo",
        loses: Collection[int] = (),
        misses: Collection[int] = (),
    ) -> None:
        self._loses, self._misses = loses, misses
        self._left = self._came = 0
        self.conversation = Conversation(seed, known, server=server, client=client, does=does)
        self._socket = self._open()
        self.port = int(self._socket.getsockname()[1])
        self._ports: list[int] = [server_port] if client is not None else []
        self._orders: list[str] = []
        self._changed = threading.Condition()
        self._wake_in, self._wake_out = socket.socketpair()
        self._zero = time.monotonic()
        self._running = True
        self.trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name="dtls", daemon=True)
        self._thread.start()

    @staticmethod
    def _open() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        return made

    def _now(self) -> float:
        # Milliseconds are enough, and short in a story.
        return round(time.monotonic() - self._zero, 3)

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.trouble = error
            with self._changed:
                self._changed.notify_all()

    def _run(self) -> None:
        talk = self.conversation
        while self._running:
            deadline = talk.deadline()
            wait = 0.5 if deadline is None else min(0.5, max(0.0, deadline - self._now() + 0.001))
            ready, _, _ = select.select([self._socket, self._wake_out], [], [], wait)
            with self._changed:
                if self._wake_out in ready:
                    self._wake_out.recv(64)
                while self._orders:
                    self._order(self._orders.pop(0))
                if self._socket in ready:
                    self._read()
                deadline = talk.deadline()
                if deadline is not None and deadline <= self._now():
                    talk.tick(self._now())
                self._write()
                self._changed.notify_all()

    def _order(self, words: str) -> None:
        if words == "move":
            self._socket.close()
            self._socket = self._open()
        self.conversation.order(words, self._now())

    def _read(self) -> None:
        while True:
            try:
                datagram, (_, port) = self._socket.recvfrom(65_536)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            self._came += 1
            if self._came in self._misses:
                continue
            if port not in self._ports:
                self._ports.append(port)
            self.conversation.feed(datagram, self._ports.index(port) + 1, self._now())
            self._write()

    def _write(self) -> None:
        for number, datagram in self.conversation.take_datagrams():
            self._left += 1
            if self._left not in self._loses:
                self._socket.sendto(datagram, ("127.0.0.1", self._ports[number - 1]))

    # -- for tests --

    def order(self, words: str) -> None:
        """See `Conversation.order`."""
        with self._changed:
            self._orders.append(words)
        self._wake_in.send(b"!")

    def send(self, data: bytes) -> None:
        self.order(f"send {data.hex()}")

    def wait(
        self, kind: type[E], matches: Callable[[E], Any] = lambda event: True, *, nth: int = 1, within_s: float = 10.0
    ) -> E:
        """The ``nth`` event of that kind that matches, of all that ever happened."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while True:
                found = [each for each in self.conversation.happened if isinstance(each, kind) and matches(each)]
                if len(found) >= nth:
                    return found[nth - 1]
                left = deadline - time.monotonic()
                if self.trouble is not None or left <= 0:
                    raise AssertionError(f"no {kind.__name__} ({nth}.) in time") from self.trouble
                self._changed.wait(left)

    def wait_data(self, data: bytes, *, within_s: float = 10.0) -> None:
        """Until exactly that has come."""
        self.wait(events.DataReceived, lambda event: event.data == data, within_s=within_s)

    def count(self, kind: type[Any]) -> int:
        with self._changed:
            return sum(isinstance(each, kind) for each in self.conversation.happened)

    def told(self) -> str:
        """What happened so far, for people who look for what went wrong."""
        lines = [f"{at:8.3f} {kind} {what}"[:200] for kind, at, what in self.conversation.steps]
        return "\n" + "\n".join(lines[-60:])

    def story(self, peer: str) -> Story:
        with self._changed:
            return Story.of(self.conversation, peer)

    def close(self) -> None:
        self._running = False
        self._wake_in.send(b"!")
        self._thread.join(5)
        for each in (self._socket, self._wake_in, self._wake_out):
            each.close()
