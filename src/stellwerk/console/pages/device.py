"""One device: what it is, its values, what it was told and what it said."""

from typing import Any, Final

from fastapi import Request
from nicegui import ui
from nicegui.events import GenericEventArguments

from stellwerk.app.ports import StoreTrouble
from stellwerk.app.records import ContainerFull, DeviceGone, QueueFull
from stellwerk.app.views import DeviceDetail, View
from stellwerk.console import rendering
from stellwerk.console.bootstrap_section import BootstrapSection
from stellwerk.console.frame import Page
from stellwerk.console.live_table import Column, LiveTable
from stellwerk.core.ids import DeviceId
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.device.record import DeviceRecord

LONGEST_COMMAND: Final = 10_000

_VALUES: Final = (
    Column("path", "Path", "mono"),
    Column("name", "Resource"),
    Column("value", "Value", "value"),
    Column("time", "Time", "ago"),
)
_COMMANDS: Final = (
    Column("content", "Command", "mono"),
    Column("step", "State", "chip"),
    Column("made", "Posted", "ago"),
    Column("cancel", "", "action"),
)
_MESSAGES: Final = (Column("time", "Time", "clock"), Column("kind", "Kind"), Column("brief", "Message", "open"))
_SECURITY: Final = (Column("what", "What"), Column("says", "Value"))
_LOG: Final = (Column("time", "Time", "clock"), Column("event", "Event"), Column("detail", "Detail"))


@ui.page("/devices/{device_id}")
async def device(request: Request, device_id: int) -> None:
    """A device of another tenant is none."""
    page = Page(request, "Device")
    try:
        tenant_id = await page.tenant_id()
    except LookupError as error:
        page.say(f"Nothing to show: {error}.")
        return
    # More than a database can count to is nobody's number.
    record = await page.services.deciding.device(DeviceId(device_id)) if device_id < 1 << 63 else None
    if record is None or tenant_id not in (None, record.tenant_id):
        ui.status_code(404)
        with page.body:
            ui.label("There is no such device").props('role=heading aria-level="1"').classes("title")
            ui.label("It was removed, or it belongs to another tenant.").classes("quiet")
        return
    ui.page_title(f"{record.name} · Stellwerk")
    await _DevicePage(page, record).build()


class _DevicePage:
    def __init__(self, page: Page, record: DeviceRecord) -> None:
        self._page = page
        self._record = record
        self._view: View[DeviceDetail] = page.services.views.device(record.device_id)
        self._shown: DeviceDetail | None = None
        self._bootstrap: BootstrapSection | None = None

    async def build(self) -> None:
        page, record = self._page, self._record
        detail = await self._view.now()
        bootstrap = page.services.bootstrap
        may_begin = bootstrap is not None and await bootstrap.may_begin(record)
        now_ms = page.now_ms()
        with page.body:
            with ui.element("div").classes("bar"):
                ui.label(record.name).props('role=heading aria-level="1"').classes("title")
                self._facts = LiveTable(
                    (Column("state", "State", "chip"), Column("seen", "Last seen", "ago")),
                    rendering.standing_rows(detail),
                    caption="State of the device",
                    empty="",
                    now_ms=now_ms,
                ).classes("inline")
                self._said = ui.label(rendering.facts(record, detail)).classes("quiet")
            with ui.element("div").classes("halves"):
                with ui.element("div").classes("stack"), _section("Values"):
                    self._values = LiveTable(
                        _VALUES,
                        rendering.value_rows(detail),
                        caption="Current values",
                        empty="No value yet. Read one, or wait until the device reports.",
                        now_ms=now_ms,
                    )
                with ui.element("div").classes("stack"):
                    with _section("Commands"):
                        with ui.element("div").classes("command"):
                            self._box = ui.input(placeholder="READ /3/0/0").props(
                                f'dense outlined maxlength={LONGEST_COMMAND} aria-label="Command" autocomplete=off '
                                "spellcheck=false"
                            )
                            # With what stands there: before the page is connected, events may overtake each other.
                            self._box.on("keydown.enter", self._enter, js_handler="(e) => emit(e.target.value)")
                            ui.button("Send", on_click=self._send).props("dense unelevated no-caps")
                        self._commands = _scrolled(
                            _COMMANDS,
                            rendering.command_rows(detail),
                            caption="Commands, newest first",
                            empty="No command yet.",
                            now_ms=now_ms,
                            on_act=self._cancel,
                        )
                    with _section("Security"):
                        self._security = LiveTable(
                            _SECURITY,
                            rendering.security_rows(record, detail),
                            caption="How the device proves who it is",
                            empty="",
                            now_ms=now_ms,
                        ).classes("facts")
                    if self._may_bootstrap(detail):
                        with _section("Bootstrap"):
                            self._bootstrap = BootstrapSection(
                                page, record, detail.bootstraps if detail else (), may_begin=may_begin
                            )
                    with _section("Messages"):
                        self._messages = _scrolled(
                            _MESSAGES,
                            rendering.message_rows(detail),
                            caption="Received messages, newest first",
                            empty="No message yet.",
                            now_ms=now_ms,
                        )
                    with _section("Device log"):
                        self._log = _scrolled(
                            _LOG,
                            rendering.log_rows(detail),
                            caption="Device log, newest first",
                            empty="Nothing happened yet.",
                            now_ms=now_ms,
                        )
        self._shown = detail
        page.follow(self._view, self._show)

    def _may_bootstrap(self, detail: DeviceDetail | None) -> bool:
        if isinstance(self._record, EndDeviceRecord):
            return False
        return self._page.services.bootstrap is not None or (detail is not None and bool(detail.bootstraps))

    def _show(self) -> None:
        detail, before = self._view.content, self._shown
        if detail is None:
            self._said.text = "This device was removed."
            return
        now_ms = self._page.now_ms()
        # A part that is the same object says the same.
        if before is None or detail.line is not before.line or detail.registration is not before.registration:
            self._facts.show(rendering.standing_rows(detail), now_ms)
            self._said.text = rendering.facts(detail.line.record, detail)
        if before is None or detail.security is not before.security or detail.registration is not before.registration:
            self._security.show(rendering.security_rows(detail.line.record, detail), now_ms)
        if self._bootstrap is not None and (before is None or detail.bootstraps is not before.bootstraps):
            self._bootstrap.show(detail.bootstraps)
        if before is None or detail.values is not before.values:
            self._values.show(rendering.value_rows(detail), now_ms)
        if (
            before is None
            or detail.commands is not before.commands
            or detail.queue is not before.queue
            or detail.line.standing != before.line.standing
        ):
            self._commands.show(rendering.command_rows(detail), now_ms)
        if before is None or detail.messages is not before.messages:
            self._messages.show(rendering.message_rows(detail), now_ms)
        if before is None or detail.log is not before.log:
            self._log.show(rendering.log_rows(detail), now_ms)
        self._shown = detail

    async def _enter(self, event: GenericEventArguments) -> None:
        await self._post(str(event.args or ""))

    async def _send(self) -> None:
        await self._post(str(self._box.value or ""))

    async def _post(self, typed: str) -> None:
        page = self._page
        text = typed.strip()[:LONGEST_COMMAND]
        if not text or not page.may:
            return
        requests = page.services.parse(text, None)
        try:
            await page.services.commands.post(
                self._record,
                name=None,
                content=text,
                content_info=None,
                creator=page.session.account.name,
                labels=(),
                requests=requests,
            )
        except (ContainerFull, DeviceGone, QueueFull, StoreTrouble) as error:
            _say(f"Not taken: {error}", "negative")
            return
        flaws = rendering.flaws(requests)
        if flaws:
            _say(flaws, "warning")
        else:
            self._box.value = ""
            # What was typed may not have been heard of yet; then nothing has changed here, but there.
            self._box.update()

    async def _cancel(self, command_id: Any) -> None:
        page = self._page
        detail = self._view.content
        if detail is None or not page.may:
            return
        command = next((each for each in detail.commands if each.command_id == command_id), None)
        if command is None:
            return
        try:
            done = await page.services.commands.withdraw(self._record, command.outgoing_ri)
        except StoreTrouble as error:
            _say(f"Not cancelled: {error}", "negative")
            return
        if not done:
            _say("Too late: it was sent already.", "warning")


def _section(title: str) -> ui.element:
    section = ui.element("section")
    with section:
        ui.label(title).props('role=heading aria-level="2"')
    return section


def _scrolled(*arguments: Any, **named: Any) -> LiveTable:
    with ui.element("div").classes("scroll"):
        return LiveTable(*arguments, **named)


def _say(text: str, kind: Any) -> None:
    ui.notify(text, type=kind, timeout=8000, close_button="Close", multi_line=True)
