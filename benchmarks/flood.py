"""Floods of the secure port from changing addresses: memory, CPU, and how long real devices take to get in meanwhile.

    python benchmarks/flood.py                          every kind at 10,000 a second for a minute
    python benchmarks/flood.py --kind hellos --rate 0   as many as go

A real device makes a handshake and registers each second; it repeats what gets lost after a second, as they do.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "interop"))

import reports
import servers
from secure_devices import SecureDevices, provision
from served import Served
from tests.dtls_flood import KINDS, Flood


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=tuple(KINDS))
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    rows = [_measure(kind, options) for kind in options.kind or KINDS]
    columns = ["flood", " datagrams /s", " CPU us each", " answers", " bytes back for each sent", " MiB before"]
    columns += [" greatest growth MiB", " real devices", " slowest s", " median s"]
    offered = f"{options.rate:,.0f} a second" if options.rate else "as many as go"
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{offered} for {options.seconds:g} s after 5 s that do not count (tables fill up to their bounds); "
            f"{reports.machine()}, shared with the flood. *CPU us each*: of the server, real devices among it.",
            reports.table(columns, rows),
        ]
    )
    reports.publish("flood", text, options.write)
    return 0


def _measure(kind: str, options: argparse.Namespace) -> list[str]:
    names = [f"real-{number:04d}" for number in range(int(options.seconds) + 2)]
    with tempfile.TemporaryDirectory(prefix="stellwerk-flood-") as folder:
        server = Served(Path(folder), log_level="error").start(within_s=60)
        flood = Flood(server.coaps_port)
        real: list[SecureDevices] = []
        try:
            provision(server.api, names)
            flood.run(kind, options.rate, 5)
            before, cpu, sent = server.resident_bytes(), servers.cpu_seconds(server.pid)["server"], flood.sent
            rates: list[float] = []
            pouring = threading.Thread(target=lambda: rates.append(flood.run(kind, options.rate, options.seconds)))
            pouring.start()
            waited, growth, began = [], 0, time.monotonic()
            for number, name in enumerate(names):
                if not pouring.is_alive():
                    break
                time.sleep(max(0.0, began + number - time.monotonic()))
                real.append(SecureDevices(server.coaps_port, [name]))
                started = time.monotonic()
                real[-1].connect()
                waited.append(time.monotonic() - started)
                growth = max(growth, server.resident_bytes() - before)
            pouring.join()
            growth = max(growth, server.resident_bytes() - before)
            spent = servers.cpu_seconds(server.pid)["server"] - cpu
            row = [
                kind,
                f"{rates[0]:,.0f}",
                f"{spent / (flood.sent - sent) * 1e6:.0f}",
                f"{flood.replies:,}",
                f"{flood.reply_bytes / flood.sent_bytes:.2f}",
                f"{before / 2**20:.0f}",
                f"{growth / 2**20:.1f}",
                str(len(waited)),
                f"{max(waited):.2f}",
                f"{sorted(waited)[len(waited) // 2]:.2f}",
            ]
            print(row, file=sys.stderr, flush=True)
            return row
        finally:
            flood.close()
            for devices in real:
                devices.close()
            server.close()


if __name__ == "__main__":
    raise SystemExit(main())
