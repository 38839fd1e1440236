"""Credentials of devices as people write them in lists (contract Device to Cloud §6.5), and the rules that hold however
they were written. No text that is raised here holds a key.

- ``psk-id:<identity>`` with ``psk:<key>``, ``psk-hex:<digits>`` or ``psk-text:<text>``: a pre-shared key;
- ``rpk:<key>``: a raw public key, the SubjectPublicKeyInfo as base64 of DER or as PEM;
- ``x509:<certificate>``: this very certificate, as base64 of DER or as PEM;
- ``x509-cn:<endpoint name>``: any certificate of a trusted authority whose common name that is; nothing behind the
  colon stands for the node ID.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from stellwerk.app.security_ports import SecurityStore
from stellwerk.core.errors import UserError
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.device.key_material import (
    BadMaterial,
    certificate_credentials_id,
    certificate_key_id,
    der_of,
    raw_key_id,
    read_certificate,
    read_public_key,
    to_base64,
)
from stellwerk.device.record import (
    NOSEC,
    OSCORE,
    PSK,
    RPK,
    X509,
    BadKey,
    Credential,
    DeviceRecord,
    endpoint_aliases,
    key_bytes,
)

IDENTITY: Final = "psk-id:"
KEYS: Final = ("psk:", "psk-hex:", "psk-text:")
RAW_KEY: Final = "rpk:"
CERTIFICATE: Final = "x509:"
COMMON_NAME: Final = "x509-cn:"
_PUBLIC: Final = (RAW_KEY, CERTIFICATE, COMMON_NAME)
_CONTEXT: Final = "oscore:"
_SECRETS: Final = (*KEYS, *_PUBLIC)

Change: TypeAlias = Callable[[Credential | None], Credential | None]
"""What a device proves itself with from now on, made of what it has; None: nothing."""

LONGEST_IDENTITY: Final = 128
"""Octets. RFC 4279 5.3: what every implementation takes."""

NO_SEC: Final = "NO_SEC"
"""No identity: what a credential record says of a device without credentials."""

WITHHELD: Final = "***"
"""Stands where a key stood."""


class BadCredential(UserError):
    """Credentials that are incomplete or cannot be; the text says why, never what the key was."""


def parse_credentials(texts: Sequence[str], now_ms: int, names: Sequence[str]) -> Credential:
    """The credential of a device with these endpoint names (`endpoint_names`), each part named once. Raises
    `BadCredential`."""
    identity: str | None = None
    secret: str | None = None
    for text in texts:
        if text.startswith(IDENTITY):
            if identity is not None:
                raise BadCredential("nodeCredentials (nCr) name psk-id: twice")
            identity = text.removeprefix(IDENTITY)
        elif text.startswith(_SECRETS):
            if secret is not None:
                raise BadCredential("nodeCredentials (nCr) hold two keys; a device has one")
            secret = text
        else:
            raise BadCredential(
                "nodeCredentials (nCr) begin with psk-id:, psk:, psk-hex:, psk-text:, rpk:, x509: or x509-cn:, "
                "one does not"
            )
    if secret is None:
        raise BadCredential("nodeCredentials (nCr) need a key; psk:<key> is missing (or rpk:, x509:, x509-cn:)")
    if secret.startswith(_PUBLIC):
        if identity is not None:
            raise BadCredential("nodeCredentials (nCr): psk-id: goes with psk: only, not with a raw key or certificate")
    elif identity is None:
        raise BadCredential("nodeCredentials (nCr) need both an identity and a key; psk-id:<identity> is missing")
    return written_credential(identity, secret, now_ms, names, "nodeCredentials (nCr)")


def written_credential(
    identity: str | None, secret: str, now_ms: int, names: Sequence[str], where: str = "crse"
) -> Credential:
    """``secret`` with one of the prefixes (none: ``psk:``). ``identity``: the credentialsId, which a pre-shared key
    needs; the others have their own. ``where`` stands in errors. Raises `BadCredential`."""
    if secret.startswith(_CONTEXT):
        raise BadCredential(f"{where}: an OSCORE context is set with a credential record (client.oscore)")
    if secret.startswith(COMMON_NAME):
        name = secret.removeprefix(COMMON_NAME) or identity or names[0]
        _check_given(identity, name)
        check_endpoint(name, names, "x509-cn")
        return Credential(name, "", created_ms=now_ms, modified_ms=now_ms, kind=X509)
    try:
        if secret.startswith(RAW_KEY):
            name = identity or names[0]
            check_endpoint(name, names, "the identity of a raw public key")
            return raw_key_credential(name, secret.removeprefix(RAW_KEY), now_ms)
        if secret.startswith(CERTIFICATE):
            pinned = certificate_credential(secret.removeprefix(CERTIFICATE), now_ms)
            _check_given(identity, pinned.identity)
            return pinned
    except BadMaterial as error:
        raise BadCredential(f"{where}, {secret.partition(':')[0]}: {error}") from None
    # A plain key is stored as it was given; the other prefixes stay, for they say how to read it.
    key = secret.removeprefix("psk:")
    if key.startswith(_PUBLIC):
        key = f"psk-text:{key}"
    if identity is None:
        raise BadCredential("a pre-shared key needs an identity (psk-id:, crid)")
    check_identity(identity)
    check_key(key)
    return Credential(identity, key, created_ms=now_ms, modified_ms=now_ms)


def raw_key_credential(identity: str, material: str | bytes, now_ms: int, endpoint: str = "") -> Credential:
    """Raises `BadMaterial`."""
    spki = read_public_key(material)
    return Credential(
        identity,
        to_base64(spki),
        created_ms=now_ms,
        modified_ms=now_ms,
        kind=RPK,
        endpoint=endpoint,
        key_id=raw_key_id(spki),
    )


def certificate_credential(material: str | bytes, now_ms: int, endpoint: str = "") -> Credential:
    """This very certificate, whoever signed it. Raises `BadMaterial`."""
    der = der_of(read_certificate(material))
    return Credential(
        certificate_credentials_id(der),
        to_base64(der),
        created_ms=now_ms,
        modified_ms=now_ms,
        kind=X509,
        endpoint=endpoint,
        key_id=certificate_key_id(der),
    )


def written_secret(credential: Credential) -> str:
    """``secret`` as `written_credential` takes it; an OSCORE context is not for lists, and is only named."""
    if credential.kind == OSCORE:
        return _CONTEXT + WITHHELD
    if credential.kind == RPK:
        return RAW_KEY + credential.secret
    if credential.kind == X509:
        return CERTIFICATE + credential.secret if credential.secret else COMMON_NAME + credential.identity
    return credential.secret


def endpoint_names(node_id: str, name: str) -> tuple[str, ...]:
    """The endpoint names that mean this device, the one it is known best by first."""
    return tuple(alias for alias, _ in endpoint_aliases(node_id, name))


async def change_credential(
    store: SecurityStore, device: DeviceRecord, change: Change, now_ms: int
) -> DeviceRecord | None:
    """Store what ``change`` makes of what the device proves itself with, as one step of the store; the device as it is
    then, None where it is gone. Who serves devices has to hear of it by `Revoking`. Raises `AlreadyExists`,
    `BadCredential`, and what ``change`` raises."""
    return await store.change_credential(device.device_id, lambda known: _placed(device, change(known), now_ms))


def _placed(device: DeviceRecord, credential: Credential | None, now_ms: int) -> Credential | None:
    if credential is None:
        return None
    if isinstance(device, EndDeviceRecord):
        raise BadCredential(f"device {device.name!r} is reached through gateway {device.gateway!r}, which has the key")
    check_credential(credential, device)
    if credential.kind == NOSEC and not credential.bootstrap:
        return None
    return replace(credential, created_ms=credential.created_ms or now_ms, modified_ms=now_ms)


def in_place_of(known: Credential, new: Credential) -> Credential:
    """``new`` where ``known`` was: what says nothing of how the device proves itself stays, and so does the OSCORE
    context."""
    # A record says for which endpoint name it is; where that is the identity too, both stay the same.
    named = new.identity if is_named_by_endpoint(new) else known.endpoint
    return replace(
        new,
        description=known.description,
        envelope=known.envelope,
        created_ms=known.created_ms,
        endpoint=named if known.endpoint else "",
        bootstrap=known.bootstrap,
        spent_ms=known.spent_ms,
        oscore=known.oscore,
    )


def kind_of(written: str) -> str:
    """Of a secret as `written_credential` takes it."""
    if written.startswith(RAW_KEY):
        return RPK
    return X509 if written.startswith((CERTIFICATE, COMMON_NAME)) else PSK


def is_named_by_endpoint(credential: Credential) -> bool:
    """Whether its identity is the endpoint name."""
    return credential.kind in (NOSEC, OSCORE, RPK) or (credential.kind == X509 and not credential.secret)


def check_credential(credential: Credential, device: DeviceRecord) -> None:
    """A credential speaks for the device that it is given to, for no other. Raises `BadCredential`."""
    if credential.kind == PSK:
        check_identity(credential.identity)
        check_key(credential.secret)
    names = endpoint_names(device.node_id, device.name)
    if credential.endpoint:
        check_endpoint(credential.endpoint, names, "client.endpoint")
    if is_named_by_endpoint(credential):
        check_endpoint(credential.identity, names, "the endpoint")


def check_endpoint(endpoint: str, names: Sequence[str], where: str) -> None:
    """Raises `BadCredential`."""
    if endpoint not in names:
        raise BadCredential(
            f"{where}: {endpoint[:80]!r} does not mean this device; its endpoint names are {', '.join(names)}"
        )


def check_identity(identity: str) -> None:
    """Raises `BadCredential`."""
    if identity != identity.strip() or not identity.isprintable():
        raise BadCredential("a PSK identity neither begins nor ends with a blank and has no control characters")
    try:
        octets = len(identity.encode())
    except UnicodeEncodeError:
        raise BadCredential("a PSK identity is Unicode text") from None
    if identity == NO_SEC:
        raise BadCredential(f"a PSK identity is not {NO_SEC}, which says that there is none")
    if not 1 <= octets <= LONGEST_IDENTITY:
        raise BadCredential(f"a PSK identity has 1 to {LONGEST_IDENTITY} bytes, this one has {octets}")


def check_key(secret: str) -> None:
    """``secret`` as in `Credential`. Raises `BadCredential`."""
    if not secret.startswith("psk-text:") and secret != secret.strip():
        raise BadCredential("the key begins or ends with a blank; write psk-text: before a text that has one")
    try:
        key_bytes(secret)
    except BadKey as error:
        raise BadCredential(f"bad key: {error}") from None
    except UnicodeEncodeError:
        raise BadCredential("bad key: it is not Unicode text") from None


def without_keys(value: Any) -> Any:
    """What may be shown of a list of credentials: identities. Anything else is withheld."""
    if value is None or value == []:
        return value
    if not isinstance(value, list):
        return WITHHELD
    return [each if isinstance(each, str) and each.startswith((IDENTITY, COMMON_NAME)) else WITHHELD for each in value]


def is_key(text: str) -> bool:
    """Whether a text looks like a key that stands where it does not belong."""
    return text.lstrip().lower().startswith(KEYS) or "PRIVATE KEY-----" in text


def _check_given(identity: str | None, right: str) -> None:
    if identity not in (None, right):
        raise BadCredential(f"the identity (crid) of a certificate is {right}, or left out")
