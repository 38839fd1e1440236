"""A bootstrapping that goes wrong: each way has a name in the history, and the device is as it was or configured."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stellwerk.app.handlers.bootstrap_channels import IDLE_S
from stellwerk.app.ports import StoreFailing
from stellwerk.coap.codes import (
    BAD_REQUEST,
    CHANGED,
    INTERNAL_SERVER_ERROR,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    SERVICE_UNAVAILABLE,
)
from stellwerk.coap.message import RST, Message
from stellwerk.device.bootstrap.configuration import ServerEntry
from stellwerk.device.bootstrap.history import StepRecord
from stellwerk.dtls.parameters import ServerParameters
from tests.scenario.bootstrap_port import (
    AWAY,
    CONFIGURED,
    BootstrapPort,
    Client,
    SecureClient,
    psk_block,
    with_bootstrap,
)
from tests.scenario.stack import Stack, after
from tests.scenario.trouble import TroubledStore

KEY = bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e859")
ONE = ServerEntry(short_id=123, host="dm.example")
STEPS = ["GET /", "DELETE /0/1", "DELETE /1/0", "PUT /0/1", "PUT /1/0", "POST /bs"]
"""Of a device that has a server already."""


class Sick(TroubledStore):
    """Also without a place for sessions or fresh keys."""

    def __init__(self) -> None:
        super().__init__()
        self.takes_no_sessions = False

    async def put_bootstrap_session(self, session: Any) -> int:
        if self.takes_no_sessions:
            raise StoreFailing("disk full")
        return await super().put_bootstrap_session(session)

    async def credential_of(self, device_id: Any) -> Any:
        if self.broken:
            raise StoreFailing("disk full")
        return await super().credential_of(device_id)


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(store=Sick())
    yield made
    made.close()


@pytest.fixture
def port(stack: Stack) -> BootstrapPort:
    made = BootstrapPort(stack, secure=ServerParameters())
    made.profile(ONE)
    return made


def until(client: Client, step: str) -> Message:
    """Go on up to that step, which is not answered."""
    client.ask()
    while True:
        request = client.next()
        if client.steps[-1] == step:
            return request
        client.react(request)


@pytest.mark.spec("B-16", "Platform 12.1")
@pytest.mark.parametrize("code", [BAD_REQUEST, METHOD_NOT_ALLOWED, INTERNAL_SERVER_ERROR])
@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_each_step_has_its_end(port: BootstrapPort, step: str, code: int) -> None:
    device = port.stack.provision("dev1")
    client = Client(port, holds=CONFIGURED)
    client.answers[step] = code
    steps = client.bootstrap()
    ((state, reason),) = port.ends_of(device)
    if step.startswith("GET") or (step.startswith("DELETE") and code == METHOD_NOT_ALLOWED):
        assert (state, reason) == ("configured", "")
    elif step.startswith("DELETE"):
        assert (state, reason) == ("step failed", "delete-refused")
    elif step.startswith("PUT"):
        assert (state, reason) == ("step failed", "write-refused")
    else:
        assert (state, reason) == ("step failed", "finish-refused")
    # A device that was not told that it is finished goes back to what it had.
    assert ("POST /bs" in steps) == (state == "configured" or step == "POST /bs")
    failing = [each for each in port.sessions_of(device)[0].steps if each.status >= 400]
    assert len(failing) == 1
    assert len(port.bootstrapping.conversations) == 0


@pytest.mark.spec("B-5")
def test_a_delete_of_what_is_not_there_ends_nothing(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = Client(port, holds=CONFIGURED)
    client.answers["DELETE /1/0"] = NOT_FOUND
    assert client.bootstrap()[-1] == "POST /bs"
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("B-16", "B-3")
@pytest.mark.parametrize("step", STEPS)
def test_silence_at_each_step_is_named(port: BootstrapPort, step: str) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    client = Client(port, holds=CONFIGURED)
    until(client, step)
    stack << after(100)
    assert port.ends_of(device) == [("silent", "timeout")]
    assert port.sessions_of(device)[0].steps[-1].failure == "timeout"
    assert len(port.bootstrapping.conversations) == 0
    # What is still on its way repeats the step, and nothing follows.
    assert {each.code for _, each in port.out} <= {1, 2, 3, 4}
    port.out.clear()
    stack << after(300)
    assert port.out == []


@pytest.mark.spec("B-16")
def test_a_reset_of_a_step_ends_the_session(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = Client(port)
    request = until(client, "PUT /0/1")
    client._say(Message(RST, 0, request.mid))
    assert port.ends_of(device) == [("step failed", "reset")]


@pytest.mark.spec("B-3")
def test_a_session_ends_before_the_client_gives_it_up(port: BootstrapPort) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    # Every answer comes late, none too late by itself.
    client = Client(port, holds=CONFIGURED)
    client.ask()
    begun = stack.clock.at
    while stack.clock.at - begun < 240:
        if client.hears_nothing():
            stack << after(1)
            continue
        request = client.next()
        stack << after(44)
        client.react(request)
        port.out = [each for each in port.out if each[1].mid != request.mid]
    (session,) = port.sessions_of(device)
    assert (session.state.value, session.reason) == ("overtime", "time")
    assert 229_000 <= session.ended_ms - session.started_ms <= 231_000
    assert session.steps[-1].failure == "cancelled"


@pytest.mark.spec("B-16")
def test_a_second_request_in_the_middle_ends_the_first_session_and_starts_again(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = Client(port, holds=CONFIGURED)
    late = until(client, "PUT /0/1")
    assert client.bootstrap() == STEPS
    assert port.ends_of(device) == [("configured", ""), ("replaced", "another-request")]
    # What the first was asked may be answered still, and means nothing any more.
    client.react(late)
    assert len(port.sessions_of(device)) == 2


@pytest.mark.spec("B-16", "MSG-3")
def test_the_same_request_again_is_answered_again_and_no_second_one(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = Client(port)
    client.ask()
    client._mid -= 1
    assert client.ask().code == CHANGED
    client.run()
    assert client.steps == ["GET /", "PUT /0/1", "PUT /1/0", "POST /bs"]
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("B-16")
def test_a_client_that_asks_from_another_address_starts_again_there(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client, moved = Client(port), Client(port, AWAY)
    until(client, "PUT /0/1")
    assert moved.bootstrap()[-1] == "POST /bs"
    assert client.hears_nothing()
    assert port.ends_of(device) == [("configured", ""), ("replaced", "another-request")]


@pytest.mark.spec("B-1")
def test_an_answer_from_another_address_without_security_is_nobodys(port: BootstrapPort) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    client = Client(port)
    request = until(client, "PUT /0/1")
    client.peer = AWAY
    client.react(request)
    assert port.ends_of(device) == [("running", "")]
    stack << after(100)
    assert port.ends_of(device) == [("silent", "timeout")]


@pytest.mark.spec("B-1", "SEC-5")
def test_over_dtls_a_client_that_changes_its_address_goes_on(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY, holds=CONFIGURED).connect()
    request = until(client, "PUT /0/1")
    client.device.move(40_777)
    client.react(request)
    client.run()
    assert client.steps == STEPS
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("B-16")
def test_a_secure_session_that_ends_in_the_middle_is_named(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    until(client, "PUT /0/1")
    client.device.close()
    assert port.ends_of(device) == [("lost", "lost")]
    assert len(port.bootstrapping.conversations) == len(port.sessions) == len(port.secure_link.closing) == 0


@pytest.mark.spec("B-16")
def test_a_new_handshake_in_the_middle_and_a_new_request_start_again(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    until(client, "PUT /0/1")
    again = SecureClient(port, b"bs-dev1", KEY, port=40_005).connect()
    assert again.bootstrap()[-1] == "POST /bs"
    assert port.ends_of(device) == [("configured", ""), ("replaced", "another-request")]


@pytest.mark.spec("B-16")
def test_a_session_that_makes_room_for_others_is_lost(stack: Stack) -> None:
    port = BootstrapPort(stack, secure=ServerParameters(), sessions_kept=1)
    port.profile(ONE)
    device = stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    until(client, "PUT /0/1")
    SecureClient(port, b"bs-dev1", KEY, port=40_005).connect()
    assert port.ends_of(device) == [("lost", "lost")]


@pytest.mark.spec("SEC-8", "SEC-1")
def test_a_client_that_comes_again_makes_a_full_handshake(port: BootstrapPort) -> None:
    port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    state = client.device.state
    client.device.connect(resume=state)
    assert client.device.session is not None
    assert port.stack.meters.secure.handshakes == {("full", ""): 2}


@pytest.mark.spec("Design 7")
@pytest.mark.parametrize("trouble", ["broken", "takes_no_sessions"])
def test_where_the_store_fails_the_device_is_told_to_come_again(port: BootstrapPort, trouble: str) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    client = Client(port)
    setattr(stack.store, trouble, True)
    answer = client.ask()
    assert answer.code in (SERVICE_UNAVAILABLE, INTERNAL_SERVER_ERROR)
    assert client.hears_nothing()
    assert len(port.bootstrapping.conversations) == 0
    setattr(stack.store, trouble, False)
    assert client.bootstrap()[-1] == "POST /bs"
    assert port.ends_of(device) == [("configured", "")]


def test_a_store_that_fails_in_the_middle_loses_the_log_and_not_the_device(port: BootstrapPort) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    client = Client(port)
    client.ask()
    stack.store.takes_no_sessions = stack.store.full = True  # type: ignore[union-attr]
    client.run()
    assert client.steps[-1] == "POST /bs"
    assert port.ends_of(device) == [("running", "")]


@pytest.mark.spec("B-16")
@pytest.mark.parametrize("step", STEPS)
def test_what_a_stop_of_the_server_interrupts_is_named_with_the_next_start(port: BootstrapPort, step: str) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    until(Client(port, holds=CONFIGURED), step)
    (running,) = port.sessions_of(device)
    under_way = port.bootstrapping.conversations.under_way(device.device_id)
    assert under_way is not None
    again = Stack(store=stack.store, clock=stack.clock)
    try:
        late = BootstrapPort(again)
        assert late.ends_of(device) == [("interrupted", "")]
        (interrupted,) = late.sessions_of(device)
    finally:
        again.close()
    # All that the server knew, as it knew it.
    assert (running.steps, len(under_way.steps)) == ((), STEPS.index(step) + 1)
    *over, last = interrupted.steps
    assert tuple(over) == under_way.steps[:-1]
    assert last == replace(
        under_way.steps[-1], failure="interrupted", detail="the server stopped before it had the answer"
    )
    assert interrupted.detail == f"during {last.operation} {last.path}".rstrip()


def test_a_device_that_asks_in_between_leaves_the_step_under_way_known(port: BootstrapPort) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    until(Client(port), "PUT /0/1")
    asked = StepRecord(1, "EST-crts", "/.well-known/est/crts", status=205)
    port.calls(lambda: port.bootstrapping.conversations.note(device.device_id, asked))
    again = Stack(store=stack.store, clock=stack.clock)
    try:
        (interrupted,) = BootstrapPort(again).sessions_of(device)
    finally:
        again.close()
    steps = [(each.operation, each.failure) for each in interrupted.steps]
    assert steps == [("Bootstrap-Discover", ""), ("EST-crts", ""), ("Bootstrap-Write", "interrupted")]


def test_a_device_that_is_removed_in_the_middle_is_asked_no_more(port: BootstrapPort) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    client = Client(port)
    request = until(client, "PUT /0/1")
    stack.run(stack.store.remove_device(device.device_id))
    port.gone(device)
    client.react(request)
    assert client.hears_nothing()
    assert len(port.bootstrapping.conversations) == 0


@pytest.mark.spec("SEC-9")
def test_a_device_whose_credentials_change_in_the_middle_gets_nothing_more(port: BootstrapPort) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    client = Client(port)
    request = until(client, "PUT /0/1")
    port.revoked(device)
    client.react(request)
    assert client.hears_nothing()
    assert port.ends_of(device) == [("lost", "revoked")]


def test_two_devices_behind_one_address_are_bootstrapped_one_after_the_other(port: BootstrapPort) -> None:
    one, two = port.stack.provision("dev1"), port.stack.provision("dev2")
    client = Client(port)
    client.ask()
    assert client.bootstrap("/bs?ep=urn:dev:os:dev2")[-1] == "POST /bs"
    assert port.ends_of(one) == [("replaced", "another-request")]
    assert port.ends_of(two) == [("configured", "")]


@pytest.mark.spec("B-3", "LwM2M-contract 15")
def test_sessions_that_ended_leave_nothing_that_waits(port: BootstrapPort) -> None:
    port.stack.provision("dev1")
    client = Client(port)
    for _ in range(20):
        client.bootstrap()
    assert len(port.stack.timers) == 1
    port.stack << after(300)
    assert not port.stack.timers


@pytest.mark.spec("SEC-9")
def test_who_is_revoked_while_its_session_is_stored_is_told_to_come_again(
    port: BootstrapPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = port.stack
    device = stack.provision("dev1")
    assert stack.store is not None
    put = stack.store.put_bootstrap_session

    async def slow(session: Any) -> int:
        number = await put(session)
        if not session.ended_ms:
            port.bootstrapping.conversations.revoked(device.device_id)
        return number

    monkeypatch.setattr(stack.store, "put_bootstrap_session", slow)
    client = Client(port)
    assert client.ask().code == SERVICE_UNAVAILABLE
    assert client.hears_nothing()
    assert port.ends_of(device) == [("lost", "revoked")]
    assert len(port.bootstrapping.conversations) == 0


@pytest.mark.spec("SEC-8")
def test_secure_sessions_that_are_of_no_use_any_more_are_closed(port: BootstrapPort) -> None:
    stack = port.stack
    one, two = (
        stack.provision(f"dev{each}", credential=with_bootstrap(psk_block(f"bs-dev{each}", KEY))) for each in (1, 2)
    )
    idle = SecureClient(port, b"bs-dev1", KEY, port=40_001).connect()
    client = SecureClient(port, b"bs-dev2", KEY, port=40_002).connect()
    # Refused after it had been bootstrapped: its session would have been closed soon.
    client.bootstrap("/bs")
    assert client.ask("/bs?ep=never-heard").code == BAD_REQUEST
    stack.clock.at += IDLE_S - 1
    port.calls(port.sessions.look)
    assert len(port.sessions) == 2
    request = until(idle, "PUT /0/1")
    stack.clock.at += 2
    port.calls(port.sessions.look)
    assert list(port.sessions.devices.values()) == [one.device_id]
    idle.react(request)
    idle.run()
    assert port.ends_of(one) == [("configured", "")]
    assert port.ends_of(two) == [("refused", "wrong-identity"), ("configured", "")]
