"""Observes with attributes, and the operations that are ours: each becomes the requests of the standard, in order."""

from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.coap import codes
from stellwerk.coap.message import Message
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import NOTIFICATION, path_of, read, status
from tests.scenario.test_observations import OBSERVE_0, VALUE, establish, notification, unobserve
from tests.scenario.test_registration import register
from tests.scenario.test_storms import SLEEPER, responses

ATTRIBUTES = (("pmin", "10"), ("pmax", "60"), ("gt", "25.5"))
QUERY = [b"pmin=10", b"pmax=60", b"gt=25.5"]


def observe(path: str = VALUE, attributes: Any = ATTRIBUTES) -> CommandRequest:
    return CommandRequest("observe", path, f"OBSERVE {path}?...", attributes=attributes)


def command(verb: Any, path: str, **more: Any) -> CommandRequest:
    return CommandRequest(verb, path, f"{verb.upper()} {path}", **more)


def query_of(message: Message) -> list[bytes]:
    return [value for number, value in message.options if number == 15]


def changed(stack: Stack, request: Message, code: int = codes.CHANGED, **more: Any) -> None:
    stack << ack(code, mid=request.mid, token=request.token, **more)


@pytest.fixture
def device(stack: Stack) -> Any:
    made = stack.provision("dev1")
    register(stack)
    return made


# -- OBSERVE with attributes --


@pytest.mark.spec("D2C 7.2", "OB-1", "ATT-3")
def test_attributes_are_written_before_the_observe_leaves(stack: Stack, device: Any) -> None:
    stack.post(device, observe())
    attributes = stack.take()
    assert (attributes.code, path_of(attributes), attributes.payload) == (codes.PUT, VALUE, b"")
    assert sorted(query_of(attributes)) == sorted(QUERY)
    assert stack.silent()
    changed(stack, attributes)
    request = stack.take()
    assert OBSERVE_0 in request.options
    establish(stack, request)
    assert status(stack, device) == (200, "ok")
    assert stack.store is not None
    assert len(stack.run(stack.store.sent_messages(device.device_id, 9, 0))) == 1


@pytest.mark.spec("D2C 8")
def test_a_notification_shows_the_attributes_that_hold(stack: Stack, device: Any) -> None:
    stack.post(device, observe())
    changed(stack, stack.take())
    token = establish(stack, stack.take())
    stack << notification(token, mid=50, number=2) >> ack(mid=50)
    message = stack.received(device)[-1]
    assert message["messageType"] == "notify"
    assert message["attributes"] == {"pmin": 10, "pmax": 60, "gt": 25.5}


@pytest.mark.spec("D2C 7.2")
def test_a_device_that_refuses_the_attributes_is_not_observed(stack: Stack, device: Any) -> None:
    stack.post(device, observe())
    changed(stack, stack.take(), codes.BAD_REQUEST)
    assert stack.silent()
    assert status(stack, device) == (400, "device-bad-request")
    assert "to the attributes" in stack.received(device)[-1]["status"]["detail"]
    stack.post(device, observe(attributes=()))
    assert OBSERVE_0 in stack.take().options


@pytest.mark.spec("D2C 7.2", "OB-5")
def test_unobserve_takes_the_attributes_away_again(stack: Stack, device: Any) -> None:
    stack.post(device, observe())
    changed(stack, stack.take())
    token = establish(stack, stack.take())
    stack.post(device, unobserve())
    cancel = stack.take()
    assert (6, b"\x01") in cancel.options
    changed(stack, cancel, codes.CONTENT, payload=NOTIFICATION, content_format=112)
    tidying = stack.take()
    assert (tidying.code, sorted(query_of(tidying))) == (codes.PUT, [b"gt", b"pmax", b"pmin"])
    changed(stack, tidying, codes.BAD_REQUEST)
    assert status(stack, device) == (200, "ok")
    stack << notification(token, mid=60, number=9)
    assert stack.take().type == 3


@pytest.mark.spec("OB-7")
def test_after_a_new_registration_the_attributes_are_written_before_it_is_observed_anew(
    stack: Stack, device: Any
) -> None:
    stack.post(device, observe())
    changed(stack, stack.take())
    establish(stack, stack.take())
    register(stack, mid=9)
    attributes = stack.take()
    assert (attributes.code, sorted(query_of(attributes))) == (codes.PUT, sorted(QUERY))
    changed(stack, attributes)
    assert OBSERVE_0 in stack.take().options


@pytest.mark.spec("OB-7")
def test_attributes_that_a_restarted_device_does_not_take_anymore_leave_a_line_and_it_is_observed_all_the_same(
    stack: Stack, device: Any
) -> None:
    stack.post(device, observe())
    changed(stack, stack.take())
    establish(stack, stack.take())
    register(stack, mid=9)
    changed(stack, stack.take(), codes.METHOD_NOT_ALLOWED)
    assert OBSERVE_0 in stack.take().options
    assert "attributes-refused" in stack.log(device)


@pytest.mark.spec("QM-4", "D2C 7.2")
def test_a_sleeper_that_falls_asleep_between_attributes_and_observe_gets_both_again(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    changed(stack, stack.take())
    stack << after(120)
    stack.out.clear()
    stack << con(codes.POST, location, mid=7) >> ack(codes.CHANGED, mid=7)
    attributes = stack.take()
    assert (attributes.code, path_of(attributes)) == (codes.PUT, VALUE)
    changed(stack, attributes)
    establish(stack, stack.take())
    assert responses(stack, device) == [(200, "ok")]


@pytest.mark.parametrize(
    ("path", "attributes", "reason"),
    [
        (VALUE, (("pmin", "60"), ("pmax", "10")), "adapter-bad-request"),
        (VALUE, (("gt", "10"), ("lt", "20"), ("st", "9")), "adapter-bad-request"),
        ("/3/0/0", (("gt", "1"),), "adapter-bad-request"),
        (VALUE, (("edge", "1"),), "adapter-bad-request"),
        ("/3303/0/9", (("gt", "x"),), "adapter-bad-request"),
        (VALUE, (("con", "1"),), "not-acceptable"),
    ],
)
@pytest.mark.spec("D2C 7.2", "ATT-10", "ATT-14")
def test_attributes_that_cannot_be_are_answered_at_once(
    stack: Stack, device: Any, path: str, attributes: Any, reason: str
) -> None:
    stack.post(device, observe(path, attributes))
    assert stack.silent()
    assert status(stack, device)[1] == reason
    assert stack.received(device)[-1]["status"]["detail"]


# -- ours --


@pytest.mark.spec("D-13", "ATT-9")
def test_discover_answers_with_the_paths_and_their_attributes(stack: Stack, device: Any) -> None:
    stack.post(device, command("discover", "/3303/0"))
    request = stack.take()
    assert (request.code, path_of(request)) == (codes.GET, "/3303/0")
    assert (17, b"\x28") in request.options
    links = b"</3303/0>;pmin=5,</3303/0/5700>;gt=25.5,</3303/0/5701>"
    changed(stack, request, codes.CONTENT, payload=links, content_format=40)
    assert stack.received(device)[-1]["data"] == {"3303/0": {"pmin": 5}, "3303/0/5700": {"gt": 25.5}, "3303/0/5701": {}}


@pytest.mark.spec("D-9")
def test_create_answers_with_the_path_of_what_was_made(stack: Stack, device: Any) -> None:
    stack.post(device, command("create", "/3303", value={"5701": "Cel"}, has_value=True, from_text=False))
    request = stack.take()
    assert (request.code, path_of(request)) == (codes.POST, "/3303")
    changed(stack, request, codes.CREATED, extra=[(8, b"3303"), (8, b"7")])
    found = stack.received(device)[-1]
    assert found["status"]["code"] == 200
    assert found["createdPath"] == "3303/7"


@pytest.mark.spec("D-10")
def test_delete_removes_an_instance(stack: Stack, device: Any) -> None:
    stack.post(device, command("delete", "/3303/0"))
    request = stack.take()
    assert (request.code, path_of(request)) == (codes.DELETE, "/3303/0")
    changed(stack, request, codes.DELETED)
    assert status(stack, device) == (200, "ok")


def test_delete_of_the_device_itself_is_not_even_asked(stack: Stack, device: Any) -> None:
    stack.post(device, command("delete", "/3/0"))
    assert stack.silent()
    assert status(stack, device) == (406, "not-acceptable")


@pytest.mark.spec("D2C 7.2", "ATT-12")
def test_write_attributes_alone_writes_and_unsets(stack: Stack, device: Any) -> None:
    stack.post(device, command("write-attributes", "/3303/0", attributes=(("pmin", "5"), ("pmax", None))))
    request = stack.take()
    assert (request.code, path_of(request)) == (codes.PUT, "/3303/0")
    assert sorted(query_of(request)) == [b"pmax", b"pmin=5"]
    changed(stack, request)
    assert status(stack, device) == (200, "ok")


@pytest.mark.parametrize("verb", ["create", "delete"])
@pytest.mark.spec("D2C 12")
def test_what_could_do_harm_twice_is_not_sent_again_after_a_restart(stack: Stack, device: Any, verb: str) -> None:
    value = {"5701": "Cel"} if verb == "create" else None
    path = "/3303/9" if verb == "create" else "/3303/0"
    stack.post(device, command(verb, path, value=value, has_value=value is not None, from_text=False), read("/3/0/0"))
    stack.take()
    again = Stack(store=stack.store, clock=stack.clock, seed=1)
    again.run(again._then_settle(again.commands.recover()))
    assert responses(again, device) == [(408, "outcome-unknown")]
    assert path_of(again.take()) == "/3/0/0"
    again.close()


@pytest.mark.spec("D-6", "T-15")
def test_an_instance_is_never_written_by_replacing_it(stack: Stack, device: Any) -> None:
    # Some devices take a replacing write for a partial one, others clear what it does not name.
    stack.post(device, read("/1/0"))
    before = b'[{"bn":"/1/0/","n":"1","v":300},{"n":"2","v":5}]'
    changed(stack, stack.take(), codes.CONTENT, payload=before, content_format=110)
    stack.post(device, command("write", "/1/0", value={"1": 600}, has_value=True))
    write = stack.take()
    assert (write.code, path_of(write)) == (codes.POST, "/1/0")
    changed(stack, write)
    assert status(stack, device) == (200, "ok")
    assert stack.values(device, "/1/0/2") == ["5"]
