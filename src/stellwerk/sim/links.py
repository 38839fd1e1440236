"""How far one simulated device is with its secure session."""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeAlias

from stellwerk.coap.actions import SendNotification
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed
from stellwerk.sim.device import Device
from stellwerk.sim.security import Credentials

Local: TypeAlias = tuple[str, int]
"""A device's own address: host and port."""


class Stage(Enum):
    """How far a device is with its session."""

    DOWN = auto()
    """There is none, and none is on its way."""
    CONNECTING = auto()
    PAUSING = auto()
    """A handshake failed; the next one comes after a while."""
    UP = auto()


class Link(Timed):
    """One device and its session. ``address``: its server, seen from its own address."""

    __slots__ = (
        "_connect",
        "address",
        "credentials",
        "device",
        "failures",
        "held",
        "is_of_use",
        "is_stale",
        "session",
        "stage",
        "starting",
        "state",
        "stopping",
    )

    def __init__(self, device: Device, credentials: Credentials, connect: Callable[["Link", float], None]) -> None:
        super().__init__()
        self.device = device
        self.address = device.server
        self.credentials = credentials
        self.stage = Stage.DOWN
        self.session: PeerId | None = None
        """The session that stands, or the one before: its successor takes its place in the engine below."""
        self.state: bytes | None = None
        """What a later handshake can go on from."""
        self.failures = 0
        """Handshakes that failed, and sessions that were of no use, one after the other."""
        self.held: list[SendNotification] = []
        """What it tells when it has resumed."""
        self.is_stale = False
        """Its session has to be resumed before anything is said."""
        self.is_of_use = False
        """The server answered or asked something in this session."""
        self.starting = False
        """It has not been started yet."""
        self.stopping = False
        """It leaves as soon as it can say so."""
        self._connect = connect

    @property
    def local(self) -> Local:
        """Its own address."""
        return self.address.local_host, self.address.local_port

    def fire(self, now: float) -> None:
        self._connect(self, now)
