"""Leshan's client in a process of its own (tests/interop/leshan/InteropClient.java), ordered and heard by lines."""

import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fetched import fetch

FETCH = Path(__file__).parent / "leshan" / "fetch.sh"


@cache
def class_path(*kind: str) -> tuple[str, str]:
    """Java's class path with Leshan on it, and nothing; or nothing, and why Leshan cannot run here. ``kind``: "oscore"
    for the version that has it."""
    if shutil.which("java") is None:
        return "", "no java on this machine"
    return fetch(FETCH, *kind)


class JavaDevice:
    """One of the programs beside `FETCH`. `order` speaks to it, `wait_said` hears it."""

    def __init__(self, name: str, program: str, *arguments: str, session_s: int = 0, kind: Sequence[str] = ()) -> None:
        """``session_s``: after how long it gives a bootstrap session up, 0 as Leshan does. ``kind``: as of
        `class_path`."""
        options = [f"-Dsession={session_s}"] if session_s else []
        self._process = subprocess.Popen(
            ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", *options, "-cp", class_path(*kind)[0], program,
             *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self.said: list[str] = []
        self._heard = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._hear, name=name, daemon=True).start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.said.append(line.strip())
                self._changed.notify_all()

    def order(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")

    def wait_said(self, start: str, *, within_s: float = 20.0) -> str:
        """The next line that starts so; lines before it are passed over."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while True:
                while self._heard < len(self.said):
                    self._heard += 1
                    if self.said[self._heard - 1].startswith(start):
                        return self.said[self._heard - 1]
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(f"Leshan did not say {start!r} within {within_s} s, but {self.said}")

    def count(self, line: str) -> int:
        """How often it has said exactly this, ever."""
        with self._changed:
            return self.said.count(line)

    def stop(self) -> None:
        """De-registers and ends."""
        self.order("stop")
        self._process.wait(15)

    def kill(self) -> None:
        """Ends without a word to the server."""
        self._process.kill()
        self._process.wait(10)


class LeshanClient(JavaDevice):
    """Objects 1, 3 and 6 at one server.

    ``security``: none, ("psk", identity, key as hex), or ("rpk" or "x509", folder of `tests.dtls_keys.write_files`).
    ``cid``: the length of the connection ID it wants to hear; negative: it offers none. ``reconnects``: with a
    handshake before every update.
    """

    def __init__(
        self,
        coap_port: int,
        endpoint: str,
        *,
        lifetime: int = 300,
        answers_in: str = "SENML_CBOR",
        queue_mode: bool = False,
        security: Sequence[str] = (),
        cid: int = -1,
        reconnects: bool = False,
    ) -> None:
        scheme = "coaps" if security else "coap"
        secure = [*security, str(cid), "reconnect" if reconnects else "stay"] if security else []
        super().__init__(
            endpoint, "InteropClient", f"{scheme}://127.0.0.1:{coap_port}", endpoint, str(lifetime), answers_in,
            "queue" if queue_mode else "awake", *secure,
        )  # fmt: skip


class BootstrapClient(JavaDevice):
    """One that knows a bootstrap server and nothing else (tests/interop/leshan/BootstrapClient.java).

    ``security``: as of `LeshanClient`, for the bootstrap server. ``prefers``: the Content-Format it names, if any.
    """

    def __init__(
        self, port: int, endpoint: str, *, security: Sequence[str] = (), prefers: str = "-", session_s: int = 0
    ) -> None:
        scheme = "coaps" if security else "coap"
        url = f"{scheme}://127.0.0.1:{port}"
        super().__init__(endpoint, "BootstrapClient", url, endpoint, prefers, *security, session_s=session_s)

    def accounts(self) -> dict[str, dict[str, str]]:
        """What stands in objects 0, 1 and 2: ``{"/0/1": {"0": "coap://...", ...}}``, bytes as a hash of their own."""
        self.order("accounts")
        told: dict[str, dict[str, str]] = {}
        while (line := self.wait_said("account")) != "accounts told":
            _, path, *values = line.split(" ")
            told[path] = dict(each.split("=", 1) for each in values)
        return told


class OscoreClient(JavaDevice):
    """One that knows a bootstrap server without security and nothing else, and speaks CoAP with OSCORE
    (tests/interop/leshan/oscore/OscoreClient.java)."""

    def __init__(self, bootstrap_port: int, endpoint: str) -> None:
        url = f"coap://127.0.0.1:{bootstrap_port}"
        super().__init__(endpoint, "OscoreClient", endpoint, url, kind=("oscore",))
