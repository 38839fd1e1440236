"""What engines that make handshakes have in common, whatever carries them (DTLS, TLS): questions of who somebody is go
to `app.handlers.handshakes`, and the answers back to the engine."""

from collections.abc import Callable, Container, Iterable
from typing import Any, TypeAlias, TypeVar

import structlog

from stellwerk.app.handlers.handshakes import Handshakes
from stellwerk.core.identity import RawKeyIdentity
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.dtls import actions, events
from stellwerk.southbound.trust import TrustAnchors, judge

log = structlog.get_logger(__name__)

Submit: TypeAlias = Callable[
    [actions.GivePsk | actions.AcceptPeer | actions.RefusePeer | actions.ForgetHandshakes], None
]
E = TypeVar("E")


class HandshakePeers:
    """Implements `app.handlers.handshakes.HandshakeLink`. ``check_dates``: whether dates of certificates are looked
    at."""

    def __init__(self, submit: Submit, trust: TrustAnchors, check_dates: bool) -> None:
        self._answer = submit
        self._trust = trust
        self._check_dates = check_dates
        self.dropped: dict[str, int] = {}
        """What led to nothing, by reason."""

    def ask(self, event: events.PskQuestion | events.CertificateQuestion, handshakes: Handshakes, at: Instant) -> None:
        """Whose key, or whose certificate is that?"""
        if isinstance(event, events.PskQuestion):
            handshakes.asked_for_key(event.handshake, event.identity, at)
        elif isinstance(event.identity, RawKeyIdentity):
            handshakes.asked_about_raw_key(event.handshake, event.identity, at)
        else:
            trust = judge(event.identity, self._trust.anchors, at, self._check_dates)
            handshakes.asked_about_certificate(event.handshake, event.identity, trust, at)

    def count(self, event: events.Dropped) -> None:
        """Something led to nothing."""
        self.dropped[event.reason] = self.dropped.get(event.reason, 0) + 1

    def give_key(self, handshake: int, key: bytes, device_id: DeviceId) -> None:
        self._answer(actions.GivePsk(handshake, key, device_id))

    def accept(self, handshake: int, device_id: DeviceId) -> None:
        self._answer(actions.AcceptPeer(handshake, device_id))

    def refuse(self, handshake: int, reason: str, detail: str) -> None:
        self._answer(actions.RefusePeer(handshake, reason, detail))

    def forget_handshakes(self, device_id: DeviceId) -> None:
        self._answer(actions.ForgetHandshakes(device_id))


def in_order(
    batch: Iterable[E],
    ours: Container[type],
    take: Callable[[Any, Instant], None],
    pass_on: Callable[[list[Any], Instant], None],
    at: Instant,
) -> None:
    """Hand the events of one round on in their order: each of a type in ``ours`` to ``take``, the others in runs to
    ``pass_on``. A mistake of ours with one does not touch the others."""
    messages: list[E] = []
    for event in batch:
        if type(event) not in ours:
            messages.append(event)
            continue
        if messages:
            pass_on(messages, at)
            messages = []
        try:
            take(event, at)
        except Exception:
            log.exception("event.failed", event_type=type(event).__name__)
    if messages:
        pass_on(messages, at)
