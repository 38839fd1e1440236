"""The few words in which the built-in definitions are written."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel
from stellwerk.lwm2m.value import ResourceType

Rows: TypeAlias = tuple[ResourceModel, ...]

STRING: Final = ResourceType.STRING
INTEGER: Final = ResourceType.INTEGER
UNSIGNED: Final = ResourceType.UNSIGNED
FLOAT: Final = ResourceType.FLOAT
BOOLEAN: Final = ResourceType.BOOLEAN
OPAQUE: Final = ResourceType.OPAQUE
TIME: Final = ResourceType.TIME
OBJLNK: Final = ResourceType.OBJLNK
CORELNK: Final = ResourceType.CORELNK
NONE: Final = ResourceType.NONE

_COUNTS: Final = {"1": (False, True), "0..1": (False, False), "1..n": (True, True), "0..n": (True, False)}


def row(
    id: int, name: str, operations: str, count: str, type: ResourceType, range_text: str = "", units: str = ""
) -> ResourceModel:
    """One resource. ``count``: 1 mandatory, 0..1 optional, 1..n mandatory multiple, 0..n optional multiple."""
    multiple, mandatory = _COUNTS[count]
    return ResourceModel.define(
        id,
        name,
        operations,
        multiple=multiple,
        mandatory=mandatory,
        type=type,
        range_text=range_text,
        units=units,
    )


def revise(rows: Iterable[ResourceModel], *changed: ResourceModel, without: Iterable[int] = ()) -> Rows:
    """The rows of a later version: ``changed`` rows replace those of the same identifier or come on top."""
    by_id = {each.id: each for each in rows} | {each.id: each for each in changed}
    for identifier in without:
        del by_id[identifier]
    return tuple(by_id.values())


def versions_of(
    id: int, name: str, *, multiple: bool, mandatory: bool = False, **rows_of_version: Rows
) -> tuple[ObjectModel, ...]:
    """The models of one object; each keyword ``v1_1=rows`` states one version."""
    return build_versions(
        id,
        name,
        {keyword[1:].replace("_", "."): rows for keyword, rows in rows_of_version.items()},
        multiple=multiple,
        mandatory=mandatory,
    )


def build_versions(
    id: int, name: str, rows_of_version: Mapping[str, Rows], *, multiple: bool, mandatory: bool = False
) -> tuple[ObjectModel, ...]:
    """The models of one object from a mapping of version to rows."""
    return tuple(
        ObjectModel.define(id, name, version, rows, multiple=multiple, mandatory=mandatory)
        for version, rows in rows_of_version.items()
    )
