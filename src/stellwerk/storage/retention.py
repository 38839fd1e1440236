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
"""How long a secure session stays at least over which nothing is heard and nobody is registered."""
RETENTION_EVERY_S: Final = 600.0


async def let_go(store: SqliteStore, now_ms: int, sessions_keep_s: float = SESSIONS_KEEP_S) -> int:
    """Delete a slice of what is kept long enough: journal entries that are projected and older than `JOURNAL_KEEP_S`,
    commands that ended more than `COMMANDS_KEEP_S` ago, sessions unheard for ``sessions_keep_s``; and bring a slice of
    what an earlier version stored up to date. Returns 0 when there is nothing left to do for now."""
    named = await store.name_bootstrap_credentials()
    entries = await store.trim_journal(now_ms - JOURNAL_KEEP_S * 1000)
    commands = await store.trim_commands(now_ms - COMMANDS_KEEP_S * 1000)
    return named + entries + commands + await store.trim_sessions(now_ms - int(sessions_keep_s * 1000))


async def retain(store: SqliteStore, clock: Clock, sessions_days: float = 0.0) -> None:
    """`let_go`, slice after slice, for ever. ``sessions_days``: how long sessions may be resumed."""
    keep_s = max(SESSIONS_KEEP_S, sessions_days * 86_400)
    while True:
        trimmed = 0
        try:
            trimmed = await let_go(store, clock.wall_ms(), keep_s)
        except Exception:
            log.exception("retention.failed")
        await asyncio.sleep(0.05 if trimmed else RETENTION_EVERY_S)
