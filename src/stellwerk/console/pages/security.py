"""Whom the server kept out: handshakes that came to nothing, requests that the bootstrap server refused. The first
thing to look at where a device stays away."""

from typing import Final

from fastapi import Request
from nicegui import ui

from stellwerk.app.failures import Security
from stellwerk.app.views import Doors, View
from stellwerk.console.bootstrap_rendering import refused_rows
from stellwerk.console.frame import Page
from stellwerk.console.live_table import Column, LiveTable, Row

_COLUMNS: Final = (
    Column("at", "When", "ago"),
    Column("device", "Device", "link"),
    Column("identity", "Identity"),
    Column("address", "From", "mono"),
    Column("reason", "Reason", "mono"),
    Column("detail", "What was wrong, and what would be right"),
)


@ui.page("/security")
async def security(request: Request) -> None:
    """Of the person's tenant; of all, with those that name no device, for a system administrator."""
    page = Page(request, "Security")
    view = page.services.views.doors(page.session.account.tenant or None)
    content = await view.now() or Doors(None, None)
    if content.secure is None and content.bootstrap is None:
        page.say(
            "Nothing to show: everything that is secure and the bootstrap server are off (STELLWERK_COAPS_PORT, "
            "STELLWERK_OSCORE, STELLWERK_BOOTSTRAP_COAP_PORT, STELLWERK_BOOTSTRAP_COAPS_PORT)."
        )
        return
    _Security(page, view, content)


class _Security:
    def __init__(self, page: Page, view: View[Doors], content: Doors) -> None:
        self._page, self._view = page, view
        self._handshakes: LiveTable | None = None
        self._refused: LiveTable | None = None
        with page.body:
            with ui.element("div").classes("bar"):
                ui.label("Security").props('role=heading aria-level="1"').classes("title")
                self._count = ui.label(_sessions(content.secure)).classes("quiet").props('aria-live="polite"')
            with ui.element("div").classes("stack"):
                if content.secure is not None:
                    self._handshakes = self._table(
                        "Device management",
                        _rows(content.secure),
                        "Handshakes that failed, newest first",
                        "No handshake has failed since the start.",
                    )
                if content.bootstrap is not None:
                    self._refused = self._table(
                        "Bootstrap server",
                        refused_rows(content.bootstrap),
                        "Requests that the bootstrap server refused and handshakes with it that failed, newest first",
                        "Nobody was refused since the start.",
                    )
        page.follow(view, self._show)

    def _table(self, title: str, rows: list[Row], caption: str, empty: str) -> LiveTable:
        with ui.element("section"):
            ui.label(title).props('role=heading aria-level="2"')
            return LiveTable(_COLUMNS, rows, caption=caption, empty=empty, now_ms=self._page.now_ms())

    def _show(self) -> None:
        content, now_ms = self._view.content, self._page.now_ms()
        if content is None:
            return
        self._count.text = _sessions(content.secure)
        if self._handshakes is not None and content.secure is not None:
            self._handshakes.show(_rows(content.secure), now_ms)
        if self._refused is not None and content.bootstrap is not None:
            self._refused.show(refused_rows(content.bootstrap), now_ms)


def _sessions(content: Security | None) -> str:
    if content is None or content.sessions is None:
        return ""
    return f"{content.sessions} secure session{'' if content.sessions == 1 else 's'} in memory"


def _rows(content: Security) -> list[Row]:
    return [
        {
            "id": each.number,
            "at": each.at_ms,
            "device": each.device,
            "href": f"/devices/{each.device_id}",
            "identity": each.identity,
            "address": each.address,
            "reason": each.reason,
            "detail": each.detail,
        }
        for each in content.failures
    ]
