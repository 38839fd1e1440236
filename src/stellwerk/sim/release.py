"""What differs between devices of LwM2M 1.0, 1.1 and 1.2 (contract §0.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.schema.library import DeviceTypes, Library

SEVERAL: Final = frozenset(
    {ContentFormat.TLV, ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR}
)
"""The formats that hold more than one value."""

_FORMATS_1_0: Final = (ContentFormat.TEXT, ContentFormat.OPAQUE, ContentFormat.TLV)
_FORMATS_1_1: Final = (*_FORMATS_1_0, ContentFormat.CBOR, ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR)
_FORMATS_1_2: Final = (*_FORMATS_1_1, ContentFormat.LWM2M_CBOR)


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
        """The models that all devices of this release share."""
        return _types(self.name)

    def binding(self, binding: str, *, queue_mode: bool) -> tuple[str, ...]:
        """The parameters of a Register that tell the binding: ``UQ``, or a ``Q`` of its own from 1.1 on (BIN-1,
        BIN-3)."""
        if self.name == "1.0":
            return (f"b={binding}Q",) if queue_mode else (f"b={binding}",)
        return (f"b={binding}", "Q") if queue_mode else (f"b={binding}",)


def _release(
    name: str,
    formats: tuple[ContentFormat, ...],
    default_format: ContentFormat,
    stated_formats: str | None,
    test_object: int,
) -> Release:
    versions: dict[int, str | None] = dict.fromkeys((0, 1, 3, 4, 5, 6, 3303, 3311, test_object))
    versions[3303] = "1.1"
    return Release(name, versions, frozenset(formats), default_format, stated_formats, test_object)


RELEASES: Final[Mapping[str, Release]] = {
    each.name: each
    for each in (
        _release("1.0", _FORMATS_1_0, ContentFormat.TLV, None, 3441),
        _release("1.1", _FORMATS_1_1, ContentFormat.SENML_CBOR, '"60 110 112 11542"', 3442),
        _release("1.2", _FORMATS_1_2, ContentFormat.SENML_CBOR, '"60 110 112 11542 11544"', 3442),
    )
}
"""By what is registered as ``lwm2m=``."""


@cache
def _types(name: str) -> DeviceTypes:
    return Library.builtin().for_device(name, RELEASES[name].versions)
