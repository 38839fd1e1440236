"""Objects and resources as data: the facts of an object definition (Core 1.2.2 §7.1, App. D; contract §9)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Flag
from types import MappingProxyType
from typing import Final, TypeAlias

from stellwerk.lwm2m.schema.ranges import ValueRange, parse_range
from stellwerk.lwm2m.value import ResourceType

Version: TypeAlias = tuple[int, int]
"""An object version or LwM2M release as (major, minor)."""

_VERSION: Final = re.compile(r"(\d{1,5})\.(\d{1,5})(?:\.\d{1,5})?", re.ASCII)


class Operations(Flag):
    """What a server may do with a resource; `NONE` leaves it to a bootstrap server alone."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4

    @classmethod
    def parse(cls, text: str) -> "Operations":
        """The letters of a definition, ``RW``. Raises `ValueError` for any other letter or a repeated one."""
        operations = cls.NONE
        for letter in text:
            each = _OPERATION_OF_LETTER.get(letter)
            if each is None or each & operations:
                raise ValueError(f"{text!r} is not made of R, W and E")
            operations |= each
        return operations

    def __str__(self) -> str:
        return "".join(letter for letter, each in _OPERATION_OF_LETTER.items() if each in self)


_OPERATION_OF_LETTER: Final = {"R": Operations.READ, "W": Operations.WRITE, "E": Operations.EXECUTE}


@dataclass(frozen=True, slots=True)
class ResourceModel:
    """``range_text`` as defined; ``range`` its checkable meaning, None where it has none."""

    id: int
    name: str
    operations: Operations
    multiple: bool
    mandatory: bool
    type: ResourceType
    range_text: str = ""
    units: str = ""
    range: ValueRange | None = None

    @staticmethod
    def define(
        id: int,
        name: str,
        operations: str,
        *,
        multiple: bool,
        mandatory: bool,
        type: ResourceType,
        range_text: str = "",
        units: str = "",
    ) -> "ResourceModel":
        """A model with its range parsed. Raises `ValueError` for operations that are not letters of R, W, E."""
        parsed = parse_range(range_text, type)
        return ResourceModel(
            id, name, Operations.parse(operations), multiple, mandatory, type, range_text, units, parsed
        )

    @property
    def readable(self) -> bool:
        return Operations.READ in self.operations

    @property
    def writable(self) -> bool:
        return Operations.WRITE in self.operations

    @property
    def executable(self) -> bool:
        return Operations.EXECUTE in self.operations


@dataclass(frozen=True, slots=True)
class ObjectModel:
    """One version of one object. ``resources`` is read-only and sorted by identifier; ``types`` leaves out the ones
    that have no type, since they are executed or their definition says none."""

    id: int
    name: str
    version: str
    urn: str
    multiple: bool
    mandatory: bool
    resources: Mapping[int, ResourceModel]
    types: Mapping[int, ResourceType]

    @staticmethod
    def define(
        id: int,
        name: str,
        version: str,
        resources: Iterable[ResourceModel],
        *,
        multiple: bool,
        mandatory: bool,
        urn: str = "",
    ) -> "ObjectModel":
        """A model with its resources in order and, unless one is given, the URN its identifier implies."""
        by_id = {each.id: each for each in sorted(resources, key=lambda each: each.id)}
        # A plain dict, not a proxy: every decoded value asks it, and a lookup through a proxy costs more.
        types = {each.id: each.type for each in by_id.values() if each.type is not ResourceType.NONE}
        return ObjectModel(
            id,
            name,
            version,
            urn or object_urn(id, version),
            multiple,
            mandatory,
            MappingProxyType(by_id),
            types,
        )


def parse_version(text: str) -> Version | None:
    """``1.2`` as (1, 2); a third number (a TS release such as ``1.2.2``) is dropped. None for any other text."""
    match = _VERSION.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def object_urn(object_id: int, version: str) -> str:
    """The URN of an object by its identifier's class (contract §9); version 1.0 is not written."""
    kind = "oma" if object_id < 2048 else "ext" if object_id <= 10240 else "x"
    urn = f"urn:oma:lwm2m:{kind}:{object_id}"
    return urn if version == "1.0" else f"{urn}:{version}"
