"""How a device proves who it is, as people may see it: nothing of a secret."""

from dataclasses import dataclass
from typing import Final

from stellwerk.app.oscore import read_oscore
from stellwerk.app.security_ports import SecurityStore
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId
from stellwerk.device.key_material import BadMaterial, read_certificate
from stellwerk.device.record import NOSEC, X509, Credential


@dataclass(frozen=True, slots=True)
class SecurityFacts:
    """``kind``: as in `Credential`; ``endpoint``: the name it is for, empty for any that means the device;
    ``fingerprint``: SHA-256 of a public key or a certificate in hex; ``subject`` and ``until_ms`` (UTC milliseconds, 0:
    not known) of a certificate; ``trouble``: why nothing can be said."""

    kind: str = NOSEC
    identity: str = ""
    endpoint: str = ""
    fingerprint: str = ""
    subject: str = ""
    until_ms: int = 0
    changed_ms: int = 0
    trouble: str = ""
    oscore: str = ""
    """The OSCORE sender ID in hex, ``(empty)`` for one of no bytes; empty where OSCORE is not wanted."""


NOTHING: Final = SecurityFacts()


async def read_security(store: SecurityStore, device_id: DeviceId, before: SecurityFacts) -> SecurityFacts:
    """``before`` itself where nothing changed."""
    try:
        credential = await store.credential_of(device_id)
    except UserError as error:
        # The master key is another one: the rest of the device can be shown all the same.
        return SecurityFacts(trouble=str(error))
    if credential is None or credential.kind == NOSEC:
        return NOTHING
    fingerprint = credential.key_id.partition(":")[2]
    same = (credential.kind, credential.identity, credential.endpoint, fingerprint, credential.modified_ms)
    if same == (before.kind, before.identity, before.endpoint, before.fingerprint, before.changed_ms):
        return before
    subject, until_ms = _certificate(credential)
    return SecurityFacts(
        credential.kind,
        credential.identity,
        credential.endpoint,
        fingerprint,
        subject,
        until_ms,
        credential.modified_ms,
        oscore=_sender_id(credential),
    )


def _sender_id(credential: Credential) -> str:
    if not credential.oscore:
        return ""
    return read_oscore(credential.oscore, DeviceId(0)).sender_id.hex() or "(empty)"


def _certificate(credential: Credential) -> tuple[str, int]:
    if credential.kind != X509 or not credential.secret:
        return "", 0
    try:
        found = read_certificate(credential.secret)
    except BadMaterial as error:
        return str(error), 0
    return found.subject.rfc4514_string(), int(found.not_valid_after_utc.timestamp() * 1000)
