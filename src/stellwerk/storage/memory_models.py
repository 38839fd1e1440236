"""Imported object models with plain dicts: a part of `memory`."""

from collections.abc import Sequence

from stellwerk.app.records import ModelHead, NewModel
from stellwerk.lwm2m.schema.model import parse_version
from stellwerk.storage.memory_tree import MemoryTree


class MemoryModels(MemoryTree):
    """A part of `MemoryStore`."""

    def __init__(self) -> None:
        super().__init__()
        self._models: dict[tuple[str, int, str], tuple[ModelHead, bytes]] = {}
        self._models_generation = 0

    async def models_generation(self) -> int:
        return self._models_generation

    async def object_models(self) -> Sequence[ModelHead]:
        found = [head for head, _ in self._models.values()]
        return sorted(found, key=lambda each: (each.tenant, each.object_id, parse_version(each.version) or (0, 0)))

    async def model_source(self, tenant: str, object_id: int, version: str) -> bytes | None:
        found = self._models.get((tenant, object_id, version))
        return None if found is None else found[1]

    async def put_object_models(self, models: Sequence[NewModel], now_ms: int) -> None:
        for new in models:
            key = (new.tenant, new.object_id, new.version)
            old = self._models.get(key)
            created_ms, modified_ms = (now_ms, now_ms) if old is None else (old[0].created_ms, old[0].modified_ms + 1)
            head = ModelHead(*key, new.name, new.file_name, len(new.source), created_ms, max(now_ms, modified_ms))
            self._models[key] = (head, new.source)
        self._models_generation += 1

    async def remove_object_models(self, keys: Sequence[tuple[str, int, str]]) -> int:
        found = [each for each in dict.fromkeys(keys) if self._models.pop(each, None) is not None]
        self._models_generation += bool(found)
        return len(found)
