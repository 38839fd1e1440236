"""What people write about bootstrapping: the ``bootstrap`` list of a profile and its ``acls`` (device platform §3.4,
§13)."""

from dataclasses import dataclass, field
from typing import Final

from stellwerk.device.record import NOSEC

DEVICE_KEYS: Final = "device"
"""A server entry gives the client what the device's credential says for that server."""
FRESH_KEYS: Final = "fresh"
"""It gives the client a new key, made for this session; the device's credential follows once the client has used it."""


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server. ``mode`` is a kind of `device.record` (`NOSEC`, `PSK`, `RPK`, `X509`). ``short_id`` is None of a
    bootstrap server. Keys and certificates are base64 of DER, empty where the platform's own stand in. ``transport``:
    ``udp`` or ``tcp``. ``keys``: `DEVICE_KEYS` or `FRESH_KEYS`. ``oscore``: the account gets an OSCORE context besides,
    or instead of, what ``mode`` says. Times are seconds."""

    mode: str = NOSEC
    is_bootstrap: bool = False
    short_id: int | None = 123
    host: str = "localhost"
    port: int = 5683
    server_public_key: str = ""
    server_certificate: str = ""
    hold_off_s: int = 1
    account_timeout_s: int = 0
    lifetime_s: int = 300
    default_min_period_s: int = 1
    default_max_period_s: int | None = None
    notif_if_disabled: bool = True
    binding: str = "U"
    transport: str = "udp"
    keys: str = DEVICE_KEYS
    oscore: bool = False
    server_name: str = ""
    """SNI and the name to check, where the host is an address."""
    certificate_usage: int | None = None
    matching_type: int | None = None


@dataclass(frozen=True, slots=True)
class Acl:
    """One instance of object 2. ``rights``: short server ID (0: everybody else) to bits (1 R, 2 W, 4 E, 8 D, 16 C)."""

    object_id: int
    instance_id: int
    owner: int
    rights: tuple[tuple[int, int], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class BootstrapConfiguration:
    """Of one profile. ``updates_bootstrap_server``: ``bootstrapServerUpdateEnable``. ``server_initiated``: the server
    may begin without a request, with 1.0 clients only."""

    servers: tuple[ServerEntry, ...] = ()
    acls: tuple[Acl, ...] = ()
    updates_bootstrap_server: bool = False
    server_initiated: bool = False

    def __bool__(self) -> bool:
        return bool(self.servers)


NO_BOOTSTRAP: Final = BootstrapConfiguration()
