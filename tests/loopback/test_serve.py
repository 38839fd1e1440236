"""``stellwerk serve`` as a process: what it says to whoever starts it wrongly, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

TOKEN = "a-token"


class Served:
    """A started server; ``url`` is known once it said where it listens."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stellwerk", "serve"],
            env=environment(data_dir, **settings),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def wait_ready(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "server.ready" in line:
                found = re.search(r'"http":\s*"([^"]+)"', line)
                assert found is not None
                self.url = f"http://{found[1]}"
                return
        raise AssertionError("the server ended before it was ready")

    def end(self, number: signal.Signals) -> float:
        """Send the signal; the seconds until the process is gone."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return time.monotonic() - started


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
    return bare | {
        "STELLWERK_DATA_DIR": str(data_dir),
        "STELLWERK_HTTP_PORT": "0",
        "STELLWERK_COAP_HOST": "127.0.0.1",
        "STELLWERK_COAP_PORT": "0",
        "STELLWERK_COAPS_PORT": "0",
        "STELLWERK_BOOTSTRAP_COAP_PORT": "0",
        "STELLWERK_BOOTSTRAP_COAPS_PORT": "0",
        "STELLWERK_API_TOKEN": TOKEN,
        "STELLWERK_LOG_FORMAT": "json",
        **settings,
    }


def run_serve(data_dir: Path, **settings: str) -> tuple[int, str]:
    """Of a start that has to fail: the exit status and what was said."""
    done = subprocess.run(
        [sys.executable, "-m", "stellwerk", "serve"],
        env=environment(data_dir, **settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Served]]:
    started: list[Served] = []

    def start() -> Served:
        started.append(Served(tmp_path / "data"))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list children in /proc")
    return [int(each) for each in listed.read_text().split()]


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie that waits for somebody to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_a_second_server_on_a_data_directory_is_refused_and_the_first_works_on(serve, tmp_path: Path):
    first = serve()
    code, said = run_serve(tmp_path / "data")
    assert code == 2
    assert "Traceback" not in said
    assert f"process {first.process.pid}" in said
    assert str(tmp_path / "data") in said
    assert httpx.get(first.url + "/health/ready", verify=False).status_code == 200
    assert first.end(signal.SIGTERM) < 5
    assert first.process.returncode == 0
    serve().end(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_under_load_stops_within_five_seconds_and_leaves_nothing_running(serve, number):
    server = serve()
    helpers = children(server.process.pid)
    assert helpers
    headers = {"Authorization": f"Bearer {TOKEN}", "X-M2M-Origin": "CTest", "X-M2M-RI": "1"}
    url = server.url + "/device-management-orchestrator/v3/default/device-provisioning/request"
    body = {"dtiot:noPRt": {"opern": 2, "reqLt": [{"noRNe": f"nobody-{number}"} for number in range(200)]}}
    answered = threading.Event()

    def ask() -> None:
        with suppress(httpx.TransportError), httpx.Client(verify=False) as http:
            while True:
                http.post(url, json=body, headers={**headers, "Content-Type": "application/json;ty=28"})
                answered.set()

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for each in askers:
        each.start()
    assert answered.wait(10)
    assert server.end(number) < 5
    assert server.process.returncode == 0
    for each in askers:
        each.join(10)
    assert not any(runs(each) for each in helpers)


@pytest.mark.slow
def test_the_projector_ends_with_a_server_that_was_killed_and_another_may_start(serve):
    server = serve()
    helpers = children(server.process.pid)
    assert helpers
    server.end(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(runs(each) for each in helpers):
        assert time.monotonic() < deadline
        os.sched_yield()
    again = serve()
    assert httpx.get(again.url + "/health/ready", verify=False).status_code == 200


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        pytest.param({"STELLWERK_HOST": "nobody.invalid"}, "TCP nobody.invalid:0", marks=pytest.mark.slow),
        pytest.param({"STELLWERK_COAP_HOST": "nobody.invalid"}, "UDP nobody.invalid:0", marks=pytest.mark.slow),
        ({"STELLWERK_DATA_DIR": "/dev/null"}, "it is no directory"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_a_line(tmp_path: Path, settings: dict[str, str], word: str):
    code, said = run_serve(tmp_path, **settings)
    assert code == 2
    assert "Traceback" not in said
    assert word in said
