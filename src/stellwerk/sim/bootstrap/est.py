"""A device gets certificates for keys of its own from its bootstrap server (security mode 4; RFC 9148, EST over secure
CoAP; contract §2.5).

It asks for the certificates of the authority (``crts``), once in a life, then for its own (``sen``), later for another
one (``sren``). What does not come is asked for again, until it comes or nobody wants it any more.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.oid import NameOID

from stellwerk.coap import codes
from stellwerk.coap.actions import Action, SendRequest, VerifyPeer
from stellwerk.coap.events import Event, RequestFailed, ResponseReceived
from stellwerk.core.ids import PeerId
from stellwerk.device.bootstrap.enrolment import CERTS_ONLY, LONGEST_COMMON_NAME, PKCS10, PKIX_CERT
from stellwerk.device.key_material import der_of, spki_of
from stellwerk.issuing import new_key
from stellwerk.sim.account import max_age_of
from stellwerk.sim.body import Body
from stellwerk.sim.bootstrap.accounts import ServerAccount
from stellwerk.sim.bootstrap.contexts import unanswered
from stellwerk.sim.bootstrap.faults import StepFaultKind, StepFaults
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.refusals import words_of
from stellwerk.sim.security import STRANGER, Certificate

REASONS: Final = frozenset({"refused", "silent", "handshake", "lost", "answer", "no-account", "restarted"})
"""Why an enrolment failed: the server refused a request or did not answer it, made no session or ended it; what it
answered is no certificate of this device; the device has no account of a bootstrap server any more; it restarted in the
middle."""

RENEW_AT: Final = 0.8
"""The part of a certificate's time after which the device asks for another one."""
_TOKEN_BYTES: Final = 8
_MAX_AGE_S: Final = 60
"""RFC 7252 5.10.5: where an answer says none."""
_FOLDER: Final = (".well-known", "est")
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, and the key that it is for. ``function``: what was asked."""

    certificate: Certificate = field(repr=False)
    function: str


@dataclass(frozen=True, slots=True)
class NotIssued:
    """None yet. ``reason`` is one of `REASONS`; ``detail`` a code or a sentence."""

    reason: str
    detail: str


Outcome: TypeAlias = Issued | NotIssued | None


class EstClient:
    """Of the device ``body`` at ``server``, its bootstrap server as a peer. `begin` makes it ask; `handle`, `lose` and
    `tick` say what came of it."""

    __slots__ = (
        "_actions",
        "_again",
        "_authorities",
        "_body",
        "_due",
        "_every_s",
        "_faults",
        "_function",
        "_key",
        "_request",
        "_under_way",
        "failures",
        "is_needed",
        "restarts",
        "server",
    )

    def __init__(self, body: Body, options: BootstrapOptions, server: PeerId) -> None:
        self._body = body
        self.server = server
        self.failures = 0
        """Requests that came to nothing, one after the other, since it began to ask."""
        self.restarts = False
        """A fault wants the device to restart."""
        self.is_needed = False
        """An account waits for a certificate."""
        self._every_s = options.renew_every_s
        self._faults = StepFaults(options.faults, body.options.seed)
        self._actions: list[Action] = []
        self._authorities: list[x509.Certificate] = []
        self._function = ""
        self._due: float | None = None
        self._under_way: int | None = None
        self._key: EllipticCurvePrivateKey | None = None
        self._request = b""
        self._again: StepFaultKind | None = None

    # -- from outside --

    def serve(self, accounts: Iterable[ServerAccount], at: float) -> None:
        """Get a certificate for those of ``accounts`` that need one of the device's own, from ``at`` on, or another one
        before it ends."""
        enrolling = [each for each in accounts if each.enrols]
        chains = [each.credentials.chain for each in enrolling if isinstance(each.credentials, Certificate)]
        self.abandon()
        self.is_needed = any(each.lacks_certificate for each in enrolling)
        if self.is_needed:
            self.begin("sen", at)
        elif chains:
            ends = min(map(renewal_of, chains)).timestamp() - self._body.utc_offset_s
            self.begin("sren", max(at, min(ends, at + self._every_s) if self._every_s else ends))

    def begin(self, function: str, at: float) -> None:
        """Ask for ``function`` (``sen`` or ``sren``) from ``at`` on, until a certificate comes."""
        self.abandon()
        self._function, self._due, self.failures = function, at, 0

    def abandon(self) -> None:
        """Nobody wants a certificate any more, or the device forgot that it did."""
        self._function, self._due, self._under_way, self._again = "", None, None, None
        self._key, self._request = None, b""

    @property
    def is_on(self) -> bool:
        """Whether a certificate is wanted."""
        return bool(self._function)

    @property
    def is_under_way(self) -> bool:
        """Whether the server owes an answer."""
        return self._under_way is not None

    @property
    def faults_committed(self) -> int:
        return self._faults.committed

    def take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    # -- time --

    def deadline(self) -> float | None:
        return self._due

    def tick(self, now: float, *, may_ask: bool = True) -> Outcome:
        """Ask, if that is due. ``may_ask``: there is a bootstrap server."""
        if self._due is None or now < self._due:
            return None
        self._due = None
        if not may_ask:
            self.abandon()
            return NotIssued("no-account", "the device has no account of a bootstrap server")
        self._ask(self._function if self._authorities else "crts", now)
        return None

    # -- events --

    def is_about(self, event: Event) -> bool:
        """Whether ``event`` is what became of a request of its own."""
        return isinstance(event, ResponseReceived | RequestFailed) and event.handle == self._under_way

    def handle(self, event: Event, now: float) -> Outcome:
        """React to an event that `is_about` it."""
        self._under_way = None
        if isinstance(event, RequestFailed):
            return self._fail(*unanswered(event), now)
        assert isinstance(event, ResponseReceived)
        self._body.stay_awake(now)
        fault, self._again = self._again, None
        if fault is StepFaultKind.REBOOT:
            self.restarts = True
            return NotIssued("restarted", "in the middle")
        if fault is StepFaultKind.AGAIN:
            # What it was given is forgotten, with the key.
            self._key = None
            self._due = now
            self.tick(now)
            return None
        return self._hear(event, now)

    def lose(self, reason: str, detail: str, now: float) -> Outcome:
        """The way to the server could not be opened, or broke down."""
        if self._under_way is None:
            return None
        self._under_way = None
        return self._fail(reason, detail, now)

    # -- inside --

    def _ask(self, function: str, now: float) -> None:
        endpoint = self._body.options.endpoint_name
        struck = {each.kind for each in self._faults.strike_enrolment(function)}
        self._again = next((each for each in (StepFaultKind.REBOOT, StepFaultKind.AGAIN) if each in struck), None)
        code, content_format, payload = codes.GET, None, b""
        if function != "crts":
            if self._key is None:
                self._key, self._request = new_key(), b""
            # RFC 9148 4.7: whoever is to come again later comes with the identical request.
            self._request = self._request or signing_request(self._key, endpoint)
            code, content_format, payload = codes.POST, PKCS10, self._request
            if StepFaultKind.STRANGER in struck:
                payload = signing_request(self._key, STRANGER + endpoint)
            if StepFaultKind.CSR in struck:
                payload = payload[:-1] + bytes([payload[-1] ^ 1])
        self._under_way = next(self._body.handles)
        token = self._body.random.randbytes(_TOKEN_BYTES)
        # The server is configured, not a stranger: answers to it need no bound against amplification.
        self._actions.append(VerifyPeer(self.server))
        request = SendRequest(self._under_way, self.server, code, token, (*_FOLDER, function), ())
        request.content_format, request.accept, request.payload = content_format, CERTS_ONLY, payload
        self._actions.append(request)
        self._body.stay_awake(now)

    def _hear(self, event: ResponseReceived, now: float) -> Outcome:
        asked_authorities = not self._authorities
        if event.code == codes.SERVICE_UNAVAILABLE:
            max_age_s = max_age_of(event)
            self._due = now + (_MAX_AGE_S if max_age_s is None else max_age_s)
            return NotIssued("refused", _said(event))
        if event.code != (codes.CONTENT if asked_authorities else codes.CHANGED):
            # Another key and another request may be liked better.
            self._key = None
            return self._fail("refused", _said(event), now)
        try:
            found = certificates_in(event.content_format, event.payload)
            if asked_authorities:
                self._authorities = found
                self._due = now
                self.tick(now)
                return None
            own = self._own_of(found)
        except _UNREADABLE as error:
            self._key = None
            return self._fail("answer", str(error) or "a signature in it is not of the authority", now)
        assert self._key is not None
        issued = Issued(Certificate(self._key, (der_of(own),)), self._function)
        self.abandon()
        return issued

    def _own_of(self, found: list[x509.Certificate]) -> x509.Certificate:
        """The certificate that is for our key. Raises one of `_UNREADABLE`."""
        assert self._key is not None
        spki = spki_of(self._key.public_key())
        own = next((each for each in found if spki_of(each.public_key()) == spki), None)  # type: ignore[arg-type]
        if own is None:
            raise ValueError("the certificate is not for the key that was asked for")
        issuer = next((each for each in self._authorities if each.subject == own.issuer), None)
        if issuer is None:
            raise ValueError("the certificate is not of the authority that the server names")
        own.verify_directly_issued_by(issuer)
        return own

    def _fail(self, reason: str, detail: str, now: float) -> NotIssued:
        self.failures += 1
        self._due = now + self._body.options.patience.pause_after(self.failures)
        return NotIssued(reason, detail)


def signing_request(key: EllipticCurvePrivateKey, endpoint: str) -> bytes:
    """The request (PKCS#10, DER) for a certificate for ``key``, made out to the device with that endpoint name: its
    common name, or where that is too long for one, its alternative name."""
    fits = len(endpoint) <= LONGEST_COMMON_NAME
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, endpoint)] if fits else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if not fits:
        name = x509.UniformResourceIdentifier(endpoint) if endpoint.startswith("urn:") else x509.DNSName(endpoint)
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def certificates_in(content_format: int | None, payload: bytes) -> list[x509.Certificate]:
    """What an answer holds (RFC 9148 §4.3). Raises one of `_UNREADABLE`."""
    if content_format == PKIX_CERT:
        return [x509.load_der_x509_certificate(payload)]
    if content_format != CERTS_ONLY:
        raise ValueError(f"certificates come as Content-Format {CERTS_ONLY} or {PKIX_CERT}, not {content_format}")
    return load_der_pkcs7_certificates(payload)


def renewal_of(chain: tuple[bytes, ...]) -> datetime:
    """When the certificate that ``chain`` begins with is to be renewed, in UTC."""
    certificate = x509.load_der_x509_certificate(chain[0])
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins + RENEW_AT * (ends - begins)


def _said(event: ResponseReceived) -> str:
    return f"{codes.dotted(event.code)} {words_of(event)}".rstrip()
