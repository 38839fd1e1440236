"""Devices that speak OSCORE side by side: this server, durable on disk, aiocoap and Californium, which store nothing.

Updates and Sends over UDP, protected from end to end (AES-CCM-16-64-128), beside plain ones and, of this server, beside
those in DTLS sessions. All sides run in turn in each round, the load on the same cores; read the ratios and the CPU of
the servers, not the rates.

    make bench BENCH=oscore
    make bench BENCH=oscore ARGS="--only stellwerk --scenario update --profile FILE"
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

SCENARIOS = ("update", "send")
WAYS = {
    "stellwerk": ("nosec", "psk", "oscore"),
    "aiocoap": ("nosec", "oscore"),
    "californium": ("nosec", "oscore"),
}
"""By server, how its devices come."""
_NUMBERS = 1 << 20
"""Sender numbers of each device for one run of the load."""
SAID = {"nosec": "plain", "psk": "DTLS, PSK", "oscore": "OSCORE"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run; CPU in microseconds per operation, by process."""

    scenario: str
    side: str
    security: str
    load: dict[str, Any]
    cpu: dict[str, float]


def main() -> int:
    options = _options()
    with scratch(options.folder) as folder:
        load = generators.build("load", folder)
        results = list(_runs(load, folder, options))
    reports.publish("oscore", _report(results, options), options.write)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--security", action="append", choices=tuple(SAID))
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--warm", type=float, default=4, help="seconds before, which do not count (Java compiles then)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=tuple(WAYS))
    parser.add_argument("--folder", help="where the database is written (default: build/bench in the project)")
    parser.add_argument("--write", metavar="FILE", help="put the table into FILE between its markers")
    parser.add_argument("--profile", metavar="FILE", help="py-spy's record of the server into FILE (needs py-spy)")
    chosen = parser.parse_args()
    chosen.scenario = chosen.scenario or list(SCENARIOS)
    chosen.security = chosen.security or list(SAID)
    chosen.only = chosen.only or list(WAYS)
    return chosen


def _runs(load: Generator, folder: Path, options: argparse.Namespace) -> Iterator[Measured]:
    for turn in range(options.rounds):
        sides = [(side, way) for side in options.only for way in WAYS[side] if way in options.security]
        for side, security in sides if turn % 2 == 0 else reversed(sides):
            # aiocoap does not get over the end of a whole fleet, whose sockets are gone.
            shared = [options.scenario] if side != "aiocoap" else [[each] for each in options.scenario]
            for scenarios in shared:
                with _server(side, security, folder / f"{security}-{turn}", options) as server:
                    for run, scenario in enumerate(scenarios):
                        yield _measure(scenario, security, run, load, server, options)


def _server(side: str, security: str, data_dir: Path, options: argparse.Namespace) -> AbstractContextManager[Running]:
    if side == "aiocoap":
        return servers.aiocoap(contexts=options.devices if security == "oscore" else 0)
    if side == "californium":
        return servers.californium_oscore(options.devices)
    if security != "nosec":
        fleet.provision(data_dir, options.devices, security)
    return servers.stellwerk(data_dir, profile=options.profile)


def _measure(
    scenario: str, security: str, run: int, load: Generator, server: Running, options: argparse.Namespace
) -> Measured:
    size = {"devices": options.devices, "window": options.window, "security": security, "number": run * _NUMBERS}
    with load.started(
        scenario, server.port_for(security), seconds=options.seconds, warm=options.warm, **size
    ) as process:
        generators.next_event(process, "measuring")
        before = servers.cpu_seconds(server.pid)
        found = generators.finish(process)
    after = servers.cpu_seconds(server.pid)
    cpu = {name: (after[name] - before.get(name, 0.0)) / found["answered"] * 1e6 for name in after}
    brief = {name: value for name, value in found.items() if name != "series"}
    print(f"{server.name:>11} {security} {scenario}: {json.dumps(brief)} {cpu}", file=sys.stderr, flush=True)
    return Measured(scenario, server.name, security, found, cpu)


# -- reporting --


def _report(results: list[Measured], options: argparse.Namespace) -> str:
    runs: dict[tuple[str, str, str], list[Measured]] = {}
    for each in results:
        runs.setdefault((each.scenario, each.side, each.security), []).append(each)
    rates = {key: statistics.median(each.load["per_second"] for each in of) for key, of in runs.items()}
    order = [(scenario, side, security) for scenario in options.scenario for side in WAYS for security in WAYS[side]]
    rows = [_row(runs[key], rates) for key in order if key in runs]
    columns = ["scenario", "devices come", "server", " per second", " to aiocoap", " to californium", " to plain"]
    columns += [" p50 ms", " p99 ms", " again", " failed", " per core and second", "CPU us"]
    return "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices} devices, window {options.window}, {options.seconds:g} s a run after {options.warm:g} s "
            f"of warming up, median of {options.rounds} rounds; {reports.machine()}, the cores shared by server, "
            "projector and load.",
            "*to aiocoap*, *to californium*: the rate of this server beside theirs with devices that come in the same "
            "way; *to plain*: beside the plain one of the same server; *per core and second*: what a core does that "
            "has nothing else to do, by the CPU of the server's process; *CPU us*: microseconds an operation and "
            "process.",
            reports.table(columns, rows),
        ]
    )


def _row(runs: list[Measured], rates: dict[tuple[str, str, str], float]) -> list[str]:
    first = runs[0]
    scenario, side, security = first.scenario, first.side, first.security
    rate = rates[scenario, side, security]

    def beside(other: float | None) -> str:
        return f"{rate / other:.2f}x" if other else ""

    def median(name: str) -> float:
        return statistics.median(each.load[name] for each in runs)

    server_us = statistics.median(each.cpu["server"] for each in runs)
    names = dict.fromkeys(name for each in runs for name in each.cpu)
    others = [rates.get((scenario, peer, security)) if side == "stellwerk" else None for peer in list(WAYS)[1:]]
    return [
        scenario,
        SAID[security],
        side,
        f"{rate:,.0f}",
        *map(beside, others),
        beside(rates.get((scenario, side, "nosec"))) if security != "nosec" else "",
        f"{median('p50_ms'):.2f}",
        f"{median('p99_ms'):.2f}",
        str(sum(each.load["retransmissions"] for each in runs)),
        str(sum(generators.refused(each.load) + each.load["lost"] for each in runs)),
        f"{1e6 / server_us:,.0f}",
        ", ".join(f"{name} {statistics.median(each.cpu.get(name, 0.0) for each in runs):.0f}" for name in names),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
