"""Keys of devices as people write them: ``psk-id:<identity>`` with ``psk:<key>``, ``psk-hex:<digits>`` or
``psk-text:<text>`` (contract Device to Cloud §6.5). No text that is raised here holds a key."""

from collections.abc import Sequence
from typing import Any, Final

from stellwerk.core.errors import UserError
from stellwerk.device.record import BadKey, Credential, key_bytes

IDENTITY: Final = "psk-id:"
KEYS: Final = ("psk:", "psk-hex:", "psk-text:")
LONGEST_IDENTITY: Final = 128
"""Octets. RFC 4279 5.3: what every implementation takes."""

WITHHELD: Final = "***"
"""Stands where a key stood."""


class BadCredential(UserError):
    """Credentials that are incomplete or cannot be; the text says why, never what the key was."""


def parse_credentials(texts: Sequence[str], now_ms: int) -> Credential:
    """The key of an identity, each named once. Raises `BadCredential`."""
    identity: str | None = None
    secret: str | None = None
    for text in texts:
        if text.startswith(IDENTITY):
            if identity is not None:
                raise BadCredential("nodeCredentials (nCr) name psk-id: twice")
            identity = text.removeprefix(IDENTITY)
        elif text.startswith(KEYS):
            if secret is not None:
                raise BadCredential("nodeCredentials (nCr) hold two keys; a device has one")
            # A plain key is stored as it was given; the other prefixes stay, for they say how to read it.
            secret = text.removeprefix("psk:")
        else:
            raise BadCredential("nodeCredentials (nCr) begin with psk-id:, psk:, psk-hex: or psk-text:, one does not")
    if identity is None or secret is None:
        missing = "psk-id:<identity>" if identity is None else "psk:<key>"
        raise BadCredential(f"nodeCredentials (nCr) need both an identity and a key; {missing} is missing")
    check_identity(identity)
    check_key(secret)
    return Credential(identity, secret, created_ms=now_ms, modified_ms=now_ms)


def check_identity(identity: str) -> None:
    """Raises `BadCredential`."""
    if identity != identity.strip() or not identity.isprintable():
        raise BadCredential("a PSK identity neither begins nor ends with a blank and has no control characters")
    try:
        octets = len(identity.encode())
    except UnicodeEncodeError:
        raise BadCredential("a PSK identity is Unicode text") from None
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
    return [each if isinstance(each, str) and each.startswith(IDENTITY) else WITHHELD for each in value]


def is_key(text: str) -> bool:
    """Whether a text looks like a key that stands where it does not belong."""
    return text.lstrip().lower().startswith(KEYS)
