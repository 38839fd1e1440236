"""How fast the store takes commits beside a busy event loop, and how fast the projector follows.

    python benchmarks/storage.py [--seconds 3] [--devices 1000]

Commits are measured with the loop resting and with a loop that computes all the time, in turns of some length: the
worst neighbour the writer thread can have. ``submit`` is the loop's own time per commit: queueing and callbacks.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Change, Commit, NewDevice, PutRegistration
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


async def commits(store: SqliteStore, make: Make, seconds: float, *, turn_s: float, window: int) -> str:
    """Keep ``window`` commits in flight for a while. ``turn_s``: how long each turn of the loop computes besides, with
    no pause between turns; 0 = the loop rests."""
    loop = asyncio.get_running_loop()
    finished = 0
    number = 0
    spent = 0.0
    stop_at = time.perf_counter() + seconds
    started_at: dict[int, float] = {}
    waits: list[float] = []
    turns = 0
    idle = asyncio.Event()

    def done(error: Exception | None) -> None:
        nonlocal finished
        if error is not None:
            raise error
        finished += 1

    def refill() -> None:
        nonlocal number, spent, turns
        now = time.perf_counter()
        if now > stop_at:
            if finished == number:
                idle.set()
            else:
                loop.call_later(0.001, refill)
            return
        wanted = window - (number - finished)
        batch = [make(number + each) for each in range(wanted)]
        begun = time.perf_counter()
        for entries, changes in batch:
            store.submit(Commit(entries, changes, done))
        spent += time.perf_counter() - begun
        if batch:
            first = number

            def mark(error: Exception | None) -> None:
                nonlocal finished
                finished += 1
                waits.append(time.perf_counter() - started_at.pop(first))

            started_at[first] = time.perf_counter()
            number += wanted
            entries, changes = make(number)
            number += 1
            store.submit(Commit(entries, changes, mark))
        turns += 1
        if turn_s:
            until = time.perf_counter() + turn_s
            while time.perf_counter() < until:
                pass
            loop.call_soon(refill)
        else:
            loop.call_later(0.0002, refill)

    # The callbacks' share of the loop's time.
    tell = store._writer._written
    told = 0.0

    def written(*arguments: object) -> None:
        nonlocal told
        begun = time.perf_counter()
        tell(*arguments)  # type: ignore[arg-type]
        told += time.perf_counter() - begun

    store._writer._written = written  # type: ignore[method-assign, assignment]
    begun = time.perf_counter()
    refill()
    await idle.wait()
    took = time.perf_counter() - begun
    store._writer._written = tell  # type: ignore[method-assign]
    if finished < window * 3:
        return f"{finished / took:10,.0f}/s   the writer thread starves"
    waits.sort()
    middle, late = waits[len(waits) // 2] * 1000, waits[int(len(waits) * 0.99)] * 1000
    return (
        f"{finished / took:10,.0f}/s   submit+done {(spent + told) / finished * 1e6:5.2f} us"
        f"   wait p50 {middle:6.2f} ms  p99 {late:6.2f} ms"
    )


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

    usual = sys.getswitchinterval()
    for interval in (usual, 0.0005, 0.0001):
        sys.setswitchinterval(interval)
        print(f"switch interval {interval * 1000:g} ms")
        for name, make in (("update", update), ("register", register)):
            for turn_ms in (0.0, 0.1, 0.3, 1.0, 5.0):
                line = await commits(store, make, seconds, turn_s=turn_ms / 1000, window=2000)
                print(f"  {name:9} turns of {turn_ms:3} ms {line}", flush=True)
    sys.setswitchinterval(usual)
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
