"""Which device an identity of a secure handshake is (device platform §5; contract SEC-3)."""

from dataclasses import dataclass

from stellwerk.app.ports import DecidingStore
from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.device.key_material import certificate_key_id, raw_key_id
from stellwerk.device.record import PSK, RPK, X509, Credential, DeviceRecord, transport_security

Found = tuple[DeviceRecord, Credential]


@dataclass(frozen=True, slots=True)
class Trust:
    """What is to be said of a certificate chain. ``chain``: why no authority that we trust vouches for it; ``dates``:
    why the peer's own certificate is out of date. Each is empty, or a reason (`dtls.failures.REASONS`) with a sentence
    behind a colon."""

    chain: str = ""
    dates: str = ""


class Identities:
    """Looks devices up. Raises `StoreTrouble`, and `UserError` for a key that does not open with this master key."""

    def __init__(self, store: DecidingStore) -> None:
        self._store = store

    async def with_key(self, identity: PskIdentity) -> Found | None:
        """Whose pre-shared key goes with ``identity``, which nobody has proven yet."""
        try:
            text = identity.identity.decode()
        except UnicodeDecodeError:
            return None
        found = await self._store.credential_by_identity(text)
        return found if found is not None and found[1].kind == PSK else None

    async def proven(self, identity: RawKeyIdentity | CertificateIdentity, trust: Trust) -> Found | None:
        """Whose key or certificate that is: one that is on record, else the device that a trusted chain names."""
        if isinstance(identity, RawKeyIdentity):
            found = await self._store.credential_by_key(raw_key_id(identity.spki))
            return found if found is not None and found[1].kind == RPK else None
        key_id = certificate_key_id(identity.chain[0])
        found = await self._store.credential_by_key(key_id)
        if found is not None and found[1].kind == X509:
            return found
        if trust.chain:
            return None
        for name in (identity.common_name, *identity.names):
            record = await self._store.device_by_endpoint(name) if name else None
            if record is None or transport_security(record.security) != X509:
                continue
            credential = await self._store.credential_of(record.device_id)
            # A certificate that is on record is the only one that will do.
            if credential is not None and credential.kind == X509 and not credential.key_id:
                return record, credential
        return None

    async def named(self, identity: SecureIdentity | None) -> DeviceRecord | None:
        """Whom an identity that is not proven names."""
        found: Found | None = None
        if isinstance(identity, PskIdentity):
            found = await self.with_key(identity)
        elif isinstance(identity, RawKeyIdentity):
            found = await self.proven(identity, Trust())
        elif isinstance(identity, CertificateIdentity):
            found = await self._store.credential_by_key(certificate_key_id(identity.chain[0]))
            if found is None and identity.common_name:
                return await self._store.device_by_endpoint(identity.common_name)
        return None if found is None else found[0]
