"""From the start of the process to the first registration accepted, with many known devices.

    python benchmarks/start.py [--devices 100000]

The devices are put into the database beforehand: provisioned, and registered as of now.
"""

import argparse
import asyncio
import socket
import statistics
import sys
import time
from pathlib import Path

import reports
import servers
from run import scratch

AIM_S = 2.0
BODY = b'</>;rt="oma.lwm2m";ct=112,</1/0>,</3/0>,</3303/0>'
_AT_A_TIME = 2_000


async def provision(data_dir: Path, devices: int) -> None:
    """Rows as the server makes them, through its store."""
    from stellwerk.app.changes import Commit, PutRegistration
    from stellwerk.app.journal import JournalEntry, Kind
    from stellwerk.app.records import NewDevice
    from stellwerk.core.ids import DeviceId, PeerId
    from stellwerk.device.registration import Registration
    from stellwerk.lwm2m.link_format import decode_object_list
    from stellwerk.lwm2m.schema.library import Library
    from stellwerk.lwm2m.status import Status
    from stellwerk.storage.migrations import migrate
    from stellwerk.storage.projector import Projector
    from stellwerk.storage.sqlite.store import SqliteStore

    migrate(data_dir)
    library = Library.builtin()
    store = await SqliteStore.open(data_dir, library=library)
    now_ms = time.time_ns() // 1_000_000
    tenant_id = await store.ensure_tenant(servers.TENANT, now_ms)
    objects = decode_object_list(BODY)
    types = library.for_device("1.1", {each: listed.version for each, listed in objects.objects.items()})

    async def device(number: int) -> None:
        name = f"load-{number:08d}"
        made = await store.create_device(tenant_id, NewDevice(name, name, (), "SCS-LwM2M", (), now_ms))
        peer = PeerId("udp", f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 5683, "127.0.0.1", 5683)
        registration = Registration(
            f"start{number:08d}",
            DeviceId(made.device_id),
            name,
            peer,
            "1.1",
            86_400,
            "U",
            False,
            BODY,
            objects,
            types,
            now_ms,
            now_ms,
        )
        entry = JournalEntry(
            Kind.REGISTER, made.device_id, now_ms, status=Status.CREATED, payload=BODY, detail="lwm2m=1.1&b=U"
        )
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(failure: Exception | None) -> None:
            if failure is None:
                stored.set_result(None)
            else:
                stored.set_exception(failure)

        change = PutRegistration(registration, registration.deadline_ms(93.0))
        store.submit(Commit([entry], [change], done))
        await stored

    for first in range(0, devices, _AT_A_TIME):
        await asyncio.gather(*map(device, range(first, min(first + _AT_A_TIME, devices))))
    await store.close()
    projector = Projector(data_dir)
    projector.run_all()
    projector.close()


def register_message(endpoint_name: str) -> bytes:
    """A Register with message ID 1 and no token."""
    options = [(11, b"rd"), (12, b"\x28"), (15, f"ep={endpoint_name}".encode()), (15, b"lt=300"), (15, b"lwm2m=1.1")]
    message, last = bytearray(b"\x40\x02\x00\x01"), 0
    for number, value in options:
        message += bytes([(number - last) << 4 | min(len(value), 13)])
        message += bytes([len(value) - 13]) if len(value) > 12 else b""
        message += value
        last = number
    return bytes(message) + b"\xff" + BODY


def first_registration_s(data_dir: Path, endpoint_name: str) -> tuple[float, float]:
    """Seconds from the process's start to 2.01, and to "ready" over HTTP."""
    port, http_port = servers.free_port(socket.SOCK_DGRAM), servers.free_port(socket.SOCK_STREAM)
    message = register_message(endpoint_name)
    began = time.perf_counter()
    with servers.start(data_dir, port, http_port) as process:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
                device.connect(("127.0.0.1", port))
                device.settimeout(0.01)
                while time.perf_counter() - began < 60:
                    try:
                        device.send(message)
                        answer = device.recv(1500)
                    except (TimeoutError, ConnectionRefusedError):
                        # The same message: one that waits in the socket is answered once.
                        time.sleep(0.005)
                        continue
                    if answer[1] == 0x41:
                        break
                    raise SystemExit(f"bench: the Register got {answer[1] >> 5}.{answer[1] & 31:02d}")
                accepted_s = time.perf_counter() - began
            servers.wait_ready(http_port, process)
            return accepted_s, time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder")
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    fleets = options.devices or [100, 100_000]
    runs: dict[int, list[tuple[float, float]]] = {devices: [] for devices in fleets}
    with scratch(options.folder) as folder:
        for devices in fleets:
            began = time.perf_counter()
            (folder / str(devices)).mkdir()
            asyncio.run(provision(folder / str(devices), devices))
            print(f"{devices} devices in {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        for turn in range(options.rounds):
            # In turn, and each time another device that is known: its registration replaces an older one.
            for devices in fleets:
                runs[devices].append(first_registration_s(folder / str(devices), f"load-{turn * 7:08d}"))
    rows = []
    for devices, measured in runs.items():
        accepted, ready = zip(*measured, strict=True)
        middle, slowest = statistics.median(accepted), max(accepted)
        rows.append([f"{devices:,}", f"{middle:.2f}", f"{slowest:.2f}", f"{statistics.median(ready):.2f}"])
    columns = (" known devices", " first 2.01 after s", " slowest", " ready (HTTP) after s")
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"From starting the process, median of {options.rounds} starts (aim: below {AIM_S:g} s), all devices "
            f"provisioned and registered before; {reports.machine()}.",
            reports.table(columns, rows),
        ]
    )
    reports.publish("start", text, options.write)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
