"""Speed side by side: this server, durable on disk, and a minimal aiocoap server that stores nothing.

The load is ../shared/bench/coapload.c: closed loop, confirmable messages, one request outstanding per device. Both
servers run on this machine in one run, one after the other in each round, with the load on the same cores; read the
ratios, not the rates.

    make bench                                  three scenarios, three rounds
    make bench ARGS="--scenario send --seconds 60"
    make bench ARGS="--write docs/performance.md"
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOAD_SOURCE = ROOT.parent / "shared" / "bench" / "coapload.c"
AIMS = {"update": 5.0, "send": 3.0}
MARKERS = ("<!-- benchmark: begin -->", "<!-- benchmark: end -->")
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    options = _options()
    if not LOAD_SOURCE.exists():
        print("bench: ../shared/bench/coapload.c is not beside the project; nothing to measure with", file=sys.stderr)
        return 1
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("bench: no C compiler (cc) on this machine", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        # On the disk of the project, not on /tmp, which may be memory.
        base = Path(options.folder) if options.folder else ROOT / "build" / "bench"
        base.mkdir(parents=True, exist_ok=True)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base)))
        load = folder / "coapload"
        subprocess.run([compiler, "-O2", "-o", str(load), str(LOAD_SOURCE)], check=True)
        results = [result for scenario in options.scenario for result in _compare(scenario, load, folder, options)]
    text = _report(results, options)
    print(text)
    if options.write:
        _write(Path(options.write), text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=("register", "update", "send", "notify"))
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("stellwerk", "aiocoap"), help="measure one side only, without ratios")
    parser.add_argument("--folder", help="where the database is written (default: build/bench in the project)")
    parser.add_argument("--write", metavar="FILE", help="put the table into FILE between its benchmark markers")
    parser.add_argument("--profile", metavar="FILE", help="py-spy's record of the server into FILE (needs py-spy)")
    chosen = parser.parse_args()
    chosen.scenario = chosen.scenario or ["register", "update", "send"]
    return chosen


# -- measuring --


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of the load against one server; CPU in microseconds per request, by process."""

    scenario: str
    server: str
    load: dict[str, Any]
    cpu: dict[str, float]
    lag_s: float | None = None


def _compare(scenario: str, load: Path, folder: Path, options: argparse.Namespace) -> Iterator[Measured]:
    for turn in range(options.rounds):
        sides = [options.only] if options.only else ["stellwerk", "aiocoap"]
        # Who goes first takes turns, so that a machine that warms up or fills up favours nobody.
        for side in sides if turn % 2 == 0 else reversed(sides):
            if side == "stellwerk":
                with _stellwerk(folder / f"{scenario}-{turn}", options.profile) as (port, pid, data_dir):
                    yield _measure(scenario, side, load, port, pid, options, data_dir)
            elif scenario != "notify":
                with _aiocoap() as (port, pid):
                    yield _measure(scenario, side, load, port, pid, options, None)


def _measure(
    scenario: str, side: str, load: Path, port: int, pid: int, options: argparse.Namespace, data_dir: Path | None
) -> Measured:
    words = ["--port", port, "--devices", options.devices, "--window", options.window]
    words += ["--seconds", options.seconds, "--scenario", scenario]
    before = _cpu_seconds(pid)
    ran = subprocess.run([str(load), *map(str, words)], capture_output=True, text=True, check=False, timeout=400)
    print(f"{scenario:>9} {side:>9}: {ran.stdout.strip() or ran.stderr.strip()}", file=sys.stderr, flush=True)
    found = json.loads(ran.stdout or "{}")
    if ran.returncode != 0 or "error" in found:
        raise SystemExit(f"bench: the load failed: {found.get('error') or ran.stderr}")
    lag_s = None if data_dir is None else _catch_up_s(data_dir)
    after = _cpu_seconds(pid)
    # The fleet registers before the measured time begins, unless registering is what is measured.
    requests = found["answered"] + (0 if scenario == "register" else options.devices)
    cpu = {name: (after[name] - before.get(name, 0.0)) / requests * 1e6 for name in after}
    return Measured(scenario, side, found, cpu, lag_s)


def _cpu_seconds(pid: int) -> dict[str, float]:
    """CPU time of a process and its helpers since they started: server, projector."""
    found: dict[str, float] = {}
    waiting = [(pid, "server")]
    while waiting:
        each, name = waiting.pop()
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        except OSError:
            continue
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
        waiting.extend((int(child), "projector") for child in children)
    return found


def _catch_up_s(data_dir: Path) -> float:
    """How long the projector takes after the load to reach the journal's end."""
    import sqlite3

    started = time.monotonic()
    while time.monotonic() - started < 120:
        last = _number(sqlite3, data_dir / "stellwerk.db", "SELECT coalesce(max(last), 0) FROM journal")
        if _number(sqlite3, data_dir / "projected.db", "SELECT coalesce(max(seq), 0) FROM projection") >= last:
            return time.monotonic() - started
        time.sleep(0.05)
    return float("inf")


def _number(sqlite3: Any, file: Path, query: str) -> int:
    reader = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)
    try:
        return int(reader.execute(query).fetchone()[0])
    finally:
        reader.close()


# -- the two servers --


@contextmanager
def _stellwerk(data_dir: Path, profile: str | None) -> Iterator[tuple[int, int, Path]]:
    port, http_port = _free_port(socket.SOCK_DGRAM), _free_port(socket.SOCK_STREAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
    environment |= {
        "STELLWERK_DATA_DIR": str(data_dir),
        "STELLWERK_HTTP_PORT": str(http_port),
        "STELLWERK_COAP_HOST": "127.0.0.1",
        "STELLWERK_COAP_PORT": str(port),
        "STELLWERK_AUTO_PROVISION": "load-*",
        "STELLWERK_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "stellwerk", "serve"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        recorder = None
        try:
            _wait_ready(http_port, process)
            if profile:
                recorder = subprocess.Popen(
                    ["py-spy", "record", "-f", "raw", "-r", "200", "-o", profile, "-p", str(process.pid)],
                    stdout=subprocess.DEVNULL,
                )
            yield port, process.pid, data_dir
        finally:
            if recorder is not None:
                recorder.send_signal(2)
                recorder.wait(30)
            process.terminate()
            process.wait(30)
    shutil.rmtree(data_dir, ignore_errors=True)


def _wait_ready(http_port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"bench: the server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/health/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise SystemExit("bench: the server was not ready within 30 s")


@contextmanager
def _aiocoap() -> Iterator[tuple[int, int]]:
    port = _free_port(socket.SOCK_DGRAM)
    command = [sys.executable, str(Path(__file__).with_name("aiocoap_server.py")), str(port)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_ping(port)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(10)


def _wait_ping(port: int) -> None:
    """Until a CoAP ping (an empty confirmable message) is answered."""
    deadline = time.monotonic() + 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        probe.connect(("127.0.0.1", port))
        while time.monotonic() < deadline:
            try:
                probe.send(b"\x40\x00\x00\x01")
                probe.recv(64)
                return
            except OSError:
                time.sleep(0.05)
    raise SystemExit("bench: aiocoap did not answer within 20 s")


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- reporting --


def _report(results: list[Measured], options: argparse.Namespace) -> str:
    lines = [
        f"{options.devices} devices, window {options.window}, {options.seconds:g} s a run, median of {options.rounds} "
        f"rounds; {os.cpu_count()} cores shared by server, projector and load; Python {platform.python_version()}.",
        "",
        "*again*: retransmissions of the load; *CPU us*: microseconds per request and process; *lag*: how long the "
        "projector needed after the last answer.",
        "",
        "| scenario | server | per second | ratio | p50 ms | p99 ms | max ms | again | not 2.xx | CPU us | lag s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for scenario in dict.fromkeys(each.scenario for each in results):
        rates = {
            side: statistics.median(each.load["per_second"] for each in results if _is(each, scenario, side))
            for side in dict.fromkeys(each.server for each in results if each.scenario == scenario)
        }
        for side, rate in rates.items():
            runs = [each for each in results if _is(each, scenario, side)]
            ratio = rate / rates["aiocoap"] if "aiocoap" in rates and side != "aiocoap" else None
            lines.append(_row(scenario, side, rate, ratio, runs))
    return "\n".join(lines)


def _is(measured: Measured, scenario: str, side: str) -> bool:
    return measured.scenario == scenario and measured.server == side


def _row(scenario: str, side: str, rate: float, ratio: float | None, runs: list[Measured]) -> str:
    def median(name: str) -> float:
        return statistics.median(each.load[name] for each in runs)

    bad = sum(count for each in runs for code, count in each.load["codes"].items() if not code.startswith("2."))
    again = sum(each.load["retransmissions"] for each in runs)
    names = dict.fromkeys(name for each in runs for name in each.cpu)
    cpu = ", ".join(f"{name} {statistics.median(each.cpu.get(name, 0.0) for each in runs):.0f}" for name in names)
    lags = [each.lag_s for each in runs if each.lag_s is not None]
    aim = f" (aim {AIMS[scenario]:g})" if ratio is not None and scenario in AIMS else ""
    cells = [
        scenario,
        side,
        f"{rate:,.0f}",
        f"{ratio:.1f}x{aim}" if ratio is not None else "",
        f"{median('p50_ms'):.2f}",
        f"{median('p99_ms'):.2f}",
        f"{median('max_ms'):.0f}",
        str(again),
        str(bad),
        cpu,
        f"{statistics.median(lags):.1f}" if lags else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _write(target: Path, text: str) -> None:
    """Between the markers; they are put at the end where there are none."""
    before = target.read_text() if target.exists() else ""
    begin, end = MARKERS
    if begin in before and end in before:
        head, _, rest = before.partition(begin)
        after = f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    else:
        after = f"{before.rstrip()}\n\n{begin}\n{text}\n{end}\n"
    target.write_text(after)


if __name__ == "__main__":
    raise SystemExit(main())
