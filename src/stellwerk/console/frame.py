"""What all pages share: the head with its links, the banner, and when a page follows what it shows."""

from collections.abc import Callable
from typing import Any, Final

from fastapi import Request
from nicegui import Client, ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from stellwerk.app.views import View
from stellwerk.console.attach import Console
from stellwerk.console.files import asset_path
from stellwerk.console.gate import CONSOLE, SESSION
from stellwerk.console.services import ConsoleServices
from stellwerk.console.sessions import Session
from stellwerk.core.ids import TenantId

HEAD: Final = (
    f'<link rel="stylesheet" href="{asset_path("console.css")}">'
    f'<link rel="icon" href="{asset_path("icon.svg")}" type="image/svg+xml">'
    f'<script defer src="{asset_path("console.js")}"></script>'
)


class Page:
    """One page in one browser. It follows its view while it is connected and visible: a hidden page costs nothing.

    Make it first thing in a page function, then build into ``body``, then `follow`.
    """

    def __init__(self, request: Request, title: str) -> None:
        self.console: Console = request.scope[CONSOLE]
        self.session: Session = request.scope[SESSION]
        self.client: Client = ui.context.client
        self._view: View[Any] | None = None
        self._changed: Callable[[], None] = _nothing
        self._unfollow: Callable[[], None] = _nothing
        self._connected = False
        self._hidden = False
        self._banner = ""
        self._trouble = ""
        self._left = False
        ui.add_head_html(HEAD)
        ui.page_title(f"{title} · Stellwerk" if title else "Stellwerk")
        self._head()
        self._bar = ui.label().classes("banner").props('role=alert aria-live="assertive"')
        self._bar.visible = False
        self.body: Element = ui.element("div").props("id=main").classes("page")
        self.client.on_connect(self._on_connect)
        self.client.on_disconnect(self._on_disconnect)
        self.client.on_delete(self._on_delete)
        ui.on("visible", self._on_visible)
        self.console.pages.add(self)
        self.say(self.services.banner())

    @property
    def services(self) -> ConsoleServices:
        return self.console.services

    @property
    def is_visible(self) -> bool:
        return self._connected and not self._hidden

    @property
    def may(self) -> bool:
        """Whether the person behind the page may still do something: pages outlive their sessions for a moment."""
        return not self._left and self.console.sessions.is_alive(self.session)

    async def tenant_id(self) -> TenantId | None:
        """The tenant whose devices the person sees, None for all. Raises `LookupError` where that tenant is gone."""
        account = self.session.account
        if not account.tenant:
            return None
        found = await self.services.deciding.tenant(account.tenant)
        if found is None:
            raise LookupError(f"the tenant {account.tenant} of {account.name} is gone")
        return found

    def now_ms(self) -> int:
        return self.services.clock.wall_ms()

    def follow(self, view: View[Any], changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever ``view`` has something new, instead of what was followed before."""
        self._unfollow()
        self._unfollow = _nothing
        self._view, self._changed = view, changed
        self._take_up()

    def say(self, banner: str) -> None:
        """Show ``banner`` on top, nothing where it is empty."""
        self._banner = banner
        self._show_bar()

    def leave(self) -> None:
        """The session is over: show nothing more and go to the sign-in page."""
        if self._left:
            return
        self._left = True
        self._stop_following()
        if not self.client.is_deleted:
            self.client.open("/login")

    # -- inside --

    def _head(self) -> None:
        with ui.element("header").classes("top"):
            with ui.element("a").props('href="#main"').classes("skip"):
                ui.label("Skip to content")
            with ui.element("a").props('href="/"').classes("brand"):
                ui.element("img").props(f'src="{asset_path("icon.svg")}" alt="" width=20 height=20')
                _text("Stellwerk")
            with ui.element("nav").props('aria-label="Pages"'):
                for name, href in (("Devices", "/"), ("Security", "/security")):
                    with ui.element("a").props(f'href="{href}"'):
                        _text(name)
            ui.element("span").classes("space")
            _text(self.session.account.name).classes("who")
            with ui.element("button").props('type=button id=dark aria-label="Dark or light"').classes("plain"):
                _text("◐")
            with (
                ui.element("form").props('method=post action="/logout"'),
                ui.element("button").props("type=submit").classes("plain"),
            ):
                _text("Sign out")

    def _show_bar(self) -> None:
        text = " · ".join(each for each in (self._banner, self._trouble) if each)
        if self._bar.text != text:
            self._bar.text = text
            self._bar.visible = bool(text)

    def _on_connect(self) -> None:
        self._connected = True
        self._take_up()

    def _on_disconnect(self) -> None:
        self._connected = self.client.has_socket_connection
        if not self._connected:
            self._stop_following()

    def _on_delete(self) -> None:
        self._connected = False
        self._stop_following()
        self.console.pages.discard(self)

    def _on_visible(self, event: GenericEventArguments) -> None:
        self._hidden = event.args is False
        if self._hidden:
            self._stop_following()
        else:
            self._take_up()

    def _take_up(self) -> None:
        if self._view is None or not self.is_visible or self._left or self._unfollow is not _nothing:
            return
        self._unfollow = self._view.follow(self._refresh)
        # What changed while nobody looked.
        self._refresh()

    def _stop_following(self) -> None:
        self._unfollow()
        self._unfollow = _nothing

    def _refresh(self) -> None:
        if self._view is None or self.client.is_deleted or self._left:
            return
        trouble = self._view.trouble
        self._trouble = f"What you see is old: {trouble}" if trouble else ""
        self._show_bar()
        self._changed()


def _text(text: str) -> ui.label:
    label = ui.label(text)
    label.tag = "span"
    return label


def _nothing() -> None: ...
