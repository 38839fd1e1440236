"""aiocoap and our server: an independent CoAP stack lives through a whole registration, and breaks every rule once."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import aiocoap
import pytest
from aiocoap_device import SENML_CBOR, TLV, AiocoapDevice
from raw_coap import (
    ACK,
    BLOCK1,
    CON,
    CONTENT_FORMAT,
    CREATED,
    LINK_FORMAT,
    POST,
    RST,
    Message,
    RawSocket,
    encode,
    path_options,
    query_options,
    register_message,
    uint,
)
from served import Served, wait_until

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module(auto_provision="aiocoap-*", expiry_grace_s="0", log_level="debug").start()


@pytest.fixture
def name() -> str:
    """An endpoint name of its own for one test; the node made for it is called the same."""
    return f"aiocoap-{next(_numbers)}"


@pytest.fixture
def device(server: Served, name: str) -> Iterator[AiocoapDevice]:
    made = AiocoapDevice(server.coap_port)
    made.register(name)
    server.api.wait_type(name, "registration")
    yield made
    made.close()


def is_registered(server: Served, name: str) -> bool:
    return bool(server.query("stellwerk.db", "SELECT 1 FROM registration WHERE endpoint_name = ?", (name,)))


@pytest.mark.spec("R-2")
def test_aiocoap_gets_a_location_of_two_segments(device: AiocoapDevice) -> None:
    _, first, identifier = device.location.split("/")
    assert first == "rd"
    assert 1 <= len(identifier) <= 16
    assert identifier.isascii()


@pytest.mark.spec("D-1")
def test_aiocoap_is_read_in_four_formats(server: Served, name: str, device: AiocoapDevice) -> None:
    whole = server.api.run(name, "READ /3")["content"]
    assert whole["status"]["code"] == 200
    assert whole["data"] == {"3/0/0": "aiocoap", "3/0/9": 88, "3/0/13": 1_700_000_000_000, "3/0/11/0": 0}
    assert server.api.run(name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}
    assert server.api.run(name, "READ /6")["content"]["data"] == {"6/0/0": 48.25, "6/0/1": 11.5}
    sensor = server.api.run(name, "READ /3303/0")["content"]["data"]
    assert sensor == {"3303/0/5700": 21.5, "3303/0/5701": "Cel"}


@pytest.mark.spec("D-2")
def test_aiocoap_is_written_in_a_format_it_announced_and_reads_back(
    server: Served, name: str, device: AiocoapDevice
) -> None:
    assert server.api.run(name, "WRITE /3/0/15 Asia/Tokyo")["content"]["status"]["code"] == 200
    assert device.timezone.writes == [(SENML_CBOR, b"\x81\xa2\x21\x67/3/0/15\x03\x6aAsia/Tokyo")]
    assert server.api.run(name, "READ /3/0/15")["content"]["data"] == {"3/0/15": "Asia/Tokyo"}


@pytest.mark.spec("D-2")
def test_an_aiocoap_of_lwm2m_1_0_is_written_in_a_format_of_1_0(
    server: Served, name: str, device: AiocoapDevice
) -> None:
    device.register(name, links="</1/0>,</3/0>", version="1.0")
    assert server.api.run(name, "WRITE /3/0/15 Asia/Tokyo")["content"]["status"]["code"] == 200
    assert device.timezone.writes in ([(0, b"Asia/Tokyo")], [(TLV, b"\xc8\x0f\x0aAsia/Tokyo")])


@pytest.mark.spec("MSG-4")
def test_aiocoap_executes_and_answers_in_a_message_of_its_own(server: Served, name: str, device: AiocoapDevice) -> None:
    answer = server.api.run(name, "EXECUTE /3/0/4?0='now'")["content"]
    assert (answer["method"], answer["status"]["code"], answer["data"]) == ("exec", 200, None)
    assert device.reboot.calls == [b"0='now'"]


def test_several_commands_run_in_order_and_share_the_name_of_their_message(
    server: Served, name: str, device: AiocoapDevice
) -> None:
    posted = server.api.command(name, "READ /3/0/0; WRITE /3/0/15 UTC; READ /3/0/15; READ /9/9/9; READ /6")
    label = f"outgoing_msgRN:{posted}"

    def answers() -> list[dict[str, Any]]:
        return [each for each in server.messages(name) if label in each["labels"]]

    wait_until(lambda: len(answers()) == 5, within_s=10, what="five answers")
    # What cannot be sent need not wait for the device; the others keep their order.
    done = [(each["method"], each["resourcePath"]) for each in answers() if each["status"]["code"] == 200]
    assert done == [("read", "3/0/0"), ("write", "3/0/15"), ("read", "3/0/15"), ("read", "6")]
    refused = [each["resourcePath"] for each in answers() if each["status"]["code"] == 404]
    assert refused == ["9/9/9"]
    assert len({each["labels"][1] for each in answers()}) == 5


@pytest.mark.spec("OB-1")
@pytest.mark.spec("OB-5")
def test_aiocoap_is_observed_notifies_and_is_released(server: Served, name: str, device: AiocoapDevice) -> None:
    response = server.api.run(name, "OBSERVE /3303/0/5700")
    assert response["content"]["data"] == {"3303/0/5700": 21.5}
    assert device.temperature.observers == 1
    for value in (22.25, 23.5):
        device.soon(device.temperature.change, value)
        notify = server.api.wait_latest(
            name,
            lambda each, value=value: each["content"].get("dataValue") == value,  # type: ignore[misc]
        )
        assert notify["content"]["resourcePath"] == "/3303/0/5700"
        assert notify["labels"][:2] == response["labels"][:2]
    assert server.api.run(name, "UNOBSERVE /3303/0/5700")["content"]["status"]["code"] == 200
    wait_until(lambda: device.temperature.observers == 0, within_s=5, what="the observer is gone")


def test_aiocoap_sends(server: Served, name: str, device: AiocoapDevice) -> None:
    pack = b"\x81\xa2\x00\x6c/3303/0/5700\x02\xf9\x4e\x00"
    assert device.ask(aiocoap.POST, "/dp", pack, SENML_CBOR).code == aiocoap.CHANGED
    assert server.api.wait_type(name, "send")["content"]["data"] == {"3303/0/5700": 24}


def test_aiocoap_updates_and_deregisters_and_then_it_is_unknown(
    server: Served, name: str, device: AiocoapDevice
) -> None:
    assert device.ask(aiocoap.POST, device.location + "?lt=600").code == aiocoap.CHANGED
    server.api.wait_type(name, "update")
    assert device.ask(aiocoap.DELETE, device.location).code == aiocoap.DELETED
    server.api.wait_type(name, "deregistration")
    assert device.ask(aiocoap.POST, device.location).code == aiocoap.NOT_FOUND
    assert device.ask(aiocoap.DELETE, device.location).code == aiocoap.NOT_FOUND


@pytest.mark.spec("R-9")
def test_a_second_register_replaces_the_first(server: Served, name: str, device: AiocoapDevice) -> None:
    before = device.location
    device.register(name)
    assert device.location != before
    assert device.ask(aiocoap.POST, before).code == aiocoap.NOT_FOUND
    assert device.ask(aiocoap.POST, device.location).code == aiocoap.CHANGED


@pytest.mark.spec("R-6")
def test_a_lifetime_that_ends_is_told_and_a_later_update_gets_not_found(
    server: Served, name: str, device: AiocoapDevice
) -> None:
    device.register(name, lifetime=1)
    server.api.wait_type(name, "registration-expire", within_s=8)
    assert device.ask(aiocoap.POST, device.location).code == aiocoap.NOT_FOUND


# -- bad input: each gets the code of the contract, and the server goes on --


def _register_with(*, queries: tuple[str, ...], payload: bytes, content_format: int = LINK_FORMAT) -> Message:
    options = (*path_options("/rd"), (CONTENT_FORMAT, uint(content_format)), *query_options(queries))
    return Message(CON, POST, 0x1234, b"\x01", options, payload)


GOOD = ("ep=aiocoap-bad", "lt=300", "lwm2m=1.1", "b=U")
LINKS = b"</>;ct=112,</1/0>,</3/0>"
BAD_REGISTERS = {
    "a quote that is not closed": ("4.00", _register_with(queries=GOOD, payload=b'</>;rt="oma.lwm2m,</3/0>')),
    "a link without brackets": ("4.00", _register_with(queries=GOOD, payload=b"/3/0,</1/0>")),
    "no endpoint name": ("4.00", _register_with(queries=GOOD[1:], payload=LINKS)),
    "a parameter twice": ("4.00", _register_with(queries=(*GOOD, "lt=20"), payload=LINKS)),
    "a lifetime that is no number": ("4.00", _register_with(queries=(*GOOD[:1], "lt=soon", *GOOD[2:]), payload=LINKS)),
    "an unknown binding": ("4.00", _register_with(queries=(*GOOD[:3], "b=Z"), payload=LINKS)),
    "an unsupported version": ("4.12", _register_with(queries=(*GOOD[:2], "lwm2m=9.7", "b=U"), payload=LINKS)),
    "an unknown endpoint": ("4.03", _register_with(queries=("ep=nobody", *GOOD[1:]), payload=LINKS)),
    "an unknown critical option": (
        "4.02",
        Message(CON, POST, 0x1234, b"\x01", (*path_options("/rd"), *query_options(GOOD), (4001, b"x")), LINKS),
    ),
    "an unknown location": ("4.04", Message(CON, POST, 0x1234, b"\x01", path_options("/rd/nowhere"))),
    "an unknown path": ("4.04", Message(CON, POST, 0x1234, b"\x01", path_options("/nothing/here"))),
    "a method that is not there": ("4.05", Message(CON, 1, 0x1234, b"\x01", path_options("/rd"))),
}


@pytest.mark.parametrize("what", BAD_REGISTERS)
def test_bad_registration_input_gets_its_code_and_leaves_no_registration(server: Served, what: str) -> None:
    code, message = BAD_REGISTERS[what]
    peer = RawSocket(server.coap_port)
    lines_before = len(list(server.log_lines()))
    answer = peer.ask(message)
    assert (answer.dotted, answer.type) == (code, ACK)
    assert not is_registered(server, "aiocoap-bad")
    # The reason stands in the log.
    wait_until(lambda: len(list(server.log_lines())) > lines_before, within_s=5, what="a line in the log")
    assert peer.ask(register_message("aiocoap-good", 0x1235)).code == CREATED


BAD_SENDS = {
    "a format that is not there": ("4.15", 60000, b"\x80"),
    "CBOR that ends in the middle": ("4.00", SENML_CBOR, b"\x82\xa2\x00"),
    "a pack that is no list": ("4.00", SENML_CBOR, b"\xa0"),
    "a name that is no path": ("4.00", SENML_CBOR, b"\x81\xa2\x00\x63abc\x02\x01"),
    "JSON that is none": ("4.00", 110, b'[{"n":"/3303/0/5700","v":}]'),
    "an instance that was not registered": ("4.04", SENML_CBOR, b"\x81\xa2\x00\x6c/3311/7/5850\x04\xf5"),
}


@pytest.mark.parametrize("what", BAD_SENDS)
def test_a_bad_send_gets_its_code_and_stores_no_value(server: Served, name: str, what: str) -> None:
    code, content_format, payload = BAD_SENDS[what]
    peer = RawSocket(server.coap_port)
    assert peer.ask(register_message(name, 1)).code == CREATED
    options = (*path_options("/dp"), (CONTENT_FORMAT, uint(content_format)))
    assert peer.ask(Message(CON, POST, 2, b"\x07", options, payload)).dotted == code
    server.wait_projected()
    assert not [each for each in server.messages(name) if each["messageType"] == "send"]
    assert server.values(device=name) == []


def test_a_send_of_somebody_who_is_not_registered_is_not_found(server: Served) -> None:
    options = (*path_options("/dp"), (CONTENT_FORMAT, uint(SENML_CBOR)))
    pack = b"\x81\xa2\x00\x6c/3303/0/5700\x02\x01"
    assert RawSocket(server.coap_port).ask(Message(CON, POST, 2, b"\x07", options, pack)).dotted == "4.04"


@pytest.mark.spec("BLK-6")
@pytest.mark.spec("BLK-11")
def test_a_register_in_blocks_that_grows_too_large_is_refused(server: Served) -> None:
    peer = RawSocket(server.coap_port)
    block = (b"</3303/0>," * 103)[:1024]
    base = (*path_options("/rd"), (CONTENT_FORMAT, uint(LINK_FORMAT)), *query_options(GOOD))
    answers = []
    for number in range(80):
        options = (*base, (BLOCK1, uint(number << 4 | 1 << 3 | 6)))
        answers.append(peer.ask(Message(CON, POST, number + 1, b"\x05", options, block)).dotted)
        if answers[-1] != "2.31":
            break
    assert answers[-1] == "4.13"
    assert 60 <= len(answers) <= 66
    assert not is_registered(server, "aiocoap-bad")


@pytest.mark.spec("BLK-1")
@pytest.mark.spec("BLK-5")
def test_a_register_in_blocks_is_put_together_and_a_gap_is_incomplete(server: Served, name: str) -> None:
    peer = RawSocket(server.coap_port)
    body = ("</>;ct=112,</1/0>," + ",".join(f"</3303/{each}>" for each in range(200))).encode()
    base = (*path_options("/rd"), (CONTENT_FORMAT, uint(LINK_FORMAT)), *query_options((f"ep={name}", *GOOD[1:])))
    blocks = [body[at : at + 256] for at in range(0, len(body), 256)]

    def send(number: int, mid: int) -> str:
        more = number < len(blocks) - 1
        options = (*base, (BLOCK1, uint(number << 4 | more << 3 | 4)))
        return peer.ask(Message(CON, POST, mid, b"\x05", options, blocks[number])).dotted

    assert send(0, 1) == "2.31"
    assert send(2, 2) == "4.08"
    codes = [send(number, 10 + number) for number in range(len(blocks))]
    assert codes == ["2.31"] * (len(blocks) - 1) + ["2.01"]
    server.api.wait_type(name, "registration")


@pytest.mark.spec("MSG-10")
def test_a_ping_is_answered_with_a_reset(server: Served) -> None:
    peer = RawSocket(server.coap_port)
    peer.send(encode(Message(CON, 0, 0x4321)))
    answer = peer.receive(5)
    assert answer == Message(RST, 0, 0x4321)


@pytest.mark.parametrize(
    "data", [b"", b"\x40", b"\x40\x02\x00", b"\xff" * 40, b"\x00\x02\x12\x34", b"\x5f\x01\x00\x07"]
)
def test_bytes_that_are_no_message_are_ignored_or_reset(server: Served, data: bytes) -> None:
    peer = RawSocket(server.coap_port)
    peer.send(data)
    peer.send(encode(Message(CON, 0, 0x0101)))
    seen = peer.receive(5)
    while seen is not None and seen.mid != 0x0101:
        assert seen.type == RST
        seen = peer.receive(5)
    assert seen is not None
