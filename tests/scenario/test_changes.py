"""What people change of a device while it is registered."""

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.app.handlers.devices import Devices
from stellwerk.coap import codes
from stellwerk.device.record import Credential
from tests.scenario.stack import Stack, ack, con
from tests.scenario.test_registration import LINKS, REGISTER, register

KEY = Credential("dev1", "psk-hex:00112233")


def devices(stack: Stack) -> Devices:
    assert stack.store is not None
    return Devices(
        store=stack.store,
        registry=stack.registry,
        clock=stack.clock,
        link=stack.link,
        listener=stack.listening,
        relabel=stack.commands.delivery.relabel,
    )


@pytest.mark.spec("D2C 6.5")
def test_a_device_that_gets_a_key_loses_its_open_registration_and_may_not_come_back_without(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack.run(devices(stack).give_credential(device, KEY))
    assert stack.registrations() == []
    assert [each["messageType"] for each in stack.received(device)] == ["registration", "registration-expire"]
    stack << con(codes.POST, location, mid=2, token=b"u") >> ack(codes.NOT_FOUND, mid=2, token=b"u")
    again = con(codes.POST, REGISTER, mid=3, token=b"v", payload=LINKS, content_format=40)
    stack << again >> ack(codes.FORBIDDEN, mid=3, token=b"v")
    assert len(stack.received(device)) == 2
    stack.run(devices(stack).remove_credential(device))
    register(stack, mid=4)
    assert stack.registrations() == ["dev1"]


@pytest.mark.spec("D2C 6.5")
def test_a_command_in_flight_to_a_device_that_gets_a_key_ends_truthfully(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, CommandRequest("read", "/3/0/0", "READ /3/0/0"))
    stack.take()
    stack.run(devices(stack).give_credential(device, KEY))
    stack.run(stack._settle())
    (response,) = [each for each in stack.received(device) if each["messageType"] == "response"]
    assert response["status"]["code"] == 408


@pytest.mark.spec("D2C 8")
def test_a_label_that_changes_between_two_updates_is_in_the_second_message(stack: Stack) -> None:
    device = stack.provision("dev1", ("d2c-uplink-property_Room:1",))
    location = register(stack)
    stack.run(devices(stack).set_labels(device, ("d2c-uplink-property_Room:2",)))
    stack << con(codes.POST, location, mid=2, token=b"u") >> ack(codes.CHANGED, mid=2, token=b"u")
    assert stack.store is not None
    newest, oldest = stack.run(stack.store.projection.received_messages(device.device_id, 10, 0))
    assert (oldest.labels, newest.labels) == (("Room:1",), ("Room:2",))
