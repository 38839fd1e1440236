"""What people write: devices with their keys, outgoing messages. Each function runs in a round of the writer, inside a
transaction its caller opened and rolls back when it raises."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from stellwerk.app.operation_record import encode_operation
from stellwerk.app.ports import OBJECT_LISTS_KEPT, UNBOUNDED, Limits
from stellwerk.app.records import (
    AlreadyExists,
    ContainerFull,
    DeviceChange,
    DeviceGone,
    MessageRecord,
    NewCommand,
    NewDevice,
    NewOutgoing,
    ProfileInUse,
    QueueFull,
)
from stellwerk.app.resource_ids import device_key
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.command import Command, Step
from stellwerk.device.end_device import end_device_aliases
from stellwerk.device.profile import ProfileRecord, to_settings
from stellwerk.device.record import DeviceRecord, endpoint_aliases, security_of
from stellwerk.storage.bootstrap_text import encode_bootstrap
from stellwerk.storage.schema import OPEN_STEPS
from stellwerk.storage.sqlite import credentials, instances, oscore_contexts, rows
from stellwerk.storage.sqlite.tree import remove_below
from stellwerk.storage.vault import Vault

OF_GATEWAY: Final = "gateway_id=? AND gateway_id>0"
"""The second term is what lets the partial index be used."""


def ensure_tenant(connection: sqlite3.Connection, name: str, now_ms: int) -> TenantId:
    """The tenant of that name, made if need be."""
    connection.execute("INSERT INTO tenant(name,created_ms) VALUES (?,?) ON CONFLICT(name) DO NOTHING", (name, now_ms))
    return TenantId(_one(connection, "SELECT id FROM tenant WHERE name=?", (name,)))


def create_device(
    connection: sqlite3.Connection, vault: Vault, salt: bytes, tenant_id: TenantId, device: NewDevice
) -> DeviceRecord:
    """Raises `AlreadyExists`."""
    tenant = _one(connection, "SELECT name FROM tenant WHERE id=?", (tenant_id,))
    if _exists(connection, "SELECT 1 FROM device WHERE tenant_id=? AND name=?", (tenant_id, device.name)):
        raise AlreadyExists("device name", device.name)
    if _exists(connection, "SELECT 1 FROM device WHERE node_id=?", (device.node_id,)):
        raise AlreadyExists("node ID", device.node_id)
    if device.gateway_id:
        gateway = "SELECT 1 FROM device WHERE id=? AND tenant_id=? AND gateway_id=0"
        if not _exists(connection, gateway, (device.gateway_id, tenant_id)):
            raise DeviceGone
        aliases = end_device_aliases(device.node_id, device.name)
    else:
        aliases = endpoint_aliases(device.node_id, device.name)
    for alias, rank in () if device.gateway_id else aliases:
        before = (
            "SELECT 1 FROM device_alias a JOIN device d ON d.id=a.device_id WHERE a.alias=? AND a.rank>? "
            "AND d.tenant_id<>? AND d.gateway_id=0"
        )
        if _exists(connection, before, (alias, rank, tenant_id)):
            raise AlreadyExists("endpoint name", alias)
    below = "SELECT 1 FROM tree_resource WHERE tenant_id=? AND parent=? AND resource_name=?"
    if _exists(connection, below, (tenant_id, tenant, device.name)):
        raise AlreadyExists("resource name", device.name)
    cursor = connection.execute(
        "INSERT INTO device(tenant_id,name,node_id,labels,profile,security,device_info,created_ms,modified_ms,"
        "resource_key,gateway_id,gateway_prefix) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            tenant_id,
            device.name,
            device.node_id,
            rows.to_json(device.labels),
            device.profile,
            security_of(device.credential),
            rows.to_json(device.device_info),
            device.created_ms,
            device.created_ms,
            device_key(tenant, device.name, device.created_ms),
            device.gateway_id,
            device.gateway_prefix,
        ),
    )
    assert cursor.lastrowid is not None
    device_id = DeviceId(cursor.lastrowid)
    if device.credential is not None:
        credentials.put(connection, vault, salt, device_id, device.credential)
    connection.executemany(
        "INSERT INTO device_alias(alias,rank,device_id) VALUES (?,?,?)",
        [(alias, rank, device_id) for alias, rank in aliases],
    )
    record = rows.read_device(connection, device_id)
    assert record is not None
    return record


def change_device(connection: sqlite3.Connection, device_id: DeviceId, change: DeviceChange) -> DeviceRecord | None:
    """The device as it is then."""
    gateway_id, prefix = change.behind or (None, None)
    if change.profile is not None:
        _assign_profile(connection, device_id, change.profile)
    connection.execute(
        "UPDATE device SET modified_ms=?, labels=coalesce(?,labels), device_info=coalesce(?,device_info), "
        "gateway_id=coalesce(?,gateway_id), gateway_prefix=coalesce(?,gateway_prefix) WHERE id=?",
        (
            change.modified_ms,
            None if change.labels is None else rows.to_json(change.labels),
            None if change.device_info is None else rows.to_json(change.device_info),
            gateway_id,
            prefix,
            device_id,
        ),
    )
    return rows.read_device(connection, device_id)


def remove_device(connection: sqlite3.Connection, device_id: DeviceId, last_seq: int) -> bool:
    """The device and all that hangs on it, the end devices behind it too; the projector is told through
    ``removed_device``."""
    for (behind,) in connection.execute(f"SELECT id FROM device WHERE {OF_GATEWAY}", (device_id,)).fetchall():
        remove_device(connection, DeviceId(behind), last_seq)
    oscore_contexts.drop(connection, device_id, *oscore_contexts.ALL)
    gone = connection.execute("DELETE FROM device WHERE id=? RETURNING tenant_id,resource_key", (device_id,)).fetchall()
    if not gone:
        return False
    tenant_id, key = gone[0]
    remove_below(connection, tenant_id, rows.to_json([key]))
    connection.execute("DELETE FROM object_list WHERE profile_id>=? AND profile_id<?", object_list_range(device_id))
    connection.execute("INSERT INTO removed_device(device_id,seq) VALUES (?,?)", (device_id, last_seq))
    return True


def object_list_range(device_id: DeviceId) -> tuple[str, str]:
    """What the keys of a device's object lists begin with, and the first text behind them: an ID holds for the device
    that taught it."""
    return f"{device_id} ", f"{device_id}!"


def put_object_list(
    connection: sqlite3.Connection, device_id: DeviceId, profile_id: str, body: bytes, now_ms: int
) -> None:
    """Keep the list and only the newest few of the device."""
    prefix, end = object_list_range(device_id)
    # As new as the newest one at least: the clock may have gone back, and this one is to be kept.
    connection.execute(
        "INSERT OR REPLACE INTO object_list(profile_id,body,created_ms) VALUES (?,?,max(?,"
        "(SELECT coalesce(max(created_ms),0)+1 FROM object_list WHERE profile_id>=? AND profile_id<?)))",
        (prefix + profile_id, body, now_ms, prefix, end),
    )
    connection.execute(
        "DELETE FROM object_list WHERE profile_id IN (SELECT profile_id FROM object_list"
        " WHERE profile_id>=? AND profile_id<? ORDER BY created_ms DESC LIMIT -1 OFFSET ?)",
        (prefix, end, OBJECT_LISTS_KEPT),
    )


def put_profile(connection: sqlite3.Connection, record: ProfileRecord) -> None:
    """Make it, or replace the one of that name."""
    connection.execute(
        f"INSERT INTO profile({rows.PROFILE}) VALUES (?,?,?,?,?,?) ON CONFLICT(tenant_id,name) DO UPDATE SET "
        "settings=excluded.settings, modified_ms=excluded.modified_ms, bootstrap=excluded.bootstrap",
        (
            record.tenant_id,
            record.name,
            rows.to_json(to_settings(record.profile)),
            record.created_ms,
            record.modified_ms,
            encode_bootstrap(record.bootstrap),
        ),
    )
    _count_profile_change(connection)


def remove_profile(connection: sqlite3.Connection, tenant_id: TenantId, name: str) -> bool:
    """False where there is none. Raises `ProfileInUse`."""
    query = "SELECT count(*), min(name) FROM device WHERE tenant_id=? AND profile=?"
    count, device = connection.execute(query, (tenant_id, name)).fetchall()[0]
    if not _exists(connection, "SELECT 1 FROM profile WHERE tenant_id=? AND name=?", (tenant_id, name)):
        return False
    if count:
        raise ProfileInUse(name, count, device)
    connection.execute("DELETE FROM profile WHERE tenant_id=? AND name=?", (tenant_id, name))
    _count_profile_change(connection)
    return True


PROFILES_VERSION: Final = "profiles_version"
"""Row of ``meta``: how often a profile, or which device has which, was changed."""


def _count_profile_change(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO meta(name,value) VALUES (?,'1') ON CONFLICT(name) DO UPDATE SET value=CAST(value AS INTEGER)+1",
        (PROFILES_VERSION,),
    )


def _assign_profile(connection: sqlite3.Connection, device_id: DeviceId, profile: str) -> None:
    before = rows.read_device(connection, device_id)
    if before is None:
        return
    labels = tuple(f"profile:{profile}" if each.startswith("profile:") else each for each in before.labels)
    connection.execute("UPDATE device SET profile=?, labels=? WHERE id=?", (profile, rows.to_json(labels), device_id))
    _count_profile_change(connection)


def post_outgoing(
    connection: sqlite3.Connection, outgoing: NewOutgoing, limit: int, queue_length: int
) -> tuple[MessageRecord, list[Command]]:
    """Raises `DeviceGone`, `ContainerFull`, `QueueFull` or `AlreadyExists`. What ends with it is written already; the
    entries are for the caller to append."""
    device_id = outgoing.device_id
    if not _exists(connection, "SELECT 1 FROM device WHERE id=?", (device_id,)):
        raise DeviceGone
    if outgoing.resource_name:
        count = _one(connection, "SELECT count(*) FROM outgoing_message WHERE device_id=?", (device_id,))
        if count >= limit:
            raise ContainerFull("outgoing-msg", count, limit)
    if queue_length < UNBOUNDED:
        waiting = _one(connection, f"SELECT count(*) FROM command WHERE device_id=? AND {OPEN_STEPS}", (device_id,))
        if waiting + len(outgoing.commands) > queue_length:
            raise QueueFull(waiting, len(outgoing.commands), queue_length)
    tag = _next_tag(connection, outgoing) if outgoing.resource_name else 0
    record = outgoing.message(tag)
    if outgoing.commands and outgoing.resource_name:
        connection.execute(
            f"INSERT INTO outgoing_message(device_id,{rows.MESSAGE}) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                device_id,
                record.resource_id,
                record.resource_name,
                tag,
                record.created_ms,
                record.content,
                record.content_info,
                record.content_size,
                record.creator,
                rows.to_json(record.labels),
            ),
        )
    return record, [_insert_command(connection, outgoing, each) for each in outgoing.commands]


def _next_tag(connection: sqlite3.Connection, outgoing: NewOutgoing) -> int:
    taken = "SELECT 1 FROM outgoing_message WHERE device_id=? AND resource_name=?"
    if _exists(connection, taken, (outgoing.device_id, outgoing.resource_name)):
        raise AlreadyExists("resource name", outgoing.resource_name)
    tag: int = _one(
        connection,
        "INSERT INTO message_container(device_id,container,state_tag,modified_ms) VALUES (?,'outgoing-msg',1,?) "
        "ON CONFLICT DO UPDATE SET state_tag=state_tag+1, modified_ms=excluded.modified_ms RETURNING state_tag",
        (outgoing.device_id, outgoing.created_ms),
    )
    return tag


def remove_sent_message(connection: sqlite3.Connection, device_id: DeviceId, resource_id: str, limits: Limits) -> bool:
    """False where there is none."""
    removed, _ = instances.remove(connection, "sent_message", device_id, resource_id, limits)
    return removed


def _insert_command(connection: sqlite3.Connection, outgoing: NewOutgoing, new: NewCommand) -> Command:
    cursor = connection.execute(
        "INSERT INTO command(device_id,outgoing_ri,outgoing_rn,request_id,method,operation,content,content_info,step,"
        "created_ms,expires_ms,changed_ms,priority,reason,detail) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,'','')",
        (
            outgoing.device_id,
            outgoing.resource_id,
            outgoing.resource_name,
            new.request_id,
            new.method,
            encode_operation(new.operation),
            new.content,
            new.content_info,
            Step.QUEUED.value,
            outgoing.created_ms,
            new.expires_ms,
            outgoing.created_ms,
            new.priority,
        ),
    )
    assert cursor.lastrowid is not None
    return outgoing.command(new, cursor.lastrowid)


def _one(connection: sqlite3.Connection, query: str, parameters: Sequence[Any]) -> Any:
    return connection.execute(query, parameters).fetchall()[0][0]


def _exists(connection: sqlite3.Connection, query: str, parameters: Sequence[Any]) -> bool:
    return bool(connection.execute(query, parameters).fetchall())
