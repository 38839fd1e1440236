"""Recognising a message that came before (RFC 7252 §4.5; contract MSG-1 to MSG-3).

Each peer has a ring of whole answers, packed: there is one for every device of a fleet. What the ring had to evict is
remembered as message-ID ranges, which say "perhaps"; a journal behind the engine settles it. All of it is bounded, per
peer and together.
"""

from hashlib import blake2b
from struct import Struct
from typing import Final

from stellwerk.coap.message import Message
from stellwerk.coap.options import OptionView
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S
from stellwerk.coap.peers import Peer
from stellwerk.core.ids import PeerId


def message_receipt(peer: PeerId, datagram: bytes) -> bytes:
    """8 bytes that name this datagram from this peer, the same in every process."""
    return blake2b(f"{peer[1]} {peer[2]} ".encode() + datagram, digest_size=8).digest()


class Inbound:
    """One received CON or NON, and once decided what a duplicate of it gets."""

    __slots__ = (
        "about",
        "acked",
        "body",
        "confirmable",
        "expires",
        "message",
        "mid",
        "next",
        "number",
        "peer",
        "placed",
        "receipt",
        "reply",
        "size",
        "view",
    )

    def __init__(self, peer: Peer, message: Message, receipt: bytes, expires: float, size: int) -> None:
        self.peer = peer
        self.mid = message.mid
        self.receipt = receipt
        self.expires = expires
        self.confirmable = message.type == 0
        self.size = size
        self.acked = False
        self.reply: bytes | None = None
        """What a duplicate is answered with: nothing while undecided, and never anything for a NON."""
        self.number = 0
        self.next: Inbound | None = None
        """The undecided message of this peer that came before."""
        self.placed = False
        """Whether it is among the undecided messages of its peer."""
        self.message: Message | None = message
        """None once decided."""
        self.view: OptionView | None = None
        self.body: bytes | None = None
        """The assembled body, when it came in blocks."""
        self.about: object = None
        """The observe relation that a notification belongs to."""

    @property
    def address(self) -> PeerId:
        """Who receives what an Echo for its sender proves."""
        return self.peer.id


_RANGES_PER_GENERATION: Final = 8


class EvictedMids:
    """Message IDs that may have been seen, as ranges in two generations of one EXCHANGE_LIFETIME each.

    An ID is remembered for at least one lifetime and at most two. When ranges grow too many, the two nearest merge:
    then it says "perhaps" about IDs that never came, which costs a look into the journal and nothing else.
    """

    __slots__ = ("_current", "_previous", "_turned")

    def __init__(self, now: float) -> None:
        self._current: list[tuple[int, int]] = []
        self._previous: list[tuple[int, int]] = []
        self._turned = now

    def __bool__(self) -> bool:
        return bool(self._current or self._previous)

    def turn(self, now: float) -> None:
        """Let generations pass that have served their time."""
        if now - self._turned >= EXCHANGE_LIFETIME_S:
            self._previous = self._current if now - self._turned < 2 * EXCHANGE_LIFETIME_S else []
            self._current = []
            self._turned = now

    def add(self, mid: int, now: float) -> None:
        """Remember ``mid``."""
        if now - self._turned >= EXCHANGE_LIFETIME_S:
            self.turn(now)
        ranges = self._current
        # Nearly every peer counts its IDs up, so nearly every eviction extends the newest range.
        if ranges and ranges[-1][1] + 1 == mid:
            ranges[-1] = (ranges[-1][0], mid)
            return
        for low, high in ranges:
            if low <= mid <= high:
                return
        ranges.append((mid, mid))
        if len(ranges) > _RANGES_PER_GENERATION:
            ordered = sorted(ranges)
            nearest = min(range(len(ordered) - 1), key=lambda at: ordered[at + 1][0] - ordered[at][1])
            merged = (ordered[nearest][0], max(ordered[nearest][1], ordered[nearest + 1][1]))
            self._current = [*ordered[:nearest], *ordered[nearest + 2 :], merged]

    def covers(self, mid: int, now: float) -> bool:
        """Whether ``mid`` may have been seen."""
        if now - self._turned >= EXCHANGE_LIFETIME_S:
            self.turn(now)
        for low, high in self._current:
            if low <= mid <= high:
                return True
        return any(low <= mid <= high for low, high in self._previous)


_RECORD: Final = Struct(">dHI8s")
"""An answer in a ring: when its time is over, message ID, length of the reply, receipt; behind it the reply."""
_NOTHING: Final = b""


class Answers:
    """Undecided messages and rings of all peers, with the bound over all of them.

    ``peer.undecided`` is the newest of a chain; ``peer.ring`` has the records of `_RECORD`, oldest decision first.
    """

    __slots__ = ("_by_size", "_per_peer", "_total", "total")

    def __init__(self, per_peer: int, total: int) -> None:
        self._per_peer = per_peer
        self._total = total
        self.total = 0
        # Peers by how many answers they hold, chained: the noisiest is found without looking at the others.
        self._by_size: list[Peer | None] = [None] * (per_peer + 1)

    def find(self, peer: Peer, receipt: bytes, now: float) -> bytes | None:
        """What a copy of an earlier message gets: its reply, empty where it gets nothing. None: this is no copy.

        RFC 7252 4.5 goes by message ID alone. We compare the bytes: a client that lost its memory starts its IDs anew,
        and its new request must not be answered with what an older one got. (Deviation.)
        """
        waiting = peer.undecided
        while waiting is not None:
            if waiting.receipt == receipt and now < waiting.expires:
                return waiting.reply or _NOTHING
            waiting = waiting.next
        ring = peer.ring
        if ring is None or receipt not in ring:
            return None
        start = 0
        while start < len(ring):
            expires, _, length, kept = _RECORD.unpack_from(ring, start)
            start += _RECORD.size + length
            # The same bytes may have come again after their time.
            if kept == receipt and now < expires:
                return ring[start - length : start]
        return None

    def admit(self, inbound: Inbound) -> Inbound | None:
        """Put a new message among the undecided ones of its peer. Gives the undecided one that it pushed out: whoever
        uses a message ID anew has forgotten what it meant before."""
        peer = inbound.peer
        pushed_out = peer.undecided
        while pushed_out is not None and pushed_out.mid != inbound.mid:
            pushed_out = pushed_out.next
        if pushed_out is not None:
            self._take_out(pushed_out)
        inbound.next, peer.undecided, inbound.placed = peer.undecided, inbound, True
        peer.pending += 1
        return pushed_out

    def decided(self, inbound: Inbound, now: float) -> None:
        """``inbound`` has its answer; the oldest answer of the peer makes room if there are too many."""
        inbound.message = inbound.view = inbound.body = inbound.about = None
        if not inbound.placed:
            return
        self._take_out(inbound)
        peer = inbound.peer
        reply = inbound.reply or _NOTHING
        record = _RECORD.pack(inbound.expires, inbound.mid, len(reply), inbound.receipt) + reply
        ring = peer.ring
        if ring is None:
            peer.ring = record
        elif peer.decided < self._per_peer:
            peer.ring = ring + record
        else:
            peer.ring = self._evict(peer, ring, now) + record
            return
        self._resize(peer, 1)
        if self.total > self._total:
            self._evict_noisiest(now)

    def holds(self, inbound: Inbound) -> bool:
        """Whether the undecided ``inbound`` still has its place: its time is not over, its message ID not used anew."""
        return inbound.placed

    def forget(self, inbound: Inbound) -> None:
        """As if ``inbound``, undecided, had never come: its next copy is a new message."""
        if inbound.placed:
            self._take_out(inbound)
        inbound.message = inbound.view = inbound.body = inbound.about = None

    def expire(self, peer: Peer, now: float) -> list[Inbound]:
        """Drop the messages of ``peer`` whose time is over; gives those among them that were never decided."""
        late: list[Inbound] = []
        waiting = peer.undecided
        while waiting is not None:
            if waiting.expires <= now:
                late.append(waiting)
            waiting = waiting.next
        for inbound in reversed(late):
            self._take_out(inbound)
        ring = peer.ring
        if ring is not None:
            kept, start = [], 0
            while start < len(ring):
                expires, _, length, _ = _RECORD.unpack_from(ring, start)
                end = start + _RECORD.size + length
                if expires > now:
                    kept.append(ring[start:end])
                start = end
            if len(kept) < peer.decided:
                peer.ring = b"".join(kept) or None
                self._resize(peer, len(kept) - peer.decided)
        if peer.evicted is not None:
            peer.evicted.turn(now)
            if not peer.evicted:
                peer.evicted = None
        return late[::-1]

    def _take_out(self, inbound: Inbound) -> None:
        peer = inbound.peer
        if peer.undecided is inbound:
            peer.undecided = inbound.next
        else:
            each = peer.undecided
            while each is not None and each.next is not inbound:
                each = each.next
            if each is not None:
                each.next = inbound.next
        inbound.next = None
        inbound.placed = False
        peer.pending -= 1

    def _resize(self, peer: Peer, change: int) -> None:
        by_size = self._by_size
        if peer.decided:
            before, after = peer.before, peer.after
            if before is None:
                by_size[peer.decided] = after
            else:
                before.after = after
            if after is not None:
                after.before = before
            peer.before = peer.after = None
        peer.decided += change
        self.total += change
        if peer.decided:
            after = peer.after = by_size[peer.decided]
            if after is not None:
                after.before = peer
            by_size[peer.decided] = peer

    def _evict(self, peer: Peer, ring: bytes, now: float) -> bytes:
        """``ring`` without its oldest answer, whose message ID is remembered."""
        expires, mid, length, _ = _RECORD.unpack_from(ring)
        if expires > now:
            if peer.evicted is None:
                peer.evicted = EvictedMids(now)
            peer.evicted.add(mid, now)
        return ring[_RECORD.size + length :]

    def _evict_noisiest(self, now: float) -> None:
        for peer in reversed(self._by_size):
            if peer is not None and peer.ring is not None:
                peer.ring = self._evict(peer, peer.ring, now) or None
                self._resize(peer, -1)
                return
