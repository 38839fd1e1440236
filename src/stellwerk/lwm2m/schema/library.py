"""Which model describes an object of a device: version, release, and the nearest one we know (contract §9)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import Final

from stellwerk.lwm2m.path import MAX_ID, Path
from stellwerk.lwm2m.schema.builtin import builtin_models
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel, Version, parse_version
from stellwerk.lwm2m.value import ResourceType

# The object versions that each release of the enabler contains (Core 1.0.2, 1.1.1, 1.2.x App. E). What a client
# registers without `ver` is of this version; objects outside the table are 1.0.
_VERSIONS_OF_RELEASE: Final[Mapping[Version, Mapping[int, Version]]] = {
    (1, 0): {},
    (1, 1): {0: (1, 1), 1: (1, 1), 3: (1, 1), 4: (1, 2)},
    (1, 2): {0: (1, 2), 1: (1, 2), 2: (1, 1), 3: (1, 2), 4: (1, 3), 5: (1, 1), 21: (2, 0)},
}
_DEVICES_REMEMBERED: Final = 1024
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


class _Models(dict[int, ObjectModel]):
    """Models by object; an object that the device did not register is looked up when it first occurs."""

    __slots__ = ("_library", "_release")

    def __init__(self, library: "Library", release: str, choices: Iterable[Choice]) -> None:
        super().__init__({each.object_id: each.model or _NO_MODEL for each in choices})
        self._library, self._release = library, release

    def __missing__(self, object_id: int) -> ObjectModel:
        model = self._library.choose(object_id, None, self._release).model
        if model is None:
            return _NO_MODEL  # not remembered: an endless choice of identifiers would be kept for ever
        self[object_id] = model
        return model


class DeviceTypes:
    """The models of one device's object versions (implements `content.Types`); shared by devices alike.

    ``choices`` has the registered objects by identifier; ``warnings`` the texts of those that fell back.
    """

    __slots__ = ("_models", "choices", "lwm2m_version", "warnings")

    def __init__(self, library: "Library", lwm2m_version: str, versions: Mapping[int, str | None]) -> None:
        self.lwm2m_version = lwm2m_version
        self.choices: Mapping[int, Choice] = {
            each: library.choose(each, version, lwm2m_version) for each, version in sorted(versions.items())
        }
        self.warnings = tuple(each.warning for each in self.choices.values() if each.warning)
        self._models = _Models(library, lwm2m_version, self.choices.values())

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
    """Models by object and version. Never changes: `with_models` makes another one."""

    __slots__ = ("_for_device", "_models")

    def __init__(self, models: Iterable[ObjectModel] = ()) -> None:
        """Of two models of the same object and version, the later one counts. Raises `ValueError` for a version that
        is not major.minor."""
        self._models: dict[int, dict[Version, ObjectModel]] = {}
        for model in models:
            version = parse_version(model.version)
            if version is None:
                raise ValueError(f"object {model.id}: version {model.version!r} is not major.minor")
            self._models.setdefault(model.id, {})[version] = model
        self._for_device = lru_cache(maxsize=_DEVICES_REMEMBERED)(self._build_for_device)

    @staticmethod
    def builtin() -> "Library":
        """The definitions that come with Stellwerk; the same library each time."""
        return _builtin()

    def with_models(self, models: Iterable[ObjectModel]) -> "Library":
        """This library and ``models``, which replace those of the same object and version."""
        return Library((*self.models(), *models))

    def models(self) -> tuple[ObjectModel, ...]:
        """Every model, by object identifier and version."""
        return tuple(versions[each] for _, versions in sorted(self._models.items()) for each in sorted(versions))

    def get(self, object_id: int, version: str) -> ObjectModel | None:
        """Exactly this model, or None."""
        wanted = parse_version(version)
        return None if wanted is None else self._models.get(object_id, {}).get(wanted)

    def choose(self, object_id: int, version: str | None, lwm2m_version: str) -> Choice:
        """The model for an object that was registered with ``version`` (None: without one) by a client of
        ``lwm2m_version``: the stated version; else the one of the client's release; else 1.0; where that one is not
        known, the nearest minor version of the same major (of two as near, the older); else none."""
        stated = parse_version(version) if version is not None else None
        malformed = version if stated is None else None
        wanted, rule = (stated, Rule.EXACT) if stated is not None else _implied(object_id, lwm2m_version)
        known = self._models.get(object_id, {})
        model = known.get(wanted)
        if model is None:
            major, minor = wanted
            minors = sorted((abs(each[1] - minor), each[1]) for each in known if each[0] == major)
            if minors:
                model, rule = known[major, minors[0][1]], Rule.NEAREST
            else:
                rule = Rule.NONE
        return Choice(object_id, f"{wanted[0]}.{wanted[1]}", rule, model, malformed)

    def for_device(self, lwm2m_version: str, versions: Mapping[int, str | None]) -> DeviceTypes:
        """The models for a client of release ``lwm2m_version`` (``1.1``) that registered these objects (identifier to
        ``ver``, None where it gave none). Devices with equal arguments of usual length share one answer."""
        if len(versions) > _OBJECTS_REMEMBERED:
            return DeviceTypes(self, lwm2m_version, versions)
        return self._for_device(lwm2m_version, frozenset(versions.items()))

    def _build_for_device(self, lwm2m_version: str, versions: frozenset[tuple[int, str | None]]) -> DeviceTypes:
        return DeviceTypes(self, lwm2m_version, dict(versions))


@cache
def _builtin() -> Library:
    return Library(builtin_models())


def _implied(object_id: int, lwm2m_version: str) -> tuple[Version, Rule]:
    release = parse_version(lwm2m_version) or (1, 0)
    newest = max((each for each in _VERSIONS_OF_RELEASE if each <= release), default=(1, 0))
    version = _VERSIONS_OF_RELEASE[newest].get(object_id)
    return (version, Rule.RELEASE) if version is not None else ((1, 0), Rule.DEFAULT)
