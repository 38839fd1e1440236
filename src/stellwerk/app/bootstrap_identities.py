"""Which device an identity at the bootstrap server is (device platform §5 and §12.1; contract SEC-3, B-15).

A device may show the bootstrap server something else than the server that it registers at: what the ``bootstrapServer``
part of its credential record says.
"""

from dataclasses import replace
from typing import Final

from stellwerk.app.bootstrap_blocks import read_blocks, shown_id
from stellwerk.app.identities import Found, Trust
from stellwerk.app.ports import DecidingStore
from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.device.record import PSK, RPK, X509, DeviceRecord

BOOTSTRAP_PORTS: Final = "the bootstrap server (STELLWERK_BOOTSTRAP_COAPS_PORT)"
MANAGEMENT_PORTS: Final = "device management (STELLWERK_COAPS_PORT)"
"""What refusals call the ports where an identity is looked for."""


class BootstrapIdentities:
    """Implements `app.handlers.handshakes.IdentityLookUp`. Raises `StoreTrouble`, and `UserError` for what does not
    open with this master key. A credential that it finds is that for the bootstrap server."""

    def __init__(self, store: DecidingStore) -> None:
        self._store = store

    async def with_key(self, identity: PskIdentity) -> Found | None:
        """Whose pre-shared key for the bootstrap server goes with ``identity``, which nobody has proven yet."""
        try:
            identity.identity.decode()
        except UnicodeDecodeError:
            return None
        found = await self._found(identity, PSK)
        if found is None:
            return None
        record, credential = found
        block = read_blocks(credential).bootstrap_server
        return record, replace(credential, identity=block.public, secret=f"psk-hex:{block.secret}", kind=PSK)

    async def proven(self, identity: RawKeyIdentity | CertificateIdentity, trust: Trust) -> Found | None:
        """Whose key or certificate that is: one that is on record, else the device that a trusted chain names."""
        if isinstance(identity, RawKeyIdentity):
            return await self._found(identity, RPK)
        found = await self._found(identity, X509)
        if found is not None or trust.chain:
            return found
        for name in (identity.common_name, *identity.names):
            record = await self._store.device_by_endpoint(name) if name else None
            if record is None:
                continue
            credential = await self._store.credential_of(record.device_id)
            block = read_blocks(credential).bootstrap_server
            # A certificate that is on record is the only one that will do.
            if credential is not None and block.kind == X509 and not block.public:
                return record, credential
        return None

    async def named(self, identity: SecureIdentity | None) -> DeviceRecord | None:
        """Whom an identity that is not proven names."""
        if identity is None:
            return None
        found = await self._store.bootstrap_credential(shown_id(identity))
        if found is None and isinstance(identity, CertificateIdentity) and identity.common_name:
            return await self._store.device_by_endpoint(identity.common_name)
        return None if found is None else found[0]

    async def _found(self, identity: SecureIdentity, kind: str) -> Found | None:
        found = await self._store.bootstrap_credential(shown_id(identity))
        # Of a record that was changed a moment ago, what it says counts.
        return found if found is not None and read_blocks(found[1]).bootstrap_server.kind == kind else None
