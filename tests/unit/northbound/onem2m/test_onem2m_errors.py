"""Every error of the tree has one shape, and the HTTP status its code travels with."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.northbound.onem2m.errors import HTTP_STATUS, Rsc
from stellwerk.northbound.onem2m.request import LARGEST_BODY

OUTGOING = "/device-communication/device001/outgoing-msg"
ROUTES = [
    "",
    "/NI-IPE",
    "/device-provisioning",
    "/device-provisioning/request",
    "/device-provisioning/request/some",
    "/device-provisioning/response",
    "/device-provisioning/response/some",
    "/device-group",
    "/device-communication",
    "/device-communication/device001",
    OUTGOING,
    f"{OUTGOING}/la",
    f"{OUTGOING}/some",
    "/device-communication/device001/sent-msg",
    "/device-communication/device001/sent-msg/ol",
    "/device-communication/device001/received-msg",
    "/device-communication/device001/received-msg/la",
    "/device001",
    "/device001/device-info",
    "/no-such-device",
    "/device001/no/such/path",
]
NOWHERE = ROUTES[-2:]
CIN = {"m2m:cin": {"con": "READ /3"}}


def check(answer: httpx.Response, rsc: Rsc, says: str = "") -> None:
    """One shape: the code as a header, its HTTP status, a text of some use, the request ID back."""
    assert answer.headers["x-m2m-rsc"] == str(int(rsc)), answer.text
    assert answer.status_code == HTTP_STATUS[rsc]
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-m2m-ri"] == "123"
    assert list(answer.json()) == ["m2m:dbg"]
    assert len(answer.json()["m2m:dbg"]) > 10
    assert says in answer.json()["m2m:dbg"]


@pytest.mark.spec("D2C 4.5", "D2C 5")
@pytest.mark.parametrize("path", ROUTES)
def test_no_route_answers_without_a_token(world: Any, path: str):
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        for authorization in (None, "Bearer nonsense", "Basic d3JpdGVy", "Bearer"):
            answer = world.call(method, path, headers={"Authorization": authorization})
            assert answer.status_code == 401
            assert "x-m2m-rsc" not in answer.headers
            assert answer.headers["www-authenticate"] == "Bearer"
            assert list(answer.json()) == ["m2m:dbg"]


@pytest.mark.spec("D2C 4.5")
@pytest.mark.parametrize("path", ROUTES)
def test_every_route_refuses_in_the_one_shape(world: Any, path: str):
    world.device()
    foreign = {"Authorization": "Bearer foreign"}
    check(world.get(path, headers=foreign), Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, "token")
    check(world.get(path, headers={"X-M2M-Origin": None}), Rsc.BAD_REQUEST, "X-M2M-Origin")
    check(world.get(path, headers={"X-M2M-Origin": "Somebody"}), Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, "C")
    check(world.get(path, headers={"X-M2M-RVI": "9"}), Rsc.RELEASE_VERSION_NOT_SUPPORTED, "9")
    check(world.get(path, headers={"X-M2M-RVI": "3"}), Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, "registered AE")
    check(world.get(path, headers={"fullName": "maybe"}), Rsc.BAD_REQUEST, "true or false")
    check(world.get(f"{path}?rcn=x"), Rsc.BAD_REQUEST, "rcn")
    check(world.get(f"{path}?rcn=99"), Rsc.BAD_REQUEST, "rcn")
    check(world.get(f"{path}?rcn=9"), Rsc.NOT_FOUND if path in NOWHERE else Rsc.BAD_REQUEST)
    check(world.get(f"{path}?chty=4"), Rsc.NOT_IMPLEMENTED, "chty")
    check(world.call("PATCH", path), Rsc.OPERATION_NOT_ALLOWED, "PATCH")
    missing_id = world.get(path, headers={"X-M2M-RI": None})
    assert (missing_id.status_code, missing_id.headers["x-m2m-rsc"]) == (400, "4000")
    assert "X-M2M-RI" in missing_id.json()["m2m:dbg"]


@pytest.mark.spec("D2C 4.5")
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_token_for_reading_changes_nothing(world: Any, path: str, method: str):
    world.device()
    answer = world.call(method, path, ty=4, json=CIN, headers={"Authorization": "Bearer reader"})
    check(answer, Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, "rw")
    assert world.get("/device001", headers={"Authorization": "Bearer reader"}).status_code == 200


@pytest.mark.spec("D2C 4.5")
@pytest.mark.parametrize(
    "path",
    [
        "/no-such-device",
        "/device001/no/such/path",
        "/device-communication/nobody",
        f"{OUTGOING}/some",
        "/device-group/x",
    ],
)
def test_what_is_not_there_is_not_found(world: Any, path: str):
    world.device()
    check(world.get(path), Rsc.NOT_FOUND)


@pytest.mark.spec("D2C 4.5")
def test_a_tenant_that_does_not_exist_is_not_found(world: Any):
    mount = "/device-management-orchestrator/v3/ghost"
    check(world.get("", mount=mount, headers={"Authorization": "Bearer everything"}), Rsc.NOT_FOUND, "ghost")


@pytest.mark.spec("D2C 4.5")
@pytest.mark.parametrize(
    "mount", ["/device-management-orchestrator/v3", "/device-management-orchestrator/v3/", "/onem2m"]
)
def test_a_mount_without_a_tenant_is_not_found(world: Any, mount: str):
    check(world.get("", mount=mount), Rsc.NOT_FOUND)


@pytest.mark.spec("D2C 3", "D2C 4.5")
@pytest.mark.parametrize(
    ("content_type", "rsc", "says"),
    [
        (None, Rsc.UNSUPPORTED_MEDIA_TYPE, "missing"),
        ("text/plain;ty=4", Rsc.UNSUPPORTED_MEDIA_TYPE, "application/json;ty="),
        ("application/xml;ty=4", Rsc.UNSUPPORTED_MEDIA_TYPE, "application/json;ty="),
        ("application/json", Rsc.BAD_REQUEST, "ty"),
        ("application/json;ty=", Rsc.BAD_REQUEST, "resource type"),
        ("application/json;ty=four", Rsc.BAD_REQUEST, "resource type"),
        ("application/json;ty=99", Rsc.BAD_REQUEST, "resource type"),
        ("application/json;ty=3", Rsc.INVALID_CHILD_RESOURCE_TYPE, "ty=4"),
    ],
)
def test_a_content_type_that_does_not_fit_is_refused(world: Any, content_type: str | None, rsc: Rsc, says: str):
    world.device()
    answer = world.call(
        "POST", OUTGOING, content=b'{"m2m:cin":{"con":"READ /3"}}', headers={"Content-Type": content_type}
    )
    check(answer, rsc, says)


@pytest.mark.spec("D2C 3")
@pytest.mark.parametrize(
    "content_type",
    ["application/json;ty=4", "Application/JSON; charset=utf-8; TY=4", 'application/vnd.onem2m-res+json;ty="4"'],
)
def test_every_spelling_of_the_content_type_is_understood(world: Any, content_type: str):
    world.device()
    answer = world.call(
        "POST", OUTGOING, content=b'{"m2m:cin":{"con":"READ /3"}}', headers={"Content-Type": content_type}
    )
    assert answer.status_code == 201


@pytest.mark.spec("D2C 4.5")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"m2m:cin":{"con":NaN}}', "not JSON"),
        (b"[" * 100_000, "deep"),
        (b'{"m2m:cin":{"con":' + b"[" * 63 + b"]" * 63 + b"}}", "deep"),
        (b'{"m2m:cin":{"con":' + b"1" * 5000 + b"}}", "not JSON"),
        (b'{"m2m:cin":{"con":"READ /3","et":"soon"}}', "et"),
        (b'{"m2m:cin":{"con":"READ /3","et":"20200101T000000"}}', "over already"),
        (b'{"m2m:cin":{"con":"READ /3","et":true}}', "et"),
        (b"[]", "object"),
        (b"7", "object"),
        (b"{}", "one resource"),
        (b'{"m2m:cin":{"con":"READ /3"},"x":1}', "one resource"),
        (b'{"m2m:nonsense":{"con":"READ /3"}}', "m2m:nonsense"),
        (b'{"m2m:cnt":{"rn":"x"}}', "ty=4"),
        (b'{"m2m:cin":"READ /3"}', "not an object"),
        (b'{"m2m:cin":{}}', "con is missing"),
        (b'{"m2m:cin":{"con":null}}', "con is missing"),
        (b'{"m2m:cin":{"con":"READ /3","content":"READ /4"}}', "twice"),
        (b'{"m2m:cin":{"con":"READ /3","cnf":7}}', "cnf"),
        (b'{"m2m:cin":{"con":"READ /3","lbl":"a:b"}}', "lbl"),
        (b'{"m2m:cin":{"con":"READ /3","lbl":[1]}}', "lbl"),
        (b'{"m2m:cin":{"con":"READ /3","rn":7}}', "rn"),
        (b'{"m2m:cin":{"con":"READ /3","rn":"la"}}', "rn"),
        (b'{"m2m:cin":{"con":"READ /3","rn":"a b"}}', "rn"),
        (b'{"m2m:cin":{"con":"READ /3","rn":""}}', "rn"),
        (b'{"m2m:cin":{"con":"READ /3","cr":"CMe"}}', "cr"),
    ],
)
def test_a_body_that_is_no_message_is_refused_with_what_would_be_right(world: Any, body: bytes, says: str):
    world.device()
    check(world.call("POST", OUTGOING, ty=4, content=body), Rsc.BAD_REQUEST, says)


@pytest.mark.spec("D2C 4.1", "D2C 14")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"contentInstance": {"con": "READ /3"}}, "contentInstance"),
        ({"m2m:cin": {"con": "READ /3", "labels": ["a"]}}, "lbl"),
        ({"m2m:cin": {"con": "READ /3", "nonsense": 1}}, "unknown attribute"),
        ({"m2m:cin": {"con": "READ /3", "ri": "abc"}}, "set by the server"),
    ],
)
def test_a_strict_client_hears_of_every_attribute_without_effect(world: Any, body: Any, says: str):
    world.device()
    strict = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"}
    check(world.post(OUTGOING, 4, body, headers=strict), Rsc.BAD_REQUEST, says)


@pytest.mark.spec("D2C 4.3", "D2C 14")
def test_a_strict_client_hears_of_unknown_parameters_and_a_trailing_slash(world: Any):
    strict = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"}
    check(world.get("?nonsense=1", headers=strict), Rsc.BAD_REQUEST, "nonsense")
    check(world.get("/", headers=strict), Rsc.BAD_REQUEST, "slash")
    assert world.get("/?nonsense=1").status_code == 200
    check(world.get("/device-communication//x"), Rsc.BAD_REQUEST, "empty segment")


@pytest.mark.spec("D2C 4.5")
def test_a_body_over_the_limit_is_refused_whether_announced_or_not(world: Any):
    world.device()
    large = b'{"m2m:cin":{"con":"' + b"x" * LARGEST_BODY + b'"}}'
    check(world.call("POST", OUTGOING, ty=4, content=large), Rsc.NOT_ACCEPTABLE, str(LARGEST_BODY))

    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * (LARGEST_BODY // 10)

    answer = world.call("POST", OUTGOING, ty=4, content=chunks())
    check(answer, Rsc.NOT_ACCEPTABLE, str(LARGEST_BODY))
    assert answer.headers["connection"] == "close"


@pytest.mark.spec("D2C 4.4", "D2C 4.5")
@pytest.mark.parametrize(
    ("method", "path", "rsc"),
    [
        ("PUT", f"{OUTGOING}/la", Rsc.OPERATION_NOT_ALLOWED),
        ("PUT", "", Rsc.OPERATION_NOT_ALLOWED),
        ("PUT", "/device001", Rsc.BAD_REQUEST),
        ("PUT", "/device-provisioning/request/some", Rsc.NOT_FOUND),
        ("PUT", OUTGOING, Rsc.NOT_IMPLEMENTED),
        ("PUT", "/nobody", Rsc.NOT_FOUND),
        ("DELETE", "", Rsc.OPERATION_NOT_ALLOWED),
        ("DELETE", "/NI-IPE", Rsc.OPERATION_NOT_ALLOWED),
        ("DELETE", "/device-communication", Rsc.OPERATION_NOT_ALLOWED),
        ("DELETE", f"{OUTGOING}/la", Rsc.NOT_FOUND),
        ("DELETE", OUTGOING, Rsc.OPERATION_NOT_ALLOWED),
        ("DELETE", "/device-communication/device001", Rsc.OPERATION_NOT_ALLOWED),
        ("DELETE", "/device-provisioning/request/some", Rsc.NOT_FOUND),
        ("DELETE", "/device001/device-update-subscription", Rsc.OPERATION_NOT_ALLOWED),
        ("PUT", "/device001/device-update-subscription", Rsc.OPERATION_NOT_ALLOWED),
        ("POST", "/device001/device-update-subscription", Rsc.OPERATION_NOT_ALLOWED),
        ("DELETE", "/device001/credentials", Rsc.NOT_FOUND),
        ("PUT", "/device001/credentials", Rsc.BAD_REQUEST),
        ("DELETE", "/nobody", Rsc.NOT_FOUND),
        ("POST", "", Rsc.INVALID_CHILD_RESOURCE_TYPE),
        ("POST", "/device-communication", Rsc.OPERATION_NOT_ALLOWED),
        ("POST", "/device-communication/device001", Rsc.OPERATION_NOT_ALLOWED),
        ("POST", "/device-communication/device001/sent-msg", Rsc.OPERATION_NOT_ALLOWED),
        ("POST", "/device-communication/nobody/outgoing-msg", Rsc.NOT_FOUND),
        ("POST", f"{OUTGOING}/la", Rsc.INVALID_CHILD_RESOURCE_TYPE),
        ("POST", "/device-provisioning/request", Rsc.INVALID_CHILD_RESOURCE_TYPE),
        ("POST", "/device-provisioning/response", Rsc.OPERATION_NOT_ALLOWED),
        ("POST", "/device-group", Rsc.NOT_IMPLEMENTED),
        ("POST", "/device001", Rsc.INVALID_CHILD_RESOURCE_TYPE),
        ("POST", "/device001/device-info", Rsc.INVALID_CHILD_RESOURCE_TYPE),
        ("POST", "/nobody", Rsc.NOT_FOUND),
    ],
)
def test_an_operation_that_a_resource_does_not_take_says_which_it_takes(world: Any, method: str, path: str, rsc: Rsc):
    world.device()
    answer = world.call(method, path, ty=4, json=CIN)
    check(answer, rsc)
    assert ("allow" in answer.headers) == (rsc is Rsc.OPERATION_NOT_ALLOWED)


@pytest.mark.spec("D2C 4.5")
@pytest.mark.parametrize(
    ("ty", "rsc"),
    [
        (5, Rsc.OPERATION_NOT_ALLOWED),
        (14, Rsc.OPERATION_NOT_ALLOWED),
        (3, Rsc.NOT_IMPLEMENTED),
        (23, Rsc.NOT_IMPLEMENTED),
        (28, Rsc.NOT_IMPLEMENTED),
        (13, Rsc.INVALID_CHILD_RESOURCE_TYPE),
    ],
)
def test_what_cannot_be_made_below_the_tenant_says_why(world: Any, ty: int, rsc: Rsc):
    check(world.post("", ty, {"m2m:cnt": {"rn": "x"}}), rsc)


@pytest.mark.spec("D2C 4.5")
def test_a_fault_of_ours_is_told_without_its_details(world: Any):
    async def failing(name: str) -> None:
        raise OSError("secret path of the database")

    world.store.tenant = failing
    answer = world.get("")
    check(answer, Rsc.INTERNAL_SERVER_ERROR, "log")
    assert "secret" not in answer.text


@pytest.mark.parametrize("raw", ["%00", "%ff", "%ed%a0%80", "x" * 3000, "..", "%2e%2e", "%0a"])
def test_any_name_in_a_path_is_answered(world: Any, raw: str):
    answer = world.get(f"/device-communication/{raw}")
    assert answer.status_code in (200, 400, 404)
    assert "x-m2m-rsc" in answer.headers


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        [
            *("rn", "resourceName", "lbl", "labels", "con", "content", "cnf", "et", "cr", "api", "poa", "poah", "rr"),
            *("srv", "apn", "crid", "crse", "crtk", "mgd", "dc", "man", "dlb", "loc", "opern", "reqLt", "cnd", "ri"),
            *("aei", "at", "ty", "x"),
        ]
    ),
    _JSON | st.lists(st.text(max_size=5), max_size=3),
    max_size=5,
)
_TARGETS = [
    ("POST", "", 2, "m2m:ae"),
    ("POST", OUTGOING, 4, "m2m:cin"),
    ("POST", OUTGOING.replace("outgoing", "received"), 4, "m2m:cin"),
    ("POST", "/device-provisioning/request", 28, "dtiot:noPRt"),
    ("POST", "/device001", 13, "m2m:crds"),
    ("POST", "/device001", 13, "m2m:dvi"),
    ("PUT", "/device001", None, "m2m:nod"),
    ("PUT", "/device001/device-info", None, "m2m:dvi"),
    ("PUT", "/device001/credentials", None, "m2m:crds"),
    ("PUT", "/application", None, "m2m:ae"),
]


@pytest.fixture(scope="module")
def furnished(long_lived_world: Any) -> Any:
    """A world with one of everything that can be changed."""
    world = long_lived_world
    world.device()
    world.post("", 2, {"m2m:ae": {"rn": "application", "api": "N1"}}, headers={"X-M2M-Origin": "Capplication"})
    world.post("/device001", 13, {"m2m:crds": {"crid": "x", "crse": "c2VjcmV0"}})
    return world


@pytest.mark.spec("D2C 4.5")
@settings(max_examples=200, deadline=None)
@given(target=st.sampled_from(_TARGETS), attributes=_ATTRIBUTES | _JSON, strict=st.booleans())
def test_any_body_is_taken_or_refused_and_never_our_fault(furnished: Any, target: Any, attributes: Any, strict: bool):
    method, path, ty, envelope = target
    headers = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"} if strict else {}
    content = json.dumps({envelope: attributes}).encode()
    answer = furnished.call(method, path, ty=ty, content=content, headers=headers)
    assert answer.status_code < 500 or answer.headers["x-m2m-rsc"] == "5001", answer.text
    assert "x-m2m-rsc" in answer.headers
