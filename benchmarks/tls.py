"""CoAP over TLS side by side: this server, durable on disk, and others, which store nothing.

Handshakes (TLS 1.2 and 1.3, with a pre-shared key, and with certificates on both sides), from the connection to the
server's first word, and Updates over connections that stand. Californium with Netty and Java's own TLS, and aiocoap
with Python's, answer Updates and know certificates alone; libcoap's example server, all of it C on OpenSSL, knows
pre-shared keys in TLS 1.2 too, and has no resources of ours. All sides run in turn in each round, the load on the same
cores; read the ratios and the CPU of the servers, not the rates.

    make bench BENCH=tls
    make bench BENCH=tls ARGS="--only stellwerk --scenario handshake-x509-1.3 --profile FILE"
"""

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fleet
import generators
import measuring
import reports
import servers
from fleet import Certified
from generators import Generator
from measuring import Key, Run
from run import scratch
from servers import Running

PLAIN, PSK, X509 = "load-", "psk-", "x509-"
"""How devices are called that have nothing, a pre-shared key, a certificate: one server has them all."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the load does, and who can be asked to."""

    what: str
    over: str
    security: str
    prefix: str
    sides: tuple[str, ...]


_CERTIFIED = ("stellwerk", "libcoap", "aiocoap", "californium")
SCENARIOS = {
    "handshake-psk-1.2": Scenario("handshake", "tls1.2", "psk", PSK, ("stellwerk", "libcoap")),
    "handshake-psk-1.3": Scenario("handshake", "tls1.3", "psk", PSK, ("stellwerk",)),
    "handshake-x509-1.2": Scenario("handshake", "tls1.2", "x509", X509, _CERTIFIED),
    "handshake-x509-1.3": Scenario("handshake", "tls1.3", "x509", X509, _CERTIFIED),
    "update-tcp": Scenario("update", "tcp", "nosec", PLAIN, ("stellwerk", "californium")),
    "update-tls": Scenario("update", "tls1.3", "x509", X509, ("stellwerk", "aiocoap", "californium")),
}
SIDES = ("stellwerk", "libcoap", "aiocoap", "californium")
LIBCOAP_WINDOW = 4
"""More connections at once wait for the repetition of a SYN there: its queue has five."""
LIBCOAP_PATIENCE_S = 0.1
"""It forgets some connections that it has taken until something else happens: they are given up, and have failed."""


def main() -> int:
    options = _options()
    with scratch(options.folder) as folder:
        load = generators.build("load", folder)
        certified = fleet.certify(folder / "certificates", options.devices, X509)
        runs = measuring.grouped(_runs(load, certified, folder, options))
    reports.publish("tls", _report(runs, options), options.write)
    return 0


def _options() -> argparse.Namespace:
    parser = measuring.parser(__doc__, window=32, devices=300, seconds=4, rounds=1)
    parser.add_argument("--scenario", action="append", choices=tuple(SCENARIOS))
    parser.add_argument("--only", action="append", choices=SIDES)
    chosen = parser.parse_args()
    chosen.scenario = chosen.scenario or list(SCENARIOS)
    chosen.only = chosen.only or list(SIDES)
    return chosen


def _runs(
    load: Generator, certified: Certified, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[Key, Run]]:
    for turn in range(options.rounds):
        for side in options.only if turn % 2 == 0 else reversed(options.only):
            names = [name for name in options.scenario if side in SCENARIOS[name].sides]
            if not names:
                continue
            with _server(side, certified, folder / f"data-{turn}", options) as server:
                for name in names:
                    yield (name, side), _measure(name, load, server, certified, options)


def _server(
    side: str, certified: Certified, data_dir: Path, options: argparse.Namespace
) -> AbstractContextManager[Running]:
    if side == "libcoap":
        return servers.libcoap_tls(certified.folder, fleet.STREAM_KEY)
    if side == "aiocoap":
        return servers.aiocoap_tls(certified.folder)
    if side == "californium":
        return servers.californium_tls(certified.folder)
    fleet.provision(data_dir, options.devices, "stream-psk", PSK)
    fleet.provision(data_dir, options.devices, "x509", X509)
    certified.install(data_dir)
    return servers.stellwerk(data_dir, profile=options.profile)


def _measure(name: str, load: Generator, server: Running, certified: Certified, options: argparse.Namespace) -> Run:
    scenario = SCENARIOS[name]
    words: dict[str, Any] = {"over": scenario.over, "security": scenario.security, "prefix": scenario.prefix}
    window = min(options.window, LIBCOAP_WINDOW) if server.name == "libcoap" else options.window
    words |= {"devices": options.devices, "window": window, "certificates": str(certified.of_devices)}
    if server.name == "libcoap":
        words["patience"] = LIBCOAP_PATIENCE_S
    port = server.port_for(scenario.security)
    if scenario.what == "handshake" and options.warm:
        load.run(scenario.what, port, seconds=options.warm, **words)
    words |= {"seconds": options.seconds, "warm": options.warm}
    return measuring.run(load, scenario.what, port, server, name, **words)


# -- reporting --


def _report(runs: dict[Key, list[Run]], options: argparse.Namespace) -> str:
    rates = {key: measuring.rate(of) for key, of in runs.items()}
    order = [(name, side) for name in options.scenario for side in SIDES]
    rows = [_row(key, runs[key], rates) for key in order if key in runs]
    columns = ["scenario", "server", " per second", " stellwerk to it", " p50 ms", " p99 ms", " failed"]
    columns += [" per core and second", "CPU us"]
    return "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices} devices, window {options.window} (libcoap: {LIBCOAP_WINDOW}), {options.seconds:g} s a "
            f"run after {options.warm:g} s of warming up, median of {options.rounds} rounds; {reports.machine()}, the "
            "cores shared by server, projector and load.",
            "*stellwerk to it*: the rate of this server beside that one's; *per core and second*: what a core does "
            "that has nothing else to do, by the CPU of the server's process; *CPU us*: microseconds an operation and "
            f"process. libcoap forgets some connections: after {LIBCOAP_PATIENCE_S:g} s they are given up and have "
            "failed; they take part in its rate, so that its CPU says more.",
            reports.table(columns, rows),
        ]
    )


def _row(key: Key, runs: list[Run], rates: dict[Key, float]) -> list[str]:
    scenario, side = key
    rate, ours = rates[key], rates.get((scenario, "stellwerk"))
    return [
        scenario,
        side,
        f"{rate:,.0f}",
        f"{ours / rate:.2f}x" if ours and rate and side != "stellwerk" else "",
        f"{measuring.median(runs, 'p50_ms'):.2f}",
        f"{measuring.median(runs, 'p99_ms'):.2f}",
        measuring.failed(runs),
        measuring.per_core(runs),
        measuring.processes(runs),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
