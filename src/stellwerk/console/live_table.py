"""A table in the browser that takes only what changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from nicegui import json
from nicegui.element import Element
from nicegui.events import GenericEventArguments

Kind: TypeAlias = Literal["text", "mono", "link", "chip", "ago", "clock", "value", "open", "action"]
Row: TypeAlias = dict[str, Any]
"""Cells by column name, all JSON, with an ``id``. A ``link`` leads to ``href``, ``value`` has ``units`` behind it,
``open`` shows ``full`` when opened, the button of an ``action`` is about ``about``. A row that has a ``group`` starts
one of that name. Times are UTC ms, 0 = never."""


@dataclass(frozen=True, slots=True)
class Column:
    """``name``: of the cell in a row; ``kind``: how it is shown."""

    name: str
    label: str
    kind: Kind = "text"


class LiveTable(Element, component="components/live_table.js"):
    """``caption`` is for people who do not see the page. ``on_act``: called with the ``id`` of a row whose button was
    pressed."""

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Sequence[Row],
        *,
        caption: str,
        empty: str,
        now_ms: int,
        on_act: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        # The browser takes these once; from then on it is told what differs.
        self._props["columns"] = [{"name": each.name, "label": each.label, "kind": each.kind} for each in columns]
        self._props["rows"] = list(rows)
        self._props["caption"] = caption
        self._props["empty"] = empty
        self._props["now_ms"] = now_ms
        self._shown = {each["id"]: each for each in rows}
        if on_act is not None:

            async def act(event: GenericEventArguments) -> None:
                result = on_act(event.args)
                if hasattr(result, "__await__"):
                    await result

            self.on("act", act)

    def show(self, rows: Sequence[Row], now_ms: int) -> bool:
        """Push what differs from what was shown before; False when nothing does."""
        before = self._shown
        changed = [each for each in rows if before.get(each["id"]) != each]
        order: list[Any] | None = [each["id"] for each in rows]
        if order == list(before):
            order = None
        if not changed and order is None:
            return False
        self._shown = {each["id"]: each for each in rows}
        arguments = json.dumps([changed, order, now_ms])
        self.client.run_javascript(f"runMethod({self.id}, 'apply', {arguments})")
        return True
