"""What happens to simulated devices, as lines of the log."""

import structlog

from stellwerk.coap import codes
from stellwerk.sim.happenings import (
    BootstrapFailed,
    Bootstrapped,
    Enrolled,
    EnrolmentFailed,
    HandshakeDone,
    HandshakeFailed,
    Happening,
    Moved,
    Rebooted,
    Registered,
    RegistrationLost,
    RegistrationRefused,
    Resumed,
    Served,
    SessionLost,
)

log = structlog.get_logger(__name__)

_TROUBLES = {
    BootstrapFailed: "device.bootstrap_failed",
    EnrolmentFailed: "device.enrolment_failed",
    HandshakeFailed: "device.handshake_failed",
    SessionLost: "device.session_lost",
}


def write_down(happening: Happening) -> None:
    """Log ``happening``, if it is worth it."""
    name = happening.endpoint_name
    if isinstance(happening, Registered):
        log.debug("device.registered", endpoint_name=name, location=happening.location)
    elif isinstance(happening, RegistrationRefused | RegistrationLost):
        detail = happening.detail if isinstance(happening, RegistrationRefused) else ""
        log.info(
            "device.refused", endpoint_name=name, reason=happening.reason, **({"detail": detail} if detail else {})
        )
    elif isinstance(happening, Bootstrapped):
        log.debug("device.bootstrapped", endpoint_name=name, servers=happening.servers)
    elif isinstance(happening, Enrolled):
        log.debug("device.enrolled", endpoint_name=name, function=happening.function)
    elif isinstance(happening, BootstrapFailed | EnrolmentFailed | HandshakeFailed | SessionLost):
        event = _TROUBLES[type(happening)]
        log.info(event, endpoint_name=name, reason=happening.reason, detail=happening.detail)
    elif isinstance(happening, HandshakeDone | Resumed):
        log.debug(
            "device.secured",
            endpoint_name=name,
            suite=happening.suite,
            cid=happening.has_cid,
            resumed=isinstance(happening, Resumed),
        )
    elif isinstance(happening, Rebooted):
        log.info("device.rebooted", endpoint_name=name)
    elif isinstance(happening, Moved):
        log.info("device.moved", endpoint_name=name)
    elif isinstance(happening, Served):
        log.debug(
            "device.served",
            endpoint_name=name,
            method=codes.dotted(happening.method),
            path=happening.path,
            code=codes.dotted(happening.code),
            why=happening.why,
        )
