"""A server process under test, and the Device to Cloud face as an application uses it.

Its addresses are `http`, so every client is made with ``verify=False``: without it each would first read the
certificates of this machine, which takes longer than the request, and is done again whenever a test looks.
"""

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

TOKEN = "interop"
TENANT = "default"
Json = dict[str, Any]


def free_port(*kinds: socket.SocketKind) -> int:
    """One that is free for all of ``kinds`` (datagrams where nothing is said), and that no system hands out by itself:
    a server that restarts finds it free again, whatever else was opened."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for kind in kinds or (socket.SOCK_DGRAM,):
                probes.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], Any], *, within_s: float, what: str, every_s: float = 0.02) -> Any:
    """The first true value of ``condition``; an AssertionError that names ``what`` when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(every_s)


class Served:
    """``stellwerk serve`` on free ports of the loopback; `kill` and `start` as often as you like, on the same data."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.data_dir = folder / "data"
        self.log_path = folder / "serve.log"
        self.coap_port = free_port(socket.SOCK_DGRAM, socket.SOCK_STREAM)
        self.coaps_port = free_port(socket.SOCK_DGRAM, socket.SOCK_STREAM)
        self.bootstrap_coap_port = free_port()
        self.bootstrap_coaps_port = free_port()
        self.http_port = free_port(socket.SOCK_STREAM)
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = settings
        self._api: Api | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def api(self) -> "Api":
        if self._api is None:
            self._api = Api(self.http_port)
        return self._api

    def start(self, wrapper: Sequence[str] = (), *, within_s: float = 60.0) -> "Served":
        """Returns when the server says it is ready. ``wrapper`` is a program that runs the server, with its words."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "stellwerk", "serve"],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, within_s=within_s, what="the server is ready", every_s=0.05)
        return self

    def environment(self) -> dict[str, str]:
        """What its processes are started with."""
        # Compiled modules are kept, else every start takes seconds.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("STELLWERK_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        environment |= {
            "STELLWERK_DATA_DIR": str(self.data_dir),
            "STELLWERK_HTTP_PORT": str(self.http_port),
            "STELLWERK_COAP_HOST": "127.0.0.1",
            "STELLWERK_COAP_PORT": str(self.coap_port),
            "STELLWERK_COAPS_PORT": str(self.coaps_port),
            "STELLWERK_BOOTSTRAP_COAP_PORT": str(self.bootstrap_coap_port),
            "STELLWERK_BOOTSTRAP_COAPS_PORT": str(self.bootstrap_coaps_port),
            "STELLWERK_API_TOKEN": TOKEN,
            "STELLWERK_LOG_FORMAT": "json",
        }
        return environment | {f"STELLWERK_{name.upper()}": value for name, value in self._settings.items()}

    def run(self, *words: str) -> str:
        """What another ``stellwerk`` command prints, with the same settings."""
        command = [sys.executable, "-m", "stellwerk", *words]
        environment = self.environment()
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(
                f"the server ended with {self.process.returncode}:\n{self.log_path.read_text()[-3000:]}"
            )
        with contextlib.suppress(httpx.TransportError):
            return (
                httpx.get(f"http://127.0.0.1:{self.http_port}/health/ready", timeout=2, verify=False).status_code == 200
            )
        return False

    def kill(self) -> None:
        """Not a chance to write anything."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def stop(self) -> int:
        """By SIGTERM; the exit status."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the server did not stop within 15 s of SIGTERM") from None
        finally:
            self.process = None

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    # -- looking inside --

    def pids(self) -> list[int]:
        """The server's process and its helpers."""
        found = [self.pid]
        for each in found:
            children = Path(f"/proc/{each}/task/{each}/children")
            if children.exists():
                found.extend(int(pid) for pid in children.read_text().split())
        return found

    def resident_bytes(self, pid: int | None = None) -> int:
        for line in Path(f"/proc/{pid or self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def query(self, file: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of ``stellwerk.db`` or ``projected.db``, read beside the running server."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.data_dir / file}?mode=ro", uri=True, timeout=10)
        ) as reader:
            return reader.execute(statement, parameters).fetchall()

    def wait_projected(self, within_s: float = 30.0) -> None:
        """Until everything in the journal is in the tables."""

        def level() -> bool:
            last = self.query("stellwerk.db", "SELECT coalesce(max(last), 0) FROM journal")[0][0]
            done = self.query("projected.db", "SELECT coalesce(max(seq), 0) FROM projection")[0][0]
            return bool(done >= last)

        wait_until(level, within_s=within_s, what="the journal is projected")

    def device_id(self, name: str) -> int:
        rows = self.query("stellwerk.db", "SELECT id FROM device WHERE name = ? OR node_id = ?", (name, name))
        assert rows, f"no device {name}"
        return int(rows[0][0])

    def messages(self, name: str) -> list[Json]:
        """Everything kept in the device's received-msg, oldest first: the content, with ``labels``."""
        rows = self.query(
            "projected.db",
            "SELECT content, labels FROM received_message WHERE device_id = ? ORDER BY state_tag",
            (self.device_id(name),),
        )
        return [json.loads(content) | {"labels": json.loads(labels or "[]")} for content, labels in rows]

    def answers(self, name: str, posted: str, count: int = 1, *, within_s: float = 15.0) -> list[Json]:
        """The responses to the commands of one outgoing message, oldest first, once there are ``count`` of them; an
        AssertionError when there are more, or fewer in time."""
        label = f"outgoing_msgRN:{posted}"

        def found() -> list[Json] | None:
            all_of_it = [each for each in self.messages(name) if label in each["labels"]]
            answers = [each for each in all_of_it if each["messageType"] == "response"]
            return answers if len(answers) >= count else None

        answers: list[Json] = wait_until(found, within_s=within_s, what=f"{count} answers to {posted} of {name}")
        assert len(answers) == count, answers
        return answers

    def values(self, path: str | None = None, device: str | None = None) -> list[Any]:
        """Every value in the history, as stored rows have them: of all devices and paths unless some are named."""
        rows = self.query("projected.db", "SELECT device_id, packed FROM value_history ORDER BY device_id, seq")
        wanted = None if device is None else self.device_id(device)
        return [
            json.loads(value)
            for device_id, packed in rows
            if wanted in (None, device_id)
            for each, value, _ in msgspec.msgpack.decode(packed, type=list[tuple[str, str, int]])
            if path in (None, each)
        ]

    def log_lines(self) -> Iterator[Json]:
        for line in self.log_path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


class Api:
    """The v3 mount, with full names."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/device-management-orchestrator/v3/{TENANT}",
            headers={"Authorization": f"Bearer {TOKEN}", "X-M2M-Origin": "CAdmin"},
            timeout=20,
            verify=False,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> httpx.Response:
        return self._client.get(path, headers={"X-M2M-RI": uuid.uuid4().hex})

    def delete(self, path: str) -> httpx.Response:
        return self._client.delete(path, headers={"X-M2M-RI": uuid.uuid4().hex})

    def post(self, path: str, resource_type: int, body: Json) -> httpx.Response:
        headers = {"X-M2M-RI": uuid.uuid4().hex, "Content-Type": f"application/json;ty={resource_type}"}
        return self._client.post(path, headers=headers, content=json.dumps(body))

    def provision(self, name: str, node_id: str, labels: Sequence[str] = ("d2c:1.0",), **more: Any) -> None:
        """A NoSec device that may register as ``node_id``; returns when the platform says it is there. ``more`` goes
        into the list of requests, under short names."""
        wanted = {"ni": node_id, "noRNe": name, "profe": "SCS-LwM2M", "lbl": list(labels), **more}
        made = self.post(
            "/device-provisioning/request",
            28,
            {
                "dtiot:noPRt": {
                    "cnd": "com.telekom.iot.orchestrator.nodeProvisioningRequest",
                    "opern": 1,
                    "reqLt": [wanted],
                }
            },
        )
        assert made.status_code == 201, made.text
        content = next(iter(made.json().values()))
        request_id = content.get("ri") or content["resourceID"]

        def result() -> Json | None:
            answer = self.get(f"/device-provisioning/response/responseToRequest-{request_id}")
            return next(iter(answer.json().values())) if answer.status_code == 200 else None

        outcome = wait_until(result, within_s=10, what="the provisioning is answered")
        assert (outcome.get("resSs") or outcome.get("responseStatus")) == 1, outcome

    def command(self, device: str, content: Any, **attributes: Any) -> str:
        """Posts to outgoing-msg; the name of the new message. ``attributes`` go with ``con``, under short names."""
        body: Json = {"con": content, **attributes}
        if not isinstance(content, str):
            body.setdefault("cnf", "application/json:0")
        answer = self.post(f"/device-communication/{device}/outgoing-msg", 4, {"m2m:cin": body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["contentInstance"]["resourceName"])

    def latest(self, device: str, container: str = "received-msg") -> Json | None:
        """The newest message with its ``content`` as an object, or None in an empty container."""
        answer = self.get(f"/device-communication/{device}/{container}/la")
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        message: Json = answer.json()["contentInstance"]
        if isinstance(message["content"], str):
            with contextlib.suppress(json.JSONDecodeError):
                message["content"] = json.loads(message["content"])
        return message

    def wait_latest(
        self, device: str, matches: Callable[[Json], bool], *, within_s: float = 10.0, container: str = "received-msg"
    ) -> Json:
        """The newest message once it fits; an AssertionError that shows the newest otherwise."""
        seen: list[Json | None] = [None]

        def found() -> Json | None:
            seen[0] = self.latest(device, container)
            return seen[0] if seen[0] is not None and matches(seen[0]) else None

        try:
            return wait_until(found, within_s=within_s, what="the message")  # type: ignore[no-any-return]
        except AssertionError:
            raise AssertionError(f"no such message within {within_s} s; the newest is {seen[0]}") from None

    def wait_type(self, device: str, message_type: str, *, within_s: float = 10.0) -> Json:
        """The newest message once it is of the type."""
        return self.wait_latest(device, lambda each: each["content"]["messageType"] == message_type, within_s=within_s)

    def run(self, device: str, content: Any, *, within_s: float = 15.0, is_sent: bool = True) -> Json:
        """Posts a command and waits for its response, which must carry both trace labels as its sent message does.

        With ``is_sent`` False there must be no sent message: the command was refused before. The response message.
        """
        label = f"outgoing_msgRN:{self.command(device, content)}"
        answer = self.wait_latest(device, lambda each: label in each.get("labels", []), within_s=within_s)
        assert answer["content"]["messageType"] == "response"
        labels = answer["labels"]
        assert labels[0] == label
        assert labels[1].startswith("requestId:"), labels
        # The sent message is committed before the datagram leaves, so it is there once the answer is.
        sent = self.latest(device, "sent-msg")
        if is_sent:
            assert sent is not None
            assert sent["labels"][:2] == labels[:2]
        else:
            assert sent is None or label not in sent["labels"]
        return answer
