"""A device has used its fresh credential: who hears of it."""

import asyncio

from structlog.testing import capture_logs

from stellwerk.app.handlers.promoting import Promoting
from stellwerk.app.ports import StoreOverloaded
from stellwerk.app.records import NewDevice
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import PskIdentity
from stellwerk.core.ids import PeerId
from stellwerk.device.record import Credential, DeviceRecord
from stellwerk.storage.memory import MemoryStore

PEER = PeerId("tls", "192.0.2.7", 40_000, "192.0.2.1", 5684)


def test_whoever_fails_to_end_what_was_keeps_no_other_from_it() -> None:
    async def main() -> None:
        store, heard = MemoryStore(), []
        tenant_id = await store.ensure_tenant("default", 0)
        device = await store.create_device(
            tenant_id, NewDevice("meter", "urn:meter", credential=Credential("old", "key"))
        )
        await store.put_fresh_credential(device.device_id, Credential("new", "key"))
        tasks = Tasks()
        promoting = Promoting(store, tasks)

        async def fail(record: DeviceRecord, peer: PeerId) -> None:
            raise StoreOverloaded

        async def hear(record: DeviceRecord, peer: PeerId) -> None:
            heard.append((record.device_id, peer))

        promoting.hearers += [fail, hear]
        with capture_logs() as lines:
            promoting.used(PEER, PskIdentity(b"new"), device.device_id)
            await promoting.settled(device.device_id)
        assert heard == [(device.device_id, PEER)]
        assert [each["event"] for each in lines] == ["credential.promoted", "credential.promotion_not_heard"]

    asyncio.run(main())
