"""Writing slices of the projection into ``projected.db``, in the order of each table's key."""

import sqlite3
from functools import lru_cache
from itertools import chain
from typing import Final

import msgspec

from stellwerk.app.ports import Limits
from stellwerk.app.records import StoredValue
from stellwerk.storage.projection import LOG_KEPT, ReceivedMessage, Shadow, Slice
from stellwerk.storage.sqlite import instances
from stellwerk.storage.sqlite.rows import to_json

_STATE: Final = (
    "device_id,status,last_seen_ms,registered_ms,updated_ms,deregistered_ms,expired_ms,message_tag,message_oldest,"
    "message_bytes,message_ms,log_tag,log_oldest,seq,endpoint_name"
)
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[tuple[str, str, int]]).decode
_TABLES: Final = ("device_state", "device_model", "current_value", "value_history", "received_message", "device_log")
_CURRENT_AT_ONCE: Final = 100
"""Rows of ``current_value`` in one statement: half the time of as many statements. (Rows that are only inserted take
twice the time in this way.)"""
_PUT_CURRENT, _PUT_MANY_CURRENT = (
    f"INSERT INTO current_value(device_id,path,value,time_ms,seq) VALUES {','.join(['(?,?,?,?,?)'] * rows)} "
    "ON CONFLICT(device_id,path) DO UPDATE SET value=excluded.value,time_ms=excluded.time_ms,seq=excluded.seq "
    "WHERE (excluded.time_ms,excluded.seq)>=(time_ms,seq)"
    for rows in (1, _CURRENT_AT_ONCE)
)
_PUT_HISTORY: Final = "INSERT INTO value_history(device_id,newest_ms,seq,oldest_ms,packed) VALUES (?,?,?,?,?)"
_SWEEP_EVERY: Final = 64
"""One entry in so many has its device's history swept."""
_PUT_MESSAGE: Final = (
    "INSERT INTO received_message(device_id,state_tag,resource_id,resource_name,created_ms,content_size,content_info,"
    "creator,labels,content,seq) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
)
_PUT_LOG: Final = "INSERT INTO device_log(device_id,tag,seq,time_ms,event,detail) VALUES (?,?,?,?,?,?)"
_PUT_STATE: Final = f"INSERT OR REPLACE INTO device_state({_STATE}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_PUT_MODEL: Final = "INSERT OR REPLACE INTO device_model(device_id,version,body) VALUES (?,?,?)"
_PUT_CURSOR: Final = "INSERT OR REPLACE INTO projection(id,seq,removals,failures) VALUES (1,?,?,?)"


def read_shadows(connection: sqlite3.Connection, device_ids: str) -> list[Shadow]:
    """The shadows of these devices (a JSON array), those there are; their ``types`` are the caller's to set."""
    query = (
        f"SELECT {','.join('s.' + each for each in _STATE.split(','))},m.version,m.body "
        "FROM device_state s LEFT JOIN device_model m ON m.device_id=s.device_id "
        "WHERE s.device_id IN (SELECT value FROM json_each(?))"
    )
    return [_shadow_from(row) for row in connection.execute(query, (device_ids,)).fetchall()]


def write_slice(connection: sqlite3.Connection, made: Slice, limits: Limits, history_keep_ms: int) -> None:
    """Rows of a slice, inside the caller's transaction."""
    if made.models:
        connection.executemany(_PUT_MODEL, [(each.device_id, *(each.model or ())) for each in made.models.values()])
    for device_id, resource_id in made.removed:
        _remove_message(connection, made.shadows[device_id], resource_id, limits)
    if made.messages:
        _write_messages(connection, made, limits)
    if made.history:
        connection.executemany(_PUT_HISTORY, sorted([(*row[:4], _pack(row[4])) for row in made.history]))
        for device_id, newest_ms, seq, _, _ in made.history:
            if seq % _SWEEP_EVERY == 0:
                connection.execute(
                    "DELETE FROM value_history WHERE device_id=? AND newest_ms<?",
                    (device_id, newest_ms - history_keep_ms),
                )
        _write_current(connection, made)
    if made.log:
        _write_log(connection, made)
    if made.shadows:
        connection.executemany(_PUT_STATE, [_state_row(made.shadows[each]) for each in sorted(made.shadows)])


def read_history(connection: sqlite3.Connection, device_id: int, path: str, limit: int) -> list[StoredValue]:
    """The newest ``limit`` values of a path, newest first. Rows come by the newest time in them, so it is enough to
    read until that many values are no older than all that follows."""
    found: dict[tuple[int, int, int], StoredValue] = {}
    newest_first: list[tuple[int, int, int]] = []
    # The path's bytes stand in the packed values as they are; a row without them needs no unpacking.
    query = (
        "SELECT newest_ms,seq,packed FROM value_history WHERE device_id=? AND instr(packed,?)>0 "
        "ORDER BY newest_ms DESC, seq DESC"
    )
    cursor = connection.execute(query, (device_id, path.encode()))
    for newest_ms, seq, packed in cursor:
        if len(newest_first) >= limit and newest_first[limit - 1][0] > newest_ms:
            break
        for place, (each, value, time_ms) in enumerate(_unpack(packed)):
            if each == path:
                found[time_ms, seq, place] = StoredValue(path, value, time_ms, seq)
        newest_first = sorted(found, reverse=True)
    cursor.close()
    return [found[key] for key in newest_first[:limit]]


def write_cursor(connection: sqlite3.Connection, seq: int, removals: int, failures: int) -> None:
    """Up to where all is written."""
    connection.execute(_PUT_CURSOR, (seq, removals, failures))


def remove_device(connection: sqlite3.Connection, device_id: int) -> None:
    """All that was projected of a device."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE device_id=?", (device_id,))


def _write_current(connection: sqlite3.Connection, made: Slice) -> None:
    current = made.current
    written = [(*key, *current[key]) for key in sorted(current)]
    whole = len(written) - len(written) % _CURRENT_AT_ONCE
    for start in range(0, whole, _CURRENT_AT_ONCE):
        connection.execute(_PUT_MANY_CURRENT, list(chain.from_iterable(written[start : start + _CURRENT_AT_ONCE])))
    connection.executemany(_PUT_CURRENT, written[whole:])


def _write_messages(connection: sqlite3.Connection, made: Slice, limits: Limits) -> None:
    shadows = made.shadows
    # What the same slice already evicts need not be written.
    keep = limits.max_instances
    written = [
        _message_row(message) for message in made.messages if message.state_tag > shadows[message[0]].message_tag - keep
    ]
    written.sort()
    connection.executemany(_PUT_MESSAGE, written)
    # Eviction in strides: readers apply the limits exactly, the table may hold half as much again.
    most = keep + max(16, keep // 2)
    most_bytes = limits.max_bytes + limits.max_bytes // 2
    for shadow in shadows.values():
        if shadow.message_tag - shadow.message_oldest >= most or shadow.message_bytes > most_bytes:
            _evict(connection, shadow, limits)


def _evict(connection: sqlite3.Connection, shadow: Shadow, limits: Limits) -> None:
    _settle(shadow, instances.evict(connection, "received_message", shadow.device_id, limits))


def _remove_message(connection: sqlite3.Connection, shadow: Shadow, resource_id: str, limits: Limits) -> None:
    _, left = instances.remove(connection, "received_message", shadow.device_id, resource_id, limits)
    _settle(shadow, left)


def _settle(shadow: Shadow, left: instances.Kept) -> None:
    shadow.message_bytes = left.octets
    shadow.message_oldest = min(left.oldest, shadow.message_tag + 1)


def _write_log(connection: sqlite3.Connection, made: Slice) -> None:
    connection.executemany(_PUT_LOG, sorted(made.log))
    for shadow in made.shadows.values():
        if shadow.log_tag - shadow.log_oldest >= LOG_KEPT + LOG_KEPT // 2:
            shadow.log_oldest = shadow.log_tag - LOG_KEPT + 1
            connection.execute(
                "DELETE FROM device_log WHERE device_id=? AND tag<?", (shadow.device_id, shadow.log_oldest)
            )


@lru_cache(maxsize=1024)
def _labels(labels: tuple[str, ...]) -> str:
    return to_json(labels)


def _message_row(message: ReceivedMessage) -> tuple[object, ...]:
    device_id, tag, ri, rn, created_ms, size, info, creator, labels, content, seq = message
    return (device_id, tag, ri, rn, created_ms, size, info, creator, _labels(labels), content, seq)


def _state_row(shadow: Shadow) -> tuple[object, ...]:
    return (
        shadow.device_id,
        shadow.status,
        shadow.last_seen_ms,
        shadow.registered_ms,
        shadow.updated_ms,
        shadow.deregistered_ms,
        shadow.expired_ms,
        shadow.message_tag,
        shadow.message_oldest,
        shadow.message_bytes,
        shadow.message_ms,
        shadow.log_tag,
        shadow.log_oldest,
        shadow.seq,
        shadow.endpoint_name,
    )


def _shadow_from(row: tuple[object, ...]) -> Shadow:
    device_id, *state, version, body = row
    assert isinstance(device_id, int)
    shadow = Shadow(device_id)
    for name, value in zip(_STATE.split(",")[1:], state, strict=True):
        setattr(shadow, name, value)
    if isinstance(version, str) and isinstance(body, bytes):
        shadow.model = (version, body)
    return shadow
