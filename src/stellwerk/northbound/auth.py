"""Who a caller is: static bearer tokens (contract Device to Cloud §5)."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Literal, TypeAlias

from stellwerk.core.errors import UserError

Role: TypeAlias = Literal["rw", "r"]


@dataclass(frozen=True, slots=True)
class Access:
    """What a token opens: these tenants, for reading and writing or for reading. A ``loopback_only`` token is good for
    callers on this machine alone."""

    tenants: frozenset[str]
    role: Role = "rw"
    loopback_only: bool = False


class Unauthorized(UserError):
    """No token, an unknown one, or one that may not be used from where the caller is: HTTP 401."""


class Tokens:
    """Bearer tokens and what each one opens. Keeps digests, so neither a memory dump nor the time a comparison takes
    says anything about a token."""

    def __init__(self, tokens: Mapping[str, Access]) -> None:
        self._by_digest = {_digest(token): (_digest(token), access) for token, access in tokens.items()}

    def access(self, authorization: str | None, client_host: str | None, forwarded: bool = False) -> Access:
        """What the value of an ``Authorization`` header opens for a caller at ``client_host``. ``forwarded``: the
        request came through a proxy, so its address says nothing about the caller. Raises `Unauthorized`."""
        if authorization is None:
            raise Unauthorized("the header Authorization is missing; send Authorization: Bearer <token>")
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("the header Authorization has to be: Bearer <token>")
        digest = _digest(token.strip())
        known, access = self._by_digest.get(digest, (b"", None))
        if access is None or not hmac.compare_digest(known, digest):
            raise Unauthorized("the bearer token is not known here")
        if access.loopback_only and (forwarded or not _is_loopback(client_host)):
            raise Unauthorized("this bearer token works on the server's own machine only")
        return access


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _is_loopback(host: str | None) -> bool:
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
