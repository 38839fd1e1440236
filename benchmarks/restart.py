"""A server with thousands of live secure sessions that stops, and one that is killed: how soon do they go on?

    python benchmarks/restart.py [--devices 4000]

No device makes a handshake; each sends an Update of its registration as soon as the new process listens.
"""

import argparse
import signal
import socket
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import fleet
import generators
import reports
import servers
from run import scratch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3, help="ends of each kind")
    parser.add_argument("--folder")
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    with scratch(options.folder) as folder:
        fleet.provision(folder / "restart", options.devices, "psk")
        rows, size = _measure(folder / "restart", generators.build("load", folder), options)
    columns = (
        "end",
        " listens after s",
        " first answer after s",
        " all answered after s",
        " handshakes",
        " record numbers used twice",
    )
    columns += (" lost",)
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices:,} live sessions (PSK, CCM_8, connection ID); each row is one restart; "
            f"{reports.machine()}. Seconds to answers count from when it listens. "
            f"A stored session has {size:.0f} bytes, sealed.",
            reports.table(columns, rows),
        ]
    )
    reports.publish("restart", text, options.write)
    return 0


def _measure(data_dir: Path, load: generators.Generator, options: argparse.Namespace) -> tuple[list[list[str]], float]:
    port, http_port = servers.free_port(socket.SOCK_DGRAM), servers.free_port(socket.SOCK_STREAM)
    secure_port = servers.free_port(socket.SOCK_DGRAM)
    rows: list[list[str]] = []
    process = servers.start(data_dir, port, http_port, secure_port)
    try:
        servers.wait_ready(http_port, process)
        size = {"devices": options.devices, "window": 256, "security": "psk", "rto": 1000}
        with load.started("hold", secure_port, **size) as devices:
            generators.next_event(devices, "registered")
            _order(devices, "update")
            for end in (signal.SIGTERM, signal.SIGKILL) * options.rounds:
                # What ends the handshake is forgotten, what was read is stored: as after an hour.
                time.sleep(2)
                process.send_signal(end)
                process.wait(30)
                began = time.monotonic()
                process = servers.start(data_dir, port, http_port, secure_port)
                _wait_bound(secure_port)
                bound_s = time.monotonic() - began
                found = _order(devices, "update")
                servers.wait_ready(http_port, process)
                row = [signal.Signals(end).name, f"{bound_s:.2f}", f"{found['first_s']:.2f}", f"{found['seconds']:.2f}"]
                rows.append([*row, str(found["handshakes"]), str(found["numbers_again"]), str(found["lost"])])
                print(rows[-1], file=sys.stderr, flush=True)
    finally:
        process.kill()
        process.wait(10)
    with sqlite3.connect(data_dir / "stellwerk.db") as database:
        count, size_sum = database.execute("SELECT count(*), sum(length(sealed)) FROM secure_session").fetchone()
    return rows, size_sum / count


def _wait_bound(port: int) -> None:
    # Local address and no remote one: the devices' own sockets name the port, too.
    wanted = f":{port:04X} 00000000:0000 "
    deadline = time.monotonic() + 60
    while wanted not in Path("/proc/net/udp").read_text():
        if time.monotonic() > deadline:
            raise SystemExit("bench: the server did not listen within 60 s")
        time.sleep(0.005)


def _order(process: Any, what: str) -> dict[str, Any]:
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    return generators.next_event(process, "round")


if __name__ == "__main__":
    raise SystemExit(main())
