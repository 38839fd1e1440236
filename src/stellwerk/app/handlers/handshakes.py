"""Who makes a handshake: a device that we know, or why not (contract SEC-1; device platform §5).

Whatever makes handshakes (DTLS, TLS, the bootstrap server's) asks here, and tells here what came to nothing.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from stellwerk.app.failures import FailedHandshake, Failures
from stellwerk.app.identities import Found, Trust
from stellwerk.app.meters import SecureMeters
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import UserError
from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.core.instant import Instant
from stellwerk.core.rates import TokenBuckets
from stellwerk.device.record import BadKey, DeviceRecord

_BURST_S: Final = 10.0
_TRIES: Final = 3
_ADMITTED: Final = 10_000


class IdentityLookUp(Protocol):
    """Which device an identity is, as `app.identities.Identities` says it."""

    async def with_key(self, identity: PskIdentity) -> Found | None:
        """Whose pre-shared key goes with ``identity``, which nobody has proven yet."""
        ...

    async def proven(self, identity: RawKeyIdentity | CertificateIdentity, trust: Trust) -> Found | None:
        """Whose key or certificate that is."""
        ...

    async def named(self, identity: SecureIdentity | None) -> DeviceRecord | None:
        """Whom an identity that is not proven names."""
        ...


class HandshakeLink(Protocol):
    """Whoever asked gets its answer; one that comes too late is ignored (`app.device_ports.SecureLink`)."""

    def give_key(self, handshake: int, key: bytes, device_id: DeviceId) -> None: ...
    def accept(self, handshake: int, device_id: DeviceId) -> None: ...
    def refuse(self, handshake: int, reason: str, detail: str) -> None: ...
    def forget_handshakes(self, device_id: DeviceId) -> None: ...


class _Overtaken(UserError):
    """Credentials changed each time an identity was looked up, or trust meanwhile."""

    def __init__(self) -> None:
        super().__init__(
            "credentials of devices, or whom the server trusts, changed while it was looked up who that is; it may try "
            "again"
        )


class Handshakes:
    """``link`` reaches whoever asks. ``per_tenant``: complete handshakes a second, 0 for no bound."""

    def __init__(
        self,
        *,
        identities: IdentityLookUp,
        tasks: Tasks,
        link: HandshakeLink,
        lines: RareLines,
        meters: SecureMeters,
        per_tenant: float = 0.0,
        failures: Failures | None = None,
        elsewhere: tuple[IdentityLookUp, str] | None = None,
    ) -> None:
        """``failures``: where those that came to nothing are kept; None: by itself. ``elsewhere``: whom an identity
        means on other ports, and which these are: a device that comes to the wrong one is told of as such."""
        self._identities = identities
        self._elsewhere = elsewhere
        self._tasks = tasks
        self._link = link
        self._failures = Failures(tasks=tasks, lines=lines) if failures is None else failures
        self._meters = meters
        self._tenants: TokenBuckets[TenantId] = TokenBuckets(per_tenant, per_tenant * _BURST_S)
        self._admitted: OrderedDict[DeviceId, TenantId] = OrderedDict()
        """Whose handshakes are under way, or have failed."""
        self._fresh: OrderedDict[DeviceId, SecureIdentity] = OrderedDict()
        """Those of them that showed a fresh credential, with what it was."""
        self.revisions = 0
        """How often anybody's credentials have changed: who was looked up before is looked up again."""
        self.trusts = 0
        """How often it has changed whom the server trusts: a certificate that was judged before does not come in."""

    @property
    def failures(self) -> Sequence[FailedHandshake]:
        """The newest last."""
        return self._failures.newest

    # -- who is it? --

    def asked_for_key(self, handshake: int, identity: bytes, at: Instant) -> None:
        """What is the pre-shared key of ``identity``?"""
        self.start(handshake, self._answer_key(handshake, PskIdentity(identity), at))

    def asked_about_raw_key(self, handshake: int, identity: RawKeyIdentity, at: Instant) -> None:
        """Whose raw public key is that?"""
        self.start(handshake, self._answer_proven(handshake, identity, Trust(), at))

    def asked_about_certificate(self, handshake: int, identity: CertificateIdentity, trust: Trust, at: Instant) -> None:
        """Whose certificate is that?"""
        self.start(handshake, self._answer_proven(handshake, identity, trust, at, self.trusts))

    def start(self, handshake: int, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, which answers ``handshake``; refuse it where that fails."""
        if not self._tasks.start("handshake", self._answered(handshake, work)):
            work.close()
            self._link.refuse(handshake, "room", "too many identities are being looked up; it may try again")

    async def _answered(self, handshake: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except UserError as error:
            # `_Overtaken`, or a key that does not open with this master key: the text says what to do, and names no
            # secret.
            self._link.refuse(handshake, "not-answered", str(error))
        except Exception:
            self._link.refuse(handshake, "not-answered", "the store could not say who that is; it may try again")
            raise

    async def _looked_up(self, look: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """What ``look`` finds while nobody's credentials change. Raises `_Overtaken`."""
        for _ in range(_TRIES):
            before = self.revisions
            found = await look()
            if before == self.revisions:
                return found
        raise _Overtaken

    async def _answer_key(self, handshake: int, identity: PskIdentity, at: Instant) -> None:
        found = await self._looked_up(lambda: self._identities.with_key(identity))
        if found is None:
            text = f"no device has the {identity}; give it to one, or correct it on the device"
            self._link.refuse(handshake, "unknown-identity", text + await self._at_home(identity))
            return
        record, credential = found
        if not self.admits(handshake, record, at):
            return
        self._note_fresh(found, identity)
        try:
            key = credential.key
        except BadKey as error:
            # Kept from before it was checked.
            self._link.refuse(handshake, "unknown-identity", f"the key of the {identity} cannot be used: {error}")
            return
        self._link.give_key(handshake, key, record.device_id)

    async def _answer_proven(
        self,
        handshake: int,
        identity: RawKeyIdentity | CertificateIdentity,
        trust: Trust,
        at: Instant,
        trusts: int | None = None,
    ) -> None:
        """``trusts``: as it was when ``trust`` was judged. Raises `_Overtaken`."""
        found = await self._looked_up(lambda: self._identities.proven(identity, trust))
        if trusts is not None and trusts != self.trusts:
            raise _Overtaken
        if found is None:
            reason, text = _unknown(identity, trust)
            more = await self._at_home(identity) if reason == "unknown-identity" else ""
            self._link.refuse(handshake, reason, text + more)
            return
        if trust.dates and isinstance(identity, CertificateIdentity):
            self._link.refuse(handshake, *_split(trust.dates))
            return
        if self.admits(handshake, found[0], at):
            self._note_fresh(found, identity)
            self._link.accept(handshake, found[0].device_id)

    def admits(self, handshake: int, record: DeviceRecord, at: Instant) -> bool:
        """Whether a handshake of ``record`` may go on; it is refused where it may not."""
        if self._tenants.has(record.tenant_id, at.now):
            # It counts once it is complete: an identity is no secret, and whoever knows one is to use up nothing.
            self._admitted[record.device_id] = record.tenant_id
            if len(self._admitted) > _ADMITTED:
                self._admitted.popitem(last=False)
            return True
        self._meters.limited["tenant"] += 1
        text = f"the devices of tenant {record.tenant!r} make more handshakes than they may; it may try again later"
        self._link.refuse(handshake, "rate", text)
        return False

    def completed(self, device_id: DeviceId, at: Instant, identity: SecureIdentity | None = None) -> bool:
        """A handshake that was admitted is complete: it counts. ``identity``: what it has proven. Returns whether that
        was the device's fresh credential when it was looked up (`app.handlers.promoting`)."""
        tenant_id = self._admitted.pop(device_id, None)
        if tenant_id is not None:
            self._tenants.take(tenant_id, at.now)
        if identity is None or self._fresh.get(device_id) != identity:
            # Perhaps with what the device had before: one with the fresh credential may still be under way.
            return False
        del self._fresh[device_id]
        return True

    def _note_fresh(self, found: Found, identity: SecureIdentity) -> None:
        if found[1].is_fresh:
            self._fresh[found[0].device_id] = identity
            if len(self._fresh) > _ADMITTED:
                self._fresh.popitem(last=False)

    # -- what came to nothing --

    async def _at_home(self, identity: SecureIdentity) -> str:
        """What a refusal says besides where ``identity`` is known on other ports."""
        record = await self._named_elsewhere(identity)
        if record is None or self._elsewhere is None:
            return ""
        return f"; device {record.name!r} has it for {self._elsewhere[1]}: is the port right?"

    async def _named(self, identity: SecureIdentity | None) -> DeviceRecord | None:
        return await self._identities.named(identity) or await self._named_elsewhere(identity)

    async def _named_elsewhere(self, identity: SecureIdentity | None) -> DeviceRecord | None:
        if self._elsewhere is None:
            return None
        try:
            return await self._elsewhere[0].named(identity)
        except UserError:
            # It does not open with this master key, which is said where it is looked for.
            return None

    def failed(self, address: PeerId, reason: str, detail: str, identity: SecureIdentity | None, at: Instant) -> None:
        """A handshake came to nothing."""
        self._meters.handshakes["failed", reason] += 1
        named = "" if identity is None else str(identity)
        self._failures.note("handshake-failed", address, named, reason, detail, lambda: self._named(identity), at)

    def recent_failures(self, tenant: str | None) -> list[FailedHandshake]:
        """The newest first: those that name a device of ``tenant``, all for None."""
        return self._failures.recent(tenant)


def _unknown(identity: RawKeyIdentity | CertificateIdentity, trust: Trust) -> tuple[str, str]:
    """Why nobody has an identity that is proven."""
    if isinstance(identity, RawKeyIdentity):
        return "unknown-identity", f"no device has the {identity}; give it to one, or correct it on the device"
    if trust.chain:
        reason, detail = _split(trust.chain)
        if reason == "untrusted-certificate":
            detail += (
                "; trust its issuer (`keys trust`), or give a device this very certificate (`credentials set --cert`)"
            )
        elif reason in ("expired-certificate", "not-yet-valid-certificate"):
            detail += "; give the device another one, or set the clock of the server right"
        return reason, detail
    name = identity.common_name
    return "unknown-identity", f"no device of security x509 has the endpoint name {name!r}, nor this certificate"


def _split(trouble: str) -> tuple[str, str]:
    reason, _, detail = trouble.partition(":")
    return reason, detail.strip()
