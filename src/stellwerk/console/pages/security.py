"""Secure sessions, and the handshakes that came to nothing: the first thing to look at where a device stays away."""

from typing import Final

from fastapi import Request
from nicegui import ui

from stellwerk.app.failures import Security
from stellwerk.app.views import View
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
    view = page.services.views.security(page.session.account.tenant or None)
    content = await view.now()
    if content is None:
        page.say("Nothing to show: the secure port is off (STELLWERK_COAPS_PORT).")
        return
    _Security(page, view, content)


class _Security:
    def __init__(self, page: Page, view: View[Security], content: Security) -> None:
        self._page, self._view = page, view
        with page.body:
            with ui.element("div").classes("bar"):
                ui.label("Security").props('role=heading aria-level="1"').classes("title")
                self._count = ui.label(_sessions(content)).classes("quiet").props('aria-live="polite"')
            self._table = LiveTable(
                _COLUMNS,
                _rows(content),
                caption="Handshakes that failed, newest first",
                empty="No handshake has failed since the start.",
                now_ms=page.now_ms(),
            )
        page.follow(view, self._show)

    def _show(self) -> None:
        content = self._view.content
        if content is not None:
            self._count.text = _sessions(content)
            self._table.show(_rows(content), self._page.now_ms())


def _sessions(content: Security) -> str:
    if content.sessions is None:
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
