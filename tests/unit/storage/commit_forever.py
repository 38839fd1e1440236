"""A server to be killed: commits without end and prints the number of each commit once it is durable.

Every commit n has the entry with receipt n and, every third one, a new registration of its device at location n. Its
device's session has read record n then.
"""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from tests.contract.builders import make_device, peer, registration, send
from tests.contract.test_sessions import put, session, session_id

from stellwerk.app.changes import Commit, PutRegistration
from stellwerk.storage.sqlite import marks
from stellwerk.storage.sqlite.store import SqliteStore

WINDOW = 300
marks.SWEEP_AT = 100  # type: ignore[misc]


async def run(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    devices = [(await make_device(store, f"dev-{number}")).device_id for number in range(10)]
    await put(store, *(session(device_id, device_id) for device_id in devices))
    read: dict[bytes, int] = {}

    def take() -> list[tuple[bytes, int]]:
        taken = list(read.items())
        read.clear()
        return taken

    store.marks = take
    done: list[int] = []
    told = asyncio.Event()

    def finished(number: int, error: Exception | None) -> None:
        assert error is None
        done.append(number)
        told.set()

    submitted = acknowledged = 0
    while True:
        while submitted - acknowledged < WINDOW:
            device_id = devices[submitted % 10]
            read[session_id(device_id)] = submitted
            changes = ()
            if submitted % 3 == 0:
                made = registration(device_id, str(submitted), peer=peer(submitted % 60_000))
                changes = (PutRegistration(made, submitted),)
            store.submit(Commit((send(device_id, submitted),), changes, partial(finished, submitted)))
            submitted += 1
        await told.wait()
        told.clear()
        acknowledged += len(done)
        os.write(1, b"".join(b"%d\n" % number for number in done))
        done.clear()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
