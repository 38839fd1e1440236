"""Devices over TCP: registered, asked, observed, disconnected and back, also over the other transport (contract §1.8,
BIN-3, BIN-4, MSG-11)."""

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.options import encode_uint, sort_options
from stellwerk.coap.tcp.frames import encode_frame
from stellwerk.coap.tcp.signalling import ReleaseNotice, encode_release
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.path import Path
from tests.scenario.gateway_device import Behind, Gateway
from tests.scenario.stack import Stack, after, con
from tests.scenario.test_commands import NOTIFICATION, SENML_MANUFACTURER, execute, path_of, read, status

CONNECTION = PeerId("tcp", "192.0.2.1", 50_001, "192.0.2.100", 5683)
NEXT = CONNECTION._replace(remote_port=50_002)
TEMPERATURE = Path(3303, 0, 5700)
LINKS = b"</>;ct=112,</1/0>,</3/0>,</3303/0>"
REGISTER = "/rd?ep=urn:dev:os:dev1&lt=300&lwm2m=1.1&b=T"


def frame(
    code: int,
    target: str = "",
    token: bytes = b"t",
    payload: bytes = b"",
    *,
    content_format: int | None = None,
    observe: int | None = None,
) -> bytes:
    path, _, query = target.partition("?")
    options = [(11, each.encode()) for each in path.split("/") if each]
    options += [(15, each.encode()) for each in query.split("&") if each]
    if content_format is not None:
        options.append((12, encode_uint(content_format)))
    if observe is not None:
        options.append((6, encode_uint(observe)))
    return encode_frame(code, token, encode_options(sort_options(options)), payload)


def register(stack: Stack, peer: PeerId = CONNECTION, target: str = REGISTER) -> str:
    """Connect, register, and give the path of the registration."""
    stack.connect(peer).say(peer, frame(codes.POST, target, payload=LINKS, content_format=40))
    answer = said(stack, peer)
    assert answer.code == codes.CREATED, answer
    return "/" + "/".join(value.decode() for number, value in answer.options if number == 8)


def said(stack: Stack, peer: PeerId = CONNECTION) -> Message:
    message = stack.heard(peer)
    assert message is not None, "the connection was closed"
    return message


@pytest.fixture
def device(stack: Stack) -> object:
    return stack.provision("dev1")


def observe(stack: Stack, device: object, peer: PeerId) -> Message:
    """Want /3303/0/5700 observed, and let the device agree."""
    stack.run(stack._then_settle(stack.observations.observe(device.device_id, TEMPERATURE)))  # type: ignore[attr-defined]
    request = said(stack, peer)
    assert (6, b"") in request.options
    stack.say(peer, frame(codes.CONTENT, token=request.token, payload=NOTIFICATION, content_format=112, observe=1))
    return request


@pytest.mark.spec("ETS 106", "R-1", "MSG-11", "BIN-4")
def test_a_device_registers_over_tcp_and_is_asked_over_its_connection(stack: Stack, device: object) -> None:
    location = register(stack)
    assert stack.registrations() == ["urn:dev:os:dev1"]
    stack.post(device, read("/3/0/0"))
    request = said(stack)
    assert (request.code, path_of(request)) == (codes.GET, "/3/0/0")
    answer = frame(codes.CONTENT, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    stack.say(CONNECTION, answer)
    assert stack.values(device, "/3/0/0") == ['"ACME"']
    stack.say(CONNECTION, frame(codes.POST, location, b"u"))
    assert said(stack).code == codes.CHANGED
    stack.say(CONNECTION, frame(codes.DELETE, location, b"d"))
    assert said(stack).code == codes.DELETED
    assert stack.registrations() == []
    assert stack.silent()


@pytest.mark.spec("ETS 306")
def test_a_send_over_tcp_is_stored_each_time_it_comes(stack: Stack, device: object) -> None:
    register(stack)
    send = frame(codes.POST, "/dp", payload=NOTIFICATION, content_format=112)
    # Nothing is repeated over TCP: the same bytes twice are two Sends.
    stack.say(CONNECTION, send + send)
    assert [said(stack).code, said(stack).code] == [codes.CHANGED, codes.CHANGED]
    assert len(stack.values(device, "/3303/0/5700")) == 2


@pytest.mark.spec("OB-3", "OB-2")
def test_notifications_over_tcp_are_stored_in_their_order(stack: Stack, device: object) -> None:
    register(stack)
    request = observe(stack, device, CONNECTION)
    for number in (9, 3):
        stack.say(
            CONNECTION,
            frame(codes.CONTENT, token=request.token, payload=NOTIFICATION, content_format=112, observe=number),
        )
    assert len(stack.values(device, "/3303/0/5700")) == 3
    assert stack.hears_nothing(CONNECTION)


@pytest.mark.spec("OB-3")
def test_none_of_many_notifications_that_come_at_once_over_tcp_is_lost(stack: Stack, device: object) -> None:
    register(stack)
    request = observe(stack, device, CONNECTION)
    told = frame(codes.CONTENT, token=request.token, payload=NOTIFICATION, content_format=112, observe=2)
    stack.streams.feed(told * 400, peer=CONNECTION, now=stack.clock.now())
    # Nobody repeats one, so all that was read is taken, and no more is read for now.
    assert stack.streams.is_full(CONNECTION)
    stack.run(stack._settle())
    assert len(stack.values(device, "/3303/0/5700")) == 401
    assert not stack.streams.is_full(CONNECTION)
    assert stack.stream_link.refused == {}


@pytest.mark.spec("OB-5", "ETS 303")
def test_an_observation_that_is_not_wanted_any_more_is_cancelled_by_a_request(stack: Stack, device: object) -> None:
    register(stack)
    request = observe(stack, device, CONNECTION)
    stack.observations.dropped(device.device_id, TEMPERATURE)  # type: ignore[attr-defined]
    stack.run(stack._settle())
    cancel = said(stack)
    assert (cancel.code, cancel.token, path_of(cancel)) == (codes.GET, request.token, "/3303/0/5700")
    assert (6, b"\x01") in cancel.options


@pytest.mark.spec("LwM2M-contract 1.8", "R-6")
def test_a_lost_connection_keeps_the_registration_and_lets_commands_wait(stack: Stack, device: object) -> None:
    register(stack)
    stack.say(CONNECTION, b"")
    assert stack.registrations() == ["urn:dev:os:dev1"]
    assert "connection-lost" in stack.log(device)
    stack.post(device, read("/3/0/0"))
    stack << after(120)
    assert stack.hears_nothing(CONNECTION)
    assert stack.silent()
    assert stack.store is not None
    assert stack.run(stack.store.sent_messages(device.device_id, 10, 0)) == []  # type: ignore[attr-defined]
    # A new connection says nothing of the device yet.
    stack.connect(NEXT)
    assert stack.hears_nothing(NEXT)
    stack.say(NEXT, frame(codes.POST, REGISTER, payload=LINKS, content_format=40))
    assert said(stack, NEXT).code == codes.CREATED
    request = said(stack, NEXT)
    assert path_of(request) == "/3/0/0"
    stack.say(NEXT, frame(codes.CONTENT, token=request.token, payload=SENML_MANUFACTURER, content_format=112))
    assert status(stack, device) == (200, "ok")


@pytest.mark.spec("R-14", "BIN-4", "OB-7", "OB-8")
def test_an_update_over_a_new_connection_takes_over_and_restores_what_is_observed(stack: Stack, device: object) -> None:
    location = register(stack)
    first = observe(stack, device, CONNECTION)
    stack.say(CONNECTION, b"")
    stack.connect(NEXT).say(NEXT, frame(codes.POST, location, b"u"))
    assert said(stack, NEXT).code == codes.CHANGED
    again = said(stack, NEXT)
    assert (path_of(again), again.token != first.token) == ("/3303/0/5700", True)
    assert (6, b"") in again.options
    stack.post(device, read("/3/0/0"))
    stack.say(NEXT, frame(codes.CONTENT, token=again.token, payload=NOTIFICATION, content_format=112, observe=0))
    assert path_of(said(stack, NEXT)) == "/3/0/0"


@pytest.mark.spec("R-6")
def test_the_lifetime_of_a_disconnected_device_runs_on(stack: Stack, device: object) -> None:
    location = register(stack)
    stack.say(CONNECTION, b"")
    stack << after(299)
    assert stack.registrations() == ["urn:dev:os:dev1"]
    stack << after(2)
    assert stack.registrations() == []
    stack.connect(NEXT).say(NEXT, frame(codes.POST, location, b"u"))
    assert said(stack, NEXT).code == codes.NOT_FOUND


@pytest.mark.spec("QM-4")
def test_a_read_that_lost_its_connection_is_asked_again_and_an_execute_is_not(stack: Stack, device: object) -> None:
    register(stack)
    stack.post(device, read("/3/0/0"))
    assert path_of(said(stack)) == "/3/0/0"
    stack.say(CONNECTION, b"")
    location = register(stack, NEXT)
    request = said(stack, NEXT)
    assert path_of(request) == "/3/0/0"
    stack.say(NEXT, frame(codes.CONTENT, token=request.token, payload=SENML_MANUFACTURER, content_format=112))
    assert status(stack, device) == (200, "ok")
    stack.post(device, execute("/3/0/4"), read("/3/0/0"))
    assert path_of(said(stack, NEXT)) == "/3/0/4"
    stack.say(NEXT, b"")
    found = stack.received(device)[-1]
    assert found["status"]["reason"] == "outcome-unknown"
    # What stood behind it waits.
    stack.connect(CONNECTION).say(CONNECTION, frame(codes.POST, location, b"u"))
    assert said(stack).code == codes.CHANGED
    assert path_of(said(stack)) == "/3/0/0"


@pytest.mark.spec("BIN-4", "R-14")
def test_a_device_changes_from_udp_to_tcp_and_back_with_its_sessions(stack: Stack, device: object) -> None:
    target = "/rd?ep=urn:dev:os:dev1&lt=300&lwm2m=1.1&b=U"
    stack << con(codes.POST, target, mid=1, token=b"t", payload=LINKS, content_format=40)
    location = "/" + "/".join(value.decode() for number, value in stack.take().options if number == 8)
    stack.post(device, read("/3/0/0"))
    assert path_of(stack.take()) == "/3/0/0"
    stack.connect(CONNECTION).say(CONNECTION, frame(codes.POST, f"{location}?b=T", b"u"))
    assert said(stack).code == codes.CHANGED
    # What was asked over UDP is asked again over the connection, and no longer over UDP.
    request = said(stack)
    assert path_of(request) == "/3/0/0"
    stack.say(CONNECTION, frame(codes.CONTENT, token=request.token, payload=SENML_MANUFACTURER, content_format=112))
    stack << after(60)
    assert stack.silent()
    assert status(stack, device) == (200, "ok")
    stack << con(codes.POST, f"{location}?b=U", mid=2, token=b"v")
    assert stack.take().code == codes.CHANGED
    stack.post(device, read("/3/0/0"))
    assert path_of(stack.take()) == "/3/0/0"
    assert stack.hears_nothing(CONNECTION)
    # The old connection means nothing to the device any more.
    stack.say(CONNECTION, b"")
    assert "connection-lost" not in stack.log(device)


@pytest.mark.spec("LwM2M-contract 1.8")
def test_whoever_comes_by_the_same_port_later_is_not_taken_for_the_device(stack: Stack, device: object) -> None:
    location = register(stack)
    stack.say(CONNECTION, b"")
    send = frame(codes.POST, "/dp", payload=NOTIFICATION, content_format=112)
    stack.connect(CONNECTION).say(CONNECTION, send)
    assert said(stack).code == codes.NOT_FOUND
    assert stack.values(device, "/3303/0/5700") == []
    # Unless it is: its location shows it.
    stack.say(CONNECTION, frame(codes.POST, location, b"u"))
    stack.say(CONNECTION, send)
    assert [said(stack).code, said(stack).code] == [codes.CHANGED, codes.CHANGED]


def test_a_connection_that_ends_while_its_register_is_stored_is_not_taken_for_one_that_stands(
    stack: Stack, device: object
) -> None:
    stack.connect(CONNECTION)
    request = frame(codes.POST, REGISTER, payload=LINKS, content_format=40)
    stack.streams.feed(request, peer=CONNECTION, now=stack.clock.now())
    stack.streams.feed(b"", peer=CONNECTION, now=stack.clock.now())
    stack.run(stack._settle())
    assert stack.registrations() == ["urn:dev:os:dev1"]
    assert "connection-lost" in stack.log(device)
    stack.connect(CONNECTION).say(CONNECTION, frame(codes.POST, "/dp", payload=NOTIFICATION, content_format=112))
    assert said(stack).code == codes.NOT_FOUND


def test_devices_behind_one_connection_are_lost_and_found_together(stack: Stack, device: object) -> None:
    other = stack.provision("dev2")
    register(stack)
    stack.say(CONNECTION, frame(codes.POST, REGISTER.replace("dev1", "dev2"), b"2", LINKS, content_format=40))
    assert said(stack).code == codes.CREATED
    stack.say(CONNECTION, b"")
    for each in (device, other):
        assert "connection-lost" in stack.log(each)
        stack.post(each, read("/3/0/0"))
    assert stack.hears_nothing(CONNECTION)
    register(stack, NEXT, REGISTER.replace("dev1", "dev2"))
    assert path_of(said(stack, NEXT)) == "/3/0/0"
    assert stack.hears_nothing(NEXT)


def test_a_connection_that_is_released_takes_no_new_command(stack: Stack, device: object) -> None:
    register(stack)
    stack.say(CONNECTION, encode_release(ReleaseNotice(hold_off_s=10)))
    stack.post(device, read("/3/0/0"))
    stack << after(1)
    assert stack.heard(CONNECTION) is None
    register(stack, NEXT)
    assert path_of(said(stack, NEXT)) == "/3/0/0"


@pytest.mark.spec("LwM2M-contract 1.8", "OB-8")
def test_after_a_restart_a_device_over_tcp_waits_until_it_is_heard(stack: Stack, device: object) -> None:
    location = register(stack)
    observe(stack, device, CONNECTION)
    stack.say(CONNECTION, b"")
    stack.post(device, read("/3/0/0"))
    later = Stack(store=stack.store, clock=stack.clock, ask_for_s=247, seed=5)
    try:
        later.run(later._then_settle(later.commands.recover()))
        later << after(100)
        assert later.silent()
        # The same four numbers may be somebody else's by now.
        later.connect(CONNECTION).say(CONNECTION, frame(codes.POST, "/dp", payload=NOTIFICATION, content_format=112))
        assert said(later).code == codes.NOT_FOUND
        later.say(CONNECTION, frame(codes.POST, location, b"u"))
        assert said(later).code == codes.CHANGED
        asked = set()
        for _ in range(2):
            request = said(later)
            asked.add(path_of(request))
            later.say(CONNECTION, frame(codes.METHOD_NOT_ALLOWED, token=request.token))
        assert asked == {"/3303/0/5700", "/3/0/0"}
    finally:
        later.close()


@pytest.mark.spec("BIN-4", "OB-7", "LwM2M-contract 12")
def test_end_devices_move_to_a_connection_and_wait_for_the_next_with_their_gateway() -> None:
    stack = Stack(end_devices=5)
    try:
        stack.provision("gw1")
        gateway = Gateway(stack, behind=[Behind("d7", "d01")])
        gateway.register()
        location = gateway.location
        assert stack.store is not None
        end_device = stack.run(stack.store.device_by_name(stack.tenant_id, "gw1-d7"))
        stack.run(stack._then_settle(stack.observations.observe(end_device.device_id, TEMPERATURE)))
        gateway.pump()
        stack.connect(CONNECTION).say(CONNECTION, frame(codes.POST, location, b"u"))
        assert said(stack).code == codes.CHANGED
        asked = set()
        while not stack.hears_nothing(CONNECTION):
            request = said(stack)
            asked.add(path_of(request))
            stack.say(CONNECTION, frame(codes.METHOD_NOT_ALLOWED, token=request.token))
        assert "/d01/3303/0/5700" in asked
        stack.say(CONNECTION, b"")
        stack.post(end_device, read("/3303/0/5700"))
        assert stack.silent()
        stack.connect(NEXT).say(NEXT, frame(codes.POST, location, b"u"))
        assert said(stack, NEXT).code == codes.CHANGED
        asked = set()
        while not stack.hears_nothing(NEXT):
            request = said(stack, NEXT)
            asked.add((request.token, path_of(request)))
            stack.say(NEXT, frame(codes.METHOD_NOT_ALLOWED, token=request.token))
        # The observation, and the Read that waited.
        assert [path for _, path in asked].count("/d01/3303/0/5700") >= 2
    finally:
        stack.close()


@pytest.mark.spec("BIN-4", "OB-7", "OB-8", "LwM2M-contract 12")
def test_after_a_restart_end_devices_are_asked_anew_over_the_next_connection_of_their_gateway() -> None:
    stack = Stack(end_devices=5)
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind("d7", "d01")])
    gateway.register()
    location = gateway.location
    assert stack.store is not None
    end_device = stack.run(stack.store.device_by_name(stack.tenant_id, "gw1-d7"))
    stack.run(stack._then_settle(stack.observations.observe(end_device.device_id, TEMPERATURE)))
    gateway.pump()
    later = Stack(store=stack.store, clock=stack.clock, end_devices=5, seed=5)
    stack.close()
    try:
        later.connect(NEXT).say(NEXT, frame(codes.POST, location, b"u"))
        assert said(later, NEXT).code == codes.CHANGED
        asked = set()
        while not later.hears_nothing(NEXT):
            request = said(later, NEXT)
            asked.add(path_of(request))
            later.say(NEXT, frame(codes.METHOD_NOT_ALLOWED, token=request.token))
        assert asked == {"/25", "/d01/3303/0/5700"}
    finally:
        later.close()
