"""A command travels to the device and its outcome comes back, whatever the device and the network do."""

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message
from stellwerk.lwm2m.path import Path
from tests.scenario.stack import Stack, ack, after, con, rst
from tests.scenario.test_registration import register

SENML_MANUFACTURER = bytes.fromhex("81a221662f332f302f30") + b"\x03\x64ACME"
NOTIFICATION = bytes.fromhex("81a2216c2f333330332f302f35373030") + b"\x02\xf9\x4d\x60"


def read(path: str) -> CommandRequest:
    return CommandRequest("read", path, f"READ {path}")


def write(path: str, value: str) -> CommandRequest:
    return CommandRequest("write", path, f"WRITE {path} {value}", value, has_value=True)


def execute(path: str) -> CommandRequest:
    return CommandRequest("execute", path, f"EXECUTE {path}")


def path_of(message: Message) -> str:
    return "/" + "/".join(value.decode() for number, value in message.options if number == 11)


def status(stack: Stack, device: object) -> tuple[int, str]:
    found = stack.received(device)[-1]["status"]
    return found["code"], found["reason"]


@pytest.fixture
def device(stack: Stack) -> object:
    made = stack.provision("dev1", ("d2c-uplink-property_Room:7",))
    register(stack)
    return made


@pytest.mark.spec("D-1", "MSG-13")
def test_a_read_goes_out_confirmable_with_accept_and_its_answer_is_a_message(stack: Stack, device: object) -> None:
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    assert (request.type, request.code, path_of(request)) == (CON, codes.GET, "/3/0/0")
    assert (17, b"\x70") in request.options
    assert len(request.token) >= 4
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    message = stack.received(device)[-1]
    assert message["status"] == {"code": 200, "message": "success", "detail": None, "reason": "ok"}
    assert message["data"] == {"3/0/0": "ACME"}
    assert (message["method"], message["resourcePath"], message["path"]) == ("read", "3/0/0", "3/0/0")
    assert stack.values(device, "/3/0/0") == ['"ACME"']


def test_sent_and_received_carry_the_same_two_labels_and_the_uplink_properties(stack: Stack, device: object) -> None:
    outgoing = stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    assert stack.store is not None
    (sent,) = stack.run(stack.store.sent_messages(device.device_id, 10, 0))
    received = stack.run(stack.store.projection.received_messages(device.device_id, 10, 0))[0]
    assert sent.labels == received.labels
    assert sent.labels[0] == f"outgoing_msgRN:{outgoing.resource_name}"
    assert sent.labels[1].startswith("requestId:")
    assert sent.labels[2:] == ("Room:7",)
    assert stack.run(stack.store.outgoing_messages(device.device_id, 10, 0)) == []


def test_commands_go_one_at_a_time_and_a_failing_one_stops_nothing(stack: Stack, device: object) -> None:
    stack.post(device, execute("/3/0/4"), write("/1/0/1", "60"), read("/3/0/0"))
    first = stack.take()
    assert (first.code, path_of(first)) == (codes.POST, "/3/0/4")
    assert stack.silent()
    stack << ack(codes.METHOD_NOT_ALLOWED, mid=first.mid, token=first.token)
    assert status(stack, device) == (405, "device-method")
    second = stack.take()
    assert (second.code, path_of(second)) == (codes.PUT, "/1/0/1")
    stack << ack(codes.CHANGED, mid=second.mid, token=second.token)
    assert stack.received(device)[-1]["data"] is None
    third = stack.take()
    stack << ack(mid=third.mid)
    (
        stack
        << con(codes.CONTENT, mid=77, token=third.token, payload=SENML_MANUFACTURER, content_format=112)
        >> ack(mid=77)
    )
    assert status(stack, device) == (200, "ok")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (read("/3/x"), (404, "path-invalid")),
        (read("/9999"), (404, "path-invalid")),
        (read("/3/0/4"), (406, "not-acceptable")),
        (execute("/3/0/0"), (406, "not-acceptable")),
        (execute("/3/0"), (404, "path-invalid")),
        (CommandRequest("write", "/1/0/1", "WRITE /1/0/1"), (400, "value-missing")),
        (write("/1/0/1", "soon"), (400, "adapter-bad-request")),
        (CommandRequest("unobserve", "/3/0/9", "UNOBSERVE /3/0/9"), (404, "no-observation")),
    ],
)
def test_a_command_that_can_never_succeed_is_answered_at_once_and_not_sent(
    stack: Stack, device: object, request_: CommandRequest, expected: tuple[int, str]
) -> None:
    stack.post(device, request_)
    assert stack.silent()
    assert status(stack, device) == expected
    assert stack.received(device)[-1]["status"]["detail"]
    assert stack.store is not None
    assert stack.run(stack.store.sent_messages(device.device_id, 10, 0)) == []
    assert stack.run(stack.store.outgoing_messages(device.device_id, 10, 0)) == []


def test_a_device_that_is_not_registered_is_a_408_at_once(stack: Stack) -> None:
    device = stack.provision("dev2")
    stack.post(device, read("/3/0/0"))
    assert status(stack, device) == (408, "timeout-binding")


@pytest.mark.spec("QM-4")
def test_a_device_that_never_answers_is_a_408_and_the_next_command_waits_for_a_while(
    stack: Stack, device: object
) -> None:
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    first = stack.take()
    stack << after(100)
    assert status(stack, device) == (408, "timeout")
    assert all(each.mid == first.mid for _, each in stack.out)
    stack.out.clear()
    stack << after(60)
    assert path_of(stack.take()) == "/3/0/1"


@pytest.mark.spec("QM-3")
def test_a_device_that_did_not_answer_gets_the_next_command_once_it_is_heard(stack: Stack, device: object) -> None:
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    stack << after(100)
    stack.out.clear()
    stack << con(codes.POST, "/rd?ep=dev1&lwm2m=1.1&lt=300", mid=9, payload=b"</3/0>", content_format=40)
    assert stack.take().code == codes.CREATED
    assert path_of(stack.take()) == "/3/0/1"


@pytest.mark.spec("MSG-12")
def test_a_reset_ends_the_command(stack: Stack, device: object) -> None:
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << rst(mid=request.mid)
    assert status(stack, device) == (400, "device-bad-request")


@pytest.mark.spec("D-2", "T-8")
def test_a_device_that_refuses_the_format_is_asked_in_the_next(stack: Stack) -> None:
    device = stack.provision("dev3")
    register(stack, target="/rd?ep=dev3&lwm2m=1.1&lt=300")
    stack << con(codes.POST, "/rd?ep=dev3&lwm2m=1.1&lt=300", mid=5, payload=b"</3/0>", content_format=40)
    stack.take()
    stack.post(device, read("/3/0/0"))
    for wanted in (b"\x70", b"\x6e"):
        request = stack.take()
        assert (17, wanted) in request.options
        stack << ack(codes.NOT_ACCEPTABLE, mid=request.mid, token=request.token)
    request = stack.take()
    assert (17, b"\x2d\x16") in request.options
    tlv = b"\xc4\x00ACME"
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=tlv, content_format=11542)
    assert stack.received(device)[-1]["data"] == {"3/0/0": "ACME"}


def test_an_answer_that_does_not_decode_is_a_refusal_and_stores_nothing(stack: Stack, device: object) -> None:
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=b"\x81\xa2", content_format=112)
    assert status(stack, device) == (500, "adapter")
    assert stack.values(device, "/3/0/0") == []


def test_after_a_restart_a_read_is_sent_again_and_an_execute_is_not(stack: Stack, device: object) -> None:
    other = stack.provision("dev2")
    register(stack, mid=2, target="/rd?ep=dev2&lwm2m=1.1&lt=300", peer=_other())
    stack.post(device, read("/3/0/0"))
    stack.post(other, execute("/3/0/4"))
    assert stack.store is not None
    after_crash = Stack(store=stack.store, clock=stack.clock, seed=1, ask_for_s=247)
    after_crash.run(after_crash._then_settle(after_crash.commands.recover()))
    assert status(after_crash, other) == (408, "outcome-unknown")
    request = after_crash.take()
    assert path_of(request) == "/3/0/0"
    assert after_crash.silent()
    after_crash << ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112
    )
    assert status(after_crash, device) == (200, "ok")
    assert len(after_crash.run(after_crash.store.sent_messages(device.device_id, 10, 0))) == 1
    after_crash.close()


def _other() -> object:
    from stellwerk.core.ids import PeerId

    return PeerId("udp", "192.0.2.2", 40001, "192.0.2.100", 5683)


# -- observations --


@pytest.mark.spec("OB-1", "OB-8")
def test_a_wanted_observation_is_stored_before_it_is_asked_and_its_notifications_are_values(
    stack: Stack, device: object
) -> None:
    stack.run(stack._then_settle(stack.observations.observe(device.device_id, Path.parse("/3303/0/5700"))))
    request = stack.take()
    assert (6, b"") in request.options
    assert stack.store is not None
    assert stack.run(stack.store.observation_by_token(request.token)) is not None
    answer = ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=NOTIFICATION, content_format=112, observe=1
    )
    stack << answer
    notify = con(codes.CONTENT, mid=50, token=request.token, payload=NOTIFICATION, content_format=112, observe=2)
    stack << notify >> ack(mid=50)
    assert stack.values(device, "/3303/0/5700") == ["21.5", "21.5"]
    assert stack.received(device)[-1]["dataValue"] == 21.5


@pytest.mark.spec("OB-3")
def test_a_notification_nobody_wants_is_reset(stack: Stack, device: object) -> None:
    stack << con(codes.CONTENT, mid=50, token=b"12345678", payload=NOTIFICATION, content_format=112, observe=2)
    assert stack.out.pop(0)[1] == Message(3, 0, 50)
    assert stack.link.refused == {"token": 1}


@pytest.mark.spec("OB-7", "OB-8", "R-15")
def test_after_a_restart_an_old_token_is_known_and_a_new_register_observes_again(stack: Stack, device: object) -> None:
    stack.run(stack._then_settle(stack.observations.observe(device.device_id, Path.parse("/3303/0/5700"))))
    request = stack.take()
    stack << ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=NOTIFICATION, content_format=112, observe=1
    )
    again = Stack(store=stack.store, clock=stack.clock, seed=1, ask_for_s=247)
    notify = con(codes.CONTENT, mid=50, token=request.token, payload=NOTIFICATION, content_format=112, observe=2)
    again << notify >> ack(mid=50)
    assert len(again.values(device, "/3303/0/5700")) == 2
    again << con(codes.POST, "/rd?ep=dev1&lwm2m=1.1&lt=300", mid=51, payload=b"</3303/0>", content_format=40)
    assert again.take().code == codes.CREATED
    fresh = again.take()
    assert path_of(fresh) == "/3303/0/5700"
    assert (6, b"") in fresh.options
    assert fresh.token != request.token
    again.close()


@pytest.mark.spec("T-4")
def test_a_notification_from_another_address_is_neither_stored_nor_reset(stack: Stack, device: object) -> None:
    stack.run(stack._then_settle(stack.observations.observe(device.device_id, Path.parse("/3303/0/5700"))))
    request = stack.take()
    stack << ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=NOTIFICATION, content_format=112, observe=1
    )
    stack << con(
        codes.CONTENT, mid=50, token=request.token, payload=NOTIFICATION, content_format=112, observe=2, peer=_other()
    )
    assert stack.silent()
    assert len(stack.values(device, "/3303/0/5700")) == 1
    assert stack.link.refused == {"from-elsewhere": 1}
