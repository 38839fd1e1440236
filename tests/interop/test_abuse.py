"""Any bytes on the port: 10^6 datagrams, most of them valid messages with something wrong, and the server goes on.

By default 200,000 are sent; STELLWERK_INTEROP_DATAGRAMS=1000000 sends as many as the promise says. Datagrams are sent
only as fast as the server takes them from its socket, and what the kernel dropped is sent again, so the number is what
the server really saw.
"""

import os
import random
import select
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from raw_coap import (
    CHANGED,
    CONTENT,
    CREATED,
    GET,
    LOCATION_PATH,
    Message,
    RawDevice,
    RawSocket,
    Reply,
    decode,
    register_message,
)
from served import Served, wait_until

COUNT = int(os.environ.get("STELLWERK_INTEROP_DATAGRAMS", "200000"))
SETTLED = 100_000
GROWTH_BYTES = 10 * 1024 * 1024
PEERS = 40
SEED = int(os.environ.get("STELLWERK_INTEROP_SEED", "7"))

# Valid messages (our contract's vectors, CoAP over UDP), written out by hand.
VECTORS = [
    bytes.fromhex(text.replace(" ", ""))
    for text in (
        "44021234a1b2c3d4 b27264 11 28 3765703d64657631 066c743d333030 096c776d326d3d312e31 03623d55 0151"
        " ff3c2f3e3b63743d3131322c3c2f312f303e2c3c2f332f303e",
        "64411234a1b2c3d4 827264 036b3778",
        "41021235 01 b27264 036b3778 466c743d363030",
        "41041236 02 b27264 036b3778",
        "44010101 0badcafe 60 51 33 01 30 01 39 61 70",
        "54457001 0badcafe 610c 6170 ff 81a200662f332f302f39021863",
        "70007001",
        "44010102 0badcafe 6101 51 33 01 30 01 39 61 70",
        "41030103 03 b133 0130 0139 47706d696e3d3130 07706d61783d3630",
        "41020104 04 b131 0130 0138",
        "41010105 05 b133 6128",
        "41050106 06 c170 5170 ff 82a100662f332f302f39a100662f312f302f31",
        "41070107 07 c170 ff 81a200662f312f302f3102183c",
        "41030108 08 b135 0130 0130 112a d1020d d2140514 ff" + "55" * 64,
        "615f0108 08 d10e0d",
        "618d0108 08 d10e04 d2140400",
        "61810109 0a d8ef00 11223344556677",
        "4102010b 0b b26470 1170 d1020e d1fc01",
        "41022001 0c b26273 4765703d64657631 077063743d313132",
        "41012002 0d b6627370 61636b 4765703d64657631 2170",
        "41012003 0e d10428",
        "41042004 0f",
        "41022005 10 b26273",
        "40000001",
        "60000001",
    )
]
# [{-2: "/3303/0/", 0: "5700", 2: 20.5}, {0: "5601", 2: 1}]
PACK = b"\x82\xa3\x21\x68/3303/0/\x00\x645700\x02\xf9\x4d\x20\xa2\x00\x645601\x02\x01"


@dataclass(slots=True)
class Peer:
    """One source of datagrams, whose templates name its own registration if it has one."""

    socket: socket.socket
    endpoint: bytes
    templates: list[bytes]

    def take(self, answer: bytes) -> None:
        """A mutated Register may still be one: what follows names the new location."""
        if answer[1:2] == bytes([CREATED]):
            self.templates = _templates(self.endpoint, decode(answer).all(LOCATION_PATH)[-1])


def _templates(endpoint: bytes, location: bytes) -> list[bytes]:
    """The vectors, and the same messages as this peer would send them."""
    here = location or b"k7x"
    length = bytes([len(here)]) if len(here) < 13 else bytes([13, len(here) - 13])
    segment = length + here
    parameter = b"ep=" + endpoint
    register = (
        b"\x44\x02\x12\x34\xa1\xb2\xc3\xd4\xb2rd\x11\x28\x3d" + bytes([len(parameter) - 13]) + parameter
        + b"\x06lt=300\x09lwm2m=1.1\x03b=U\xff</>;ct=112,</1/0>,</3303/0>"
    )  # fmt: skip
    update = b"\x41\x02\x12\x35\x01\xb2rd" + segment
    send = b"\x41\x02\x01\x0b\x0b\xb2dp\x11\x70\xff" + PACK
    again = b"\x51\x02\x01\x0c\x0b\xb2dp\x11\x70\xff" + PACK
    blocks = b"\x41\x02\x01\x0d\x0c\xb2dp\x11\x70\xd1\x02\x0e\xff" + b"\x82" + PACK * 12
    return [*VECTORS, register, update, send, again, blocks]


class Mutations:
    """Datagrams without an end: 85 % mutated valid messages, 5 % valid ones, 10 % noise."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self, templates: list[bytes]) -> bytes:
        draw = self._random.random
        kind = draw()
        if kind < 0.10:
            return self._random.randbytes(int(draw() * 120))
        data = bytearray(templates[int(draw() * len(templates))])
        # Other message ids, or the memory of answers would do all the work.
        if draw() < 0.9:
            data[2:4] = self._random.randbytes(2)
        if kind >= 0.15:
            for _ in range(1 + int(draw() * draw() * 5)):
                self._mutate(data)
        return bytes(data)

    def _mutate(self, data: bytearray) -> None:
        draw = self._random.random
        if not data:
            data += self._random.randbytes(4)
            return
        at, how = int(draw() * len(data)), int(draw() * 7)
        if how == 0:
            data[at] ^= 1 << int(draw() * 8)
        elif how == 1:
            data[at] = int(draw() * 256)
        elif how == 2:
            del data[at:]
        elif how == 3:
            del data[at : at + 1 + int(draw() * 4)]
        elif how == 4:
            data[at:at] = self._random.randbytes(1 + int(draw() * 4))
        elif how == 5:
            data[at:at] = data[at : at + 1 + int(draw() * 16)]
        else:
            data[at] = (0, 0xFF, 0x7F, 0x0D, 0x0E, 0x0F, 0xD0, 0xE0)[int(draw() * 8)]


def _kernel_queue(port: int) -> tuple[int, int]:
    """Bytes that wait in the server's socket, and datagrams the kernel dropped at it."""
    wanted = f":{port:04X}"
    # While others open and close sockets, a reading may miss a line.
    for _ in range(20):
        for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[2].endswith(":0000"):
                return int(fields[4].partition(":")[2], 16), int(fields[12])
    raise AssertionError("the server's socket is gone")


class Blast:
    """Sends to the server as fast as it listens; reads and counts what it answers."""

    def __init__(self, port: int, peers: list[Peer]) -> None:
        self.delivered = 0
        self._port, self._peers = port, peers
        self._mutations = Mutations(SEED)
        self._dropped_before = _kernel_queue(port)[1]
        self._sent = 0

    def run(self, until: int) -> None:
        """Until so many datagrams were delivered, in all runs together."""
        following = self._mutations.next
        while self.delivered < until:
            for _ in range(8):
                for peer in self._peers:
                    try:
                        peer.socket.send(following(peer.templates))
                        self._sent += 1
                    except ConnectionRefusedError as error:
                        raise AssertionError("the server's socket is closed") from error
                self._drain()
            wait_until(
                lambda: _kernel_queue(self._port)[0] < 60_000,
                within_s=20,
                what="the server reads its socket",
                every_s=0.001,
            )
            self.delivered = self._sent - (_kernel_queue(self._port)[1] - self._dropped_before)

    def _drain(self) -> None:
        for peer in self._peers:
            try:
                while True:
                    peer.take(peer.socket.recv(65536, socket.MSG_DONTWAIT))
            except BlockingIOError:
                continue


def _answers(message: Message) -> Reply:
    return Reply(CONTENT, b"20.5", ((12, b""),)) if message.code == GET else Reply(CHANGED)


def _peers(server: Served) -> list[Peer]:
    """Half of them registered, with templates that name their own registration."""
    made = []
    for index in range(PEERS):
        own = RawSocket(server.coap_port)
        name, location = f"abuse-{index:04d}", b""
        if index % 2 == 0:
            answer = own.ask(register_message(name, own.next_mid()))
            assert answer.code == CREATED
            location = answer.all(LOCATION_PATH)[-1]
        made.append(Peer(own._socket, name.encode(), _templates(name.encode(), location)))
    return made


@pytest.mark.timeout(900)
def test_a_million_datagrams_leave_the_server_well_and_no_larger(
    serve: Callable[..., Served], record_property: Callable[[str, object], None]
) -> None:
    server = serve(auto_provision="abuse-*,steady-*", log_level="warning").start()
    steady = RawDevice("steady-1", server.coap_port, _answers)
    steady.register(lifetime=86400)
    blast = Blast(server.coap_port, _peers(server))
    try:
        blast.run(SETTLED)
        server.wait_projected(60)
        settled = {pid: server.resident_bytes(pid) for pid in server.pids()}
        assert server.api.run("steady-1", "READ /3303/0/5700")["content"]["data"] == {"3303/0/5700": 20.5}
        steps = []
        for until in range(SETTLED * 2, COUNT + 1, SETTLED):
            blast.run(until)
            steps.append([(server.resident_bytes(pid) - before) // 1024 for pid, before in settled.items()])
        server.wait_projected(60)
        growth = {pid: server.resident_bytes(pid) - before for pid, before in settled.items()}
        record_property("datagrams", blast.delivered)
        record_property("growth_kib", steps)
        print(f"{blast.delivered} datagrams; resident {settled}, growth {growth}; each 100,000: {steps} KiB")  # noqa: T201
        # The projector is a process of its own with the same bound.
        assert max(growth.values()) < GROWTH_BYTES, f"resident memory grew by {growth} bytes"
        assert server.api.run("steady-1", "READ /3303/0/5700")["content"]["status"]["code"] == 200
        assert steady.update().code == CHANGED
        failures = [each for each in server.log_lines() if each.get("level") in ("error", "critical")]
        assert not failures, failures[0]
    finally:
        steady.close()


def test_no_answer_to_an_address_nobody_knows_is_larger_than_three_times_the_question(
    serve: Callable[..., Served],
) -> None:
    server = serve(auto_provision="abuse-*", log_level="warning").start()
    mutations = Mutations(SEED + 1)
    templates = _templates(b"nobody-0001", b"")
    answered = 0
    for _ in range(60):
        # A new address each time, so that none is known for long.
        asked: Counter[bytes] = Counter()
        received: Counter[bytes] = Counter()
        strays = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect(("127.0.0.1", server.coap_port))
            for _ in range(40):
                question = mutations.next(templates)
                peer.send(question)
                asked[question[2:4]] += len(question)
            # Answers come in any order, some after a look into the database; the quiet after them is the end.
            while select.select([peer], [], [], 0.1)[0]:
                answer = peer.recv(65536)
                answered += 1
                if answer[2:4] in asked:
                    received[answer[2:4]] += len(answer)
                else:
                    strays += len(answer)  # an answer with a message id of its own, to a NON
        for mid, size in received.items():
            assert size <= 3 * asked[mid], f"{size} bytes answer {asked[mid]}"
        assert received.total() + strays <= 3 * asked.total()
    assert answered > 500


def test_valid_vectors_of_unknown_senders_get_small_answers_or_none(serve: Callable[..., Served]) -> None:
    server = serve(auto_provision="abuse-*").start()
    for question in VECTORS:
        peer = RawSocket(server.coap_port)
        peer.send(question)
        peer.send(b"\x40\x00\xee\xee")
        while (answer := peer.receive(5)) is not None and answer.mid != 0xEEEE:
            assert answer.code == 0 or 0x80 <= answer.code < 0xC0, (question.hex(), decode(question), answer)
        assert answer is not None
        peer.close()
