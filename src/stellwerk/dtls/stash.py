"""Records of epoch 1 that came before their keys (RFC 6347 §4.2.4: they may overtake what they follow)."""

from typing import Final

from stellwerk.dtls.records import Record

_MOST: Final = 16
_MOST_BYTES: Final = 16_384


class Stash:
    """A bounded number of records, and which of them stood before the peer's ChangeCipherSpec."""

    __slots__ = ("_bytes", "_early", "_records", "changed")

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._bytes = 0
        self._early = 0
        self.changed = False
        """The ChangeCipherSpec came where it belongs."""

    def add(self, record: Record) -> bool:
        """Keep ``record``; False: there is no room."""
        size = len(record.fragment)
        if len(self._records) >= _MOST or self._bytes + size > _MOST_BYTES:
            return False
        self._records.append(record)
        self._bytes += size
        return True

    def note_change(self) -> None:
        """What comes from now on stands behind the ChangeCipherSpec."""
        if not self.changed:
            self.changed = True
            self._early = len(self._records)

    def take(self) -> tuple[list[Record], int]:
        """All records, and how many of them, from the first, stood before the ChangeCipherSpec."""
        taken = self._records, self._early
        self._records, self._bytes, self._early = [], 0, 0
        return taken
