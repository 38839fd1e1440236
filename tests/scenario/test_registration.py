"""A device registers, updates, leaves or vanishes: datagrams in, datagrams out, rows kept."""

import pytest

from stellwerk.coap import codes
from stellwerk.core.ids import PeerId
from tests.scenario.stack import HOME, Stack, ack, after, con, non

LINKS = b'</>;rt="oma.lwm2m";ct=112,</1/0>,</3/0>,</3303/0>'
REGISTER = "/rd?ep=dev1&lt=300&lwm2m=1.1&b=U"
ELSEWHERE = PeerId("udp", "192.0.2.1", 41000, "192.0.2.100", 5683)


def register(stack: Stack, mid: int = 1, peer: PeerId = HOME, target: str = REGISTER) -> str:
    """Register and give the path of the new registration."""
    stack << con(codes.POST, target, mid=mid, token=b"t", payload=LINKS, content_format=40, peer=peer)
    answer = stack.take()
    assert answer.code == codes.CREATED, answer
    return "/" + "/".join(value.decode() for number, value in answer.options if number == 8)


@pytest.mark.spec("R-1", "R-2", "Transport 1.2.2 6.4.3")
def test_a_provisioned_endpoint_registers_and_gets_a_location_of_two_short_segments(stack: Stack) -> None:
    device = stack.provision("dev1", ("d2c-uplink-property_Room:7",))
    location = register(stack)
    top, name = location.strip("/").split("/")
    assert top == "rd"
    assert name.isascii()
    assert len(name) <= 16
    assert stack.registrations() == ["dev1"]
    assert [each["messageType"] for each in stack.received(device)] == ["registration"]


@pytest.mark.spec("MSG-1")
def test_a_repeated_register_gets_the_first_answer_and_no_second_row(stack: Stack) -> None:
    device = stack.provision("dev1")
    request = con(codes.POST, REGISTER, mid=7, token=b"t", payload=LINKS, content_format=40)
    stack << request
    first = stack.take()
    stack << after(2.5) << request
    assert stack.take() == first
    assert len(stack.received(device)) == 1


@pytest.mark.spec("R-9")
def test_a_new_register_replaces_the_old_registration_under_a_new_location(stack: Stack) -> None:
    device = stack.provision("dev1")
    old = register(stack, mid=1)
    new = register(stack, mid=2)
    assert new != old
    stack << con(codes.POST, old, mid=3) >> ack(codes.NOT_FOUND, mid=3)
    stack << con(codes.POST, new, mid=4) >> ack(codes.CHANGED, mid=4)
    kinds = [each["messageType"] for each in stack.received(device)]
    assert kinds == ["registration", "registration", "update"]


@pytest.mark.spec("R-3", "R-4", "R-5", "R-10", "BIN-1")
@pytest.mark.parametrize(
    ("target", "links", "code"),
    [
        ("/rd?lt=300&lwm2m=1.1", LINKS, codes.BAD_REQUEST),
        ("/rd?ep=dev1&lt=300", LINKS, codes.BAD_REQUEST),
        ("/rd?ep=dev1&lt=0x10&lwm2m=1.1", LINKS, codes.BAD_REQUEST),
        ("/rd?ep=dev1&ep=dev1&lwm2m=1.1", LINKS, codes.BAD_REQUEST),
        ("/rd?ep=dev1&lwm2m=1.0&b=XYZ", LINKS, codes.BAD_REQUEST),
        ("/rd?ep=dev1&lwm2m=2.7", LINKS, codes.PRECONDITION_FAILED),
        ("/rd?ep=dev1&lwm2m=1.1", b'</>;rt="oma', codes.BAD_REQUEST),
        ("/rd?ep=dev1&lwm2m=1.1", b"\xff\xfe", codes.BAD_REQUEST),
        ("/rd?ep=stranger&lwm2m=1.1", LINKS, codes.FORBIDDEN),
        ("/rd?ep=stranger&lwm2m=1.1", b"\xff\xfe", codes.FORBIDDEN),
    ],
)
def test_a_bad_register_is_refused_with_its_code_and_leaves_nothing(
    stack: Stack, target: str, links: bytes, code: int
) -> None:
    device = stack.provision("dev1")
    stack << con(codes.POST, target, mid=1, token=b"t", payload=links, content_format=40)
    assert stack.take().code == code
    assert stack.registrations() == []
    assert stack.received(device) == []


@pytest.mark.spec("R-12")
def test_a_list_of_two_thousand_unknown_objects_leaves_few_lines_in_the_log(stack: Stack) -> None:
    device = stack.provision("dev1")
    links = b",".join(b"</%d>" % each for each in range(40_000, 42_000))
    stack << con(codes.POST, REGISTER, mid=1, token=b"t", payload=links, content_format=40)
    assert stack.take().code == codes.CREATED
    assert stack.log(device).count("model-warning") == 21


def test_a_bad_list_provisions_nobody() -> None:
    stack = Stack(auto_provision=("load-*",))
    stack << con(codes.POST, "/rd?ep=load-1&lwm2m=1.1", mid=1, payload=b'</>;rt="oma', content_format=40)
    assert stack.take().code == codes.BAD_REQUEST
    assert stack.store is not None
    assert stack.run(stack.store.devices(stack.tenant_id, 10, 0)) == []
    register(stack, mid=2, target="/rd?ep=load-1&lwm2m=1.1")
    stack.close()


def test_an_endpoint_may_call_itself_by_the_last_part_of_its_node_id(stack: Stack) -> None:
    stack.provision("meter")
    register(stack, target="/rd?ep=urn:dev:os:meter&lwm2m=1.1")
    assert stack.registrations() == ["urn:dev:os:meter"]


@pytest.mark.spec("R-6", "R-7")
def test_a_device_that_stays_silent_for_its_lifetime_expires_and_an_update_prolongs(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack << after(299) << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    stack << after(299)
    assert stack.registrations() == ["dev1"]
    stack << after(2)
    assert stack.registrations() == []
    assert stack.received(device)[-1]["messageType"] == "registration-expire"
    stack << con(codes.POST, location, mid=3) >> ack(codes.NOT_FOUND, mid=3)


@pytest.mark.spec("R-5")
def test_a_lifetime_of_zero_never_ends(stack: Stack) -> None:
    stack.provision("dev1")
    register(stack, target="/rd?ep=dev1&lwm2m=1.2&lt=0")
    stack << after(400 * 86400)
    assert stack.registrations() == ["dev1"]


@pytest.mark.spec("R-1")
def test_a_deregistered_device_is_gone_and_said_to_be(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)
    assert stack.registrations() == []
    assert stack.received(device)[-1]["messageType"] == "deregistration"
    stack << con(codes.DELETE, location, mid=3) >> ack(codes.NOT_FOUND, mid=3)


@pytest.mark.spec("R-14", "QM-7", "T-4")
def test_an_update_from_a_new_port_moves_the_registration_there(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack << con(codes.POST, location, mid=9, peer=ELSEWHERE) >> ack(codes.CHANGED, mid=9, peer=ELSEWHERE)
    sent = con(codes.POST, "/dp", mid=10, payload=_senml(), content_format=112, peer=ELSEWHERE)
    stack << sent >> ack(codes.CHANGED, mid=10, peer=ELSEWHERE)
    stack << con(codes.POST, "/dp", mid=11, payload=_senml(), content_format=112) >> ack(codes.NOT_FOUND, mid=11)
    assert len(stack.values(device, "/3303/0/5700")) == 1


@pytest.mark.spec("R-13")
def test_an_update_with_a_body_replaces_the_object_list(stack: Stack) -> None:
    stack.provision("dev1")
    location = register(stack)
    stack << con(codes.POST, location, mid=2, payload=b"</1/0>,</3/0>") >> ack(codes.CHANGED, mid=2)
    stack << con(codes.POST, "/dp", mid=3, payload=_senml(), content_format=112) >> ack(codes.NOT_FOUND, mid=3)


@pytest.mark.spec("R-3")
def test_a_bad_update_changes_nothing_and_leaves_a_line_in_the_log(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack << con(codes.POST, location + "?lt=soon", mid=2) >> ack(codes.BAD_REQUEST, mid=2)
    assert "update-refused" in stack.log(device)
    stack << after(301)
    assert stack.registrations() == []


def test_a_send_is_stored_value_by_value_and_acknowledged(stack: Stack) -> None:
    device = stack.provision("dev1", ("d2c-uplink-property_Room:7",))
    register(stack)
    stack << con(codes.POST, "/dp", mid=2, payload=_senml(), content_format=112) >> ack(codes.CHANGED, mid=2)
    assert stack.values(device, "/3303/0/5700") == ["21.5"]
    message = stack.received(device)[-1]
    assert message["messageType"] == "send"
    assert message["data"] == {"3303/0/5700": 21.5}


def test_a_send_that_needs_no_answer_is_stored_too(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack << non(codes.POST, "/dp", mid=2, payload=_senml(), content_format=112)
    assert stack.values(device, "/3303/0/5700") == ["21.5"]


@pytest.mark.parametrize(
    ("payload", "content_format", "code"),
    [
        (b"\x81\xa2\x21", 112, codes.BAD_REQUEST),
        (b"not json", 110, codes.BAD_REQUEST),
        (b"{}", 64000, codes.UNSUPPORTED_CONTENT_FORMAT),
        (bytes.fromhex("81a221692f393939392f302f31") + b"\x02\x01", 112, codes.NOT_FOUND),
    ],
)
def test_a_send_that_makes_no_sense_is_refused_and_nothing_of_it_is_stored(
    stack: Stack, payload: bytes, content_format: int, code: int
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack << con(codes.POST, "/dp", mid=2, payload=payload, content_format=content_format)
    assert stack.take().code == code
    assert [each["messageType"] for each in stack.received(device)] == ["registration"]
    assert stack.log(device)[-1] == "send-refused"


@pytest.mark.parametrize(
    ("code", "target", "answer"),
    [
        (codes.GET, "/rd", codes.METHOD_NOT_ALLOWED),
        (codes.PUT, "/dp", codes.METHOD_NOT_ALLOWED),
        (codes.GET, "/rd/abc", codes.METHOD_NOT_ALLOWED),
        (codes.GET, "/.well-known/core", codes.NOT_FOUND),
        (codes.POST, "/rd/a/b", codes.NOT_FOUND),
    ],
)
def test_what_is_not_ours_is_refused_without_a_listing(stack: Stack, code: int, target: str, answer: int) -> None:
    stack << con(code, target, mid=1)
    assert stack.take().code == answer


def _senml() -> bytes:
    return bytes.fromhex("81a2216c2f333330332f302f35373030") + b"\x02\xf9\x4d\x60"


def test_a_retransmission_after_a_restart_gets_the_first_answer_and_a_new_message_a_new_one() -> None:
    before = Stack()
    device = before.provision("dev1")
    location = register(before, mid=7)
    assert before.store is not None
    stack = Stack(store=before.store, clock=before.clock, seed=1, ask_for_s=247)
    assert register(stack, mid=7) == location
    assert len(stack.received(device)) == 1
    stack << con(codes.POST, location, mid=8) >> ack(codes.CHANGED, mid=8)
    assert register(stack, mid=9) != location
    assert len(stack.received(device)) == 3
    before.close()
    stack.close()


@pytest.mark.spec("RFC 7967 2")
def test_a_device_that_wants_no_answers_gets_them(stack: Stack) -> None:
    # The option is elective, and whoever registers has to learn its location.
    stack.provision("dev1")
    stack << con(codes.POST, REGISTER, mid=1, token=b"t", payload=LINKS, content_format=40, extra=[(258, b"\x1a")])
    assert stack.take().code == codes.CREATED
    assert stack.registrations() == ["dev1"]
