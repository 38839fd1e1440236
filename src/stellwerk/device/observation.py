"""Observations we want of a device, kept as desired state (RFC 7641; contract OB-5, OB-7..9)."""

from dataclasses import dataclass

from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.path import Path


@dataclass(frozen=True, slots=True)
class WantedObservation:
    """One relation per (device, path). ``token`` is what its notifications carry; it is stored before the Observe
    leaves and drawn anew for every new Observe after a re-Register. ``labels`` go on its notifications (trace labels);
    ``method`` and ids of the command that asked for it stand there too."""

    device_id: DeviceId
    path: Path
    token: bytes
    accept: int | None
    attributes: tuple[tuple[str, str | None], ...]
    labels: tuple[str, ...]
    created_ms: int
