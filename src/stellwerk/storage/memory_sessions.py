"""Secure sessions with plain dicts: a part of `memory`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from stellwerk.app.security_ports import Marks
from stellwerk.app.session import SecureSession
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.storage.memory_models import MemoryModels


class MemorySessions(MemoryModels):
    """A part of `MemoryStore`."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: Callable[[], Marks] | None = None
        self._sessions: dict[bytes, SecureSession] = {}
        """As they were made."""
        self._read_marks: dict[bytes, int] = {}

    async def session(self, session_id: bytes) -> SecureSession | None:
        found = self._sessions.get(session_id)
        return None if found is None else self._marked(found)

    async def session_from(self, address: PeerId) -> SecureSession | None:
        found = [each for each in self._sessions.values() if each.by_address and each.address == address]
        return self._marked(found[-1]) if found else None

    async def sessions_of(self, device_id: DeviceId) -> Sequence[SecureSession]:
        return [self._marked(each) for each in self._sessions.values() if each.device_id == device_id]

    async def drop_sessions(self) -> int:
        dropped = len(self._sessions)
        self._sessions.clear()
        return dropped

    def _take_marks(self) -> None:
        for session_id, mark in () if self.marks is None else self.marks():
            self._read_marks[session_id] = max(mark, self._read_marks.get(session_id, 0))

    def _marked(self, session: SecureSession) -> SecureSession:
        mark = self._read_marks.get(session.session_id, 0)
        return session if mark <= session.read_mark else replace(session, read_mark=mark)
