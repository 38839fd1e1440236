"""Object models that people import: what a file brings, and what becomes of what is there."""

import re
from dataclasses import dataclass, field
from enum import Enum

from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.records import ModelHead, NewModel
from stellwerk.core.errors import UserError
from stellwerk.lwm2m.schema.ddf import DdfError, NoDefinition, load_ddf
from stellwerk.lwm2m.schema.model import ObjectModel

_WAITING = 50
"""Models that are written together: a transaction each would take a second for a registry, one for all would keep a
running server's own writes waiting."""

Key = tuple[str, int, str]


class Outcome(Enum):
    """What an import did with a model."""

    IMPORTED = "imported"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class ModelReport:
    object_id: int
    version: str
    name: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class FileReport:
    """What came of a file: its models, or the reason why none of them was taken. ``skipped``: it holds no definitions,
    and nothing is wrong with it."""

    file_name: str
    models: tuple[ModelReport, ...] = ()
    reason: str = ""
    skipped: bool = False


@dataclass(slots=True)
class ModelImport:
    """One import of any number of files for ``tenant`` (empty: for all). ``dry_run`` writes nothing and reports the
    same. A file counts as a whole or not at all; of files that define the same object and version differently, the
    first counts."""

    store: DecidingStore
    clock: Clock
    tenant: str = ""
    dry_run: bool = False
    _heads: dict[Key, ModelHead] | None = None
    _seen: dict[Key, tuple[ObjectModel, str]] = field(default_factory=dict)
    _waiting: list[NewModel] = field(default_factory=list)

    async def add(self, file_name: str, data: bytes) -> FileReport:
        """Take a file. What it brings is written with others, at the latest by `finish`."""
        try:
            models = load_ddf(data)
        except DdfError as error:
            return FileReport(file_name, reason=str(error), skipped=isinstance(error, NoDefinition))
        for model in models:
            seen = self._seen.get(self._key(model))
            if seen is not None and seen[0] != model:
                text = f"object {model.id} version {model.version} is defined by {seen[1]} too, and differently"
                return FileReport(file_name, reason=f"{text}; that one counts")
        reports = []
        for model in models:
            outcome = await self._take(model, file_name, data)
            reports.append(ModelReport(model.id, model.version, model.name, outcome))
        if len(self._waiting) >= _WAITING:
            await self.finish()
        return FileReport(file_name, tuple(reports))

    async def finish(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting and not self.dry_run:
            await self.store.put_object_models(waiting, self.clock.wall_ms())

    async def _take(self, model: ObjectModel, file_name: str, data: bytes) -> Outcome:
        key = self._key(model)
        if self._heads is None:
            self._heads = {each.key: each for each in await self.store.object_models()}
        if key in self._seen:
            return Outcome.UNCHANGED
        self._seen[key] = (model, file_name)
        known = self._heads.get(key)
        if known is not None and known.size == len(data) and await self.store.model_source(*key) == data:
            return Outcome.UNCHANGED
        self._waiting.append(NewModel(*key, model.name, _last_part(file_name), data))
        return Outcome.IMPORTED if known is None else Outcome.REPLACED

    def _key(self, model: ObjectModel) -> Key:
        return self.tenant, model.id, model.version


class UnknownModel(UserError):
    """No model of ``object_id`` (and ``version``, unless empty) was imported for ``tenant`` (empty: for all)."""

    def __init__(self, object_id: int, version: str, tenant: str) -> None:
        self.object_id, self.version, self.tenant = object_id, version, tenant
        what = f"object {object_id}" + (f" version {version}" if version else "")
        whom = f"for tenant {tenant!r}" if tenant else "for all tenants"
        super().__init__(f"no model of {what} was imported {whom}; `stellwerk models list` names them")


async def remove_models(store: DecidingStore, tenant: str, object_id: int, version: str = "") -> list[ModelHead]:
    """Forget an imported model, or all versions of its object; devices then have what is built in. Raises
    `UnknownModel`."""
    found = [
        each
        for each in await store.object_models()
        if each.tenant == tenant and each.object_id == object_id and version in ("", each.version)
    ]
    if not found:
        raise UnknownModel(object_id, version, tenant)
    await store.remove_object_models([each.key for each in found])
    return found


def _last_part(file_name: str) -> str:
    """Without the folders and the archive it lay in."""
    return re.split(r"[/\\:]", file_name)[-1]
