"""Members of a JSON object that people write, each read by its rule (`configuration`)."""

import json
from collections.abc import Mapping
from typing import Any, Final

from stellwerk.core.errors import UserError

_MOST_SHOWN: Final = 40


class BadBootstrap(UserError):
    """``field`` (``bootstrap[1].shortServerId``) of a configuration breaks ``rule``."""

    def __init__(self, field: str, rule: str) -> None:
        self.field, self.rule = field, rule
        super().__init__(f"{field}: {rule}")


def is_number(value: object, allowed: range) -> bool:
    """Whether it is one of ``allowed``; true and false are no numbers."""
    return type(value) is int and value in allowed


def _shown(value: object) -> str:
    """What stands there, as JSON has it; of much only what it is."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


class Members:
    """An object of the configuration; ``path`` stands before the names of its members in errors. Whatever reads one
    raises `BadBootstrap`, which may show what stands there: a profile holds no secrets."""

    def __init__(self, path: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise BadBootstrap(path or "profile", f"it is a JSON object, not {_shown(value)}")
        self._path = path
        self._members: Mapping[str, Any] = value

    def bad(self, name: str, rule: str) -> BadBootstrap:
        """The error to raise about a member."""
        return BadBootstrap(f"{self._path}.{name}" if self._path else name, rule)

    def need(self, name: str) -> Any:
        """Whatever it is, but null."""
        if self._members.get(name) is None:
            raise self.bad(name, "it is missing")
        return self._members[name]

    def text(self, name: str, usual: str | None = None, *, longest: int) -> str:
        """``usual`` where it is missing or null; without one it has to be there and not blank."""
        value = self._members.get(name)
        if value is None:
            if usual is None:
                raise self.bad(name, "it is missing")
            return usual
        if not isinstance(value, str):
            raise self.bad(name, f"it is a text, not {_shown(value)}")
        if usual is None and not value.strip():
            raise self.bad(name, "it is not blank")
        if len(value) > longest:
            raise self.bad(name, f"it has {len(value)} characters, {longest} are the most")
        return value

    def choice(self, name: str, of: Mapping[str, Any], usual: str | None = None) -> str:
        """One of the names in ``of``; ``usual`` as for `text`."""
        if usual is None and self._members.get(name) is None:
            raise self.bad(name, f"it is one of {', '.join(of)}, and it is missing")
        value = self.text(name, usual, longest=100)
        if value not in of:
            raise self.bad(name, f"it is one of {', '.join(of)}, not {_shown(value)}")
        return value

    def flag(self, name: str, usual: bool) -> bool:
        """``usual`` where it is missing or null."""
        value = self._members.get(name)
        if value is None:
            return usual
        if not isinstance(value, bool):
            raise self.bad(name, f"it is true or false, not {_shown(value)}")
        return value

    def number(self, name: str, allowed: range, usual: int | None = None) -> int:
        """``usual`` where it is missing; null is a number that is missing."""
        value = self._members.get(name, usual)
        if not is_number(value, allowed):
            found = "and it is missing" if value is None else f"not {_shown(value)}"
            raise self.bad(name, f"it is a whole number, {allowed[0]} to {allowed[-1]}, {found}")
        return int(value)

    def optional_choice(self, name: str, of: Mapping[str, Any]) -> str:
        """Empty where it is missing or null."""
        return "" if self._members.get(name) is None else self.choice(name, of)

    def optional_number(self, name: str, allowed: range) -> int | None:
        """None where it is missing or null."""
        return None if self._members.get(name) is None else self.number(name, allowed)

    def list(self, name: str, most: int) -> list[Any]:
        """Empty where it is missing or null."""
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(name, f"it is a list, not {_shown(value)}")
        if len(value) > most:
            raise self.bad(name, f"it has {len(value)} entries, {most} are the most")
        return value
