"""How simulated devices secure what they say: what each brings to a handshake, and whom it takes for its server."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import UserError
from stellwerk.device.key_material import der_of
from stellwerk.dtls.parameters import ClientParameters
from stellwerk.dtls.suites import SUITES
from stellwerk.issuing import Issuer, make_authority, new_key
from stellwerk.sim.faults import FaultKind

STRANGER: Final = "nobody-knows-"
"""What the PSK identity of a device begins with that comes as somebody else."""

LONGEST_CID: Final = 32
LONGEST_IDENTITY: Final = 128
"""Octets of a PSK identity (contract §2.2)."""
LONGEST_KEY: Final = 64
_GOOD_FOR_DAYS: Final = 365
_EXPIRED_SINCE: Final = timedelta(days=1)


class Resume(Enum):
    """How a device goes on from an earlier session."""

    ID = "id"
    TICKET = "ticket"
    """RFC 5077: the server keeps nothing, the device gives back what it was given."""


class AfterHandshake(Enum):
    """What a registered device does after a full handshake (contract §2.2). A resumed session needs nothing."""

    REGISTER = "register"
    UPDATE = "update"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """``identity`` has 1 to 128 octets, ``key`` 1 to 64."""

    identity: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RawKey:
    """The key pair of a device; its public half is who it is (RFC 7250)."""

    key: EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The key pair of a device and the chain that vouches for it, DER, its own first. ``issuer``: who can give it
    another one, for what goes wrong on purpose."""

    key: EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[bytes, ...]
    issuer: Issuer | None = None


Credentials: TypeAlias = PreSharedKey | RawKey | Certificate

Keyring: TypeAlias = Callable[[str, int], Credentials]
"""Gives the credentials of the device with an endpoint name and a number. Raises `UserError` where there are none."""


class NoSuchSuite(UserError):
    """``name`` is no cipher suite that is spoken here."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no cipher suite {name[:60]!r}; one of {', '.join(suite_names())}")


@dataclass(frozen=True, slots=True)
class Security:
    """What all secure devices of a fleet have in common. Times in seconds.

    ``server_key``: the server's public key (DER SubjectPublicKeyInfo), ``anchors``: certificates that its chain must
    lead to, whatever name it bears; with neither, whoever holds the key to what it shows is taken for the server.
    ``cid_length``: of the connection ID that a device wants to receive; 0: it sends the server's and wants none; None:
    it offers none.
    """

    keyring: Keyring
    server_key: bytes = b""
    anchors: tuple[x509.Certificate, ...] = ()
    suites: tuple[int, ...] = ()
    cid_length: int | None = None
    resume: Resume | None = None
    after_handshake: AfterHandshake = AfterHandshake.REGISTER
    server_name: str = ""
    handshake_s: float = 90.0
    """After so long a handshake that is not complete has failed."""
    first_timeout_s: float = 2.0
    """Until the first repetition of a flight; each further one waits twice as long."""


def one_for_all(credentials: Credentials) -> Keyring:
    """Whoever asks gets ``credentials``."""
    return lambda endpoint_name, number: credentials


def suite_names() -> list[str]:
    """What `parse_suites` understands."""
    return [each.name.removeprefix("TLS_") for each in SUITES.values()]


def parse_suites(names: list[str]) -> tuple[int, ...]:
    """Numbers of cipher suites written as the standards name them, with or without ``TLS_``; several may be in one
    word, with commas between. Raises `NoSuchSuite`."""
    numbers = {each.name.removeprefix("TLS_"): each.number for each in SUITES.values()}
    found = []
    for name in (each.strip() for word in names for each in word.split(",")):
        number = numbers.get(name.upper().removeprefix("TLS_"))
        if number is None:
            raise NoSuchSuite(name)
        found.append(number)
    return tuple(found)


def client_parameters(
    security: Security, credentials: Credentials, endpoint_name: str, fault: FaultKind | None, entropy: Entropy
) -> ClientParameters:
    """What the device brings to its next handshake. ``fault`` is what it gets wrong."""
    credentials = _spoil(credentials, endpoint_name, fault)
    of_psk = credentials if isinstance(credentials, PreSharedKey) else None
    return ClientParameters(
        suites=security.suites,
        psk_identity=of_psk.identity if of_psk is not None else b"",
        psk=of_psk.key if of_psk is not None else b"",
        key=None if isinstance(credentials, PreSharedKey) else credentials.key,
        chain=credentials.chain if isinstance(credentials, Certificate) else (),
        raw_keys=isinstance(credentials, RawKey),
        cid=None if security.cid_length is None else entropy.take(security.cid_length),
        server_name=security.server_name,
        tickets=security.resume is Resume.TICKET,
        first_timeout_s=security.first_timeout_s,
    )


def _spoil(credentials: Credentials, name: str, fault: FaultKind | None) -> Credentials:
    """The ``credentials`` of the device ``name`` with what ``fault`` makes of them."""
    if fault is FaultKind.WRONG_KEY:
        if isinstance(credentials, PreSharedKey):
            return PreSharedKey(credentials.identity, bytes(each ^ 0xA5 for each in credentials.key))
        another = new_key()
        return RawKey(another) if isinstance(credentials, RawKey) else Certificate(another, credentials.chain)
    if fault is FaultKind.WRONG_IDENTITY:
        if isinstance(credentials, PreSharedKey):
            return PreSharedKey((STRANGER.encode() + credentials.identity)[:LONGEST_IDENTITY], credentials.key)
        if isinstance(credentials, RawKey):
            return RawKey(new_key())
        return _another(credentials, STRANGER + name)
    if fault is FaultKind.EXPIRED_CERTIFICATE and isinstance(credentials, Certificate):
        return _another(credentials, name, datetime.now(UTC) - _EXPIRED_SINCE - timedelta(days=_GOOD_FOR_DAYS))
    return credentials


def _another(credentials: Certificate, name: str, made_at: datetime | None = None) -> Certificate:
    """What the issuer of ``credentials`` would have given to ``name``; else something that nobody vouches for."""
    if credentials.issuer is None:
        stranger = make_authority(STRANGER)
        return Certificate(stranger.key, tuple(der_of(each) for each in stranger.chain))
    issued = credentials.issuer.client(credentials.key, name, _GOOD_FOR_DAYS, made_at)
    return Certificate(issued.key, tuple(der_of(each) for each in issued.chain), credentials.issuer)
