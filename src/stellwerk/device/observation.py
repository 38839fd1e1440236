"""Observations we want of a device, kept as desired state (RFC 7641; contract OB-5, OB-7..9)."""

from dataclasses import dataclass

from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.operations import (
    AnyCancel,
    AnyObserve,
    CancelComposite,
    CancelObservation,
    Observe,
    ObserveComposite,
)
from stellwerk.lwm2m.paths import Paths, Target


@dataclass(frozen=True, slots=True)
class WantedObservation:
    """One relation per (device, path), or per list of paths where ``path`` is one (Observe-Composite). ``token`` is
    what its notifications carry; it is stored before the Observe leaves and drawn anew for every new Observe after a
    re-Register. ``accept`` is the format that the Observe asked for, of a list also that of the list; a cancel repeats
    it. ``labels`` go on its notifications (trace labels); ``method`` and ids of the command that asked for it stand
    there too."""

    device_id: DeviceId
    path: Target
    token: bytes
    accept: int | None
    attributes: tuple[tuple[str, str | None], ...]
    labels: tuple[str, ...]
    created_ms: int

    def observe(self) -> AnyObserve:
        """The operation that sets the relation up, in a format that is still to be chosen."""
        if isinstance(self.path, Paths):
            return ObserveComposite(self.path, None, None, self.attributes)
        return Observe(self.path, None, self.attributes)

    def observed(self) -> AnyObserve:
        """The operation as it was sent."""
        if isinstance(self.path, Paths):
            return ObserveComposite(self.path, self.accept, self.accept, self.attributes)
        return Observe(self.path, self.accept, self.attributes)

    def cancel(self, *, passive: bool = False) -> AnyCancel:
        """The operation that ends the relation."""
        if isinstance(self.path, Paths):
            return CancelComposite(self.path, self.accept, self.accept, passive)
        return CancelObservation(self.path, self.accept, passive, self.attributes)
