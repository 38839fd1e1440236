"""CBOR items (RFC 8949): a guarded reader over cbor2 and a writer of the few items LwM2M needs.

cbor2 parses at C speed but offers more than a datagram from a stranger should reach: regular expressions,
MIME messages, references, big numbers, and map keys that an attacker can make collide. Every such tag is
answered with an error here, and payloads long enough for the rest to hurt are walked first by `check_shape`.
"""

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import cbor2

from stellwerk.lwm2m.formats.errors import LimitExceeded, Malformed
from stellwerk.lwm2m.formats.limits import MAX_CBOR_DEPTH, MAX_ENTRIES

_NAME: Final = "CBOR"
_MAX_ITEMS: Final = MAX_ENTRIES * 16

# Up to this length a payload of colliding keys or empty containers costs less than a millisecond.
_SHORT: Final = 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _refuse(value: Any, immutable: bool) -> Any:
    raise ValueError("tag not used by LwM2M")


def _date_text(value: Any, immutable: bool) -> int:
    """Tag 0: a date and time as text, as whole seconds since 1970."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None or moment.microsecond:
        raise ValueError("not a point in time of whole seconds")
    return round((moment - _EPOCH).total_seconds())


def _epoch_number(value: Any, immutable: bool) -> int | float:
    """Tag 1: seconds since 1970. cbor2 would make a datetime, which knows neither large nor far negative times."""
    if type(value) is not int and type(value) is not float:
        raise ValueError("tag 1 around something that is no number")
    return value


def _decimal_fraction(value: Any, immutable: bool) -> Decimal:
    """Tag 4: [exponent, mantissa]. The exponent is the peer's, so bound it to what a float can hold."""
    exponent, mantissa = value
    if type(exponent) is not int or type(mantissa) is not int or not -400 <= exponent <= 400:
        raise ValueError("decimal fraction out of range")
    return Decimal(mantissa).scaleb(exponent)


_TAGS: Final[dict[int, Callable[[Any, bool], Any]]] = {
    **dict.fromkeys(
        (2, 3, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000),
        _refuse,
    ),
    0: _date_text,
    1: _epoch_number,
    4: _decimal_fraction,
}

_loads = cbor2.loads


def load(payload: bytes, *, array_keys: bool = False) -> Any:
    """The one CBOR item that ``payload`` is. Times arrive as numbers, decimal fractions as Decimal.

    ``array_keys``: maps may have keys that are arrays of identifiers, which arrive as tuples.
    Raises `Malformed` and `LimitExceeded`.
    """
    # In an unfinished array, what follows the item becomes a second element instead of being overlooked,
    # unless the payload itself can close the array; a break needs the byte FF, so then the shape is checked.
    if len(payload) > _SHORT or b"\xff" in payload:
        check_shape(payload, array_keys=array_keys)
    try:
        items = _loads(
            b"\x9f" + payload + b"\xff", semantic_decoders=_TAGS, max_depth=MAX_CBOR_DEPTH, allow_duplicate_keys=False
        )
    except (cbor2.CBORError, ArithmeticError, ValueError, TypeError, RecursionError) as error:
        # Where the grammar is broken, the walk knows the place; what it has no objection to is a matter of meaning.
        check_shape(payload, array_keys=array_keys)
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise Malformed(_NAME, f"{error}{cause}"[:200]) from None
    if len(items) != 1:
        raise Malformed(_NAME, "bytes after the item" if items else "no item")
    return items[0]


def check_shape(payload: bytes, *, array_keys: bool = False) -> None:
    """Walks ``payload`` without building anything: exactly one well-formed item, map keys only integers and text
    (and arrays of text and 16-bit numbers with ``array_keys``), nesting and number of
    items bounded. Raises `Malformed` and `LimitExceeded`."""
    end = len(payload)
    offset = items = 0
    open_items: list[list[int]] = [[1, 0]]
    # Each frame is [items still to come, kind]; -1 items is an indefinite length. Kinds: 0 array or tag, 1 map
    # at a key, 2 map at a value, 3 array that is a key, 4 + major type for the chunks of a string.
    while open_items:
        frame = open_items[-1]
        if frame[0] == 0:
            open_items.pop()
            continue
        if offset >= end:
            raise Malformed(_NAME, "ends in the middle of an item", offset)
        start, head = offset, payload[offset]
        offset += 1
        if head == 0xFF:
            if frame[0] != -1 or frame[1] == 2:
                raise Malformed(_NAME, "break outside of an indefinite length", start)
            open_items.pop()
            continue
        items += 1
        if items > _MAX_ITEMS:
            raise LimitExceeded("CBOR items", _MAX_ITEMS)
        major, info = head >> 5, head & 31
        if info < 24:
            argument = info
        elif info < 28:
            width = 1 << (info - 24)
            if end - offset < width:
                raise Malformed(_NAME, "ends in the middle of an item", start)
            argument = int.from_bytes(payload[offset : offset + width], "big")
            offset += width
        elif info == 31 and 2 <= major <= 5:
            argument = -1
        else:
            raise Malformed(_NAME, f"reserved initial byte {head:#04x}", start)
        if frame[1] >= 4 and (major != frame[1] - 4 or argument < 0):
            raise Malformed(_NAME, "chunk of another kind", start)
        is_key = frame[1] == 1
        if is_key and major not in (0, 1, 3) and not (array_keys and major == 4):
            raise Malformed(_NAME, "map key is neither integer nor text", start)
        # Short numbers leave no room to search for tuples that hash alike.
        if frame[1] == 3 and major != 3 and (major != 0 or argument > 0xFFFF):
            raise Malformed(_NAME, "map key has something other than identifiers", start)
        if frame[1] in (1, 2):
            frame[1] = 3 - frame[1]
        if frame[0] > 0:
            frame[0] -= 1
        if major in (2, 3):
            if argument < 0:
                open_items.append([-1, 4 + major])
            elif argument > end - offset:
                raise Malformed(_NAME, "string runs past the end", start)
            else:
                offset += argument
        elif major in (4, 5):
            if argument > end - offset:
                raise Malformed(_NAME, "more items announced than bytes left", start)
            kind = 3 if is_key else major - 4
            open_items.append([argument * (major - 3) if argument > 0 else argument, kind])
        elif major == 6:
            open_items.append([1, 0])
        if len(open_items) > MAX_CBOR_DEPTH + 2:
            raise LimitExceeded("levels of CBOR nesting", MAX_CBOR_DEPTH)
    if offset != end:
        raise Malformed(_NAME, "bytes after the item", offset)


# -- writing: shortest forms, in the order given (RFC 8949 4.1) --


def write_head(major: int, argument: int) -> bytes:
    """The initial byte and its argument in the shortest form."""
    lead = major << 5
    if argument < 24:
        return bytes((lead | argument,))
    if argument < 0x100:
        return bytes((lead | 24, argument))
    if argument < 0x10000:
        return struct.pack(">BH", lead | 25, argument)
    if argument < 0x100000000:
        return struct.pack(">BI", lead | 26, argument)
    return struct.pack(">BQ", lead | 27, argument)


def write_integer(number: int) -> bytes:
    return write_head(0, number) if number >= 0 else write_head(1, -1 - number)


def write_text(text: str) -> bytes:
    data = text.encode()
    return write_head(3, len(data)) + data


def write_bytes(data: bytes) -> bytes:
    return write_head(2, len(data)) + data


def write_float(number: float) -> bytes:
    """The narrowest of half, single and double precision that keeps ``number`` exactly."""
    if number != number:
        return b"\xf9\x7e\x00"
    for lead, layout in ((b"\xf9", ">e"), (b"\xfa", ">f")):
        try:
            packed = struct.pack(layout, number)
        except OverflowError:
            continue
        if struct.unpack(layout, packed)[0] == number:
            return lead + packed
    return b"\xfb" + struct.pack(">d", number)


def write_value(value: bool | int | float | str | bytes) -> bytes:
    """One value as the item of its Python type."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return write_integer(value)
    if isinstance(value, float):
        return write_float(value)
    if isinstance(value, str):
        return write_text(value)
    return write_bytes(value)
