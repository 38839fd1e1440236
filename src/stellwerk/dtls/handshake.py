"""What both ends of a handshake have in common: messages in order, flights and their timer, the change to epoch 1;
`keying` has the transcript and the keys. Which message means what in which state is the table of
`server.ServerHandshake` and `client.ClientHandshake`.

A message is handed to its step only if the table has one for (state, message); everything else ends the handshake. A
question to the outside pauses it: messages wait in the reassembly, records of epoch 1 in a bounded stash.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import ClassVar, Final

from stellwerk.core.ids import PeerId
from stellwerk.dtls.alerts import AlertDescription, AlertFormatError, AlertLevel, alert_name, decode_alert, encode_alert
from stellwerk.dtls.events import HandshakeFailed
from stellwerk.dtls.flights import (
    CHANGE_CIPHER_SPEC,
    LastFlight,
    Outgoing,
    PlainWriter,
    SentFlight,
    encode_flight,
)
from stellwerk.dtls.fragments import Fragment, FragmentError, Reassembly, decode_fragments, transcript_form
from stellwerk.dtls.keying import Keying
from stellwerk.dtls.machine import HandshakeFault, Host, Phase, Step, Timing
from stellwerk.dtls.messages import HandshakeFormatError, HandshakeType
from stellwerk.dtls.protection import ProtectionError
from stellwerk.dtls.records import ContentType, Record
from stellwerk.dtls.stash import Stash

# As plain names: to read a member off its class costs as much as a call.
_ASKING: Final = Phase.ASKING
_OVER: Final = Phase.OVER
_HANDSHAKE: Final = int(ContentType.HANDSHAKE)
_CHANGE_CIPHER_SPEC: Final = int(ContentType.CHANGE_CIPHER_SPEC)
_HELLO_REQUEST: Final = int(HandshakeType.HELLO_REQUEST)


class Handshake(Keying):
    """One handshake with ``address``. ``first``: the number of the peer's first message that is to come."""

    __slots__ = (
        "_ends",
        "_flight",
        "_incoming",
        "_message_seq",
        "_stash",
        "_write_epoch",
        "asked_until",
        "began",
        "failure",
        "first",
        "host",
        "plain",
        "question",
        "state",
        "timing",
    )

    TABLE: ClassVar[Mapping[tuple[Enum, int], Step]]
    AWAIT_CHANGE: ClassVar[Enum]
    """The state in which the peer's ChangeCipherSpec is right."""
    AWAIT_FINISHED: ClassVar[Enum]
    """The state after it."""

    def __init__(self, host: Host, address: PeerId, timing: Timing, first: int, now: float) -> None:
        super().__init__(address)
        self.host = host
        self.timing = timing
        self.began = now
        self.state: Enum = _OVER
        self.plain = PlainWriter()
        self.first = first
        """The number of the peer's first message."""
        self.question = 0
        """The number of its open question."""
        self.failure: tuple[str, str] | None = None
        """What an undecryptable Finished really means, where we know: reason and detail."""
        self.asked_until: float | None = None
        self._ends = now + host.base.limits.handshake_s
        self._incoming = Reassembly(first, host.base.limits.handshake_bytes)
        self._message_seq = 0
        self._flight = SentFlight([], -1, timing.first_timeout_s, now)
        self._write_epoch = 0
        self._stash = Stash()

    @property
    def is_over(self) -> bool:
        """Whether it is established or failed."""
        return self.state is _OVER

    @property
    def has_keys(self) -> bool:
        """Whether records of epoch 1 may be its own."""
        return self.association is not None or self.state is _ASKING

    # --- records in ----------------------------------------------------------------------------------------------

    def receive_plain(self, record: Record, now: float) -> None:
        """A record of epoch 0 that has no handshake messages."""
        if self.state is _OVER:
            return
        if record.type == _CHANGE_CIPHER_SPEC:
            if record.fragment == b"\x01":
                self._guard(self._receive_change, now)
            else:
                self._drop("format")
        elif record.type == ContentType.ALERT:
            self._receive_alert(record.fragment, now)
        else:
            # No data before both ends are verified, and none without protection.
            self._drop("plaintext" if record.type == ContentType.APPLICATION_DATA else "type")

    def receive_messages(self, fragments: list[Fragment], now: float) -> None:
        """What is in a handshake record of epoch 0."""
        if self.state is not _OVER:
            self._guard(self._receive_fragments, fragments, 0, now)

    def receive_protected(self, record: Record, now: float) -> None:
        """A record of epoch 1: it waits until the peer's ChangeCipherSpec stood where it belongs."""
        if self.state is _OVER:
            return
        if not self._stash.add(record):
            self._drop("room")
        elif self.state is self.AWAIT_FINISHED:
            self._guard(self._read_stash, now)

    def take_stash(self) -> list[Record]:
        """What came in epoch 1 behind the peer's Finished: data that overtook nothing."""
        return self._stash.take()[0]

    def _receive_fragments(self, fragments: list[Fragment], epoch: int, now: float) -> None:
        waiting_for_finished = self.state is self.AWAIT_FINISHED
        repeated = False
        for fragment in fragments:
            if fragment.message_seq < self._incoming.next:
                repeated = repeated or fragment.message_seq == self._flight.answered
            elif epoch == 0 and waiting_for_finished:
                # Behind a ChangeCipherSpec nothing is without protection.
                self._drop("plaintext")
            else:
                self._incoming.add(fragment)
        self._advance(now)
        if repeated and self.state not in (_ASKING, _OVER):
            self._answer_again(now)

    def _receive_change(self, now: float) -> None:
        if self.state not in (_ASKING, self.AWAIT_CHANGE):
            # An early one changes nothing; the peer repeats its flight if it is needed.
            return
        self._stash.note_change()
        if self.state is self.AWAIT_CHANGE:
            # What was cut in epoch 0 does not go on in epoch 1.
            self._incoming.forget_unfinished()
            self.state = self.AWAIT_FINISHED
            self._read_stash(now)

    def _read_stash(self, now: float) -> None:
        """Open what waits. Raises `HandshakeFault` if nothing of it can be opened that came behind the peer's
        ChangeCipherSpec: then keys differ."""
        association = self.association
        assert association is not None
        stash, early = self._stash.take()
        unreadable = False
        messages: list[bytes] = []
        alert: bytes | None = None
        for at, record in enumerate(stash):
            if record.cid != self.own_cid or not association.window.is_new(record.sequence):
                continue
            try:
                type, content = association.open(record)
            except ProtectionError:
                # Data, and the alert that answers a goodbye, may be of an earlier session at that address, and what
                # stood before the ChangeCipherSpec of anybody: a Finished that is needed is repeated.
                if at >= early:
                    unreadable = unreadable or record.type in (_HANDSHAKE, ContentType.TLS12_CID)
                continue
            if type == _HANDSHAKE:
                association.window.take(record.sequence)
                messages.append(content)
                continue
            if type == ContentType.ALERT:
                alert = content
            # It overtook the Finished and waits for it.
            self._stash.add(record)
        for content in messages:
            if self.state is self.AWAIT_FINISHED:
                self._receive_fragments(decode_fragments(content), 1, now)
        if self.state is not self.AWAIT_FINISHED:
            return
        if alert is not None:
            self._receive_alert(alert, now)
        elif unreadable and not messages and not self.host.is_foreign(self, stash, now):
            reason, detail = self.failure or self._key_failure()
            raise HandshakeFault(reason, detail, AlertDescription.DECRYPT_ERROR)

    def _key_failure(self) -> tuple[str, str]:
        """What a Finished that cannot be decrypted means."""
        assert self.suite is not None
        if self.suite.exchange == "psk" and self.resumed is None:
            return "wrong-key", "the peer's Finished cannot be decrypted: give both ends the same pre-shared key"
        return "bad-finished", "the peer's Finished cannot be decrypted: its keys are others than ours"

    def _receive_alert(self, content: bytes, now: float) -> None:
        try:
            alert = decode_alert(content)
        except AlertFormatError:
            self._drop("format")
            return
        if alert.is_fatal or alert.description == AlertDescription.CLOSE_NOTIFY:
            self._end("alert", f"the peer ended the handshake with {alert_name(alert.description)}")

    def _advance(self, now: float) -> None:
        while self.state not in (_ASKING, _OVER):
            message = self._incoming.take()
            if message is None:
                return
            type, number, body = message
            if type == _HELLO_REQUEST and not self.IS_SERVER:
                # RFC 5246 7.4.1.1: ignored by a client that is negotiating, and in no hash.
                continue
            step = self.TABLE.get((self.state, type))
            if step is None:
                raise HandshakeFault(
                    "unexpected-message",
                    f"{_name(type)} came while {self.state.value}",
                    AlertDescription.UNEXPECTED_MESSAGE,
                )
            self._note(type, number, body)
            self.state = step(self, body, now)

    def last_flight(self) -> LastFlight | None:
        """Our last flight, if it is the one that ended the handshake: on the server's side of a full handshake, on the
        client's of a resumed one."""
        if self.IS_SERVER is (self.resumed is not None):
            return None
        assert self.association is not None
        return LastFlight(
            self.association,
            self._flight,
            self.plain,
            mtu=self.timing.mtu,
            size=self.timing.size,
        )

    # --- questions -----------------------------------------------------------------------------------------------

    def _pause(self, now: float) -> None:
        """A question is about to be put; the step that does it returns `Phase.ASKING`."""
        self.asked_until = now + self.host.base.limits.answer_s
        self.host.base.timers.arm(self, min(self.asked_until, self._ends))

    def _ask(self, now: float) -> int:
        """The number of a question about the peer."""
        self._pause(now)
        return self.host.ask(self)

    def _go_on(self, state: Enum, now: float) -> None:
        """The answer is here: take what came meanwhile."""
        self.asked_until = None
        self.host.base.timers.arm(self, self._ends)
        self.state = state
        self._guard(self._catch_up, now)

    def _catch_up(self, now: float) -> None:
        self._advance(now)
        if self._stash.changed and self.state is self.AWAIT_CHANGE:
            self._receive_change(now)

    # --- flights out ---------------------------------------------------------------------------------------------

    def _message(self, type: int, body: bytes, epoch: int = 0) -> Outgoing:
        """A message of ours, in its place in the transcript."""
        number = self._message_seq
        self._message_seq = number + 1
        content = transcript_form(type, number, body)
        self.transcript += content
        return Outgoing(epoch, _HANDSHAKE, content)

    def _finished(self, now: float) -> list[Outgoing]:
        """Our ChangeCipherSpec and Finished."""
        return [CHANGE_CIPHER_SPEC, self._message(HandshakeType.FINISHED, self._own_verify_data(), 1)]

    def _send_flight(self, messages: list[Outgoing], now: float, *, is_last: bool = False) -> None:
        """Send, and unless it ``is_last`` repeat until the peer answers."""
        self._flight = SentFlight(messages, self._incoming.next - 1, self.timing.first_timeout_s, now)
        if messages[-1].epoch:
            self._write_epoch = 1
        self._transmit()
        if not is_last:
            self._await_answer(now)

    def _transmit(self) -> None:
        timing, address, out = self.timing, self.address, self.host.base.datagrams
        for datagram in encode_flight(
            self._flight.messages, self.plain, self.association, mtu=timing.mtu, size=timing.size
        ):
            out.append((address, datagram))

    def _answer_again(self, now: float) -> None:
        """The peer repeats the flight that ours answers: it has not got ours."""
        if self._flight.may_answer_again(now):
            self._transmit()
            self._await_answer(now)

    def _await_answer(self, now: float) -> None:
        self.host.base.timers.arm(self, min(now + self._flight.timeout, self._ends))

    def fire(self, now: float) -> None:
        """The peer or the outside was silent for the time it had."""
        if self.state is _OVER:
            return
        if self.asked_until is not None and now >= self.asked_until:
            self._fail(
                "not-answered", "our own side did not say in time who the peer is", AlertDescription.HANDSHAKE_FAILURE
            )
        elif now >= self._ends or self._flight.repetitions >= self.timing.repetitions:
            reason, detail = self.failure or ("timeout", f"the peer fell silent while {self.state.value}")
            self._end(reason, detail)
        else:
            self._flight.repeat(self.timing.longest_timeout_s, now)
            self._transmit()
            self._await_answer(now)

    # --- ends ----------------------------------------------------------------------------------------------------

    def cancel(self, reason: str, detail: str, alert: int | None = None) -> None:
        """End it from outside."""
        if alert is None:
            self._end(reason, detail)
        else:
            self._fail(reason, detail, alert)

    def _complete(self, now: float) -> Enum:
        self.host.base.timers.cancel(self)
        self.state = _OVER
        self.host.established(self, now)
        self._let_go()
        return _OVER

    def _fail(self, reason: str, detail: str, alert: int) -> None:
        content = encode_alert(AlertLevel.FATAL, alert)
        if self._write_epoch and self.association is not None:
            record = self.association.seal(ContentType.ALERT, content)
        else:
            record = self.plain.seal(ContentType.ALERT, content)
        self.host.base.datagrams.append((self.address, record))
        self._end(reason, detail)

    def _end(self, reason: str, detail: str) -> None:
        self.host.base.timers.cancel(self)
        self.state = _OVER
        self.host.base.events.append(HandshakeFailed(self.address, reason, detail, self.identity))
        self.host.ended(self)
        self._let_go()

    def _let_go(self) -> None:
        # Its timer's entry may hold it for a while yet (`core.timers`).
        self.transcript.clear()
        self._prf = None

    def _drop(self, reason: str) -> None:
        self.host.base.drop(self.address, reason)

    def _guard(self, step: Callable[..., None], *arguments: object) -> None:
        """Run ``step``; whatever the peer did wrong ends the handshake, and nothing but it."""
        try:
            step(*arguments)
        except HandshakeFault as fault:
            self.cancel(fault.reason, fault.detail, fault.alert)
        except HandshakeFormatError as error:
            self._fail("bad-message", str(error), AlertDescription.DECODE_ERROR)
        except FragmentError as error:
            self._fail("bad-message", error.rule, AlertDescription.ILLEGAL_PARAMETER)


def _name(type: int) -> str:
    try:
        return HandshakeType(type).name.lower()
    except ValueError:
        return f"handshake message {type}"
