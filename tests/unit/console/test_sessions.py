"""A cookie says who somebody is, for as long as it should."""

import asyncio
from dataclasses import replace

import pytest

from stellwerk.app.records import Account
from stellwerk.console import sessions
from stellwerk.console.sessions import IDLE_MS, LONGEST_MS, Session, Sessions

ADA = Account("ada@localhost", "hash of a password", "TENANT_ADMIN", "acme", 0)


class Clock:
    ms = 1_790_000_000_000

    def now(self) -> float:
        return self.ms / 1000

    def wall_ms(self) -> int:
        return self.ms

    def lifetime_ms(self) -> int:
        return self.ms


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.accounts = {ADA.name: ADA}
        self.sessions = self.restarted()

    def restarted(self, key: bytes = bytes(32)) -> Sessions:
        async def account(name: str) -> Account | None:
            return self.accounts.get(name)

        return Sessions(key, self.clock, account)

    def check(self, cookie: str, of: Sessions | None = None) -> Session | None:
        return asyncio.run((of or self.sessions).of_cookie(cookie))


@pytest.fixture
def world() -> World:
    return World()


def test_a_cookie_says_who_signed_in_also_after_a_restart(world: World) -> None:
    session = world.sessions.start(ADA)
    cookie = world.sessions.cookie(session)
    assert world.check(cookie) == session
    assert world.check(cookie, world.restarted()) == session
    assert not set(cookie) & set('; ,"\\')


def test_every_changed_character_spoils_a_cookie(world: World) -> None:
    cookie = world.sessions.cookie(world.sessions.start(ADA))
    for place in range(len(cookie)):
        changed = cookie[:place] + ("A" if cookie[place] != "A" else "B") + cookie[place + 1 :]
        assert world.check(changed) is None, place


def test_a_cookie_of_another_data_directory_is_worth_nothing(world: World) -> None:
    cookie = world.sessions.cookie(world.sessions.start(ADA))
    assert world.check(cookie, world.restarted(bytes(31) + b"x")) is None


def test_a_new_password_ends_sessions_and_so_does_the_end_of_the_account(world: World) -> None:
    cookie = world.sessions.cookie(world.sessions.start(ADA))
    world.accounts[ADA.name] = replace(ADA, password_hash="another")
    assert world.check(cookie) is None
    world.accounts.clear()
    assert world.check(cookie) is None


def test_a_session_ends_when_nobody_uses_it_and_a_page_that_is_looked_at_uses_it(world: World) -> None:
    session = world.sessions.start(ADA)
    cookie = world.sessions.cookie(session)
    world.clock.ms += IDLE_MS - 1
    world.sessions.touch(session)
    world.clock.ms += IDLE_MS - 1
    assert world.check(cookie) == session
    world.clock.ms += 1
    assert not world.sessions.is_alive(session)
    assert world.check(cookie) is None


def test_no_session_lasts_for_ever(world: World) -> None:
    session = world.sessions.start(ADA)
    for _ in range(LONGEST_MS // IDLE_MS * 2):
        assert world.check(world.sessions.cookie(session)) == session
        world.clock.ms += IDLE_MS // 2
    assert world.check(world.sessions.cookie(session)) is None


def test_an_ended_session_stays_ended_and_its_newer_cookies_too(world: World) -> None:
    session = world.sessions.start(ADA)
    world.sessions.end(session)
    assert world.check(world.sessions.cookie(session)) is None


def test_what_is_remembered_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REMEMBERED", 3)
    made = [world.sessions.start(ADA) for _ in range(5)]
    for each in made:
        world.sessions.cookie(each)
        world.sessions.end(each)
    assert len(world.sessions._ended) == 3
    assert len(world.sessions._seen) <= 3
    assert not world.sessions.is_alive(made[-1])
