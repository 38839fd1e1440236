"""Messages in and out of their protected form (RFC 8613 §4, §5, §8).

Code, most options and payload of a message become the payload of another one, whose code says nothing and whose
options say what the way needs to know. Options of class U stay outside alone; Observe stands on both sides; all others
are inside, and what stands outside of them means nothing.
"""

from typing import Final, NamedTuple

from stellwerk.coap import codes
from stellwerk.coap.message import BrokenOptions, Options, decode_section, encode_options
from stellwerk.coap.options import OBSERVE, OSCORE, OUTSIDE, sort_options
from stellwerk.coap.oscore.context import Keys, Unverified
from stellwerk.coap.oscore.option import OscoreOption, encode_number, encode_option

_SHORT_VALUE: Final = 13
"""Of an option whose length stands in its first byte."""


class Binding(NamedTuple):
    """The request that a response is bound to: what its sender sends as, its Partial IV and its nonce."""

    kid: bytes
    piv: bytes
    nonce: bytes


class Sealed(NamedTuple):
    """A protected message: what stands outside, and the ciphertext."""

    code: int
    options: bytes
    payload: bytes


class Opened(NamedTuple):
    """What a protected message held, with the options of the outside that count."""

    code: int
    options: Options
    payload: bytes


def seal_request(
    keys: Keys, number: int, code: int, options: Options, payload: bytes, kid_context: bytes | None
) -> tuple[Sealed, Binding]:
    """A request of ours with our ``number``, and what its answers are bound to. ``kid_context``: None to name none."""
    piv = encode_number(number)
    binding = bind(keys, keys.sender_id, piv)
    outer, inner, observed = _part(options)
    plain = _plain(code, inner, payload)
    value = encode_option(OscoreOption(piv, keys.sender_id, kid_context))
    sealed = keys.seal(binding.nonce, plain, keys.associated_data(binding.kid, piv))
    # RFC 8613 4.2: a method that caches and proxies treat as the real one would need.
    outer_code = codes.POST if observed is None else codes.FETCH
    return Sealed(outer_code, _section(outer, observed, value), sealed), binding


def seal_response(
    keys: Keys,
    binding: Binding,
    number: int | None,
    code: int,
    options: Options,
    payload: bytes,
    kid_context: bytes | None = None,
) -> Sealed:
    """An answer or notification of ours to the request of ``binding``. ``number`` None: with the request's nonce, which
    serves for one answer only."""
    outer, inner, observed = _part(options)
    if observed is not None:
        # RFC 8613 4.1.3.5.2: inside it is empty, since the Partial IV says the order.
        inner = tuple((each, b"" if each == OBSERVE else value) for each, value in inner)
    piv, value = None, b""
    if number is not None or kid_context is not None:
        piv = None if number is None else encode_number(number)
        value = encode_option(OscoreOption(piv, None, kid_context))
    nonce = binding.nonce if piv is None else keys.nonce(keys.sender_id, piv)
    sealed = keys.seal(nonce, _plain(code, inner, payload), keys.associated_data(binding.kid, binding.piv))
    outer_code = codes.CHANGED if observed is None else codes.CONTENT
    return Sealed(outer_code, _section(outer, observed, value), sealed)


def open_request(keys: Keys, option: OscoreOption, outer: Options, payload: bytes) -> tuple[Opened, Binding]:
    """A request of the other end, which names its kid and Partial IV, and what our answer is bound to. Raises
    `Unverified`."""
    assert option.kid is not None
    assert option.piv is not None
    binding = bind(keys, option.kid, option.piv)
    plain = keys.open(binding.nonce, payload, keys.associated_data(binding.kid, binding.piv))
    opened = _read(plain, outer)
    if not codes.is_request(opened.code):
        raise Unverified(f"code {codes.dotted(opened.code)} inside a request")
    return opened, binding


def open_response(keys: Keys, binding: Binding, option: OscoreOption, outer: Options, payload: bytes) -> Opened:
    """An answer of the other end to our request of ``binding``; Observe has the lowest 24 bits of its number. Raises
    `Unverified`."""
    nonce = binding.nonce if option.piv is None else keys.nonce(keys.recipient_id, option.piv)
    plain = keys.open(nonce, payload, keys.associated_data(binding.kid, binding.piv))
    opened = _read(plain, outer)
    if not codes.is_response(opened.code):
        raise Unverified(f"code {codes.dotted(opened.code)} inside a response")
    if any(number == OBSERVE for number, _ in opened.options):
        value = (option.piv or b"")[-3:].lstrip(b"\0")
        ordered = tuple((number, value if number == OBSERVE else held) for number, held in opened.options)
        opened = opened._replace(options=ordered)
    return opened


def bind(keys: Keys, kid: bytes, piv: bytes) -> Binding:
    """What answers to the request with ``piv`` of the end that sends as ``kid`` are bound to."""
    return Binding(kid, piv, keys.nonce(kid, piv))


def read_section(options: bytes) -> Options:
    """Options that we encoded ourselves."""
    return decode_section(options, 0, options.find(255))[0]


def _part(options: Options) -> tuple[list[tuple[int, bytes]], Options, bytes | None]:
    """The options outside, those inside, and the value of Observe."""
    outer: list[tuple[int, bytes]] = []
    observed = None
    for option in options:
        if option[0] in OUTSIDE:
            outer.append(option)
        elif option[0] == OBSERVE and observed is None:
            observed = option[1]
    inner = tuple(option for option in options if option[0] not in OUTSIDE) if outer else options
    return outer, inner, observed


def _section(outer: list[tuple[int, bytes]], observed: bytes | None, value: bytes) -> bytes:
    """The options outside, with Observe if it is ``observed`` and the OSCORE option, whose ``value`` is no other's."""
    if not outer and observed is None and len(value) < _SHORT_VALUE:
        return bytes((OSCORE << 4 | len(value),)) + value
    outer.append((OSCORE, value))
    if observed is not None:
        outer.append((OBSERVE, observed))
    return encode_options(sort_options(outer))


def _plain(code: int, options: Options, payload: bytes) -> bytes:
    head = bytes((code,)) + encode_options(options)
    return head + b"\xff" + payload if payload else head


def _read(plain: bytes, outer: Options) -> Opened:
    if not plain:
        raise Unverified("there is no code inside")
    try:
        options, payload = decode_section(plain, 1, plain.find(255, 1))
    except BrokenOptions as error:
        raise Unverified(str(error)) from None
    for number, _ in (*outer, *options):
        if number in OUTSIDE:
            # What belongs outside is taken from there alone.
            kept = [option for option in outer if option[0] in OUTSIDE]
            options = sort_options([*kept, *(option for option in options if option[0] not in OUTSIDE)])
            break
    return Opened(plain[0], options, payload)
