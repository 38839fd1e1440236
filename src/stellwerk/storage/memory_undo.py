"""Transactions over plain dicts: what was written is taken back when not all of it can be."""

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Undo:
    """A transaction for each ``with``: any exception out of it takes back, newest first, what was written inside.

    Transactions follow each other and are not nested.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            for step in reversed(self._steps):
                step()
        self._steps.clear()

    def write(self, table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
        self._remember(table, key)
        table[key] = value

    def delete(self, table: dict[_Key, _Value], key: _Key) -> None:
        """Nothing, where ``key`` is not there."""
        self._remember(table, key)
        table.pop(key, None)

    def _remember(self, table: dict[_Key, _Value], key: _Key) -> None:
        if key in table:
            before = table[key]
            self._steps.append(lambda: table.__setitem__(key, before))
        else:
            self._steps.append(lambda: table.pop(key, None))
