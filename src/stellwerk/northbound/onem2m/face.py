"""One ASGI application per mount of the oneM2M tree: from bytes to a request, from an answer to bytes.

Plain ASGI, since commands and polls for answers are what this server hears most over HTTP. Every way a request can end
leaves through `_send`, so every error has the one shape of ``errors`` (contract §4.5).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import msgspec
import structlog

from stellwerk.app.ports import StoreTrouble
from stellwerk.core.ids import TenantId
from stellwerk.northbound.auth import Access, Unauthorized
from stellwerk.northbound.onem2m.addressing import find_tenant, locate
from stellwerk.northbound.onem2m.create import create
from stellwerk.northbound.onem2m.delete import delete
from stellwerk.northbound.onem2m.errors import HTTP_STATUS, Refusal, Rsc, error_body
from stellwerk.northbound.onem2m.identifiers import iso_timestamp, timestamp
from stellwerk.northbound.onem2m.query import ATTRIBUTES_ONLY, NOTHING
from stellwerk.northbound.onem2m.request import LARGEST_BODY, RELEASES, Mount, Request, build_request, no_privilege
from stellwerk.northbound.onem2m.retrieve import retrieve
from stellwerk.northbound.onem2m.scope import Scope
from stellwerk.northbound.onem2m.tree import Target, path_of
from stellwerk.northbound.onem2m.update import update
from stellwerk.northbound.services import Services

log = structlog.get_logger(__name__)

AsgiScope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DEADLINE_S: Final = 30.0
"""From the first header to the answer; storing takes milliseconds, so only a stuck client or store meets it."""

METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_WITH_BODY: Final = frozenset({"POST", "PUT"})
_RELEASE: Final = b"4"
ADDRESS: Final = 2
ADDRESS_AND_ATTRIBUTES: Final = 3
MODIFIED: Final = 9
"""Result contents of a create and an update (§4.3)."""

_JSON: Final = (b"content-type", b"application/json; charset=utf-8")


@dataclass(slots=True)
class Answer:
    """``body``: JSON to be, None for an empty one. ``status``: the HTTP status; 401 alone comes without ``rsc``."""

    rsc: Rsc | None
    body: Any = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    status: int = 0


class _Disconnected(Exception):
    """The client went away before its request was complete."""


class OneM2MFace:
    """Serves the tree of every tenant below one mount."""

    def __init__(self, services: Services, mount: Mount) -> None:
        self._services = services
        self._mount = mount
        self._tenants: dict[str, TenantId] = {}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """The ASGI entry; ``scope["path"]`` starts with the mount's prefix."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, value)
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = await self._answer(scope, headers, receive)
        except _Disconnected:
            return
        except Unauthorized as error:
            answer = Answer(None, error_body(str(error)), ((b"www-authenticate", b"Bearer"),), 401)
        except Refusal as refusal:
            answer = _refused(refusal)
        except TimeoutError:
            text = "the request was not finished in time; whether it was stored is visible in the container"
            answer = _refused(Refusal(Rsc.REQUEST_TIMEOUT, text))
        except StoreTrouble as trouble:
            # Nobody's mistake, and no news: the store says in the log what it cannot do.
            answer = _refused(Refusal(Rsc.INTERNAL_SERVER_ERROR, str(trouble)))
            answer.headers += ((b"retry-after", b"1"),)
        except Exception as error:
            log.exception("http.failed", method=scope["method"], path=scope["path"], error=repr(error))
            text = "internal error; the server's log has the details"
            answer = _refused(Refusal(Rsc.INTERNAL_SERVER_ERROR, text))
        await self._send(answer, headers, send)

    async def _answer(self, scope: AsgiScope, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        access = self._authenticate(scope, headers)
        method = scope["method"]
        tenant, path = await find_tenant(self._services, access, self._below(scope["path"]))
        if tenant not in access.tenants:
            raise Refusal(Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, f"this token does not open tenant {tenant[:60]!r}")
        if method not in METHODS:
            raise Refusal(
                Rsc.OPERATION_NOT_ALLOWED, f"{method[:20]} is not possible; use GET, POST, PUT or DELETE", METHODS
            )
        if access.role == "r" and method != "GET":
            raise Refusal(Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, f"this token may read only; {method} needs role rw")
        body = await _read_body(headers, receive) if method in _WITH_BODY else b""
        request = build_request(self._mount, method, tenant, path, headers, scope["query_string"], body)
        # A tenant stays once it is there, and every poll asks.
        tenant_id = self._tenants.get(tenant) or await self._services.deciding.tenant(tenant)
        if tenant_id is None:
            raise Refusal(Rsc.NOT_FOUND, f"there is no resource {f'{tenant}{path}'[:120]!r}")
        self._tenants[tenant] = tenant_id
        found = Scope(self._services, tenant_id, tenant, access.role)
        await self._check_originator(found, request)
        target = await locate(found, request.segments)
        match method:
            case "GET":
                return await self._get(found, target, request)
            case "POST":
                return await self._post(found, target, request)
            case "DELETE":
                return await self._delete(found, target, request)
            case _:
                return await self._put(found, target, request)

    async def _check_originator(self, scope: Scope, request: Request) -> None:
        """Standards clients are known here, or are about to register (§3)."""
        if not request.strict or (request.method == "POST" and not request.segments):
            return
        if not await self._services.applications.is_registered(scope.tenant_id, scope.tenant, request.origin):
            raise no_privilege(request.origin, strict=True)

    def _authenticate(self, scope: AsgiScope, headers: dict[bytes, bytes]) -> Access:
        authorization = headers.get(b"authorization")
        client = scope.get("client")
        return self._services.tokens.access(
            None if authorization is None else authorization.decode("latin-1"),
            client[0] if client else None,
            forwarded=b"forwarded" in headers or b"x-forwarded-for" in headers,
        )

    def _below(self, path: str) -> str:
        below = path.removeprefix(self._mount.prefix).removeprefix("/")
        if not below or below.startswith("/"):
            raise Refusal(Rsc.NOT_FOUND, f"the path names no tenant; write {self._mount.prefix}/<tenant>")
        return below

    async def _get(self, scope: Scope, target: Target, request: Request) -> Answer:
        found = await retrieve(scope, target, request)
        if found.next_offset is None:
            return Answer(Rsc.OK, found.document)
        # TS-0009 6.4: Content Status 1 is partial, Content Offset says where the rest starts.
        partial = ((b"x-m2m-cts", b"1"), (b"x-m2m-cto", str(found.next_offset).encode()))
        return Answer(Rsc.OK, found.document, partial)

    async def _post(self, scope: Scope, target: Target, request: Request) -> Answer:
        rcn = request.query.rcn
        if rcn not in (None, NOTHING, ATTRIBUTES_ONLY, ADDRESS, ADDRESS_AND_ATTRIBUTES):
            raise Refusal(Rsc.NOT_IMPLEMENTED, f"rcn={rcn} is not supported for a create; use 0, 1, 2 or 3")
        created = (await create(scope, target, request)).shown_to(request.strict)
        parts = (request.tenant, *path_of(target), created.attributes["rn"])
        location = self._mount.prefix + "".join(f"/{quote(part, safe=':@~')}" for part in parts)
        document: dict[str, Any] | None = None
        if rcn == ADDRESS:
            document = {"m2m:uri": "/".join(parts)}
        elif rcn != NOTHING:
            document = created.document(request.form(created.resource_type))
            if rcn == ADDRESS_AND_ATTRIBUTES:
                document = {"m2m:rce": {"uri": "/".join(parts), **document}}
        return Answer(Rsc.CREATED, document, ((b"content-location", location.encode()),))

    async def _put(self, scope: Scope, target: Target, request: Request) -> Answer:
        rcn = request.query.rcn
        if rcn is None:
            rcn = MODIFIED if request.strict else ATTRIBUTES_ONLY
        if rcn not in (NOTHING, ATTRIBUTES_ONLY, MODIFIED):
            raise Refusal(Rsc.NOT_IMPLEMENTED, f"rcn={rcn} is not supported for an update; use 0, 1 or 9")
        updated, names = await update(scope, target, request)
        if rcn == NOTHING:
            return Answer(Rsc.UPDATED)
        shown = updated.shown_to(request.strict)
        if rcn == MODIFIED:
            shown = shown.only((*names, "lt"))
        return Answer(Rsc.UPDATED, shown.document(request.form(shown.resource_type)))

    async def _delete(self, scope: Scope, target: Target, request: Request) -> Answer:
        rcn = request.query.rcn
        if rcn not in (None, NOTHING):
            raise Refusal(Rsc.NOT_IMPLEMENTED, f"rcn={rcn} is not supported for a delete; use 0")
        await delete(scope, target, request)
        return Answer(Rsc.DELETED)

    async def _send(self, answer: Answer, asked: dict[bytes, bytes], send: Send) -> None:
        release = asked.get(b"x-m2m-rvi", b"").strip()
        strict = release.decode("latin-1") in RELEASES
        headers = [*answer.headers]
        if answer.rsc is not None:
            headers.append((b"x-m2m-rsc", str(int(answer.rsc)).encode()))
        if request_id := asked.get(b"x-m2m-ri"):
            headers.append((b"x-m2m-ri", request_id))
        headers.append((b"x-m2m-rvi", release if strict else _RELEASE))
        now_ms = self._services.clock.wall_ms()
        headers.append((b"x-m2m-ot", (timestamp(now_ms) if strict else iso_timestamp(now_ms)).encode()))
        payload = b"" if answer.body is None else _encode(answer.body)
        if payload:
            headers.append(_JSON)
        headers.append((b"content-length", str(len(payload)).encode()))
        status = answer.status if answer.rsc is None else HTTP_STATUS[answer.rsc]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})


def _refused(refusal: Refusal) -> Answer:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if refusal.allow:
        headers = ((b"allow", ", ".join(refusal.allow).encode()),)
    if isinstance(refusal, BodyTooLarge):
        # The rest of the body is not read, so the connection is good for nothing more.
        headers = ((b"connection", b"close"),)
    return Answer(refusal.rsc, error_body(refusal.text), headers)


class BodyTooLarge(Refusal):
    """Nothing beyond `LARGEST_BODY` is read."""

    def __init__(self) -> None:
        super().__init__(Rsc.NOT_ACCEPTABLE, f"the body is larger than {LARGEST_BODY} bytes; send less at a time")


async def _read_body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and (len(announced) > 18 or int(announced) > LARGEST_BODY):
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    while True:
        part = await receive()
        if part["type"] == "http.disconnect":
            raise _Disconnected
        chunk = part.get("body", b"")
        size += len(chunk)
        if size > LARGEST_BODY:
            raise BodyTooLarge
        chunks.append(chunk)
        if not part.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _encode(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        # Only a text that repeats half a surrogate pair of the request can do this.
        return msgspec.json.encode(error_body("the request holds text that is not Unicode"))
