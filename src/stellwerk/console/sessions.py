"""Who is signed in: a signed cookie that names the account, so that a restart signs nobody out and nothing is kept."""

import base64
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from stellwerk.app.ports import Clock
from stellwerk.app.records import Account

COOKIE: Final = "stellwerk_session"
LONGEST_MS: Final = 12 * 3_600_000
"""After this long everybody signs in again."""
IDLE_MS: Final = 3_600_000
"""A session that nobody used for so long is over. A visible page uses it."""
REMEMBERED: Final = 10_000
_LONGEST_COOKIE: Final = 1024
_PURPOSE: Final = b"stellwerk console session 1"


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of one account. Times are UTC milliseconds since 1970."""

    session_id: str
    account: Account
    started_ms: int


class Sessions:
    """Makes and checks cookies. The signature covers the password's hash: a new password ends all sessions of before.
    What was signed out is remembered until the cookie would be too old; a restart forgets that, so such a cookie is
    good for `IDLE_MS` after its last use at most."""

    def __init__(self, key: bytes, clock: Clock, account: Callable[[str], Awaitable[Account | None]]) -> None:
        """``key``: secret, used for nothing but what is derived from it. ``account``: by name."""
        self._key = hmac.digest(key, _PURPOSE, "sha256")
        self._clock = clock
        self._account = account
        self._seen: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        """Until when each has to be remembered."""

    def start(self, account: Account) -> Session:
        """A new session of somebody who just proved who they are."""
        return Session(secrets.token_urlsafe(12), account, self._clock.wall_ms())

    def cookie(self, session: Session) -> str:
        """The cookie's value, good for `IDLE_MS` from now."""
        self.touch(session)
        fields = [session.account.name, session.session_id, session.started_ms, self._clock.wall_ms()]
        body = _encode(json.dumps(fields, separators=(",", ":")).encode())
        return f"{body}.{_encode(self._sign(body, session.account))}"

    async def of_cookie(self, value: str) -> Session | None:
        """The session of a cookie, None for one that is forged, too old or signed out."""
        body, _, signature = value.partition(".")
        if not signature or len(value) > _LONGEST_COOKIE:
            return None
        fields = _fields(body)
        if fields is None:
            return None
        name, session_id, started_ms, seen_ms = fields
        account = await self._account(name)
        if account is None or not hmac.compare_digest(_encode(self._sign(body, account)), signature):
            return None
        session = Session(session_id, account, started_ms)
        self._remember(session_id, seen_ms)
        return session if self.is_alive(session) else None

    def is_alive(self, session: Session) -> bool:
        """Whether the session still counts."""
        now_ms = self._clock.wall_ms()
        seen_ms = self._seen.get(session.session_id, session.started_ms)
        return (
            session.session_id not in self._ended
            and now_ms < session.started_ms + LONGEST_MS
            and now_ms < seen_ms + IDLE_MS
        )

    def touch(self, session: Session) -> None:
        """Somebody uses it."""
        self._remember(session.session_id, self._clock.wall_ms())

    def end(self, session: Session) -> None:
        """Sign out."""
        now_ms = self._clock.wall_ms()
        if len(self._ended) >= REMEMBERED:
            self._ended = {each: until_ms for each, until_ms in self._ended.items() if until_ms > now_ms}
        if len(self._ended) >= REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self._ended[session.session_id] = session.started_ms + LONGEST_MS
        self._seen.pop(session.session_id, None)

    def _remember(self, session_id: str, seen_ms: int) -> None:
        seen_ms = max(seen_ms, self._seen.pop(session_id, 0))
        if len(self._seen) >= REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[session_id] = seen_ms

    def _sign(self, body: str, account: Account) -> bytes:
        password = sha256(account.password_hash.encode()).digest()
        return hmac.digest(self._key, body.encode() + b"." + password, "sha256")


def _fields(body: str) -> tuple[str, str, int, int] | None:
    try:
        fields: Any = json.loads(base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True))
    # Not signed yet: anybody may have written it, deep brackets too.
    except (ValueError, RecursionError):
        return None
    match fields:
        # No store could be asked for half a surrogate pair.
        case [str(name), str(session_id), int(started_ms), int(seen_ms)] if name.isprintable():
            return name, session_id, started_ms, seen_ms
    return None


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
