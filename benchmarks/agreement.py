"""Whether our load generator and another one find the same: alternating runs against one server each.

python benchmarks/agreement.py [--rounds 12]
"""

import argparse
import asyncio
import statistics
import sys

import api
import generators
import reports
import servers
from run import OBSERVED, scratch

SIDES = ("load", "coapload")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--scenario", action="append", choices=("register", "update", "send", "notify"))
    parser.add_argument("--folder")
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    names = [f"load-{number:08d}" for number in range(options.devices)]
    size = {"devices": options.devices, "window": options.window, "seconds": options.seconds}
    rows = []
    with scratch(options.folder) as folder:
        loads = [generators.build(each, folder) for each in SIDES]
        for scenario in options.scenario or ("register", "update", "send", "notify"):
            rates: dict[str, list[float]] = {each: [] for each in SIDES}
            tails: dict[str, list[float]] = {each: [] for each in SIDES}
            for turn in range(options.rounds):
                for load in loads if turn % 2 == 0 else reversed(loads):
                    # A server of its own each: none meets the other's addresses or a longer journal.
                    with (
                        servers.stellwerk(folder / f"{scenario}-{turn}-{load.name}") as server,
                        load.started(scenario, server.port, **size) as process,
                    ):
                        if scenario == "notify":
                            asyncio.run(api.observe_all(server.http_port, names, OBSERVED))
                        found = generators.finish(process)
                    rates[load.name].append(found["per_second"])
                    tails[load.name].append(found["p99_ms"])
                    print(f"{scenario} {load.name}: {found['per_second']:.0f}/s", file=sys.stderr, flush=True)
            rows.append(_row(scenario, rates, tails))
    columns = ["scenario", " load /s", " coapload /s", " ratio of a pair", " p99 load", " p99 coapload"]
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices} devices, window {options.window}, median of {options.rounds} rounds of "
            f"{options.seconds:g} s, in turn; *ratio of a pair*: of two runs that follow each other, the median and "
            f"the middle half; {reports.machine()}.",
            reports.table(columns, rows),
        ]
    )
    reports.publish("agreement", text, options.write)
    return 0


def _row(scenario: str, rates: dict[str, list[float]], tails: dict[str, list[float]]) -> list[str]:
    ours, theirs = (statistics.median(rates[each]) for each in SIDES)
    # Neighbours in time meet the same machine; the middle of their ratios is steadier than the ratio of the middles.
    pairs = sorted(one / other for one, other in zip(*(rates[each] for each in SIDES), strict=True))
    quarter = len(pairs) // 4
    middle = f"{statistics.median(pairs):.2f} ({pairs[quarter]:.2f} to {pairs[-1 - quarter]:.2f})"
    p99 = [f"{statistics.median(tails[each]):.1f} ms" for each in SIDES]
    return [scenario, f"{ours:,.0f}", f"{theirs:,.0f}", middle, *p99]


if __name__ == "__main__":
    raise SystemExit(main())
