"""How a simulated device bootstraps."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cryptography import x509

from stellwerk.coap.oscore.material import AES_CCM_16_64_128, HKDF_SHA_256
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.sim.bootstrap.faults import StepFault
from stellwerk.sim.release import Release
from stellwerk.sim.security import Credentials

SESSION_S: Final = 247.0
"""EXCHANGE_LIFETIME: within it Finish has to have come (contract B-3)."""


class Mode(Enum):
    """Who begins, and with what."""

    CLIENT = "client"
    """The device asks with POST /bs."""
    PACK = "pack"
    """It asks for everything at once with GET /bspack, and with POST /bs where that is answered 4.05 or 5.01."""
    SERVER = "server"
    """It waits for what the server writes unasked (LwM2M 1.0). With a hold-off it asks by itself when that is over."""


class Preference(Enum):
    """What ``pct`` of a Bootstrap-Request says, where no number is given."""

    BY_RELEASE = "by release"
    """SenML CBOR; a device of LwM2M 1.0 says nothing."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class OscoreValues:
    """An instance of object 21."""

    master_secret: bytes = field(repr=False)
    sender_id: bytes
    recipient_id: bytes
    aead: int = AES_CCM_16_64_128
    hkdf: int = HKDF_SHA_256
    master_salt: bytes = field(default=b"", repr=False)
    id_context: bytes = b""


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """What a device knows of its bootstrap server, and how it behaves. Times in seconds, 0 switches one off."""

    server_uri: str
    """``coap://HOST:PORT``, or so with ``coaps``, ``coap+tcp`` or ``coaps+tcp``."""
    is_bootstrap: bool = True
    """False: that is a server to register with, and the device knows no bootstrap server."""
    forgets: bool = False
    """It keeps no count of what it protected in an earlier life, so that it has to agree with its server on another ID
    Context (RFC 8613 App. B.2)."""
    credentials: Credentials | None = field(default=None, repr=False)
    """With which it proves itself to the bootstrap server; None: NoSec."""
    oscore: OscoreValues | None = None
    """The context with which it speaks to it besides, over a peer of the transport ``oscore+...``."""
    server_key: bytes = b""
    """The public key (DER SubjectPublicKeyInfo) that the bootstrap server has to have; empty: any."""
    anchors: tuple[x509.Certificate, ...] = ()
    """Certificates that those of servers must lead to, where an account names none; none: any."""
    mode: Mode = Mode.CLIENT
    instance: int = 0
    """The instance of object 0 that is its bootstrap account (contract B-6)."""
    hold_off_s: int = 0
    """``/0/x/11``: it asks so long after it found that it has to."""
    account_timeout_s: int = 0
    """``/0/x/12``: so long after a bootstrap its bootstrap account is gone."""
    preference: int | Preference = Preference.BY_RELEASE
    """``pct``."""
    accept: int = ContentFormat.SENML_CBOR
    """The format of a pack: 110, 112 or 11544."""
    factory_uri: str = ""
    """A server, without security, that it was made with an account for: it registers there first."""
    failures: int = 3
    """After so many registration requests in vain, one after the other and at every server, it bootstraps again; so it
    does after so many enrolments in vain."""
    renew_every_s: float = 0.0
    """After so long it asks for another certificate, where it enrolled for the one that it has; it does in any case
    before that ends."""
    session_s: float = SESSION_S
    faults: tuple[StepFault, ...] = ()
    suites: tuple[int, ...] = ()
    cid_length: int | None = None
    """See `security.Security`, for every server."""
    handshake_s: float = 90.0
    first_timeout_s: float = 2.0

    def pct(self, release: Release) -> int | None:
        """The format that a Bootstrap-Request names, if any."""
        if isinstance(self.preference, int):
            return self.preference
        if self.preference is Preference.NONE or release.name == "1.0":
            return None
        return int(release.default_format)
