"""What is kept of journal and commands, and for how long; messages have rules of their own."""

import asyncio
from typing import Final

import structlog

from stellwerk.app.ports import Clock
from stellwerk.storage.sqlite.store import SqliteStore

log = structlog.get_logger(__name__)

JOURNAL_KEEP_S: Final = 86_400
COMMANDS_KEEP_S: Final = 7 * 86_400
"""How long a command that ended stays in its table."""
RETENTION_EVERY_S: Final = 600.0


async def let_go(store: SqliteStore, now_ms: int) -> int:
    """Delete a slice of what is kept long enough: journal entries that are projected and older than `JOURNAL_KEEP_S`,
    commands that ended more than `COMMANDS_KEEP_S` ago. Returns how many rows went, 0 when there is nothing left."""
    entries = await store.trim_journal(now_ms - JOURNAL_KEEP_S * 1000)
    return entries + await store.trim_commands(now_ms - COMMANDS_KEEP_S * 1000)


async def retain(store: SqliteStore, clock: Clock) -> None:
    """`let_go`, slice after slice, for ever."""
    while True:
        trimmed = 0
        try:
            trimmed = await let_go(store, clock.wall_ms())
        except Exception:
            log.exception("retention.failed")
        await asyncio.sleep(0.05 if trimmed else RETENTION_EVERY_S)
