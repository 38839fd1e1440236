"""Send for a minute at a steady rate: what is accepted, how late, and how far the projector is behind meanwhile.

    python benchmarks/sustained.py [--rate 10000] [--seconds 60]

``--rate 0`` is the closed loop: as fast as the server answers. ``--also COMMAND`` runs besides while it is measured (to
have pages open, for example); its standard input closes at the end.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import generators
import lag
import reports
import servers
from run import scratch

LAG_AIM_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--window", type=int, action="append")
    parser.add_argument("--scenario", choices=("update", "send"), default="send")
    parser.add_argument("--also", metavar="COMMAND", help="{http_port} in it becomes the server's port for HTTP")
    parser.add_argument("--profile", metavar="FILE", help="py-spy's record of the server into FILE (needs py-spy)")
    parser.add_argument("--folder")
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    rows = []
    with scratch(options.folder) as folder:
        load = generators.build("load", folder)
        for window in options.window or [64]:
            with ExitStack() as stack:
                server = stack.enter_context(servers.stellwerk(folder / str(window), profile=options.profile))
                if options.also:
                    command = shlex.split(options.also.format(http_port=server.http_port))
                    also = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
                    assert also.stdin is not None
                    stack.callback(also.stdin.close)
                size = {"devices": options.devices, "window": window, "seconds": options.seconds}
                process = stack.enter_context(load.started(options.scenario, server.port, rate=options.rate, **size))
                generators.next_event(process, "measuring")
                before = servers.cpu_seconds(server.pid)
                with lag.sampled(server.data_dir) as lags:
                    found = generators.finish(process)
                after = servers.cpu_seconds(server.pid)
                cpu = {name: (after[name] - before[name]) / found["seconds"] for name in after}
                left_s = servers.catch_up_s(server.data_dir)
            print(json.dumps(found["series"]), [round(each, 2) for each in lags.by_second()], file=sys.stderr)
            rows.append(_row(window, found, lags, cpu, left_s))
    columns = ["window", " accepted /s", " slowest second", " p50 ms", " p99 ms", " worst second's p99", " not 2.xx"]
    columns += [" median lag s", " greatest lag s", " left s", "cores used"]
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"`{options.scenario}`, {options.devices} devices, {options.seconds:g} s, {_offered(options.rate)}; "
            f"{reports.machine()}.",
            f"*Lag*: the age of the oldest entry that was not projected, each {lag.EVERY_S:g} s (aim: below "
            f"{LAG_AIM_S:g} s); *left*: how long the projector needed after the last answer. Latencies of a steady "
            "rate count from when a request was due.",
            reports.table(columns, rows),
        ]
    )
    reports.publish("sustained", text, options.write)
    return 0


def _offered(rate: float) -> str:
    return f"{rate:,.0f} requests due each second" if rate else "closed loop"


def _row(window: int, found: dict[str, Any], lags: lag.Lag, cpu: dict[str, float], left_s: float) -> list[str]:
    accepted = found["answered"] - generators.refused(found)
    ages = lags.seconds() or [0.0]
    return [
        str(window),
        f"{accepted / found['seconds']:,.0f}",
        f"{min(each[0] for each in found['series']):,}",
        f"{found['p50_ms']:.2f}",
        f"{found['p99_ms']:.2f}",
        f"{max(each[1] for each in found['series']):.1f}",
        str(generators.refused(found)),
        f"{statistics.median(ages):.2f}",
        f"{max(ages):.2f}",
        f"{left_s:.1f}",
        ", ".join(f"{name} {value:.2f}" for name, value in cpu.items()),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
