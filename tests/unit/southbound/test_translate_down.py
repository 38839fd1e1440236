"""An operation becomes the request that the contract's table wants, in a format that the device speaks."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import EncodeError, decode_content
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.operations import (
    CancelComposite,
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    ObserveComposite,
    Operation,
    Read,
    ReadComposite,
    Write,
    WriteAttributes,
    WriteComposite,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths
from stellwerk.lwm2m.schema.library import Library
from stellwerk.southbound.translate_down import translate_down

TYPES = Library.builtin().for_device("1.1", {1: None, 3: None})
RESOURCE = Path(1, 0, 1)
LIFETIME = Content((Entry(RESOURCE, 60),))


def registration(links: bytes = b"</1/0>,</3/0>", version: str = "1.1") -> Registration:
    return Registration(
        "loc",
        DeviceId(1),
        "dev1",
        PeerId("udp", "192.0.2.1", 1),
        version,
        300,
        "U",
        False,
        links,
        decode_object_list(links),
        TYPES,
        0,
        0,
    )


LIST = Paths([Path(3, 0, 9), RESOURCE])
LIST_BODY = bytes.fromhex("82a100662f312f302f31a100662f332f302f39")
CASES: list[tuple[Operation, dict[str, Any]]] = [
    (Read(RESOURCE), {"code": codes.GET, "path": ("1", "0", "1"), "accept": 112}),
    (Read(Path(3), accept=11542), {"code": codes.GET, "path": ("3",), "accept": 11542}),
    (Observe(RESOURCE), {"code": codes.GET, "path": ("1", "0", "1"), "accept": 112, "observe": 0}),
    (CancelObservation(RESOURCE), {"code": codes.GET, "path": ("1", "0", "1"), "accept": 112, "observe": 1}),
    (Discover(Path(3)), {"code": codes.GET, "path": ("3",), "accept": 40}),
    (Discover(Path(3), 2), {"code": codes.GET, "path": ("3",), "accept": 40, "query": ("depth=2",)}),
    (
        Observe(RESOURCE, None, (("pmin", "5"), ("con", "1"))),
        {"code": codes.GET, "path": ("1", "0", "1"), "query": ("pmin=5", "con=1"), "accept": 112, "observe": 0},
    ),
    (
        ReadComposite(LIST),
        {"code": codes.FETCH, "path": (), "content_format": 112, "accept": 112, "payload": LIST_BODY},
    ),
    (
        ReadComposite(LIST, 11544, 112),
        {"code": codes.FETCH, "path": (), "content_format": 112, "accept": 11544, "payload": LIST_BODY},
    ),
    (
        ObserveComposite(LIST, attributes=(("pmin", "5"),)),
        {
            "code": codes.FETCH,
            "path": (),
            "query": ("pmin=5",),
            "content_format": 112,
            "accept": 112,
            "observe": 0,
            "payload": LIST_BODY,
        },
    ),
    (
        CancelComposite(LIST),
        {
            "code": codes.FETCH,
            "path": (),
            "content_format": 112,
            "accept": 112,
            "observe": 1,
            "payload": LIST_BODY,
        },
    ),
    (Delete(Path(3, 1)), {"code": codes.DELETE, "path": ("3", "1")}),
    (Execute(Path(3, 0, 4)), {"code": codes.POST, "path": ("3", "0", "4")}),
    (
        Execute(Path(3, 0, 4), "0='x'"),
        {"code": codes.POST, "path": ("3", "0", "4"), "content_format": 0, "payload": b"0='x'"},
    ),
    (
        WriteAttributes(RESOURCE, (("pmin", "5"), ("pmax", None))),
        {"code": codes.PUT, "path": ("1", "0", "1"), "query": ("pmin=5", "pmax")},
    ),
]


@pytest.mark.spec("D-1", "D-3", "D-8", "LwM2M-contract 1.4", "LwM2M-contract 6")
@pytest.mark.parametrize(("operation", "parts"), CASES, ids=[type(each).__name__ for each, _ in CASES])
def test_an_operation_has_its_method_path_and_options(operation: Operation, parts: dict[str, Any]) -> None:
    down = translate_down(operation, registration(), 112)
    empty = {"query": (), "content_format": None, "accept": None, "observe": None, "payload": b""}
    assert {name: getattr(down, name) for name in ("code", "path", *empty)} == {**empty, **parts}


@pytest.mark.spec("D-6")
@pytest.mark.parametrize(("replace_all", "code"), [(True, codes.PUT), (False, codes.POST)])
@pytest.mark.parametrize("content_format", [112, 110, 11542])
def test_a_write_is_a_put_a_partial_one_a_post_and_says_the_value(
    replace_all: bool, code: int, content_format: int
) -> None:
    down = translate_down(Write(Path(1, 0), LIFETIME, replace_all), registration(), content_format)
    assert (down.code, down.path, down.content_format) == (code, ("1", "0"), content_format)
    assert decode_content(content_format, down.payload, Path(1, 0), TYPES).entries == LIFETIME.entries


@pytest.mark.spec("D-11", "LwM2M-contract 1.4")
@pytest.mark.parametrize("content_format", [112, 110, 11544])
def test_a_write_composite_is_an_ipatch_of_the_root(content_format: int) -> None:
    down = translate_down(WriteComposite(LIFETIME), registration(), content_format)
    assert (down.code, down.path, down.query) == (codes.IPATCH, (), ())
    assert (down.content_format, down.accept, down.observe) == (content_format, None, None)
    assert decode_content(content_format, down.payload, Path(), TYPES).entries == LIFETIME.entries


def test_a_format_that_was_asked_for_wins_over_the_preferred() -> None:
    down = translate_down(Write(RESOURCE, LIFETIME, content_format=0), registration(), 112)
    assert (down.content_format, down.payload) == (0, b"60")


def test_a_create_goes_to_the_object() -> None:
    down = translate_down(Create(Path(1), Content((Entry(Path(1, 5, 1), 60),))), registration(), 112)
    assert (down.code, down.path, down.content_format) == (codes.POST, ("1",), 112)
    assert down.payload


def test_what_the_format_cannot_carry_is_an_error_of_ours() -> None:
    content = Content((Entry(RESOURCE, 60), Entry(Path(1, 0, 2), 5)))
    with pytest.raises(EncodeError):
        translate_down(Write(Path(1, 0), content, content_format=0), registration(), 112)


@pytest.mark.spec("R-11")
def test_the_alternate_path_prefixes_every_path_and_every_name() -> None:
    rooted = registration(b'</lwm2m/x>;rt="oma.lwm2m";ct=110,</lwm2m/x/1/0>')
    assert translate_down(Read(RESOURCE), rooted, 110).path == ("lwm2m", "x", "1", "0", "1")
    written = translate_down(Write(RESOURCE, LIFETIME), rooted, 110)
    assert b"/lwm2m/x/1/0/1" in written.payload
    assert written.path == ("lwm2m", "x", "1", "0", "1")
