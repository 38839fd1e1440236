"""The Bootstrap interface as frozen values (Core 1.2.2 §6.1; contract §5)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from stellwerk.core.errors import PeerError
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import ContentFormat, encode_content
from stellwerk.lwm2m.link_format import LinkFormatError, decode_links
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.registration_parameters import InvalidParameter, check_endpoint_name, split_query
from stellwerk.lwm2m.schema.library import DeviceTypes, Library

ROOT: Final = Path()

SECURITY: Final = 0
SERVER: Final = 1
ACCESS_CONTROL: Final = 2
OSCORE: Final = 21
"""The objects that a bootstrap server writes."""

WRITE_FORMATS: Final = (
    ContentFormat.SENML_CBOR,
    ContentFormat.SENML_JSON,
    ContentFormat.LWM2M_CBOR,
    ContentFormat.TLV,
)
"""What a device may prefer in ``pct`` (contract B-4)."""

PACK_FORMATS: Final = (ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.LWM2M_CBOR)
"""What a pack may be written in (contract §5)."""

# -- what a device asks of a bootstrap server --


@dataclass(frozen=True, slots=True)
class BootstrapRequest:
    """POST /bs. ``query`` as received; `decode_bootstrap_request` reads it."""

    query: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootstrapPackRequest:
    """GET /bspack (1.2). ``accept``: the Content-Format that the device wants, None where it names none."""

    query: tuple[str, ...]
    accept: int | None


@dataclass(frozen=True, slots=True)
class EstRequest:
    """A request for certificates (RFC 9148 §4.1): GET of ``crts``, POST of ``sen`` or ``sren`` with a signing request.
    Formats are None where none is named."""

    function: str
    payload: bytes = b""
    content_format: int | None = None
    accept: int | None = None


BootstrapUplink: TypeAlias = BootstrapRequest | BootstrapPackRequest | EstRequest


# -- what a bootstrap server asks of a device --


@dataclass(frozen=True, slots=True)
class BootstrapDiscover:
    """GET with Accept 40 on the root, or on an object."""

    path: Path = ROOT


@dataclass(frozen=True, slots=True)
class BootstrapRead:
    """GET on object 1 or 2, or an instance of one."""

    path: Path
    accept: int | None = None


@dataclass(frozen=True, slots=True)
class BootstrapWrite:
    """PUT on an object, an instance or a resource. ``content_format`` is always said (contract B-4)."""

    path: Path
    content: Content
    content_format: int


@dataclass(frozen=True, slots=True)
class BootstrapDelete:
    """DELETE of the root, an object or an instance."""

    path: Path


@dataclass(frozen=True, slots=True)
class BootstrapFinish:
    """POST /bs without a payload."""


BootstrapOperation: TypeAlias = BootstrapDiscover | BootstrapRead | BootstrapWrite | BootstrapDelete | BootstrapFinish


# -- what a request says --


class PctUnsupported(PeerError):
    """The device wants Bootstrap-Writes in ``content_format``, which is none of `WRITE_FORMATS`; deserves 4.15."""

    def __init__(self, content_format: int) -> None:
        self.content_format = content_format
        formats = ", ".join(str(int(each)) for each in WRITE_FORMATS)
        super().__init__(f"parameter 'pct': Content-Format {content_format} is not supported, only {formats}")


class PackFormatUnsupported(PeerError):
    """The device accepts a pack in ``content_format`` only, which is none of `PACK_FORMATS`; deserves 4.06."""

    def __init__(self, content_format: int) -> None:
        self.content_format = content_format
        formats = ", ".join(str(int(each)) for each in PACK_FORMATS)
        super().__init__(f"Accept {content_format}: a pack is written in Content-Format {formats} only")


class BootstrapParameters(NamedTuple):
    """``endpoint_name`` None: the security identity has to give it. ``pct``: the preferred Content-Format, be it one
    of `WRITE_FORMATS` or not, None where none is said."""

    endpoint_name: str | None = None
    pct: int | None = None


class PackParameters(NamedTuple):
    """``accounts``: the instances (/0/x, /21/x ...) that are the device's bootstrap account, None where it does not say
    them."""

    endpoint_name: str | None = None
    accounts: tuple[Path, ...] | None = None


def decode_bootstrap_request(query: tuple[str, ...]) -> BootstrapParameters:
    """The parameters of a Bootstrap-Request, from the Uri-Query options in any order; others are overlooked.

    Raises `DuplicateParameter`, `InvalidParameter` (4.00). Whether ``pct`` is supported `write_format` says.
    """
    given = split_query(query)
    return BootstrapParameters(_endpoint_name(given), _content_format(given["pct"]) if "pct" in given else None)


def decode_pack_request(query: tuple[str, ...]) -> PackParameters:
    """The parameters of a Bootstrap-Pack-Request: ``acc`` is a list of links without parameters,
    ``</0/2>,</21/0>`` (1.2.1); a bare path or an instance of object 0 alone is understood.

    Raises `DuplicateParameter`, `InvalidParameter` (4.00).
    """
    given = split_query(query)
    return PackParameters(_endpoint_name(given), _accounts(given["acc"]) if "acc" in given else None)


def write_format(pct: int | None) -> int:
    """The Content-Format for Bootstrap-Writes. Without ``pct`` it is TLV: all of 1.0 know it, and a device of 1.1 that
    does not says so (contract B-4). Raises `PctUnsupported`."""
    if pct is None:
        return ContentFormat.TLV
    if pct not in WRITE_FORMATS:
        raise PctUnsupported(pct)
    return pct


def pack_format(accept: int | None) -> int:
    """The Content-Format for a pack: SenML CBOR where the device has no wish. Raises `PackFormatUnsupported`."""
    if accept is None:
        return ContentFormat.SENML_CBOR
    if accept not in PACK_FORMATS:
        raise PackFormatUnsupported(accept)
    return accept


def encode_bootstrap_write(write: BootstrapWrite) -> bytes:
    """The payload of a Bootstrap-Write. Bootstrap names have no alternate path (contract R-11). Raises
    `EncodeError`."""
    return encode_content(write.content_format, write.content, write.path, bootstrap_types(write.content))


def encode_pack(content: Content, content_format: int) -> bytes:
    """The payload of a Bootstrap-Pack. Raises `EncodeError`."""
    return encode_content(content_format, content, ROOT, bootstrap_types(content))


def bootstrap_types(content: Content) -> DeviceTypes:
    """The types of ``content``'s resources. Those of one number are of one type in all versions, but in object 21,
    which had texts before 2.0."""
    texts = any(entry.path[0] == OSCORE and isinstance(entry.value, str) for entry in content.entries)
    return _types("1.1" if texts else "2.0")


@lru_cache(maxsize=2)
def _types(oscore_version: str) -> DeviceTypes:
    versions = {SECURITY: "1.2", SERVER: "1.2", ACCESS_CONTROL: "1.1", OSCORE: oscore_version}
    return Library.builtin().for_device("1.2", versions)


_CONTENT_FORMAT: Final = re.compile(r"[0-9]{1,5}")
_MOST_ACCOUNTS: Final = 16


def _endpoint_name(given: dict[str, str | None]) -> str | None:
    return check_endpoint_name(given["ep"]) if "ep" in given else None


def _content_format(text: str | None) -> int:
    if text is None or not _CONTENT_FORMAT.fullmatch(text) or int(text) > 65535:
        raise InvalidParameter("pct", text, "is no number of a Content-Format")
    return int(text)


def _accounts(text: str | None) -> tuple[Path, ...]:
    if not text:
        raise InvalidParameter("acc", text, "is empty")
    reason = "is no list of object instances like </0/0>,</21/0>"
    if text.isascii() and text.isdigit():
        text = f"/{SECURITY}/{text}"
    if "<" not in text:
        text = ",".join(f"<{each.strip()}>" for each in text.split(","))
    try:
        paths = tuple(Path.parse(link.target) for link in decode_links(text.encode()))
    except (LinkFormatError, PathError, UnicodeEncodeError):
        raise InvalidParameter("acc", text, reason) from None
    if not 1 <= len(paths) <= _MOST_ACCOUNTS or any(len(each) != 2 for each in paths):
        raise InvalidParameter("acc", text, reason)
    return paths
