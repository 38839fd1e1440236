"""Going on from an earlier session: by its id, from memory or from the store, or by a ticket (RFC 5246 §7.3, RFC 5077).

Each resumption is a session of its own, with keys, a peer and a connection ID of its own; its TLS session id stays that
of the full handshake, as the client knows it by that. So the id leads to the newest session of such a chain while that
is in memory; after a restart only to the first, if it is stored. What is not found becomes a full handshake.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from stellwerk.core.entropy import Entropy
from stellwerk.core.identity import CertificateIdentity
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.machine import HandshakeFault
from stellwerk.dtls.messages import ClientHello
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.dtls.session import (
    SESSION_ID_BYTES,
    SessionFormatError,
    SessionSecrets,
    decode_secrets,
    decode_session,
    encode_secrets,
)
from stellwerk.dtls.suites import SUITES
from stellwerk.dtls.tickets import TicketKey, Tickets

TLS_SESSION_ID_BYTES: Final = 16
"""Of those that we give: our 8 bytes of session id and 8 more."""

_LONGEST_TICKET: Final = 900
"""With it a ClientHello has to fit one datagram, since a fragmented one meets no stateless cookie."""


class Resumptions:
    """Where one server finds sessions to resume. ``find_live``: the encoded secrets of the session in memory whose TLS
    session id begins with these 8 bytes. ``is_given``: whether we gave them. ``limit``: ended sessions that are
    remembered for it."""

    def __init__(
        self,
        parameters: ServerParameters,
        ticket_keys: Sequence[TicketKey],
        entropy: Entropy,
        find_live: Callable[[bytes], bytes | None],
        is_given: Callable[[bytes], bool],
        wall_s: Callable[[float], int],
        limit: int,
    ) -> None:
        self.parameters = parameters
        self._entropy = entropy
        self._find_live = find_live
        self._is_given = is_given
        self._wall_s = wall_s
        self._limit = limit
        self._ended: dict[bytes, bytes] = {}
        self._tickets: Tickets | None = None
        self.replace_keys(ticket_keys)

    def replace_keys(self, keys: Sequence[TicketKey]) -> None:
        """Tickets are sealed with the first and opened with any; without keys there are none."""
        self._tickets = Tickets(keys, self._entropy) if keys and self.parameters.tickets else None

    def remember(self, root: bytes, secrets: bytes) -> None:
        """A session ended in peace: its client may come back."""
        ended = self._ended
        ended.pop(root, None)
        if not self._limit:
            return
        if len(ended) >= self._limit:
            del ended[next(iter(ended))]
        ended[root] = secrets

    def forget(self, root: bytes) -> None:
        """It must not be resumed."""
        self._ended.pop(root, None)

    def find(self, hello: ClientHello, now: float) -> SessionSecrets | bytes | None:
        """See `server.Resumer`."""
        ticket = hello.extensions.session_ticket
        if ticket:
            # RFC 5077 3.4: with a ticket the session id is the client's invention.
            opened = self._tickets.open(ticket) if self._tickets is not None else None
            return _secrets_in(opened) if opened is not None else None
        if len(hello.session_id) != TLS_SESSION_ID_BYTES:
            return None
        root = hello.session_id[:SESSION_ID_BYTES]
        kept = self._find_live(root) or self._ended.get(root)
        if kept is None:
            return root if self._is_given(root) else None
        secrets = decode_secrets(kept)
        return secrets if secrets.tls_session_id == hello.session_id else None

    def is_good(self, secrets: SessionSecrets, hello: ClientHello, now: float) -> bool:
        """See `server.Resumer`."""
        age_s = self._wall_s(now) - secrets.established_s
        if not -60 <= age_s <= self.parameters.session_lifetime_s or secrets.suite not in hello.suites:
            return False
        if SUITES[secrets.suite].cipher == "cbc" and not self.parameters.cbc:
            return False
        if not secrets.extended_master_secret:
            # RFC 7627 5.3: a session without it is better not resumed, with it or without.
            return False
        if not hello.extensions.extended_master_secret:
            raise HandshakeFault(
                "bad-message",
                "the ClientHello resumes a session with extended master secret and does not offer it again",
                AlertDescription.HANDSHAKE_FAILURE,
            )
        return True

    def issue(self, secrets: SessionSecrets) -> bytes | None:
        """See `server.Resumer`."""
        if self._tickets is None or not secrets.extended_master_secret:
            return None
        state = encode_secrets(secrets)
        if len(state) > _LONGEST_TICKET and isinstance(secrets.identity, CertificateIdentity):
            # Who it is says the first certificate alone; those above it were verified in the full handshake.
            leaf = replace(secrets.identity, chain=secrets.identity.chain[:1])
            state = encode_secrets(replace(secrets, identity=leaf))
        return self._tickets.seal(state) if len(state) <= _LONGEST_TICKET else None


def _secrets_in(data: bytes) -> SessionSecrets | None:
    try:
        return decode_secrets(data)
    except SessionFormatError:
        # A ticket of a version that is not known here.
        return None


def encode_client_session(ticket: bytes, state: bytes) -> bytes:
    """What a client keeps to resume: the ticket, if it got one, and its `session.SessionState`."""
    return len(ticket).to_bytes(2, "big") + ticket + state


def decode_client_session(data: bytes) -> tuple[bytes, SessionSecrets]:
    """The inverse: ticket and secrets. Raises `session.SessionFormatError`."""
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], decode_session(data[end:]).secrets
