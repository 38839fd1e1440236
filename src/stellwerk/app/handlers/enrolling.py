"""A device that is to enrol asks the bootstrap server for certificates, over DTLS (Core 1.2.2 §5.2.8 mode 4; RFC 9148;
contract §2.5).

What it gets is kept as its fresh credential before it leaves: it holds beside the one before until the device has made
a handshake with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from stellwerk.app.bootstrap_accounts import BootstrapAccounts
from stellwerk.app.bootstrap_admission import Admitted
from stellwerk.app.credentials import certificate_credential
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import AlreadyExists, CredentialChanged
from stellwerk.app.speaking import Refusal
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.configuration import EST_KEYS
from stellwerk.device.bootstrap.enrolment import (
    CERTS_ONLY,
    PKCS10,
    PKIX_CERT,
    BadRequest,
    in_format,
    read_request,
    wrong_name,
)
from stellwerk.device.record import basis_of
from stellwerk.lwm2m.bootstrap import EstRequest
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

CANNOT_ISSUE: Final = "the platform cannot issue certificates now"


@dataclass(frozen=True, slots=True)
class Authority:
    """The platform's own. ``certificate``: its DER; ``enrol``: the DER certificate for a key and an endpoint name. Both
    raise `UserError`."""

    certificate: Callable[[], bytes]
    enrol: Callable[[EllipticCurvePublicKey, str], bytes]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An answer; ``summary``: what it holds, for people."""

    status: Status
    payload: bytes
    content_format: int
    summary: str


class Enrolling:
    """``authority`` None: nobody signs certificates here."""

    def __init__(self, store: DecidingStore, accounts: BootstrapAccounts, authority: Authority | None) -> None:
        self._store = store
        self._accounts = accounts
        self._authority = authority

    async def answer(self, request: EstRequest, admitted: Admitted, now_ms: int) -> Enrolled | Refusal:
        """Of a device that has proven who it is. Raises `StoreTrouble`, `DeviceGone`."""
        # RFC 9148 §3 wants a certificate in the handshake; a device has what it is bootstrapped with, which will do.
        refuse = _refuse(admitted)
        configuration = await self._accounts.configuration_of(admitted.record)
        if not any(each.keys == EST_KEYS for each in configuration.given):
            return refuse("est-not-wanted", Status.FORBIDDEN, "the profile of the device lets it enrol nowhere")
        if admitted.blocks.one_time:
            return refuse("est-not-wanted", Status.FORBIDDEN, "with a bootstrap credential for one time nobody enrols")
        # RFC 9148 §4.3: who has no preference gets 281.
        accept = CERTS_ONLY if request.accept is None else request.accept
        if accept not in (CERTS_ONLY, PKIX_CERT):
            text = f"certificates come as Content-Format {CERTS_ONLY} or {PKIX_CERT}, not {accept}"
            return refuse("accept", Status.NOT_ACCEPTABLE, text)
        if self._authority is None:
            return refuse("est-authority", Status.SERVICE_UNAVAILABLE, CANNOT_ISSUE)
        try:
            if request.function == "crts":
                authority = self._authority.certificate()
                return Enrolled(Status.CONTENT, in_format(authority, accept), accept, "the platform's authority")
            if request.content_format != PKCS10:
                text = f"a signing request has Content-Format {PKCS10}, not {request.content_format}"
                return refuse("content-format", Status.UNSUPPORTED_CONTENT_FORMAT, text)
            wanted = read_request(request.payload)
            if not await self._is_named(wanted.name, admitted):
                raise wrong_name(wanted.name)
            certificate = self._authority.enrol(wanted.key, wanted.name)
        except BadRequest as error:
            return refuse(error.reason, error.status, str(error))
        except UserError as error:
            # The text names files, and what people can do; the device can do nothing.
            log.error("enrolment.not_issued", device=admitted.record.name, detail=str(error))
            return refuse("est-authority", Status.SERVICE_UNAVAILABLE, CANNOT_ISSUE)
        credential = replace(certificate_credential(certificate, now_ms), is_fresh=True)
        try:
            await self._store.put_fresh_credential(
                admitted.record.device_id, credential, basis=basis_of(admitted.credential)
            )
        except (AlreadyExists, CredentialChanged) as error:
            reason = "revoked" if isinstance(error, CredentialChanged) else "not-stored"
            return refuse(reason, Status.BAD_REQUEST, str(error))
        summary = f"a certificate for {wanted.name}: {credential.identity}"
        return Enrolled(Status.CHANGED, in_format(certificate, accept), accept, summary)

    async def _is_named(self, name: str, admitted: Admitted) -> bool:
        """Whether ``name`` means this device to the server of device management too. A name that it has at the
        bootstrap server alone may be another's there, and the authority vouches for names."""
        if name == admitted.record.node_id:
            return True
        named = await self._store.device_by_endpoint(name)
        return named is not None and named.device_id == admitted.record.device_id


def _refuse(admitted: Admitted) -> Callable[[str, Status, str], Refusal]:
    return lambda reason, status, detail: Refusal(reason, status, detail, admitted.record)
