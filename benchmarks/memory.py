"""Resident memory of the server for each registered device.

    python benchmarks/memory.py [--devices 50000] [--lists 1]
    python benchmarks/memory.py --security psk          the same with a DTLS session each
    python benchmarks/memory.py --security tls --devices 1000   with a TLS connection each, whose end a restart is
    python benchmarks/memory.py --security tcp --devices 1000   with a connection that has no TLS

Each device has a socket of its own. The figures are of the server's process alone; the
projector's are named beside them.
"""

import argparse
import resource
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import fleet
import generators
import reports
import servers
from run import scratch
from servers import Memory

AIM_BYTES = {"nosec": 2048, "psk": 5120}
KINDS = {
    "nosec": "",
    "psk": " with DTLS sessions (PSK, CCM_8, connection ID)",
    "oscore": " with OSCORE contexts",
    "tcp": " with TCP connections",
    "tls": " with TLS connections (TLS 1.3, PSK)",
}
"""What each device has besides, by security."""
_SECTIONS = {"nosec": "memory", "psk": "secure-memory"}
_ROOM = {"STELLWERK_COAP_TCP_CONNECTIONS": "100000", "STELLWERK_COAP_TCP_PER_ADDRESS": "100000"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=50_000)
    parser.add_argument("--lists", type=int, action="append", help="how many different object lists they have")
    parser.add_argument("--settle", type=float, default=5, help="seconds of rest before memory is read")
    parser.add_argument("--then", nargs="*", default=["update", "send"], help="what they do afterwards, once each")
    parser.add_argument("--idle", type=float, default=300, help="seconds of silence before memory is read once more")
    parser.add_argument("--security", choices=tuple(KINDS), default="nosec")
    parser.add_argument("--folder")
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    rows = []
    with scratch(options.folder) as folder:
        load = generators.build("load", folder)
        for lists in options.lists or [1, 100]:
            rows.extend(_measure(load, folder / str(lists), lists, options))
    aim = AIM_BYTES.get(options.security)
    columns = ("object lists", "state", " resident MiB", " bytes each", " with files", " projector MiB")
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices:,} registered devices{KINDS[options.security]}, {options.settle:g} s after the last "
            f"answer; {reports.machine()}. *bytes each*: what the server's process has more than before the first "
            f"device, for each of them, without pages of files{f' (aim: below {aim})' if aim else ''}; *with files*: "
            "all that is resident. Idle: answers to requests are kept for 247 s (EXCHANGE_LIFETIME), then a quiet "
            "device is its registration alone.",
            reports.table(columns, rows),
        ]
    )
    reports.publish(_SECTIONS.get(options.security, f"{options.security}-memory"), text, options.write)
    return 0


class Fleet:
    """The devices, in as many processes as the limit of open files asks for."""

    def __init__(
        self, load: generators.Generator, port: int, devices: int, lists: int, security: str, stack: ExitStack
    ) -> None:
        share = min(devices, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100, 16_000)
        self._devices = devices
        size = {"lists": lists, "window": 32, **_words(security)}
        self._loads = [
            stack.enter_context(load.started("hold", port, devices=min(share, devices - first), first=first, **size))
            for first in range(0, devices, share)
        ]
        for each in self._loads:
            generators.next_event(each, "registered")

    def order(self, what: str) -> None:
        """Every device does ``what`` once. Ends the program unless all are answered 2.xx."""
        for each in self._loads:
            assert each.stdin is not None
            each.stdin.write(f"{what}\n")
            each.stdin.flush()
        rounds = [generators.next_event(each, "round") for each in self._loads]
        accepted = sum(each["answered"] - generators.refused(each) for each in rounds)
        if accepted != self._devices:
            raise SystemExit(f"bench: {accepted} of {self._devices} devices got a good answer to {what}")


def _words(security: str) -> dict[str, str]:
    """What the load is told."""
    if security == "tcp":
        return {"over": "tcp"}
    return {"over": "tls1.3", "security": "psk"} if security == "tls" else {"security": security}


def _measure(load: generators.Generator, data_dir: Path, lists: int, options: argparse.Namespace) -> list[list[str]]:
    rows: list[list[str]] = []
    port, secure_port = servers.free_port(socket.SOCK_DGRAM), servers.free_port(socket.SOCK_DGRAM)
    if options.security not in ("nosec", "tcp"):
        fleet.provision(data_dir, options.devices, "stream-psk" if options.security == "tls" else options.security)

    def note(state: str, pid: int, before: Memory | None) -> Memory:
        servers.catch_up_s(data_dir)
        time.sleep(options.settle)
        now = servers.memory(pid)
        projector = servers.memory(servers.processes(pid)["projector"])
        each = ["", ""]
        if before is not None:
            each = [
                f"{(now.anonymous - before.anonymous) / options.devices:,.0f}",
                f"{(now.resident - before.resident) / options.devices:,.0f}",
            ]
        rows.append([str(lists), state, _mib(now.resident), *each, _mib(projector.resident)])
        print(rows[-1], file=sys.stderr, flush=True)
        return now

    with ExitStack() as stack:
        with servers.stellwerk(data_dir, keep=True, port=port, secure_port=secure_port, settings=_ROOM) as server:
            empty = note("no device", server.pid, None)
            devices = Fleet(load, server.port_for(options.security), options.devices, lists, options.security, stack)
            note("registered", server.pid, empty)
            for what in options.then:
                devices.order(what)
                note(f"and one {what.capitalize()} each", server.pid, empty)
            if options.idle:
                time.sleep(options.idle)
                note(f"idle for {options.idle:g} s", server.pid, empty)
        if options.security in ("tcp", "tls"):
            return rows
        with servers.stellwerk(data_dir, port=port, secure_port=secure_port) as server:
            restarted = note("after a restart", server.pid, None)
            devices.order("update")
            note("and one Update each", server.pid, restarted)
    return rows


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
