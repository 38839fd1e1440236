"""The load: our own generator, and another one where it lies beside the project."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from servers import ROOT

SOURCES = {
    "load": Path(__file__).with_name("load.c"),
    "coapload": ROOT.parent / "shared" / "bench" / "coapload.c",
}
"""By name. Both are given the same words; the last line of output is the result, with the same members."""


@dataclass(frozen=True, slots=True)
class Generator:
    """A load generator, compiled."""

    name: str
    binary: Path

    def command(self, scenario: str, port: int, **more: float | str) -> list[str]:
        """``more``: further options, such as ``devices`` and ``window``."""
        words = {"scenario": scenario, "port": port} | more
        return [str(self.binary), *(text for name, value in words.items() for text in (f"--{name}", str(value)))]

    def run(self, scenario: str, port: int, **more: float | str) -> dict[str, Any]:
        """Run it to its end; the result it printed."""
        with self.started(scenario, port, **more) as process:
            return finish(process)

    @contextmanager
    def started(self, scenario: str, port: int, **more: float | str) -> Iterator[subprocess.Popen[str]]:
        """Run it beside the caller, who may give it lines and read its events; killed if it still runs at the end."""
        command = self.command(scenario, port, **more)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


def build(name: str, folder: Path) -> Generator:
    """Compile ``name`` into ``folder``. Ends the program with a word of advice where that does not work."""
    source = SOURCES[name]
    if not source.exists():
        raise SystemExit(f"bench: {name} is not there (expected {source}); use --load load")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("bench: no C compiler (cc) on this machine")
    binary = folder / name
    command = [compiler, "-O2", "-o", str(binary), str(source)]
    if name == "load":
        command += _SECURE if _has_libcrypto(compiler) else ["-DWITHOUT_CRYPTO"]
    subprocess.run(command, check=True)
    return Generator(name, binary)


_PARTS = [str(Path(__file__).with_name(name)) for name in ("secure.c", "oscore.c", "stream.c")]
_SECURE = ["-Wno-deprecated-declarations", *_PARTS, "-lssl", "-lcrypto"]


def _has_libcrypto(compiler: str) -> bool:
    source = b"#include <openssl/ssl.h>\nint main(void) { return EVP_aes_128_ccm() == 0 || TLS_client_method() == 0; }"
    command = [compiler, "-x", "c", "-o", os.devnull, "-", "-lssl", "-lcrypto"]
    return subprocess.run(command, input=source, capture_output=True, check=False).returncode == 0


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the end of a load; the result it printed last."""
    output, _ = process.communicate(timeout=900)
    lines = output.splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if process.returncode != 0 or "error" in found:
        raise SystemExit(f"bench: the load failed: {found.get('error', process.returncode)}")
    return found


def next_event(process: subprocess.Popen[str], wanted: str) -> dict[str, Any]:
    """Read on until our own generator tells of ``wanted``."""
    output: IO[str] | None = process.stdout
    assert output is not None
    for line in output:
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise SystemExit(f"bench: the load failed: {found['error']}")
        if found["event"] == wanted:
            return found
    raise SystemExit(f"bench: the load ended before it was {wanted}")


def refused(result: dict[str, Any]) -> int:
    """Answers other than 2.xx; what is acknowledged without a code (a notification) counts as taken."""
    return sum(number for code, number in result["codes"].items() if not code.startswith(("2.", "0.")))
