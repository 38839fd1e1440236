"""What is kept of journal, commands and secure sessions, and for how long; messages have rules of their own."""

import asyncio
from typing import Final

import structlog

from stellwerk.app.ports import Clock
from stellwerk.storage.sqlite.store import SqliteStore

log = structlog.get_logger(__name__)

JOURNAL_KEEP_S: Final = 86_400
COMMANDS_KEEP_S: Final = 7 * 86_400
"""How long a command that ended stays in its table."""
SESSIONS_KEEP_S: Final = 7 * 86_400
"""How long a secure session stays whose device is silent."""
RETENTION_EVERY_S: Final = 600.0


async def let_go(store: SqliteStore, now_ms: int) -> int:
    """Delete a slice of what is kept long enough: journal entries that are projected and older than `JOURNAL_KEEP_S`,
    commands that ended more than `COMMANDS_KEEP_S` ago, sessions unheard for `SESSIONS_KEEP_S`. Returns 0 when there is
    nothing left to do for now."""
    entries = await store.trim_journal(now_ms - JOURNAL_KEEP_S * 1000)
    commands = await store.trim_commands(now_ms - COMMANDS_KEEP_S * 1000)
    return entries + commands + await store.trim_sessions(now_ms - SESSIONS_KEEP_S * 1000)


async def retain(store: SqliteStore, clock: Clock) -> None:
    """`let_go`, slice after slice, for ever."""
    while True:
        trimmed = 0
        try:
            trimmed = await let_go(store, clock.wall_ms())
        except Exception:
            log.exception("retention.failed")
        await asyncio.sleep(0.05 if trimmed else RETENTION_EVERY_S)
