"""The list of devices: searched and paged, with the state of those that are shown."""

from typing import Any, Final

from fastapi import Request
from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from stellwerk.app.views import COUNT_AT_MOST, DeviceLine, DeviceList, DeviceQuery, View
from stellwerk.console.frame import Page
from stellwerk.console.live_table import Column, LiveTable, Row
from stellwerk.core.ids import TenantId
from stellwerk.device.record import DeviceRecord

PAGE_SIZE: Final = 50
LONGEST_TEXT: Final = 200

_COLUMNS: Final = (
    Column("state", "State", "chip"),
    Column("name", "Device", "link"),
    Column("node_id", "Node ID", "mono"),
    Column("seen", "Last seen", "ago"),
    Column("since", "Registered", "ago"),
    Column("labels", "Labels"),
)
_OF_ALL_TENANTS: Final = (*_COLUMNS[:2], Column("tenant", "Tenant"), *_COLUMNS[2:])


@ui.page("/")
async def devices(request: Request, q: str = "") -> None:
    """``q``: the text to search for."""
    page = Page(request, "Devices")
    try:
        tenant_id = await page.tenant_id()
    except LookupError as error:
        page.say(f"Nothing to show: {error}.")
        return
    await _DeviceListing(page, tenant_id).build(q[:LONGEST_TEXT].strip())


class _DeviceListing:
    def __init__(self, page: Page, tenant_id: TenantId | None) -> None:
        self._page = page
        self._tenant_id = tenant_id
        self._text = ""
        self._before = 0
        """How many devices come before the first one shown."""
        self._view: View[DeviceList] = page.services.views.devices(DeviceQuery(tenant_id, limit=PAGE_SIZE))

    async def build(self, text: str) -> None:
        page = self._page
        self._text = text
        self._view = page.services.views.devices(DeviceQuery(self._tenant_id, text, PAGE_SIZE))
        await self._view.now()
        with page.body:
            with ui.element("div").classes("bar"):
                ui.label("Devices").props('role=heading aria-level="1"').classes("title")
                self._found = ui.label().classes("quiet").props('aria-live="polite"')
                ui.element("span").classes("space")
                search = ui.input(value=text, placeholder="Name, node ID or label", on_change=self._search)
                search.props(f'dense outlined type=search debounce=300 maxlength={LONGEST_TEXT} aria-label="Search"')
                search.classes("search")
                with ui.element("div").classes("pager"):
                    self._back = ui.button("Previous", on_click=self._turn_back).props("flat dense no-caps")
                    self._on = ui.button("Next", on_click=self._turn_on).props("flat dense no-caps")
            self._table = LiveTable(
                _COLUMNS if self._tenant_id is not None else _OF_ALL_TENANTS,
                self._rows(),
                caption="Devices with state and last seen",
                empty="No device. Provision one through the API, or search for something else.",
                now_ms=page.now_ms(),
            )
        self._show_pager()
        page.follow(self._view, self._show)

    def _show(self) -> None:
        self._table.show(self._rows(), self._page.now_ms())
        self._show_pager()

    def _rows(self) -> list[Row]:
        content = self._view.content
        return [] if content is None else [_row(each) for each in content.lines]

    def _show_pager(self) -> None:
        content = self._view.content or DeviceList()
        shown = len(content.lines)
        first = self._before + 1
        count = f"{content.count:,}" + (" or more" if content.count >= COUNT_AT_MOST else "")
        self._found.text = f"{first:,} to {self._before + shown:,} of {count}" if shown else "none"
        self._back.set_enabled(content.has_before)
        self._on.set_enabled(content.has_after)

    async def _search(self, event: ValueChangeEventArguments[Any]) -> None:
        text = str(event.value or "")[:LONGEST_TEXT].strip()
        if text == self._text or not self._page.may:
            return
        self._text = text
        # The address is what people bookmark and send to each other.
        ui.run_javascript(
            "{const u = new URL(location.href); const q = document.querySelector('.search input').value.trim();"
            " q ? u.searchParams.set('q', q) : u.searchParams.delete('q'); history.replaceState(null, '', u);}"
        )
        await self._go(DeviceQuery(self._tenant_id, text, PAGE_SIZE), 0)

    async def _turn_on(self) -> None:
        lines = self._lines()
        if lines and self._page.may:
            query = DeviceQuery(self._tenant_id, self._text, PAGE_SIZE, after=lines[-1])
            await self._go(query, self._before + len(lines))

    async def _turn_back(self) -> None:
        lines = self._lines()
        if lines and self._page.may:
            query = DeviceQuery(self._tenant_id, self._text, PAGE_SIZE, before=lines[0])
            await self._go(query, None)

    async def _go(self, query: DeviceQuery, before: int | None) -> None:
        """Show what ``query`` finds; ``before``: how many come before that, None for a page back."""
        view = self._page.services.views.devices(query)
        content = await view.now()
        if query.text != self._text:
            return  # somebody typed on while this was looked up
        self._view = view
        if before is None:
            before = max(0, self._before - (len(content.lines) if content else 0))
        self._before = before if content is None or content.has_before else 0
        self._show()
        self._page.follow(view, self._show)

    def _lines(self) -> list[DeviceRecord]:
        content = self._view.content
        return [] if content is None else [each.record for each in content.lines]


def _row(line: DeviceLine) -> Row:
    record = line.record
    return {
        "id": record.device_id,
        "href": f"/devices/{record.device_id}",
        "state": line.standing,
        "name": record.name,
        "tenant": record.tenant,
        "node_id": record.node_id,
        "seen": line.last_seen_ms,
        "since": line.registered_ms,
        "labels": ", ".join(record.labels),
    }
