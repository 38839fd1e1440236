"""A running server takes up object models that were imported, by whichever process, and re-types its devices."""

import asyncio
from typing import Final

import structlog

from stellwerk.app.changes import Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.lwm2m.schema.library import DeviceTypes, Library
from stellwerk.lwm2m.schema.source import CompressedSource

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
_TYPES_AT_ONCE: Final = 1_000
"""Refreshed between two looks at the event loop: about a millisecond."""


class LiveModels:
    """Keeps ``library`` as the store has it. Devices that are alike share their types, so that fifty thousand of them
    are re-typed by touching a few dozen objects; their models are looked up when the next value needs them."""

    def __init__(self, *, store: DecidingStore, library: Library, clock: Clock) -> None:
        self._store = store
        self._library = library
        self._clock = clock
        self._generation: int | None = None
        self._sources: dict[tuple[str, int, str], tuple[int, CompressedSource]] = {}

    async def load(self) -> None:
        """Before the first device is heard."""
        self._generation = await self._store.models_generation()
        await self._read()
        for each in self._replace():
            each.refresh()

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:
                log.exception("models.not_read")

    async def look(self) -> bool:
        """Take up what changed; False where nothing did."""
        generation = await self._store.models_generation()
        if generation == self._generation:
            return False
        changed = await self._read()
        self._generation = generation
        stale = self._replace()
        for start in range(0, len(stale), _TYPES_AT_ONCE):
            for each in stale[start : start + _TYPES_AT_ONCE]:
                each.refresh()
            await asyncio.sleep(0)
        # The projector reads the journal in order: what stands behind this entry it understands by the new models.
        entry = JournalEntry(Kind.MODELS, 0, self._clock.wall_ms(), detail=str(generation))
        self._store.submit(Commit((entry,), (), self._journalled))
        log.info("models.changed", imported=len(self._sources), changed=changed)
        return True

    async def _read(self) -> int:
        """The sources as they are now; returns how many changed, came or went."""
        sources: dict[tuple[str, int, str], tuple[int, CompressedSource]] = {}
        changed = 0
        for head in await self._store.object_models():
            known = self._sources.get(head.key)
            if known is None or known[0] != head.modified_ms:
                xml = await self._store.model_source(*head.key)
                if xml is None:
                    continue  # removed meanwhile, which counts as the next change
                known = (head.modified_ms, CompressedSource.of(head.object_id, head.version, xml))
                changed += 1
                await asyncio.sleep(0)
            sources[head.key] = known
        changed += len(self._sources.keys() - sources.keys())
        self._sources = sources
        return changed

    def _replace(self) -> list[DeviceTypes]:
        return self._library.replace_imported((key[0], source) for key, (_, source) in self._sources.items())

    def _journalled(self, error: Exception | None) -> None:
        if error is not None:
            log_not_stored(log, "models.not_journalled", error)
            self._generation = None  # the next look tries again
