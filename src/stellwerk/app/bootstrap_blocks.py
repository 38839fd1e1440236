"""The ``bootstrap`` part of a credential record, as it is stored (device platform §4): what a device shows the
bootstrap server, and what it is given for the others."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.device.key_material import certificate_key_id, raw_key_id
from stellwerk.device.record import BESIDES_OSCORE, MODES, NOSEC, OSCORE, Credential

BOOTSTRAP_SERVER: Final = "bootstrapServer"
LWM2M_SERVER: Final = "lwm2mServer"
SERVERS: Final = "servers"
"""Keys of single servers, by short server ID."""
ONE_TIME: Final = "oneTime"
ENDPOINT: Final = "endpoint"
"""The endpoint name that the device has at the bootstrap server, where that is another one (contract B-15)."""


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """What a device has for one server. ``kind`` as of `device.record`; ``public``: the PSK identity, or the public key
    or certificate in base64 of DER; ``secret``: the key in hex, or the private key in base64 of PKCS#8."""

    kind: str = NOSEC
    public: str = ""
    secret: str = field(default="", repr=False)
    oscore: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def security(self) -> str:
        """What the device has to come with at that server, as `device.record.security_of` says it."""
        if self.oscore is None:
            return self.kind
        return OSCORE if self.kind == NOSEC else self.kind + BESIDES_OSCORE


@dataclass(frozen=True, slots=True)
class BootstrapBlocks:
    """All of one device."""

    bootstrap_server: StoredKeys = StoredKeys()
    lwm2m_server: StoredKeys = StoredKeys()
    servers: tuple[tuple[int, StoredKeys], ...] = ()
    one_time: bool = False
    endpoint: str = ""

    def of_server(self, short_id: int) -> StoredKeys:
        """The keys of that server: its own, else those of all."""
        return dict(self.servers).get(short_id, self.lwm2m_server)


def read_blocks(credential: Credential | None) -> BootstrapBlocks:
    """Of a device without any, both servers are `NOSEC`."""
    if credential is None or not credential.bootstrap:
        return BootstrapBlocks()
    found = json.loads(credential.bootstrap)
    return BootstrapBlocks(
        _block(found.get(BOOTSTRAP_SERVER)),
        _block(found.get(LWM2M_SERVER)),
        tuple((int(short_id), _block(each)) for short_id, each in found.get(SERVERS, {}).items()),
        bool(found.get(ONE_TIME)),
        str(found.get(ENDPOINT) or ""),
    )


def _block(block: dict[str, Any] | None) -> StoredKeys:
    if not block:
        return StoredKeys()
    return StoredKeys(
        MODES[block["securityMode"]],
        block.get("clientPublicKeyOrId", ""),
        block.get("clientSecretKey", ""),
        block.get("oscore"),
    )


def shown_id(identity: SecureIdentity) -> str:
    """By which the bootstrap credential of a device is found that shows ``identity`` to the bootstrap server."""
    if isinstance(identity, PskIdentity):
        return f"psk:{identity.identity.decode('utf-8', 'backslashreplace')}"
    if isinstance(identity, RawKeyIdentity):
        return raw_key_id(identity.spki)
    assert isinstance(identity, CertificateIdentity)
    return certificate_key_id(identity.chain[0])
