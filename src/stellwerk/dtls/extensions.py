"""The extensions of ClientHello and ServerHello that we know (RFC 6066, 7250, 7366, 7627, 8422, 8449, 5077, 5746,
9146); others are kept as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, unpack
from typing import Final

from stellwerk.dtls.vectors import Reader, VectorError, numbers, vector


class ExtensionType(IntEnum):
    """Numbers of extensions (IANA, TLS ExtensionType Values)."""

    SERVER_NAME = 0
    MAX_FRAGMENT_LENGTH = 1
    SUPPORTED_GROUPS = 10
    POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    CLIENT_CERTIFICATE_TYPE = 19
    SERVER_CERTIFICATE_TYPE = 20
    ENCRYPT_THEN_MAC = 22
    EXTENDED_MASTER_SECRET = 23
    RECORD_SIZE_LIMIT = 28
    SESSION_TICKET = 35
    CONNECTION_ID = 54
    RENEGOTIATION_INFO = 65281


RFC_9146_CODE_POINT: Final = 54
"""Under every other code point connection IDs are those of a draft (`protection.Protection`, ``early_cid``)."""

X509_TYPE: Final = 0
RAW_PUBLIC_KEY_TYPE: Final = 2
"""Certificate types (RFC 7250 §3)."""

SECP256R1: Final = 23
UNCOMPRESSED: Final = 0

_MOST: Final = 64
_HEADER: Final = Struct("!HH")
_HOST_NAME: Final = 0


@dataclass(slots=True)
class Extensions:
    """What a hello says in its extensions; None and False: it does not. In a ServerHello the certificate types have one
    element each and the server name is empty."""

    server_name: bytes | None = None
    max_fragment_length: int | None = None
    """The code, 1 to 4 for 512 to 4096 bytes; another number is as it came (RFC 6066 §4: illegal_parameter)."""
    supported_groups: tuple[int, ...] | None = None
    point_formats: tuple[int, ...] | None = None
    signature_algorithms: tuple[int, ...] | None = None
    client_certificate_types: tuple[int, ...] | None = None
    server_certificate_types: tuple[int, ...] | None = None
    encrypt_then_mac: bool = False
    extended_master_secret: bool = False
    record_size_limit: int | None = None
    session_ticket: bytes | None = None
    """Empty: it has none, but would take one."""
    connection_id: bytes | None = None
    """What its sender wants to see in records to it; empty: nothing."""
    connection_id_code_point: int = RFC_9146_CODE_POINT
    """Under which extension type ``connection_id`` was or will be."""
    renegotiation_info: bytes | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()


def decode_extensions(
    data: bytes, *, server: bool = False, cid_code_points: Sequence[int] = (RFC_9146_CODE_POINT,)
) -> Extensions:
    """The extensions in ``data``, without the length before them: of a ServerHello if ``server``, else of a
    ClientHello. ``cid_code_points``: the types understood as connection_id; of several the one named first here counts.
    Raises `vectors.VectorError` and `core.cursor.Truncated`."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        if at + 4 > end:
            raise VectorError("an extension that ends too early")
        number = data[at] << 8 | data[at + 1]
        start = at + 4
        at = start + (data[at + 2] << 8 | data[at + 3])
        if at > end:
            raise VectorError("an extension that ends too early")
        if number in found:
            raise VectorError(f"extension {number} twice")
        found[number] = data[start:at]
        if len(found) > _MOST:
            raise VectorError(f"more than {_MOST} extensions")
    extensions = Extensions()
    for point in cid_code_points:
        if point in found:
            extensions.connection_id = _whole(found.pop(point), "connection_id")
            extensions.connection_id_code_point = point
            break
    unknown: list[tuple[int, bytes]] = []
    for number, content in found.items():
        decode = _DECODERS.get(number)
        if decode is None:
            unknown.append((number, content))
        else:
            decode(extensions, content, server)
    if unknown:
        extensions.unknown = tuple(unknown)
    return extensions


def encode_extensions(extensions: Extensions, *, server: bool = False) -> bytes:
    """The inverse of `decode_extensions`, in the order of their numbers but for the unknown, which come last."""
    e = extensions
    found: list[tuple[int, bytes]] = []
    add = found.append
    if e.server_name is not None:
        name = bytes((_HOST_NAME,)) + vector(2, e.server_name)
        add((ExtensionType.SERVER_NAME, b"" if server else vector(2, name)))
    if e.max_fragment_length is not None:
        add((ExtensionType.MAX_FRAGMENT_LENGTH, bytes((e.max_fragment_length,))))
    if e.supported_groups is not None:
        add((ExtensionType.SUPPORTED_GROUPS, numbers(2, e.supported_groups)))
    if e.point_formats is not None:
        add((ExtensionType.POINT_FORMATS, vector(1, bytes(e.point_formats))))
    if e.signature_algorithms is not None:
        add((ExtensionType.SIGNATURE_ALGORITHMS, numbers(2, e.signature_algorithms)))
    if e.client_certificate_types is not None:
        types = bytes(e.client_certificate_types)
        add((ExtensionType.CLIENT_CERTIFICATE_TYPE, types if server else vector(1, types)))
    if e.server_certificate_types is not None:
        types = bytes(e.server_certificate_types)
        add((ExtensionType.SERVER_CERTIFICATE_TYPE, types if server else vector(1, types)))
    if e.encrypt_then_mac:
        add((ExtensionType.ENCRYPT_THEN_MAC, b""))
    if e.extended_master_secret:
        add((ExtensionType.EXTENDED_MASTER_SECRET, b""))
    if e.record_size_limit is not None:
        add((ExtensionType.RECORD_SIZE_LIMIT, e.record_size_limit.to_bytes(2, "big")))
    if e.session_ticket is not None:
        add((ExtensionType.SESSION_TICKET, e.session_ticket))
    if e.connection_id is not None:
        add((e.connection_id_code_point, vector(1, e.connection_id)))
    if e.renegotiation_info is not None:
        add((ExtensionType.RENEGOTIATION_INFO, vector(1, e.renegotiation_info)))
    found += e.unknown
    return b"".join([_HEADER.pack(number, len(content)) + content for number, content in found])


def _whole(content: bytes, name: str, least: int = 0) -> bytes:
    if not content or content[0] != len(content) - 1 or content[0] < least:
        raise VectorError(f"{name} with a wrong length")
    return content[1:]


def _pairs(content: bytes, name: str) -> tuple[int, ...]:
    length = len(content) - 2
    if length < 2 or length % 2 or content[0] << 8 | content[1] != length:
        raise VectorError(f"{name} with a wrong length")
    return unpack(f"!{length // 2}H", content[2:])


def _uint(content: bytes, length: int, name: str) -> int:
    if len(content) != length:
        raise VectorError(f"{name} of {len(content)} bytes")
    return int.from_bytes(content, "big")


def _empty(content: bytes, name: str) -> bool:
    if content:
        raise VectorError(f"{name} with content")
    return True


def _server_name(e: Extensions, content: bytes, server: bool) -> None:
    if server:
        _empty(content, "server_name")
        e.server_name = b""
        return
    reader = Reader(content)
    names = Reader(reader.vector(2, "server_name", 1, 1 << 16))
    reader.finish()
    while names.left:
        kind = names.uint(1)
        name = names.vector(2, "a server name", 1, 1 << 16)
        # RFC 6066 3: there is one type of name, and one name of it.
        if kind != _HOST_NAME or e.server_name is not None:
            raise VectorError("more than a host name in server_name")
        e.server_name = name


def _max_fragment_length(e: Extensions, content: bytes, server: bool) -> None:
    e.max_fragment_length = _uint(content, 1, "max_fragment_length")


def _supported_groups(e: Extensions, content: bytes, server: bool) -> None:
    e.supported_groups = _pairs(content, "supported_groups")


def _point_formats(e: Extensions, content: bytes, server: bool) -> None:
    e.point_formats = tuple(_whole(content, "ec_point_formats", 1))


def _signature_algorithms(e: Extensions, content: bytes, server: bool) -> None:
    e.signature_algorithms = _pairs(content, "signature_algorithms")


def _certificate_types(content: bytes, server: bool, name: str) -> tuple[int, ...]:
    return (_uint(content, 1, name),) if server else tuple(_whole(content, name, 1))


def _client_certificate_type(e: Extensions, content: bytes, server: bool) -> None:
    e.client_certificate_types = _certificate_types(content, server, "client_certificate_type")


def _server_certificate_type(e: Extensions, content: bytes, server: bool) -> None:
    e.server_certificate_types = _certificate_types(content, server, "server_certificate_type")


def _encrypt_then_mac(e: Extensions, content: bytes, server: bool) -> None:
    e.encrypt_then_mac = _empty(content, "encrypt_then_mac")


def _extended_master_secret(e: Extensions, content: bytes, server: bool) -> None:
    e.extended_master_secret = _empty(content, "extended_master_secret")


def _record_size_limit(e: Extensions, content: bytes, server: bool) -> None:
    e.record_size_limit = _uint(content, 2, "record_size_limit")


def _session_ticket(e: Extensions, content: bytes, server: bool) -> None:
    e.session_ticket = content


def _renegotiation_info(e: Extensions, content: bytes, server: bool) -> None:
    e.renegotiation_info = _whole(content, "renegotiation_info")


_DECODERS: Final[dict[int, Callable[[Extensions, bytes, bool], None]]] = {
    ExtensionType.SERVER_NAME: _server_name,
    ExtensionType.MAX_FRAGMENT_LENGTH: _max_fragment_length,
    ExtensionType.SUPPORTED_GROUPS: _supported_groups,
    ExtensionType.POINT_FORMATS: _point_formats,
    ExtensionType.SIGNATURE_ALGORITHMS: _signature_algorithms,
    ExtensionType.CLIENT_CERTIFICATE_TYPE: _client_certificate_type,
    ExtensionType.SERVER_CERTIFICATE_TYPE: _server_certificate_type,
    ExtensionType.ENCRYPT_THEN_MAC: _encrypt_then_mac,
    ExtensionType.EXTENDED_MASTER_SECRET: _extended_master_secret,
    ExtensionType.RECORD_SIZE_LIMIT: _record_size_limit,
    ExtensionType.SESSION_TICKET: _session_ticket,
    ExtensionType.RENEGOTIATION_INFO: _renegotiation_info,
}
