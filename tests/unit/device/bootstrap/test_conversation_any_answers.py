"""Whatever a client answers: a session ends in a named state, leaves the bootstrap account alone, and keeps secrets."""

from dataclasses import dataclass

import pytest
from bootstrap_client import SILENT, Said, agrees, play
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.device.bootstrap.account import Account, ClientKeys
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.bootstrap.conversation import FORMATS, About
from stellwerk.device.bootstrap.discovered import Discovered
from stellwerk.device.bootstrap.history import BootstrapState
from stellwerk.device.bootstrap.plan import Plan, make_correction, make_plan
from stellwerk.device.record import PSK
from stellwerk.lwm2m.bootstrap import (
    BootstrapDelete,
    BootstrapDiscover,
    BootstrapFinish,
    BootstrapOperation,
    BootstrapRead,
    BootstrapWrite,
)
from stellwerk.lwm2m.content import Content

KEY = b"k9Zq7LmT2xWv4RbD"
FINAL = set(BootstrapState) - {
    BootstrapState.RUNNING,
    BootstrapState.INTERRUPTED,
    BootstrapState.OVERTIME,
    BootstrapState.REPLACED,
}
ENTRIES = tuple(ServerEntry(PSK, short_id=each, host=f"dm{each}.example", port=5684) for each in (123, 124, 125))
CONFIGURATION = BootstrapConfiguration(ENTRIES)
ACCOUNTS = [Account(each, ClientKeys(PSK, b"dev1-7f", KEY)) for each in ENTRIES]
NOTHING = BootstrapConfiguration()


@dataclass(frozen=True)
class Client:
    """What it holds: the bootstrap account's instance, those of others with their short server IDs, and whether it says
    so when it is asked. One that does not is taken to have its bootstrap account at 0."""

    bootstrap: int
    accounts: tuple[tuple[int, int], ...]
    says: Said | None

    def discovered(self) -> bytes:
        links = ["</>;lwm2m=1.1", f"</0/{self.bootstrap}>"]
        links += [f"</0/{instance}>;ssid={short}" for instance, short in self.accounts]
        links += [f"</1/{instance}>;ssid={short}" for instance, short in self.accounts]
        return ",".join([*links, "</3/0>"]).encode()


@st.composite
def clients(draw: st.DrawFn) -> Client:
    says = draw(st.sampled_from([None, None, None, Said(404), Said(405), Said(205, b"\xff<"), Said(failure="reset")]))
    places = draw(st.permutations(range(5)))
    shorts = draw(st.lists(st.sampled_from([101, 123, 124, 125]), max_size=4, unique=True))
    bootstrap = places[0] if says is None else 0
    others = [each for each in places if each != bootstrap]
    return Client(bootstrap, tuple(zip(others, shorts, strict=False)), says)


ERRORS = [
    *(Said(each) for each in (400, 401, 404, 405, 406, 406, 406, 415, 500)),
    Said(400, b"bad " + KEY.hex().encode()),
    Said(406, b"\x00\xff" + KEY),
    Said(205, KEY, 11542),
    Said(205, KEY, 110),
    Said(205, b"\x08\x00\x13\xc8\x07\x10" + KEY, 11542),
    SILENT,
    Said(failure="lost", detail="closed"),
    Said(failure="reset"),
    Said(failure="malformed"),
    Said(failure="timeout", acknowledged=True),
]
ANSWERS = st.lists(st.one_of(st.none(), st.none(), st.none(), st.sampled_from(ERRORS)), max_size=40)


@pytest.mark.spec("B-5", "B-6", "B-16", "Design 7")
@given(clients(), ANSWERS, st.sampled_from([None, "1.0", "1.1"]), st.sampled_from([None, 112, 11542]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_answers_lead_to_a_named_end_and_never_to_the_bootstrap_account(
    client: Client, answers: list[Said | None], version: str | None, pct: int | None, empty: bool
):
    if version == "1.0":
        client = Client(0, client.accounts if client.bootstrap == 0 else (), Said(405))
    configuration, accounts = (NOTHING, []) if empty else (CONFIGURATION, ACCOUNTS)
    waiting = iter(answers)
    given_answers: list[tuple[BootstrapOperation, Said]] = []

    def plan_of(discovered: Discovered | None) -> Plan:
        return make_plan(configuration, accounts, discovered, pct=pct, version=version)

    def correction_of(discovered: Discovered | None, servers: Content | None) -> Plan:
        return make_correction(configuration, accounts, discovered, servers, pct=pct, version=version)

    def reply(operation: BootstrapOperation, count: int) -> Said:
        if isinstance(operation, BootstrapDiscover):
            answer = client.says or Said(205, client.discovered(), 40)
        else:
            answer = next(waiting, None) or agrees(operation)
        given_answers.append((operation, answer))
        return answer

    about = About(plan_of, correction_of, lambda: 5, version)
    outcome, asked = play(about, reply)

    assert outcome.state in FINAL
    assert bool(outcome.reason) == (outcome.state not in (BootstrapState.CONFIGURED, BootstrapState.NOTHING_TO_DO))
    assert len(asked) < 100
    for operation in asked:
        if isinstance(operation, BootstrapDelete | BootstrapWrite):
            assert operation.path[:2] != (0, client.bootstrap), operation
            assert operation.path, operation
            assert operation.path[0] != 3
        elif isinstance(operation, BootstrapRead):
            assert operation.path[0] in (1, 2)
            assert version != "1.0"
    _check_finish(given_answers, outcome.state)
    kept = "" if empty else repr(about.steps) + repr(outcome)
    assert KEY.hex() not in kept
    assert KEY.decode(errors="replace") not in kept
    assert [each.operation for each in about.steps if each.operation != "Plan"] == [
        "Bootstrap-" + type(each).__name__.removeprefix("Bootstrap") for each in asked
    ]


def _check_finish(answers: list[tuple[BootstrapOperation, Said]], state: BootstrapState) -> None:
    """After a Write that failed for good nothing is sent; what succeeds at the end is Finish."""
    finishes = [answer for operation, answer in answers if isinstance(operation, BootstrapFinish)]
    assert len(finishes) <= 2
    for place, (operation, answer) in enumerate(answers):
        if isinstance(operation, BootstrapWrite) and not 200 <= answer.status < 300:
            rest = [each for each, _ in answers[place + 1 :]]
            retried = rest[:1] and isinstance(rest[0], BootstrapWrite) and rest[0].path == operation.path
            assert not rest or (retried and answer.status in (406, 415))
    if state in (BootstrapState.CONFIGURED, BootstrapState.NOTHING_TO_DO):
        assert 200 <= finishes[-1].status < 300
        assert isinstance(answers[-1][0], BootstrapFinish)
    elif finishes:
        assert not 200 <= finishes[-1].status < 300
    assert len({operation.content_format for operation, _ in answers if isinstance(operation, BootstrapWrite)}) <= len(
        FORMATS
    )
