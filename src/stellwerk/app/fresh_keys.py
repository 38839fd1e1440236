"""Keys that the platform makes for one device, when it is bootstrapped (contract LwM2M B-10; device platform
§12)."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key

from stellwerk.app.credentials import LONGEST_IDENTITY, certificate_credential, raw_key_credential
from stellwerk.app.oscore import OscoreContext, render_oscore
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.account import ClientKeys, OscoreKeys, weakness
from stellwerk.device.bootstrap.configuration import ServerEntry
from stellwerk.device.key_material import pkcs8_of, spki_of
from stellwerk.device.record import NOSEC, OSCORE, PSK, RPK, X509, Credential, DeviceRecord

KEY_BYTES: Final = 16
SALT_BYTES: Final = 8
SENDER_ID_BYTES: Final = 6
"""Of 7 that are possible (RFC 8613 §3.3). No two devices have the same; by chance two of a million do with less than a
hundredth, and the one that comes second is refused and comes again."""
RECIPIENT_ID_BYTES: Final = 2
"""Ours: a device tells its servers by it."""
_SUFFIX_BYTES: Final = 4

Certify = Callable[[EllipticCurvePrivateKey, str], bytes]
"""The DER certificate of the platform's authority for a key and an endpoint name. Raises `UserError`."""


class NoFreshKeys(UserError):
    """Such keys cannot be made; the text says why."""


class FreshKeys:
    """Called for a device and a server: what the device is given, and the credential that goes with it, to be kept as
    the fresh one. ``certify`` None: there is no authority. ``random``: that many random bytes."""

    def __init__(self, certify: Certify | None = None, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._certify = certify
        self._random = random

    def __call__(self, device: DeviceRecord, entry: ServerEntry, now_ms: int) -> tuple[ClientKeys, Credential]:
        """Raises `NoFreshKeys`, and what the authority raises."""
        keys, credential = self._keys(device, entry, now_ms)
        if entry.oscore:
            context = self._context()
            keys = replace(keys, oscore=context)
            credential = replace(credential, oscore=_rendered(context, device))
        return keys, replace(credential, is_fresh=True)

    def _keys(self, device: DeviceRecord, entry: ServerEntry, now_ms: int) -> tuple[ClientKeys, Credential]:
        endpoint = device.node_id
        match entry.mode:
            case "psk":
                identity, key = self._identity(endpoint), self._strong(KEY_BYTES)
                credential = Credential(identity, f"psk-hex:{key.hex()}", created_ms=now_ms, modified_ms=now_ms)
                return ClientKeys(PSK, identity.encode(), key), credential
            case "rpk":
                pair = generate_private_key(SECP256R1())
                spki = spki_of(pair.public_key())
                return ClientKeys(RPK, spki, pkcs8_of(pair)), raw_key_credential(endpoint, spki, now_ms)
            case "x509":
                if self._certify is None:
                    raise NoFreshKeys("the platform has no certificate authority; `stellwerk keys make` makes one")
                pair = generate_private_key(SECP256R1())
                der = self._certify(pair, endpoint)
                return ClientKeys(X509, der, pkcs8_of(pair)), certificate_credential(der, now_ms)
        if not entry.oscore:
            raise NoFreshKeys(f"server {entry.short_id}: mode NO_SEC has no keys; fresh ones need another, or oscore")
        return ClientKeys(NOSEC), Credential(endpoint, "", created_ms=now_ms, modified_ms=now_ms, kind=OSCORE)

    def _identity(self, endpoint: str) -> str:
        """The endpoint name with a suffix: of the key that the device had it is to be told apart."""
        suffix = f"#{self._random(_SUFFIX_BYTES).hex()}"
        if len(endpoint.encode()) + len(suffix) > LONGEST_IDENTITY:
            endpoint = sha256(endpoint.encode()).hexdigest()
        return endpoint + suffix

    def _context(self) -> OscoreKeys:
        return OscoreKeys(
            self._random(SENDER_ID_BYTES),
            self._random(RECIPIENT_ID_BYTES),
            self._strong(KEY_BYTES),
            self._random(SALT_BYTES),
        )

    def _strong(self, size: int) -> bytes:
        while weakness(key := self._random(size)) is not None:
            pass
        return key


def _rendered(keys: OscoreKeys, device: DeviceRecord) -> str:
    return render_oscore(
        OscoreContext(
            0,
            device.device_id,
            keys.sender_id,
            keys.recipient_id,
            keys.master_secret,
            keys.master_salt,
            keys.id_context,
            keys.aead,
            keys.hkdf,
        )
    )
