"""The cipher suites that we speak, in the order in which we like them (RFC 7925 §4.2, 4.4; RFC 5487, 6655, 7251)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

Exchange = Literal["psk", "ecdhe_ecdsa"]
Cipher = Literal["ccm8", "ccm", "gcm", "cbc"]


@dataclass(frozen=True, slots=True)
class Suite:
    """One cipher suite; all hash with SHA-256. ``fixed_iv_length``: bytes of the implicit part of the AEAD nonce."""

    number: int
    name: str
    exchange: Exchange
    cipher: Cipher
    key_length: int = 16
    fixed_iv_length: int = 4
    mac_key_length: int = 0
    tag_length: int = 16
    hash: str = "sha256"


def _cbc(number: int, name: str, exchange: Exchange) -> Suite:
    return Suite(number, name, exchange, "cbc", fixed_iv_length=0, mac_key_length=32, tag_length=32)


# A client that offers PSK has a pre-shared key, so PSK, which is cheaper for both, goes first. CCM_8 is what LwM2M asks
# for and what constrained devices have.
_PREFERENCE: Final = (
    Suite(0xC0A8, "TLS_PSK_WITH_AES_128_CCM_8", "psk", "ccm8", tag_length=8),
    Suite(0xC0A4, "TLS_PSK_WITH_AES_128_CCM", "psk", "ccm"),
    Suite(0x00A8, "TLS_PSK_WITH_AES_128_GCM_SHA256", "psk", "gcm"),
    Suite(0xC0AE, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", "ecdhe_ecdsa", "ccm8", tag_length=8),
    Suite(0xC0AC, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "ecdhe_ecdsa", "ccm"),
    Suite(0xC02B, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ecdhe_ecdsa", "gcm"),
    _cbc(0x00AE, "TLS_PSK_WITH_AES_128_CBC_SHA256", "psk"),
    _cbc(0xC023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ecdhe_ecdsa"),
)

SUITES: Final[dict[int, Suite]] = {suite.number: suite for suite in _PREFERENCE}
"""All of them by number, the preferred first."""

EMPTY_RENEGOTIATION_INFO: Final = 0x00FF
"""The signalling suite that stands for an empty renegotiation_info (RFC 5746 §3.3)."""


def choose(offered: Collection[int], *, psk: bool, ecdhe: bool, cbc: bool) -> Suite | None:
    """The suite that we prefer of those ``offered`` and had: PSK, ECDHE_ECDSA, and the CBC suites of both. None: there
    is none."""
    for suite in _PREFERENCE:
        if suite.number in offered and (psk if suite.exchange == "psk" else ecdhe) and (cbc or suite.cipher != "cbc"):
            return suite
    return None


def suite_name(number: int) -> str:
    """For people: the standard's name, or ``0x1234`` for one that we do not have."""
    suite = SUITES.get(number)
    return suite.name if suite else f"{number:#06x}"
