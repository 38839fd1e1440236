"""A command as a client asked for it, before it is an operation: faces make these, `handlers.commands` takes them."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Verb: TypeAlias = Literal[
    "read",
    "write",
    "execute",
    "observe",
    "unobserve",
    "discover",
    "create",
    "delete",
    "write-attributes",
    "read-composite",
    "write-composite",
    "observe-composite",
    "unobserve-composite",
]


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """``path`` as written. ``value``: text of a protocol-mode WRITE or a JSON value; None = absent. ``from_text``
    says the value came as text and takes its type from the object model. ``arguments``: of execute. ``attributes``: of
    observe and write-attributes, a value of None unsets; of discover, ``depth``; of unobserve, ``passive`` without a
    value. ``content`` is what sent-msg shows for this single command (string or JSON object). ``paths``: of composites,
    as written; ``path`` shows them then, and the value of write-composite maps paths to values."""

    verb: Verb
    path: str
    content: Any
    value: Any = None
    has_value: bool = False
    from_text: bool = True
    arguments: str = ""
    attributes: tuple[tuple[str, str | None], ...] = ()
    paths: tuple[str, ...] = ()
    priority: int | None = None
    """Of the commands that wait the higher goes first; None: as its message says, or the device's profile."""
    replace: bool | None = None
    """Of a write: whether what it does not name goes (Core §6.3.3); None: of a resource, and not of an instance."""

    @property
    def method(self) -> str:
        """The word that the response message has for the verb (contract Device to Cloud §8)."""
        return "exec" if self.verb == "execute" else self.verb


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A command that cannot be sent: ``reason`` is a key of the status table (contract Device to Cloud §12), ``detail``
    says what would be right. ``method``: the response's word, empty when not even that is known."""

    method: str
    path: str
    reason: str
    detail: str
    content: Any
