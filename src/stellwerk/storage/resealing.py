"""Another master key: what is sealed with a former one is sealed anew, slice by slice.

Each slice is a transaction, and a row changes only if it still is what was read. A run that ends in the middle leaves
everything readable with the keys there are, and the next goes on where it was.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stellwerk.storage.migrations import DECIDING_FILE
from stellwerk.storage.sqlite import oscore_contexts, rows
from stellwerk.storage.sqlite.connection import connect
from stellwerk.storage.sqlite.sessions import session_context
from stellwerk.storage.vault import SecretUnreadable, Vault

SLICE: Final = 500


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column whose values are sealed: ``key`` is the table's key in whose order it is read, ``owner`` the column that
    ``context`` takes."""

    table: str
    key: str
    owner: str
    column: str
    context: Callable[[Any], bytes]


SEALED: Final = (
    Sealed("credential", "device_id", "device_id", "secret", rows.secret_context),
    Sealed("credential", "device_id", "device_id", "bootstrap", rows.bootstrap_context),
    Sealed("credential", "device_id", "device_id", "oscore", rows.oscore_context),
    Sealed("fresh_credential", "device_id", "device_id", "sealed", rows.fresh_context),
    Sealed("oscore_context", "id", "device_id", "sealed", oscore_contexts.sealed_as),
    Sealed("secure_session", "id", "session_id", "sealed", session_context),
)
"""All there are: whoever seals something in a new place adds it here (a test looks)."""


@dataclass(slots=True)
class Resealed:
    """``sealed``: values that have the new key now; ``unreadable``: what some could not be opened as, and left alone.
    The first `_NAMED` of them; ``unreadable_count`` counts all."""

    sealed: int
    unreadable: list[str]
    unreadable_count: int = 0


_NAMED: Final = 10


def is_all_current(data_dir: Path, vault: Vault) -> bool:
    """Whether everything is sealed with the key that seals now."""
    with closing(connect(data_dir / DECIDING_FILE, writable=False)) as connection:
        for place in SEALED:
            query = f"SELECT {place.column} FROM {place.table} WHERE {place.column} IS NOT NULL"
            if not all(vault.is_current(sealed) for (sealed,) in connection.execute(query)):
                return False
    return True


def has_moved(data_dir: Path, former: Vault, vault: Vault) -> bool:
    """Whether there are secrets here, and none of them needs the keys of ``former`` any more where there is ``vault``.
    What neither opens says nothing."""
    is_any = False
    with closing(connect(data_dir / DECIDING_FILE, writable=False)) as connection:
        for place in SEALED:
            query = f"SELECT {place.owner},{place.column} FROM {place.table} WHERE {place.column} IS NOT NULL"
            for owner, sealed in connection.execute(query):
                is_any = True
                if not vault.is_current(sealed) and former.can_open(sealed, place.context(owner)):
                    return False
    return is_any


def find_unreadable(data_dir: Path, vault: Vault, look_at: int = 100) -> SecretUnreadable | None:
    """What is said of the first of ``look_at`` devices' keys that does not open; None where they all do."""
    with closing(connect(data_dir / DECIDING_FILE, writable=False)) as connection:
        query = "SELECT device_id,secret FROM credential ORDER BY device_id LIMIT ?"
        for device_id, sealed in connection.execute(query, (look_at,)):
            try:
                vault.open(sealed, rows.secret_context(device_id))
            except SecretUnreadable as error:
                return error
    return None


def reseal(data_dir: Path, vault: Vault, on_slice: Callable[[int], None] = lambda count: None) -> Resealed:
    """Seal anew whatever is not sealed with the key that ``vault`` seals with. ``on_slice`` hears how many so far."""
    done = Resealed(0, [])
    with closing(connect(data_dir / DECIDING_FILE, writable=True)) as connection:
        for place in SEALED:
            last: int = -1 << 63
            while (next_last := _slice(connection, vault, place, last, done)) is not None:
                last = next_last
                on_slice(done.sealed)
    return done


def _slice(connection: sqlite3.Connection, vault: Vault, place: Sealed, last: int, done: Resealed) -> int | None:
    """The key of the last row of the slice; None behind the end."""
    query = (
        f"SELECT {place.key},{place.owner},{place.column} FROM {place.table} "
        f"WHERE {place.key}>? AND {place.column} IS NOT NULL ORDER BY {place.key} LIMIT ?"
    )
    found = connection.execute(query, (last, SLICE)).fetchall()
    if not found:
        return None
    anew = []
    for key, owner, sealed in found:
        if vault.is_current(sealed):
            continue
        context = place.context(owner)
        try:
            anew.append((vault.seal(vault.open(sealed, context), context), key, sealed))
        except SecretUnreadable as error:
            done.unreadable_count += 1
            if len(done.unreadable) < _NAMED:
                done.unreadable.append(error.context)
    if anew:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            f"UPDATE {place.table} SET {place.column}=? WHERE {place.key}=? AND {place.column}=?", anew
        )
        connection.execute("COMMIT")
        done.sealed += len(anew)
    return int(found[-1][0])
