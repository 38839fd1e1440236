"""One CoAP engine of the bootstrap server: its events become calls of `app`, and `app`'s wishes become its actions."""

from collections.abc import Callable
from typing import Protocol

from stellwerk.app.ports import Acknowledgement, DeviceAnswer
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.bootstrap import BootstrapUplink


class Bootstrapping(Protocol):
    """The use case above the link."""

    def requested(
        self,
        uplink: BootstrapUplink,
        peer: PeerId,
        at: Instant,
        answer: Callable[[Acknowledgement], None],
        fresh: bool,
    ) -> None:
        """A device asks to be bootstrapped, or for a pack. ``answer`` is called once, now or later: 2.04, 2.05 with
        ``payload`` and ``content_format``, or an error. ``fresh``: who sent it has shown that it receives at
        ``peer``, which an answer with ``prove`` asks for."""
        ...

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        """What came of an operation that `BootstrapLink.send` was given; once for each, never within the call of
        `send` itself."""
        ...

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """The connection or secure session ``peer`` has ended; what was asked over it has been answered ``lost``."""
        ...
