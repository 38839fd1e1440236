"""Secure devices side by side: this server, durable on disk, and Californium with Scandium, which stores nothing.

Handshakes (PSK, and ECDHE with raw public keys on both sides), and updates in their sessions (CCM_8 with a connection
ID) beside plain ones. Both sides run in turn in each round, the load on the same cores; read the ratios and the CPU of
the servers, not the rates.

    make bench BENCH=dtls
    make bench BENCH=dtls ARGS="--only stellwerk --scenario handshake-psk --profile FILE"
"""

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import fleet
import generators
import measuring
import reports
import servers
from generators import Generator
from measuring import Key, Run
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


def main() -> int:
    options = _options()
    with scratch(options.folder) as folder:
        load = generators.build("load", folder)
        runs = measuring.grouped(_runs(load, folder, options))
    reports.publish("dtls", _report(runs, options), options.write)
    return 0


def _options() -> argparse.Namespace:
    parser = measuring.parser(__doc__, window=64, devices=2000, seconds=8, rounds=3)
    parser.add_argument("--scenario", action="append", choices=tuple(SCENARIOS))
    parser.add_argument("--only", choices=SIDES)
    chosen = parser.parse_args()
    chosen.scenario = chosen.scenario or list(SCENARIOS)
    return chosen


def _runs(load: Generator, folder: Path, options: argparse.Namespace) -> Iterator[tuple[Key, Run]]:
    for turn in range(options.rounds):
        sides = [options.only] if options.only else list(SIDES)
        for side in sides if turn % 2 == 0 else reversed(sides):
            for scenario in options.scenario:
                with _server(side, folder / f"{scenario}-{turn}", SCENARIOS[scenario][1], options) as server:
                    yield (scenario, side), _measure(scenario, load, server, options)


def _server(side: str, data_dir: Path, security: str, options: argparse.Namespace) -> AbstractContextManager[Running]:
    if side == "californium":
        return servers.californium(options.devices)
    if security != "nosec":
        fleet.provision(data_dir, options.devices, security)
    return servers.stellwerk(data_dir, profile=options.profile)


def _measure(scenario: str, load: Generator, server: Running, options: argparse.Namespace) -> Run:
    what, security = SCENARIOS[scenario]
    size = {"devices": options.devices, "window": options.window, "security": security}
    port = server.port_for(security)
    if options.warm:
        load.run(what, port, seconds=options.warm, **size)
    return measuring.run(load, what, port, server, scenario, seconds=options.seconds, **size)


# -- reporting --


def _report(runs: dict[Key, list[Run]], options: argparse.Namespace) -> str:
    rates = {key: measuring.rate(of) for key, of in runs.items()}
    order = [(scenario, side) for scenario in options.scenario for side in SIDES]
    rows = [_row(key, runs[key], rates) for key in order if key in runs]
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


def _row(key: Key, runs: list[Run], rates: dict[Key, float]) -> list[str]:
    scenario, side = key
    rate = rates[key]
    other = rates.get((scenario, "californium"))
    plain = rates.get((scenario.replace("-psk", "-plain"), side)) if "handshake" not in scenario else None
    aim = f" ({AIMS[scenario]})" if scenario in AIMS else ""
    return [
        scenario,
        side,
        f"{rate:,.0f}",
        f"{rate / other:.2f}x" if other and side != "californium" else "",
        f"{rate / plain:.2f}x{aim if side == 'stellwerk' else ''}" if plain and scenario.endswith("-psk") else "",
        f"{measuring.median(runs, 'p50_ms'):.2f}",
        f"{measuring.median(runs, 'p99_ms'):.2f}",
        str(sum(each.load["retransmissions"] for each in runs)),
        measuring.failed(runs),
        f"{measuring.per_core(runs)}{aim if side == 'stellwerk' and plain is None else ''}",
        measuring.processes(runs),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
