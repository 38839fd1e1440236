"""What the page of a device says of bootstrapping: the sessions, and on request what the device would be given."""

from collections.abc import Sequence
from typing import Final

from nicegui import ui

from stellwerk.app.ports import StoreTrouble
from stellwerk.console.bootstrap_rendering import session_rows
from stellwerk.console.frame import Page
from stellwerk.console.live_table import Column, LiveTable
from stellwerk.core.errors import StellwerkError
from stellwerk.device.bootstrap.history import BootstrapSession
from stellwerk.device.record import DeviceRecord

_SESSIONS: Final = (
    Column("time", "Began", "ago"),
    Column("state", "State", "chip"),
    Column("brief", "Session", "open"),
)


class BootstrapSection:
    """Built into the section that is open; `show` what changed. ``may_begin``: also a device that did not ask."""

    def __init__(
        self, page: Page, record: DeviceRecord, sessions: Sequence[BootstrapSession], *, may_begin: bool
    ) -> None:
        self._page = page
        self._record = record
        with ui.element("div").classes("scroll tall"):
            self._table = LiveTable(
                _SESSIONS,
                session_rows(sessions),
                caption="Bootstrap sessions, newest first",
                empty="It has never asked to be bootstrapped.",
                now_ms=page.now_ms(),
            )
        if page.services.bootstrap is None:
            return
        with ui.element("div").classes("foot"):
            ui.button("What would it be given?", on_click=self._preview).props("dense flat no-caps")
            if may_begin:
                ui.button("Bootstrap it now", on_click=self._begin).props("dense flat no-caps")
        with ui.dialog() as self._dialog, ui.element("div").classes("card").props("role=document"):
            ui.label(f"What {record.name} would be given").props('role=heading aria-level="2"')
            ui.label("As if it could not be asked what it holds. Nothing is sent, secrets are withheld.").classes(
                "quiet"
            )
            self._plan = ui.element("pre").props("tabindex=0")
            with self._plan:
                self._text = ui.label()
            ui.button("Close", on_click=self._dialog.close).props("dense flat no-caps")

    def show(self, sessions: Sequence[BootstrapSession]) -> None:
        self._table.show(session_rows(sessions), self._page.now_ms())

    async def _preview(self) -> None:
        sight = self._page.services.bootstrap
        if sight is None or not self._page.may:
            return
        try:
            self._text.text = str(await sight.preview(self._record))
        except (StellwerkError, StoreTrouble) as error:
            # What people have to mend: the device would be refused with it.
            self._text.text = f"Nothing: {error}"
        self._dialog.open()

    async def _begin(self) -> None:
        sight = self._page.services.bootstrap
        if sight is None or not self._page.may:
            return
        try:
            await sight.begin(self._record)
        except (StellwerkError, StoreTrouble) as error:
            ui.notify(f"Not begun: {error}", type="negative", timeout=8000, close_button="Close", multi_line=True)
