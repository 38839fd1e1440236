"""CoAP by hand, for tests that must not believe our own codec: messages, a socket, a device in a thread.

Written from RFC 7252 alone; shares nothing with the package.
"""

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

CON, NON, ACK, RST = range(4)
GET, POST, PUT, DELETE, FETCH, IPATCH = 1, 2, 3, 4, 5, 7
CREATED, DELETED, CHANGED, CONTENT, CONTINUE = 0x41, 0x42, 0x44, 0x45, 0x5F
OBSERVE, LOCATION_PATH, URI_PATH, CONTENT_FORMAT, URI_QUERY, ACCEPT, BLOCK1 = 6, 8, 11, 12, 15, 17, 27
LINK_FORMAT, SENML_JSON, SENML_CBOR = 40, 110, 112


@dataclass(frozen=True, slots=True)
class Message:
    type: int
    code: int
    mid: int
    token: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    payload: bytes = b""

    def all(self, number: int) -> list[bytes]:
        return [value for each, value in self.options if each == number]

    def number(self, option: int) -> int | None:
        found = self.all(option)
        return int.from_bytes(found[0], "big") if found else None

    @property
    def path(self) -> str:
        return "/" + "/".join(each.decode() for each in self.all(URI_PATH))

    @property
    def location(self) -> str:
        return "/" + "/".join(each.decode() for each in self.all(LOCATION_PATH))

    @property
    def dotted(self) -> str:
        return f"{self.code >> 5}.{self.code & 31:02d}"


def uint(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def encode(message: Message) -> bytes:
    out = bytearray([0x40 | message.type << 4 | len(message.token), message.code])
    out += message.mid.to_bytes(2, "big") + message.token
    last = 0
    for number, value in sorted(message.options, key=lambda each: each[0]):
        tail = b""
        nibbles = []
        for amount in (number - last, len(value)):
            if amount < 13:
                nibbles.append(amount)
            elif amount < 269:
                nibbles.append(13)
                tail += bytes([amount - 13])
            else:
                nibbles.append(14)
                tail += (amount - 269).to_bytes(2, "big")
        out.append(nibbles[0] << 4 | nibbles[1])
        out += tail + value
        last = number
    if message.payload:
        out += b"\xff" + message.payload
    return bytes(out)


def decode(data: bytes) -> Message:
    size = data[0] & 15
    token, at, number = data[4 : 4 + size], 4 + size, 0
    options = []
    while at < len(data) and data[at] != 0xFF:
        amounts = [data[at] >> 4, data[at] & 15]
        at += 1
        for index, nibble in enumerate(amounts):
            if nibble == 13:
                amounts[index] = data[at] + 13
                at += 1
            elif nibble == 14:
                amounts[index] = int.from_bytes(data[at : at + 2], "big") + 269
                at += 2
        number += amounts[0]
        options.append((number, data[at : at + amounts[1]]))
        at += amounts[1]
    return Message(
        data[0] >> 4 & 3, data[1], int.from_bytes(data[2:4], "big"), token, tuple(options), bytes(data[at + 1 :])
    )


def path_options(path: str) -> tuple[tuple[int, bytes], ...]:
    return tuple((URI_PATH, part.encode()) for part in path.split("/") if part)


def query_options(queries: Iterable[str]) -> tuple[tuple[int, bytes], ...]:
    return tuple((URI_QUERY, each.encode()) for each in queries)


def register_message(
    endpoint: str,
    mid: int,
    *,
    lifetime: int = 300,
    version: str = "1.1",
    links: str = "</>;ct=112,</1/0>,</3303/0>",
    token: bytes = b"\x01\x02",
    queue_mode: bool = False,
) -> Message:
    queries: tuple[str, ...] = (f"ep={endpoint}", f"lt={lifetime}", f"lwm2m={version}", "b=U")
    if queue_mode:
        # From 1.1 on a parameter of its own; in 1.0 the binding says it.
        queries = (*queries[:3], "b=UQ") if version == "1.0" else (*queries, "Q")
    return Message(
        CON,
        POST,
        mid,
        token,
        (*path_options("/rd"), (CONTENT_FORMAT, uint(LINK_FORMAT)), *query_options(queries)),
        links.encode(),
    )


def senml_cbor_float(path: str, value: float) -> bytes:
    """A pack of one record: name and a 64-bit float (RFC 8428)."""
    name = path.encode()
    assert 24 <= len(name) < 256 or len(name) < 24
    head = bytes([0x60 + len(name)]) if len(name) < 24 else bytes([0x78, len(name)])
    return b"\x81\xa2\x00" + head + name + b"\x02\xfb" + struct.pack(">d", value)


def send_message(mid: int, token: bytes, payload: bytes, *, content_format: int = SENML_CBOR) -> Message:
    return Message(CON, POST, mid, token, (*path_options("/dp"), (CONTENT_FORMAT, uint(content_format))), payload)


class NoAnswer(AssertionError):
    pass


class RawSocket:
    """One peer of the server: a UDP socket of its own, lock-step."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, port))
        self._mids = itertools.count(int.from_bytes(os.urandom(2), "big"))

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def next_mid(self) -> int:
        return next(self._mids) & 0xFFFF

    def send(self, data: bytes) -> None:
        # A server that was just killed answers with "connection refused"; the datagram counts as lost.
        with contextlib.suppress(ConnectionRefusedError):
            self._socket.send(data)

    def receive(self, within_s: float) -> Message | None:
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return None
            with contextlib.suppress(ConnectionRefusedError):
                return decode(self._socket.recv(65536))
        return None

    def ask(self, message: Message, *, within_s: float = 10.0, retry_s: float = 2.0) -> Message:
        """The response to ``message`` (by token; an empty ACK is waited past), sent again each ``retry_s``."""
        data, deadline = encode(message), time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.send(data)
            again = min(deadline, time.monotonic() + retry_s)
            while (left := again - time.monotonic()) > 0:
                answer = self.receive(left)
                if answer is None:
                    break
                if answer.type == RST and answer.mid == message.mid:
                    return answer
                if answer.code >= 0x40 and answer.token == message.token:
                    if answer.type == CON:
                        self.send(encode(Message(ACK, 0, answer.mid)))
                    return answer
        raise NoAnswer(f"no answer to {message} in {within_s} s")

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Handled:
    """A request of the server, handled once whatever was repeated."""

    code: int
    path: str
    payload: bytes
    message: Message


@dataclass(slots=True)
class Reply:
    """``type``: of the message; None is an ACK for what was confirmable and NON for the rest."""

    code: int
    payload: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    type: int | None = None


RESET = Reply(0, type=RST)
Answering = Callable[[Message], Reply | None]


@dataclass(slots=True)
class _Waiting:
    token: bytes
    answer: Message | None = None
    done: threading.Event = field(default_factory=threading.Event)


class RawDevice:
    """A device in a thread: retransmits its requests, answers the server's, remembers what it was asked to do.

    ``answering`` makes the reply to a request; a repeated message gets the first reply and is handled once. Without a
    reply the device says nothing, and a repetition asks anew. While `sleeps` is True nothing that arrives is heard.
    """

    def __init__(self, endpoint: str, port: int, answering: Answering, *, host: str = "127.0.0.1") -> None:
        self.endpoint = endpoint
        self.location = ""
        self.handled: list[Handled] = []
        self.resets: list[int] = []
        self.sleeps = False
        self.missed: list[Message] = []
        """Requests that came while it slept, each repetition too."""
        self._answering = answering
        self._replies: dict[int, bytes] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._acknowledged: dict[int, threading.Event] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, port))
        self._mids = itertools.count(int.from_bytes(os.urandom(2), "big"))
        self._running = True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=endpoint, daemon=True)
        self._thread.start()

    # -- what the device wants --

    def register(
        self,
        *,
        lifetime: int = 300,
        links: str = "</>;ct=112,</1/0>,</3303/0>",
        version: str = "1.1",
        queue_mode: bool = False,
        within_s: float = 20,
    ) -> str:
        message = register_message(
            self.endpoint,
            self._mid(),
            lifetime=lifetime,
            version=version,
            links=links,
            token=os.urandom(4),
            queue_mode=queue_mode,
        )
        answer = self.ask(message, within_s=within_s)
        assert answer.code == CREATED, answer.dotted
        self.location = answer.location
        return self.location

    def update(self, within_s: float = 20) -> Message:
        return self.ask(Message(CON, POST, self._mid(), os.urandom(4), path_options(self.location)), within_s=within_s)

    def deregister(self, within_s: float = 20) -> Message:
        return self.ask(
            Message(CON, DELETE, self._mid(), os.urandom(4), path_options(self.location)), within_s=within_s
        )

    def ask(self, message: Message, *, within_s: float) -> Message:
        waiting = _Waiting(message.token)
        self._waiting[message.mid] = waiting
        data, deadline, pause = encode(message), time.monotonic() + within_s, 1.0
        try:
            while time.monotonic() < deadline:
                self._send(data)
                if waiting.done.wait(min(pause, max(0.0, deadline - time.monotonic()))):
                    assert waiting.answer is not None
                    return waiting.answer
                pause *= 1.5
        finally:
            del self._waiting[message.mid]
        raise NoAnswer(f"{self.endpoint}: no answer to {message} in {within_s} s")

    def notify(self, token: bytes, sequence: int, payload: bytes, content_format: int, *, within_s: float) -> bool:
        """A confirmable notification; True when it was acknowledged, False when it was reset."""
        mid = self._mid()
        options = ((OBSERVE, uint(sequence)), (CONTENT_FORMAT, uint(content_format)))
        data = encode(Message(CON, CONTENT, mid, token, options, payload))
        done = self._acknowledged[mid] = threading.Event()
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self._send(data)
            if done.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
                return mid not in self.resets
        raise NoAnswer(f"{self.endpoint}: notification {sequence} was not acknowledged in {within_s} s")

    def wait_handled(self, matches: Callable[[Handled], bool], *, within_s: float = 10, after: int = 0) -> Handled:
        """The first request from the server that fits, of those from number ``after`` on."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while True:
                for each in self.handled[after:]:
                    if matches(each):
                        return each
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NoAnswer(f"{self.endpoint}: no such request in {within_s} s, only {self.handled[after:]}")
                self._changed.wait(left)

    def close(self) -> None:
        self._running = False
        self._socket.close()
        self._thread.join(5)

    # -- the thread --

    def _mid(self) -> int:
        return next(self._mids) & 0xFFFF

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionRefusedError):
            self._socket.send(data)

    def _run(self) -> None:
        while self._running:
            try:
                if not select.select([self._socket], [], [], 0.2)[0]:
                    continue
                data = self._socket.recv(65536)
            except ConnectionRefusedError:
                continue
            except (OSError, ValueError):
                return
            message = decode(data)
            if not self.sleeps:
                self._take(message)
            elif 0 < message.code < 0x20:
                self.missed.append(message)

    def _take(self, message: Message) -> None:
        if message.code == 0:
            if message.type == CON:
                # A ping (RFC 7252 4.3).
                self._send(encode(Message(RST, 0, message.mid)))
            if message.type == RST:
                self.resets.append(message.mid)
            if message.type in (ACK, RST) and message.mid in self._acknowledged:
                self._acknowledged[message.mid].set()
        elif message.code < 0x20:
            self._serve(message)
        else:
            for waiting in list(self._waiting.values()):
                if waiting.token == message.token and not waiting.done.is_set():
                    waiting.answer = message
                    waiting.done.set()
            if message.type == CON:
                self._send(encode(Message(ACK, 0, message.mid)))

    def _serve(self, message: Message) -> None:
        known = self._replies.get(message.mid)
        if known is None:
            reply = self._answering(message)
            known = b"" if reply is None else self._encode_reply(message, reply)
            if known:
                self._replies[message.mid] = known
            with self._changed:
                self.handled.append(Handled(message.code, message.path, message.payload, message))
                self._changed.notify_all()
        if known:
            self._send(known)

    def _encode_reply(self, message: Message, reply: Reply) -> bytes:
        kind = reply.type if reply.type is not None else ACK if message.type == CON else NON
        mid = self._mid() if kind == NON else message.mid
        # An empty message has no token (RFC 7252 4.1).
        token = message.token if reply.code else b""
        return encode(Message(kind, reply.code, mid, token, reply.options, reply.payload))


class Relay:
    """Stands between one device and the server, under one port of its own towards each, and keeps what it saw.

    What the server says goes on while ``passes`` is True and, with ``awake_s``, for so many seconds after the device's
    last word: a device whose radio is off hears nothing. Else it is in ``dropped``. ``up`` is what the device said; it
    goes on while ``passes_up`` is True.
    """

    def __init__(self, server_port: int, *, awake_s: float | None = None) -> None:
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.connect(("127.0.0.1", server_port))
        self.port = int(self._front.getsockname()[1])
        self.passes = self.passes_up = True
        self.awake_s = awake_s
        self.dropped: list[bytes] = []
        self.down: list[bytes] = []
        self.up: list[bytes] = []
        self._left: list[socket.socket] = []
        self._last_word = 0.0
        self._client: tuple[str, int] | None = None
        self._running = True
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether the device would hear the server now."""
        return self.passes and (self.awake_s is None or time.monotonic() - self._last_word <= self.awake_s)

    def _run(self) -> None:
        while self._running:
            try:
                ready, _, _ = select.select([self._front, self._back], [], [], 0.2)
                for each in ready:
                    data, sender = each.recvfrom(65536)
                    if each is self._front:
                        self._client = sender
                        self._last_word = time.monotonic()
                        self.up.append(data)
                        if self.passes_up:
                            self._back.send(data)
                    elif not self.is_open:
                        self.dropped.append(data)
                    elif self._client is not None:
                        self.down.append(data)
                        self._front.sendto(data, self._client)
            except ConnectionRefusedError:
                continue
            except (OSError, ValueError):
                return

    def move(self) -> None:
        """From now on the device has another port towards the server, as behind a NAT that forgot it."""
        moved = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        moved.connect(self._back.getpeername())
        # Open to the end: the thread may be listening to it.
        self._left.append(self._back)
        self._back = moved

    def close(self) -> None:
        self._running = False
        self._thread.join(5)
        for each in (self._front, self._back, *self._left):
            each.close()
