"""Operations about a list of paths: FETCH and iPATCH on the root, and what becomes of them at devices without such."""

import json
from collections.abc import Sequence
from typing import Any

import cbor2
import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.coap import codes
from stellwerk.coap.message import RST, Message
from stellwerk.lwm2m.formats import decode_paths
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import path_of, read, status
from tests.scenario.test_observations import OBSERVE_0, OBSERVE_1, notification
from tests.scenario.test_operations import query_of
from tests.scenario.test_registration import register
from tests.scenario.test_storms import SLEEPER

LEVEL, LIFETIME, VALUE = "/3/0/9", "/1/0/1", "/3303/0/5700"
LINKS = b'</>;rt="oma.lwm2m";ct="110 112",</1/0>,</3/0>,</3303/0>'
ROOTED = b'</lw>;rt="oma.lwm2m";ct=112,</lw/1/0>,</lw/3/0>'
ETCH_CBOR = 322


def composite(verb: Any, *paths: str, **more: Any) -> CommandRequest:
    return CommandRequest(f"{verb}-composite", ",".join(paths), f"{verb} {paths}", paths=paths, **more)


def writing(values: dict[str, Any]) -> CommandRequest:
    return composite("write", *values, value=values, has_value=True, from_text=False)


def senml(values: dict[str, Any]) -> bytes:
    kind = {str: 3, bool: 4, bytes: 8}
    return cbor2.dumps([{0: path, kind.get(type(value), 2): value} for path, value in values.items()])


def answer(stack: Stack, request: Message, values: dict[str, Any], **more: Any) -> None:
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=senml(values), content_format=112, **more)


def refuse(stack: Stack, request: Message, code: int) -> None:
    stack << ack(code, mid=request.mid, token=request.token)


def options(message: Message, number: int) -> list[int]:
    return [int.from_bytes(value, "big") for each, value in message.options if each == number]


def listed(message: Message) -> Sequence[str]:
    return [str(each) for each in decode_paths(options(message, 12)[0], message.payload)]


def last(stack: Stack, device: Any) -> dict[str, Any]:
    return stack.received(device)[-1]


def join(stack: Stack, version: str = "1.1", links: bytes = LINKS, mid: int = 1, flags: str = "") -> Any:
    assert stack.store is not None
    device = stack.run(stack.store.device_by_name(stack.tenant_id, "dev1")) or stack.provision("dev1")
    target = f"/rd?ep=dev1&lt=3000&lwm2m={version}&b=U{flags}"
    stack << con(codes.POST, target, mid=mid, token=b"t", payload=links, content_format=40)
    assert stack.take().code == codes.CREATED
    return device


@pytest.fixture
def device(stack: Stack) -> Any:
    return join(stack)


# -- Read-Composite --


@pytest.mark.spec("D-3", "D-11", "LwM2M-contract 1.4", "ETS 280", "READ-4")
def test_a_read_of_a_list_is_one_fetch_on_the_root_and_one_message(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL, LIFETIME))
    request = stack.take()
    assert (request.code, path_of(request), query_of(request)) == (codes.FETCH, "/", [])
    assert options(request, 12) == options(request, 17) == [112]
    assert listed(request) == [LIFETIME, LEVEL]
    answer(stack, request, {LEVEL: 80, LIFETIME: 300})
    message = last(stack, device)
    assert message["status"]["code"] == 200
    assert message["method"] == "read-composite"
    assert message["resourcePath"] == "1/0/1,3/0/9"
    assert message["paths"] == ["1/0/1", "3/0/9"]
    assert message["missing"] == []
    assert message["data"] == {"3/0/9": 80, "1/0/1": 300}
    assert stack.values(device, LEVEL) == ["80"]
    assert stack.values(device, LIFETIME) == ["300"]


@pytest.mark.spec("D-11", "ETS 236")
def test_what_the_device_leaves_out_is_said_to_be_missing(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL, "/3303", "/1/0/5"))
    answer(stack, stack.take(), {VALUE: 21.5})
    assert last(stack, device)["data"] == {"3303/0/5700": 21.5}
    assert last(stack, device)["missing"] == ["1/0/5", "3/0/9"]


@pytest.mark.spec("D-11")
@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (senml({LEVEL: 80, VALUE: 21.5}), VALUE),
        (senml({LEVEL: "many"}), LEVEL),
        (b"\x81\xff", "malformed"),
        (senml({"/3/0": 1}), "/3/0"),
    ],
    ids=["a path that was not asked for", "another type", "no CBOR", "no resource"],
)
def test_an_answer_that_is_nonsense_is_refused_and_nothing_of_it_is_stored(
    stack: Stack, device: Any, payload: bytes, why: str
) -> None:
    stack.post(device, composite("read", LEVEL, LIFETIME))
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=payload, content_format=112)
    assert status(stack, device) == (500, "adapter")
    assert why in last(stack, device)["status"]["detail"]
    assert last(stack, device)["data"] is None
    assert stack.values(device, LEVEL) == stack.values(device, VALUE) == []


@pytest.mark.spec("R-11")
def test_the_alternate_path_stands_in_the_names_and_not_in_the_request(stack: Stack) -> None:
    device = join(stack, links=ROOTED)
    stack.post(device, composite("read", LEVEL, LIFETIME))
    request = stack.take()
    assert path_of(request) == "/"
    assert cbor2.loads(request.payload) == [{0: "/lw/1/0/1"}, {0: "/lw/3/0/9"}]
    answer(stack, request, {"/lw/3/0/9": 80})
    assert last(stack, device)["data"] == {"3/0/9": 80}


@pytest.mark.spec("D-2", "D-3")
def test_a_list_in_a_format_that_is_refused_is_said_in_the_next_and_from_then_on(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL))
    refuse(stack, stack.take(), codes.UNSUPPORTED_CONTENT_FORMAT)
    second = stack.take()
    assert options(second, 12) == options(second, 17) == [110]
    payload = b'[{"n":"/3/0/9","v":80}]'
    stack << ack(codes.CONTENT, mid=second.mid, token=second.token, payload=payload, content_format=110)
    assert last(stack, device)["data"] == {"3/0/9": 80}
    assert "format-changed" in stack.log(device)
    stack.post(device, composite("read", LEVEL))
    assert options(stack.take(), 12) == [110]


@pytest.mark.spec("ETS 235", "D-11")
def test_the_root_is_everything_that_the_device_has(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", "/"))
    request = stack.take()
    assert cbor2.loads(request.payload) == [{0: "/"}]
    answer(stack, request, {LEVEL: 80, LIFETIME: 300})
    assert last(stack, device)["data"] == {"3/0/9": 80, "1/0/1": 300}
    assert (last(stack, device)["paths"], last(stack, device)["missing"]) == (["/"], [])
    assert last(stack, device)["resourcePath"] == "/"


@pytest.mark.spec("ETS 235", "D-12")
def test_the_root_of_a_device_without_composites_is_each_object_that_it_lists(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", "/"))
    refuse(stack, stack.take(), codes.METHOD_NOT_ALLOWED)
    for path, value in (("/1", {LIFETIME: 300}), ("/3", {LEVEL: 80}), ("/3303", {VALUE: 21.5})):
        request = stack.take()
        assert path_of(request) == path
        answer(stack, request, value)
    assert last(stack, device)["data"] == {"1/0/1": 300, "3/0/9": 80, "3303/0/5700": 21.5}


def test_the_root_is_not_read_by_more_reads_than_a_list_may_have_paths(stack: Stack) -> None:
    device = join(stack, links=b",".join(b"</%d/0>" % each for each in range(5000, 5101)))
    stack.post(device, composite("read", "/"))
    while (request := stack.take()).code == codes.FETCH:
        refuse(stack, request, codes.METHOD_NOT_ALLOWED)
    count = 1
    while True:
        refuse(stack, request, codes.NOT_FOUND)
        if stack.silent():
            break
        request, count = stack.take(), count + 1
    assert count == 100
    assert "composite-incomplete" in stack.log(device)
    assert status(stack, device) == (404, "device-not-found")


@pytest.mark.spec("ETS 281", "D-11")
def test_a_resource_that_is_executed_is_left_out_and_does_not_keep_the_others(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL, "/3/0/4"))
    answer(stack, stack.take(), {LEVEL: 80})
    assert status(stack, device) == (200, "ok")
    assert last(stack, device)["missing"] == ["3/0/4"]


# -- devices without composites --


@pytest.mark.spec("D-12", "D-11", "T-8", "READ-4")
@pytest.mark.parametrize(
    "code", [codes.METHOD_NOT_ALLOWED, codes.NOT_IMPLEMENTED, codes.NOT_FOUND, codes.BAD_OPTION, codes.BAD_REQUEST]
)
def test_a_device_without_composites_is_read_path_by_path_and_remembered(stack: Stack, device: Any, code: int) -> None:
    stack.post(device, composite("read", LEVEL, LIFETIME, "/1/0/5"))
    while (request := stack.take()).code == codes.FETCH:
        refuse(stack, request, code)
    assert (request.code, path_of(request)) == (codes.GET, LIFETIME)
    answer(stack, request, {LIFETIME: 300})
    missing = stack.take()
    assert path_of(missing) == "/1/0/5"
    refuse(stack, missing, codes.NOT_FOUND)
    answer(stack, stack.take(), {LEVEL: 80})
    message = last(stack, device)
    assert message["data"] == {"1/0/1": 300, "3/0/9": 80}
    assert message["missing"] == ["1/0/5"]
    assert [each["messageType"] for each in stack.received(device)] == ["registration", "response"]
    assert stack.log(device).count("composite-by-reads") == 1
    stack.post(device, composite("read", LEVEL, LIFETIME))
    assert path_of(stack.take()) == LIFETIME


@pytest.mark.spec("D-12", "T-8")
def test_a_device_that_acknowledges_a_fetch_and_is_silent_is_read_path_by_path_soon(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL))
    stack << ack(mid=stack.take().mid)
    assert stack.silent()
    stack << after(31)
    request = stack.take()
    assert (request.code, path_of(request)) == (codes.GET, LEVEL)
    answer(stack, request, {LEVEL: 80})
    assert last(stack, device)["data"] == {"3/0/9": 80}


@pytest.mark.spec("D-12")
def test_a_device_that_does_composites_may_take_its_time(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL))
    answer(stack, stack.take(), {LEVEL: 80})
    stack.post(device, composite("read", LEVEL))
    request = stack.take()
    stack << ack(mid=request.mid) << after(200)
    assert stack.silent()
    stack << con(codes.CONTENT, mid=77, token=request.token, payload=senml({LEVEL: 81}), content_format=112)
    assert last(stack, device)["data"] == {"3/0/9": 81}


@pytest.mark.spec("D-12", "READ-4")
def test_a_new_registration_is_asked_for_composites_anew(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL))
    refuse(stack, stack.take(), codes.METHOD_NOT_ALLOWED)
    answer(stack, stack.take(), {LEVEL: 80})
    join(stack, mid=9)
    stack.post(device, composite("read", LEVEL))
    assert stack.take().code == codes.FETCH


@pytest.mark.spec("D-12")
def test_a_list_that_cannot_be_read_in_any_way_ends_as_the_device_says(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL, LIFETIME))
    refuse(stack, stack.take(), codes.NOT_FOUND)
    refuse(stack, stack.take(), codes.UNAUTHORIZED)
    refuse(stack, stack.take(), codes.UNAUTHORIZED)
    assert status(stack, device) == (401, "device-unauthorized")
    # It may well do composites: nothing was said of that.
    stack.post(device, composite("read", LEVEL))
    assert stack.take().code == codes.FETCH


@pytest.mark.spec("D-12")
def test_a_nonsense_answer_among_single_reads_is_refused_whole(stack: Stack, device: Any) -> None:
    stack.post(device, composite("read", LEVEL, LIFETIME))
    refuse(stack, stack.take(), codes.METHOD_NOT_ALLOWED)
    answer(stack, stack.take(), {LIFETIME: 300})
    answer(stack, stack.take(), {LEVEL: "many"})
    assert status(stack, device) == (500, "adapter")
    assert LEVEL in last(stack, device)["status"]["detail"]
    assert stack.values(device, LIFETIME) == []


@pytest.mark.spec("D-12", "LwM2M-contract 0.1")
def test_a_device_of_1_0_is_read_path_by_path_and_never_sees_a_fetch(stack: Stack) -> None:
    device = join(stack, version="1.0", links=b"</1/0>,</3/0>")
    stack.post(device, composite("read", LEVEL, LIFETIME))
    for value in (b"\xc2\x01\x01\x2c", b"\xc1\x09\x50"):
        request = stack.take()
        assert (request.code, options(request, 17)) == (codes.GET, [11542])
        stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=value, content_format=11542)
    assert last(stack, device)["data"] == {"1/0/1": 300, "3/0/9": 80}
    assert "composite-by-reads" in stack.log(device)


@pytest.mark.spec("LwM2M-contract 0.1")
@pytest.mark.parametrize("request_", [composite("observe", LEVEL, LIFETIME), writing({LIFETIME: 60})])
def test_what_single_operations_do_not_replace_is_refused_for_a_device_of_1_0(
    stack: Stack, request_: CommandRequest
) -> None:
    device = join(stack, version="1.0")
    stack.post(device, request_)
    assert stack.silent()
    assert status(stack, device) == (406, "not-acceptable")
    assert "each path by itself" in last(stack, device)["status"]["detail"]


# -- Write-Composite --


@pytest.mark.spec("D-11", "ETS 230", "ETS 257")
def test_a_write_of_a_map_is_one_ipatch_on_the_root(stack: Stack, device: Any) -> None:
    stack.post(device, writing({"/3/0/14": "+01", "/1/0": {"1": 60, "2": 5}}))
    request = stack.take()
    assert (request.code, path_of(request), options(request, 12)) == (codes.IPATCH, "/", [112])
    assert options(request, 17) == []
    written = cbor2.loads(request.payload)
    base = written[0].get(-2, "")
    assert {base + each.get(0, ""): each.get(2, each.get(3)) for each in written} == {
        "/3/0/14": "+01",
        "/1/0/1": 60,
        "/1/0/2": 5,
    }
    stack << ack(codes.CHANGED, mid=request.mid, token=request.token)
    assert status(stack, device) == (200, "ok")
    assert last(stack, device)["method"] == "write-composite"


@pytest.mark.spec("R-8")
def test_a_lifetime_that_is_written_among_others_counts_from_then_on(stack: Stack, device: Any) -> None:
    stack.post(device, writing({"/3/0/14": "+01", LIFETIME: 60}))
    request = stack.take()
    stack << ack(codes.CHANGED, mid=request.mid, token=request.token)
    assert "lifetime-changed" in stack.log(device)
    stack << after(59)
    assert stack.registrations() == ["dev1"]
    stack << after(2)
    assert stack.registrations() == []


@pytest.mark.spec("D-12")
def test_a_write_that_is_acknowledged_and_never_answered_ends_as_a_timeout(stack: Stack, device: Any) -> None:
    stack.post(device, writing({LIFETIME: 60}))
    stack << ack(mid=stack.take().mid) << after(100)
    assert len(stack.received(device)) == 1
    stack << after(200)
    assert status(stack, device) == (408, "timeout")
    assert "perhaps it knows no composites" in last(stack, device)["status"]["detail"]


@pytest.mark.spec("D-12", "D-11")
@pytest.mark.parametrize("code", [codes.METHOD_NOT_ALLOWED, codes.NOT_IMPLEMENTED])
def test_a_write_is_not_taken_apart_for_a_device_without_composites(stack: Stack, device: Any, code: int) -> None:
    stack.post(device, writing({LIFETIME: 60, "/3/0/14": "+01"}))
    refuse(stack, stack.take(), code)
    assert stack.silent()
    assert status(stack, device) == (406, "not-acceptable")
    assert "WRITE each path by itself" in last(stack, device)["status"]["detail"]
    # Known from now on.
    stack.post(device, writing({LIFETIME: 60}))
    assert stack.silent()
    assert status(stack, device) == (406, "not-acceptable")
    stack.post(device, composite("observe", LEVEL))
    assert stack.silent()
    assert status(stack, device) == (406, "not-acceptable")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"/3/0/0": "me"}, "not-acceptable"),
        ({LIFETIME: "soon"}, "adapter-bad-request"),
        ({"/0/0/0": "x"}, "path-invalid"),
        ({"/9/0/0": "x"}, "path-invalid"),
        ({"/1/0/1": 5, "/1/0": {"1": 6}}, "adapter-bad-request"),
        ({"/3303/0/9/1": None}, "not-acceptable"),
    ],
)
@pytest.mark.spec("D-5", "D-11")
def test_a_map_with_one_value_that_cannot_be_is_not_sent_at_all(
    stack: Stack, device: Any, values: dict[str, Any], reason: str
) -> None:
    stack.post(device, writing({"/3/0/14": "+01", **values}))
    assert stack.silent()
    assert status(stack, device)[1] == reason


@pytest.mark.spec("LwM2M-contract 0.1", "D-11")
def test_a_null_takes_a_resource_instance_away_with_1_2(stack: Stack) -> None:
    device = join(stack, version="1.2")
    stack.post(device, writing({LIFETIME: 60, "/3303/0/9000/2": None}))
    request = stack.take()
    assert (request.code, options(request, 12)) == (codes.IPATCH, [ETCH_CBOR])
    null, value = cbor2.loads(request.payload)
    assert null == {0: "/3303/0/9000/2", 2: None}
    assert (value.get(-2, "") + value.get(0, ""), value[2]) == (LIFETIME, 60)
    refuse(stack, request, codes.UNSUPPORTED_CONTENT_FORMAT)
    text = stack.take()
    assert options(text, 12) == [320]
    null, value = json.loads(text.payload)
    assert null == {"n": "/3303/0/9000/2", "v": None}
    assert (value.get("bn", "") + value.get("n", ""), value["v"]) == (LIFETIME, 60)
    stack << ack(codes.CHANGED, mid=text.mid, token=text.token)
    assert status(stack, device) == (200, "ok")


# -- Observe-Composite --


def observing(stack: Stack, device: Any, *paths: str, **more: Any) -> Message:
    stack.post(device, composite("observe", *(paths or (LEVEL, LIFETIME)), **more))
    request = stack.take()
    assert OBSERVE_0 in request.options
    answer(stack, request, {LEVEL: 80, LIFETIME: 300}, observe=1)
    return request


@pytest.mark.spec("OB-1", "OB-3", "LwM2M-contract 7", "ETS 304")
def test_a_list_is_observed_and_every_notification_shows_all_of_it(stack: Stack, device: Any) -> None:
    request = observing(stack, device)
    assert (request.code, path_of(request), options(request, 12)) == (codes.FETCH, "/", [112])
    assert status(stack, device) == (200, "ok")
    payload = senml({LEVEL: 79, LIFETIME: 300})
    stack << notification(request.token, mid=50, number=2, payload=payload) >> ack(mid=50)
    message = last(stack, device)
    assert message["messageType"] == "notify"
    assert message["resourcePath"] == "/1/0/1,/3/0/9"
    assert message["data"] == {"3/0/9": 79, "1/0/1": 300}
    assert message["paths"] == ["1/0/1", "3/0/9"]
    assert stack.values(device, LEVEL) == ["80", "79"]


@pytest.mark.spec("OB-3")
def test_a_notification_about_other_paths_is_acknowledged_and_not_stored(stack: Stack, device: Any) -> None:
    request = observing(stack, device)
    stack << notification(request.token, mid=50, number=2, payload=senml({LEVEL: 1, VALUE: 2})) >> ack(mid=50)
    assert stack.values(device, LEVEL) == ["80"]
    assert "notification-undecodable" in stack.log(device)


@pytest.mark.spec("ETS 308", "ETS 309")
def test_instances_that_come_and_go_below_a_path_are_seen_in_its_notifications(stack: Stack, device: Any) -> None:
    stack.post(device, composite("observe", "/3303", LEVEL))
    request = stack.take()
    answer(stack, request, {LEVEL: 80, VALUE: 21.5}, observe=1)
    made = {LEVEL: 80, VALUE: 21.5, "/3303/7/5700": 3.5}
    for number, values in ((2, made), (3, {LEVEL: 80, VALUE: 21.5})):
        stack << notification(request.token, mid=50 + number, number=number, payload=senml(values))
        assert stack.take() == ack(mid=50 + number).message
        assert last(stack, device)["data"] == {path[1:]: value for path, value in values.items()}


@pytest.mark.spec("ETS 310", "LwM2M-contract 7", "ATT-15")
def test_other_attributes_of_one_of_its_paths_make_a_list_observed_anew(stack: Stack, device: Any) -> None:
    first = observing(stack, device)
    stack.post(
        device, CommandRequest("write-attributes", LEVEL, f"WRITE-ATTRIBUTES {LEVEL}", attributes=(("pmin", "5"),))
    )
    written = stack.take()
    stack << ack(codes.CHANGED, mid=written.mid, token=written.token)
    for observe in (OBSERVE_1, OBSERVE_0):
        request = stack.take()
        assert observe in request.options
        assert (request.code, request.token, request.payload) == (codes.FETCH, first.token, first.payload)
        answer(stack, request, {LEVEL: 80}, observe=5 if observe == OBSERVE_0 else None)
    assert stack.silent()


@pytest.mark.spec("OB-9")
def test_the_same_paths_in_another_order_are_the_same_observation(stack: Stack, device: Any) -> None:
    observing(stack, device)
    stack.post(device, composite("observe", LIFETIME, LEVEL))
    assert stack.silent()
    assert status(stack, device) == (409, "conflict")


@pytest.mark.spec("OB-5", "LwM2M-contract 1.4", "ETS 305", "ATT-17")
def test_a_cancel_repeats_list_format_and_token(stack: Stack, device: Any) -> None:
    request = observing(stack, device)
    stack.post(device, composite("unobserve", LIFETIME, LEVEL))
    cancel = stack.take()
    assert OBSERVE_1 in cancel.options
    assert (cancel.code, cancel.token, cancel.payload) == (request.code, request.token, request.payload)
    assert options(cancel, 12) == options(cancel, 17) == [112]
    answer(stack, cancel, {LEVEL: 80})
    assert status(stack, device) == (200, "ok")
    stack << notification(request.token, mid=50, number=9)
    assert stack.take().type == RST
    stack.post(device, composite("unobserve", LIFETIME, LEVEL))
    assert status(stack, device) == (404, "no-observation")


@pytest.mark.spec("OB-5", "OB-8", "D-2")
def test_a_cancel_after_a_restart_repeats_the_format_that_the_device_took(stack: Stack, device: Any) -> None:
    stack.post(device, composite("observe", LEVEL))
    refuse(stack, stack.take(), codes.UNSUPPORTED_CONTENT_FORMAT)
    request = stack.take()
    payload = b'[{"n":"/3/0/9","v":80}]'
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=payload, content_format=110, observe=1)
    again = Stack(store=stack.store, clock=stack.clock, seed=1)
    again.post(device, composite("unobserve", LEVEL))
    cancel = again.take()
    assert (cancel.token, cancel.payload, options(cancel, 12)) == (request.token, request.payload, [110])
    again.close()


@pytest.mark.spec("OB-7")
def test_after_a_new_registration_the_list_is_observed_anew(stack: Stack, device: Any) -> None:
    first = observing(stack, device)
    join(stack, mid=9)
    again = stack.take()
    assert OBSERVE_0 in again.options
    assert (again.code, again.payload) == (first.code, first.payload)
    assert again.token != first.token
    answer(stack, again, {LEVEL: 70}, observe=1)
    assert last(stack, device)["data"] == {"3/0/9": 70}
    assert last(stack, device)["missing"] == ["1/0/1"]


@pytest.mark.spec("OB-8", "BLK-10")
def test_after_a_restart_a_large_notification_is_fetched_with_the_list(stack: Stack, device: Any) -> None:
    request = observing(stack, device)
    again = Stack(store=stack.store, clock=stack.clock, seed=1)
    whole = senml({LEVEL: 79, LIFETIME: 300}).ljust(32, b" ")
    block2, etag = 23, (4, b"e")
    again << con(
        codes.CONTENT,
        mid=50,
        token=request.token,
        payload=whole[:16],
        content_format=112,
        observe=2,
        extra=[(block2, b"\x08"), etag],
    )
    rest = again.take()
    assert (rest.code, rest.payload, options(rest, 12)) == (codes.FETCH, request.payload, [112])
    assert options(rest, block2) == [0x10]
    assert options(rest, 6) == []
    part = {"payload": whole[16:].rstrip(b" "), "content_format": 112, "extra": [(block2, b"\x10"), etag]}
    again << ack(codes.CONTENT, mid=rest.mid, token=rest.token, **part)
    assert last(again, device)["data"] == {"3/0/9": 79, "1/0/1": 300}
    again.close()


@pytest.mark.spec("LwM2M-contract 7", "ATT-17")
def test_attributes_go_with_the_list_to_a_device_of_1_2(stack: Stack) -> None:
    device = join(stack, version="1.2")
    request = observing(stack, device, attributes=(("pmin", "5"), ("con", "1")))
    assert sorted(query_of(request)) == [b"con=1", b"pmin=5"]
    stack.post(device, composite("unobserve", LEVEL, LIFETIME))
    assert query_of(stack.take()) == []


@pytest.mark.spec("LwM2M-contract 7")
@pytest.mark.parametrize(
    ("version", "attributes", "reason"),
    [
        ("1.1", (("pmin", "5"),), "not-acceptable"),
        ("1.2", (("gt", "5"),), "adapter-bad-request"),
        ("1.2", (("pmin", "50"), ("pmax", "5")), "adapter-bad-request"),
    ],
)
def test_attributes_that_a_list_cannot_have_are_answered_at_once(
    stack: Stack, version: str, attributes: Any, reason: str
) -> None:
    device = join(stack, version=version)
    stack.post(device, composite("observe", LEVEL, LIFETIME, attributes=attributes))
    assert stack.silent()
    assert status(stack, device)[1] == reason


@pytest.mark.spec("LwM2M-contract 7", "ATT-17")
def test_a_device_that_refuses_a_query_with_a_list_is_not_observed(stack: Stack) -> None:
    device = join(stack, version="1.2")
    stack.post(device, composite("observe", LEVEL, attributes=(("pmin", "5"),)))
    refuse(stack, stack.take(), codes.BAD_OPTION)
    assert status(stack, device) == (400, "device-bad-request")
    assert "to the attributes" in last(stack, device)["status"]["detail"]
    stack.post(device, composite("observe", LEVEL))
    assert query_of(stack.take()) == []


@pytest.mark.spec("OB-1")
def test_a_list_answered_with_values_alone_is_not_observed(stack: Stack, device: Any) -> None:
    stack.post(device, composite("observe", LEVEL))
    answer(stack, stack.take(), {LEVEL: 80})
    assert status(stack, device) == (500, "observe-no-id")


@pytest.mark.spec("QM-3", "D2C 7.3")
def test_a_list_waits_for_a_sleeper_and_survives_a_restart(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack << after(94)
    stack.post(device, composite("read", LEVEL, LIFETIME), writing({LIFETIME: 60}), read("/3/0/0"))
    again = Stack(store=stack.store, clock=stack.clock, seed=1)
    again.run(again.commands.recover())
    again << con(codes.POST, location, mid=7) >> ack(codes.CHANGED, mid=7)
    request = again.take()
    assert (request.code, listed(request)) == (codes.FETCH, [LIFETIME, LEVEL])
    answer(again, request, {LEVEL: 80})
    assert again.take().code == codes.IPATCH
    again.close()
