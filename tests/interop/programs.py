"""A program of others that is told and heard by lines."""

import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path


class Program:
    """Runs until `close`. What it says on stdout and stderr is heard together, in pieces as they come."""

    def __init__(self, words: Sequence[str], folder: Path | None = None) -> None:
        self.words = list(words)
        self._process = subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, bufsize=0
        )
        self._said = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._hear, name=self.words[0], daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        while piece := self._process.stdout.read(4096):
            with self._changed:
                self._said += piece.decode(errors="replace")
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    @property
    def said(self) -> str:
        with self._changed:
            return self._said

    def wait_said(self, text: str, *, times: int = 1, within_s: float = 10.0) -> str:
        """Until ``text`` was said so often; what follows its last time, to the end of the line."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while self._said.count(text) < times:
                left = deadline - time.monotonic()
                if left <= 0 or (self._process.poll() is not None and not self._changed.wait(0.3)):
                    if self._said.count(text) >= times:
                        break
                    raise AssertionError(f"{' '.join(self.words)}\ndid not say {text!r} but:\n{self._said[-3000:]}")
                self._changed.wait(min(left, 0.5))
            return self._said.rpartition(text)[2].partition("\n")[0]

    def wait_end(self, within_s: float = 10.0) -> int:
        return self._process.wait(within_s)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        self._thread.join(10)
        for each in (self._process.stdin, self._process.stdout):
            assert each is not None
            each.close()
