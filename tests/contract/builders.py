"""Small makers of what stores take: every field has a plain default."""

from collections.abc import Sequence
from typing import Any

from stellwerk.app.changes import Change, Commit
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import NewCommand, NewDevice, NewOutgoing, TreeResource
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.device.command import Command
from stellwerk.device.observation import WantedObservation
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.operations import Read
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library

NOW_MS = 1_760_000_000_000
BODY = b'</1/0>,</3/0>,</3303/0>;ver="1.1"'
SEND_JSON = b'[{"bn":"/3303/0/","n":"5700","v":21.5},{"n":"5601","v":1}]'


async def write(store: DecidingStore, entries: Sequence[JournalEntry] = (), changes: Sequence[Change] = ()) -> None:
    """Commit and wait until it is durable. Raises what kept it from being stored."""
    import asyncio

    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: Exception | None) -> None:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    store.submit(Commit(entries, changes, done))
    await future


async def make_device(store: DecidingStore, name: str = "dev-1", **fields: Any) -> DeviceRecord:
    tenant_id = fields.pop("tenant_id", None) or await store.ensure_tenant("default", NOW_MS)
    return await store.create_device(tenant_id, new_device(name, **fields))


def new_device(name: str = "dev-1", **fields: Any) -> NewDevice:
    known = {"node_id": f"urn:imei:{name}", "labels": (), "profile": "SCS-LwM2M", "device_info": ()}
    return NewDevice(name=name, created_ms=NOW_MS, **(known | fields))


def peer(port: int = 5683) -> PeerId:
    return PeerId("udp", "192.0.2.7", port, "192.0.2.1", 5683)


def registration(device_id: DeviceId, location: str = "loc1", **fields: Any) -> Registration:
    body = fields.pop("body", BODY)
    objects = decode_object_list(body)
    known: dict[str, Any] = {
        "endpoint_name": "urn:imei:dev-1",
        "peer": peer(),
        "version": "1.1",
        "lifetime_s": 300,
        "binding": "U",
        "queue_mode": False,
        "registered_ms": NOW_MS,
        "updated_ms": NOW_MS,
        "sms": "",
        "extra": (("x", "1"),),
    }
    known |= fields
    versions = {each: listed.version for each, listed in objects.objects.items()}
    types = Library.builtin().for_device(known["version"], versions, "default")
    return Registration(location=location, device_id=device_id, body=body, objects=objects, types=types, **known)


def observation(
    device_id: DeviceId, path: str = "/3303/0", token: bytes = b"token-01", **fields: Any
) -> WantedObservation:
    known: dict[str, Any] = {
        "accept": 112,
        "attributes": (("pmin", "5"), ("gt", None)),
        "labels": ("outgoing_msgRN:m", "requestId:r"),
        "created_ms": NOW_MS,
    }
    return WantedObservation(device_id, Path.parse(path), token, **(known | fields))


def new_outgoing(device_id: DeviceId, name: str = "msg-1", commands: int = 1, **fields: Any) -> NewOutgoing:
    known: dict[str, Any] = {
        "resource_id": name.encode().hex().ljust(24, "0")[:24],
        "created_ms": NOW_MS,
        "content": '"READ /3/0/0"',
        "content_info": None,
        "content_size": 11,
        "creator": "CApp",
        "labels": ("a:b",),
        "commands": tuple(
            NewCommand(f"{name}-{n}", "read", Read(Path(3, 0, n)), f'"READ /3/0/{n}"', None, NOW_MS + 60_000)
            for n in range(commands)
        ),
        "entries": (),
    }
    return NewOutgoing(device_id=device_id, resource_name=name, **(known | fields))


async def make_commands(
    store: DecidingStore, device_id: DeviceId, name: str = "msg-1", count: int = 1
) -> Sequence[Command]:
    _, commands = await store.post_outgoing(new_outgoing(device_id, name, count), 100)
    return commands


def tree_resource(tenant_id: TenantId, name: str = "app-1", parent: str = "default", **fields: Any) -> TreeResource:
    known: dict[str, Any] = {
        "resource_id": "0" * 24,
        "resource_type": 2,
        "envelope": "m2m:ae",
        "creator": "CAdmin",
        "labels": ("x", "y:z"),
        "created_ms": NOW_MS,
        "modified_ms": NOW_MS,
        "state_tag": 0,
        "attributes": {"api": "N1", "poa": ["http://x"], "rr": True},
    }
    return TreeResource(tenant_id=tenant_id, resource_name=name, parent=parent, **(known | fields))


def send(device_id: DeviceId, number: int = 0, payload: bytes = SEND_JSON, **fields: Any) -> JournalEntry:
    known: dict[str, Any] = {"time_ms": NOW_MS + number, "receipt": receipt(number), "status": 204, "path": "/"}
    return JournalEntry(Kind.SEND, device_id, content_format=110, payload=payload, **(known | fields))


def update(device_id: DeviceId, time_ms: int, number: int = 0) -> JournalEntry:
    return JournalEntry(Kind.UPDATE, device_id, time_ms, receipt(number), 204, location="loc1")


def register(device_id: DeviceId, number: int = 0, body: bytes = BODY, **fields: Any) -> JournalEntry:
    known: dict[str, Any] = {
        "time_ms": NOW_MS + number,
        "receipt": receipt(number),
        "status": 201,
        "location": "loc1",
        "method": "urn:imei:dev-1",
        "detail": "ep=urn:imei:dev-1&lwm2m=1.1&lt=300 from udp://192.0.2.7:5683",
    }
    return JournalEntry(Kind.REGISTER, device_id, content_format=40, payload=body, **(known | fields))


def receipt(number: int) -> bytes:
    return number.to_bytes(8, "little")
