"""`kill -9` at any moment: what was acknowledged is there, once; what is repeated after the restart is recognised."""

import contextlib
import itertools
import os
import random
import re
import select
import shutil
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_coap import (
    CHANGED,
    CONTENT,
    CONTENT_FORMAT,
    CREATED,
    GET,
    NON,
    OBSERVE,
    SENML_CBOR,
    Message,
    NoAnswer,
    RawDevice,
    RawSocket,
    Relay,
    Reply,
    decode,
    encode,
    register_message,
    send_message,
    senml_cbor_float,
    uint,
)
from served import Served, wait_until

ROUNDS = 10
DEVICES = 8


class Load:
    """Devices in one thread that send numbers, each number once, one Send outstanding per device.

    ``acknowledged`` holds what was answered 2.04. A Send without an answer is repeated unchanged, across restarts too.
    """

    def __init__(self, port: int, prefix: str, count: int) -> None:
        self.acknowledged: list[int] = []
        self.sent = 0
        self._numbers = itertools.count(1)
        self._sockets: list[socket.socket] = []
        self._open: list[tuple[int, bytes, float] | None] = [None] * count
        self._mids = [random.randrange(65536) for _ in range(count)]
        for index in range(count):
            peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            peer.connect(("127.0.0.1", port))
            self._sockets.append(peer)
            self._exchange(peer, register_message(f"{prefix}{index}", self._mid(index), lifetime=3600))

    def _mid(self, index: int) -> int:
        self._mids[index] = (self._mids[index] + 1) & 0xFFFF
        return self._mids[index]

    @staticmethod
    def _exchange(peer: socket.socket, message: Message) -> None:
        for _ in range(10):
            peer.send(encode(message))
            if select.select([peer], [], [], 1.0)[0]:
                answer = decode(peer.recv(2048))
                assert answer.code == CREATED, answer.dotted
                return
        raise NoAnswer("no answer to Register")

    def run(self, until: Callable[[], bool]) -> None:
        """Sends and collects until the condition holds; looked at about every 5 ms."""
        while not until():
            now = time.monotonic()
            for index, peer in enumerate(self._sockets):
                waiting = self._open[index]
                if waiting is None:
                    number = next(self._numbers)
                    pack = senml_cbor_float("/3303/0/5700", float(number))
                    data = encode(send_message(self._mid(index), struct.pack(">I", number), pack))
                elif now - waiting[2] > 0.5:
                    number, data = waiting[:2]
                else:
                    continue
                self._open[index] = (number, data, now)
                with contextlib.suppress(ConnectionRefusedError):
                    peer.send(data)
                    self.sent += 1
            self._collect()

    def _collect(self) -> None:
        for peer in select.select(self._sockets, [], [], 0.005)[0]:
            index = self._sockets.index(peer)
            try:
                answer = decode(peer.recv(2048))
            except ConnectionRefusedError:
                continue
            waiting = self._open[index]
            if waiting is None or answer.token != struct.pack(">I", waiting[0]):
                continue  # the second answer to a repeated Send
            assert answer.code == CHANGED, answer.dotted
            self.acknowledged.append(waiting[0])
            self._open[index] = None

    @property
    def outstanding(self) -> list[int]:
        return [each[0] for each in self._open if each is not None]

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@pytest.mark.spec("MSG-1")
def test_every_acknowledged_value_is_there_once_after_ten_kills_in_the_middle_of_load(
    serve: Callable[..., Served],
) -> None:
    server = serve(auto_provision="crash-*").start()
    load = Load(server.coap_port, "crash-", DEVICES)
    try:
        for _ in range(ROUNDS):
            before = len(load.acknowledged)
            moment = time.monotonic() + random.uniform(0.2, 0.8)
            load.run(lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
            assert len(load.acknowledged) > before
            server.kill()
            server.start()
        # What was on its way when the last server died is repeated until it is answered.
        deadline = time.monotonic() + 15
        known = set(load.outstanding)
        load.run(lambda: known <= set(load.acknowledged) or time.monotonic() > deadline)
        assert known <= set(load.acknowledged)
    finally:
        load.close()
    server.wait_projected()
    stored = Counter(int(each) for each in server.values("/3303/0/5700"))
    lost = [number for number in load.acknowledged if stored[number] == 0]
    doubled = [number for number, count in stored.items() if count > 1]
    assert not lost, f"{len(lost)} of {len(load.acknowledged)} acknowledged values are lost: {lost[:10]}"
    assert not doubled, f"stored more than once: {doubled[:10]}"
    # Nothing beyond what was acknowledged but the last ones on their way, one per device.
    assert len(stored) <= len(load.acknowledged) + DEVICES
    assert len(load.acknowledged) > 20 * ROUNDS
    assert server.stop() == 0


@pytest.mark.spec("MSG-1")
@pytest.mark.spec("R-9")
def test_a_register_repeated_after_a_kill_gets_the_first_answer_and_a_new_one_a_new_location(
    serve: Callable[..., Served],
) -> None:
    server = serve(auto_provision="crash-*").start()
    relay = Relay(server.coap_port)
    client = RawSocket(relay.port)
    data = encode(register_message("crash-again", 0x7001))
    relay.passes = False
    client.send(data)
    wait_until(lambda: relay.dropped, within_s=5, what="the relay drops the ACK")
    first = decode(relay.dropped[0])
    assert first.code == CREATED
    server.kill()
    server.start()

    relay.passes = True
    client.send(data)
    again = client.receive(5)
    assert again is not None
    assert (again.code, again.location, again.mid) == (CREATED, first.location, 0x7001)
    server.wait_projected()
    assert [each["messageType"] for each in server.messages("crash-again")] == ["registration"]
    assert server.query("stellwerk.db", "SELECT location FROM registration") == [(first.location.rpartition("/")[2],)]

    anew = client.ask(register_message("crash-again", 0x7002))
    assert anew.code == CREATED
    assert anew.location != first.location
    server.wait_projected()
    assert [each["messageType"] for each in server.messages("crash-again")] == ["registration"] * 2
    relay.close()


@pytest.mark.spec("MSG-1")
def test_a_send_repeated_after_a_kill_is_stored_once_and_a_new_one_again(serve: Callable[..., Served]) -> None:
    server = serve(auto_provision="crash-*").start()
    relay = Relay(server.coap_port)
    client = RawSocket(relay.port)
    assert client.ask(register_message("crash-send", 0x0101)).code == CREATED
    pack = senml_cbor_float("/3303/0/5700", 19.5)
    data = encode(send_message(0x0102, b"\x0a", pack))
    relay.passes = False
    client.send(data)
    wait_until(lambda: relay.dropped, within_s=5, what="the relay drops the ACK")
    server.kill()
    server.start()
    relay.passes = True

    def values() -> int:
        server.wait_projected()
        return len(server.values())

    client.send(data)
    again = client.receive(5)
    assert again is not None
    assert (again.code, again.mid, again.token) == (CHANGED, 0x0102, b"\x0a")
    assert values() == 1
    assert client.ask(send_message(0x0103, b"\x0b", pack)).code == CHANGED
    assert values() == 2
    relay.close()


WAL_SYNC = re.compile(r"\b(?:fsync|fdatasync)\(\d+<[^>]*stellwerk\.db-wal>")
SENDING = re.compile(r"\b(?:sendto|sendmsg|sendmmsg)\(\d+<UDP")
RECEIVING = re.compile(r"\b(?:recvfrom|recvmsg|recvmmsg)\(\d+<UDP")
SYNC_RESUMED = re.compile(r"<\.\.\. (?:fsync|fdatasync) resumed>")


def _order_of_calls(trace: str) -> list[str]:
    """The calls as letters, in order: r(eceived), s(ynced, when the call returned), a(nswer begun)."""
    pending: dict[str, str] = {}
    order = []
    for line in trace.splitlines():
        thread, _, words = line.partition(" ")
        if WAL_SYNC.search(words):
            if "unfinished" in words:
                pending[thread] = words
            elif words.rstrip().endswith("= 0"):
                order.append("s")
        elif SYNC_RESUMED.search(words) and thread in pending:
            del pending[thread]
            if words.rstrip().endswith("= 0"):
                order.append("s")
        elif SENDING.search(words):
            order.append("a")
        elif RECEIVING.search(words) and "EAGAIN" not in words:
            order.append("r")
    return order


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace on this machine")
def test_the_write_ahead_log_is_synced_before_the_answer_leaves(serve: Callable[..., Served], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,sendto,sendmsg,sendmmsg,recvfrom,recvmsg,recvmmsg"
    server = serve(auto_provision="crash-*")
    server.start(["strace", "-f", "-yy", "-s", "16", "-e", calls, "-e", "signal=none", "-o", str(trace)], within_s=60)
    peer = RawSocket(server.coap_port)
    # Nobody syncs by chance: each exchange begins when the one before is long over.
    starts = []
    messages = [register_message("crash-order", 1)]
    messages += [send_message(2 + each, bytes([each + 1]), senml_cbor_float("/3303/0/5700", each)) for each in range(5)]
    for message in messages:
        wait_until(lambda: _is_quiet(trace), within_s=10, what="the server is quiet", every_s=0.1)
        starts.append(trace.stat().st_size)
        assert peer.ask(message).code in (CREATED, CHANGED)
    wait_until(lambda: _is_quiet(trace), within_s=10, what="the server is quiet", every_s=0.1)
    text = trace.read_text(errors="replace")
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        order = "".join(_order_of_calls(text[begin:end]))
        assert re.match(r"[^r]*r[^a]*s[^a]*a", order), f"received, synced and answered in the order {order!r}"
    # strace holds the server's parent; the server ends by itself when asked.
    assert server.process is not None
    for each in server.pids()[1:2]:
        os.kill(each, 15)
    server.process.wait(15)


def _is_quiet(trace: Path, state: dict[str, tuple[int, float]] = {}) -> bool:  # noqa: B006
    """No system call of interest for 0.4 s."""
    size, now = trace.stat().st_size, time.monotonic()
    before = state.get(str(trace))
    if before is None or before[0] != size:
        state[str(trace)] = (size, now)
        return False
    return now - before[1] > 0.4


def _sensor(message: Message) -> Reply:
    """A device of one temperature that can be observed."""
    if message.code == GET and message.path == "/3303/0/5700":
        options: tuple[tuple[int, bytes], ...] = ((CONTENT_FORMAT, b""),)
        if message.number(OBSERVE) == 0:
            options = ((OBSERVE, uint(1)), *options)
        return Reply(CONTENT, b"20.5", options)
    return Reply(0x84)


@pytest.mark.spec("OB-3")
@pytest.mark.spec("OB-7")
@pytest.mark.spec("OB-8")
def test_a_wanted_observation_survives_a_kill_and_is_set_up_again_after_a_register(
    serve: Callable[..., Served],
) -> None:
    server = serve(auto_provision="crash-*").start()
    device = RawDevice("crash-observed", server.coap_port, _sensor)
    try:
        device.register()
        response = server.api.run("crash-observed", "OBSERVE /3303/0/5700")
        assert response["content"]["data"] == {"3303/0/5700": 20.5}
        observe = device.wait_handled(lambda each: each.message.number(OBSERVE) == 0)
        token = observe.message.token
        assert len(token) >= 4
        server.kill()
        server.start()

        assert device.notify(token, 2, b"21.5", 0, within_s=10), "the notification was reset"
        notify = server.api.wait_type("crash-observed", "notify")
        assert (notify["content"]["resourcePath"], notify["content"]["dataValue"]) == ("/3303/0/5700", 21.5)
        assert notify["labels"][:2] == response["labels"][:2]

        assert not device.notify(os.urandom(8), 3, b"99", 0, within_s=10), "an unknown token was not reset"

        seen = len(device.handled)
        device.register()
        again = device.wait_handled(lambda each: each.message.number(OBSERVE) == 0, after=seen)
        assert again.path == "/3303/0/5700"
        assert again.message.token != token
        assert device.notify(again.message.token, 2, b"22.5", 0, within_s=10)
        server.api.wait_latest("crash-observed", lambda each: each["content"].get("dataValue") == 22.5)
        assert not device.notify(token, 4, b"23.5", 0, within_s=10), "the old token still counts"
    finally:
        device.close()


def test_a_command_that_waited_for_its_device_goes_on_after_a_kill(serve: Callable[..., Served]) -> None:
    """A Read without an answer is sent again after the restart; an Execute is not, and is said to be unknown."""
    server = serve(auto_provision="crash-*").start()
    silent = [True]

    def answer(message: Message) -> Reply:
        return Reply(0) if silent[0] else _sensor(message) if message.code == GET else Reply(CHANGED)

    device = RawDevice("crash-slow", server.coap_port, answer)
    try:
        device.register(links="</>;ct=112,</1/0>,</3/0>,</3303/0>")
        # The server's own reads after a Register are answered first, one at a time.
        read = server.api.command("crash-slow", "READ /3303/0/5700")
        device.wait_handled(lambda each: each.path == "/3303/0/5700", within_s=20)
        server.kill()
        silent[0] = False
        server.start()
        label = f"outgoing_msgRN:{read}"
        # The relation of address and registration survived: the Read needs no word from the device.
        answered = server.api.wait_latest("crash-slow", lambda each: label in each.get("labels", []), within_s=40)
        assert answered["content"]["data"] == {"3303/0/5700": 20.5}

        silent[0] = True
        seen = len(device.handled)
        execute = server.api.command("crash-slow", "EXECUTE /3303/0/5605")
        device.wait_handled(lambda each: each.path == "/3303/0/5605", within_s=20, after=seen)
        server.kill()
        silent[0] = False
        server.start()
        label = f"outgoing_msgRN:{execute}"
        answered = server.api.wait_latest("crash-slow", lambda each: label in each.get("labels", []), within_s=40)
        assert answered["content"]["status"]["code"] == 408
        assert answered["content"]["status"]["reason"] == "outcome-unknown"
        executes = [each for each in device.handled if each.path == "/3303/0/5605"]
        assert len({each.message.mid for each in executes}) == 1
    finally:
        device.close()


def test_a_confirmed_stop_loses_nothing(serve: Callable[..., Served]) -> None:
    server = serve(auto_provision="crash-*").start()
    load = Load(server.coap_port, "crash-", 4)
    moment = time.monotonic() + 0.5
    load.run(lambda: time.monotonic() > moment)
    assert server.stop() == 0
    load.close()
    server.start()
    server.wait_projected()
    assert set(load.acknowledged) <= {int(each) for each in server.values("/3303/0/5700")}


def test_a_notification_that_asks_for_no_answer_is_stored_after_a_kill(serve: Callable[..., Served]) -> None:
    server = serve(auto_provision="crash-*").start()
    device = RawDevice("crash-non", server.coap_port, _sensor)
    try:
        device.register()
        server.api.run("crash-non", "OBSERVE /3303/0/5700")
        token = device.wait_handled(lambda each: each.message.number(OBSERVE) == 0).message.token
        server.kill()
        server.start()
        options = ((OBSERVE, uint(5)), (CONTENT_FORMAT, uint(SENML_CBOR)))
        pack = senml_cbor_float("/3303/0/5700", 30.5)
        device._send(encode(Message(NON, CONTENT, 0x5151, token, options, pack)))
        notify = server.api.wait_type("crash-non", "notify")
        assert notify["content"]["dataValue"] == 30.5
    finally:
        device.close()
