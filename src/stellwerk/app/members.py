"""JSON objects that people write: each member is taken by its name, and whatever is wrong names the member and the rule
it breaks. The text never holds a key."""

import re
from collections.abc import Collection
from typing import Any, Final

from stellwerk.app.credentials import WITHHELD, BadCredential
from stellwerk.device.key_material import digits_fault

_HEX: Final = re.compile(r"[0-9a-fA-F]*")
_LEAST_KEY: Final = 16
"""As many hex digits may be a key that stands in the wrong place."""


class BadField(BadCredential):
    """``field`` (``client.key``) of a record breaks ``rule``."""

    def __init__(self, field: str, rule: str) -> None:
        self.field, self.rule = field, rule
        super().__init__(f"{field}: {rule}")


class Twice(ValueError):
    """A member ``name`` is given twice."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: the members, each there once. Raises `Twice`."""
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise Twice(shown(next(each for each in names if names.count(each) > 1)))
    return members


class Members:
    """An object of the record; ``path`` stands before the names of its members in errors."""

    def __init__(self, path: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise BadField(path or "record", "it is a JSON object")
        self._path = path
        self._members: dict[str, Any] = value

    def bad(self, name: str, rule: str) -> BadField:
        return BadField(f"{self._path}.{name}" if self._path else name, rule)

    def check(self, known: Collection[str], spare: Collection[str] = (), mode: str = "") -> None:
        """Other members are refused, since they are slips of the pen; those of ``spare`` may be there, but empty."""
        for name, value in self._members.items():
            if name in known or (name in spare and value in (None, "")):
                continue
            if name in spare:
                raise self.bad(name, f"mode {mode} has none")
            raise self.bad(shown(name), f"there is no such member; the members are {', '.join(sorted(known))}")

    def need(self, name: str) -> Any:
        if self._members.get(name) is None:
            raise self.bad(name, "it is missing")
        return self._members[name]

    def text(self, name: str) -> str:
        """Not blank."""
        value = self.need(name)
        if not isinstance(value, str):
            raise self.bad(name, "it is a text")
        if not value.strip():
            raise self.bad(name, "it is not blank")
        return value

    def optional(self, name: str) -> str:
        """Empty where it is missing, null or blank."""
        value = self._members.get(name)
        if value is not None and not isinstance(value, str):
            raise self.bad(name, "it is a text")
        return (value or "").strip()

    def one_of(self, name: str, known: Collection[str]) -> str:
        found = self.text(name)
        if found not in known:
            raise self.bad(name, f"it is one of {', '.join(known)}")
        return found

    def hex(self, name: str, least: int, most: int, *, optional: bool = False) -> bytes:
        """``least`` to ``most`` bytes; none where it may be missing."""
        value = self._members.get(name)
        if value is None and optional:
            return b""
        text = self.need(name)
        if not isinstance(text, str):
            raise self.bad(name, "it is a text")
        if not _HEX.fullmatch(text) or len(text) % 2:
            raise self.bad(name, "it is an even number of hex digits")
        if fault := digits_fault(len(text), least, most):
            raise self.bad(name, fault)
        return bytes.fromhex(text)

    def number(self, name: str, known: Collection[int], otherwise: int) -> int:
        """``otherwise`` where it is missing."""
        value = self._members.get(name)
        if value is None:
            return otherwise
        if not isinstance(value, int) or isinstance(value, bool) or value not in known:
            raise self.bad(name, f"it is one of {', '.join(map(str, known))}")
        return value

    def flag(self, name: str) -> bool:
        """False where it is missing."""
        value = self._members.get(name)
        if value not in (None, True, False) or (isinstance(value, int) and not isinstance(value, bool)):
            raise self.bad(name, "it is true or false")
        return bool(value)

    def inner(self, name: str) -> "Members | None":
        """The object of that name; None where it is missing."""
        value = self._members.get(name)
        return None if value is None else Members(f"{self._path}.{name}" if self._path else name, value)

    def names(self) -> list[str]:
        return list(self._members)


def shown(name: str) -> str:
    """What may be repeated of a name that is none."""
    is_key = len(name) >= _LEAST_KEY and _HEX.fullmatch(name)
    return name[:40] if name.isidentifier() and not is_key else WITHHELD
