"""What happens to simulated devices, in the past tense, for whoever counts or logs it."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Registered:
    endpoint_name: str
    location: str


@dataclass(frozen=True, slots=True)
class Updated:
    endpoint_name: str


@dataclass(frozen=True, slots=True)
class RegistrationRefused:
    """A registration request was refused or not answered; ``reason`` is a code (``5.03``) or the engine's word,
    ``detail`` what the server says of it."""

    endpoint_name: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RegistrationLost:
    """The server no longer knew the registration; a Register follows."""

    endpoint_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deregistered:
    endpoint_name: str


@dataclass(frozen=True, slots=True)
class Served:
    """A request of the server was answered: method and answer as CoAP codes; ``why`` is the reason of a refusal."""

    endpoint_name: str
    method: int
    path: str
    code: int
    why: str


@dataclass(frozen=True, slots=True)
class Notified:
    endpoint_name: str
    path: str


@dataclass(frozen=True, slots=True)
class ObservationEnded:
    """The server rejected a notification (``reset``) or was not there for it (``timeout``)."""

    endpoint_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SendEnded:
    """A Send was answered with ``code``, or with nothing at all (None)."""

    endpoint_name: str
    code: int | None


@dataclass(frozen=True, slots=True)
class Rebooted:
    endpoint_name: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Whatever is between the device and its server has forgotten the way: from now on it speaks from another port,
    which whoever has its socket gives it."""

    endpoint_name: str


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """A full handshake is complete; ``suite`` is the standard's name."""

    endpoint_name: str
    suite: str
    has_cid: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """The device went on from an earlier session by a handshake without keys being agreed upon anew."""

    endpoint_name: str
    suite: str
    has_cid: bool


@dataclass(frozen=True, slots=True)
class HandshakeFailed:
    """``reason`` is one of `dtls.failures.REASONS`, ``detail`` a sentence; the next try comes after a while."""

    endpoint_name: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The secure session ended before the device wanted it to; a handshake follows. ``reason``: the engine's word, or
    ``timeout`` where the server answers nothing any more."""

    endpoint_name: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class BootstrapAsked:
    """The device has asked its bootstrap server, or is about to be told by it what it did not ask for."""

    endpoint_name: str


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The device has the accounts that it was given; ``servers`` are their URIs."""

    endpoint_name: str
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootstrapFailed:
    """It has what it had before. ``reason`` is one of `bootstrap.client.REASONS`, ``detail`` a code or a sentence."""

    endpoint_name: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The device has a certificate for a key of its own; ``function``: whether it is its first (``sen``) or another one
    (``sren``)."""

    endpoint_name: str
    function: str


@dataclass(frozen=True, slots=True)
class EnrolmentFailed:
    """It asks again after a while. ``reason`` is one of `bootstrap.est.REASONS`, ``detail`` a code or a sentence."""

    endpoint_name: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Forgot:
    """The device keeps something else now than was kept of it: a factory reset, an account whose time is over."""

    endpoint_name: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """The device has more to keep across restarts, before anything else leaves: numbers of an OSCORE context."""

    endpoint_name: str


Happening: TypeAlias = (
    Registered
    | Updated
    | RegistrationRefused
    | RegistrationLost
    | Deregistered
    | Served
    | Notified
    | ObservationEnded
    | SendEnded
    | Rebooted
    | Moved
    | HandshakeDone
    | Resumed
    | HandshakeFailed
    | SessionLost
    | BootstrapAsked
    | Bootstrapped
    | BootstrapFailed
    | Enrolled
    | EnrolmentFailed
    | Forgot
    | Remembered
)
