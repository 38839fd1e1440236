"""``POST /oauth/token``: programs fetch bearer tokens with a client id and a secret (contract Device to Cloud §5.1;
RFC 6749 4.4, the client credentials grant)."""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote_plus

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from stellwerk.app.attempts import FailedAttempts, TooManyAttempts, subscriber
from stellwerk.app.records import ApiClient
from stellwerk.core.uuid_text import random_uuid
from stellwerk.northbound.auth import ROLE_CLAIMS, Role, SignedTokens
from stellwerk.northbound.services import Services

log = structlog.get_logger(__name__)

LIFETIME_S: Final = 300
LARGEST_BODY: Final = 8192
BODY_WITHIN_S: Final = 10.0
FAILURES: Final = 20
FAILURES_WITHIN_S: Final = 60.0

_FORM: Final = "application/x-www-form-urlencoded"
_ONCE: Final = ("grant_type", "client_id", "client_secret", "scope")
_MOST_FIELDS: Final = 32
# RFC 6749 5.1: nobody keeps an answer with a token, and nobody an answer instead of one.
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_NOBODY: Final = sha256(b"").hexdigest()


class OAuthRefusal(Exception):
    """An answer of RFC 6749 5.2. ``error`` is its code, ``description`` for people: ASCII without quotes."""

    def __init__(self, error: str, description: str, status: int = 400, headers: Mapping[str, str] | None = None):
        self.error, self.description, self.status = error, description, status
        self.headers = dict(headers or {})
        super().__init__(f"{error}: {description}")


def _invalid_client(description: str) -> OAuthRefusal:
    headers = {"WWW-Authenticate": 'Basic realm="stellwerk", charset="UTF-8"'}
    return OAuthRefusal("invalid_client", description, 401, headers)


def oauth_routes(services: Services, signed: SignedTokens) -> APIRouter:
    """The token endpoint; ``signed`` makes the tokens."""
    router = APIRouter(prefix="/oauth", tags=["Access"])
    endpoint = TokenEndpoint(services, signed)

    @router.post(
        "/token",
        summary="A bearer token for a client id and its secret",
        openapi_extra={"requestBody": {"required": True, "content": {_FORM: {"schema": _SCHEMA}}}},
        responses={400: {"description": "Bad request"}, 401: {"description": "Unknown client or wrong secret"}},
    )
    async def token(request: Request) -> JSONResponse:
        return await endpoint.answer(request)

    return router


_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["client_credentials"]},
        "client_id": {"type": "string", "description": "Unless sent by HTTP Basic"},
        "client_secret": {"type": "string", "description": "Unless sent by HTTP Basic"},
        "scope": {"type": "string"},
    },
}


class TokenEndpoint:
    """Answers token requests; remembers who failed."""

    def __init__(self, services: Services, signed: SignedTokens) -> None:
        self._services = services
        self._signed = signed
        self._failures = FailedAttempts(FAILURES, FAILURES_WITHIN_S)

    async def answer(self, request: Request) -> JSONResponse:
        """200 with a token, or an error of RFC 6749 5.2."""
        try:
            return JSONResponse(await self._grant(request), headers=_NO_STORE)
        except OAuthRefusal as refusal:
            body = {"error": refusal.error, "error_description": refusal.description}
            return JSONResponse(body, refusal.status, {**_NO_STORE, **refusal.headers})

    async def _grant(self, request: Request) -> dict[str, Any]:
        fields = _fields(request.headers.get("content-type", ""), await _read_body(request))
        client_id, secret = _credentials(request.headers.get("authorization"), fields)
        match fields.get("grant_type"):
            case None:
                raise OAuthRefusal("invalid_request", "the field grant_type is missing; send client_credentials")
            case "client_credentials":
                pass
            case _:
                raise OAuthRefusal("unsupported_grant_type", "grant_type has to be client_credentials")
        scope = _scope(fields.get("scope", ""))
        client = await self._authenticate(_caller(request, client_id), client_id, secret)
        role = _role(client, scope)
        log.info("oauth.token_issued", client=client.client_id, role=role)
        token_id = random_uuid(self._services.entropy)
        return {
            "access_token": self._signed.issue(client.client_id, client.tenants, role, LIFETIME_S, token_id),
            "expires_in": LIFETIME_S,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": ROLE_CLAIMS[role],
        }

    async def _authenticate(self, caller: str, client_id: str, secret: str) -> ApiClient:
        try:
            self._failures.check(caller, self._services.clock.now())
        except TooManyAttempts as error:
            text = "too many failed attempts from this address"
            raise OAuthRefusal("temporarily_unavailable", text, 429, {"Retry-After": str(error.wait_s)}) from None
        client = await self._services.deciding.api_client(client_id)
        # RFC 6749 10.10: an unknown client takes as long as a wrong secret.
        expected = _NOBODY if client is None else client.secret_hash
        matches = hmac.compare_digest(secret_hash(secret), expected)
        if client is None or not matches:
            self._failures.note(caller, self._services.clock.now())
            log.warning("oauth.client_refused", caller=caller, known=client is not None)
            raise _invalid_client("unknown client or wrong secret")
        return client


def secret_hash(secret: str) -> str:
    """What is stored of a client's secret: hex digits of SHA-256."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _role(client: ApiClient, scope: frozenset[str]) -> Role:
    """A client may ask for less than it has; other words of a scope mean nothing here (RFC 6749 3.3)."""
    reads_only = ROLE_CLAIMS["r"] in scope and ROLE_CLAIMS["rw"] not in scope
    return "r" if reads_only else cast(Role, client.role)


def _caller(request: Request, client_id: str) -> str:
    """Whose failures count together. Behind a proxy all callers have one address, so there each client ID counts for
    itself."""
    host = subscriber(request.client.host if request.client else "")
    forwarded = "forwarded" in request.headers or "x-forwarded-for" in request.headers
    return f"{host} {client_id[:64]}" if forwarded else host


async def _read_body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > LARGEST_BODY:
                    # The rest is not read, so the connection is good for nothing more.
                    text = f"the body is larger than {LARGEST_BODY} bytes"
                    raise OAuthRefusal("invalid_request", text, headers={"Connection": "close"})
                chunks.append(chunk)
    except (TimeoutError, ClientDisconnect):
        raise OAuthRefusal("invalid_request", "the body did not arrive", headers={"Connection": "close"}) from None
    return b"".join(chunks)


def _fields(content_type: str, body: bytes) -> dict[str, str]:
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise OAuthRefusal("invalid_request", f"Content-Type has to be {_FORM}")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, encoding="utf-8", errors="strict"
        )
    except ValueError:
        raise OAuthRefusal("invalid_request", "the body is no form of a few fields in UTF-8") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in _ONCE and name in fields:
            raise OAuthRefusal("invalid_request", f"the field {name} is there twice")
        # RFC 6749 3.2: a parameter without a value counts as left out.
        if value:
            fields[name] = value
    return fields


def _credentials(authorization: str | None, fields: Mapping[str, str]) -> tuple[str, str]:
    """Client ID and secret: by HTTP Basic, or as fields (RFC 6749 2.3.1). Both places may name the same."""
    in_fields = (fields.get("client_id"), fields.get("client_secret"))
    if authorization is None:
        if in_fields[0] is None or in_fields[1] is None:
            raise _invalid_client("client_id and client_secret are missing; send them by HTTP Basic or as fields")
        return in_fields[0], in_fields[1]
    by_basic = _basic(authorization)
    if any(one is not None and one != other for one, other in zip(in_fields, by_basic, strict=True)):
        raise OAuthRefusal("invalid_request", "the fields and the header Authorization name different credentials")
    return by_basic


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.strip().partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError(scheme)
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        colon = ""
    if not colon:
        raise _invalid_client("the header Authorization has to be HTTP Basic")
    # RFC 6749 2.3.1: both went through form encoding before.
    return unquote_plus(client_id), unquote_plus(secret)


def _scope(text: str) -> frozenset[str]:
    # RFC 6749 3.3
    if not all(each == " " or ("!" <= each <= "~" and each not in '"\\') for each in text):
        raise OAuthRefusal("invalid_scope", "scope is words of visible ASCII with blanks between them")
    return frozenset(text.split())
