"""Secure devices side by side: this server, durable on disk, and Californium with Scandium, which stores nothing.

Handshakes (PSK, and ECDHE with raw public keys on both sides), and updates in their sessions (CCM_8 with a connection
ID) beside plain ones. Both sides run in turn in each round, the load on the same cores; read the ratios and the CPU of
the servers, not the rates.

    make bench BENCH=dtls
    make bench BENCH=dtls ARGS="--only stellwerk --scenario handshake-psk --profile FILE"
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fleet
import generators
import reports
import servers
from generators import Generator
from run import scratch
from servers import Running

SCENARIOS = {
    "handshake-psk": ("handshake", "psk"),
    "handshake-rpk": ("handshake", "rpk"),
    "update-plain": ("update", "nosec"),
    "update-psk": ("update", "psk"),
    "send-plain": ("send", "nosec"),
    "send-psk": ("send", "psk"),
}
SIDES = ("stellwerk", "californium")
AIMS = {"handshake-psk": "aim 4,000", "update-psk": "aim 0.6x"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run; CPU in microseconds per operation, by process."""

    scenario: str
    side: str
    load: dict[str, Any]
    cpu: dict[str, float]


def main() -> int:
    options = _options()
    with scratch(options.folder) as folder:
        load = generators.build("load", folder)
        results = list(_runs(load, folder, options))
    reports.publish("dtls", _report(results, options), options.write)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=tuple(SCENARIOS))
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--warm", type=float, default=4, help="seconds before, which do not count (Java compiles then)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SIDES)
    parser.add_argument("--folder", help="where the database is written (default: build/bench in the project)")
    parser.add_argument("--write", metavar="FILE", help="put the table into FILE between its markers")
    parser.add_argument("--profile", metavar="FILE", help="py-spy's record of the server into FILE (needs py-spy)")
    chosen = parser.parse_args()
    chosen.scenario = chosen.scenario or list(SCENARIOS)
    return chosen


def _runs(load: Generator, folder: Path, options: argparse.Namespace) -> Iterator[Measured]:
    for turn in range(options.rounds):
        sides = [options.only] if options.only else list(SIDES)
        for side in sides if turn % 2 == 0 else reversed(sides):
            for scenario in options.scenario:
                with _server(side, folder / f"{scenario}-{turn}", SCENARIOS[scenario][1], options) as server:
                    yield _measure(scenario, load, server, options)


def _server(side: str, data_dir: Path, security: str, options: argparse.Namespace) -> AbstractContextManager[Running]:
    if side == "californium":
        return servers.californium(options.devices)
    if security != "nosec":
        fleet.provision(data_dir, options.devices, security)
    return servers.stellwerk(data_dir, profile=options.profile)


def _measure(scenario: str, load: Generator, server: Running, options: argparse.Namespace) -> Measured:
    what, security = SCENARIOS[scenario]
    size = {"devices": options.devices, "window": options.window, "security": security}
    port = server.port_for(security)
    if options.warm:
        load.run(what, port, seconds=options.warm, **size)
    with load.started(what, port, seconds=options.seconds, **size) as process:
        generators.next_event(process, "measuring")
        before = servers.cpu_seconds(server.pid)
        found = generators.finish(process)
    after = servers.cpu_seconds(server.pid)
    cpu = {name: (after[name] - before.get(name, 0.0)) / found["answered"] * 1e6 for name in after}
    brief = {name: value for name, value in found.items() if name != "series"}
    print(f"{server.name:>11} {scenario}: {json.dumps(brief)} {cpu}", file=sys.stderr, flush=True)
    return Measured(scenario, server.name, found, cpu)


# -- reporting --


def _report(results: list[Measured], options: argparse.Namespace) -> str:
    rates = {
        key: statistics.median(each.load["per_second"] for each in results if (each.scenario, each.side) == key)
        for key in {(each.scenario, each.side) for each in results}
    }
    rows = []
    for scenario in options.scenario:
        for side in SIDES:
            runs = [each for each in results if (each.scenario, each.side) == (scenario, side)]
            if runs:
                rows.append(_row(runs, rates))
    columns = ["scenario", "server", " per second", " to californium", " to plain", " p50 ms", " p99 ms", " again"]
    columns += [" failed", " per core and second", "CPU us"]
    return "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices} devices, window {options.window}, {options.seconds:g} s a run after {options.warm:g} s "
            f"of warming up, median of {options.rounds} rounds; {reports.machine()}, the cores shared by server, "
            "projector and load.",
            "*to plain*: rate in sessions beside the plain one of the same server; *per core and second*: what a core "
            "does that has nothing else to do, by the CPU of the server's process; *CPU us*: microseconds an operation "
            "and process.",
            reports.table(columns, rows),
        ]
    )


def _row(runs: list[Measured], rates: dict[tuple[str, str], float]) -> list[str]:
    first = runs[0]
    scenario, side = first.scenario, first.side
    rate = rates[scenario, side]
    other = rates.get((scenario, "californium"))
    plain = rates.get((scenario.replace("-psk", "-plain"), side)) if "handshake" not in scenario else None
    aim = f" ({AIMS[scenario]})" if scenario in AIMS else ""
    server_us = statistics.median(each.cpu["server"] for each in runs)

    def median(name: str) -> float:
        return statistics.median(each.load[name] for each in runs)

    names = dict.fromkeys(name for each in runs for name in each.cpu)
    return [
        scenario,
        side,
        f"{rate:,.0f}",
        f"{rate / other:.2f}x" if other and side != "californium" else "",
        f"{rate / plain:.2f}x{aim if side == 'stellwerk' else ''}" if plain and scenario.endswith("-psk") else "",
        f"{median('p50_ms'):.2f}",
        f"{median('p99_ms'):.2f}",
        str(sum(each.load["retransmissions"] for each in runs)),
        str(sum(generators.refused(each.load) + each.load["lost"] for each in runs)),
        f"{1e6 / server_us:,.0f}{aim if side == 'stellwerk' and plain is None else ''}",
        ", ".join(f"{name} {statistics.median(each.cpu.get(name, 0.0) for each in runs):.0f}" for name in names),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
