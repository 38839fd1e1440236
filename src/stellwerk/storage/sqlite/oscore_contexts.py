"""OSCORE security contexts in SQLite (RFC 8613). Each function that writes runs in a transaction of its caller's.

What was protected with a context is never protected with it anew: when one that was used goes, its fingerprint stays
with the numbers that are used up, and whoever brings the same keys again goes on from there.
"""

import sqlite3
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from stellwerk.app.credential_record import bootstrap_oscore
from stellwerk.app.oscore import SAME_KEY, UNKNOWN, OscoreContext, later, read_oscore
from stellwerk.app.records import AlreadyExists, DeviceGone
from stellwerk.core.ids import DeviceId
from stellwerk.storage.sqlite import rows
from stellwerk.storage.vault import Vault

_CONTEXT: Final = (
    "id,device_id,is_fresh,is_bootstrap,sender_id,id_context,sealed,ceiling,created_ms FROM oscore_context"
)
_PUT: Final = (
    "INSERT INTO oscore_context"
    "(device_id,is_fresh,is_bootstrap,sender_id,id_context,sealed,fingerprint,ceiling,created_ms) "
    "VALUES (?,?,?,?,?,?,?,?,?)"
)
_WHICH: Final = "device_id=? AND is_fresh=? AND is_bootstrap=?"
_BURY: Final = (
    "INSERT INTO oscore_spent(fingerprint,ceiling) SELECT fingerprint,ceiling FROM oscore_context "
    f"WHERE {_WHICH} AND ceiling<>0 AND coalesce(?,fingerprint)=fingerprint "
    "ON CONFLICT(fingerprint) DO UPDATE SET ceiling="
    f"CASE WHEN {UNKNOWN} IN (ceiling,excluded.ceiling) THEN {UNKNOWN} ELSE max(ceiling,excluded.ceiling) END"
)
_DROP: Final = f"DELETE FROM oscore_context WHERE {_WHICH}"


@dataclass(frozen=True, slots=True)
class _Sealed:
    recipient_id: bytes
    master_secret: bytes = field(repr=False)
    master_salt: bytes = field(repr=False)
    aead: int
    hkdf: int


def find(connection: sqlite3.Connection, vault: Vault, condition: str, *parameters: Any) -> OscoreContext | None:
    """Raises `SecretUnreadable`."""
    found = connection.execute(f"SELECT {_CONTEXT} WHERE {condition}", parameters).fetchall()
    if not found:
        return None
    number, device_id, is_fresh, is_bootstrap, sender_id, id_context, sealed, ceiling, created_ms = found[0]
    opened = msgspec.msgpack.decode(vault.open(sealed, sealed_as(device_id)), type=_Sealed)
    return OscoreContext(
        number,
        DeviceId(device_id),
        sender_id,
        opened.recipient_id,
        opened.master_secret,
        opened.master_salt,
        id_context,
        opened.aead,
        opened.hkdf,
        ceiling,
        created_ms,
        bool(is_fresh),
        bool(is_bootstrap),
    )


def put(connection: sqlite3.Connection, vault: Vault, salt: bytes, context: OscoreContext) -> OscoreContext:
    """In the place of the one that the device has at that server, fresh or not as ``context`` is; as it is kept then.
    Raises `AlreadyExists`, `DeviceGone`."""
    if rows.read_device(connection, context.device_id) is None:
        raise DeviceGone
    whose = (context.device_id, int(context.is_fresh), int(context.is_bootstrap))
    taken = "SELECT 1 FROM oscore_context WHERE sender_id=?1 AND is_bootstrap=?4 AND NOT (device_id=?2 AND is_fresh=?3)"
    if connection.execute(taken, (context.sender_id, *whose)).fetchall():
        raise AlreadyExists("OSCORE sender ID", context.sender_id.hex())
    base = _given(connection, vault, salt, context)
    # What two ends agreed on (App. B.2) has random parts and never comes again: no trace of it has to stay.
    drop(connection, context.device_id, whose[1:], only=base)
    fingerprint = context.fingerprint(salt)
    if connection.execute("SELECT 1 FROM oscore_context WHERE fingerprint=?", (fingerprint,)).fetchall():
        # Two ends that do not know of each other would use the same nonces.
        raise AlreadyExists(SAME_KEY, context.recipient_id.hex())
    spent = connection.execute("SELECT ceiling FROM oscore_spent WHERE fingerprint=?", (fingerprint,)).fetchall()
    ceiling = later(context.ceiling, spent[0][0]) if spent else context.ceiling
    opened = _Sealed(context.recipient_id, context.master_secret, context.master_salt, context.aead, context.hkdf)
    cursor = connection.execute(
        _PUT,
        (
            *whose,
            context.sender_id,
            context.id_context,
            vault.seal(msgspec.msgpack.encode(opened), sealed_as(context.device_id)),
            fingerprint,
            ceiling,
            context.created_ms,
        ),
    )
    assert cursor.lastrowid is not None
    return replace(context, number=cursor.lastrowid, ceiling=ceiling)


def _given(connection: sqlite3.Connection, vault: Vault, salt: bytes, context: OscoreContext) -> bytes | None:
    """The fingerprint of the context as the device's credential, or its fresh one, has it for that server."""
    device_id = context.device_id
    text = _text(connection, vault, device_id, context.is_fresh, context.is_bootstrap)
    return read_oscore(text, device_id).fingerprint(salt) if text else None


def _text(connection: sqlite3.Connection, vault: Vault, device_id: DeviceId, is_fresh: bool, is_bootstrap: bool) -> str:
    """Empty where it has none."""
    if is_fresh:
        found = connection.execute("SELECT sealed FROM fresh_credential WHERE device_id=?", (device_id,)).fetchall()
        return rows.fresh_from(found[0][0], vault, device_id).oscore if found else ""
    column, sealed_as = ("bootstrap", rows.bootstrap_context) if is_bootstrap else ("oscore", rows.oscore_context)
    found = connection.execute(f"SELECT {column} FROM credential WHERE device_id=?", (device_id,)).fetchall()
    if not found or found[0][0] is None:
        return ""
    text = vault.open(found[0][0], sealed_as(device_id)).decode()
    return bootstrap_oscore(text) if is_bootstrap else text


HELD: Final = (0, 0)
FRESH: Final = (1, 0)
BOOTSTRAP: Final = (0, 1)
"""Which of a device's contexts: whether it is fresh, whether it is for the bootstrap server."""
ALL: Final = (HELD, FRESH, BOOTSTRAP)


def drop(
    connection: sqlite3.Connection, device_id: DeviceId, *which: tuple[int, int], only: bytes | None = None
) -> None:
    """The device's. ``only``: with this fingerprint alone something has to stay."""
    for each in which:
        connection.execute(_BURY, (device_id, *each, only))
        connection.execute(_DROP, (device_id, *each))


def promote(connection: sqlite3.Connection, device_id: DeviceId) -> None:
    """The fresh one is the one that holds, and the former is dropped, also where there is no fresh one."""
    drop(connection, device_id, HELD)
    connection.execute("UPDATE oscore_context SET is_fresh=0 WHERE device_id=? AND is_fresh=1", (device_id,))


def raise_ceiling(connection: sqlite3.Connection, number: int, ceiling: int) -> bool:
    """False where there is no such context, or its ceiling is `UNKNOWN`."""
    statement = f"UPDATE oscore_context SET ceiling=max(ceiling,?) WHERE id=? AND ceiling<>{UNKNOWN}"
    return connection.execute(statement, (ceiling, number)).rowcount > 0


def sealed_as(device_id: int) -> bytes:
    """What a context is sealed with."""
    return f"oscore context of device {device_id}".encode()
