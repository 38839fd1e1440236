"""What a server entry means for one device: the instances of objects 0, 1 and, with OSCORE, 21 that a bootstrap server
writes (Core 1.2.2 App. E; contract §10, B-7, B-8, B-10; device platform §3.4, §12.1, §13).

- Of object 0 everything is written that the mode has and nothing else: NoSec leaves out 3, 4 and 5, PSK 4 (B-8).
  Hold-off and account time-out go with every account. Resources from 13 on need version 1.1 and are left out before it.
- Object 21 has bytes from version 2.0 on. Before, it had texts without a word on how bytes become one: they are written
  in hex. Where a device states no version it is 2.0 (contract §16: OSCORE ids are bytes).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.configuration import Acl, ServerEntry
from stellwerk.device.key_material import BadMaterial, der_of, read_certificate, read_public_key
from stellwerk.device.record import NOSEC, PSK, RPK, X509
from stellwerk.lwm2m.bootstrap import ACCESS_CONTROL, OSCORE, SECURITY, SERVER
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.model import parse_version
from stellwerk.lwm2m.value import ObjectLink, Value

LEAST_KEY: Final = 16
"""Bytes of a key that may be given to a device (contract B-10)."""
LONGEST_KEY: Final = 64
LONGEST_IDENTITY: Final = 128
LONGEST_URI: Final = 255
CREATES: Final = 16
"""The right to create instances of an object."""
NO_INSTANCE: Final = 65535
"""The instance of an access control instance that is about creating (contract B-12)."""

_LEAST_DIFFERENT: Final = 8
_MODES: Final = {PSK: 0, RPK: 1, X509: 2, NOSEC: 3}
_NAMES: Final = {NOSEC: "NO_SEC", PSK: "PSK", RPK: "RPK", X509: "X509"}
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
    ``public``: the PSK identity in UTF-8, the SubjectPublicKeyInfo or the certificate (DER). ``secret``: the key, or the
    private key (PKCS#8, DER). Both are empty of NoSec."""

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
