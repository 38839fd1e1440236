"""Transmission parameters (RFC 7252 §4.8) and our bounds (contract BLK-11, MSG-3, §15)."""

from dataclasses import dataclass

EXCHANGE_LIFETIME_S = 247.0
NON_LIFETIME_S = 145.0
MAX_TRANSMIT_WAIT_S = 93.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """Per-peer transmission parameters; times in seconds, sizes in bytes."""

    ack_timeout_s: float = 2.0
    ack_random_factor: float = 1.5
    max_retransmit: int = 4
    nstart: int = 1
    block_size: int = 1024
    separate_after_s: float = 1.0
    """A request not answered within this time gets its empty ACK, then a separate response (MSG-5)."""
    request_tag: bool = False
    """Bodies that we send in blocks carry a Request-Tag, another one each time (RFC 9175 §3.3). Needed where old blocks
    may be replayed: OSCORE, or DTLS with a replay window. Without security anybody can forge blocks anyway."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one engine. Each has a stated answer to "full", see `Endpoint`."""

    ring_per_peer: int = 16
    """Answers kept whole per peer for duplicates; older ones are remembered as message-ID ranges and asked for."""
    answers_total: int = 200_000
    pending_per_peer: int = 256
    """Messages of one peer that may await their answer from us; one more is dropped."""
    requests_per_peer: int = 64
    """Requests of ours that may wait or run per peer; one more fails as ``refused``."""
    questions_total: int = 4_096
    body_bytes: int = 65_536
    """Largest body assembled from blocks for a path not named in ``body_bytes_by_path``."""
    bodies_per_peer: int = 2
    bodies_total_bytes: int = 16 * 1024 * 1024
    response_body_bytes: int = 1_048_576
    block_idle_s: float = 93.0
    peers_total: int = 1_000_000
    contexts_total: int = 200_000
    """OSCORE contexts; for one more an idle one is forgotten, which is asked for again."""
    amplification: int = 3
    """Answers to unverified peers are at most this many times the question (contract §1.7, design §7)."""
    ask_echo: bool = True
    """Whom such an answer is too large for is asked to repeat the request with an Echo; else it only gets 4.01."""
