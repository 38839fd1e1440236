"""Messages of a container with eviction rules, in the tables ``sent_message`` and ``received_message``.

The tables hold more than the rules leave, and tags have gaps where people deleted: what counts is the newest rows.
"""

import sqlite3
from typing import Any, Final, Literal, NamedTuple

from stellwerk.app.ports import Limits
from stellwerk.app.records import MessageRecord
from stellwerk.storage.eviction import kept
from stellwerk.storage.sqlite import rows

InstanceTable = Literal["sent_message", "received_message"]

_NO_TAG: Final = 1 << 62
"""Above every tag, for a container without messages."""


class Kept(NamedTuple):
    """What the rules leave: how many messages, their bytes together, the lowest tag of them."""

    messages: int
    octets: int
    oldest: int


def what_is_kept(connection: sqlite3.Connection, table: InstanceTable, device_id: int, limits: Limits) -> Kept:
    """Of the device's messages in ``table``."""
    query = f"SELECT state_tag,content_size FROM {table} WHERE device_id=? ORDER BY state_tag DESC LIMIT ?"
    found = connection.execute(query, (device_id, limits.max_instances)).fetchall()
    count, size = kept((row[1] for row in found), limits)
    return Kept(count, size, found[count - 1][0] if count else _NO_TAG)


def evict(connection: sqlite3.Connection, table: InstanceTable, device_id: int, limits: Limits) -> Kept:
    """Delete exactly what the rules do not leave; returns what they do."""
    left = what_is_kept(connection, table, device_id, limits)
    connection.execute(f"DELETE FROM {table} WHERE device_id=? AND state_tag<?", (device_id, left.oldest))
    return left


def remove(
    connection: sqlite3.Connection, table: InstanceTable, device_id: int, resource_id: str, limits: Limits
) -> tuple[bool, Kept]:
    """Delete one message, after all that the rules do not leave, so that it brings none of them back. Returns whether
    it was there, and what is left."""
    left = evict(connection, table, device_id, limits)
    gone = connection.execute(
        f"DELETE FROM {table} WHERE device_id=? AND resource_id=? RETURNING content_size", (device_id, resource_id)
    ).fetchall()
    sizes = [row[0] for row in gone]
    return bool(gone), Kept(left.messages - len(sizes), left.octets - sum(sizes), left.oldest)


def page(
    connection: sqlite3.Connection, table: InstanceTable, device_id: int, limits: Limits, limit: int, offset: int
) -> list[MessageRecord]:
    """Newest first, of those the rules leave."""
    count = what_is_kept(connection, table, device_id, limits).messages
    query = f"SELECT {rows.MESSAGE} FROM {table} WHERE device_id=? ORDER BY state_tag DESC LIMIT ? OFFSET ?"
    found = connection.execute(query, (device_id, max(0, min(limit, count - offset)), offset)).fetchall()
    return [rows.message_from(row) for row in found]


def find(
    connection: sqlite3.Connection, table: InstanceTable, device_id: int, limits: Limits, wanted: dict[str, Any]
) -> MessageRecord | None:
    """The newest message whose columns have these values, those that are not None, of those the rules leave. Raises
    ValueError when nothing is wanted."""
    condition, values = matching(wanted)
    oldest = what_is_kept(connection, table, device_id, limits).oldest
    query = f"SELECT {rows.MESSAGE} FROM {table} WHERE device_id=? AND state_tag>=? AND {condition} "
    found = connection.execute(query + "ORDER BY state_tag DESC LIMIT 1", (device_id, oldest, *values)).fetchall()
    return rows.message_from(found[0]) if found else None


def matching(wanted: dict[str, Any]) -> tuple[str, list[Any]]:
    """A condition on columns and its parameters. Raises ValueError when nothing is wanted."""
    given = {column: value for column, value in wanted.items() if value is not None}
    if not given:
        raise ValueError(f"a message is found by {' or '.join(wanted)}")
    return " AND ".join(f"{column}=?" for column in given), list(given.values())
