"""The brake under real load: a projector that stands still, a disk that is full; nothing acknowledged is lost, and the
server goes on by itself."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from raw_coap import (
    CHANGED,
    CON,
    CREATED,
    POST,
    Message,
    RawSocket,
    path_options,
    register_message,
    send_message,
    senml_cbor_float,
)
from served import Served, wait_until

MAX_AGE = 14
UNAVAILABLE = 0xA3
SPARE_BYTES = 1024 * 1024


class Device:
    """Registers, then sends numbers, each once; what was answered is counted by code."""

    def __init__(self, server: Served, name: str) -> None:
        self._socket = RawSocket(server.coap_port)
        answer = self._socket.ask(register_message(name, self._socket.next_mid(), lifetime=3600))
        assert answer.code == CREATED, answer.dotted
        self.location = answer.location
        self.next_number = 0
        self.stored: list[int] = []
        self.codes: Counter[int] = Counter()

    def send(self, text_bytes: int = 0) -> Message:
        """One Send of a number, and perhaps of a text so long."""
        self.next_number += 1
        pack = senml_cbor_float("/3303/0/5700", float(self.next_number))
        if text_bytes:
            # A second record: {n: "/3303/0/5750", vs: the text}.
            name = b"/3303/0/5750"
            text = b"x" * text_bytes
            head = bytes([0x60 + len(name)])
            pack = b"\x82" + pack[1:] + b"\xa2\x00" + head + name + b"\x03\x79" + len(text).to_bytes(2, "big") + text
        answer = self._ask(send_message(self._socket.next_mid(), os.urandom(4), pack))
        if answer.code == CHANGED:
            self.stored.append(self.next_number)
        self.codes[answer.code] += 1
        return answer

    def update(self) -> Message:
        return self._ask(Message(CON, POST, self._socket.next_mid(), os.urandom(4), path_options(self.location)))

    def _ask(self, message: Message) -> Message:
        # One that is answered is not repeated, so a repetition would be one that was left without a word.
        return self._socket.ask(message, within_s=20, retry_s=20)

    def close(self) -> None:
        self._socket.close()


def max_age(answer: Message) -> int:
    assert answer.code == UNAVAILABLE, answer.dotted
    found = answer.number(MAX_AGE)
    assert found is not None
    assert found > 0
    return found


def metrics(server: Served) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{server.http_port}/metrics", verify=False).raise_for_status().text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def readiness(server: Served) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.http_port}/health/ready", timeout=10, verify=False)


def until_stored(device: Device, within_s: float) -> None:
    wait_until(lambda: device.send().code == CHANGED, within_s=within_s, what="Sends are taken again", every_s=0.1)


def assert_all_there(server: Served, device: Device) -> None:
    """What was acknowledged is in the tables, once; what was refused is not there."""
    server.wait_projected()
    found = Counter(int(each) for each in server.values("/3303/0/5700"))
    assert found == Counter(device.stored)


@pytest.mark.spec("MSG-14")
def test_a_projector_that_stands_still_costs_sends_and_no_registration(serve: Callable[..., Served]) -> None:
    server = serve(auto_provision="brake-*", brake_lag_s="1").start()
    device = Device(server, "brake-1")
    (projector,) = server.pids()[1:]
    for _ in range(50):
        assert device.send().code == CHANGED
    server.wait_projected()
    os.kill(projector, signal.SIGSTOP)
    try:
        wait_until(lambda: device.send().code == UNAVAILABLE, within_s=10, what="Sends are refused", every_s=0.05)
        assert max_age(device.send()) <= 60
        figures = metrics(server)
        assert figures["stellwerk_brake_level"] >= 1
        assert figures["stellwerk_projection_lag_seconds"] >= 1
        assert figures['stellwerk_brake_refused_total{what="send",why="lag-seconds"}'] >= 2
        newcomer = RawSocket(server.coap_port)
        register = register_message("brake-2", 1)
        wait_until(
            lambda: (
                newcomer.ask(Message(CON, POST, newcomer.next_mid(), b"t", register.options, register.payload)).code
                == UNAVAILABLE
            ),
            within_s=10,
            what="Registers are refused",
            every_s=0.2,
        )
        newcomer.close()
        # Stuck for long: said to whoever asks, and what keeps a registration goes on.
        wait_until(lambda: readiness(server).status_code == 503, within_s=20, what="not ready", every_s=0.2)
        (missing,) = readiness(server).json()["missing"]
        assert missing.startswith("the projector is stuck: ")
        assert device.update().code == CHANGED
        assert metrics(server)["stellwerk_projector_stuck"] == 1
    finally:
        os.kill(projector, signal.SIGCONT)
    until_stored(device, 15)
    wait_until(lambda: readiness(server).status_code == 200, within_s=10, what="ready again")
    assert_all_there(server, device)
    assert [each["event"] for each in server.log_lines() if each["event"].startswith("projector.")] == [
        "projector.stuck",
        "projector.goes_on",
    ]
    figures = metrics(server)
    assert (figures["stellwerk_brake_level"], figures["stellwerk_projector_restarts_total"]) == (0, 0)
    device.close()


def test_a_projector_that_is_killed_under_load_is_replaced_and_nothing_is_missing(
    serve: Callable[..., Served],
) -> None:
    server = serve(auto_provision="brake-*").start()
    device = Device(server, "brake-1")
    for _ in range(3):
        (projector,) = server.pids()[1:]
        for _ in range(100):
            device.send()
        os.kill(projector, signal.SIGKILL)
        wait_until(
            lambda projector=projector: [each for each in server.pids()[1:] if each != projector],  # type: ignore[misc]
            within_s=10,
            what="another projector",
        )
    assert device.codes == {CHANGED: 300}
    assert_all_there(server, device)
    assert metrics(server)["stellwerk_projector_restarts_total"] == 3
    device.close()


class Disk:
    """A data directory whose room `fill` takes away and `free` gives back."""

    folder: Path

    def fill(self, server: Served) -> None:
        raise NotImplementedError

    def free(self, server: Served) -> None:
        raise NotImplementedError


class TinyDisk(Disk):
    """A file system of its own, in memory; needs root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mnt"
        self.folder.mkdir()
        options = ["mount", "-t", "tmpfs", "-o", "size=64m", "stellwerk-test", str(self.folder)]
        tried = subprocess.run(options, capture_output=True, text=True) if shutil.which("mount") else None
        if tried is None or tried.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {tried and tried.stderr.strip()}")

    def fill(self, server: Served) -> None:
        with (self.folder / "filler").open("wb") as filler:
            filler.write(bytes(shutil.disk_usage(self.folder).free - SPARE_BYTES))

    def free(self, server: Served) -> None:
        (self.folder / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


class LimitedFiles(Disk):
    """No file of the server's may grow: the system refuses such a write as a broken disk does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: Served) -> None:
        largest = max(each.stat().st_size for each in (self.folder / "data").iterdir())
        self._limit(server, largest + SPARE_BYTES)

    def free(self, server: Served) -> None:
        self._limit(server, resource.RLIM_INFINITY)

    def _limit(self, server: Served, size: int) -> None:
        for pid in server.pids():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def close(self) -> None:
        pass


@pytest.fixture(params=[TinyDisk, LimitedFiles])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = request.param(tmp_path)
    yield made
    made.close()


@pytest.mark.spec("MSG-14")
def test_a_full_disk_is_a_503_until_there_is_room_and_costs_nothing_that_was_acknowledged(disk: Any) -> None:
    server = Served(disk.folder, auto_provision="brake-*")
    server.start()
    try:
        device = Device(server, "brake-1")
        for _ in range(20):
            assert device.send().code == CHANGED
        server.wait_projected()
        disk.fill(server)
        wait_until(lambda: device.send(8_000).code == UNAVAILABLE, within_s=60, what="Sends are refused", every_s=0.001)
        wait_until(lambda: device.update().code == UNAVAILABLE, within_s=5, what="Updates are refused", every_s=0.05)
        assert max_age(device.update()) > 0
        answer = server.api.post("/device-communication/brake-1/outgoing-msg", 4, {"m2m:cin": {"con": "READ /3/0/0"}})
        assert answer.status_code == 500
        assert "cannot write" in answer.json()["m2m:dbg"]
        assert int(answer.headers["retry-after"]) > 0
        assert any("store" in each for each in readiness(server).json()["missing"])
        assert httpx.get(f"http://127.0.0.1:{server.http_port}/health/live", verify=False).status_code == 200

        def is_braked() -> bool:
            figures = metrics(server)
            return (figures["stellwerk_store_failing"], figures["stellwerk_brake_level"]) == (1, 3)

        # It is looked at a few times a second.
        wait_until(is_braked, within_s=5, what="the brake is on")
        # For a while, with people and devices asking.
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            device.send(8_000)
        disk.free(server)
        until_stored(device, 15)
        wait_until(lambda: readiness(server).status_code == 200, within_s=10, what="ready again")
        wait_until(lambda: device.update().code == CHANGED, within_s=10, what="Updates are taken again", every_s=0.1)
        for _ in range(20):
            assert device.send(8_000).code == CHANGED
        assert set(device.codes) == {CHANGED, UNAVAILABLE}
        assert_all_there(server, device)
        events = [each["event"] for each in server.log_lines() if each["event"] in ("store.failing", "store.recovered")]
        assert (events[0], events[-1]) == ("store.failing", "store.recovered")
        assert len(events) <= 6
        # And what is on disk is whole.
        server.kill()
        server.start()
        assert_all_there(server, device)
        device.close()
        assert server.stop() == 0
    finally:
        server.close()


def test_a_server_that_starts_on_a_full_disk_says_so_in_a_line_and_starts_once_there_is_room(tmp_path: Path) -> None:
    disk = TinyDisk(tmp_path)
    server = Served(disk.folder, auto_provision="brake-*")
    server.log_path = tmp_path / "serve.log"
    try:
        with (disk.folder / "filler").open("wb") as filler:
            filler.write(bytes(shutil.disk_usage(disk.folder).free - SPARE_BYTES // 10))
        with pytest.raises(AssertionError, match="the server ended"):
            server.start()
        server.process = None
        said = server.log_path.read_text()
        assert "is full" in said
        assert "Traceback" not in said
        disk.free(server)
        server.start()
        device = Device(server, "brake-1")
        until_stored(device, 10)
        assert_all_there(server, device)
        device.close()
    finally:
        server.close()
        disk.close()
