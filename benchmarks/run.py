"""Speed side by side: this server, durable on disk, and a minimal aiocoap server that stores nothing.

Both run on this machine in one run, in turn in each round, with the load on the same cores; read the ratios, not the
rates. The load is benchmarks/load.c, or another generator with ``--load``.

    make bench                                  all scenarios at two windows, three rounds
    make bench ARGS="--scenario send --window 64 --seconds 60"
    make bench ARGS="--write docs/performance.md"
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import api
import generators
import reports
import servers
from generators import Generator
from servers import Running

AIMS = {"update": 6.0, "send": 4.0}
OBSERVED = "/3303/0"
"""What is observed of each device: an instance, whose notifications carry four values."""


def main() -> int:
    options = _options()
    with scratch(options.folder) as folder:
        load = generators.build(options.load, folder)
        results = [
            result
            for scenario in options.scenario
            for window in options.window
            for result in _compare(scenario, window, load, folder, options)
        ]
    reports.publish("ratios", _report(results, options), options.write)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=("register", "update", "send", "notify"))
    parser.add_argument("--window", action="append", type=int)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", choices=tuple(generators.SOURCES), default="load")
    parser.add_argument("--only", choices=("stellwerk", "aiocoap"), help="measure one side only, without ratios")
    parser.add_argument("--folder", help="where the database is written (default: build/bench in the project)")
    parser.add_argument("--write", metavar="FILE", help="put the table into FILE between its markers")
    parser.add_argument("--profile", metavar="FILE", help="py-spy's record of the server into FILE (needs py-spy)")
    chosen = parser.parse_args()
    chosen.scenario = chosen.scenario or ["register", "update", "send", "notify"]
    chosen.window = chosen.window or [64, 256]
    return chosen


@contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """A folder for databases and programs: on the disk of the project, not in /tmp, which may be memory."""
    base = Path(folder) if folder else servers.ROOT / "build" / "bench"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as made:
        yield Path(made)


# -- measuring --


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of the load against one server; CPU in microseconds per request, by process."""

    scenario: str
    window: int
    server: str
    load: dict[str, Any]
    cpu: dict[str, float]
    lag_s: float | None = None


def _compare(
    scenario: str, window: int, load: Generator, folder: Path, options: argparse.Namespace
) -> Iterator[Measured]:
    for turn in range(options.rounds):
        sides = [options.only] if options.only else ["stellwerk", "aiocoap"]
        # Who goes first takes turns, so that a machine that warms up or fills up favours nobody.
        for side in sides if turn % 2 == 0 else reversed(sides):
            if side == "stellwerk":
                with servers.stellwerk(folder / f"{scenario}-{window}-{turn}", profile=options.profile) as server:
                    yield _measure(scenario, window, load, server, options)
            else:
                with servers.aiocoap(OBSERVED if scenario == "notify" else None) as server:
                    yield _measure(scenario, window, load, server, options)


def _measure(scenario: str, window: int, load: Generator, server: Running, options: argparse.Namespace) -> Measured:
    before = servers.cpu_seconds(server.pid)
    with load.started(
        scenario, server.port, devices=options.devices, window=window, seconds=options.seconds
    ) as process:
        if scenario == "notify" and server.http_port:
            names = [f"load-{number:08d}" for number in range(options.devices)]
            asyncio.run(api.observe_all(server.http_port, names, OBSERVED))
        found = generators.finish(process)
    print(f"{server.name:>9}: {json.dumps(_brief(found))}", file=sys.stderr, flush=True)
    lag_s = servers.catch_up_s(server.data_dir) if server.http_port else None
    after = servers.cpu_seconds(server.pid)
    # The fleet registers before the measured time begins, unless registering is what is measured.
    requests = found["answered"] + (0 if scenario == "register" else options.devices)
    cpu = {name: (after[name] - before.get(name, 0.0)) / requests * 1e6 for name in after}
    return Measured(scenario, window, server.name, found, cpu, lag_s)


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "series"}


# -- reporting --


def _report(results: list[Measured], options: argparse.Namespace) -> str:
    rows = []
    for scenario, window in dict.fromkeys((each.scenario, each.window) for each in results):
        runs = [each for each in results if (each.scenario, each.window) == (scenario, window)]
        by_side = {
            side: [each for each in runs if each.server == side] for side in dict.fromkeys(e.server for e in runs)
        }
        yardstick = _rate(by_side["aiocoap"]) if len(by_side) > 1 else None
        for side, of_side in sorted(by_side.items(), reverse=True):
            rows.append(_row(of_side, _rate(of_side) / yardstick if yardstick and side != "aiocoap" else None))
    columns = ["scenario", " window", "server", " per second", " ratio", " p50 ms", " p99 ms", " max ms", " again"]
    columns += [" not 2.xx", "CPU us", " lag s"]
    return "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices} devices, {options.seconds:g} s a run, median of {options.rounds} rounds, load "
            f"generator `{options.load}`; {reports.machine()}, the cores shared by server, projector and load.",
            "*again*: retransmissions of the load; *CPU us*: microseconds per request and process; *lag*: how long the "
            "projector needed after the last answer.",
            reports.table(columns, rows),
        ]
    )


def _rate(runs: list[Measured]) -> float:
    return statistics.median(each.load["per_second"] for each in runs)


def _row(runs: list[Measured], ratio: float | None) -> list[str]:
    def median(name: str) -> float:
        return statistics.median(each.load[name] for each in runs)

    first = runs[0]
    names = dict.fromkeys(name for each in runs for name in each.cpu)
    lags = [each.lag_s for each in runs if each.lag_s is not None]
    aim = f" (aim {AIMS[first.scenario]:g})" if ratio is not None and first.scenario in AIMS else ""
    return [
        first.scenario,
        str(first.window),
        first.server,
        f"{_rate(runs):,.0f}",
        f"{ratio:.1f}x{aim}" if ratio is not None else "",
        f"{median('p50_ms'):.2f}",
        f"{median('p99_ms'):.2f}",
        f"{median('max_ms'):.0f}",
        str(sum(each.load["retransmissions"] for each in runs)),
        str(sum(generators.refused(each.load) for each in runs)),
        ", ".join(f"{name} {statistics.median(each.cpu.get(name, 0.0) for each in runs):.0f}" for name in names),
        f"{statistics.median(lags):.1f}" if lags else "",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
