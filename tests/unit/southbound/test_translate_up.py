"""A request of a device becomes an operation, or the code that refuses it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.device_ports import Acknowledgement
from stellwerk.coap import codes
from stellwerk.coap.actions import Respond
from stellwerk.coap.events import RequestReceived
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.operations import Deregister, Register, Send, Update, Uplink
from stellwerk.lwm2m.status import Status
from stellwerk.southbound.translate_bootstrap import asked_elsewhere
from stellwerk.southbound.translate_up import coap_code, respond, status_of, translate_up

PEER = PeerId("udp", "192.0.2.1", 5683)


def request(code: int, *path: str, query: tuple[str, ...] = ()) -> RequestReceived:
    return RequestReceived(1, PEER, code, path, query, 40, None, (), b"body", b"receipt", True)


@pytest.mark.parametrize(
    ("code", "path", "operation"),
    [
        (codes.POST, ("rd",), Register(("ep=x",), 40, b"body")),
        (codes.POST, ("rd", "k7"), Update("k7", ("ep=x",), 40, b"body")),
        (codes.DELETE, ("rd", "k7"), Deregister("k7")),
        (codes.POST, ("dp",), Send(40, b"body")),
    ],
)
def test_the_four_uplinks_are_known_by_method_and_path(code: int, path: tuple[str, ...], operation: Uplink) -> None:
    assert translate_up(request(code, *path, query=("ep=x",))) == operation


@given(
    st.integers(1, 31),
    st.lists(st.sampled_from(["rd", "dp", "bs", "", "k7", ".well-known", "core"]), max_size=3).map(tuple),
)
@settings(max_examples=100, deadline=None)
def test_everything_else_is_not_found_or_not_allowed(code: int, path: tuple[str, ...]) -> None:
    found = translate_up(request(code, *path))
    if isinstance(found, int):
        ours = path in (("rd",), ("dp",)) or (len(path) == 2 and path[0] == "rd")
        assert found == (codes.METHOD_NOT_ALLOWED if ours else codes.NOT_FOUND)
    else:
        assert code in (codes.POST, codes.DELETE)


@pytest.mark.parametrize(
    ("path", "is_bootstrap", "ports"),
    [
        (("rd",), True, "STELLWERK_COAP_PORT, STELLWERK_COAPS_PORT"),
        (("rd", "k7"), True, "STELLWERK_COAP_PORT"),
        (("dp",), True, "STELLWERK_COAP_PORT"),
        (("bs",), False, "STELLWERK_BOOTSTRAP_COAP_PORT, STELLWERK_BOOTSTRAP_COAPS_PORT"),
        (("bspack",), False, "STELLWERK_BOOTSTRAP_COAP_PORT"),
        ((".well-known", "est", "sen"), False, "STELLWERK_BOOTSTRAP_COAP_PORT"),
    ],
)
def test_what_is_for_the_other_server_is_told_with_its_ports(
    path: tuple[str, ...], is_bootstrap: bool, ports: str
) -> None:
    assert ports in asked_elsewhere(path, is_bootstrap=is_bootstrap)
    assert asked_elsewhere(path, is_bootstrap=not is_bootstrap) == ""


@given(st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_codes_and_statuses_are_two_forms_of_one_thing(code: int) -> None:
    assert coap_code(status_of(code)) == code


def test_the_forms_are_those_of_the_standard() -> None:
    assert (status_of(codes.CHANGED), coap_code(201)) == (204, codes.CREATED)
    assert (status_of(codes.SERVICE_UNAVAILABLE), coap_code(404)) == (503, codes.NOT_FOUND)


@pytest.mark.parametrize(
    ("acknowledgement", "answer"),
    [
        (Acknowledgement(Status.CREATED, "k7"), Respond(1, codes.CREATED, ("rd", "k7"))),
        (Acknowledgement(Status.CHANGED, detail="unsaid"), Respond(1, codes.CHANGED)),
        (
            Acknowledgement(Status.CONTENT, payload=b"pack", content_format=112),
            Respond(1, codes.CONTENT, content_format=112, payload=b"pack"),
        ),
        (Acknowledgement(Status.FORBIDDEN, detail="why"), Respond(1, codes.FORBIDDEN, payload=b"why")),
        (
            Acknowledgement(Status.SERVICE_UNAVAILABLE, max_age_s=30),
            Respond(1, codes.SERVICE_UNAVAILABLE, options=((14, b"\x1e"),)),
        ),
        (Acknowledgement(Status.UNAUTHORIZED, prove=True), Respond(1, codes.UNAUTHORIZED, ask_echo=True)),
    ],
)
def test_an_acknowledgement_becomes_an_answer(acknowledgement: Acknowledgement, answer: Respond) -> None:
    assert respond(1, acknowledgement) == answer
