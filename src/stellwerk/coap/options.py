"""What the options of a message mean (RFC 7252 §5.10, 7641, 7959, 9175; contract §1.1).

`read_options` turns raw options into an `OptionView`, with every rule about unknown, repeated and ill-sized options
applied; the engine then looks at fields only.
"""

from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

from stellwerk.coap import codes
from stellwerk.coap.message import Options

IF_MATCH: Final = 1
URI_HOST: Final = 3
ETAG: Final = 4
IF_NONE_MATCH: Final = 5
OBSERVE: Final = 6
URI_PORT: Final = 7
LOCATION_PATH: Final = 8
OSCORE: Final = 9
URI_PATH: Final = 11
CONTENT_FORMAT: Final = 12
MAX_AGE: Final = 14
URI_QUERY: Final = 15
HOP_LIMIT: Final = 16
ACCEPT: Final = 17
LOCATION_QUERY: Final = 20
BLOCK2: Final = 23
BLOCK1: Final = 27
SIZE2: Final = 28
PROXY_URI: Final = 35
PROXY_SCHEME: Final = 39
SIZE1: Final = 60
ECHO: Final = 252
NO_RESPONSE: Final = 258
REQUEST_TAG: Final = 292


OUTSIDE: Final = frozenset((URI_HOST, URI_PORT, HOP_LIMIT, PROXY_URI, PROXY_SCHEME))
"""What OSCORE never protects, its class U (RFC 8613 §4.1, figure 5)."""


class Rule(NamedTuple):
    """What RFC 7252 §5.10 lays down for one option: its name, whether it may repeat, and its length in bytes."""

    name: str
    repeatable: bool
    shortest: int
    longest: int


# OSCORE (9) is missing on purpose: a node without it treats it as any unknown critical option (RFC 8613 8.2). Where it
# is spoken, `OptionView.oscore` and `OptionView.around` say what that node looks at first.
RULES: Final[dict[int, Rule]] = {
    IF_MATCH: Rule("If-Match", True, 0, 8),
    URI_HOST: Rule("Uri-Host", False, 1, 255),
    ETAG: Rule("ETag", True, 1, 8),
    IF_NONE_MATCH: Rule("If-None-Match", False, 0, 0),
    OBSERVE: Rule("Observe", False, 0, 3),
    URI_PORT: Rule("Uri-Port", False, 0, 2),
    LOCATION_PATH: Rule("Location-Path", True, 0, 255),
    URI_PATH: Rule("Uri-Path", True, 0, 255),
    CONTENT_FORMAT: Rule("Content-Format", False, 0, 2),
    MAX_AGE: Rule("Max-Age", False, 0, 4),
    URI_QUERY: Rule("Uri-Query", True, 0, 255),
    HOP_LIMIT: Rule("Hop-Limit", False, 1, 1),
    ACCEPT: Rule("Accept", False, 0, 2),
    LOCATION_QUERY: Rule("Location-Query", True, 0, 255),
    BLOCK2: Rule("Block2", False, 0, 3),
    BLOCK1: Rule("Block1", False, 0, 3),
    SIZE2: Rule("Size2", False, 0, 4),
    PROXY_URI: Rule("Proxy-Uri", False, 1, 1034),
    PROXY_SCHEME: Rule("Proxy-Scheme", False, 1, 255),
    SIZE1: Rule("Size1", False, 0, 4),
    ECHO: Rule("Echo", False, 1, 40),
    NO_RESPONSE: Rule("No-Response", False, 0, 1),
    REQUEST_TAG: Rule("Request-Tag", True, 0, 8),
}


def is_critical(number: int) -> bool:
    """Odd numbers must be understood, even ones may be ignored (RFC 7252 §5.4.1)."""
    return number & 1 == 1


def encode_uint(value: int) -> bytes:
    """The shortest big-endian form; zero is the empty string (RFC 7252 §3.2)."""
    return value.to_bytes((value.bit_length() + 7) >> 3, "big")


def decode_uint(value: bytes) -> int:
    """Leading zero bytes are accepted, as RFC 7252 §3.2 asks of a recipient."""
    return int.from_bytes(value, "big")


BERT: Final = 7
"""The size exponent of blocks that carry any number of 1024-byte blocks at once (RFC 8323 §6); not on UDP."""


class Block(NamedTuple):
    """The value of Block1 or Block2 (RFC 7959 §2.2): block number, whether more follow, and the size exponent: 0-6, or
    `BERT`."""

    number: int
    more: bool
    exponent: int

    @property
    def size(self) -> int:
        """Bytes per block number: 16 to 1024."""
        return unit_of(self.exponent)

    @property
    def offset(self) -> int:
        """Where this block starts in the body, in bytes."""
        return self.number * unit_of(self.exponent)

    def is_filled_by(self, length: int) -> bool:
        """Whether a payload of ``length`` bytes is whole, as it has to be where more follow."""
        if self.exponent == BERT:
            return length > 0 and length % 1024 == 0
        return length == 16 << self.exponent


def unit_of(exponent: int) -> int:
    """What a block number counts, in bytes: 16 to 1024."""
    return 16 << exponent if exponent < BERT else 1024


class Cut(NamedTuple):
    """How bodies go to one peer: in blocks of ``size`` bytes with ``exponent``, up to ``whole`` bytes in one message.
    ``asked``: the size exponent that our requests ask for in answers, None to leave it to the peer."""

    exponent: int
    size: int
    whole: int
    asked: int | None

    def size_at(self, exponent: int) -> int:
        """Bytes of payload in a block with ``exponent``, which is at most ours."""
        return self.size if exponent == self.exponent else unit_of(exponent)


@lru_cache(maxsize=64)
def cut_datagrams(block_size: int) -> Cut:
    """The cut for datagrams whose payload has at most ``block_size`` bytes."""
    exponent = block_exponent(block_size)
    size = 16 << exponent
    # BLK-4: the first request says which block size we would like in the answer.
    return Cut(exponent, size, size, exponent if block_size < 1024 else None)


def encode_block(number: int, more: bool, exponent: int) -> bytes:
    """The option value for `Block`."""
    return encode_uint(number << 4 | more << 3 | exponent)


def decode_block(value: bytes, bert: bool = False) -> Block | None:
    """The block that ``value`` names, None for the size exponent 7 unless it means `BERT` here: UDP reserves it
    (RFC 7959 §2.2)."""
    number = int.from_bytes(value, "big")
    if number & 7 == 7 and not bert:
        return None
    return Block(number >> 4, number & 8 != 0, number & 7)


def block_exponent(size: int) -> int:
    """The largest size exponent whose blocks have at most ``size`` bytes; never below 16-byte blocks."""
    return max(0, min(6, size.bit_length() - 5))


def text_options(number: int, values: tuple[str, ...]) -> list[tuple[int, bytes]]:
    """One option of ``number`` per text: Uri-Path, Uri-Query, Location-Path."""
    return [(number, value.encode()) for value in values]


def sort_options(options: list[tuple[int, bytes]]) -> Options:
    """Wire order; equal numbers keep their order."""
    options.sort(key=itemgetter(0))
    return tuple(options)


class OptionView:
    """The options of one message by meaning. Absent ones are None; path and query are text."""

    __slots__ = (
        "accept",
        "around",
        "block1",
        "block2",
        "content_format",
        "echo",
        "etag",
        "location",
        "observe",
        "oscore",
        "path",
        "query",
        "refusal",
        "request_tag",
        "size1",
        "size2",
        "unknown",
    )

    def __init__(self) -> None:
        self.path: tuple[str, ...] = ()
        self.query: tuple[str, ...] = ()
        self.location: tuple[str, ...] = ()
        self.content_format: int | None = None
        self.accept: int | None = None
        self.observe: int | None = None
        self.block1: Block | None = None
        self.block2: Block | None = None
        self.size1: int | None = None
        self.size2: int | None = None
        self.etag: bytes | None = None
        self.echo: bytes | None = None
        self.request_tag: tuple[bytes, ...] = ()
        self.unknown: str | None = None
        """The first critical option that cannot be understood, in words; a message with one is not acted on."""
        self.refusal: tuple[int, str] | None = None
        """The code and diagnostic text that a request with these options is answered with, None to serve it."""
        self.oscore: bytes | None = None
        """The value of the OSCORE option, which is unknown all the same."""
        self.around: tuple[int, str] | None = None
        """What ``refusal`` would be, were OSCORE known."""


_EMPTY: Final = OptionView()
_PROTECTED: Final = (codes.BAD_OPTION, f"option {OSCORE} unknown")


def read_options(options: Options, remember: bool = False) -> OptionView:
    """The meaning of ``options``. Views are shared between equal messages: treat them as read-only.

    ``remember`` keeps the view for the next equal message; say it for short options only, or a flood of giant ones
    fills the memory.
    """
    if not options:
        return _EMPTY
    if options[0][0] == OSCORE:
        return _protected_view(options, False)
    return _remember_view(options) if remember else _view(options)


def read_stream_options(options: Options, remember: bool = False) -> OptionView:
    """As `read_options`, for a message that came over a stream, where blocks may be `BERT` ones."""
    if options and options[0][0] == OSCORE:
        return _protected_view(options, True)
    return _remember_view(options, True) if remember else _view(options, True)


def _protected_view(options: Options, bert: bool) -> OptionView:
    """Of what is protected, mostly there is no more to see; and no two are the same."""
    if len(options) > 1:
        return _view(options, bert)
    view = OptionView()
    view.oscore = options[0][1]
    view.unknown = _PROTECTED[1]
    view.refusal = _PROTECTED
    return view


def _view(options: Options, bert: bool = False) -> OptionView:
    view = OptionView()
    path: list[str] = []
    query: list[str] = []
    location: list[str] = []
    before = -1
    for number, value in options:
        rule = RULES.get(number)
        # RFC 7252 5.4.3, 5.4.5: an option of a wrong length, or repeated where it may not be, counts as unknown.
        if (
            rule is None
            or not rule.shortest <= len(value) <= rule.longest
            or (number == before and not rule.repeatable)
        ):
            if number == OSCORE and view.oscore is None:
                view.oscore = value
                before = number
                continue
            if number & 1 and view.unknown is None:
                name = "option" if rule is None else rule.name
                fault = "unknown" if rule is None else "repeated" if number == before else "has a wrong length"
                view.unknown = f"{name} {number} {fault}"
            before = number
            continue
        before = number
        if number in (URI_PATH, URI_QUERY, LOCATION_PATH):
            try:
                text = value.decode()
            except UnicodeDecodeError:
                # A text option that is no UTF-8 cannot be understood; for a critical one that means 4.02.
                if number & 1 and view.unknown is None:
                    view.unknown = f"{rule.name} {number} is not UTF-8"
                continue
            (path if number == URI_PATH else query if number == URI_QUERY else location).append(text)
        elif number == CONTENT_FORMAT:
            view.content_format = int.from_bytes(value, "big")
        elif number == ACCEPT:
            view.accept = int.from_bytes(value, "big")
        elif number == OBSERVE:
            view.observe = int.from_bytes(value, "big")
        elif number in (BLOCK1, BLOCK2):
            block = decode_block(value, bert)
            if block is None:
                view.refusal = view.refusal or (codes.BAD_REQUEST, f"{rule.name} with the reserved size 7")
            elif number == BLOCK1:
                view.block1 = block
            else:
                view.block2 = block
        elif number == SIZE1:
            view.size1 = int.from_bytes(value, "big")
        elif number == SIZE2:
            view.size2 = int.from_bytes(value, "big")
        elif number == ETAG:
            view.etag = view.etag or value
        elif number == ECHO:
            view.echo = value
        elif number == REQUEST_TAG:
            view.request_tag = (*view.request_tag, value)
        elif number in (PROXY_URI, PROXY_SCHEME):
            view.refusal = view.refusal or (codes.PROXYING_NOT_SUPPORTED, "not a proxy")
        elif number in (IF_MATCH, IF_NONE_MATCH):
            # Contract 1.1: LwM2M has no use for preconditions, but ignoring one would act against the request.
            view.refusal = view.refusal or (codes.PRECONDITION_FAILED, f"{rule.name} cannot be met")
    if view.unknown is not None:
        view.refusal = (codes.BAD_OPTION, view.unknown)
    if view.oscore is not None:
        view.around = view.refusal
        view.unknown = view.unknown or _PROTECTED[1]
        view.refusal = (codes.BAD_OPTION, view.unknown)
    view.path, view.query, view.location = tuple(path), tuple(query), tuple(location)
    return view


_remember_view = lru_cache(maxsize=4096)(_view)
