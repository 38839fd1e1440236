"""Which model describes an object of a device: version, release, and the nearest one we know (contract §9)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import Final, Protocol, TypeAlias
from weakref import WeakValueDictionary

from stellwerk.lwm2m.path import MAX_ID, Path
from stellwerk.lwm2m.schema.builtin import builtin_models
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel, Version, parse_version
from stellwerk.lwm2m.value import ResourceType

# The object versions that each release of the enabler contains (Core 1.0.2, 1.1.1, 1.2.x App. E). What a client
# registers without `ver` is of this version; objects outside the table are 1.0.
_V1_0: Final = (1, 0)
_VERSIONS_OF_RELEASE: Final[Mapping[Version, Mapping[int, Version]]] = {
    (1, 0): dict.fromkeys(range(8), _V1_0),
    (1, 1): {**dict.fromkeys((2, 5, 6, 7, 21), _V1_0), 0: (1, 1), 1: (1, 1), 3: (1, 1), 4: (1, 2)},
    (1, 2): {
        **dict.fromkeys((6, 7, 23, 24, 25, 26, 27), _V1_0),
        0: (1, 2),
        1: (1, 2),
        2: (1, 1),
        3: (1, 2),
        4: (1, 3),
        5: (1, 1),
        21: (2, 0),
    },
}
_DEVICES_REMEMBERED: Final = 1024
_SOURCES_PARSED: Final = 256
"""Imported definitions that are kept in memory as models; a fleet uses some dozens."""
# Anybody may send a list of two thousand objects; a megabyte each is too much to remember.
_OBJECTS_REMEMBERED: Final = 64


class Rule(Enum):
    """How a model was found."""

    EXACT = "the stated version"
    RELEASE = "the version of the client's release"
    DEFAULT = "version 1.0, none being stated"
    NEAREST = "the nearest minor version"
    NONE = "no model"


@dataclass(frozen=True, slots=True)
class Choice:
    """The model taken for an object. ``wanted``: the version that was stated or implied, as text.

    ``malformed``: the stated version was no version, so that the object counts as if none had been stated.
    """

    object_id: int
    wanted: str
    rule: Rule
    model: ObjectModel | None
    malformed: str | None = None

    @property
    def warning(self) -> str | None:
        """What a person should know of the choice, or None where the wanted model was there."""
        note = "" if self.malformed is None else f"version {self.malformed!r} is not major.minor; "
        if self.model is None:
            return f"object {self.object_id}: {note}no model of version {self.wanted}, values keep their format's types"
        if self.rule is Rule.NEAREST or note:
            return f"object {self.object_id}: {note}wanted {self.wanted}, using {self.model.version}"
        return None


_NO_MODEL: Final = ObjectModel.define(MAX_ID, "", "1.0", (), multiple=False, mandatory=False)


class Source(Protocol):
    """A definition that becomes a model when a device first has such an object."""

    @property
    def object_id(self) -> int: ...
    @property
    def version(self) -> str: ...
    def __hash__(self) -> int: ...
    def load(self) -> ObjectModel | None:
        """None where it cannot be read (any more): it counts as not there."""
        ...


_Known: TypeAlias = Mapping[int, Mapping[Version, ObjectModel | Source]]


class _Models(dict[int, ObjectModel]):
    """Models by object, each looked up when it first occurs."""

    __slots__ = ("library", "release", "tenant", "versions")

    def __init__(self, library: "Library", release: str, versions: Mapping[int, str | None], tenant: str) -> None:
        super().__init__()
        self.library, self.release, self.versions, self.tenant = library, release, versions, tenant

    def choose(self, object_id: int) -> Choice:
        return self.library.choose(object_id, self.versions.get(object_id), self.release, self.tenant)

    def __missing__(self, object_id: int) -> ObjectModel:
        model = self.choose(object_id).model
        if model is None:
            if object_id not in self.versions:
                return _NO_MODEL  # not remembered: an endless choice of identifiers would be kept for ever
            model = _NO_MODEL
        self[object_id] = model
        return model


class DeviceTypes:
    """The models of one device's object versions (implements `content.Types`); shared by devices alike.

    They follow the library: `refresh` after it changed.
    """

    __slots__ = ("__weakref__", "_models", "_warnings", "lwm2m_version")

    def __init__(
        self, library: "Library", lwm2m_version: str, versions: Mapping[int, str | None], tenant: str = ""
    ) -> None:
        self.lwm2m_version = lwm2m_version
        self._models = _Models(library, lwm2m_version, versions, tenant)
        self._warnings: tuple[str, ...] | None = None

    @property
    def tenant(self) -> str:
        """Whose own models count before those of all."""
        return self._models.tenant

    @property
    def choices(self) -> Mapping[int, Choice]:
        """What was chosen for the registered objects, by identifier."""
        return {each: self._models.choose(each) for each in sorted(self._models.versions)}

    @property
    def warnings(self) -> tuple[str, ...]:
        """The texts of the choices that fell back."""
        if self._warnings is None:
            self._warnings = tuple(each.warning for each in self.choices.values() if each.warning)
        return self._warnings

    def refresh(self) -> None:
        """Ask the library anew. Cheap: models are looked up when they next occur."""
        self._models.clear()
        self._warnings = None

    def resource_type(self, path: Path) -> ResourceType | None:
        """The type of the resource at ``path`` (3 or 4 identifiers), or None where no model knows one."""
        return self._models[path[0]].types.get(path[2]) if len(path) >= 3 else None

    def is_multiple(self, path: Path) -> bool | None:
        """Whether the resource at ``path`` has resource instances, or None where no model knows it."""
        resource = self.resource(path)
        return None if resource is None else resource.multiple

    def resource(self, path: Path) -> ResourceModel | None:
        """The model of the resource at ``path`` or above it, or None for a shorter path or an unknown resource."""
        return self._models[path[0]].resources.get(path[2]) if len(path) >= 3 else None

    def object(self, object_id: int) -> ObjectModel | None:
        """The model of an object, by the registered version or else the one that the client's release implies."""
        model = self._models[object_id]
        return None if model is _NO_MODEL else model


class Library:
    """Models by object and version: those it was made with, and those that were imported, for all devices or for those
    of one tenant. A tenant's own count before those imported for all, and these before the first.

    Belongs to one thread. `replace_imported` alone changes it.
    """

    __slots__ = ("_built", "_for_device", "_given_out", "_models", "_of_tenant", "_parsed")

    def __init__(self, models: Iterable[ObjectModel] = ()) -> None:
        """Of two models of the same object and version, the later one counts. Raises `ValueError` for a version that
        is not major.minor."""
        self._built = _by_version({}, models)
        self._models: _Known = self._built
        self._of_tenant: Mapping[str, _Known] = {}
        self._for_device = lru_cache(maxsize=_DEVICES_REMEMBERED)(self._build_for_device)
        self._given_out: WeakValueDictionary[int, DeviceTypes] = WeakValueDictionary()
        self._parsed = lru_cache(maxsize=_SOURCES_PARSED)(_load)

    @staticmethod
    def builtin() -> "Library":
        """The definitions that come with Stellwerk; the same library each time, so never import into it."""
        return _builtin()

    def with_models(self, models: Iterable[ObjectModel] = ()) -> "Library":
        """A library of its own: the models of this one for all devices and ``models``, which replace those of the same
        object and version."""
        return Library((*self.models(), *models))

    def replace_imported(self, imported: Iterable[tuple[str, Source]]) -> list[DeviceTypes]:
        """Take ``imported`` (each with its tenant's name, empty for all) instead of what was imported before.

        Returns the `DeviceTypes` that devices hold: `DeviceTypes.refresh` each of them, in portions where there are
        many. Raises `ValueError` for a version that is not major.minor, and then changes nothing.
        """
        by_tenant: dict[str, list[Source]] = {}
        for tenant, source in imported:
            by_tenant.setdefault(tenant, []).append(source)
        models = _by_version(self._built, by_tenant.pop("", ()))
        of_tenant = {tenant: _by_version(models, sources) for tenant, sources in by_tenant.items()}
        self._models, self._of_tenant = models, of_tenant
        self._parsed.cache_clear()
        return list(self._given_out.values())

    def models(self, tenant: str = "") -> tuple[ObjectModel, ...]:
        """Every model by object identifier and version, as devices of ``tenant`` have them."""
        known = self._of_tenant.get(tenant, self._models)
        found = (self._model(versions[each]) for _, versions in sorted(known.items()) for each in sorted(versions))
        return tuple(each for each in found if each is not None)

    def get(self, object_id: int, version: str, tenant: str = "") -> ObjectModel | None:
        """Exactly this model, or None."""
        wanted = parse_version(version)
        known = self._of_tenant.get(tenant, self._models).get(object_id, {})
        return None if wanted is None or wanted not in known else self._model(known[wanted])

    def choose(self, object_id: int, version: str | None, lwm2m_version: str, tenant: str = "") -> Choice:
        """The model for an object that was registered with ``version`` (None: without one) by a client of
        ``lwm2m_version``: the stated version; else the one of the client's release; else 1.0; where that one is not
        known, the nearest minor version of the same major (of two as near, the older); else none."""
        stated = parse_version(version) if version is not None else None
        malformed = version if stated is None else None
        wanted, rule = (stated, Rule.EXACT) if stated is not None else _implied(object_id, lwm2m_version)
        known = self._of_tenant.get(tenant, self._models).get(object_id, {})
        major, minor = wanted
        minors = sorted((abs(each[1] - minor), each[1]) for each in known if each[0] == major)
        model = None
        for distance, each in minors:
            model = self._model(known[major, each])
            if model is not None:
                if distance:
                    rule = Rule.NEAREST
                break
        if model is None:
            rule = Rule.NONE
        return Choice(object_id, f"{major}.{minor}", rule, model, malformed)

    def for_device(self, lwm2m_version: str, versions: Mapping[int, str | None], tenant: str = "") -> DeviceTypes:
        """The models for a client of release ``lwm2m_version`` (``1.1``) that registered these objects (identifier to
        ``ver``, None where it gave none). Devices with equal arguments of usual length share one answer."""
        if len(versions) > _OBJECTS_REMEMBERED:
            return self._give_out(lwm2m_version, versions, tenant)
        return self._for_device(lwm2m_version, frozenset(versions.items()), tenant)

    def _build_for_device(
        self, lwm2m_version: str, versions: frozenset[tuple[int, str | None]], tenant: str
    ) -> DeviceTypes:
        return self._give_out(lwm2m_version, dict(versions), tenant)

    def _give_out(self, lwm2m_version: str, versions: Mapping[int, str | None], tenant: str) -> DeviceTypes:
        types = DeviceTypes(self, lwm2m_version, versions, tenant)
        self._given_out[id(types)] = types
        return types

    def _model(self, known: ObjectModel | Source) -> ObjectModel | None:
        return known if isinstance(known, ObjectModel) else self._parsed(known)


@cache
def _builtin() -> Library:
    return Library(builtin_models())


def _load(source: Source) -> ObjectModel | None:
    return source.load()


def _by_version(below: _Known, models: Iterable[ObjectModel | Source]) -> _Known:
    """``below`` with ``models`` on top."""
    known: dict[int, dict[Version, ObjectModel | Source]] = {each: dict(versions) for each, versions in below.items()}
    for model in models:
        object_id = model.id if isinstance(model, ObjectModel) else model.object_id
        version = parse_version(model.version)
        if version is None:
            raise ValueError(f"object {object_id}: version {model.version!r} is not major.minor")
        known.setdefault(object_id, {})[version] = model
    return known


def _implied(object_id: int, lwm2m_version: str) -> tuple[Version, Rule]:
    release = parse_version(lwm2m_version) or (1, 0)
    newest = max((each for each in _VERSIONS_OF_RELEASE if each <= release), default=(1, 0))
    version = _VERSIONS_OF_RELEASE[newest].get(object_id)
    return (version, Rule.RELEASE) if version is not None else (_V1_0, Rule.DEFAULT)
