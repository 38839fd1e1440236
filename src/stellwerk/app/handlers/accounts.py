"""People who sign in to the console: two accounts from the first start on, passwords as Argon2 hashes (design §2)."""

import asyncio
import secrets
import unicodedata
from dataclasses import replace
from typing import Final

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from stellwerk.app.attempts import FailedAttempts, TooManyAttempts, subscriber
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.records import Account

log = structlog.get_logger(__name__)

ADMINISTRATOR: Final = "admin@localhost"
SYSTEM_ADMINISTRATOR: Final = "sysadmin@localhost"
TENANT_ADMIN: Final = "TENANT_ADMIN"
SYS_ADMIN: Final = "SYS_ADMIN"

FAILURES: Final = 10
FAILURES_WITHIN_S: Final = 300.0
LONGEST_PASSWORD: Final = 1024
HASHES_AT_ONCE: Final = 2
"""One takes about 50 ms of a processor and 64 MiB."""
MOST_WAITING: Final = 32


class Accounts:
    """Makes the first accounts and checks passwords. The hashing runs in threads, a bounded number at once."""

    def __init__(self, store: DecidingStore, clock: Clock, *, hasher: PasswordHasher | None = None) -> None:
        """``hasher``: another cost than the library's own (RFC 9106's second choice)."""
        self._store = store
        self._clock = clock
        self._hasher = hasher or PasswordHasher()
        self._failures = FailedAttempts(FAILURES, FAILURES_WITHIN_S)
        self._turns = asyncio.Semaphore(HASHES_AT_ONCE)
        self._waiting = 0
        self._of_nobody = ""
        """A hash to compare with where there is no account."""

    async def ensure_first(self, tenant: str, password: str | None) -> str | None:
        """On the first start make `ADMINISTRATOR`, of ``tenant``, and `SYSTEM_ADMINISTRATOR`. Where ``password`` is
        given, both have it from now on; else one is made up on the first start and returned, to be shown once."""
        wanted = ((ADMINISTRATOR, TENANT_ADMIN, tenant), (SYSTEM_ADMINISTRATOR, SYS_ADMIN, ""))
        known = {name: await self._store.account(name) for name, _, _ in wanted}
        generated = None
        if not password and not all(known.values()):
            # Also where a first start ended between the two: nobody was shown that password.
            password = generated = secrets.token_urlsafe(15)
        for name, authority, of in wanted:
            before = known[name]
            password_hash = "" if before is None else before.password_hash
            if password and not (password_hash and await self._matches(password_hash, password)):
                password_hash = await asyncio.to_thread(self._hasher.hash, _octets(password))
            created_ms = self._clock.wall_ms() if before is None else before.created_ms
            account = Account(name, password_hash, authority, of, created_ms)
            if account != before:
                await self._store.put_account(account)
                log.info("account.made" if before is None else "account.changed", account=name, tenant=of)
        return generated

    async def log_in(self, name: str, password: str, client: str = "") -> Account | None:
        """The account, or None for an unknown name or a wrong password, which takes as long. ``client``: the address
        that asks, so that nobody locks out others by failing in their name. Raises `TooManyAttempts`."""
        name = name.strip().lower()
        key = f"{subscriber(client)} {name[:200]}"
        if self._waiting >= MOST_WAITING:
            raise TooManyAttempts(1)
        self._waiting += 1
        try:
            async with self._turns:
                # Behind the wait: many at once are many attempts too.
                self._failures.check(key, self._clock.now())
                # Made for whoever comes first, known or not: it would show in the time.
                if not self._of_nobody:
                    self._of_nobody = await asyncio.to_thread(self._hasher.hash, secrets.token_bytes(16))
                account = await self._store.account(name)
                matches = await self._matches(self._of_nobody if account is None else account.password_hash, password)
                if account is None or not matches:
                    self._failures.note(key, self._clock.now())
                    log.warning("account.refused", client=client, known=account is not None)
                    return None
                self._failures.forget(key)
                if self._hasher.check_needs_rehash(account.password_hash):
                    password_hash = await asyncio.to_thread(self._hasher.hash, _octets(password))
                    account = replace(account, password_hash=password_hash)
                    await self._store.put_account(account)
                return account
        finally:
            self._waiting -= 1

    async def _matches(self, password_hash: str, password: str) -> bool:
        octets = _octets(password)
        if len(octets) > LONGEST_PASSWORD:
            return False
        try:
            return await asyncio.to_thread(self._hasher.verify, password_hash, octets)
        except VerificationError:
            return False
        except InvalidHashError:
            log.error("account.hash_unreadable", meaning="set STELLWERK_ADMIN_PASSWORD to give it a new password")
            return False


def _octets(password: str) -> bytes:
    """The same bytes for the same text, however a keyboard composes it (RFC 8265 4.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
