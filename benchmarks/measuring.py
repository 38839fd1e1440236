"""What benchmarks of secure devices share: words, a run of the load with the CPU of the server, cells of tables."""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import generators
import servers
from generators import Generator
from servers import Running

Key: TypeAlias = tuple[str, ...]
"""What was measured: the scenario, whose server, and what else tells runs apart."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the load said, and CPU in microseconds per operation, by process."""

    load: dict[str, Any]
    cpu: dict[str, float]


def parser(
    description: str | None, *, window: int, devices: int, seconds: float, rounds: int
) -> argparse.ArgumentParser:
    """The words that all have; the numbers are their defaults. The load warms up for half of ``seconds``."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--window", type=int, default=window)
    made.add_argument("--devices", type=int, default=devices)
    made.add_argument("--seconds", type=float, default=seconds)
    words = "seconds before, which do not count (Java compiles then)"
    made.add_argument("--warm", type=float, default=seconds / 2, help=words)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--folder", help="where the database is written (default: build/bench in the project)")
    made.add_argument("--write", metavar="FILE", help="put the table into FILE between its markers")
    made.add_argument("--profile", metavar="FILE", help="py-spy's record of the server into FILE (needs py-spy)")
    return made


def run(load: Generator, what: str, port: int, server: Running, label: str, *, seconds: float, **words: Any) -> Run:
    """One run of the load, from when it measures on; a line about it, that begins with ``label``, on standard error."""
    with load.started(what, port, seconds=seconds, **words) as process:
        generators.next_event(process, "measuring")
        before = servers.cpu_seconds(server.pid)
        found = generators.finish(process)
    after = servers.cpu_seconds(server.pid)
    cpu = {name: (after[name] - before.get(name, 0.0)) / max(1, found["answered"]) * 1e6 for name in after}
    brief = {name: value for name, value in found.items() if name != "series"}
    print(f"{server.name:>11} {label}: {json.dumps(brief)} {cpu}", file=sys.stderr, flush=True)
    return Run(found, cpu)


def grouped(found: Iterable[tuple[Key, Run]]) -> dict[Key, list[Run]]:
    """Runs of the same, from every round."""
    runs: dict[Key, list[Run]] = {}
    for key, each in found:
        runs.setdefault(key, []).append(each)
    return runs


def rate(runs: Sequence[Run]) -> float:
    """Operations a second."""
    return median(runs, "per_second")


def median(runs: Sequence[Run], name: str) -> float:
    """Of what the load says of itself under ``name``."""
    return statistics.median(each.load[name] for each in runs)


def failed(runs: Sequence[Run]) -> str:
    """Operations that were refused or lost."""
    return str(sum(generators.refused(each.load) + each.load["lost"] for each in runs))


def per_core(runs: Sequence[Run]) -> str:
    """What a core does in a second that has nothing else to do; of one that has answered nothing there is none."""
    server_us = statistics.median(each.cpu["server"] for each in runs) or float("inf")
    return f"{1e6 / server_us:,.0f}"


def processes(runs: Sequence[Run]) -> str:
    """CPU by process."""
    names = dict.fromkeys(name for each in runs for name in each.cpu)
    return ", ".join(f"{name} {statistics.median(each.cpu.get(name, 0.0) for each in runs):.0f}" for name in names)
