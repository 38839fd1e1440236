"""What people write about bootstrapping: the ``bootstrap`` list of a profile and its ``acls`` (device platform §3.4,
§13).

The JSON is the device platform's, with members of our own: in an entry ``keys``, ``oscore``, ``transport``,
``defaultMaxPeriod``, ``serverName``, ``certificateUsage`` and ``matchingType``, beside the list ``acls`` and
``serverInitiated``. It is taken whole or refused with the first member that is wrong and the rule it breaks, as
``bootstrap[1].shortServerId: another entry has 123; each server has its own``. Members that we do not know are
overlooked (§3.1).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Any, Final

from stellwerk.device.bootstrap.members import BadBootstrap as BadBootstrap
from stellwerk.device.bootstrap.members import Members, is_number
from stellwerk.device.key_material import (
    LONGEST,
    BadMaterial,
    der_of,
    read_certificate,
    read_public_key,
    to_base64,
)
from stellwerk.device.record import MODE_NAMES, MODES, NOSEC, RPK

DEVICE_KEYS: Final = "device"
"""A server entry gives the client what the device's credential says for that server."""
FRESH_KEYS: Final = "fresh"
"""It gives the client a new key of its own; the device's credential follows once the client has used it."""
EST_KEYS: Final = "est"
"""The client makes a key and enrols at the bootstrap server (security mode 4); the device's credential follows once the
client has used the certificate."""

SHORT_IDS: Final = range(1, 65535)
DEFAULT_SHORT_ID: Final = 123
BOOTSTRAP_OWNER: Final = 65535
"""The owner of an access control instance that no server may change."""
NO_INSTANCE: Final = 65535
"""The instance of an access control instance that is about creating instances (contract B-12)."""
CREATES: Final = 16
"""The right to create."""


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server. ``mode`` is a kind of `device.record` (`NOSEC`, `PSK`, `RPK`, `X509`). ``short_id`` is None of a
    bootstrap server. Keys and certificates are base64 of DER, empty where the platform's own stand in. ``transport``:
    ``udp`` or ``tcp``, empty: as the device comes to the bootstrap server (`over`). ``keys``: `DEVICE_KEYS`,
    `FRESH_KEYS` or `EST_KEYS`. ``oscore``: the account gets an OSCORE context besides, or instead of, what ``mode``
    says. Times are seconds."""

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
    transport: str = ""
    keys: str = DEVICE_KEYS
    oscore: bool = False
    server_name: str = ""
    """SNI and the name to check, where the host is an address."""
    certificate_usage: int | None = None
    matching_type: int | None = None

    def over(self, transport: str) -> "ServerEntry":
        """For a device that comes over ``transport``, ``udp`` or ``tcp``: what is left open follows it."""
        if self.transport:
            return self
        binding = self.binding
        if transport == "tcp" and "T" not in binding:
            binding = "TQ" if "Q" in binding else "T"
        return replace(self, transport=transport, binding=binding)


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

    @property
    def given(self) -> tuple[ServerEntry, ...]:
        """The entries that devices are given: bootstrap servers only where the profile allows to update them."""
        return tuple(each for each in self.servers if self.updates_bootstrap_server or not each.is_bootstrap)

    def given_over(self, transport: str) -> tuple[ServerEntry, ...]:
        """The same for a device that comes over ``transport``, ``udp`` or ``tcp`` (`ServerEntry.over`)."""
        taken = {(each.host, each.port) for each in self.given if each.transport == "tcp"}
        # A list that names a place over tcp besides means udp where it says nothing.
        return tuple(each.over("udp" if (each.host, each.port) in taken else transport) for each in self.given)


NO_BOOTSTRAP: Final = BootstrapConfiguration()


def parse_bootstrap(value: Any) -> BootstrapConfiguration:
    """The configuration that a profile's JSON says: an object with ``bootstrap``, ``bootstrapServerUpdateEnable``,
    ``acls`` and ``serverInitiated``, each of which may be missing. Raises `BadBootstrap`."""
    profile = Members("", value)
    updates = profile.flag("bootstrapServerUpdateEnable", False)
    servers = tuple(
        _entry(Members(f"bootstrap[{at}]", each), updates)
        for at, each in enumerate(profile.list("bootstrap", MOST_SERVERS))
    )
    _check_together(servers)
    short_ids = {each.short_id for each in servers if each.short_id is not None}
    acls = tuple(
        _acl(Members(f"acls[{at}]", each), short_ids) for at, each in enumerate(profile.list("acls", MOST_ACLS))
    )
    seen: dict[tuple[int, int], int] = {}
    for at, acl in enumerate(acls):
        other = seen.setdefault((acl.object_id, acl.instance_id), at)
        if other != at:
            raise BadBootstrap(f"acls[{at}].instanceId", f"acls[{other}] is about the same instance")
    return BootstrapConfiguration(servers, acls, updates, profile.flag("serverInitiated", False))


def render_bootstrap(configuration: BootstrapConfiguration) -> dict[str, Any]:
    """The JSON that `parse_bootstrap` reads; members of our own only where they say something."""
    rendered: dict[str, Any] = {
        "bootstrapServerUpdateEnable": configuration.updates_bootstrap_server,
        "bootstrap": [_render_entry(each) for each in configuration.servers],
    }
    if configuration.acls:
        rendered["acls"] = [_render_acl(each) for each in configuration.acls]
    if configuration.server_initiated:
        rendered["serverInitiated"] = True
    return rendered


MOST_SERVERS: Final = 32
MOST_ACLS: Final = 256
LONGEST_HOST: Final = 200

_SECONDS: Final = range(2**32)
_PORTS: Final = range(1, 65536)
_CHOICES: Final = range(4)
_RIGHTS: Final = range(32)
_TRANSPORTS: Final = ("udp", "tcp")
_KEYS: Final = (DEVICE_KEYS, FRESH_KEYS, EST_KEYS)
_ENTRY_MEMBERS: Final = frozenset(
    (
        "securityMode",
        "shortServerId",
        "bootstrapServerIs",
        "host",
        "port",
        "serverPublicKey",
        "serverCertificate",
        "clientHoldOffTime",
        "bootstrapServerAccountTimeout",
        "lifetime",
        "defaultMinPeriod",
        "notifIfDisabled",
        "binding",
        "keys",
        "oscore",
        "transport",
        "defaultMaxPeriod",
        "serverName",
        "certificateUsage",
        "matchingType",
    )
)
_ACL_MEMBERS: Final = frozenset(("objectId", "instanceId", "owner", "acl"))
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
# docs/deviations.md: TLS has no raw public keys here.
NO_RPK_OVER_TLS: Final = (
    "this server speaks TLS without raw public keys; say transport udp, or another mode. Where another server has "
    "them, say serverPublicKey"
)
_BINDING: Final = re.compile(r"(?!.*(.).*\1)(?=.*[^Q])[UMHTSNQ]{1,7}")
"""U, M, H, T, S, N, UQ, UQS, TQ, TQS, SQ are what editors offer; any transports, each once, are understood (BIN-1)."""


def _entry(entry: Members, updates: bool) -> ServerEntry:
    mode = entry.choice("securityMode", MODES)
    is_bootstrap = entry.flag("bootstrapServerIs", False)
    if is_bootstrap and not updates:
        raise entry.bad(
            "bootstrapServerIs", "a bootstrap server can be listed only where bootstrapServerUpdateEnable is true"
        )
    # Editors fill the field of a bootstrap server too; it has no meaning there (§3.4, ours).
    short_id = None if is_bootstrap else entry.number("shortServerId", SHORT_IDS, DEFAULT_SHORT_ID)
    transport = entry.optional_choice("transport", dict.fromkeys(_TRANSPORTS))
    binding = entry.text("binding", "T" if transport == "tcp" else "U", longest=7)
    if not _BINDING.fullmatch(binding):
        raise entry.bad("binding", "it is letters of U, M, H, T, S, N, each once, with Q for queue mode")
    if transport == "tcp" and "T" not in binding:
        raise entry.bad("binding", "a server that is reached over tcp needs the letter T in it")
    keys = entry.choice("keys", dict.fromkeys(_KEYS), DEVICE_KEYS)
    oscore = entry.flag("oscore", False)
    if keys == FRESH_KEYS and mode == "NO_SEC" and not (oscore or is_bootstrap):
        raise entry.bad("keys", "mode NO_SEC has none; fresh ones need another mode, or oscore")
    if keys == EST_KEYS and mode != "X509":
        raise entry.bad("keys", f"a device that enrols gets a certificate; est goes with securityMode X509, not {mode}")
    if keys == EST_KEYS and is_bootstrap:
        raise entry.bad("keys", "a device enrols at the bootstrap server, and has to have keys for that one before")
    if keys == EST_KEYS and oscore:
        raise entry.bad("keys", "a device that enrols is given no OSCORE context; est goes without oscore")
    server_public_key, server_certificate = _server_keys(entry, mode)
    return ServerEntry(
        mode=MODES[mode],
        is_bootstrap=is_bootstrap,
        short_id=short_id,
        host=_host(entry),
        port=entry.number("port", _PORTS),
        server_public_key=server_public_key,
        server_certificate=server_certificate,
        hold_off_s=entry.number("clientHoldOffTime", _SECONDS, 1),
        account_timeout_s=entry.number("bootstrapServerAccountTimeout", _SECONDS, 0),
        lifetime_s=entry.number("lifetime", _SECONDS, 300),
        default_min_period_s=entry.number("defaultMinPeriod", _SECONDS, 1),
        default_max_period_s=entry.optional_number("defaultMaxPeriod", _SECONDS),
        notif_if_disabled=entry.flag("notifIfDisabled", True),
        binding=binding,
        transport=transport,
        keys=keys,
        oscore=oscore,
        server_name=_server_name(entry),
        certificate_usage=entry.optional_number("certificateUsage", _CHOICES),
        matching_type=entry.optional_number("matchingType", _CHOICES),
    )


def _host(entry: Members) -> str:
    host = entry.text("host", longest=LONGEST_HOST).strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise entry.bad("host", "it is a name or an address, without a scheme and a port") from None
    if not _HOST_NAME.fullmatch(host):
        raise entry.bad("host", "it is a name or an address, without a scheme and a port")
    return host


def _server_name(entry: Members) -> str:
    name = entry.text("serverName", "", longest=LONGEST_HOST).strip()
    if name and not _HOST_NAME.fullmatch(name):
        raise entry.bad("serverName", "it is the name of a host")
    return name


def _server_keys(entry: Members, mode: str) -> tuple[str, str]:
    """``serverPublicKey`` and ``serverCertificate`` as base64 without line breaks; checked where the mode has one.

    Of X509 the first is the certificate, and the second a copy (§3.4). Editors that are filled with both of a server's
    put its public key into the first, and then the second counts."""
    key = "".join(entry.text("serverPublicKey", "", longest=LONGEST).split())
    certificate = "".join(entry.text("serverCertificate", "", longest=LONGEST).split())
    if mode == "RPK" and key:
        return _material(entry, "serverPublicKey", read_public_key), certificate
    if mode != "X509" or not (key or certificate):
        return key, certificate
    if key and not (certificate and _is_public_key(key)):
        return _material(entry, "serverPublicKey", _read_certificate), certificate
    return key, _material(entry, "serverCertificate", _read_certificate)


def _material(entry: Members, name: str, read: Callable[[str], bytes]) -> str:
    """Raises `BadBootstrap`."""
    try:
        return to_base64(read(entry.text(name, longest=LONGEST)))
    except BadMaterial as error:
        raise entry.bad(name, str(error)) from None


def _read_certificate(text: str) -> bytes:
    return der_of(read_certificate(text))


def _is_public_key(text: str) -> bool:
    try:
        read_public_key(text)
    except BadMaterial:
        return False
    return True


def _check_together(servers: tuple[ServerEntry, ...]) -> None:
    """Rules between entries. Raises `BadBootstrap`."""
    short_ids: set[int] = set()
    addresses: dict[tuple[str, str, int], int] = {}
    bootstrap: int | None = None
    made: str | None = None
    for at, each in enumerate(servers):
        if not each.is_bootstrap and each.keys != DEVICE_KEYS:
            if made not in (None, each.keys):
                raise BadBootstrap(
                    f"bootstrap[{at}].keys",
                    f"another entry has {made}; one new credential of a device is kept at a time",
                )
            made = each.keys
        if each.short_id is not None and each.short_id in short_ids:
            raise BadBootstrap(
                f"bootstrap[{at}].shortServerId", f"another entry has {each.short_id}; each server has its own"
            )
        if each.short_id is not None:
            short_ids.add(each.short_id)
        other = addresses.setdefault((each.transport or "udp", uri_host(each.host).lower(), each.port), at)
        if other != at:
            raise BadBootstrap(f"bootstrap[{at}].port", f"bootstrap[{other}] has the same host, port and transport")
        if each.is_bootstrap and bootstrap is not None:
            # Core 1.2.2 §6.1.2: a client has at most one bootstrap account.
            raise BadBootstrap(
                f"bootstrap[{at}].bootstrapServerIs", f"bootstrap[{bootstrap}] is one already; a device has one at most"
            )
        if each.is_bootstrap:
            bootstrap = at


def uri_host(host: str) -> str:
    """``host`` as it stands in a URI: IPv6 in brackets, and the address of everywhere is here (§3.4)."""
    if host == "0.0.0.0":
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _acl(acl: Members, short_ids: set[int]) -> Acl:
    object_id = acl.number("objectId", range(1, 65535))
    instance_id = acl.number("instanceId", range(65536), 0)
    owner = acl.number("owner", range(1, 65536))
    if instance_id == NO_INSTANCE and owner != BOOTSTRAP_OWNER:
        raise acl.bad(
            "owner", f"instance {NO_INSTANCE} says who may create instances; its owner is {BOOTSTRAP_OWNER} (nobody)"
        )
    if owner != BOOTSTRAP_OWNER and short_ids and owner not in short_ids:
        raise acl.bad("owner", f"it is a shortServerId of the bootstrap list, or {BOOTSTRAP_OWNER} for nobody")
    rights: list[tuple[int, int]] = []
    value = acl.need("acl")
    if not isinstance(value, dict) or len(value) > MOST_SERVERS:
        raise acl.bad("acl", f"it is an object of at most {MOST_SERVERS} members: short server ID to rights")
    for name, bits in value.items():
        if not (isinstance(name, str) and name.isascii() and name.isdigit() and len(name) <= 5 and int(name) < 65535):
            raise acl.bad("acl", "its names are short server IDs, 1 to 65534, or 0 for all others")
        member = f"acl.{int(name)}"
        if not is_number(bits, _RIGHTS):
            raise acl.bad(member, "rights are 0 to 31: the sum of 1 read, 2 write, 4 execute, 8 delete, 16 create")
        if instance_id == NO_INSTANCE and bits & ~CREATES:
            raise acl.bad(member, f"instance {NO_INSTANCE} knows the right to create only, {CREATES}")
        if any(int(name) == known for known, _ in rights):
            raise acl.bad(member, "it is given twice")
        rights.append((int(name), bits))
    return Acl(object_id, instance_id, owner, tuple(sorted(rights)))


def check_new(configuration: BootstrapConfiguration) -> None:
    """What nobody may newly say, though a profile that has it stays of use: it is no good to the device. Raises
    `BadBootstrap`."""
    for at, entry in enumerate(configuration.servers):
        if entry.transport == "udp" and "T" in entry.binding and "U" not in entry.binding:
            raise BadBootstrap(f"bootstrap[{at}].binding", "a server that is reached over udp needs the letter U in it")
        if entry.mode == RPK and entry.transport == "tcp" and not entry.server_public_key:
            raise BadBootstrap(f"bootstrap[{at}].transport", NO_RPK_OVER_TLS)


def ignored_members(value: Any) -> list[str]:
    """Members of JSON that `parse_bootstrap` has taken and that say nothing to it: no fault (contract §3.1), but maybe
    a slip of the pen."""
    profile = {"bootstrap", "bootstrapServerUpdateEnable", "acls", "serverInitiated"}
    found = [name for name in value if name not in profile]
    for list_name, known in (("bootstrap", _ENTRY_MEMBERS), ("acls", _ACL_MEMBERS)):
        for at, each in enumerate(value.get(list_name) or ()):
            found += [f"{list_name}[{at}].{name}" for name in each if name not in known]
    return found


def _render_entry(entry: ServerEntry) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "securityMode": MODE_NAMES[entry.mode],
        "shortServerId": entry.short_id,
        "bootstrapServerIs": entry.is_bootstrap,
        "host": entry.host,
        "port": entry.port,
        "serverPublicKey": entry.server_public_key,
        "serverCertificate": entry.server_certificate,
        "clientHoldOffTime": entry.hold_off_s,
        "bootstrapServerAccountTimeout": entry.account_timeout_s,
        "lifetime": entry.lifetime_s,
        "defaultMinPeriod": entry.default_min_period_s,
        "notifIfDisabled": entry.notif_if_disabled,
        "binding": entry.binding,
    }
    ours: dict[str, tuple[Any, Any]] = {
        "keys": (entry.keys, DEVICE_KEYS),
        "oscore": (entry.oscore, False),
        "transport": (entry.transport, ""),
        "defaultMaxPeriod": (entry.default_max_period_s, None),
        "serverName": (entry.server_name, ""),
        "certificateUsage": (entry.certificate_usage, None),
        "matchingType": (entry.matching_type, None),
    }
    return rendered | {name: value for name, (value, usual) in ours.items() if value != usual}


def _render_acl(acl: Acl) -> dict[str, Any]:
    return {
        "objectId": acl.object_id,
        "instanceId": acl.instance_id,
        "owner": acl.owner,
        "acl": {str(server): bits for server, bits in acl.rights},
    }
