"""Resource types and the Python values that stand for them (Core 1.2.2 App. C, contract §8.1)."""

from enum import Enum
from typing import NamedTuple, TypeAlias


class ResourceType(Enum):
    """The nine data types of a resource; ``NONE`` marks one that is only executed."""

    STRING = "String"
    INTEGER = "Integer"
    UNSIGNED = "Unsigned Integer"
    FLOAT = "Float"
    BOOLEAN = "Boolean"
    OPAQUE = "Opaque"
    TIME = "Time"
    OBJLNK = "Objlnk"
    CORELNK = "Corelnk"
    NONE = ""


class ObjectLink(NamedTuple):
    """An Objlnk value; ``65535:65535`` is the null link."""

    object_id: int
    instance_id: int

    def __str__(self) -> str:
        return f"{self.object_id}:{self.instance_id}"


Value: TypeAlias = str | int | float | bool | bytes | ObjectLink
"""String and Corelnk: str. Integer, Unsigned Integer, Time (seconds since 1970): int. Float: float.
Boolean: bool. Opaque: bytes. Objlnk: ObjectLink. Where no model names the type, a value keeps what its format gave."""
