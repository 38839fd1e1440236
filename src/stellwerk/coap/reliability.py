"""The message layer (RFC 7252 §4): message IDs, acknowledgements, retransmission, reset, duplicates.

It knows nothing of requests and answers. What it sends reliably has an `Owner`, who hears what became of it; what it
receives becomes an `Inbound`, which stays undecided until the exchange layer answers, acknowledges or drops it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.duplicates import Answers, EvictedMids, Inbound, message_receipt
from stellwerk.coap.layer import USUAL_ANSWER, MessageLayer, Owner, Sending
from stellwerk.coap.message import ACK, CON, NON, RST, Message, encode_empty, encode_parts
from stellwerk.coap.options import Cut, cut_datagrams
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S, NON_LIFETIME_S, Limits, Parameters
from stellwerk.coap.peers import Peer, PeerTable
from stellwerk.coap.probes import ADDRESS_PROBE, ReachProbe
from stellwerk.coap.transmission import Transmission
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed

_MOST_CREDIT = 8_192
_BESIDE_PAYLOAD: Final = 128
"""Header, token and options of a message with a block: a long path, and all that goes with it."""
MOST_GUESSES: Final = 16
"""Acknowledgements and resets of what an unproven address was never sent. A message ID has 16 bits: after so many of
them it proves nothing there any more, and only an Echo or an answer with its token does."""
_FORGOTTEN_CREDIT = 40
"""What the shortest Register pays for beside its own answer: the credit of an address whose record is forgotten."""


class _EmptyAck(Timed):
    """The empty ACK of a request from a peer with its own ``separate_after_s``."""

    __slots__ = ("_inbound", "_layer")

    def __init__(self, layer: "DatagramLayer", inbound: Inbound) -> None:
        super().__init__()
        self._layer = layer
        self._inbound = inbound

    def fire(self, now: float) -> None:
        """Still undecided: acknowledge."""
        if self._inbound.message is not None:
            self._layer.acknowledge(self._inbound)


class SeparateAnswer:
    """The owner of a separate CON response. Its fate is counted, and requests may wait for its end."""

    def __init__(self, layer: "DatagramLayer", peer: Peer) -> None:
        self._layer = layer
        self._peer = peer

    def acknowledged(self, now: float) -> None:
        """The answer arrived."""
        self._layer.answer_ended(self._peer, now)

    def reset(self, now: float) -> None:
        """The client has forgotten its request."""
        self._layer.refuse(self._peer.id, "answer_reset", "a separate answer was reset")
        self._layer.answer_ended(self._peer, now)

    def unacknowledged(self, now: float) -> None:
        """The client is gone."""
        self._layer.refuse(self._peer.id, "answer_unacknowledged", "a separate answer was never acknowledged")
        self._layer.answer_ended(self._peer, now)

    def refused(self, bound: str, now: float) -> None:
        """Answers are cut to fit."""


class DatagramLayer(MessageLayer):
    """All message state of one engine over UDP."""

    answers: Answers
    peers: PeerTable

    def __init__(
        self,
        entropy: Entropy,
        limits: Limits,
        parameters: Parameters,
        ask_until: float | None,
        verified: bool = False,
    ) -> None:
        super().__init__(entropy, limits, parameters)
        self.room: Callable[[PeerId], int] | None = None
        """How many bytes a message to a peer may have; None: as many as one likes."""
        self.ask_until = ask_until
        self.peers = PeerTable(limits.peers_total, verified)
        self.answers = Answers(limits.ring_per_peer, limits.answers_total)
        self.abandon: Callable[[int], None] = lambda exchange: None
        """Told the number of a message that nobody needs to decide any more."""
        # Requests in the order in which their empty ACK falls due; one lifetime for nearly all, so no heap.
        self._undecided: deque[tuple[float, Inbound]] = deque()

    # --- receiving -----------------------------------------------------------------------------------------------

    def admit(self, peer: Peer, message: Message, datagram: bytes, now: float) -> Inbound | None:
        """The record of a CON or NON that must be decided; None for a duplicate, which is dealt with here."""
        receipt = message_receipt(peer.id, datagram)
        reply = self.answers.find(peer, receipt, now)
        if reply is not None:
            self.duplicates += 1
            # Undecided and non-confirmable duplicates have no reply: swallowed.
            if reply:
                self.datagrams.append((peer.id, reply))
                peer.credit -= len(reply)
            return None
        if peer.pending >= self.limits.pending_per_peer:
            self.refuse(peer.id, "pending_per_peer", "too many undecided messages")
            return None
        lifetime = EXCHANGE_LIFETIME_S if message.type == CON else NON_LIFETIME_S
        inbound = Inbound(peer, message, receipt, now + lifetime, len(datagram))
        self.exchanges += 1
        inbound.number = self.exchanges
        pushed_out = self.answers.admit(inbound)
        if pushed_out is not None:
            # Whoever sent it has forgotten it, since it uses the message ID anew.
            self.abandon(pushed_out.number)
        return inbound

    def may_be_old(self, inbound: Inbound, now: float) -> bool:
        """Whether a message that looks new may have been decided before: before a start, or before its eviction."""
        if self.ask_until is not None:
            if now < self.ask_until:
                return True
            self.ask_until = None
        evicted: EvictedMids | None = inbound.peer.evicted
        return evicted is not None and evicted.covers(inbound.mid, now)

    def expect_answer(self, inbound: Inbound, now: float) -> None:
        """Send the empty ACK if the request is still undecided after ``separate_after_s`` (MSG-5)."""
        if not inbound.confirmable:
            return
        own = inbound.peer.parameters
        if own is not None and own.separate_after_s != self.parameters.separate_after_s:
            self.timers.arm(_EmptyAck(self, inbound), now + own.separate_after_s)
        else:
            self._undecided.append((now + self.parameters.separate_after_s, inbound))

    def acknowledge(self, inbound: Inbound) -> None:
        """The empty ACK of a confirmable message, which is also what its duplicates get."""
        if inbound.confirmable and not inbound.acked:
            inbound.acked = True
            inbound.reply = encode_empty(ACK, inbound.mid)
            self.datagrams.append((inbound.peer.id, inbound.reply))
            inbound.peer.credit -= len(inbound.reply)

    def reject(self, inbound: Inbound, now: float) -> None:
        """Refuse a message with RST if it is confirmable, or a notification, whose sender may send no other kind for a
        day (RFC 7641 §3.6); its duplicates get the same."""
        if (inbound.confirmable or _is_notification(inbound)) and not inbound.acked:
            inbound.reply = encode_empty(RST, inbound.mid)
            self.datagrams.append((inbound.peer.id, inbound.reply))
            inbound.peer.credit -= len(inbound.reply)
        self.answers.decided(inbound, now)

    def send_reset(self, peer: PeerId, mid: int) -> None:
        """A RST for a message that leaves no trace here: a ping, or bytes that are no message."""
        self.datagrams.append((peer, encode_empty(RST, mid)))

    # --- sending -------------------------------------------------------------------------------------------------

    def cut_for(self, peer: Peer) -> Cut:
        """How bodies are cut for ``peer``: one block of its size at a time."""
        size = (peer.parameters or self.parameters).block_size
        if self.room is not None:
            size = min(size, self.room(peer.id) - _BESIDE_PAYLOAD)
        return cut_datagrams(size)

    def answer(self, inbound: Inbound, code: int, options: bytes, payload: bytes, now: float) -> None:
        """Send the answer to a request: in its acknowledgement, or separately if that has left."""
        peer, message = inbound.peer, inbound.message
        assert message is not None
        if not inbound.acked and inbound.confirmable:
            inbound.reply = encode_parts(ACK, code, inbound.mid, message.token, options, payload)
            self.datagrams.append((peer.id, inbound.reply))
        elif not inbound.confirmable:
            self.send_non_confirmable(peer, code, message.token, options, payload)
        else:
            owner = SeparateAnswer(self, peer)
            sending = self.send_confirmable(peer, code, message.token, options, payload, owner, now)
            if not peer.verified:
                # Repeated only as far as the question's bytes pay for it.
                sending.budget = self.limits.amplification * inbound.size - 4 - len(sending.datagram)
        self.answers.decided(inbound, now)

    def has_answers_under_way(self, peer: Peer) -> bool:
        """Whether a separate answer to ``peer`` is not acknowledged yet."""
        return peer.sent is not None and any(isinstance(each.owner, SeparateAnswer) for each in peer.sent.values())

    def peer_for_request(self, id: PeerId, once: bool, now: float) -> Peer | None:
        """Whom a request of ours goes to, None when there are too many. ``once``: the address is not proven."""
        peer = self.peers.find(id)
        if peer is None:
            peer = self.peers.find_or_add(id, now)
            if peer is not None and once:
                peer.credit = _FORGOTTEN_CREDIT
        return peer

    def take_mid(self, peer: Peer) -> int:
        """The next message ID for ``peer``: counted up from a random start (RFC 7252 §4.4)."""
        mid = peer.next_mid
        if mid < 0:
            mid = int.from_bytes(self.entropy.take(2), "big")
        sent = peer.sent
        if sent:
            while mid in sent:
                mid = mid + 1 & 0xFFFF
        peer.next_mid = mid + 1 & 0xFFFF
        return mid

    def send_confirmable(
        self,
        peer: Peer,
        code: int,
        token: bytes,
        options: bytes,
        payload: bytes,
        owner: Owner,
        now: float,
        once: bool = False,
        ack_timeout_s: float | None = None,
    ) -> Transmission:
        """Send a CON and repeat it until it is acknowledged, reset or given up; ``owner`` hears which. ``once``: to an
        address that is not proven no more goes than its own bytes pay for. ``ack_timeout_s``: instead of the peer's
        ACK_TIMEOUT."""
        datagram = encode_parts(CON, code, self.take_mid(peer), token, options, payload)
        return self._send_reliably(peer, datagram, owner, now, once, ack_timeout_s)

    def _send_reliably(
        self, peer: Peer, datagram: bytes, owner: Owner, now: float, once: bool, ack_timeout_s: float | None = None
    ) -> Transmission:
        mid = datagram[2] << 8 | datagram[3]
        parameters = peer.parameters or self.parameters
        shortest = parameters.ack_timeout_s if ack_timeout_s is None else ack_timeout_s
        # RFC 7252 4.2: the first timeout is drawn once per message; each retry doubles it.
        spread = int.from_bytes(self.entropy.take(2), "big") / 65_535
        timeout = shortest * (1 + (parameters.ack_random_factor - 1) * spread)
        sending = Transmission(self, peer, mid, datagram, owner, timeout, parameters.max_retransmit, now, shortest)
        if peer.sent is None:
            peer.sent = {}
        peer.sent[mid] = sending
        sending.once = once
        self.timers.arm(sending, now + timeout)
        if once:
            self.send_paid(sending, now)
        else:
            self.datagrams.append((peer.id, datagram))
            if not peer.verified:
                peer.credit -= len(datagram)
        return sending

    def send_paid(self, sending: Sending, now: float) -> None:
        """Send what its peer has paid for or may have without paying; else ask for a proof with a ping, which every
        client answers (RFC 7252 §4.3), and keep it until then."""
        assert isinstance(sending, Transmission)
        peer, size = sending.peer, len(sending.datagram)
        if peer.verified or self._spendable(peer) >= size:
            # Where it was before it may have waited for a proof; it has left now.
            sending.unpaid = False
            self.datagrams.append((peer.id, sending.datagram))
            if not peer.verified:
                peer.credit -= size
            return
        self._keep_until_proven(sending, now)

    def _keep_until_proven(self, sending: Transmission, now: float) -> None:
        sending.unpaid = True
        peer = sending.peer
        if peer.sent is not None and any(each.owner is ADDRESS_PROBE for each in peer.sent.values()):
            return
        ping = encode_empty(CON, self.take_mid(peer))
        if self._spendable(peer) >= len(ping):
            self._send_reliably(peer, ping, ADDRESS_PROBE, now, True)

    def _spendable(self, peer: Peer) -> int:
        """What may go to an unverified peer unasked: its credit without the usual answers that we still owe."""
        owed = 0
        inbound = peer.undecided
        while inbound is not None:
            owed += self._owed(inbound)
            inbound = inbound.next
        return peer.credit - owed

    def _owed(self, inbound: Inbound) -> int:
        return min(self.limits.amplification * inbound.size, USUAL_ANSWER)

    def probe(self, peer: Peer, now: float) -> None:
        """Ask ``peer`` for a reaction from where it is now; a probe of where it was says nothing any more."""
        if peer.sent is not None:
            for each in [each for each in peer.sent.values() if isinstance(each.owner, ReachProbe)]:
                self.stop(each)
        ping = encode_empty(CON, self.take_mid(peer))
        self._send_reliably(peer, ping, ReachProbe(self, peer), now, False)

    def room_for_answer(self, inbound: Inbound) -> int:
        """The largest answer that an unverified peer may get, in bytes: three times its request, or less where other
        datagrams went there on its account; always enough for a usual one."""
        room = min(
            self.limits.amplification * inbound.size, max(0, self._spendable(inbound.peer)) + self._owed(inbound)
        )
        return room - 4 if inbound.acked else room

    def send_non_confirmable(self, peer: Peer, code: int, token: bytes, options: bytes, payload: bytes) -> int:
        """Send a NON once. Gives its message ID."""
        mid = self.take_mid(peer)
        self.datagrams.append((peer.id, encode_parts(NON, code, mid, token, options, payload)))
        return mid

    def retransmit(self, sending: Transmission, now: float) -> None:
        """One timeout of ``sending`` is over: repeat it with the doubled timeout, or give up."""
        if sending.left == 0:
            self.stop(sending)
            sending.owner.unacknowledged(now)
            return
        sending.left -= 1
        sending.timeout *= 2
        if sending.owed or not sending.held:
            sending.owed = False
            self._repeat(sending, now)
        self.timers.arm(sending, now + sending.timeout)

    def repeat(self, sending: Sending, now: float) -> None:
        """The peer is heard again: repeat ``sending`` now, and by its timers from here on."""
        assert isinstance(sending, Transmission)
        sending.held = False
        if now - sending.last_sent < sending.ack_timeout_s:
            sending.owed = True
        elif now - sending.started < EXCHANGE_LIFETIME_S:
            # RFC 7252 4.8.2: later than that, the peer may take the same message ID for a new message.
            self._repeat(sending, now)

    def _repeat(self, sending: Transmission, now: float) -> None:
        peer = sending.peer
        size = len(sending.datagram)
        # A bounded transmission still waits its full time for an answer; only what goes beyond the bound is left out.
        bounded = sending.once or peer.unproven
        if peer.verified:
            affordable = True
        elif bounded:
            affordable = self._spendable(peer) >= size
        else:
            affordable = sending.budget is None or min(sending.budget, peer.credit) >= size
        if affordable:
            if not peer.verified:
                peer.credit -= size
            if sending.budget is not None:
                sending.budget -= size
            self.retransmissions += not sending.unpaid
            sending.unpaid = False
            sending.last_sent = now
            self.datagrams.append((peer.id, sending.datagram))
        elif bounded and sending.owner is not ADDRESS_PROBE:
            self._keep_until_proven(sending, now)

    def stop(self, sending: Sending) -> None:
        """No more retransmissions: acknowledged by whatever means, or not wanted any more."""
        assert isinstance(sending, Transmission)
        self.timers.cancel(sending)
        peer = sending.peer
        if peer.sent is not None and peer.sent.get(sending.mid) is sending:
            del peer.sent[sending.mid]
            if not peer.sent:
                peer.sent = None

    def take_sent(self, peer: Peer, mid: int) -> Transmission | None:
        """The message of ours that an ACK or RST with ``mid`` is about, stopped; None if there is none."""
        if peer.sent is None:
            return None
        sending = peer.sent.get(mid)
        if sending is None:
            if not peer.verified:
                peer.guesses = min(peer.guesses + 1, MOST_GUESSES)
                self.refuse(peer.id, "guess", "an acknowledgement or reset of what was never sent to this address")
            return None
        self.stop(sending)
        if peer.guesses < MOST_GUESSES:
            self.verify(peer)
        return sending

    def earn(self, peer: Peer, size: int) -> None:
        """``size`` bytes came from an address that is not verified."""
        peer.credit = min(peer.credit + self.limits.amplification * size, _MOST_CREDIT)

    def verify(self, peer: Peer) -> None:
        """The address of ``peer`` is proven: it reacted to something only it could have received."""
        if peer.verified:
            return
        peer.verified = True
        peer.unproven = False
        if peer.sent is not None:
            for sending in peer.sent.values():
                if sending.unpaid:
                    sending.unpaid = False
                    self.datagrams.append((peer.id, sending.datagram))

    # --- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do everything that is due by ``now``."""
        undecided = self._undecided
        while undecided and (undecided[0][1].message is None or undecided[0][0] <= now):
            inbound = undecided.popleft()[1]
            if inbound.message is not None:
                self.acknowledge(inbound)
        self.timers.fire_due(now)
        while (peer := self.peers.take_due(now)) is not None:
            for inbound in self.answers.expire(peer, now):
                self.refuse(peer.id, "undecided", "never answered from here")
                self.abandon(inbound.number)
            if peer.is_idle():
                self.peers.drop(peer)
            else:
                self.peers.keep(peer, now)

    def deadline(self) -> float | None:
        """When `tick` has something to do, None for never."""
        undecided = self._undecided
        while undecided and undecided[0][1].message is None:
            undecided.popleft()
        due = self.timers.next_due()
        if undecided and undecided[0][0] < due:
            due = undecided[0][0]
        check = self.peers.next_check()
        if check is not None and check < due:
            return check
        return due if due < float("inf") else None


def _is_notification(inbound: Inbound) -> bool:
    message, view = inbound.message, inbound.view
    return message is not None and codes.is_response(message.code) and view is not None and view.observe is not None
