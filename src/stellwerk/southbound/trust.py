"""What is to be said of a peer's certificates, whatever brought them: DTLS or TLS."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from cryptography.x509 import Certificate

from stellwerk.app.identities import Trust
from stellwerk.core.identity import CertificateIdentity
from stellwerk.core.instant import Instant
from stellwerk.dtls.certificates import CertificateRefused, read_certificate, verify_chain

_SHOWN: Final = "%Y-%m-%d %H:%M:%S"


class TrustAnchors(Protocol):
    """The certificate authorities that devices' certificates may lead to."""

    @property
    def anchors(self) -> Sequence[Certificate]:
        """Those of just now."""
        ...


def judge(identity: CertificateIdentity, anchors: Sequence[Certificate], at: Instant, check_dates: bool) -> Trust:
    """Whether the chain leads to one of ``anchors`` and is of this day. ``check_dates``: whether dates of certificates
    are looked at."""
    now = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at.wall_ms)
    chain = dates = ""
    try:
        verify_chain(identity.chain, anchors, at=now, check_validity=check_dates)
    except CertificateRefused as refused:
        chain = f"{refused.reason}: {refused.detail}"
    if chain and check_dates:
        # One that a device is pinned to needs no authority, but has to be of this day.
        leaf = read_certificate(identity.chain[0])
        if now > leaf.not_after:
            dates = f"expired-certificate: the certificate expired at {leaf.not_after:{_SHOWN}} UTC"
        elif now < leaf.not_before:
            dates = f"not-yet-valid-certificate: it is valid from {leaf.not_before:{_SHOWN}} UTC"
    return Trust(chain, dates)
