"""The README's lines, verbatim but for the ports, against `stellwerk demo`."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

READY_WITHIN_S = 20.0
STOPPED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Demo:
    http: str
    coap: str
    coaps: str


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(http: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Asks the health route until it answers 200. Fails with the log when the demo ends or takes too long."""
    give_up = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{http}/health/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"the demo was not ready: {log.read_text(encoding='utf-8', errors='replace')[-4000:]}")


@pytest.fixture
def demo(project_root: Path, tmp_path: Path) -> Iterator[Demo]:
    http = free_port(socket.SOCK_STREAM)
    coap, coaps = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(
                    Path(sys.executable).with_name("stellwerk"),
                    "demo",
                    "--http-port",
                    str(http),
                    "--coap-port",
                    str(coap),
                ),
                *("--coaps-port", str(coaps)),
            ],
            cwd=project_root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_ready(f"127.0.0.1:{http}", process, log)
            yield Demo(f"127.0.0.1:{http}", f"127.0.0.1:{coap}", f"127.0.0.1:{coaps}")
        finally:
            process.terminate()
            try:
                process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's lines need curl")
def test_the_readme_lines_do_what_the_readme_says(demo: Demo, project_root: Path) -> None:
    result = subprocess.run(
        [sys.executable, "tools/readme_check.py", "--http", demo.http, "--coap", demo.coap, "--coaps", demo.coaps],
        cwd=project_root,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert result.returncode == 0, result.stderr
