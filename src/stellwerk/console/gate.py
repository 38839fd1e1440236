"""Stands before every page: sessions, origins, headers. What it lets through goes to NiceGUI unchanged."""

import asyncio
import html
import re
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import structlog
from nicegui import app as nicegui_app
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stellwerk.app.attempts import TooManyAttempts
from stellwerk.app.ports import StoreTrouble
from stellwerk.console.files import asset, asset_path
from stellwerk.console.services import ConsoleServices
from stellwerk.console.sessions import COOKIE, LONGEST_MS, Session, Sessions

log = structlog.get_logger(__name__)

SESSION: Final = "stellwerk.session"
CONSOLE: Final = "stellwerk.console"
"""Where a request to NiceGUI carries its session and the console it belongs to, in the scope."""

_LONGEST_FORM: Final = 8192
_FORM_WITHIN_S: Final = 10.0
# What may follow a sign-in: pages of ours and nothing else, so that no link leads people elsewhere.
_PAGE: Final = re.compile(r"/(?:devices/[0-9]{1,18}|security)?(?:\?[!-\[\]-~]{0,500})?", re.ASCII)

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers would then hide the origin of our own forms too.
    "Referrer-Policy": "same-origin",
}
# NiceGUI's templates are compiled in the browser, which is what unsafe-eval allows.
_PAGE_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_SIGN_IN_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class Gate:
    """The endpoints of all console routes."""

    def __init__(self, services: ConsoleServices, sessions: Sessions, console: Any) -> None:
        self._services = services
        self._sessions = sessions
        self._console = console

    # -- to NiceGUI --

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page, for who is signed in; everybody else is asked to."""
        session = await self._session(scope)
        if session is None:
            wanted = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            target = "/login" if wanted == "/" else f"/login?next={quote(_known_page(wanted), safe='/')}"
            await _with_headers(RedirectResponse(target, 303), _SIGN_IN_POLICY)(scope, receive, send)
            return
        cookie = self._set_cookie(scope, session)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = _PAGE_POLICY
                headers.append("Set-Cookie", cookie)
            await send(message)

        await nicegui_app(self._inner(scope, session), receive, watched)

    async def assets(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Scripts and styles that come with NiceGUI: the same for everybody."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await nicegui_app(self._inner(scope, None), receive, watched)

    async def socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page's connection: only from our own pages, only for who is signed in."""
        if not _same_origin(Headers(scope=scope), required=True) or (session := await self._session(scope)) is None:
            await receive()
            await send({"type": "websocket.close", "code": 4403, "reason": "sign in first"})
            return
        await nicegui_app(self._inner(scope, session), receive, send)

    # -- our own --

    async def sign_in(self, request: Request) -> Response:
        """The form, and what becomes of it."""
        wanted = _known_page(request.query_params.get("next", "/"))
        if request.method != "POST":
            if await self._session(request.scope) is not None:
                return _with_headers(RedirectResponse(wanted, 303), _SIGN_IN_POLICY)
            return _form(wanted)
        if not _same_origin(request.headers):
            return _form(wanted, "This form was not sent from here. Please try again.", 403)
        fields = await _form_fields(request)
        if fields is None:
            return _form(wanted, "That was too much, or too slow, to be a name and a password.", 413)
        name, password = fields.get("name", ""), fields.get("password", "")
        wanted = _known_page(fields.get("next", wanted))
        client = request.client.host if request.client is not None else ""
        try:
            account = await self._services.accounts.log_in(name, password, client)
        except TooManyAttempts as error:
            text = f"Too many attempts. Please try again in {error.wait_s} seconds."
            return _form(wanted, text, 429, name, {"Retry-After": str(error.wait_s)})
        except StoreTrouble as error:
            return _form(wanted, f"Nobody can sign in now: {error}.", 503, name)
        if account is None:
            return _form(wanted, "Name or password is wrong.", 401, name)
        # A session of before ends here; a cookie that somebody planted is never taken over.
        if (before := await self._session(request.scope)) is not None:
            self._console.end(before)
        session = self._sessions.start(account)
        log.info("console.signed_in", account=account.name, client=client)
        answer = RedirectResponse(wanted, 303)
        answer.headers.append("Set-Cookie", self._set_cookie(request.scope, session))
        return _with_headers(answer, _SIGN_IN_POLICY)

    async def sign_out(self, request: Request) -> Response:
        """End the session, on all its pages."""
        if not _same_origin(request.headers):
            return _with_headers(Response(status_code=403), _SIGN_IN_POLICY)
        session = await self._session(request.scope)
        if session is not None:
            self._console.end(session)
            log.info("console.signed_out", account=session.account.name)
        answer = RedirectResponse("/login", 303)
        answer.headers.append("Set-Cookie", _cookie(request.scope, "", 0))
        return _with_headers(answer, _SIGN_IN_POLICY)

    async def renew(self, request: Request) -> Response:
        """204 and a fresh cookie for a page that is in use; 401 where the session is over."""
        session = await self._session(request.scope) if _same_origin(request.headers) else None
        answer = Response(status_code=401 if session is None else 204)
        if session is not None:
            answer.headers.append("Set-Cookie", self._set_cookie(request.scope, session))
        return _with_headers(answer, _SIGN_IN_POLICY)

    async def file(self, request: Request) -> Response:
        """A style, script or picture of ours."""
        found = asset(request.path_params["name"])
        if found is None or found.media_type == "text/html":
            raise HTTPException(404)
        answer = Response(found.content, media_type=found.media_type)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return _with_headers(answer, _SIGN_IN_POLICY)

    async def icon(self, request: Request) -> Response:
        """What browsers ask for by themselves."""
        return RedirectResponse(asset_path("icon.svg"), 301)

    # -- inside --

    async def _session(self, scope: Scope) -> Session | None:
        # Browsers send what other servers on this host set, too, in whatever form: cookies know no ports.
        cookie = HTTPConnection(scope).cookies.get(COOKIE)
        return None if cookie is None else await self._sessions.of_cookie(cookie)

    def _set_cookie(self, scope: Scope, session: Session) -> str:
        return _cookie(scope, self._sessions.cookie(session), LONGEST_MS // 1000)

    def _inner(self, scope: Scope, session: Session | None) -> Scope:
        """The request as NiceGUI gets it: without what routing found out, and without a header that anybody may send
        and that NiceGUI would put into the page."""
        inner = {
            name: value for name, value in scope.items() if name not in ("endpoint", "path_params", "route", "router")
        }
        inner["headers"] = [each for each in scope["headers"] if each[0].lower() != b"x-forwarded-prefix"]
        inner[SESSION] = session
        inner[CONSOLE] = self._console
        return inner


class Endpoint:
    """A bound coroutine as an ASGI application: routes take plain methods for something else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _cookie(scope: Scope, value: str, max_age_s: int) -> str:
    secure = "; Secure" if scope["scheme"] in ("https", "wss") else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}"


def _same_origin(headers: Headers, required: bool = False) -> bool:
    """Whether a request comes from one of our own pages. Programs send no Origin; browsers do so with every form and
    every WebSocket. The scheme is left out: a proxy in front may speak TLS where we do not."""
    origin = headers.get("origin")
    if origin is None:
        return not required and headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(headers.get("host")) and netloc.lower() == headers["host"].lower()


def _known_page(path: str) -> str:
    return path if _PAGE.fullmatch(path) else "/"


async def _form_fields(request: Request) -> dict[str, str] | None:
    body = bytearray()
    try:
        async with asyncio.timeout(_FORM_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _LONGEST_FORM:
                    return None
    except (TimeoutError, ClientDisconnect):
        return None
    try:
        fields = parse_qs(bytes(body).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _with_headers(answer: Response, policy: str) -> Response:
    for name, value in _HEADERS.items():
        answer.headers[name] = value
    answer.headers["Content-Security-Policy"] = policy
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


def _form(
    wanted: str, problem: str = "", status: int = 200, name: str = "", headers: dict[str, str] | None = None
) -> Response:
    text = asset("sign_in.html")
    assert text is not None
    page = text.content.decode()
    said = f'<p class="problem" role="alert" id="problem">{html.escape(problem)}</p>' if problem else ""
    for mark, value in (
        ("{{css}}", asset_path("console.css")),
        ("{{icon}}", asset_path("icon.svg")),
        ("{{problem}}", said),
        ("{{next}}", html.escape(wanted)),
        ("{{name}}", html.escape(name[:200])),
    ):
        page = page.replace(mark, value, 1)
    return _with_headers(HTMLResponse(page, status, headers), _SIGN_IN_POLICY)
