"""Commands over HTTP to awake devices: from the POST to its answer readable in ``received-msg``.

    python benchmarks/commands.py

One at a time first, then at a steady rate, which does not wait for the answers. The client asks for the newest message
of the device until that is the answer; how often it asks is in the figures.
"""

import argparse
import asyncio
import itertools
import sys
from dataclasses import dataclass, field
from time import perf_counter

import generators
import reports
import servers
import uvloop
from api import Api, resource_name
from run import scratch

AIMS = {"one at a time": "p50 < 10", "steady": "p99 < 50"}
GIVE_UP_S = 10.0


@dataclass(slots=True)
class Times:
    """Milliseconds: until the command was accepted, until its answer was read; and what went wrong."""

    accepted: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    polls: int = 0
    lost: int = 0


async def command(api: Api, device: str, times: Times, poll_s: float) -> None:
    """Post one command and wait for its answer."""
    began = perf_counter()
    status, body = await api.post_command(device, "READ /3/0/0")
    if status != 201:
        times.lost += 1
        return
    accepted = perf_counter()
    label = b"outgoing_msgRN:" + resource_name(body)
    while perf_counter() - began < GIVE_UP_S:
        await asyncio.sleep(poll_s)
        times.polls += 1
        status, body = await api.get(f"/device-communication/{device}/received-msg/la")
        if status == 200 and label in body:
            times.accepted.append((accepted - began) * 1e3)
            times.read.append((perf_counter() - began) * 1e3)
            return
    times.lost += 1


async def one_at_a_time(api: Api, devices: list[str], seconds: float, poll_s: float) -> Times:
    times, end = Times(), perf_counter() + seconds
    for device in itertools.cycle(devices):
        if perf_counter() > end:
            return times
        await command(api, device, times, poll_s)
    return times


async def steady(api: Api, devices: list[str], rate: float, seconds: float, poll_s: float) -> Times:
    times, began = Times(), perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, device in zip(range(int(rate * seconds)), itertools.cycle(devices)):
            await asyncio.sleep(max(0.0, began + number / rate - perf_counter()))
            group.create_task(command(api, device, times, poll_s))
    return times


async def measure(options: argparse.Namespace, port: int) -> list[list[str]]:
    api = Api(port, connections=64)
    devices = [f"load-{number:08d}" for number in range(options.devices)]
    poll_s = options.poll_ms / 1e3
    await one_at_a_time(api, devices, 1.0, poll_s)
    rows = [_row("one at a time", "one at a time", await one_at_a_time(api, devices, options.seconds, poll_s))]
    for rate in options.rate:
        rows.append(_row(f"{rate:g}/s", "steady", await steady(api, devices, rate, options.seconds, poll_s)))
    await api.close()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rate", type=float, action="append")
    parser.add_argument("--poll-ms", type=float, default=1.0)
    parser.add_argument("--profile", metavar="FILE", help="py-spy's record of the server into FILE (needs py-spy)")
    parser.add_argument("--folder")
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    options.rate = options.rate or [200.0]
    with (
        scratch(options.folder) as folder,
        servers.stellwerk(folder / "commands", profile=options.profile) as server,
        generators.build("load", folder).started("hold", server.port, devices=options.devices) as load,
    ):
        generators.next_event(load, "registered")
        rows = uvloop.run(measure(options, server.http_port))
    columns = ["commands", " answered", " lost", " POST p50 ms", " POST p99 ms", " answer p50 ms", " answer p99 ms"]
    columns += [" max ms", " polls each", "aim"]
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"`READ /3/0/0` to {options.devices} simulated devices in turn, {options.seconds:g} s each; the client "
            f"asks again {options.poll_ms:g} ms after an answer that is not the one; {reports.machine()}, shared with "
            "the client and the devices. *answer*: from the POST's leaving to the answer read from `received-msg`.",
            reports.table(columns, rows),
        ]
    )
    reports.publish("commands", text, options.write)
    return 0


def _row(name: str, kind: str, times: Times) -> list[str]:
    if not times.read:
        raise SystemExit("bench: no command was answered")
    accepted, read = sorted(times.accepted), sorted(times.read)

    def at(values: list[float], share: float) -> str:
        return f"{values[int(share * (len(values) - 1))]:.2f}"

    cells = [
        name,
        str(len(read)),
        str(times.lost),
        at(accepted, 0.5),
        at(accepted, 0.99),
        at(read, 0.5),
        at(read, 0.99),
    ]
    print(f"{name}: {cells[1:]}", file=sys.stderr)
    return [*cells, at(read, 1.0), f"{times.polls / len(read):.1f}", AIMS[kind]]


if __name__ == "__main__":
    raise SystemExit(main())
