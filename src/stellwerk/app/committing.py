"""A commit that can be awaited, for what happens seldom; the hot path uses `Commit.done`."""

import asyncio
from collections.abc import Sequence

from stellwerk.app.journal import JournalEntry
from stellwerk.app.ports import Change, Commit, DecidingStore


async def commit(store: DecidingStore, entries: Sequence[JournalEntry], changes: Sequence[Change]) -> None:
    """Returns once everything is durable. Raises what kept it from being stored; then nothing of it is."""
    outcome: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def done(error: Exception | None) -> None:
        if not outcome.done():
            outcome.set_result(error)

    store.submit(Commit(entries, changes, done))
    error = await outcome
    if error is not None:
        raise error
