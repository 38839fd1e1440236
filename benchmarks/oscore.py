"""Devices that speak OSCORE side by side: this server, durable on disk, aiocoap and Californium, which store nothing.

Updates and Sends over UDP, protected from end to end (AES-CCM-16-64-128), beside plain ones and, of this server, beside
those in DTLS sessions. All sides run in turn in each round, the load on the same cores; read the ratios and the CPU of
the servers, not the rates.

    make bench BENCH=oscore
    make bench BENCH=oscore ARGS="--only stellwerk --scenario update --profile FILE"
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


def main() -> int:
    options = _options()
    with scratch(options.folder) as folder:
        load = generators.build("load", folder)
        runs = measuring.grouped(_runs(load, folder, options))
    reports.publish("oscore", _report(runs, options), options.write)
    return 0


def _options() -> argparse.Namespace:
    parser = measuring.parser(__doc__, window=64, devices=2000, seconds=8, rounds=3)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--security", action="append", choices=tuple(SAID))
    parser.add_argument("--only", action="append", choices=tuple(WAYS))
    chosen = parser.parse_args()
    chosen.scenario = chosen.scenario or list(SCENARIOS)
    chosen.security = chosen.security or list(SAID)
    chosen.only = chosen.only or list(WAYS)
    return chosen


def _runs(load: Generator, folder: Path, options: argparse.Namespace) -> Iterator[tuple[Key, Run]]:
    for turn in range(options.rounds):
        sides = [(side, way) for side in options.only for way in WAYS[side] if way in options.security]
        for side, security in sides if turn % 2 == 0 else reversed(sides):
            # aiocoap does not get over the end of a whole fleet, whose sockets are gone.
            shared = [options.scenario] if side != "aiocoap" else [[each] for each in options.scenario]
            for scenarios in shared:
                with _server(side, security, folder / f"{security}-{turn}", options) as server:
                    for run, scenario in enumerate(scenarios):
                        found = _measure(scenario, security, run, load, server, options)
                        yield (scenario, side, security), found


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
) -> Run:
    words = {"devices": options.devices, "window": options.window, "security": security, "number": run * _NUMBERS}
    return measuring.run(
        load,
        scenario,
        server.port_for(security),
        server,
        f"{security} {scenario}",
        seconds=options.seconds,
        warm=options.warm,
        **words,
    )


# -- reporting --


def _report(runs: dict[Key, list[Run]], options: argparse.Namespace) -> str:
    rates = {key: measuring.rate(of) for key, of in runs.items()}
    order = [(scenario, side, security) for scenario in options.scenario for side in WAYS for security in WAYS[side]]
    rows = [_row(key, runs[key], rates) for key in order if key in runs]
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


def _row(key: Key, runs: list[Run], rates: dict[Key, float]) -> list[str]:
    scenario, side, security = key
    rate = rates[key]

    def beside(other: float | None) -> str:
        return f"{rate / other:.2f}x" if other else ""

    others = [rates.get((scenario, peer, security)) if side == "stellwerk" else None for peer in list(WAYS)[1:]]
    return [
        scenario,
        SAID[security],
        side,
        f"{rate:,.0f}",
        *map(beside, others),
        beside(rates.get((scenario, side, "nosec"))) if security != "nosec" else "",
        f"{measuring.median(runs, 'p50_ms'):.2f}",
        f"{measuring.median(runs, 'p99_ms'):.2f}",
        str(sum(each.load["retransmissions"] for each in runs)),
        measuring.failed(runs),
        measuring.per_core(runs),
        measuring.processes(runs),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
