"""A commit that can be awaited, for what happens seldom; the hot path uses `Commit.done`. And what is said when one
fails."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from stellwerk.app.changes import Change, Commit
from stellwerk.app.journal import JournalEntry
from stellwerk.app.ports import DecidingStore, StoreTrouble


async def commit(
    store: DecidingStore,
    entries: Sequence[JournalEntry],
    changes: Sequence[Change],
    then: Callable[[Exception | None], None] | None = None,
) -> int:
    """Returns once everything is durable: the journal's sequence number of the last entry, 0 without entries. Raises
    what kept it from being stored; then nothing of it is. ``then`` hears of that first, and also when whoever waits
    here has been cancelled: what is submitted is stored all the same."""
    outcome: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def done(error: Exception | None) -> None:
        if then is not None:
            then(error)
        if not outcome.done():
            outcome.set_result(error)

    written = Commit(entries, changes, done)
    store.submit(written)
    error = await outcome
    if error is not None:
        raise error
    return written.seq


def log_not_stored(log: Any, event: str, error: Exception, **fields: Any) -> None:
    """Say that something could not be stored. Trouble of the whole store is said once, by the store itself: what it
    costs each time is only for those who look closely."""
    (log.debug if isinstance(error, StoreTrouble) else log.warning)(event, error=repr(error), **fields)
