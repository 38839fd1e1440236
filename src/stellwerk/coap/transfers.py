"""Block-wise bodies as a client (RFC 7959; contract BLK-2 to BLK-9): what to send next, given what came."""

from enum import Enum, auto

from stellwerk.coap import codes
from stellwerk.coap.freshness import RequestTags
from stellwerk.coap.message import Message
from stellwerk.coap.options import (
    BLOCK1,
    BLOCK2,
    REQUEST_TAG,
    SIZE1,
    Block,
    Cut,
    OptionView,
    encode_block,
    encode_uint,
    unit_of,
)


class Step(Enum):
    """What an answer means for a transfer."""

    SEND = auto()
    """Send the next block, or ask for it."""
    DONE = auto()
    """This direction is over; the answer stands."""
    BROKEN = auto()
    """The peer broke the rules; ``fault`` says how."""


class Upload:
    """A request body on its way, block by block (Block1), as ``cut`` says; ``exponent`` if the peer wants them smaller
    from the start. ``tags`` gives each attempt a Request-Tag."""

    __slots__ = ("_body", "_cut", "_exponent", "_offset", "_restarted", "_tag", "_tags", "fault")

    def __init__(self, body: bytes, cut: Cut, exponent: int | None = None, tags: RequestTags | None = None) -> None:
        self._body = body
        self._cut = cut
        self._exponent = cut.exponent if exponent is None else min(exponent, cut.exponent)
        self._offset = 0
        self._restarted = False
        self._tags = tags
        self._tag = tags.draw() if tags is not None else b""
        self.fault = ""

    def part(self) -> tuple[list[tuple[int, bytes]], bytes]:
        """Options and payload of the block to send now."""
        size = self._cut.size_at(self._exponent)
        more = self._offset + size < len(self._body)
        options = [(BLOCK1, encode_block(self._offset // unit_of(self._exponent), more, self._exponent))]
        if self._offset == 0:
            options.append((SIZE1, encode_uint(len(self._body))))
        if self._tag:
            options.append((REQUEST_TAG, self._tag))
        return options, self._body[self._offset : self._offset + size]

    def take(self, code: int, view: OptionView) -> Step:
        """The answer to the last part."""
        size = self._cut.size_at(self._exponent)
        last = self._offset + size >= len(self._body)
        block = view.block1
        if code == codes.REQUEST_ENTITY_INCOMPLETE and not self._restarted and self._offset:
            # BLK-5: the receiver lost its state; once, from the beginning.
            self._restarted = True
            self._restart()
            return Step.SEND
        if code == codes.REQUEST_ENTITY_TOO_LARGE and block is not None and block.exponent < self._exponent:
            # BLK-6: try smaller before failing. The exponent only shrinks, so this ends.
            self._exponent = block.exponent
            self._restart()
            return Step.SEND
        if not codes.is_success(code):
            return Step.DONE
        if last:
            if code == codes.CONTINUE:
                return self._broken("2.31 to the last block")
            return Step.DONE
        if block is None and code != codes.CONTINUE:
            # The server took one block for the whole body.
            return self._broken("the peer ignores Block1")
        if block is not None:
            if block.number != self._offset // unit_of(self._exponent):
                return self._broken("an answer to another block")
            # BLK-4: a smaller size from here on; the offset in bytes stays, so the number grows accordingly.
            self._offset += size
            self._exponent = min(self._exponent, block.exponent)
        else:
            self._offset += size
        return Step.SEND

    def _restart(self) -> None:
        self._offset = 0
        if self._tags is not None:
            self._tag = self._tags.draw()

    def _broken(self, fault: str) -> Step:
        self.fault = fault
        return Step.BROKEN


class Download:
    """An answer body on its way, block by block (Block2). ``first`` is the answer with block 0."""

    __slots__ = ("_etag", "_exponent", "_limit", "_restarted", "data", "fault", "first", "too_large")

    def __init__(self, exponent: int, limit: int) -> None:
        self._exponent = exponent
        self._limit = limit
        self._restarted = False
        self._etag: bytes | None = None
        self.data = bytearray()
        self.first: Message | None = None
        self.fault = ""
        self.too_large = False

    def option(self) -> tuple[int, bytes]:
        """The Block2 option of the request for the next block."""
        return BLOCK2, encode_block(len(self.data) // unit_of(self._exponent), False, self._exponent)

    def take(self, message: Message, view: OptionView, block: Block | None) -> Step:
        """The next answer, of class 2."""
        if block is None:
            return self._broken("a block without Block2")
        if self.first is None:
            if block.number:
                return self._broken("an answer that begins in the middle")
            self.first = message
            self._etag = view.etag
        elif view.etag != self._etag or block.offset != len(self.data):
            # BLK-8: the body changed under us; once, from the beginning.
            if self._restarted:
                return self._broken("the body keeps changing")
            self._restarted = True
            self.first = None
            self.data.clear()
            if block.number == 0:
                return self.take(message, view, block)
            return Step.SEND
        if block.more and not block.is_filled_by(len(message.payload)):
            return self._broken("a block that is not full")
        if len(self.data) + len(message.payload) > self._limit:
            self.too_large = True
            return self._broken("response_body_bytes")
        self.data += message.payload
        self._exponent = min(self._exponent, block.exponent)
        return Step.SEND if block.more else Step.DONE

    def _broken(self, fault: str) -> Step:
        self.fault = fault
        return Step.BROKEN
