"""CoAP over DTLS: both engines as one, their driver, and the two links to `app` (messages, and whose they are)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

import structlog

from stellwerk.app.meters import SecureMeters, Transport
from stellwerk.coap.actions import Action as CoapAction
from stellwerk.coap.endpoint import Endpoint as CoapEndpoint
from stellwerk.coap.events import Event
from stellwerk.coap.parameters import Limits as CoapLimits
from stellwerk.coap.parameters import Parameters
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.core.rates import TokenBuckets
from stellwerk.dtls.actions import Action as DtlsAction
from stellwerk.dtls.actions import ReplaceIdentity
from stellwerk.dtls.base import Admission
from stellwerk.dtls.endpoint import Endpoint as DtlsEndpoint
from stellwerk.dtls.half_open import network_of
from stellwerk.dtls.parameters import Limits, ServerIdentity, ServerParameters
from stellwerk.dtls.tickets import TicketKey
from stellwerk.net.clock import SystemClock
from stellwerk.net.driver import Driver
from stellwerk.net.secure import SecureEvent, SecureStack
from stellwerk.southbound.secure_peers import MessageLink, SecurePeers
from stellwerk.southbound.trust import TrustAnchors

log = structlog.get_logger(__name__)

_DAY_S: Final = 86_400.0
_NEVER_S: Final = -1.0
_BURST_S: Final = 10.0
_SHARE: Final = 0.25
"""Of all handshakes with public keys, that one address may have in the long run."""


@dataclass(frozen=True, slots=True)
class SecureSettings:
    """As the settings ``STELLWERK_DTLS_*`` of the same names; rates in handshakes a second, 0 for no bound."""

    cid: bool = True
    cid_code_points: tuple[int, ...] = (54,)
    cbc: bool = False
    clockless: bool = False
    session_days: float = 7.0
    sessions: int = 1_000_000
    half_open: int = 4_096
    per_address: float = 500.0
    with_certificates: float = 400.0
    node_id: int = 0


class ServerIdentities(TrustAnchors, Protocol):
    """What the server proves itself with, and whom it trusts."""

    @property
    def identity(self) -> ServerIdentity | None:
        """Of just now; None: only pre-shared keys are offered."""
        ...


L = TypeVar("L", bound=MessageLink)
L_co = TypeVar("L_co", bound=MessageLink, covariant=True)


class MakeLink(Protocol[L_co]):
    def __call__(
        self, submit: Callable[[CoapAction], None], reaches: Callable[[PeerId], bool] | None = None
    ) -> L_co: ...


class Rates(Admission):
    """Counts what it refuses."""

    def __init__(self, settings: SecureSettings, meters: SecureMeters) -> None:
        self._limited = meters.limited
        self._addresses: TokenBuckets[str] = TokenBuckets(settings.per_address, settings.per_address * _BURST_S)
        most = settings.with_certificates
        self._public_keys: TokenBuckets[None] = TokenBuckets(most, most)
        # Nobody takes all of it for long, whatever he may have besides.
        self._public_keys_of: TokenBuckets[str] = TokenBuckets(most * _SHARE, most)

    def address(self, address: PeerId, now: float) -> bool:
        admitted = self._addresses.take(network_of(address), now)
        if not admitted:
            self._limited["address"] += 1
        return admitted

    def public_key(self, address: PeerId, now: float) -> bool:
        admitted = self._public_keys_of.take(network_of(address), now) and self._public_keys.take(None, now)
        if not admitted:
            self._limited["certificates"] += 1
        return admitted


class SecureListener(Generic[L]):
    """``link`` makes the way from messages to `app`. ``ticket_key`` None: no session is resumed."""

    def __init__(
        self,
        *,
        link: MakeLink[L],
        settings: SecureSettings,
        keys: ServerIdentities,
        entropy: Entropy,
        clock: SystemClock,
        meters: SecureMeters,
        ticket_key: TicketKey | None,
        id_secret: bytes | None,
        ask_until: float | None,
        bodies: Mapping[tuple[str, ...], int],
        oscore: bool = False,
        coap_limits: CoapLimits | None = None,
    ) -> None:
        self._keys = keys
        limits = Limits(sessions=settings.sessions, half_open=settings.half_open)
        self._dtls = DtlsEndpoint(
            entropy,
            ServerParameters(
                identity=keys.identity,
                cbc=settings.cbc,
                cids=settings.cid,
                cid_code_points=settings.cid_code_points,
                node_id=settings.node_id,
                tickets=ticket_key is not None,
                # No session is as young as that: a client makes a full handshake each time.
                session_lifetime_s=_NEVER_S if ticket_key is None else settings.session_days * _DAY_S,
            ),
            limits if ticket_key is not None else replace(limits, resumable=0),
            ticket_keys=() if ticket_key is None else (ticket_key,),
            id_secret=id_secret,
            wall_offset_s=clock.wall_ms() / 1000 - clock.now(),
            admission=Rates(settings, meters),
        )
        # Blocks of an earlier body may be replayed within the window of a session (RFC 9175 3.3).
        self._coap = CoapEndpoint(
            entropy,
            coap_limits,
            parameters=Parameters(request_tag=True),
            ask_until=ask_until,
            body_bytes_by_path=bodies,
            verified=True,
            room=self._dtls.room,
            oscore=oscore,
        )
        stack: SecureStack[Event, CoapAction] = SecureStack(self._dtls, self._coap)
        self.link = link(lambda action: self.driver.submit(action), lambda peer: self.peers.may_reach(peer))
        self.peers = SecurePeers(
            submit=lambda action: self.driver.submit(action),
            link=self.link,
            is_live=self._dtls.is_live,
            trust=keys,
            check_dates=not settings.clockless,
        )
        self.driver: Driver[Event | SecureEvent, CoapAction | DtlsAction] = Driver(
            stack, self.peers.handle, clock=clock
        )

    def marks(self) -> list[tuple[bytes, int]]:
        """What sessions have read since the last call (`app.security_ports.SecurityStore.marks`)."""
        return self._dtls.take_marks()

    def replace_identity(self) -> None:
        """The server's keys were replaced."""
        identity = self._keys.identity
        if identity is not None:
            self.driver.submit(ReplaceIdentity(identity))

    def count(self, figures: Transport) -> None:
        """Add what was counted."""
        driver, coap = self.driver, self._coap
        figures.received += driver.received
        figures.sent += driver.sent
        figures.lost += driver.lost
        figures.overflowed += driver.overflowed()
        figures.duplicates += coap.duplicates
        figures.retransmissions += coap.retransmissions
        figures.peers += coap.peers
        add_counts(figures.refused, self.link.refused)
        figures.sessions = self._dtls.sessions
        figures.handshakes = self._dtls.half_open
        figures.records_dropped = dict(self.peers.dropped)


def add_counts(into: dict[str, int], counts: Mapping[str, int]) -> None:
    """Add ``counts`` to those of the same words."""
    for word, count in counts.items():
        into[word] = into.get(word, 0) + count
