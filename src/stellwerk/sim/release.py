"""What differs between devices of LwM2M 1.0, 1.1 and 1.2 (contract §0.1)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.schema.library import DeviceTypes, Library

SEVERAL: Final = frozenset(
    {
        ContentFormat.TLV,
        ContentFormat.LWM2M_JSON,
        ContentFormat.SENML_JSON,
        ContentFormat.SENML_CBOR,
        ContentFormat.LWM2M_CBOR,
    }
)
"""The formats that hold more than one value."""

ETCH: Final = frozenset({ContentFormat.SENML_ETCH_JSON, ContentFormat.SENML_ETCH_CBOR})
"""The formats of composite bodies alone (RFC 8790)."""

_FORMATS_1_0: Final = (ContentFormat.TEXT, ContentFormat.OPAQUE, ContentFormat.TLV, ContentFormat.LWM2M_JSON)
_FORMATS_1_1: Final = (
    *(ContentFormat.TEXT, ContentFormat.OPAQUE, ContentFormat.CBOR),
    *(ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR, ContentFormat.TLV, ContentFormat.LWM2M_JSON),
)
_FORMATS_1_2: Final = (*_FORMATS_1_1, ContentFormat.LWM2M_CBOR, *ETCH)

_PREFERENCE: Final = (
    *(ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR, ContentFormat.SENML_JSON, ContentFormat.TLV),
    *(ContentFormat.LWM2M_JSON, ContentFormat.CBOR, ContentFormat.TEXT, ContentFormat.OPAQUE),
)


class InvalidFormats(UserError):
    """``wanted`` are no formats that a device of ``release`` can be left with; the text says which it has."""

    def __init__(self, wanted: Collection[int], release: str, known: Collection[int]) -> None:
        self.wanted, self.release, self.known = tuple(wanted), release, tuple(sorted(known))
        has = ", ".join(map(str, self.known))
        super().__init__(
            f"formats {', '.join(map(str, wanted)) or 'none'}: a device of LwM2M {release} can have some of {has}"
        )


@dataclass(frozen=True, slots=True)
class Release:
    """One release: what a device of it registers, reads and writes.

    ``versions``: its objects and what it registers as their version, None where the release implies it.
    ``default_format``: what is sent to a server that does not say what it accepts.
    ``stated_formats``: ``ct`` of the root link, None where nothing is stated; text and opaque go without saying.
    """

    name: str
    versions: Mapping[int, str | None]
    formats: frozenset[int]
    default_format: ContentFormat
    stated_formats: str | None
    test_object: int

    @property
    def types(self) -> DeviceTypes:
        """The models that all devices of this release with these versions share."""
        return Library.builtin().for_device(self.name, self.versions)

    def binding(self, binding: str, *, queue_mode: bool) -> tuple[str, ...]:
        """The parameters of a Register that tell the binding: ``UQ``, or a ``Q`` of its own from 1.1 on (BIN-1,
        BIN-3)."""
        if self.name == "1.0":
            return (f"b={binding}Q",) if queue_mode else (f"b={binding}",)
        return (f"b={binding}", "Q") if queue_mode else (f"b={binding}",)

    def restricted(self, formats: Collection[int]) -> "Release":
        """This release with no other ``formats`` than these. Raises `InvalidFormats`."""
        if not formats or not self.formats.issuperset(formats) or ETCH.issuperset(formats):
            raise InvalidFormats(formats, self.name, self.formats)
        stated = " ".join(str(int(each)) for each in sorted(formats))
        return replace(
            self,
            formats=frozenset(formats),
            default_format=next(each for each in _PREFERENCE if each in formats),
            stated_formats=f'"{stated}"',
        )

    def with_versions(self, versions: Mapping[int, str | None]) -> "Release":
        """This release with other ``versions`` of some objects."""
        return replace(self, versions={**self.versions, **versions})


def _release(
    name: str,
    formats: tuple[ContentFormat, ...],
    default_format: ContentFormat,
    stated_formats: str | None,
    test_object: int,
) -> Release:
    versions: dict[int, str | None] = dict.fromkeys((*_CORE, *_MORE, test_object))
    versions[3303] = "1.1"
    versions[10] = "1.1"
    versions[25] = "2.0"
    return Release(name, versions, frozenset(formats), default_format, stated_formats, test_object)


_CORE: Final = (0, 1, 2, 3, 4, 5, 6, 7)
_MORE: Final = (10, 11, 12, 13, 16, 19, 20, 25, 26, 3303, 3304, 3311)

RELEASES: Final[Mapping[str, Release]] = {
    each.name: each
    for each in (
        _release("1.0", _FORMATS_1_0, ContentFormat.TLV, None, 3441),
        _release("1.1", _FORMATS_1_1, ContentFormat.SENML_CBOR, '"60 110 112 11542"', 3442),
        _release("1.2", _FORMATS_1_2, ContentFormat.SENML_CBOR, '"60 110 112 11542 11544"', 3442),
    )
}
"""By what is registered as ``lwm2m=``."""
