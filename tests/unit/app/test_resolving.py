"""From what a client asked to what can be sent, or the key that says why not."""

from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.handlers.resolving import Resolved, resolve
from stellwerk.app.status_table import STATUS
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.operations import (
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    Operation,
    Read,
    Write,
    WriteAttributes,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library

BODY = b"</1/0>,</3/0>,</3303/0>,</9999/0>"
TYPES = Library.builtin().for_device("1.1", {1: None, 3: None, 3303: None})
REGISTRATION = Registration(
    "loc",
    DeviceId(1),
    "dev1",
    PeerId("udp", "192.0.2.1", 1),
    "1.1",
    300,
    "U",
    False,
    BODY,
    decode_object_list(BODY),
    TYPES,
    0,
    0,
)


def ask(verb: Any, path: str, wanted: tuple[str, ...] = (), registered: bool = True, **more: Any) -> Any:
    request = CommandRequest(verb, path, f"{verb} {path}", **more)
    paths = [Path.parse(each) for each in wanted]
    return resolve(request, REGISTRATION if registered else None, TYPES, paths)


def operation(verb: Any, path: str, **more: Any) -> Operation:
    found = ask(verb, path, **more)
    assert isinstance(found, Resolved), found
    return found.operation


def refusal(verb: Any, path: str, **more: Any) -> RefusedRequest:
    found = ask(verb, path, **more)
    assert isinstance(found, RefusedRequest), found
    assert found.reason in STATUS
    assert found.detail
    assert found.path == path
    return found


@pytest.mark.spec("D2C 7")
@pytest.mark.parametrize("path", ["/3", "/3/0", "/3/0/0", "/3/0/11/0", "/9999/0/1"])
def test_what_the_device_offers_can_be_read_and_observed(path: str) -> None:
    assert operation("read", path) == Read(Path.parse(path))
    assert operation("observe", path) == Observe(Path.parse(path))


def test_a_written_text_takes_its_type_from_the_model_and_replaces_a_resource() -> None:
    assert operation("write", "/1/0/1", value="60", has_value=True) == Write(
        Path(1, 0, 1), Content((Entry(Path(1, 0, 1), 60),)), replace=True
    )
    written = operation("write", "/3/0/14", value="+02", has_value=True)
    assert isinstance(written, Write)
    assert written.content.entries[0].value == "+02"


@pytest.mark.spec("D-6", "D2C 7")
def test_a_written_object_changes_only_what_it_names_of_an_instance() -> None:
    written = operation("write", "/1/0", value={"1": 60, "2": 5}, has_value=True, from_text=False)
    assert isinstance(written, Write)
    assert not written.replace
    assert {entry.path: entry.value for entry in written.content.entries} == {Path(1, 0, 1): 60, Path(1, 0, 2): 5}


@pytest.mark.spec("D-6")
def test_who_writes_may_say_whether_the_rest_goes() -> None:
    known: dict[str, Any] = {"has_value": True, "from_text": False}
    whole = operation("write", "/1/0", value={"1": 60}, replace=True, **known)
    assert isinstance(whole, Write)
    assert whole.replace
    part = operation("write", "/9999/0/1", value={"0": 1}, replace=False, **known)
    assert part == Write(Path(9999, 0, 1), Content((Entry(Path(9999, 0, 1, 0), 1),)), replace=False)
    for path in ("/1/0/1", "/9999/0/1/0"):
        refused = refusal("write", path, value=60, replace=False, **known)
        assert (refused.reason, refused.detail) == (
            "adapter-bad-request",
            f"{path} has no parts of which some could stay; replace it",
        )


def test_an_execute_carries_its_arguments_as_they_stand() -> None:
    assert operation("execute", "/3/0/4", arguments="0='x',1") == Execute(Path(3, 0, 4), "0='x',1")


@pytest.mark.spec("D2C 12")
@pytest.mark.parametrize(
    ("verb", "path", "reason"),
    [
        ("read", "3/0", "path-invalid"),
        ("read", "/3//0", "path-invalid"),
        ("read", "/3/0/0/0/0", "path-invalid"),
        ("read", "/", "path-invalid"),
        ("read", "/70000", "path-invalid"),
        ("read", "/5/0/3", "path-invalid"),
        ("read", "/0/0/0", "path-invalid"),
        ("observe", "/0", "path-invalid"),
        ("read", "/3/0/4", "not-acceptable"),
        ("observe", "/3/0/4", "not-acceptable"),
        ("execute", "/3/0/0", "not-acceptable"),
        ("execute", "/3/0", "path-invalid"),
        ("write", "/3/0/0", "value-missing"),
        ("unobserve", "/3/0/9", "no-observation"),
    ],
)
def test_what_can_never_succeed_says_its_key_and_what_would_be_right(verb: str, path: str, reason: str) -> None:
    assert refusal(verb, path).reason == reason


@pytest.mark.spec("D2C 7", "D2C 12")
@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("/3/0/0", "ACME", "not-acceptable"),
        ("/1/0/1", "soon", "adapter-bad-request"),
        ("/1/0/1", None, "value-missing"),
    ],
)
def test_a_write_is_checked_against_the_model(path: str, value: str | None, reason: str) -> None:
    assert refusal("write", path, value=value, has_value=True).reason == reason


@pytest.mark.spec("D2C 7")
def test_what_is_observed_is_a_conflict_to_observe_and_can_be_unobserved() -> None:
    assert refusal("observe", "/3/0/9", wanted=("/3/0/9",)).reason == "conflict"
    assert operation("unobserve", "/3/0/9", wanted=("/3/0/9",)) == CancelObservation(Path(3, 0, 9))
    assert operation("observe", "/3/0", wanted=("/3/0/9",)) == Observe(Path(3, 0))


@pytest.mark.spec("D2C 7.2")
def test_an_observe_carries_the_attributes_that_the_device_knows() -> None:
    pairs = (("pmin", "5"), ("pmax", "60"))
    assert operation("observe", "/3/0/9", attributes=pairs) == Observe(Path(3, 0, 9), None, pairs)
    assert operation("observe", "/3303/0/5700", attributes=(("gt", "2.5"),)) == Observe(
        Path(3303, 0, 5700), None, (("gt", "2.5"),)
    )


@pytest.mark.spec("D2C 7.2", "D2C 12")
@pytest.mark.parametrize(
    ("path", "attributes", "reason"),
    [
        # A threshold of what is no number.
        ("/3/0/0", (("gt", "5"),), "adapter-bad-request"),
        ("/3/0", (("gt", "5"),), "adapter-bad-request"),
        # Of LwM2M 1.2; the device speaks 1.1.
        ("/3303/0/5700", (("con", "1"),), "not-acceptable"),
    ],
)
def test_attributes_that_a_device_would_refuse_are_not_sent(path: str, attributes: Any, reason: str) -> None:
    assert refusal("observe", path, attributes=attributes).reason == reason


@pytest.mark.spec("D2C 7.2")
def test_our_own_methods_become_operations() -> None:
    assert operation("discover", "/3/0") == Discover(Path(3, 0))
    assert operation("delete", "/3303/0") == Delete(Path(3303, 0))
    assert operation("write-attributes", "/3/0/9", attributes=(("pmin", "5"), ("pmax", None))) == WriteAttributes(
        Path(3, 0, 9), (("pmin", "5"), ("pmax", None))
    )
    made = operation("create", "/9999/7", value={"1": 60}, has_value=True, from_text=False)
    assert made == Create(Path(9999), Content((Entry(Path(9999, 7, 1), 60),)))
    assert refusal("write-attributes", "/3/0/9").reason == "value-missing"
    assert refusal("discover", "/3/0", attributes=(("depth", "1"),)).reason == "not-acceptable"


@pytest.mark.parametrize(("verb", "word"), [("read", "read"), ("execute", "exec"), ("unobserve", "unobserve")])
def test_a_refusal_speaks_of_the_method_as_responses_do(verb: str, word: str) -> None:
    assert refusal(verb, "/bad").method == word


def test_without_a_registration_only_the_models_are_asked() -> None:
    assert isinstance(ask("read", "/5/0/3", registered=False), Resolved)
    assert ask("execute", "/3/0/0", registered=False).reason == "not-acceptable"


def test_what_was_refused_before_stays_as_it_is() -> None:
    refused = RefusedRequest("", "", "method-unknown", "no such method", "FLY /3")
    assert resolve(refused, REGISTRATION, TYPES, ()) is refused
