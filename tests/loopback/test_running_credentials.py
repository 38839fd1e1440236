"""`stellwerk credentials` and `stellwerk keys` beside a running server: what they change acts within seconds."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message, decode_message, encode_message
from stellwerk.coap.options import encode_uint, sort_options

STELLWERK = [sys.executable, "-m", "stellwerk"]
KEY = "00112233445566778899aabbccddeeff"


def line_with(event: str, stream: IO[str]) -> Any:
    return next(json.loads(line) for line in stream if event in line)


def until(event: str, stream: IO[str]) -> set[str]:
    """What is logged up to ``event``."""
    events: set[str] = set()
    while event not in events:
        # The first start's password stands between the lines.
        if (line := next(stream)).startswith("{"):
            events.add(json.loads(line)["event"])
    return events


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
    environment = bare | {
        "STELLWERK_DATA_DIR": str(folder / "data"),
        "STELLWERK_HTTP_PORT": "off",
        "STELLWERK_COAP_HOST": "127.0.0.1",
        "STELLWERK_COAP_PORT": "0",
        "STELLWERK_COAPS_PORT": "0",
        "STELLWERK_BOOTSTRAP_COAP_PORT": "0",
        "STELLWERK_BOOTSTRAP_COAPS_PORT": "0",
        "STELLWERK_LOG_FORMAT": "json",
        "STELLWERK_AUTO_PROVISION": "meter-*",
        "STELLWERK_AUTO_READ": "",
    }
    server = subprocess.Popen([*STELLWERK, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield server, environment
    finally:
        server.terminate()
        server.communicate(timeout=20)


def register(device: socket.socket, mid: int) -> int:
    options = [(11, b"rd"), (12, encode_uint(40)), (15, b"ep=meter-1"), (15, b"lwm2m=1.1")]
    device.send(encode_message(Message(CON, codes.POST, mid, b"t", sort_options(options), b"</1/0>,</3/0>")))
    return decode_message(device.recv(2000)).code


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.spec("SEC-9", "Platform 4")
def test_a_key_that_a_command_gives_ends_the_registration_and_is_asked_for_from_then_on(tmp_path: Path) -> None:
    with served(tmp_path) as (server, environment), socket.socket(type=socket.SOCK_DGRAM) as device:
        assert server.stderr is not None
        bound = re.search(r"127\.0\.0\.1:(\d+)", str(line_with("server.ready", server.stderr)["coap"]))
        assert bound is not None
        device.settimeout(20)
        device.connect(("127.0.0.1", int(bound[1])))
        assert register(device, 1) == codes.CREATED
        command = [*STELLWERK, "credentials", "set", "meter-1", "--psk", f"meter-1:{KEY}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == "meter-1\tpre-shared key, identity 'meter-1'\n"
        ended = line_with("registration.ended", server.stderr)
        assert ended["endpoint_name"] == "meter-1"
        assert line_with("device.credentials_revoked", server.stderr)["security"] == "psk"
        assert register(device, 2) == codes.FORBIDDEN
        back = [*STELLWERK, "credentials", "set", "meter-1", "--none"]
        subprocess.run(back, env=environment, capture_output=True, timeout=30, check=True)
        line_with("device.credentials_revoked", server.stderr)
        assert register(device, 3) == codes.CREATED


def stellwerk(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run([*STELLWERK, *words], env=environment, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.spec("SEC-9", "Platform 4", "Platform 5")
def test_what_commands_give_a_device_lets_it_in_and_what_they_take_ends_its_session(tmp_path: Path) -> None:
    out = tmp_path / "device"
    with served(tmp_path) as (server, environment):
        assert server.stderr is not None
        ready = line_with("server.ready", server.stderr)
        (bound,) = ready["coaps"]
        # Auto-provisioning makes the device without credentials; from then on it is theirs to have.
        with socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.settimeout(20)
            plain.connect(("127.0.0.1", int(ready["coap"][0].rpartition(":")[2])))
            assert register(plain, 1) == codes.CREATED
        stellwerk(environment, "keys", "issue", "meter-1", "--out", str(out))
        ways = [
            (["--rpk", f"{out}/meter-1.pub"], ["--rpk", f"{out}/meter-1.key"]),
            (["--cn", "meter-1"], ["--cert", f"{out}/meter-1.pem", "--key", f"{out}/meter-1.key"]),
            (["--psk", f"meter-1:{KEY}"], ["--psk", f"meter-1:{KEY}"]),
        ]
        device: subprocess.Popen[bytes] | None = None
        try:
            for given, brought in ways:
                stellwerk(environment, "credentials", "set", "meter-1", *given)
                ended = until("device.credentials_revoked", server.stderr)
                assert {"registration.ended", *(["session.ended"] if device else [])} <= ended
                if device is not None:
                    device.kill()
                    device.wait(20)
                sim = [*STELLWERK, "sim", "--server", f"coaps://{bound}", "--prefix", "meter-", *brought]
                device = subprocess.Popen(sim, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                assert "session.established" in until("registration.created", server.stderr)
        finally:
            if device is not None:
                device.kill()
                device.wait(20)
