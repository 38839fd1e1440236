"""What is kept of a secure session, so that a restart and a long silence do not end it."""

from dataclasses import dataclass, field
from typing import Final

from stellwerk.core.ids import DeviceId, PeerId

SESSIONS_PER_DEVICE: Final = 4
"""Sessions kept of one device; a new one pushes out the one that was made first."""


@dataclass(frozen=True, slots=True)
class SecureSession:
    """``session_id`` has 8 bytes (`core.ids.session_peer`), ``address`` is where it was heard last, ``state`` the keys
    and what else the engine needs to go on. No record numbered ``ceiling`` (epoch << 48 | sequence number) or above was
    sent; none above ``read_mark`` (likewise) was read. ``created_ms``: UTC milliseconds since 1970."""

    session_id: bytes
    device_id: DeviceId
    address: PeerId
    state: bytes = field(repr=False)
    ceiling: int
    created_ms: int
    read_mark: int = 0
    by_address: bool = True
    """False where nobody will ask for it by its address, because every record brings our connection ID: it is stored
    for a good deal less then."""
