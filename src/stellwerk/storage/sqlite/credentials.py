"""What devices prove themselves with, in SQLite: a part of `store`, and what a transaction of it writes."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import msgspec
import structlog

from stellwerk.app.credential_record import bootstrap_id, bootstrap_oscore, is_one_time, taken_up
from stellwerk.app.oscore import OscoreContext, read_oscore
from stellwerk.app.records import AlreadyExists, CredentialChanged, DeviceGone
from stellwerk.app.security_ports import CredentialChange
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import PSK, X509, Credential, DeviceRecord, basis_of, proof_of, security_of
from stellwerk.storage.identifiers import BOOTSTRAP_ID, taken_once
from stellwerk.storage.sqlite import oscore_contexts, rows
from stellwerk.storage.sqlite.sessions import SqliteSessions
from stellwerk.storage.vault import SecretUnreadable, Vault

log = structlog.get_logger(__name__)

_AUTHORITIES: Final = "trusted_authorities"
"""Row of ``meta``: their fingerprints, a line each."""
_NAMED: Final = "bootstrap_ids"
"""Row of ``meta``: up to which device `name_bootstrap_credentials` has come."""
_SLICE: Final = 500
_NOTE: Final = (
    "INSERT OR REPLACE INTO credential_change(device_id,only_bootstrap) VALUES "
    "(?1,?2 AND NOT EXISTS (SELECT 1 FROM credential_change WHERE device_id=?1 AND NOT only_bootstrap))"
)


class SqliteCredentials(SqliteSessions):
    """A part of `SqliteStore`."""

    _salt: bytes

    async def credential_of(self, device_id: DeviceId) -> Credential | None:
        return credential_of(self._reader, self._vault, device_id)

    async def credential_by_identity(self, credentials_id: str) -> tuple[DeviceRecord, Credential] | None:
        return self._credential("identity", credentials_id) or self._fresh("identity", credentials_id)

    async def credential_by_key(self, key_id: str) -> tuple[DeviceRecord, Credential] | None:
        if not key_id:
            return None
        return self._credential("key_id", key_id) or self._fresh("key_id", key_id)

    async def bootstrap_credential(self, bootstrap_id: str) -> tuple[DeviceRecord, Credential] | None:
        return self._credential(BOOTSTRAP_ID, bootstrap_id) if bootstrap_id else None

    async def set_credential(self, device_id: DeviceId, credential: Credential | None) -> DeviceRecord | None:
        return await self._task(set_credential, self._vault, self._salt, device_id, credential)

    async def change_credential(
        self, device_id: DeviceId, change: Callable[[Credential | None], Credential | None]
    ) -> DeviceRecord | None:
        return await self._task(_change, self._vault, self._salt, device_id, change)

    async def spend_bootstrap_credential(self, device_id: DeviceId, now_ms: int) -> None:
        await self._task(spend, self._vault, device_id, now_ms)

    async def credential_changes(self, limit: int) -> Sequence[CredentialChange]:
        found = self._rows("SELECT device_id,id,only_bootstrap FROM credential_change ORDER BY id LIMIT ?", limit)
        return [CredentialChange(DeviceId(device_id), number, bool(only)) for device_id, number, only in found]

    async def trust_authorities(self, fingerprints: Collection[str]) -> int:
        return await self._task(_trust_authorities, fingerprints)

    async def forget_credential_change(self, number: int) -> None:
        await self._task(_forget_change, number)

    # -- fresh --

    async def fresh_credential(self, device_id: DeviceId) -> Credential | None:
        return _fresh_of(self._reader, self._vault, device_id)

    async def put_fresh_credential(
        self, device_id: DeviceId, credential: Credential | None, *, basis: tuple[str, ...] | None = None
    ) -> None:
        await self._task(_put_fresh, self._vault, self._salt, device_id, credential, basis)

    async def promote_fresh_credential(
        self, device_id: DeviceId, used: Credential | None = None, *, session: bytes = b""
    ) -> DeviceRecord | None:
        return await self._task(_promote, self._vault, device_id, used, session)

    # -- OSCORE --

    async def oscore_context(
        self, sender_id: bytes, id_context: bytes | None, *, is_bootstrap: bool = False
    ) -> OscoreContext | None:
        condition = "sender_id=?1 AND coalesce(?2,id_context)=id_context AND is_bootstrap=?3"
        return oscore_contexts.find(self._reader, self._vault, condition, sender_id, id_context, is_bootstrap)

    async def oscore_context_of(self, device_id: DeviceId, *, is_bootstrap: bool = False) -> OscoreContext | None:
        condition = "device_id=? AND is_fresh=0 AND is_bootstrap=?"
        return oscore_contexts.find(self._reader, self._vault, condition, device_id, is_bootstrap)

    async def put_oscore_context(self, context: OscoreContext) -> OscoreContext:
        return await self._task(oscore_contexts.put, self._vault, self._salt, context)

    async def raise_oscore_ceiling(self, number: int, ceiling: int) -> bool:
        return await self._task(oscore_contexts.raise_ceiling, number, ceiling)

    # -- of earlier versions --

    async def name_bootstrap_credentials(self) -> int:
        """Of some credentials that an earlier version stored: note how the bootstrap server finds them. Returns how
        many were looked at, 0 when there is nothing left to do."""
        row = self._row("SELECT CAST(value AS INTEGER) FROM meta WHERE name=?", _NAMED)
        last = 0 if row is None else row[0]
        left = "SELECT 1 FROM credential WHERE device_id>? LIMIT 1"
        if last < 0 or (row is None and self._row(left, last) is None):
            return 0
        return await self._task(_name_some, self._vault, last)

    # -- reading --

    def _device(self, condition: str, *parameters: Any) -> DeviceRecord | None:
        row = self._row(
            f"SELECT {rows.DEVICE} FROM device d JOIN tenant t ON t.id=d.tenant_id {condition}", *parameters
        )
        return None if row is None else rows.device_from(row)

    def _credential(self, column: str, value: str) -> tuple[DeviceRecord, Credential] | None:
        row = self._row(
            f"SELECT {rows.DEVICE},c.* FROM (SELECT {rows.CREDENTIAL} FROM credential c WHERE c.{column}=?) c "
            "JOIN device d ON d.id=c.device_id JOIN tenant t ON t.id=d.tenant_id",
            value,
        )
        if row is None:
            return None
        device, credential = row[: rows.DEVICE_COLUMNS], row[rows.DEVICE_COLUMNS :]
        return rows.device_from(device), rows.credential_from(credential, self._vault)

    def _fresh(self, column: str, value: str) -> tuple[DeviceRecord, Credential] | None:
        row = self._row(
            f"SELECT {rows.DEVICE},f.sealed FROM fresh_credential f JOIN device d ON d.id=f.device_id "
            f"JOIN tenant t ON t.id=d.tenant_id WHERE f.{column}=?",
            value,
        )
        if row is None:
            return None
        device = rows.device_from(row[: rows.DEVICE_COLUMNS])
        return device, rows.fresh_from(row[-1], self._vault, device.device_id)


def credential_of(connection: sqlite3.Connection, vault: Vault, device_id: DeviceId) -> Credential | None:
    """Raises `SecretUnreadable`."""
    query = f"SELECT {rows.CREDENTIAL} FROM credential WHERE device_id=?"
    found = connection.execute(query, (device_id,)).fetchall()
    return rows.credential_from(found[0], vault) if found else None


def put(connection: sqlite3.Connection, vault: Vault, salt: bytes, device_id: DeviceId, credential: Credential) -> None:
    """Of a device that had none, with its OSCORE contexts. Raises `AlreadyExists`."""
    _put(connection, vault, device_id, credential)
    _put_context(connection, vault, salt, device_id, credential)
    _put_bootstrap_context(connection, vault, salt, device_id, credential)


def set_credential(
    connection: sqlite3.Connection, vault: Vault, salt: bytes, device_id: DeviceId, credential: Credential | None
) -> DeviceRecord | None:
    """The device as it is then. Raises `AlreadyExists`."""
    if rows.read_device(connection, device_id) is None:
        return None
    try:
        before = credential_of(connection, vault, device_id)
        changed, is_noted = proof_of(before) != proof_of(credential), basis_of(before) != basis_of(credential)
        is_known_there = _for_bootstrap(before) == _for_bootstrap(credential)
    except SecretUnreadable:
        # Whatever it was: that one can be replaced, or taken away.
        changed, is_noted, is_known_there = True, True, False
    if is_noted:
        connection.execute(_NOTE, (device_id, not changed))
        _forget_fresh(connection, device_id)
    if changed:
        oscore_contexts.drop(connection, device_id, oscore_contexts.HELD)
    if not is_known_there:
        oscore_contexts.drop(connection, device_id, oscore_contexts.BOOTSTRAP)
    if credential is None:
        connection.execute("DELETE FROM credential WHERE device_id=?", (device_id,))
    else:
        _put(connection, vault, device_id, credential)
    if changed and credential is not None:
        _put_context(connection, vault, salt, device_id, credential)
    if not is_known_there and credential is not None:
        _put_bootstrap_context(connection, vault, salt, device_id, credential)
    return _secured(connection, device_id, credential)


def _change(
    connection: sqlite3.Connection,
    vault: Vault,
    salt: bytes,
    device_id: DeviceId,
    change: Callable[[Credential | None], Credential | None],
) -> DeviceRecord | None:
    if rows.read_device(connection, device_id) is None:
        return None
    # The transaction has the file for itself since it began.
    wanted = change(credential_of(connection, vault, device_id))
    return set_credential(connection, vault, salt, device_id, wanted)


def _secured(connection: sqlite3.Connection, device_id: DeviceId, credential: Credential | None) -> DeviceRecord | None:
    connection.execute("UPDATE device SET security=? WHERE id=?", (security_of(credential), device_id))
    return rows.read_device(connection, device_id)


def _put(connection: sqlite3.Connection, vault: Vault, device_id: DeviceId, credential: Credential) -> None:
    _refuse_taken(connection, device_id, credential)
    connection.execute(
        f"INSERT OR REPLACE INTO credential({rows.CREDENTIAL}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        rows.credential_row(device_id, credential, vault),
    )


def _put_context(
    connection: sqlite3.Connection, vault: Vault, salt: bytes, device_id: DeviceId, credential: Credential
) -> None:
    if credential.oscore:
        context = read_oscore(credential.oscore, device_id, credential.modified_ms or credential.created_ms)
        oscore_contexts.put(connection, vault, salt, replace(context, is_fresh=credential.is_fresh))


def _for_bootstrap(credential: Credential | None) -> str:
    return "" if credential is None else bootstrap_oscore(credential.bootstrap)


def _put_bootstrap_context(
    connection: sqlite3.Connection, vault: Vault, salt: bytes, device_id: DeviceId, credential: Credential
) -> None:
    if text := _for_bootstrap(credential):
        context = read_oscore(text, device_id, credential.modified_ms or credential.created_ms)
        oscore_contexts.put(connection, vault, salt, replace(context, is_bootstrap=True))


def _refuse_taken(connection: sqlite3.Connection, device_id: DeviceId, credential: Credential) -> None:
    for column, value, what in taken_once(credential):
        for table in ("credential",) if column == BOOTSTRAP_ID else ("credential", "fresh_credential"):
            query = f"SELECT 1 FROM {table} WHERE {column}=? AND device_id<>?"
            if connection.execute(query, (value, device_id)).fetchall():
                raise AlreadyExists(what, value)


def spend(connection: sqlite3.Connection, vault: Vault, device_id: DeviceId, now_ms: int) -> None:
    """As `SqliteCredentials.spend_bootstrap_credential`. Raises `SecretUnreadable`."""
    known = credential_of(connection, vault, device_id)
    if known is not None and known.modified_ms <= now_ms and is_one_time(known.bootstrap):
        connection.execute("UPDATE credential SET spent_ms=? WHERE device_id=? AND spent_ms=0", (now_ms, device_id))


def _fresh_of(connection: sqlite3.Connection, vault: Vault, device_id: DeviceId) -> Credential | None:
    found = connection.execute("SELECT sealed FROM fresh_credential WHERE device_id=?", (device_id,)).fetchall()
    return rows.fresh_from(found[0][0], vault, device_id) if found else None


def _put_fresh(
    connection: sqlite3.Connection,
    vault: Vault,
    salt: bytes,
    device_id: DeviceId,
    credential: Credential | None,
    basis: tuple[str, ...] | None,
) -> None:
    if credential is None:
        _forget_fresh(connection, device_id)
        return
    if rows.read_device(connection, device_id) is None:
        raise DeviceGone
    if basis is not None and basis != basis_of(credential_of(connection, vault, device_id)):
        raise CredentialChanged
    credential = replace(credential, is_fresh=True, bootstrap="")
    with suppress(SecretUnreadable):
        if _fresh_of(connection, vault, device_id) == credential:
            return
    _forget_fresh(connection, device_id)
    _refuse_taken(connection, device_id, credential)
    own = "SELECT 1 FROM credential WHERE device_id=? AND identity=? AND kind=?"
    if credential.kind == PSK and connection.execute(own, (device_id, credential.identity, PSK)).fetchall():
        # Which of two keys a handshake means, only its identity says.
        raise AlreadyExists("PSK identity", credential.identity)
    connection.execute(
        "INSERT INTO fresh_credential(device_id,identity,key_id,sealed,created_ms) VALUES (?,?,?,?,?)",
        (
            device_id,
            credential.identity,
            credential.key_id or None,
            vault.seal(msgspec.json.encode(credential), rows.fresh_context(device_id)),
            credential.created_ms,
        ),
    )
    _put_context(connection, vault, salt, device_id, credential)


def _forget_fresh(connection: sqlite3.Connection, device_id: DeviceId) -> None:
    connection.execute("DELETE FROM fresh_credential WHERE device_id=?", (device_id,))
    oscore_contexts.drop(connection, device_id, oscore_contexts.FRESH)


def _promote(
    connection: sqlite3.Connection, vault: Vault, device_id: DeviceId, used: Credential | None, session: bytes
) -> DeviceRecord | None:
    fresh = _fresh_of(connection, vault, device_id)
    if fresh is None or used not in (None, fresh):
        return None
    credential = taken_up(credential_of(connection, vault, device_id), fresh)
    connection.execute("DELETE FROM fresh_credential WHERE device_id=?", (device_id,))
    oscore_contexts.promote(connection, device_id)
    # At once: whoever has one could go on from it after a crash, whatever the device has to prove by then.
    connection.execute("DELETE FROM secure_session WHERE device_id=? AND session_id<>?", (device_id, session))
    _put(connection, vault, device_id, credential)
    return _secured(connection, device_id, credential)


def _trust_authorities(connection: sqlite3.Connection, fingerprints: Collection[str]) -> int:
    """Of how many devices a change was noted."""
    found = connection.execute("SELECT value FROM meta WHERE name=?", (_AUTHORITIES,)).fetchall()
    before = set(bytes(found[0][0]).decode().split()) if found else set()
    if before == set(fingerprints):
        # Nothing to write: a start on a full disk goes on.
        return 0
    connection.execute(
        "INSERT OR REPLACE INTO meta(name,value) VALUES (?,?)",
        (_AUTHORITIES, "\n".join(sorted(fingerprints)).encode()),
    )
    if before <= set(fingerprints):
        return 0
    return connection.execute(
        "INSERT OR REPLACE INTO credential_change(device_id) "
        "SELECT device_id FROM credential WHERE kind=? AND key_id IS NULL",
        (X509,),
    ).rowcount


def _forget_change(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("DELETE FROM credential_change WHERE id=?", (number,))


def _name_some(connection: sqlite3.Connection, vault: Vault, last: int) -> int:
    found = connection.execute(
        "SELECT device_id,bootstrap,bootstrap_id FROM credential WHERE device_id>? ORDER BY device_id LIMIT ?",
        (last, _SLICE),
    ).fetchall()
    for device_id, sealed, known in found:
        if sealed is None or known is not None:
            continue
        try:
            wanted = bootstrap_id(vault.open(sealed, rows.bootstrap_context(device_id)).decode())
        except SecretUnreadable as error:
            log.warning("bootstrap.credential_not_found_by_identity", device_id=device_id, reason=str(error))
            continue
        statement = "UPDATE OR IGNORE credential SET bootstrap_id=? WHERE device_id=?"
        if wanted and not connection.execute(statement, (wanted, device_id)).rowcount:
            log.warning(
                "bootstrap.credential_not_found_by_identity",
                device_id=device_id,
                reason="another device has the same identity for the bootstrap server; give one of them another",
            )
    last = found[-1][0] if len(found) == _SLICE else -1
    connection.execute("INSERT OR REPLACE INTO meta(name,value) VALUES (?,?)", (_NAMED, b"%d" % last))
    return len(found)
