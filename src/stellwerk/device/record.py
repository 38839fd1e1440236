"""A provisioned device: what people wrote about it (= a oneM2M node; contract Device to Cloud §6)."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId, TenantId

NOSEC: Final = "nosec"
PSK: Final = "psk"
RPK: Final = "rpk"
X509: Final = "x509"
OSCORE: Final = "oscore"
"""What a device has to prove itself with: nothing, a pre-shared key, a raw public key, a certificate, an OSCORE context
and nothing below it."""
BESIDES_OSCORE: Final = "+oscore"
"""Behind another of these in `DeviceRecord.security`: an OSCORE context besides (``psk+oscore``)."""

MODES: Final = {"NO_SEC": NOSEC, "PSK": PSK, "RPK": RPK, "X509": X509}
"""Names of security modes in the device platform's JSON (contract §3.4, §4), each with what it stands for here."""
MODE_NAMES: Final = {kind: name for name, kind in MODES.items()}

UPLINK_PROPERTY_PREFIXES: Final = ("d2c-uplink-property_", "UplinkProperty_")
"""Node labels ``<prefix><key>:<value>`` are copied to received messages as ``<key>:<value>`` (§8)."""

SERVER_LABELS: Final = frozenset(
    {"registrations_timestamp", "deregistrations_timestamp", "updates_timestamp", "expirations_timestamp"}
)
"""Keys of node labels that the server keeps itself (§8.1)."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """``name`` is the node's resource name, ``node_id`` its oneM2M nodeID, ``labels`` as provisioned, in order.
    ``security``: what it has to come with (`security_of`)."""

    device_id: DeviceId
    tenant_id: TenantId
    tenant: str
    name: str
    node_id: str
    labels: tuple[str, ...]
    profile: str
    created_ms: int
    modified_ms: int
    security: str = NOSEC
    device_info: tuple[tuple[str, str], ...] = ()
    """Provisioned device-info attributes by oneM2M short name."""

    @property
    def uplink_labels(self) -> tuple[str, ...]:
        """The labels every received message of this device carries."""
        return uplink_labels(self.labels)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a device proves itself with (contracts Device to Cloud §6.5, device platform §4), by ``kind``:

    - `PSK`: ``identity`` is the PSK identity, ``secret`` the key as its owner wrote it;
    - `RPK`: ``identity`` is the endpoint name, ``secret`` the SubjectPublicKeyInfo in base64;
    - `NOSEC`: ``identity`` is the endpoint name; it is kept only for its ``bootstrap``;
    - `X509`: ``identity`` is the endpoint name, or the SHA3-256 of the certificate in hex where there is one;
      ``secret`` is the certificate (DER) in base64, or empty.

    ``endpoint``: the endpoint name it is for, where one was given. ``bootstrap``: JSON text of what a bootstrap server
    gives the device, secret too. ``key_id``: what a raw public key or a certificate is found by, no two devices have
    the same: ``rpk:`` with the SHA-256 of the SubjectPublicKeyInfo in hex, ``x509:`` with that of the certificate;
    empty of others. ``oscore``: JSON text of the OSCORE context that goes with it (object 21), secret too; alone it is
    kind `OSCORE`, beside another kind both layers are wanted. ``is_fresh``: the device was given it and has not used it
    yet. ``spent_ms``: when a one-time bootstrap credential was used up, 0: not yet. ``envelope`` is the oneM2M name it
    was made under (``m2m:crds`` or ``dcfg:crds``). Times are UTC milliseconds since 1970."""

    identity: str
    secret: str = field(repr=False)
    description: str = "cred"
    envelope: str = "m2m:crds"
    created_ms: int = 0
    modified_ms: int = 0
    kind: str = PSK
    endpoint: str = ""
    bootstrap: str = field(default="", repr=False)
    key_id: str = ""
    oscore: str = field(default="", repr=False)
    is_fresh: bool = False
    spent_ms: int = 0

    @property
    def key(self) -> bytes:
        """The bytes of a pre-shared key. Raises `BadKey`."""
        return key_bytes(self.secret)


def proof_of(credential: Credential | None) -> tuple[str, ...]:
    """What decides whether a device may come in. Where it is another than before, the device has to come again."""
    if credential is None or credential.kind == NOSEC:
        return ()
    return (credential.kind, credential.identity, credential.secret, credential.endpoint, credential.oscore)


def basis_of(credential: Credential | None) -> tuple[str, ...]:
    """What a device was let in by, and given keys beside: what it proves itself with to any of our servers."""
    return (*proof_of(credential), "" if credential is None else credential.bootstrap)


def security_of(credential: Credential | None) -> str:
    """What a device with this credential has to come with: its kind, with `BESIDES_OSCORE` where both layers are
    wanted."""
    if credential is None:
        return NOSEC
    both = credential.oscore and credential.kind not in (NOSEC, OSCORE)
    return credential.kind + BESIDES_OSCORE if both else credential.kind


def wants_oscore(security: str) -> bool:
    """Whether a device of that ``security`` has to protect its messages with OSCORE."""
    return security == OSCORE or security.endswith(BESIDES_OSCORE)


def transport_security(security: str) -> str:
    """What a device of that ``security`` has to prove to the transport: `NOSEC`, `PSK`, `RPK` or `X509`."""
    return NOSEC if security == OSCORE else security.removesuffix(BESIDES_OSCORE)


def promoted(before: Credential | None, fresh: Credential) -> Credential:
    """The credential that holds once ``fresh`` was used in the place of ``before``: what is no proof stays."""
    if before is None:
        return replace(fresh, is_fresh=False)
    return replace(
        fresh,
        is_fresh=False,
        description=before.description,
        envelope=before.envelope,
        created_ms=before.created_ms,
        endpoint=before.endpoint or fresh.endpoint,
        bootstrap=before.bootstrap,
        spent_ms=before.spent_ms,
    )


class BadKey(UserError):
    """``secret`` is no key; the text says why, never what it was."""


_HEX: Final = "psk-hex:"
_TEXT: Final = "psk-text:"
_LONGEST_KEY: Final = 64


def key_bytes(secret: str) -> bytes:
    """The bytes of a key: what canonical base64 encodes, else the text itself; ``psk-hex:`` and ``psk-text:`` in front
    remove doubt (§6.5). Raises `BadKey`."""
    if secret.startswith(_HEX):
        try:
            key = bytes.fromhex(secret.removeprefix(_HEX))
        except ValueError:
            raise BadKey("psk-hex takes an even number of hex digits") from None
    elif secret.startswith(_TEXT):
        key = secret.removeprefix(_TEXT).encode()
    else:
        key = _from_base64(secret)
    if not 1 <= len(key) <= _LONGEST_KEY:
        raise BadKey(f"a pre-shared key has 1 to {_LONGEST_KEY} bytes, this one has {len(key)}")
    return key


def _from_base64(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if not text or len(text) % 4:
        return raw
    try:
        decoded = base64.b64decode(raw, validate=True)
    except binascii.Error:
        return raw
    return decoded if base64.b64encode(decoded) == raw else raw


def uplink_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Uplink properties among node labels, prefix removed (contract Device to Cloud §8)."""
    found = []
    for label in labels:
        for prefix in UPLINK_PROPERTY_PREFIXES:
            if label.startswith(prefix):
                found.append(label[len(prefix) :])
    return tuple(found)


def without_server_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels that people may write, in order; a client that rewrites the list may send the others back in any
    spelling of the value (§8.1)."""
    return tuple(each for each in labels if each.partition(":")[0].strip() not in SERVER_LABELS)


def endpoint_aliases(node_id: str, name: str) -> tuple[tuple[str, int], ...]:
    """Endpoint names that mean this node, each with its rank; the lowest rank wins (contract Device to Cloud §6.6)."""
    ranked: dict[str, int] = {}
    candidates = [(node_id, 2), (node_id.removeprefix("urn:"), 3), (node_id.rpartition(":")[2], 4), (name, 5)]
    for alias, rank in candidates:
        if alias and alias not in ranked:
            ranked[alias] = rank
    return tuple(ranked.items())
