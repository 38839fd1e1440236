"""Who a caller is: bearer tokens, fixed ones and signed ones (contract Device to Cloud §5)."""

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Final, Literal, TypeAlias

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OctKey

from stellwerk.core.errors import UserError

Role: TypeAlias = Literal["rw", "r"]

ISSUER: Final = "stellwerk"
ROLE_CLAIMS: Final[dict[Role, str]] = {
    "rw": "rw%device-management-orchestrator",
    "r": "ro%device-management-orchestrator",
}
"""What a signed token says for a role (§5.2)."""

LEEWAY_S: Final = 10
"""How far the clocks of those who sign and those who verify may differ."""
LONGEST_TOKEN: Final = 8192
REMEMBERED: Final = 4096
"""Verified tokens whose signature is not checked again; a further one pushes out the oldest."""

_ALGORITHMS: Final = ["HS256"]
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Access:
    """What a token opens: these tenants, for reading and writing or for reading. A ``loopback_only`` token is good for
    callers on this machine alone."""

    tenants: frozenset[str]
    role: Role = "rw"
    loopback_only: bool = False


class EveryTenant(frozenset[str]):
    """The set of all names, those of tenants to come too."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING: Final = Access(EveryTenant())
"""What everybody may where tokens are not asked for."""


class Unauthorized(UserError):
    """No token, an unknown or expired one, or one that may not be used from where the caller is: HTTP 401."""


class SignedTokens:
    """Makes and verifies JSON Web Tokens (RFC 7519) signed by one key with HS256, and nothing else."""

    def __init__(self, key: bytes, wall_ms: Callable[[], int]) -> None:
        """``key``: 32 bytes. ``wall_ms``: UTC milliseconds since 1970."""
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes; {_KEY_BYTES} are wanted")
        self._key = OctKey.import_key(key)
        self.wall_ms = wall_ms
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: self.wall_ms() // 1000,
            leeway=LEEWAY_S,
            iss={"essential": True, "value": ISSUER},
            iat={"essential": True},
            exp={"essential": True},
        )

    def issue(self, subject: str, tenants: Iterable[str], role: Role, lifetime_s: int, token_id: str) -> str:
        """A token for ``subject``, good for ``lifetime_s`` seconds from now. ``token_id`` differs for every token.
        Raises `TokenTooLong`."""
        now_s = self.wall_ms() // 1000
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": subject,
            "iat": now_s,
            "exp": now_s + lifetime_s,
            "jti": token_id,
            "tenants": list(tenants),
            "realm_access": {"roles": [ROLE_CLAIMS[role]]},
        }
        token = jwt.encode({"alg": "HS256"}, claims, self._key, algorithms=_ALGORITHMS)
        if len(token) > LONGEST_TOKEN:
            raise TokenTooLong(len(token))
        return token

    def verify(self, token: str) -> tuple[Access, int]:
        """What a token opens, and until when (UTC milliseconds, leeway included). Raises `Unauthorized`."""
        if len(token) > LONGEST_TOKEN or token.count(".") != 2:
            raise Unauthorized("the bearer token is not known here")
        try:
            claims = jwt.decode(token, self._key, algorithms=_ALGORITHMS).claims
        # Its header is read before the signature: anybody wrote it, and no words of a library for that are promised.
        except Exception:
            raise Unauthorized("the bearer token is not known here") from None
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise Unauthorized("the bearer token has expired; fetch a new one") from None
        except JoseError as error:
            raise Unauthorized(f"the bearer token is not valid: {error.description or error.error}") from None
        return _access_of(claims), (int(claims["exp"]) + LEEWAY_S) * 1000


class TokenTooLong(UserError):
    """A token of ``length`` characters, which no header should carry."""

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"the token would have {length} characters, {LONGEST_TOKEN} is the most; name fewer tenants")


class Tokens:
    """Bearer tokens and what each one opens. Keeps digests, so neither a memory dump nor the time a comparison takes
    says anything about a token."""

    def __init__(
        self, tokens: Mapping[str, Access], signed: SignedTokens | None = None, *, required: bool = True
    ) -> None:
        """``tokens``: the fixed ones. ``signed``: verifies the others. Not ``required``: everybody may do everything,
        whatever they send."""
        self.signed = signed
        self._required = required
        self._by_digest = {_digest(token): (_digest(token), access) for token, access in tokens.items()}
        self._verified: dict[bytes, tuple[Access, int]] = {}
        """By digest; until when, in UTC milliseconds."""

    def access(self, authorization: str | None, client_host: str | None, forwarded: bool = False) -> Access:
        """What the value of an ``Authorization`` header opens for a caller at ``client_host``. ``forwarded``: the
        request came through a proxy, so its address says nothing about the caller. Raises `Unauthorized`."""
        if not self._required:
            return EVERYTHING
        if authorization is None:
            raise Unauthorized("the header Authorization is missing; send Authorization: Bearer <token>")
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("the header Authorization has to be: Bearer <token>")
        digest = _digest(token)
        known, access = self._by_digest.get(digest, (b"", None))
        if access is None or not hmac.compare_digest(known, digest):
            if self.signed is None:
                raise Unauthorized("the bearer token is not known here")
            access = self._verify(self.signed, token, digest)
        if access.loopback_only and (forwarded or not is_loopback(client_host)):
            raise Unauthorized("this bearer token works on the server's own machine only")
        return access

    def _verify(self, signed: SignedTokens, token: str, digest: bytes) -> Access:
        verified = self._verified
        remembered = verified.get(digest)
        # What is over is looked at again, for the words that say so.
        if remembered is not None and signed.wall_ms() < remembered[1]:
            return remembered[0]
        verified.pop(digest, None)
        access, until_ms = signed.verify(token)
        if len(verified) >= REMEMBERED:
            del verified[next(iter(verified))]
        verified[digest] = (access, until_ms)
        return access


def _access_of(claims: Mapping[str, Any]) -> Access:
    tenants = claims.get("tenants")
    names = [each for each in tenants if isinstance(each, str)] if isinstance(tenants, list) else []
    if not names:
        raise Unauthorized("the bearer token names no tenant (claim tenants)")
    realm = claims.get("realm_access")
    roles = [*_list(realm.get("roles") if isinstance(realm, dict) else None), *_list(claims.get("roles"))]
    for role, claim in ROLE_CLAIMS.items():
        if claim in roles:
            return Access(frozenset(names), role)
    raise Unauthorized("the bearer token has no role for devices (claim realm_access.roles)")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def is_loopback(host: str | None) -> bool:
    """Whether ``host`` is an address of this machine itself."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
