"""The client role of the exchange layer: requests of ours and their answers (RFC 7252 §5; contract MSG-4 to MSG-7).

Each is an `exchange.Exchange`. Per peer, NSTART of them are outstanding; the others wait their turn. It ends once:
`ResponseReceived` or `RequestFailed`.
"""

from typing import TYPE_CHECKING

from stellwerk.coap import codes
from stellwerk.coap.actions import SendRequest
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import PeerReacted, RequestFailed, ResponseReceived
from stellwerk.coap.exchange import Exchange, Outgoing
from stellwerk.coap.freshness import RequestTags
from stellwerk.coap.layer import MessageLayer
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.options import (
    ACCEPT,
    CONTENT_FORMAT,
    ECHO,
    OBSERVE,
    URI_PATH,
    URI_QUERY,
    OptionView,
    encode_uint,
    sort_options,
    text_options,
)
from stellwerk.coap.peers import Peer
from stellwerk.coap.transfers import Download, Step, Upload
from stellwerk.coap.transmission import Transmission

if TYPE_CHECKING:
    from stellwerk.coap.observe import Observing

_FETCH_TOKEN_BYTES = 8


class Requests:
    """Requests of ours to all peers."""

    def __init__(self, layer: MessageLayer) -> None:
        self._layer = layer
        self._by_handle: dict[int, Exchange] = {}
        self._tags = RequestTags()
        self.observing: Observing | None = None
        self.silence = "no answer" if layer.ordered else "no acknowledgement"
        """What a peer that does not react leaves out."""
        layer.answer_ended = self._start_next

    # --- from outside --------------------------------------------------------------------------------------------

    def submit(self, action: SendRequest, peer: Peer | None, now: float) -> None:
        """A new request; it starts now or waits for its turn."""
        limit = self._layer.limits.requests_per_peer
        outgoing = peer.outgoing if peer is not None else None
        reason, detail = "refused", ""
        if peer is None:
            reason, detail = self._layer.absent
        elif action.handle in self._by_handle:
            detail = "the handle is in use"
        elif outgoing is not None and len(outgoing.by_token) + len(outgoing.waiting) >= limit:
            detail = "requests_per_peer"
        elif outgoing is not None and outgoing.uses(action.token):
            # MSG-6: two live requests with one token could not be told apart.
            detail = "the token is in use"
        if detail or peer is None:
            self._layer.events.append(RequestFailed(action.handle, action.peer, reason, detail))
            return
        exchange = Exchange(self, peer, action, None)
        self._by_handle[action.handle] = exchange
        self._enqueue(exchange, now)

    def fetch_rest(
        self, peer: Peer, request: SendRequest, message: Message, inbound: Inbound, now: float
    ) -> Exchange | None:
        """Fetch the blocks that follow a notification's first, with a new token and without Observe (BLK-10). None when
        that first one broke the rules: then it has failed already."""
        exchange = Exchange(self, peer, request, inbound)
        exchange.download = self._new_download(peer)
        view = self._layer.read_options(message.options, False)
        step = exchange.download.take(message, view, view.block2)
        exchange.token = self._layer.entropy.take(_FETCH_TOKEN_BYTES)
        if step is not Step.SEND:
            self.fail(exchange, "malformed", exchange.download.fault, now)
            return None
        self._enqueue(exchange, now)
        return exchange

    def cancel(self, handle: int, now: float) -> None:
        """Give up on a request."""
        exchange = self._by_handle.get(handle)
        if exchange is not None:
            self.fail(exchange, "cancelled", "cancelled", now)

    def hold(self, handle: int) -> None:
        """Repeat a request no more; its time runs on."""
        exchange = self._by_handle.get(handle)
        if exchange is not None and exchange.sending is not None:
            exchange.sending.held = True

    def repeat(self, handle: int, now: float) -> None:
        """Repeat a request that is not acknowledged."""
        exchange = self._by_handle.get(handle)
        if exchange is not None and exchange.sending is not None:
            self._layer.repeat(exchange.sending, now)

    def cancel_all(self, peer: Peer, now: float) -> None:
        """Give up on all requests to ``peer``."""
        outgoing = peer.outgoing
        if outgoing is not None:
            waiting = list(outgoing.waiting)
            outgoing.waiting.clear()
            for exchange in [*outgoing.by_token.values(), *waiting]:
                self.fail(exchange, "cancelled", "the peer is forgotten", now)

    def lose_all(self, peer: Peer, detail: str, now: float, *, unsent: bool = False) -> None:
        """The connection to ``peer`` is gone, and every request to it has come to nothing. ``unsent`` as in
        `actions.LosePeer`."""
        self.withdraw_waiting(peer, detail, now)
        outgoing = peer.outgoing
        if outgoing is not None:
            for exchange in list(outgoing.by_token.values()):
                first = exchange.sending is not None and not exchange.sending.is_repeated
                begun = exchange.upload is not None or exchange.download is not None
                self.fail(exchange, "unconnected" if unsent and first and not begun else "lost", detail, now)

    def withdraw_waiting(self, peer: Peer, detail: str, now: float) -> None:
        """Give up on the requests to ``peer`` that were not sent yet."""
        outgoing = peer.outgoing
        if outgoing is not None:
            waiting = list(outgoing.waiting)
            outgoing.waiting.clear()
            for exchange in waiting:
                self.fail(exchange, "unconnected", detail, now)

    def move_all(self, old: Peer, new: Peer, now: float) -> None:
        """All requests to ``old`` go on with ``new``, with their message IDs: to the device they are the same messages,
        and it must not run them twice."""
        outgoing, old.outgoing = old.outgoing, None
        if old.next_mid >= 0:
            # To the device all of them come from one endpoint, ours, also where it was at this address before.
            new.next_mid = old.next_mid
        if outgoing is None:
            return
        target = new.outgoing
        if target is None:
            target = new.outgoing = Outgoing()
        clashing: list[Exchange] = []
        for exchange in [*outgoing.by_token.values(), *outgoing.waiting]:
            # The same token in use at both addresses: what was asked at the old one cannot be told apart any more.
            is_clash = exchange.notification is None and target.uses(exchange.action.token)
            if is_clash or exchange.token in target.by_token:
                clashing.append(exchange)
                continue
            exchange.peer = new
            if exchange.outstanding:
                target.running += 1
            if exchange.token not in outgoing.by_token:
                target.waiting.append(exchange)
                continue
            target.by_token[exchange.token] = exchange
            sending = exchange.sending
            if not isinstance(sending, Transmission):
                continue
            sending.redirect(new)
            # If it is the device, it listens at its new address at this very moment.
            self._layer.send_paid(sending, now)
        for exchange in clashing:
            exchange.outstanding = False
            self.fail(exchange, "refused", "the token is in use", now)
        self._start_next(new, now)

    # --- the course of one exchange ------------------------------------------------------------------------------

    def _enqueue(self, exchange: Exchange, now: float) -> None:
        peer = exchange.peer
        outgoing = peer.outgoing
        if outgoing is None:
            outgoing = peer.outgoing = Outgoing()
        if outgoing.running < self._layer.parameters_of(peer).nstart and self._may_start(exchange):
            self._start(exchange, now)
        elif exchange.notification is not None:
            outgoing.waiting.appendleft(exchange)
        else:
            outgoing.waiting.append(exchange)

    def _may_start(self, exchange: Exchange) -> bool:
        return not (exchange.action.after_answers and self._layer.has_answers_under_way(exchange.peer))

    def _start(self, exchange: Exchange, now: float) -> None:
        body = exchange.action.payload
        cut = self._layer.cut_for(exchange.peer)
        if len(body) > cut.whole and exchange.download is None:
            exchange.upload = self._new_upload(exchange)
        self._send(exchange, now)

    def _send(self, exchange: Exchange, now: float) -> None:
        """Send the message that comes next in ``exchange``."""
        peer, action = exchange.peer, exchange.action
        # Some clients refuse empty segments (contract §1.1), and none of ours means one.
        path = tuple(segment for segment in action.path if segment)
        parts = text_options(URI_PATH, path) + text_options(URI_QUERY, action.query)
        if action.accept is not None:
            parts.append((ACCEPT, encode_uint(action.accept)))
        if exchange.echo is not None:
            parts.append((ECHO, exchange.echo))
        payload = b""
        if exchange.download is not None:
            # BLK-9: requests for further blocks carry neither body nor Observe.
            parts.append(exchange.download.option())
            if exchange.notification is not None and len(action.payload) <= self._layer.parameters_of(peer).block_size:
                # Those of a notification belong to no request that the peer has just had, so a FETCH says anew of what.
                payload = action.payload
                if payload and action.content_format is not None:
                    parts.append((CONTENT_FORMAT, encode_uint(action.content_format)))
        else:
            if action.content_format is not None:
                parts.append((CONTENT_FORMAT, encode_uint(action.content_format)))
            if action.observe is not None:
                parts.append((OBSERVE, encode_uint(action.observe)))
            if exchange.upload is not None:
                blocks, payload = exchange.upload.part()
                parts += blocks
            else:
                payload = action.payload
            asked = self._layer.cut_for(peer).asked
            if asked is not None:
                parts.append(Download(asked, 0).option())
        outgoing = peer.outgoing
        if outgoing is None:
            outgoing = peer.outgoing = Outgoing()
        outgoing.by_token[exchange.token] = exchange
        if not exchange.outstanding:
            exchange.outstanding = True
            outgoing.running += 1
        options = encode_options(sort_options(parts))
        exchange.sending = self._layer.send_confirmable(
            peer,
            action.code,
            exchange.token,
            options,
            payload,
            exchange,
            now,
            action.once or peer.unproven,
            action.ack_timeout_s,
        )

    def _go_on(self, exchange: Exchange, now: float) -> None:
        """The peer answered a part; send the next."""
        self._tell_reaction(exchange, complete=False)
        self._send(exchange, now)

    def again(self, exchange: Exchange, now: float) -> None:
        """The peer asks for the same part once more, otherwise protected."""
        if exchange.sending is not None:
            self._layer.stop(exchange.sending)
            exchange.sending = None
        self._layer.timers.cancel(exchange)
        self._go_on(exchange, now)

    def knows(self, handle: int) -> bool:
        """Whether the request ``handle`` is one of these, waiting or under way."""
        return handle in self._by_handle

    def _tell_reaction(self, exchange: Exchange, *, complete: bool) -> None:
        if exchange.notification is None:
            self._layer.events.append(PeerReacted(exchange.action.handle, exchange.peer.id, complete))

    def wait(self, exchange: Exchange, now: float) -> None:
        """The request arrived; its answer may take as long as the request says."""
        exchange.sending = None
        self._tell_reaction(exchange, complete=True)
        self._layer.timers.arm(exchange, now + exchange.action.patience_s)
        self._release(exchange)
        self._start_next(exchange.peer, now)

    def answered(self, exchange: Exchange, message: Message, view: OptionView, now: float) -> None:
        """An answer with the exchange's token came, by whatever of the three ways (MSG-4)."""
        layer = self._layer
        if exchange.sending is not None:
            layer.stop(exchange.sending)
            exchange.sending = None
        layer.timers.cancel(exchange)
        layer.verify(exchange.peer)
        if view.unknown is not None or (view.refusal is not None and view.refusal[0] == codes.BAD_REQUEST):
            # RFC 7252 5.4.1: a response with an unknown critical option is rejected.
            self.fail(exchange, "malformed", view.unknown or "a block size that is reserved", now)
            return
        if message.code == codes.UNAUTHORIZED and view.echo is not None and exchange.echo is None:
            exchange.echo = view.echo
            self._go_on(exchange, now)
            return
        upload = exchange.upload
        if upload is None and exchange.download is None and self._may_shrink(exchange, message.code, view):
            assert view.block1 is not None
            upload = exchange.upload = self._new_upload(exchange, view.block1.exponent)
            self._go_on(exchange, now)
            return
        if upload is not None:
            step = upload.take(message.code, view)
            if step is Step.SEND:
                self._go_on(exchange, now)
                return
            if step is Step.BROKEN:
                self.fail(exchange, "malformed", upload.fault, now)
                return
            exchange.upload = None
        elif message.code == codes.CONTINUE:
            self.fail(exchange, "malformed", "2.31 to a request without blocks", now)
            return
        if exchange.notification is None and exchange.action.observe is not None and exchange.download is None:
            assert self.observing is not None
            exchange.observe = self.observing.settle(exchange, message.code, view, now)
        if codes.is_success(message.code) and (exchange.download is not None or view.block2 is not None):
            self._continue_download(exchange, message, view, now)
            return
        exchange.download = None
        self._finish(exchange, message, message.payload, now)

    def _new_upload(self, exchange: Exchange, exponent: int | None = None) -> Upload:
        tagged = self._layer.parameters_of(exchange.peer).request_tag
        cut = self._layer.cut_for(exchange.peer)
        return Upload(exchange.action.payload, cut, exponent, self._tags if tagged else None)

    def _may_shrink(self, exchange: Exchange, code: int, view: OptionView) -> bool:
        """Whether a 4.13 to a body sent whole hints at blocks that would do (BLK-6)."""
        return (
            code == codes.REQUEST_ENTITY_TOO_LARGE
            and view.block1 is not None
            and view.block1.size < len(exchange.action.payload)
        )

    def _new_download(self, peer: Peer) -> Download:
        return Download(self._layer.cut_for(peer).exponent, self._layer.limits.response_body_bytes)

    def _continue_download(self, exchange: Exchange, message: Message, view: OptionView, now: float) -> None:
        download = exchange.download
        if download is None:
            download = exchange.download = self._new_download(exchange.peer)
        step = download.take(message, view, view.block2)
        if step is Step.SEND:
            outgoing = exchange.peer.outgoing
            if outgoing is not None and outgoing.by_token.get(exchange.token) is exchange:
                del outgoing.by_token[exchange.token]
            self._layer.release_token(exchange.peer, exchange.token)
            # The first token may name an observe relation now, so further blocks need their own.
            exchange.token = self._layer.entropy.take(_FETCH_TOKEN_BYTES)
            self._go_on(exchange, now)
        elif step is Step.BROKEN:
            self.fail(exchange, "oversized" if download.too_large else "malformed", download.fault, now)
        else:
            assert download.first is not None
            self._finish(exchange, download.first, bytes(download.data), now)

    def restart(self, exchange: Exchange, message: Message, view: OptionView, now: float) -> None:
        """A newer notification came while the blocks of the first answer were fetched: it is the answer now."""
        if exchange.sending is not None:
            self._layer.stop(exchange.sending)
            exchange.sending = None
        if exchange.peer.outgoing is not None:
            exchange.peer.outgoing.by_token.pop(exchange.token, None)
        exchange.download = None
        exchange.token = exchange.action.token
        self.answered(exchange, message, view, now)

    # --- the end -------------------------------------------------------------------------------------------------

    def _finish(self, exchange: Exchange, message: Message, payload: bytes, now: float) -> None:
        self._end(exchange)
        if exchange.notification is not None:
            assert self.observing is not None
            self.observing.complete(exchange.notification, message.code, payload, now)
        else:
            self._layer.events.append(
                ResponseReceived(
                    exchange.action.handle,
                    exchange.peer.id,
                    exchange.action.token,
                    message.code,
                    self._layer.read_options(message.options, False).content_format,
                    message.options,
                    payload,
                    exchange.observe,
                    b"" if exchange.observe is None else self._layer.binding_of(exchange.peer, exchange.action.token),
                )
            )
        self._start_next(exchange.peer, now)

    def fail(self, exchange: Exchange, reason: str, detail: str, now: float) -> None:
        """End ``exchange`` without an answer."""
        self._end(exchange)
        assert self.observing is not None
        if exchange.notification is not None:
            self.observing.incomplete(exchange.notification, detail, now)
        else:
            self._layer.events.append(RequestFailed(exchange.action.handle, exchange.peer.id, reason, detail))
            if exchange.action.observe is not None:
                self.observing.failed(exchange, reason)
        self._start_next(exchange.peer, now)

    def abort(self, exchange: Exchange, now: float) -> None:
        """End the fetch of a notification that a newer one has overtaken; nobody hears of it."""
        self._end(exchange)
        self._start_next(exchange.peer, now)

    def _end(self, exchange: Exchange) -> None:
        layer, outgoing = self._layer, exchange.peer.outgoing
        if exchange.sending is not None:
            layer.stop(exchange.sending)
            exchange.sending = None
        layer.timers.cancel(exchange)
        self._release(exchange)
        if exchange.action.observe == 0 and self.observing is not None:
            self.observing.first_answer_ended(exchange)
        if outgoing is not None:
            if outgoing.by_token.get(exchange.token) is exchange:
                del outgoing.by_token[exchange.token]
            elif exchange in outgoing.waiting:
                outgoing.waiting.remove(exchange)
        if exchange.notification is None:
            self._by_handle.pop(exchange.action.handle, None)
        layer.release_token(exchange.peer, exchange.token)

    def _release(self, exchange: Exchange) -> None:
        if exchange.outstanding:
            exchange.outstanding = False
            assert exchange.peer.outgoing is not None
            exchange.peer.outgoing.running -= 1

    def _start_next(self, peer: Peer, now: float) -> None:
        outgoing = peer.outgoing
        if outgoing is None:
            return
        nstart = self._layer.parameters_of(peer).nstart
        while outgoing.waiting and outgoing.running < nstart and self._may_start(outgoing.waiting[0]):
            self._start(outgoing.waiting.popleft(), now)
        if not outgoing:
            peer.outgoing = None
