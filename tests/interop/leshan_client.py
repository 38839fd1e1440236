"""Leshan's client in a process of its own (tests/interop/leshan/InteropClient.java), ordered and heard by lines."""

import queue
import shutil
import subprocess
import threading
import time
from functools import cache
from pathlib import Path

FETCH = Path(__file__).parent / "leshan" / "fetch.sh"


@cache
def class_path() -> tuple[str, str]:
    """Java's class path with Leshan on it, and nothing; or nothing, and why Leshan cannot run here."""
    if shutil.which("java") is None:
        return "", "no java on this machine"
    made = subprocess.run(["sh", str(FETCH)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    last_line = made.stdout.strip().rpartition("\n")[2]
    return (last_line, "") if made.returncode == 0 else ("", last_line or made.stderr.strip())


class LeshanClient:
    """Objects 1, 3 and 6 at one server. `order` speaks to it, `wait_said` hears it."""

    def __init__(self, coap_port: int, endpoint: str, *, lifetime: int = 300, answers_in: str = "SENML_CBOR") -> None:
        self._process = subprocess.Popen(
            ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", class_path()[0], "InteropClient",
             f"coap://127.0.0.1:{coap_port}", endpoint, str(lifetime), answers_in],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._hear, name=endpoint, daemon=True).start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def order(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")

    def wait_said(self, start: str, *, within_s: float = 20.0) -> str:
        """The next line that starts so; lines before it are passed over."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            self.said.append(line)
            if line.startswith(start):
                return line
        raise AssertionError(f"Leshan did not say {start!r} within {within_s} s, but {self.said}")

    def stop(self) -> None:
        """De-registers and ends."""
        self.order("stop")
        self._process.wait(15)

    def kill(self) -> None:
        """Ends without a word to the server."""
        self._process.kill()
        self._process.wait(10)
