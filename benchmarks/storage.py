"""How fast the store takes commits from a loop that works besides, and how fast the projector follows.

    python benchmarks/storage.py [--seconds 3] [--devices 1000]

A closed loop of 64 and 512 requests, each with 30 us of other work, written by the thread and by the loop in turn
(decision 0005).
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stellwerk.app.changes import Change, Commit, PutRegistration
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.records import NewDevice
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.migrations import migrate
from stellwerk.storage.projector import Projector
from stellwerk.storage.sqlite.store import SqliteStore

BODY = b'</1/0>,</3/0>,</3303/0>;ver="1.1",</3304/0>'
SEND = (
    b'[{"bn":"/3303/0/","n":"5700","v":21.53},{"n":"5601","v":18.25},{"n":"5602","v":24.75},'
    b'{"bn":"/3304/0/","n":"5700","v":48.5}]'
)
NOW_MS = 1_760_000_000_000

Make = Callable[[int], tuple[list[JournalEntry], list[Change]]]


def receipt(number: int) -> bytes:
    return ((number * 0x9E3779B97F4A7C15 + 12345) & (1 << 64) - 1).to_bytes(8, "big")


async def fill(store: SqliteStore, devices: int) -> list[DeviceId]:
    tenant_id = await store.ensure_tenant("default", NOW_MS)

    async def make(number: int) -> DeviceId:
        name = f"bench-{number}"
        return (await store.create_device(tenant_id, NewDevice(name, f"urn:{name}", (), "p", (), NOW_MS))).device_id

    return list(await asyncio.gather(*map(make, range(devices))))


async def commits(store: SqliteStore, make: Make, seconds: float, *, writer: str, work_us: float, window: int) -> str:
    """A closed loop like the server's: ``window`` requests outstanding, each costs the loop ``work_us`` before it is
    submitted; who is answered asks again. ``writer``: ``loop`` or ``thread``."""
    loop = asyncio.get_running_loop()
    store._writer._away_until = float("inf") if writer == "thread" else 0.0
    finished = number = 0
    ready = window
    waits: list[float] = []
    began = time.perf_counter()
    busy_from = time.process_time()
    stopped = asyncio.Event()

    def turn() -> None:
        nonlocal number, ready
        asked, ready = ready, 0
        until = time.perf_counter() + asked * work_us / 1e6
        while time.perf_counter() < until:
            pass
        for _ in range(asked):
            entries, changes = make(number)
            number += 1
            store.submit(Commit(entries, changes, answered(time.perf_counter())))

    def answered(asked_at: float) -> Callable[[Exception | None], None]:
        def done(error: Exception | None) -> None:
            nonlocal finished, ready
            if error is not None:
                raise error
            finished += 1
            now = time.perf_counter()
            waits.append(now - asked_at)
            if now - began < seconds:
                if not ready:
                    loop.call_soon(turn)
                ready += 1
            elif finished == number:
                stopped.set()

        return done

    turn()
    await stopped.wait()
    took = time.perf_counter() - began
    cpu_us = (time.process_time() - busy_from) / finished * 1e6 - work_us
    waits.sort()
    middle, late = waits[len(waits) // 2] * 1000, waits[int(len(waits) * 0.99)] * 1000
    rate = f"{finished / took:10,.0f}/s   CPU {cpu_us:6.1f} us besides the work"
    return f"{rate}   wait p50 {middle:6.2f} ms  p99 {late:6.2f} ms"


def registration(device_id: DeviceId, number: int) -> Registration:
    objects = decode_object_list(BODY)
    versions = {each: listed.version for each, listed in objects.objects.items()}
    return Registration(
        f"loc{device_id}x{number}",
        device_id,
        f"urn:bench-{device_id}",
        PeerId("udp", "127.0.0.1", number & 0xFFFF, "127.0.0.1", 5683),
        "1.1",
        300,
        "U",
        False,
        BODY,
        objects,
        Library.builtin().for_device("1.1", versions),
        NOW_MS,
        NOW_MS,
    )


async def run(directory: Path, seconds: float, devices: int) -> None:
    print(*(migrate(directory) or ["nothing to migrate"]), sep="\n")
    store = await SqliteStore.open(directory, queue_limit=1_000_000)
    begun = time.perf_counter()
    ids = await fill(store, devices)
    print(f"create_device        {devices / (time.perf_counter() - begun):10,.0f}/s")

    def update(number: int) -> tuple[list[JournalEntry], list[Change]]:
        device_id = ids[number % devices]
        return [JournalEntry(Kind.UPDATE, device_id, NOW_MS + number, receipt(number), 204)], []

    def register(number: int) -> tuple[list[JournalEntry], list[Change]]:
        device_id = ids[number % devices]
        entry = JournalEntry(
            Kind.REGISTER,
            device_id,
            NOW_MS + number,
            receipt(number),
            201,
            payload=BODY,
            detail="ep=x&lwm2m=1.1&lt=300",
        )
        return [entry], [PutRegistration(registration(device_id, number), NOW_MS + number)]

    sys.setswitchinterval(0.0005)
    for name, make in (("update", update), ("register", register)):
        for window in (64, 512):
            for writer in ("thread", "loop", "thread", "loop"):
                line = await commits(store, make, seconds, writer=writer, work_us=30, window=window)
                print(f"{name:9} window {window:3}  {writer:6} writes {line}", flush=True)
    begun = time.perf_counter()
    for number in range(20_000):
        await store.recall(receipt(number | 1 << 40), NOW_MS)
    print(f"recall, unknown      {(time.perf_counter() - begun) / 20_000 * 1e6:10.2f} us")
    begun = time.perf_counter()
    for number in range(100):
        await store.recall(receipt(number), NOW_MS)
    print(f"recall, known        {(time.perf_counter() - begun) / 100 * 1e6:10.2f} us")
    begun = time.perf_counter()
    for number in range(2_000):
        await store.registration_of(ids[number % devices])
    print(f"registration_of      {(time.perf_counter() - begun) / 2_000 * 1e6:10.2f} us")
    await store.close()


async def project(directory: Path, sends: int, devices: int) -> None:
    migrate(directory)
    store = await SqliteStore.open(directory, queue_limit=1_000_000)
    ids = await fill(store, devices)
    left = asyncio.Event()
    waiting = 0

    def done(error: Exception | None) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            left.set()

    def commit(entry: JournalEntry) -> None:
        nonlocal waiting
        waiting += 1
        store.submit(Commit((entry,), (), done))

    for device_id in ids:
        commit(JournalEntry(Kind.REGISTER, device_id, NOW_MS, status=201, payload=BODY, detail="ep=x&lwm2m=1.1"))
    for number in range(sends):
        commit(
            JournalEntry(
                Kind.SEND,
                ids[number * 7919 % devices],
                NOW_MS + number,
                receipt(number),
                204,
                "/",
                110,
                SEND,
                ("Room:r1", "Floor:2"),
            )
        )
    await left.wait()
    await store.close()
    projector = Projector(directory)
    slices = []
    begun, begun_cpu = time.perf_counter(), time.process_time()
    total = 0
    while True:
        before = time.process_time()
        taken = projector.run_once()
        if not taken:
            break
        total += taken
        slices.append((time.process_time() - before) / taken * 1e6)
    took, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    size = (directory / "projected.db").stat().st_size / 1e6
    print(
        f"projector            {total / took:10,.0f} Sends/s of 4 values ({total / cpu:,.0f} per CPU second), "
        f"{devices} devices, failures {projector.failures}, first/last slice {slices[0]:.0f}/{slices[-1]:.0f} us CPU "
        f"each, file {size:.0f} MB"
    )
    projector.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--sends", type=int, default=60_000)
    parser.add_argument("--only", choices=("commits", "projector"))
    options = parser.parse_args()
    for name, work in (
        ("commits", lambda where: run(where, options.seconds, options.devices)),
        ("projector", lambda where: project(where, options.sends, options.devices)),
    ):
        if options.only in (None, name):
            directory = Path(tempfile.mkdtemp(prefix="stellwerk-bench-", dir=Path.cwd()))
            try:
                asyncio.run(work(directory))
            finally:
                shutil.rmtree(directory)


if __name__ == "__main__":
    main()
