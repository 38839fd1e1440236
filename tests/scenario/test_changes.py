"""What people change of a device while it is registered."""

from dataclasses import replace

import pytest

from stellwerk.app.changes import PutSession
from stellwerk.app.command_request import CommandRequest
from stellwerk.app.committing import commit
from stellwerk.app.handlers.devices import Devices
from stellwerk.app.session import SecureSession
from stellwerk.coap import codes
from stellwerk.core.ids import PeerId
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


@pytest.mark.spec("SEC-9", "Platform 4")
def test_credentials_that_a_command_changed_beside_the_server_act_when_it_looks(stack: Stack) -> None:
    device, other = stack.provision("dev1"), stack.provision("dev2")
    register(stack)
    assert stack.store is not None
    changing = devices(stack)
    told: list[str] = []
    changing.revoking.revoked = lambda each: told.append(each.name)
    stack.run(stack.store.set_credential(device.device_id, KEY))
    stack.run(stack.store.set_credential(other.device_id, replace(KEY, identity="dev2")))
    assert stack.registrations() == ["dev1"]
    assert stack.run(changing.revoking.look()) == 2
    assert stack.registrations() == []
    # Live sessions end before the registration does, and once more after: for handshakes that were under way.
    assert sorted(told) == ["dev1", "dev1", "dev2", "dev2"]
    assert stack.run(changing.revoking.look()) == 0
    (
        stack
        << con(codes.POST, REGISTER, mid=3, token=b"v", payload=LINKS, content_format=40)
        >> ack(codes.FORBIDDEN, mid=3, token=b"v")
    )


@pytest.mark.spec("SEC-9", "Platform 4")
def test_sessions_that_are_stored_end_with_the_credentials_they_came_from(stack: Stack) -> None:
    device = stack.run(devices(stack).give_credential(stack.provision("dev1"), KEY))
    assert stack.store is not None
    session = SecureSession(bytes(8), device.device_id, PeerId("udp", "192.0.2.1", 5683), b"keys", 1024, 1)
    stack.run(commit(stack.store, (), (PutSession(session),)))
    assert stack.run(stack.store.sessions_of(device.device_id))
    stack.run(devices(stack).change_credential(device, description="mine"))
    assert stack.run(stack.store.sessions_of(device.device_id))
    stack.run(devices(stack).change_credential(device, secret="psk-hex:44556677"))
    assert not stack.run(stack.store.sessions_of(device.device_id))


@pytest.mark.spec("SEC-9")
def test_a_device_whose_credentials_are_taken_away_has_to_come_again_without(stack: Stack) -> None:
    device = stack.run(devices(stack).give_credential(stack.provision("dev1"), KEY))
    told: list[str] = []
    changing = devices(stack)
    changing.revoking.revoked = lambda each: told.append(each.name)
    stack.run(changing.remove_credential(device))
    assert told == ["dev1", "dev1"]
    assert stack.store is not None
    line, *_ = stack.run(stack.store.projection.device_log(device.device_id, 10))
    assert (line.event, "come again without" in line.detail) == ("credentials-changed", True)


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
