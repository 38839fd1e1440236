"""Recognising a message that came before (RFC 7252 §4.5; contract MSG-1 to MSG-3).

Each peer has a ring of whole answers. What the ring had to evict is remembered as message-ID ranges, which say
"perhaps"; a journal behind the engine settles it. All of it is bounded, per peer and together.
"""

from collections import OrderedDict
from hashlib import blake2b
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
        "number",
        "peer",
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
        self.message: Message | None = message
        """None once decided."""
        self.view: OptionView | None = None
        self.body: bytes | None = None
        """The assembled body, when it came in blocks."""
        self.about: object = None
        """The observe relation that a notification belongs to."""


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


class Answers:
    """The rings of all peers, with the bound over all of them."""

    __slots__ = ("_by_size", "_per_peer", "_total", "total")

    def __init__(self, per_peer: int, total: int) -> None:
        self._per_peer = per_peer
        self._total = total
        self.total = 0
        # Peers by how many answers they hold: the noisiest is found without looking at the others.
        # (Ordered dicts, since only their oldest key is found in constant time after many deletions.)
        self._by_size: list[OrderedDict[Peer, None]] = [OrderedDict() for _ in range(per_peer + 1)]

    def admit(self, inbound: Inbound) -> Inbound | None:
        """Put a new message in its peer's ring, undecided. Gives an undecided one that it pushed out."""
        undecided = None
        peer = inbound.peer
        ring = peer.ring
        if ring is None:
            ring = peer.ring = {}
        else:
            # RFC 7252 4.5 goes by message ID alone. We also compare the bytes: a client that lost its memory starts
            # its IDs anew, and its new request must not be answered with what an older one got. (Deviation.)
            old = ring.pop(inbound.mid, None)
            if old is not None:
                self._left(old)
                if old.message is not None:
                    undecided = old
        ring[inbound.mid] = inbound
        peer.pending += 1
        return undecided

    def decided(self, inbound: Inbound, now: float) -> None:
        """``inbound`` has its answer; the oldest answer of the peer makes room if there are too many."""
        peer = inbound.peer
        inbound.message = inbound.view = inbound.body = inbound.about = None
        ring = peer.ring
        if ring is None or ring.get(inbound.mid) is not inbound:
            return
        peer.pending -= 1
        if peer.decided >= self._per_peer:
            peer.decided += 1
            self._evict(peer, now)
            peer.decided -= 1
            return
        self._resize(peer, 1)
        if self.total > self._total:
            self._evict_noisiest(now)

    def holds(self, inbound: Inbound) -> bool:
        """Whether ``inbound`` still has its place: neither its time is over nor its message ID used anew."""
        ring = inbound.peer.ring
        return ring is not None and ring.get(inbound.mid) is inbound

    def forget(self, inbound: Inbound) -> None:
        """As if ``inbound`` had never come: its next copy is a new message."""
        ring = inbound.peer.ring
        if ring is not None and ring.get(inbound.mid) is inbound:
            del ring[inbound.mid]
            self._left(inbound)
        inbound.message = inbound.view = inbound.body = inbound.about = None

    def expire(self, peer: Peer, now: float) -> list[Inbound]:
        """Drop the messages of ``peer`` whose time is over; gives those among them that were never decided."""
        ring = peer.ring
        undecided: list[Inbound] = []
        if ring is not None:
            for inbound in [item for item in ring.values() if item.expires <= now]:
                del ring[inbound.mid]
                self._left(inbound)
                if inbound.message is not None:
                    undecided.append(inbound)
            if not ring:
                peer.ring = None
        if peer.evicted is not None:
            peer.evicted.turn(now)
            if not peer.evicted:
                peer.evicted = None
        return undecided

    def _left(self, inbound: Inbound) -> None:
        if inbound.message is None:
            self._resize(inbound.peer, -1)
        else:
            inbound.peer.pending -= 1

    def _resize(self, peer: Peer, change: int) -> None:
        by_size = self._by_size
        if peer.decided:
            del by_size[peer.decided][peer]
        peer.decided += change
        self.total += change
        if peer.decided:
            by_size[peer.decided][peer] = None

    def _evict(self, peer: Peer, now: float) -> None:
        ring = peer.ring
        assert ring is not None
        for mid, inbound in ring.items():
            if inbound.message is None:
                del ring[mid]
                if inbound.expires > now:
                    if peer.evicted is None:
                        peer.evicted = EvictedMids(now)
                    peer.evicted.add(mid, now)
                return

    def _evict_noisiest(self, now: float) -> None:
        for peers in reversed(self._by_size):
            if peers:
                peer = next(iter(peers))
                self._evict(peer, now)
                self._resize(peer, -1)
                return
