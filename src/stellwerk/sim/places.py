"""Where a request of a server goes within a device: to its own objects, or to those of an end device behind it
(contract R-11, §12)."""

from collections.abc import Iterable, KeysView

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
from stellwerk.sim.access import Access
from stellwerk.sim.tree import Denied

_COMPOSITE = (codes.FETCH, codes.IPATCH)


class Places:
    """The trees that one server reaches through a device, by prefix; the device's ``own`` has none. ``root`` is the
    alternate path before all of them."""

    __slots__ = ("_behind", "_root", "own")

    def __init__(self, own: Access, root: str) -> None:
        self.own = own
        self._root = tuple(each for each in root.split("/") if each)
        self._behind: dict[str, Access] = {}

    @property
    def prefixes(self) -> KeysView[str]:
        """Of the end devices."""
        return self._behind.keys()

    def all(self) -> Iterable[Access]:
        """The device's own first."""
        return (self.own, *self._behind.values()) if self._behind else (self.own,)

    def get(self, prefix: str) -> Access | None:
        """The tree with ``prefix``; None where it has gone."""
        return self._behind.get(prefix) if prefix else self.own

    def add(self, prefix: str, access: Access) -> None:
        self._behind[prefix] = access

    def remove(self, prefix: str) -> None:
        del self._behind[prefix]

    def find(self, request: RequestReceived) -> tuple[Access, tuple[str, ...]]:
        """The tree that ``request`` is for, and the path within it. A path that leads nowhere is left as it is: it is
        no path of the device's own either."""
        segments = request.path
        if not segments and request.code in _COMPOSITE:
            return self._named_in(request), ()
        if segments[: len(self._root)] != self._root:
            # Of an object without the root before it, nothing is known.
            return self.own, ("", *segments)
        segments = segments[len(self._root) :]
        if segments and segments[0] in self._behind:
            return self._behind[segments[0]], segments[1:]
        return self.own, segments

    def _named_in(self, request: RequestReceived) -> Access:
        # The paths of a composite request say whom it is for.
        for each in self.all() if self._behind else ():
            try:
                if request.code == codes.FETCH:
                    each.bodies.decode_paths(request)
                else:
                    each.bodies.decode_changes(request, 0.0)
            except Denied:
                continue
            return each
        return self.own
