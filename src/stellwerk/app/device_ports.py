"""What the use cases need of the device side, as protocols, and what it answers. `southbound` implements them."""

from dataclasses import dataclass
from typing import Protocol

from stellwerk.app.session import SecureSession
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.bootstrap import BootstrapOperation
from stellwerk.lwm2m.operations import Operation


@dataclass(slots=True)
class DeviceAnswer:
    """What came of an operation, as the wire gave it. ``failure`` is empty when the device answered with ``status``
    (``205``); else ``timeout``, ``reset``, ``refused``, ``malformed``, ``oversized``, ``cancelled``, ``lost`` (with its
    connection, after it was sent), ``unconnected`` (nothing was sent), ``unprotected`` (an error came without OSCORE to
    a request with it), ``undecodable`` (one of several answers that were put together) or ``unsupported`` (the device
    cannot do this, and there is nothing as good that it can), and
    ``detail`` says more. ``observing``: the answer established an observation, in the format ``accept`` (-1: none was
    asked for). ``acknowledged``: of a timeout, the device got the request. ``to_attributes``: the device refused the
    attributes of an Observe, which was not sent then. ``instances``: of a Create whose answer did not say what was
    made, the instances that the object has now; None where that is not known."""

    handle: int
    status: int = 0
    content_format: int = -1
    payload: bytes = b""
    location: str = ""
    observing: bool = False
    failure: str = ""
    detail: str = ""
    accept: int = -1
    to_attributes: bool = False
    instances: tuple[int, ...] | None = None
    acknowledged: bool = False


@dataclass(slots=True)
class Acknowledgement:
    """Our answer to an uplink, handed to southbound by the use case after the commit. ``max_age_s`` goes with 5.03.
    ``prove``: with 4.01, the device has to show that it receives at its address before we believe it is there.
    ``payload`` in ``content_format``: what was asked for, with 2.05."""

    status: int
    location: str = ""
    detail: str = ""
    max_age_s: int = 0
    prove: bool = False
    payload: bytes = b""
    content_format: int = -1


class DeviceLink(Protocol):
    """Southbound: operations down. Outcomes come back through the callbacks that wiring set."""

    def draw_token(self) -> bytes:
        """A fresh unguessable token for an Observe."""
        ...

    def choose_format(self, registration: Registration, operation: Operation) -> int:
        """The Content-Format that `send` would begin with where the operation names none (contract D-2)."""
        ...

    def send(
        self,
        handle: int,
        registration: Registration,
        operation: Operation,
        token: bytes | None = None,
        ack_timeout_s: float | None = None,
    ) -> None:
        """Start the operation; its `DeviceAnswer` arrives later with this ``handle``, exactly once. It may take several
        requests: another format, attributes first, single reads in the place of a composite. ``token``: of the request
        with Observe. ``ack_timeout_s``: until the first repetition, None for the transport's own."""
        ...

    def cancel(self, handle: int) -> None:
        """Give the operation up; its answer is ``cancelled`` unless another came first."""
        ...

    def hold(self, handle: int) -> None:
        """The device sleeps: do not repeat what it has not acknowledged; the time for it runs on."""
        ...

    def repeat(self, handle: int) -> None:
        """The device listens again: repeat at once what it has not acknowledged, as the same message."""
        ...

    def prove_peer(self, peer: PeerId) -> None:
        """The device at ``peer`` showed that it receives what we send there."""
        ...

    def reaches(self, peer: PeerId) -> bool:
        """Whether something could be sent to ``peer`` now: always to an address, to a connection while it stands."""
        ...

    def move_peer(self, old: PeerId, new: PeerId) -> None: ...
    def forget_peer(self, peer: PeerId) -> None: ...
    def forget_observation(self, peer: PeerId, token: bytes) -> None: ...


class BootstrapLink(Protocol):
    """Southbound: what a bootstrap server asks. Outcomes come back as `DeviceAnswer` through the callback that wiring
    set, exactly once each."""

    def send(self, handle: int, peer: PeerId, operation: BootstrapOperation) -> None:
        """Send one confirmable request. Never a second one to a peer before the first has its answer."""
        ...

    def cancel(self, handle: int) -> None:
        """Give the request up."""
        ...

    def end(self, peer: PeerId) -> None:
        """The session with ``peer`` is over: forget it; a secure session is closed once what was sent has arrived."""
        ...


class SecureLink(Protocol):
    """Southbound: what secure sessions are told. ``handshake`` and ``question`` are the numbers that a question came
    with; an answer that comes too late is ignored."""

    def give_key(self, handshake: int, key: bytes, device_id: DeviceId) -> None:
        """The device has this pre-shared key."""
        ...

    def accept(self, handshake: int, device_id: DeviceId) -> None:
        """Who has proven its identity, or wants to resume, is that device."""
        ...

    def refuse(self, handshake: int, reason: str, detail: str) -> None:
        """It may not come in; it learns no more than of a wrong key. ``reason`` and ``detail`` come back with the
        failed handshake."""
        ...

    def restore(self, question: int, session: SecureSession) -> bool:
        """That is the session asked for; whether it is in memory now."""
        ...

    def no_session(self, question: int) -> None: ...
    def lose(self, peer: PeerId, why: str) -> None:
        """There is no such session any more: what was to be asked over it did not leave."""
        ...

    def stored(self, session_id: bytes, ceiling: int) -> None:
        """The session's state with this ceiling is on disk."""
        ...

    def close(self, peer: PeerId, *, revoked: bool = False) -> None:
        """End a session. ``revoked``: its device shall not come again as it is."""
        ...

    def forget_handshakes(self, device_id: DeviceId) -> None:
        """The device's credentials changed: nobody gets in with what they were."""
        ...

    def follow(self, old: PeerId, new: PeerId) -> None:
        """``new`` resumes the session that ``old`` was: requests under way and observations go on there."""
        ...
