"""After a Register the server reads what the device is and where it is (contract Device to Cloud §9)."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.core.ids import PeerId
from tests.scenario.stack import HOME, Stack, ack, after, con
from tests.scenario.test_commands import path_of, read
from tests.scenario.test_observations import establish, observe

REGISTER = "/rd?ep=dev1&lwm2m=1.1&lt=300"
LINKS = b"</1/0>,</3/0>,</6/0>,</3303/0>"
DEVICE = b'[{"bn":"/3/0/","n":"0","vs":"ACME"},{"n":"3","vs":"1.0.2"},{"n":"13","v":1752761133}]'
LOCATION = b'[{"bn":"/6/0/","n":"0","v":-20.5},{"n":"1","v":-40.25}]'


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(reads=(3, 6))
    yield made
    made.close()


def registered(stack: Stack, links: bytes = LINKS, name: str = "dev1", peer: PeerId = HOME, mid: int = 1) -> Any:
    device = stack.provision(name)
    target = f"/rd?ep={name}&lwm2m=1.1&lt=300"
    stack << con(codes.POST, target, mid=mid, payload=links, content_format=40, peer=peer)
    assert stack.take().code == codes.CREATED
    return device


def answer(stack: Stack, request: Message, payload: bytes, peer: PeerId = HOME) -> None:
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=payload, content_format=110, peer=peer)


@pytest.mark.spec("D2C 9", "R-15")
def test_objects_3_and_6_are_read_one_after_the_other_behind_the_answer_to_the_register(stack: Stack) -> None:
    device = registered(stack)
    for path, payload in (("/3", DEVICE), ("/6", LOCATION)):
        request = stack.take()
        assert (request.code, path_of(request)) == (codes.GET, path)
        assert stack.silent()
        answer(stack, request, payload)
    assert stack.silent()
    assert stack.values(device, "/3/0/0") == ['"ACME"']
    assert stack.values(device, "/6/0/1") == ["-40.25"]


@pytest.mark.spec("D2C 9")
def test_the_reads_make_no_messages(stack: Stack) -> None:
    device = registered(stack)
    answer(stack, stack.take(), DEVICE)
    answer(stack, stack.take(), LOCATION)
    assert [each["messageType"] for each in stack.received(device)] == ["registration"]


@pytest.mark.spec("D2C 9")
def test_they_make_messages_where_that_is_wanted() -> None:
    stack = Stack(reads=(3,), reads_as_messages=True)
    device = registered(stack)
    answer(stack, stack.take(), DEVICE)
    message = stack.received(device)[-1]
    assert (message["messageType"], message["method"], message["resourcePath"]) == ("response", "read", "3")
    assert message["data"]["3/0/0"] == "ACME"
    stack.close()


@pytest.mark.spec("D2C 9")
def test_an_object_that_the_device_does_not_list_is_not_read(stack: Stack) -> None:
    registered(stack, b"</1/0>,</3303/0>")
    assert stack.silent()


@pytest.mark.parametrize(
    ("code", "payload", "logged"),
    [
        (codes.NOT_FOUND, b"", False),
        (codes.UNAUTHORIZED, b"", True),
        (codes.CONTENT, b"no JSON", True),
        (codes.CONTENT, b'[{"n":"/5/0/3","v":1}]', True),
    ],
)
def test_what_the_device_refuses_or_garbles_leaves_a_line_and_the_next_object_is_read(
    stack: Stack, code: int, payload: bytes, logged: bool
) -> None:
    device = registered(stack)
    request = stack.take()
    stack << ack(code, mid=request.mid, token=request.token, payload=payload, content_format=110)
    assert ("reading-failed" in stack.log(device)) is logged
    answer(stack, stack.take(), LOCATION)
    assert stack.values(device, "/6/0/0") == ["-20.5"]


def test_a_device_that_does_not_answer_is_left_alone_until_it_registers_again(stack: Stack) -> None:
    device = registered(stack)
    first = stack.take()
    stack << after(100)
    assert {path_of(each) for _, each in stack.out} <= {"/3"}
    stack.out.clear()
    assert "reading-failed" in stack.log(device)
    stack << con(codes.POST, REGISTER, mid=2, payload=LINKS, content_format=40)
    assert stack.take().code == codes.CREATED
    again = stack.take()
    assert (path_of(again), again.mid != first.mid) == ("/3", True)


def test_observations_commands_and_reads_of_one_register_all_get_their_turn() -> None:
    stack = Stack(reads=(3,), queue_s=600)
    device = registered(stack)
    answer(stack, stack.take(), DEVICE)
    stack.post(device, observe())
    establish(stack, stack.take())
    stack << con(codes.DELETE, "/rd/none", mid=3)
    stack.out.clear()
    stack << con(codes.POST, REGISTER, mid=4, payload=LINKS, content_format=40)
    assert stack.take().code == codes.CREATED
    stack.post(device, read("/3/0/0"))
    order = []
    while stack.out:
        request = stack.take()
        order.append(path_of(request))
        value = b'[{"n":"/3303/0/5700","v":1}]' if path_of(request).startswith("/3303") else DEVICE
        stack << ack(
            codes.CONTENT,
            mid=request.mid,
            token=request.token,
            payload=value,
            content_format=110,
            observe=1 if (6, b"") in request.options else None,
        )
    assert sorted(order) == ["/3", "/3/0/0", "/3303/0/5700"]
    stack.close()


def test_a_storm_of_registrations_is_read_a_few_at_a_time() -> None:
    stack = Stack(reads=(3,), read_at_once=2)
    peers = [PeerId("udp", f"192.0.2.{number}", 40000, "192.0.2.100", 5683) for number in range(10, 15)]
    devices = [registered_quietly(stack, f"dev{number}", peer, number) for number, peer in enumerate(peers, start=1)]
    reads = [(peer, each) for peer, each in stack.out if each.code == codes.GET]
    assert len(reads) == 2
    while stack.out:
        peer, request = stack.out.pop(0)
        if request.code == codes.GET:
            answer(stack, request, DEVICE, peer)
    assert all(stack.values(each, "/3/0/0") == ['"ACME"'] for each in devices)
    assert len(stack.reading) == 0
    stack.close()


def registered_quietly(stack: Stack, name: str, peer: PeerId, mid: int) -> Any:
    device = stack.provision(name)
    target = f"/rd?ep={name}&lwm2m=1.1&lt=300"
    stack << con(codes.POST, target, mid=mid, payload=LINKS, content_format=40, peer=peer)
    return device


def test_a_device_that_registers_anew_while_it_is_read_is_read_anew(stack: Stack) -> None:
    device = registered(stack)
    stack.take()
    elsewhere = PeerId("udp", "192.0.2.77", 40000, "192.0.2.100", 5683)
    stack << con(codes.POST, REGISTER, mid=2, payload=LINKS, content_format=40, peer=elsewhere)
    reads = [(peer, each) for peer, each in stack.out if each.code == codes.GET]
    assert [(peer, path_of(each)) for peer, each in reads] == [(elsewhere, "/3")]
    answer(stack, reads[0][1], DEVICE, elsewhere)
    assert stack.values(device, "/3/0/0") == ['"ACME"']
