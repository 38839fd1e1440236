"""What an endpoint is told once: suites, timers, bounds, its own keys."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The server's own EC key (P-256), its certificate chain as DER (own first; empty: raw public key only)."""

    key: EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerParameters:
    """``identity`` None: only PSK is offered. Times in seconds."""

    identity: ServerIdentity | None = None
    cbc: bool = False
    """Offer the CBC-SHA256 suites too (Lucky Thirteen; encrypt-then-MAC is preferred where the client has it)."""
    rpk: bool = True
    x509: bool = True
    cids: bool = True
    """Give whoever offers connection IDs one of ours."""
    cid_code_points: tuple[int, ...] = (54,)
    """Extension types understood as connection_id; 53 is that of some firmware from before RFC 9146."""
    node_id: int = 0
    """First byte of every session id and connection ID of ours (0 to 255)."""
    tickets: bool = True
    session_lifetime_s: float = 7 * 86_400.0
    """How old a session may be that somebody resumes."""
    record_size: int = 1_200
    """Plaintext bytes in one record of ours at most (what comes may be larger)."""
    mtu: int = 1_280
    """Bytes of one handshake datagram at most, without IP and UDP headers."""
    first_timeout_s: float = 9.0
    """Of a flight (RFC 7925 §11); doubles with each repetition."""
    longest_timeout_s: float = 60.0
    repetitions: int = 4
    sequence_gap: int = 1_024
    """How far a stored ceiling lies ahead."""


@dataclass(frozen=True, slots=True)
class ClientParameters:
    """What a client brings: a pre-shared key, or its own key with (X.509) or without (RPK) a chain."""

    suites: tuple[int, ...] = ()
    """Empty: those that fit, CCM_8 first."""
    psk_identity: bytes = b""
    psk: bytes = field(default=b"", repr=False)
    key: EllipticCurvePrivateKey | None = field(default=None, repr=False)
    chain: tuple[bytes, ...] = ()
    raw_keys: bool = False
    """Own key and server's key as raw public keys (RFC 7250)."""
    cid: bytes | None = None
    """The connection ID it wants to receive; empty: none to it, but it sends the server's; None: it does not offer."""
    cid_code_point: int = 54
    server_name: str = ""
    extended_master_secret: bool = True
    encrypt_then_mac: bool = True
    tickets: bool = False
    record_size_limit: int = 0
    """0: does not offer."""
    max_fragment_length: int = 0
    """RFC 6066 code 1 to 4 (512 to 4096 bytes); 0: does not offer."""
    mtu: int = 1_280
    first_timeout_s: float = 2.0
    longest_timeout_s: float = 60.0
    repetitions: int = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one endpoint; beyond them it refuses or forgets, never grows."""

    sessions: int = 1_000_000
    half_open: int = 4_096
    """Handshakes under way (after their cookie)."""
    half_open_per_address: int = 1_024
    """Of one IP address (IPv6: of its /64), which may be that of a mobile operator's NAT."""
    handshake_bytes: int = 32_768
    """Of one handshake message; of one flight twice that."""
    handshake_s: float = 90.0
    questions: int = 4_096
    """Unanswered `SessionQuestion`s."""
    waiting_datagrams: int = 4
    """Of one question."""
    move_amplification: int = 3
    answer_s: float = 10.0
    """How long a handshake or a datagram waits for the answer to a question."""
    questions_per_address: int = 256
    """Unanswered `SessionQuestion`s of one IP address (IPv6: of its /64): more than datagrams are read at a time."""
    resumable: int = 10_000
    """Ended sessions that can still be resumed by their id."""
