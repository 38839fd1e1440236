"""What a server entry means for one device: the instances of objects 0, 1 and, with OSCORE, 21 that a bootstrap server
writes (Core 1.2.2 App. E; contract §10, B-7, B-8, B-10; device platform §3.4, §12.1, §13).

- Of object 0 everything is written that the mode has. What it does not have of 3, 4 and 5 is written empty (B-8): all
  three are mandatory resources, and there are clients (Leshan 2.0.0-M18) that cannot live with an instance without one.
  Hold-off and account time-out go with every account. Resources from 13 on need version 1.1 and are left out before it.
- Whoever enrols (mode 4, from version 1.1 on) makes its key itself: 3 and 5 are empty.
- Object 21 has bytes from version 2.0 on. Before, it had texts without a word on how bytes become one: they are written
  in hex. Where a device states no version it is 2.0 (contract §16: OSCORE ids are bytes), also one of LwM2M 1.1, whose
  own object 21 is 1.0 (contract §9): all three versions are of 1.1, nobody can tell a text that was meant, and the
  clients there are have 2.0 (`docs/deviations.md`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.configuration import EST_KEYS, NO_RPK_OVER_TLS, Acl, ServerEntry, uri_host
from stellwerk.device.key_material import LEAST_KEY, LONGEST_KEY, BadMaterial, der_of, read_certificate, read_public_key
from stellwerk.device.record import MODE_NAMES, NOSEC, PSK, RPK, X509
from stellwerk.lwm2m.bootstrap import ACCESS_CONTROL, OSCORE, SECURITY, SERVER
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.model import parse_version
from stellwerk.lwm2m.value import ObjectLink, Value

LONGEST_IDENTITY: Final = 128
LONGEST_URI: Final = 255
DEFAULT_VERSIONS: Final[Mapping[int, str]] = {SECURITY: "1.1", SERVER: "1.1", ACCESS_CONTROL: "1.0", OSCORE: "2.0"}
"""Of an object whose version a device does not state (device platform §12.1)."""

_LEAST_DIFFERENT: Final = 8
_MODES: Final = {PSK: 0, RPK: 1, X509: 2, NOSEC: 3}
_EST: Final = 4
_SCHEMES: Final = {
    ("udp", False): "coap",
    ("udp", True): "coaps",
    ("tcp", False): "coap+tcp",
    ("tcp", True): "coaps+tcp",
}


class BadAccount(UserError):
    """``server`` (a text for people) cannot be given to this device; ``rule`` says why and what would be right."""

    def __init__(self, server: str, rule: str) -> None:
        self.server, self.rule = server, rule
        super().__init__(f"{server}: {rule}")


@dataclass(frozen=True, slots=True)
class OscoreKeys:
    """Of object 21, so from the device's view: it sends as ``sender_id``. ``aead`` and ``hkdf`` are COSE numbers."""

    sender_id: bytes
    recipient_id: bytes
    master_secret: bytes = field(repr=False)
    master_salt: bytes = field(default=b"", repr=False)
    id_context: bytes = b""
    aead: int = 10
    hkdf: int = -10


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a device proves itself with at one server. ``mode``: `NOSEC`, `PSK`, `RPK` or `X509` of `device.record`.
    ``public``: the PSK identity in UTF-8, the SubjectPublicKeyInfo or the certificate (DER). ``secret``: the key, or
    the private key (PKCS#8, DER). Both are empty of NoSec."""

    mode: str = NOSEC
    public: bytes = b""
    secret: bytes = field(default=b"", repr=False)
    oscore: OscoreKeys | None = None


@dataclass(frozen=True, slots=True)
class ServerMaterial:
    """What this platform's own server shows in a handshake, DER; it stands in where an entry says none."""

    public_key: bytes = b""
    certificate: bytes = b""


@dataclass(frozen=True, slots=True)
class Account:
    """One server, ready to be written to one device. ``own``: of the bootstrap server where the entry is one."""

    entry: ServerEntry
    keys: ClientKeys = field(default_factory=ClientKeys)
    own: ServerMaterial = field(default_factory=ServerMaterial)

    def __str__(self) -> str:
        return "the bootstrap server" if self.entry.is_bootstrap else f"server {self.entry.short_id}"


def check_account(account: Account) -> None:
    """Raises `BadAccount` for what no device may be given: keys of another mode than the entry's (device platform §4),
    weak ones (B-10), none where some are needed, a server without a key to be known by, a URI that is too long."""
    entry, keys, name = account.entry, account.keys, str(account)
    if keys.mode != entry.mode:
        whose = "bootstrapServer" if entry.is_bootstrap else "lwm2mServer"
        raise BadAccount(
            name,
            f"the profile wants mode {MODE_NAMES[entry.mode]}, the device's bootstrap credentials ({whose}) are of "
            f"mode {MODE_NAMES.get(keys.mode, keys.mode)}; both have to be the same",
        )
    if len(server_uri(entry).encode()) > LONGEST_URI:
        raise BadAccount(name, f"its URI has more than {LONGEST_URI} bytes")
    if entry.mode != NOSEC and entry.keys != EST_KEYS and not (keys.public and keys.secret):
        raise BadAccount(name, "the device has no keys for it")
    if entry.mode == PSK:
        if len(keys.public) > LONGEST_IDENTITY:
            raise BadAccount(name, f"the PSK identity has {len(keys.public)} bytes, {LONGEST_IDENTITY} are the most")
        _check_key(name, "the pre-shared key", keys.secret)
    if entry.mode == RPK and entry.transport == "tcp" and not entry.server_public_key:
        raise BadAccount(name, NO_RPK_OVER_TLS)
    if entry.mode in (RPK, X509) and not server_key(account):
        what = "public key" if entry.mode == RPK else "certificate"
        raise BadAccount(name, f"neither the profile nor this server has a {what} for devices to know it by")
    if entry.oscore:
        if keys.oscore is None:
            raise BadAccount(name, "the profile wants OSCORE, and the device has no OSCORE context for it")
        _check_key(name, "the OSCORE master secret", keys.oscore.master_secret)


def weakness(key: bytes) -> str | None:
    """Why ``key`` may not be given to a device (contract B-10), None where it may."""
    if not LEAST_KEY <= len(key) <= LONGEST_KEY:
        return f"has {len(key)} bytes; {LEAST_KEY} to {LONGEST_KEY} random ones are wanted"
    # Of sixteen random bytes, fewer than eight differ about once in ten million million keys.
    if len(set(key)) < _LEAST_DIFFERENT:
        return f"has {len(set(key))} different bytes only; at least {LEAST_KEY} random ones are wanted"
    if len({(after - before) % 256 for before, after in pairwise(key)}) == 1:
        return f"counts from byte to byte; at least {LEAST_KEY} random ones are wanted"
    return None


def _check_key(name: str, what: str, key: bytes) -> None:
    reason = weakness(key)
    if reason is not None:
        raise BadAccount(name, f"{what} {reason}")


def server_uri(entry: ServerEntry) -> str:
    """What goes into /0/x/0; where the entry leaves the transport open, for a device over UDP."""
    scheme = _SCHEMES[entry.transport or "udp", entry.mode != NOSEC]
    return f"{scheme}://{uri_host(entry.host)}:{entry.port}"


def server_key(account: Account) -> bytes:
    """What goes into /0/x/4 (DER): as the entry says, else the platform's own; empty where there is none or the mode
    has none. Raises `BadAccount`."""
    entry = account.entry
    try:
        if entry.mode == RPK:
            text = entry.server_public_key
            return read_public_key(text) if text else account.own.public_key
        if entry.mode == X509:
            return _certificate(entry) or account.own.certificate
    except BadMaterial as error:
        raise BadAccount(str(account), f"the server's key in the profile: {error}") from None
    return b""


def _certificate(entry: ServerEntry) -> bytes:
    """Empty where the entry has none. Raises `BadMaterial`."""
    key, copy = entry.server_public_key, entry.server_certificate
    if not key:
        return der_of(read_certificate(copy)) if copy else b""
    try:
        return der_of(read_certificate(key))
    except BadMaterial:
        if not copy:
            raise
        return der_of(read_certificate(copy))


def check_versions(account: Account, security_version: str) -> None:
    """Raises `BadAccount` where object 0 in ``security_version`` cannot say how the server is protected: without the
    link to its OSCORE context a server would be spoken to in the clear, and before 1.1 no device enrols."""
    if account.entry.keys == EST_KEYS and not has_1_1(security_version):
        raise BadAccount(
            str(account),
            f"the profile wants the device to enrol (security mode {_EST}), and its object 0 of version "
            f"{security_version} has no such mode",
        )
    if account.entry.oscore and not has_1_1(security_version):
        raise BadAccount(
            str(account), f"the profile wants OSCORE, and the device's object 0 of version {security_version} has none"
        )


def security_content(account: Account, instance_id: int, version: str, oscore_instance: int | None = None) -> Content:
    """Instance ``instance_id`` of object 0 in ``version``; ``oscore_instance``: of object 21, that goes with it."""
    entry, keys = account.entry, account.keys
    values: list[tuple[int, Value]] = [
        (0, server_uri(entry)),
        (1, entry.is_bootstrap),
        (2, _EST if entry.keys == EST_KEYS else _MODES[entry.mode]),
        (3, b"" if entry.mode == NOSEC else keys.public),
        (4, server_key(account)),
        (5, b"" if entry.mode == NOSEC else keys.secret),
    ]
    if not entry.is_bootstrap and entry.short_id is not None:
        values.append((10, entry.short_id))
    values += [(11, entry.hold_off_s), (12, entry.account_timeout_s)]
    if has_1_1(version):
        values += _only_said((13, entry.matching_type), (14, entry.server_name), (15, entry.certificate_usage))
        if oscore_instance is not None:
            values.append((17, ObjectLink(OSCORE, oscore_instance)))
    return _content(Path(SECURITY, instance_id), values)


def server_content(account: Account, instance_id: int) -> Content:
    """Instance ``instance_id`` of object 1, the same in all versions."""
    entry = account.entry
    values: list[tuple[int, Value]] = [(0, entry.short_id or 0), (1, entry.lifetime_s), (2, entry.default_min_period_s)]
    values += _only_said((3, entry.default_max_period_s))
    values += [(6, entry.notif_if_disabled), (7, entry.binding)]
    return _content(Path(SERVER, instance_id), values)


def oscore_content(keys: OscoreKeys, instance_id: int, version: str) -> Content:
    """Instance ``instance_id`` of object 21 in ``version``: bytes from 2.0 on, hex before."""
    parsed = parse_version(version)
    is_text = parsed is not None and parsed < (2, 0)

    def written(value: bytes) -> Value:
        return value.hex() if is_text else value

    values: list[tuple[int, Value]] = [
        (0, written(keys.master_secret)),
        (1, written(keys.sender_id)),
        (2, written(keys.recipient_id)),
        (3, keys.aead),
        (4, keys.hkdf),
    ]
    if keys.master_salt:
        values.append((5, written(keys.master_salt)))
    if keys.id_context and parsed != (1, 0):
        values.append((6, written(keys.id_context)))
    return _content(Path(OSCORE, instance_id), values)


def access_content(acl: Acl, instance_id: int) -> Content:
    """Instance ``instance_id`` of object 2."""
    path = Path(ACCESS_CONTROL, instance_id)
    rights = path.child(2)
    entries = [Entry(path.child(0), acl.object_id), Entry(path.child(1), acl.instance_id)]
    entries += [Entry(rights.child(server), bits) for server, bits in acl.rights]
    entries.append(Entry(path.child(3), acl.owner))
    return Content(tuple(entries), () if acl.rights else (rights,))


def left_out(account: Account, version: str, oscore_version: str) -> tuple[str, ...]:
    """What the device is not given since its objects are too old to hold it."""
    entry, missing = account.entry, []
    if not has_1_1(version):
        resources = {
            "matchingType": entry.matching_type is not None,
            "serverName": bool(entry.server_name),
            "certificateUsage": entry.certificate_usage is not None,
        }
        missing += [name for name, is_said in resources.items() if is_said]
    if entry.oscore and account.keys.oscore and account.keys.oscore.id_context and oscore_version == "1.0":
        missing.append("idContext")
    return tuple(missing)


def has_1_1(version: str) -> bool:
    """Whether object 0 in ``version`` has resources from 13 on."""
    return (parse_version(version) or (1, 1)) >= (1, 1)


def _only_said(*values: tuple[int, Value | None]) -> list[tuple[int, Value]]:
    return [(resource_id, value) for resource_id, value in values if value is not None and value != ""]


def _content(path: Path, values: Iterable[tuple[int, Value]]) -> Content:
    return Content(tuple(Entry(path.child(resource_id), value) for resource_id, value in values))
