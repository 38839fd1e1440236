"""A gateway behind DTLS: what it says of the devices behind it is believed of its own sessions alone."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import ACK, CON, RST, Message
from stellwerk.core.ids import PeerId
from stellwerk.device.record import Credential
from stellwerk.dtls.parameters import ServerParameters
from tests.scenario.gateway_device import Behind, Gateway
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import HOME, Stack, Step
from tests.scenario.test_observations import observe

KEY = bytes(range(16))
VALUE = "/3303/0/5700"


class Through:
    """Stands for the stack in front of a gateway: what it says goes through its secure session."""

    def __init__(self, device: SecureDevice) -> None:
        self.device = device
        self.out: list[tuple[PeerId, Message]] = []

    def __lshift__(self, step: Step) -> "Through":
        self.device.send(step.message)
        self.pull()
        return self

    def pull(self) -> None:
        self.device.pump()
        self.out += [(HOME, each) for each in self.device.heard]
        self.device.heard.clear()


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(secure=ServerParameters(), end_devices=5)
    made.provision("gw1", credential=Credential("gateway", f"psk-hex:{KEY.hex()}"))
    made.provision("dev2", credential=Credential("other", f"psk-hex:{KEY.hex()}"))
    yield made
    made.close()


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    through: Any = Through(SecureDevice(stack, b"gateway", KEY).connect())
    made = Gateway(through, behind=[Behind("d7", "d01")])
    made.register()
    return made


def observed(stack: Stack, gateway: Gateway) -> tuple[Any, bytes]:
    """The end device with an observation of it, and its token."""
    record = stack.run(stack.store.device_by_name(stack.tenant_id, "gw1-d7"))  # type: ignore[union-attr]
    stack.post(record, observe(VALUE))
    gateway.stack.pull()  # type: ignore[attr-defined]
    gateway.pump()
    return record, gateway.tokens[f"/d01{VALUE}"]


def notification(token: bytes, mid: int, value: float) -> Message:
    body = json.dumps([{"n": f"/d01{VALUE}", "v": value}]).encode()
    return Message(CON, codes.CONTENT, mid, token, ((6, bytes([mid & 255])), (12, b"\x6e")), body)


@pytest.mark.spec("SEC-5", "LwM2M-contract 12")
def test_devices_behind_a_secure_gateway_register_and_are_observed(stack: Stack, gateway: Gateway) -> None:
    assert stack.registrations() == ["gw1", "urn:dev:os:gw1:d7"]
    record, token = observed(stack, gateway)
    gateway.stack << Step(notification(token, 901, 23.5))
    assert gateway.next().type == ACK
    assert stack.values(record, VALUE) == ["21.5", "23.5"]


@pytest.mark.spec("SEC-5", "LwM2M-contract 12", "LwM2M-contract 15")
def test_nobody_else_speaks_of_them(stack: Stack, gateway: Gateway) -> None:
    record, token = observed(stack, gateway)
    other = SecureDevice(stack, b"other", KEY, port=41_000).connect()
    other.register()
    other.send(notification(token, 902, 99.0))
    assert other.next_request().type == RST
    assert stack.values(record, VALUE) == ["21.5"]
    assert stack.meters.identities_refused == {"notify": 1}


@pytest.mark.spec("SEC-5", "LwM2M-contract 12")
def test_they_follow_their_gateway_to_its_next_session(stack: Stack, gateway: Gateway) -> None:
    record, token = observed(stack, gateway)
    again = SecureDevice(stack, b"gateway", KEY, port=42_000, seed=9).connect()
    again.send(notification(token, 903, 24.5))
    assert again.next_request().type == ACK
    assert stack.values(record, VALUE)[:2] == ["21.5", "24.5"]
    known = stack.registry.of(record.device_id)
    assert known is not None
    household = known.household
    assert household is not None
    assert known.registration.peer == household.registration.peer
    assert stack.sessions.devices[known.registration.peer] == household.registration.device_id
    assert stack.dtls.sessions == 1
