"""Secure devices by hand, many in one thread: DTLS of tests/dtls_hand.py under CoAP of raw_coap, nothing of ours.

Each has an address of its own, registers once, and sends numbers, each number once. What the server asks of them they
answer with 4.04.
"""

import contextlib
import itertools
import os
import random
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from raw_coap import (
    ACK,
    CHANGED,
    CON,
    CREATED,
    Message,
    decode,
    encode,
    register_message,
    send_message,
    senml_cbor_float,
)
from served import Api, Served, wait_until

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import dtls_hand as d
from tests.dtls_hand import DATA, Hand

LABELS = ["d2c:1.0"]
_AT_A_TIME = 200


def key_of(name: str) -> bytes:
    return sha256(f"key of {name}".encode()).digest()[:16]


def provision(api: Api, names: Sequence[str]) -> None:
    """Devices with pre-shared keys, identity and endpoint name being the name."""
    for first in range(0, len(names), _AT_A_TIME):
        part = names[first : first + _AT_A_TIME]
        wanted = [
            {
                "ni": name,
                "noRNe": name,
                "profe": "SCS-LwM2M",
                "lbl": LABELS,
                "nCr": [f"psk-id:{name}", f"psk-hex:{key_of(name).hex()}"],
            }
            for name in part
        ]
        body = {
            "dtiot:noPRt": {
                "cnd": "com.telekom.iot.orchestrator.nodeProvisioningRequest",
                "opern": 1,
                "reqLt": wanted,
            }
        }
        made = api.post("/device-provisioning/request", 28, body)
        assert made.status_code == 201, made.text
        content = next(iter(made.json().values()))
        path = f"/device-provisioning/response/responseToRequest-{content.get('ri') or content['resourceID']}"

        def result(path: str = path) -> Any:
            answer = api.get(path)
            return next(iter(answer.json().values())) if answer.status_code == 200 else None

        outcome = wait_until(result, within_s=60, what="the provisioning is answered")
        assert (outcome.get("resSs") or outcome.get("responseStatus")) == 1, outcome


def metric(server: Served, name: str, **labels: str) -> float:
    """The sum of all samples of ``name`` that have these labels; 0 where there are none."""
    text = httpx.get(f"http://127.0.0.1:{server.http_port}/metrics", timeout=20, verify=False).text
    total = 0.0
    for line in text.splitlines():
        if line.startswith((f"{name} ", f"{name}{{")) and all(
            f'{key}="{value}"' in line for key, value in labels.items()
        ):
            total += float(line.rpartition(" ")[2])
    return total


def allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))


@dataclass(slots=True)
class SecureDevice:
    name: str
    hand: Hand
    socket: socket.socket
    location: str = ""
    handshakes: int = 0
    waiting: Message | None = None
    """Its request without an answer."""
    sent_at: float = 0.0
    number: int = 0
    mid: int = field(default_factory=lambda: random.randrange(65536))
    taken: list[bytes] = field(default_factory=list)
    """Datagrams whose request was answered, newest last."""
    last: bytes = b""
    unasked: int = 0
    """Datagrams that came although nothing was waited for."""

    def next_mid(self) -> int:
        self.mid = (self.mid + 1) & 0xFFFF
        return self.mid

    def put(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionRefusedError):
            self.socket.send(data)


class SecureDevices:
    """``cids``: every second one asks for a connection ID."""

    def __init__(self, port: int, names: Sequence[str]) -> None:
        allow_open_files(len(names) + 500)
        self.acknowledged: list[int] = []
        self.first_answer: float | None = None
        self._numbers = itertools.count(1)
        self._poll = select.epoll()
        self._by_fd: dict[int, SecureDevice] = {}
        self.all: list[SecureDevice] = []
        for index, name in enumerate(names):
            hand = Hand(
                identity=name.encode(), psk=key_of(name), random=os.urandom(32), own_cid=b"" if index % 2 else None
            )
            peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            peer.setblocking(False)
            # Ports of one address would not do for very many.
            peer.bind((f"127.0.0.{1 + index // 8000}", 0))
            peer.connect(("127.0.0.1", port))
            device = SecureDevice(name, hand, peer)
            self._by_fd[peer.fileno()] = device
            self._poll.register(peer.fileno(), select.EPOLLIN)
            self.all.append(device)

    def close(self) -> None:
        self._poll.close()
        for each in self.all:
            each.socket.close()

    # -- what they do --

    def connect(self, window: int = 100) -> None:
        """A handshake and a Register of each."""
        self._work(self.all, window, self._begin_handshake, lambda device: bool(device.location), 180)

    def send(self, devices: Iterable[SecureDevice] | None = None, *, window: int = 200, within_s: float = 120) -> None:
        """A number of each, until all are answered."""
        self._work(
            list(self.all if devices is None else devices),
            window,
            self.begin_send,
            lambda device: device.waiting is None,
            within_s,
        )

    def _work(
        self,
        devices: list[SecureDevice],
        window: int,
        begin: Callable[[SecureDevice], None],
        is_done: Callable[[SecureDevice], bool],
        within_s: float,
    ) -> None:
        queue = iter(devices)
        busy: list[SecureDevice] = []
        deadline = time.monotonic() + within_s
        while True:
            busy = [each for each in busy if not is_done(each)]
            for each in itertools.islice(queue, max(0, window - len(busy))):
                begin(each)
                busy.append(each)
            if not busy:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(busy)} devices without an answer in {within_s} s, {busy[0].name} the first")
            self.collect(0.01)
            self.repeat(busy)

    def _begin_handshake(self, device: SecureDevice) -> None:
        device.handshakes += 1
        device.sent_at = time.monotonic()
        device.put(device.hand.first_hello())

    def begin_send(self, device: SecureDevice) -> None:
        device.number = next(self._numbers)
        pack = senml_cbor_float("/3303/0/5700", float(device.number))
        self._ask(device, send_message(device.next_mid(), struct.pack(">I", device.number), pack))

    def _ask(self, device: SecureDevice, message: Message) -> None:
        device.waiting = message
        self._say(device)

    def _say(self, device: SecureDevice) -> None:
        assert device.waiting is not None
        device.sent_at = time.monotonic()
        device.last = device.hand.sealed(DATA, encode(device.waiting))
        device.put(device.last)

    def repeat(self, devices: Iterable[SecureDevice], after_s: float = 1.0) -> None:
        """What had no answer for so long is said again: the same request in a new record."""
        now = time.monotonic()
        for device in devices:
            if now - device.sent_at < after_s:
                continue
            device.sent_at = now
            if device.waiting is not None:
                self._say(device)
            elif device.hand.flight:
                if not device.hand.finished:
                    device.put(b"".join(device.hand.flight_again()))
            elif not device.location:
                # Half a flight of the server's is of no use: it comes again, or what is missing of it.
                device.put(device.hand.second_hello() if device.hand.cookie else device.hand.first_hello())

    def collect(self, wait_s: float) -> None:
        """Hear what came."""
        for fd, _ in self._poll.poll(wait_s):
            device = self._by_fd[fd]
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    self._hear(device, device.socket.recv(4096))

    def _hear(self, device: SecureDevice, datagram: bytes) -> None:
        hand = device.hand
        done, heard = hand.finished, len(hand.heard)
        hand.hear(datagram)
        for kind, _ in hand.heard[heard:]:
            if kind == d.HELLO_VERIFY_REQUEST:
                # Not one that comes late.
                if not hand.count(d.SERVER_HELLO):
                    device.put(hand.second_hello())
            elif kind == d.SERVER_HELLO_DONE:
                device.put(b"".join(hand.last_flight()))
        assert not any(level == 2 for _, level, _ in hand.alerts), (device.name, hand.alerts)
        if hand.finished and not done:
            self._ask(device, register_message(device.name, device.next_mid(), lifetime=3600))
        if not hand.data and done:
            device.unasked += 1
        while hand.data:
            self._take(device, decode(hand.data.pop(0)))

    def _take(self, device: SecureDevice, message: Message) -> None:
        waiting = device.waiting
        if 1 <= message.code < 0x20:
            device.put(device.hand.sealed(DATA, encode(Message(ACK, 0x84, message.mid, message.token))))
            return
        if message.type == CON:
            device.put(device.hand.sealed(DATA, encode(Message(ACK, 0, message.mid))))
        if waiting is None or message.code == 0 or message.token != waiting.token:
            device.unasked += 1
            return
        device.waiting = None
        device.taken.append(device.last)
        self.first_answer = self.first_answer or time.monotonic()
        if not device.location:
            assert message.code == CREATED, (device.name, message.dotted)
            device.location = message.location
        else:
            assert message.code == CHANGED, (device.name, message.dotted)
            self.acknowledged.append(device.number)

    # -- what is true of them --

    @property
    def handshakes(self) -> int:
        return sum(each.handshakes for each in self.all)

    def check_numbers(self) -> int:
        """No number of the server's was used twice in a session, so no nonce was. How many there were."""
        total = 0
        for device in self.all:
            numbers = device.hand.numbers
            assert len(set(numbers)) == len(numbers), f"{device.name}: a record number used twice"
            total += len(numbers)
        return total
