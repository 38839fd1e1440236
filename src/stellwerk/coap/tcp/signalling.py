"""Signalling messages (RFC 8323 §5): what the two ends of a connection say to each other about it.

Their options have numbers of their own for each code. An unknown option that is critical, or a known one of a wrong
length, ends the connection; an unknown elective one is passed over.
"""

from dataclasses import dataclass
from typing import Final

from stellwerk.coap.message import Message, Options, encode_options
from stellwerk.coap.options import encode_uint
from stellwerk.coap.tcp.frames import encode_frame
from stellwerk.core.errors import PeerError

CSM: Final = 0xE1
PING: Final = 0xE2
PONG: Final = 0xE3
RELEASE: Final = 0xE4
ABORT: Final = 0xE5

BASE_MESSAGE_BYTES: Final = 1152
"""Max-Message-Size of an end that has not said another (RFC 8323 §5.3.1)."""

_MAX_MESSAGE_SIZE: Final = 2
_BLOCK_WISE_TRANSFER: Final = 4
_CUSTODY: Final = 2
_ALTERNATIVE_ADDRESS: Final = 2
_HOLD_OFF: Final = 4
_BAD_CSM_OPTION: Final = 2
_LONGEST_DIAGNOSTIC: Final = 200
_LEAST_MESSAGE_BYTES: Final = 256
"""Nothing of use fits into less."""
_MOST_ALTERNATIVES: Final = 8

# By code: option number to shortest and longest value.
_LENGTHS: Final[dict[int, dict[int, tuple[int, int]]]] = {
    CSM: {_MAX_MESSAGE_SIZE: (0, 4), _BLOCK_WISE_TRANSFER: (0, 0)},
    PING: {_CUSTODY: (0, 0)},
    PONG: {_CUSTODY: (0, 0)},
    RELEASE: {_ALTERNATIVE_ADDRESS: (1, 255), _HOLD_OFF: (0, 3)},
    ABORT: {_BAD_CSM_OPTION: (0, 2)},
}


class BadSignal(PeerError):
    """A signalling message with an option that cannot be taken: ``number``, and ``rule`` that it broke."""

    def __init__(self, number: int, rule: str) -> None:
        self.number, self.rule = number, rule
        super().__init__(rule)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an end can take: messages of at most ``message_bytes``, and ``block_wise`` transfers."""

    message_bytes: int = BASE_MESSAGE_BYTES
    block_wise: bool = False

    @property
    def bert(self) -> bool:
        """Whether blocks may be BERT ones (RFC 8323 §5.3.2)."""
        return self.block_wise and self.message_bytes > BASE_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class ReleaseNotice:
    """The peer asks to end the connection: where to go instead (``host:port``), and not before ``hold_off_s``."""

    alternatives: tuple[str, ...] = ()
    hold_off_s: int = 0


def decode_csm(message: Message, before: Capabilities) -> Capabilities:
    """What the peer can take from now on; a CSM replaces what it names and leaves the rest. Raises `BadSignal`."""
    bytes_, block_wise = before.message_bytes, before.block_wise
    for number, value in _options(message):
        if number == _MAX_MESSAGE_SIZE:
            bytes_ = int.from_bytes(value, "big")
        elif number == _BLOCK_WISE_TRANSFER:
            block_wise = True
    if bytes_ < _LEAST_MESSAGE_BYTES:
        raise BadSignal(_MAX_MESSAGE_SIZE, f"a Max-Message-Size of {bytes_}, of at least {_LEAST_MESSAGE_BYTES}")
    return Capabilities(bytes_, block_wise)


def encode_csm(capabilities: Capabilities) -> bytes:
    """The frame that tells the peer what we can take."""
    options = [(_MAX_MESSAGE_SIZE, encode_uint(capabilities.message_bytes))]
    if capabilities.block_wise:
        options.append((_BLOCK_WISE_TRANSFER, b""))
    return encode_frame(CSM, b"", encode_options(tuple(options)), b"")


def decode_custody(message: Message) -> bool:
    """Whether a Ping or Pong has Custody: what came before it has been dealt with, or shall be. Raises `BadSignal`."""
    return any(number == _CUSTODY for number, _ in _options(message))


def encode_ping(token: bytes, custody: bool = False) -> bytes:
    """A Ping; its Pong has the same token."""
    return encode_frame(PING, token, encode_options(((_CUSTODY, b""),)) if custody else b"", b"")


def encode_pong(token: bytes, custody: bool) -> bytes:
    """The answer to a Ping with ``token``."""
    return encode_frame(PONG, token, encode_options(((_CUSTODY, b""),)) if custody else b"", b"")


def decode_release(message: Message) -> ReleaseNotice:
    """Where the peer wants us to go, and when. Raises `BadSignal`."""
    alternatives: list[str] = []
    hold_off_s = 0
    for number, value in _options(message):
        if number == _HOLD_OFF:
            hold_off_s = int.from_bytes(value, "big")
        elif number == _ALTERNATIVE_ADDRESS and len(alternatives) < _MOST_ALTERNATIVES:
            alternatives.append(value.decode("utf-8", "replace"))
    return ReleaseNotice(tuple(alternatives), hold_off_s)


def encode_release(notice: ReleaseNotice) -> bytes:
    """The frame that asks the peer to end the connection."""
    options: list[tuple[int, bytes]] = [(_ALTERNATIVE_ADDRESS, each.encode()) for each in notice.alternatives]
    if notice.hold_off_s:
        options.append((_HOLD_OFF, encode_uint(notice.hold_off_s)))
    return encode_frame(RELEASE, b"", encode_options(tuple(options)), b"")


def decode_abort(message: Message) -> str:
    """Why the peer gives the connection up, in its words. Its options are of no use any more."""
    text = message.payload[:_LONGEST_DIAGNOSTIC].decode("utf-8", "replace")
    for number, value in message.options:
        if number == _BAD_CSM_OPTION and len(value) <= 2:
            text = f"{text} (CSM option {int.from_bytes(value, 'big')})".lstrip()
    return text


def encode_abort(diagnostic: str, bad_csm_option: int | None = None) -> bytes:
    """The last frame on a connection that we give up, and why."""
    options: Options = ()
    if bad_csm_option is not None:
        options = ((_BAD_CSM_OPTION, encode_uint(bad_csm_option)),)
    return encode_frame(ABORT, b"", encode_options(options), diagnostic.encode()[:_LONGEST_DIAGNOSTIC])


def _options(message: Message) -> list[tuple[int, bytes]]:
    known = _LENGTHS[message.code]
    taken: list[tuple[int, bytes]] = []
    seen: set[int] = set()
    for number, value in message.options:
        lengths = known.get(number)
        repeated = number in seen and (message.code, number) != (RELEASE, _ALTERNATIVE_ADDRESS)
        seen.add(number)
        # RFC 7252 5.4.3, 5.4.5 hold here too: an option of a wrong length, or once too often, counts as unknown.
        if lengths is not None and lengths[0] <= len(value) <= lengths[1] and not repeated:
            taken.append((number, value))
        elif number & 1:
            raise BadSignal(number, f"critical option {number} is unknown in a {NAMES[message.code]}")
    return taken


NAMES: Final = {CSM: "CSM", PING: "Ping", PONG: "Pong", RELEASE: "Release", ABORT: "Abort"}
