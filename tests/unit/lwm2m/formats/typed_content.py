"""A model with one resource of every type, and content drawn from it."""

import math

from hypothesis import strategies as st

from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

OBJECT = 33000
TYPES = tuple(kind for kind in ResourceType if kind is not ResourceType.NONE)


class OneOfEach:
    """Resource n has type n of `TYPES`; from 10 on the same again with instances; any other is unknown."""

    def resource_type(self, path: Path) -> ResourceType | None:
        known = path[0] == OBJECT and path[2] < 20 and path[2] % 10 < len(TYPES)
        return TYPES[path[2] % 10] if known else None

    def is_multiple(self, path: Path) -> bool | None:
        return path[2] >= 10 if self.resource_type(path) else None


def resource_of(kind: ResourceType) -> Path:
    return Path(OBJECT, 0, TYPES.index(kind))


UNICODE = st.text(st.characters(codec="utf-8"), max_size=40)
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[ResourceType, st.SearchStrategy[Value]] = {
    ResourceType.STRING: UNICODE,
    ResourceType.CORELNK: UNICODE,
    ResourceType.INTEGER: INT64,
    ResourceType.TIME: INT64,
    ResourceType.UNSIGNED: st.integers(0, 2**64 - 1),
    ResourceType.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
    ResourceType.BOOLEAN: st.booleans(),
    ResourceType.OPAQUE: st.binary(max_size=300),
    ResourceType.OBJLNK: st.builds(ObjectLink, st.integers(0, 65535), st.integers(0, 65535)),
}


@st.composite
def entries_below(draw: st.DrawFn, base: Path, times: st.SearchStrategy[float | None]) -> Entry:
    resource = draw(st.integers(0, 8) | st.integers(10, 18))
    value = draw(VALUES[TYPES[resource % 10]])
    instance = base[1] if len(base) > 1 else draw(st.integers(0, 3) | st.sampled_from((255, 256, 65534)))
    path = Path(OBJECT, instance, resource)
    if resource >= 10:
        path = path.child(draw(st.integers(0, 3) | st.sampled_from((255, 256, 65534))))
    return Entry(path, value, draw(times))


def contents(base: Path, times: st.SearchStrategy[float | None] | None = None) -> st.SearchStrategy[Content]:
    """Content of an object or instance, with every (path, time) once."""
    entries = entries_below(base, times if times is not None else st.none())
    return st.lists(entries, min_size=1, max_size=12, unique_by=lambda each: (each.path, each.time_s)).map(
        lambda drawn: Content(tuple(drawn))
    )


TIMES: st.SearchStrategy[float | None] = st.none() | st.floats(2**28, 2**40, allow_nan=False).map(
    lambda seconds: math.floor(seconds * 1000) / 1000
)
