"""The live sessions of one endpoint: by id, by address and by what resumes them; the idle ones make room."""

from collections import deque
from collections.abc import Callable
from typing import Final

from stellwerk.core.ids import PeerId
from stellwerk.dtls.association import Association

_EVICTION_TRIES: Final = 64
_SLACK: Final = 64


class Sessions:
    """At most ``limit`` sessions."""

    __slots__ = ("_by_address", "_by_id", "_by_root", "_limit", "_turns", "find", "find_at")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_id: dict[bytes, Association] = {}
        self._by_address: dict[PeerId, Association] = {}
        # Only resumed sessions: all others are their own root.
        self._by_root: dict[bytes, Association] = {}
        # Second chance: whoever was heard since its last turn gets another. No order has to be kept on the hot path.
        self._turns: deque[Association] = deque()
        self.find: Callable[[bytes], Association | None] = self._by_id.get
        """The session with this id of 8 bytes. Each datagram asks, so it is the table's own method."""
        self.find_at: Callable[[PeerId], Association | None] = self._by_address.get
        """The session that records without connection ID from this address are for, or one that was heard there."""

    def __len__(self) -> int:
        return len(self._by_id)

    def find_root(self, root: bytes) -> Association | None:
        """The newest session whose TLS session id begins with ``root``."""
        resumed = self._by_root.get(root)
        if resumed is not None:
            return resumed
        first = self._by_id.get(root)
        return first if first is not None and first.root == root else None

    def add(self, session: Association, *, is_old: bool = False) -> Association | None:
        """Take in a session; one that ``is_old`` leaves its address, and its root, to whoever is there. Returns an idle
        one that has to go for it, and is still here."""
        idle = self._find_idle() if len(self._by_id) >= self._limit else None
        self._by_id[session.session_id] = session
        if session.root != session.session_id and not (is_old and session.root in self._by_root):
            self._by_root[session.root] = session
        if not is_old or session.address not in self._by_address:
            self.place(session)
        self._turns.append(session)
        if len(self._turns) > 2 * len(self._by_id) + _SLACK:
            self._turns = deque(turn for turn in self._turns if not turn.ended)
        return idle

    def place(self, session: Association) -> None:
        """Note where ``session`` is. One with a connection ID pushes none away that is known by its address alone."""
        before = self._by_address.get(session.address)
        if before is None or not session.own_cid or before.own_cid:
            self._by_address[session.address] = session

    def move(self, session: Association, address: PeerId) -> None:
        """``session`` is at another address now."""
        if self._by_address.get(session.address) is session:
            del self._by_address[session.address]
        session.address = address
        self.place(session)

    def drop(self, session: Association) -> None:
        """Forget ``session``."""
        session.ended = True
        del self._by_id[session.session_id]
        if self._by_address.get(session.address) is session:
            del self._by_address[session.address]
        if self._by_root.get(session.root) is session:
            del self._by_root[session.root]

    def _find_idle(self) -> Association | None:
        turns = self._turns
        tries = _EVICTION_TRIES
        while turns:
            session = turns.popleft()
            if session.ended:
                continue
            tries -= 1
            if not session.heard or tries <= 0:
                return session
            session.heard = False
            turns.append(session)
        return None
