"""What a device knows of its OSCORE contexts: with whom it speaks under which, how far it used their numbers, and which
of them it has to agree on anew (RFC 8613 §7.5, App. B).
"""

from typing import Final

from stellwerk.coap.events import RequestFailed
from stellwerk.core.ids import PeerId
from stellwerk.sim.bootstrap.memory import Ceilings
from stellwerk.sim.bootstrap.options import OscoreValues
from stellwerk.sim.bootstrap.orders import ProtectWay, WayCounted

UNPROTECTED: Final = "unprotected"
"""Why a request failed: the server could not read what was protected. It does not have the context, or not as it is
here."""


def unanswered(event: RequestFailed) -> tuple[str, str]:
    """Reason and detail of a request that came to nothing: ``refused`` where the server answered, in the open, that it
    could not read it, else ``silent``."""
    if event.reason == UNPROTECTED:
        return "refused", f"{UNPROTECTED}: {event.detail}"
    return "silent", event.reason


class KeptContexts:
    """``forgotten``: a context that was used in an earlier life, nobody knows how far."""

    __slots__ = ("_ceilings", "_lost", "_protected")

    def __init__(self, forgotten: OscoreValues | None = None) -> None:
        self._ceilings: dict[OscoreValues, int] = {}
        self._protected: dict[tuple[str, int], OscoreValues] = {}
        self._lost = set() if forgotten is None else {forgotten}

    def protect(self, peer: PeerId, values: OscoreValues) -> ProtectWay:
        """``peer`` is spoken to under ``values`` from now on."""
        self._protected[peer.remote_host, peer.remote_port] = values
        return ProtectWay(peer, values, self._ceilings.setdefault(values, 0), values in self._lost)

    def lose(self, peer: PeerId) -> ProtectWay | None:
        """``peer`` refused what was protected: the next request agrees with it on another ID Context. Whoever made up
        the refusal has won nothing. None where nothing was protected."""
        values = self._protected.get((peer.remote_host, peer.remote_port))
        if values is None:
            return None
        self._lost.add(values)
        return self.protect(peer, values)

    def count(self, event: WayCounted) -> bool:
        """More numbers are used; whether there is something to keep."""
        values = self._protected.get((event.peer.remote_host, event.peer.remote_port))
        if values is not None:
            self._ceilings[values] = event.ceiling
        return values is not None

    def recall(self, values: OscoreValues, ceilings: Ceilings) -> None:
        """What was kept of ``values`` in an earlier life."""
        ids = values.sender_id, values.recipient_id
        self._ceilings[values] = max(
            (ceiling for sender, recipient, ceiling in ceilings if (sender, recipient) == ids), default=0
        )

    def ceilings(self) -> Ceilings:
        """What to keep."""
        return [(each.sender_id, each.recipient_id, ceiling) for each, ceiling in self._ceilings.items()]
