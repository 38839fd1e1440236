"""What a journal entry does to the rows that are only read. No database in here: a slice collects rows, a store writes.

Everything derives from the entries, their sequence numbers and the installation's salt, so a replay gives the same
rows. An entry that a device's state counts already does nothing.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.messages import CONTENT_INFO, CREATOR, interpret
from stellwerk.app.records import DeviceState
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.content import Types, Untyped
from stellwerk.lwm2m.status import Status
from stellwerk.storage.content import content_size, render
from stellwerk.storage.identifiers import received_ids

LOG_KEPT: Final = 200
"""Lines of a device's log that are kept."""

_VERSION: Final = re.compile(r"(?:^|&)lwm2m=([^& ]+)")
_DEFAULT_VERSION: Final = "1.0"
_TIME_BOUND: Final = 1 << 62
_UNTYPED: Final = Untyped()
_FROM_DEVICE: Final = frozenset({Kind.REGISTER, Kind.UPDATE, Kind.DEREGISTER, Kind.SEND, Kind.NOTIFY, Kind.READING})
_ANSWERS: Final = frozenset({Kind.ANSWER, Kind.OUTCOME})

TypesOf = Callable[[bytes, str, str], Types]
"""From object list, enabler version and tenant to types. May raise: then values keep the types of their format."""


class ReceivedMessage(NamedTuple):
    """A row of ``received_message``."""

    device_id: int
    state_tag: int
    resource_id: str
    resource_name: str
    created_ms: int
    content_size: int
    content_info: str | None
    creator: str
    labels: tuple[str, ...]
    content: str
    seq: int


class Shadow:
    """A device's projected state while a slice is made: a row of ``device_state`` and its model.

    No row has a tag below ``message_oldest`` or ``log_oldest``. Between ``message_oldest`` and ``message_tag`` some may
    be missing; none is ever given again. ``message_bytes`` is what the messages in the table hold together. Eviction
    brings these up to date. ``seq``: the last entry that counts in here.
    """

    __slots__ = (
        "deregistered_ms",
        "device_id",
        "endpoint_name",
        "expired_ms",
        "last_seen_ms",
        "log_oldest",
        "log_tag",
        "message_bytes",
        "message_ms",
        "message_oldest",
        "message_tag",
        "model",
        "registered_ms",
        "seq",
        "status",
        "tenant",
        "types",
        "updated_ms",
    )

    def __init__(self, device_id: int, tenant: str = "") -> None:
        self.device_id = device_id
        self.tenant = tenant
        self.status = "unknown"
        self.endpoint_name = ""
        self.last_seen_ms = self.registered_ms = self.updated_ms = self.deregistered_ms = self.expired_ms = 0
        self.message_tag = self.message_bytes = self.message_ms = self.log_tag = self.seq = 0
        self.message_oldest = self.log_oldest = 1
        self.model: tuple[str, bytes] | None = None
        self.types: Types = _UNTYPED

    def state(self) -> DeviceState:
        """What readers see of it."""
        return DeviceState(
            DeviceId(self.device_id),
            self.status,
            self.last_seen_ms,
            self.registered_ms,
            self.updated_ms,
            self.deregistered_ms,
            self.expired_ms,
            self.endpoint_name,
        )


class Slice:
    """What a stretch of the journal writes.

    ``removed``: (device_id, resource_id) of received messages that go before those in ``messages`` come.
    ``current``: the newest value of each path in it, (value, time_ms, seq) by (device_id, path), at most as new as its
    reception. ``history``:
    (device_id, newest_ms, seq, oldest_ms, values as interpreted). ``log``: (device_id, tag, seq, time_ms, event,
    detail). ``models`` and ``shadows``, by device: whose model and whose state is new.
    """

    __slots__ = ("current", "failures", "history", "log", "messages", "models", "removed", "shadows")

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []
        self.removed: list[tuple[int, str]] = []
        self.log: list[tuple[int, int, int, int, str, str]] = []
        self.history: list[tuple[int, int, int, int, list[tuple[str, str, int]]]] = []
        self.current: dict[tuple[int, str], tuple[str, int, int]] = {}
        self.models: dict[int, Shadow] = {}
        self.shadows: dict[int, Shadow] = {}
        self.failures = 0


class EntryProjector:
    """Turns entries into rows. ``types_of`` is asked once per new object list and should share its answers."""

    def __init__(self, salt: bytes, types_of: TypesOf) -> None:
        self._salt = salt
        self._types_of = types_of

    def set_model(self, shadow: Shadow, version: str, body: bytes) -> None:
        """What the device says it is, from now on."""
        shadow.model = (version, body)
        try:
            shadow.types = self._types_of(body, version, shadow.tenant)
        except Exception:
            # A list that was accepted once and does not decode now; its values are still worth showing.
            shadow.types = _UNTYPED

    def project(self, seq: int, entry: JournalEntry, device_name: str, shadow: Shadow, into: Slice) -> None:
        """Add what ``entry`` means to ``into`` and ``shadow``. Nothing in an entry raises: it fails alone, with a line
        in the device's log.

        What a removal leaves depends on what came before it: the caller writes the messages that wait in ``into``
        before it asks for an entry of that kind.
        """
        if seq <= shadow.seq:
            return
        shadow.seq = seq
        into.shadows[shadow.device_id] = shadow
        try:
            self._note_state(entry, shadow, into)
            meaning = interpret(entry, device_name, shadow.types)
            text, size = ("", 0) if meaning.content is None else render(meaning.content)
        except Exception as error:
            self.fail(seq, entry, shadow, into, error)
            return
        if meaning.content is not None:
            self._add_message(seq, entry, shadow, into, text, size)
        elif entry.kind == Kind.MESSAGE_REMOVED:
            into.removed.append((shadow.device_id, entry.location))
        if meaning.values:
            self._add_values(seq, entry, shadow, into, meaning.values)
        if meaning.log is not None:
            self._add_log(seq, entry.time_ms, shadow, into, *meaning.log)

    def fail(self, seq: int, entry: JournalEntry, shadow: Shadow, into: Slice, error: Exception) -> None:
        """``entry`` cannot be projected: say so in the device's log and go on."""
        shadow.seq = seq
        into.shadows[shadow.device_id] = shadow
        into.failures += 1
        detail = f"{_kind_name(entry.kind)}: {type(error).__name__}: {error}"
        self._add_log(seq, entry.time_ms, shadow, into, "projection-failed", detail[:500])

    def _add_values(
        self, seq: int, entry: JournalEntry, shadow: Shadow, into: Slice, values: Sequence[tuple[str, str, int]]
    ) -> None:
        device_id = shadow.device_id
        current = into.current
        kept: list[tuple[str, str, int]] = []
        for path, value, time_ms in values:
            # Whatever a device says, no database refuses the row: a time beyond 64 bits, half a surrogate pair.
            if not -_TIME_BOUND < time_ms < _TIME_BOUND:
                time_ms = entry.time_ms
            if not value.isascii():
                value = _storable(value)
            kept.append((path, value, time_ms))
            key = (device_id, path)
            # A clock that is ahead must not make one value the current one for as long as it is ahead.
            counted_ms = time_ms if time_ms < entry.time_ms else entry.time_ms
            known = current.get(key)
            if known is None or counted_ms >= known[1]:
                current[key] = (value, counted_ms, seq)
        times = [each[2] for each in kept]
        into.history.append((device_id, max(times), seq, min(times), kept))

    def _note_state(self, entry: JournalEntry, shadow: Shadow, into: Slice) -> None:
        kind, time_ms = entry.kind, entry.time_ms
        if kind in _FROM_DEVICE or (kind in _ANSWERS and entry.status):
            shadow.last_seen_ms = max(shadow.last_seen_ms, time_ms)
        if kind == Kind.REGISTER and entry.status == Status.CREATED:
            shadow.status = "registered"
            shadow.registered_ms = shadow.updated_ms = time_ms
            shadow.endpoint_name = _storable(entry.method)
            found = _VERSION.search(entry.detail)
            self.set_model(shadow, found[1] if found else _DEFAULT_VERSION, entry.payload)
            into.models[shadow.device_id] = shadow
        elif kind == Kind.UPDATE and entry.status == Status.CHANGED:
            shadow.status = "registered"
            shadow.updated_ms = time_ms
            if entry.payload:
                version = shadow.model[0] if shadow.model else _DEFAULT_VERSION
                self.set_model(shadow, version, entry.payload)
                into.models[shadow.device_id] = shadow
        elif kind == Kind.DEREGISTER and entry.status == Status.DELETED:
            shadow.status = "deregistered"
            shadow.deregistered_ms = time_ms
        elif kind == Kind.EXPIRE:
            shadow.status = "expired"
            shadow.expired_ms = time_ms

    def _add_message(self, seq: int, entry: JournalEntry, shadow: Shadow, into: Slice, text: str, size: int) -> None:
        resource_id, resource_name = received_ids(self._salt, shadow.device_id, seq)
        content_info: str | None = CONTENT_INFO
        creator = CREATOR
        if entry.kind == Kind.INJECTED:
            # As its originator posted it (contract Device to Cloud §8).
            resource_name = entry.location or resource_name
            content_info = entry.method or None
            creator = entry.detail or CREATOR
            size = content_size(text)
        shadow.message_tag += 1
        shadow.message_bytes += size
        shadow.message_ms = entry.time_ms
        into.messages.append(
            ReceivedMessage(
                shadow.device_id,
                shadow.message_tag,
                resource_id,
                resource_name,
                entry.time_ms,
                size,
                content_info,
                creator,
                entry.labels,
                text,
                seq,
            )
        )

    def _add_log(self, seq: int, time_ms: int, shadow: Shadow, into: Slice, event: str, detail: str) -> None:
        shadow.log_tag += 1
        into.log.append((shadow.device_id, shadow.log_tag, seq, time_ms, event, _storable(detail)))


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=64)
def _kind_name(kind: int) -> str:
    try:
        return Kind(kind).name.lower()
    except ValueError:
        return f"kind {kind}"
