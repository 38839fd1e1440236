"""What a device does not take in one way it is asked in another; what cannot be had is said."""

from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.coap import codes
from stellwerk.coap.message import RST, Message
from stellwerk.coap.options import encode_uint
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import NOTIFICATION, execute, path_of, read, status, write
from tests.scenario.test_composites import answer, join, last, options, refuse
from tests.scenario.test_observations import (
    OBSERVE_0,
    OBSERVE_1,
    VALUE,
    establish,
    notification,
    observe,
    unobserve,
)
from tests.scenario.test_operations import changed, command, query_of
from tests.scenario.test_registration import register
from tests.scenario.test_storms import SLEEPER, responses

ATTRIBUTES = (("pmin", "10"), ("pmax", "60"))


def observing(attributes: Any = ATTRIBUTES) -> CommandRequest:
    return CommandRequest("observe", VALUE, f"OBSERVE {VALUE}?...", attributes=attributes)


def attributing(path: str, *attributes: tuple[str, str | None]) -> CommandRequest:
    return CommandRequest("write-attributes", path, f"WRITE-ATTRIBUTES {path}", attributes=attributes)


# -- formats (D-2) --


@pytest.mark.spec("D-2")
def test_a_format_that_was_refused_is_not_tried_again_in_this_registration(stack: Stack) -> None:
    device = join(stack, links=b"</1/0>,</3/0>")
    stack.post(device, read("/3/0/9"))
    for accept in (112, 110):
        request = stack.take()
        assert options(request, 17) == [accept]
        refuse(stack, request, codes.NOT_ACCEPTABLE)
    request = stack.take()
    assert options(request, 17) == [11542]
    changed(stack, request, codes.CONTENT, payload=b"\xc1\x09\x50", content_format=11542)
    assert last(stack, device)["data"] == {"3/0/9": 80}
    assert "format-changed" in stack.log(device)
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    assert options(request, 17) == [11542]
    changed(stack, request, codes.CONTENT, payload=b"\xc2\x00\x41\x42", content_format=11542)
    assert stack.log(device).count("format-changed") == 1
    join(stack, links=b"</1/0>,</3/0>", mid=9)
    stack.post(device, read("/3/0/9"))
    assert options(stack.take(), 17) == [112]


@pytest.mark.spec("D-2", "LwM2M-contract 0.1")
def test_a_device_that_lists_only_text_is_read_and_written_in_text(stack: Stack) -> None:
    device = join(stack, links=b'</>;rt="oma.lwm2m";ct=0,</1/0>,</3/0>')
    stack.post(device, read("/3/0/9"))
    request = stack.take()
    assert options(request, 17) == [0]
    changed(stack, request, codes.CONTENT, payload=b"80", content_format=0)
    assert last(stack, device)["data"] == {"3/0/9": 80}
    stack.post(device, write("/1/0/1", "60"))
    request = stack.take()
    assert (options(request, 12), request.payload) == ([0], b"60")


@pytest.mark.spec("D-2")
def test_a_device_that_takes_no_format_at_all_refuses_in_the_end(stack: Stack) -> None:
    device = join(stack, links=b'</>;rt="oma.lwm2m";ct="110 112",</3/0>')
    stack.post(device, read("/3"))
    refuse(stack, stack.take(), codes.NOT_ACCEPTABLE)
    refuse(stack, stack.take(), codes.NOT_ACCEPTABLE)
    assert stack.silent()
    assert status(stack, device) == (406, "device-not-acceptable")


@pytest.mark.spec("D-1", "D-2", "LwM2M-contract 0.1")
def test_a_device_of_1_2_that_lists_lwm2m_cbor_is_asked_for_it(stack: Stack) -> None:
    device = join(stack, version="1.2", links=b'</>;rt="oma.lwm2m";ct="112 11544",</3/0>')
    stack.post(device, read("/3/0/9"))
    request = stack.take()
    assert options(request, 17) == [11544]
    # {[3, 0, 9]: 80}
    changed(stack, request, codes.CONTENT, payload=b"\xa1\x83\x03\x00\x09\x18\x50", content_format=11544)
    assert last(stack, device)["data"] == {"3/0/9": 80}


# -- attributes within an Observe (§7) --


@pytest.mark.spec("LwM2M-contract 7", "ETS 312", "ATT-16")
def test_attributes_go_within_the_observe_to_a_device_of_1_2_and_end_with_it(stack: Stack) -> None:
    device = join(stack, version="1.2")
    stack.post(device, observing())
    request = stack.take()
    assert OBSERVE_0 in request.options
    assert sorted(query_of(request)) == [b"pmax=60", b"pmin=10"]
    token = establish(stack, request)
    assert status(stack, device) == (200, "ok")
    stack << notification(token, mid=50, number=2) >> ack(mid=50)
    assert last(stack, device)["attributes"] == {"pmin": 10, "pmax": 60}
    stack.post(device, unobserve())
    cancel = stack.take()
    assert (cancel.token, query_of(cancel)) == (token, [])
    answer(stack, cancel, {VALUE: 1})
    # Nothing was written, so nothing is to be unset.
    assert stack.silent()


@pytest.mark.spec("LwM2M-contract 7", "ETS 313")
def test_attributes_within_an_observe_go_before_those_attached(stack: Stack) -> None:
    device = join(stack, version="1.2")
    stack.post(device, attributing(VALUE, ("pmin", "20"), ("pmax", "40")), observing())
    changed(stack, stack.take())
    request = stack.take()
    assert sorted(query_of(request)) == [b"pmax=60", b"pmin=10"]
    token = establish(stack, request)
    stack << notification(token, mid=50, number=2) >> ack(mid=50)
    assert last(stack, device)["attributes"] == {"pmin": 10, "pmax": 60}


@pytest.mark.spec("LwM2M-contract 7", "ATT-16")
@pytest.mark.parametrize("code", [codes.BAD_REQUEST, codes.BAD_OPTION, codes.METHOD_NOT_ALLOWED])
def test_attributes_that_are_refused_within_the_observe_are_written_before_it_from_then_on(
    stack: Stack, code: int
) -> None:
    device = join(stack, version="1.2")
    stack.post(device, observing())
    refuse(stack, stack.take(), code)
    written = stack.take()
    assert (written.code, sorted(query_of(written))) == (codes.PUT, [b"pmax=60", b"pmin=10"])
    changed(stack, written)
    plain = stack.take()
    assert OBSERVE_0 in plain.options
    assert query_of(plain) == []
    # The relation's token is its own.
    assert written.token != plain.token
    establish(stack, plain)
    assert status(stack, device) == (200, "ok")
    assert "attributes-apart" in stack.log(device)
    stack.post(device, unobserve())
    answer(stack, stack.take(), {VALUE: 1})
    unset = stack.take()
    assert (unset.code, sorted(query_of(unset))) == (codes.PUT, [b"pmax", b"pmin"])
    changed(stack, unset)
    stack.post(device, observing())
    assert stack.take().code == codes.PUT


@pytest.mark.spec("LwM2M-contract 7")
def test_an_observe_refused_with_its_attributes_written_too_is_not_taken_for_their_fault_for_ever(
    stack: Stack,
) -> None:
    device = join(stack, version="1.2")
    stack.post(device, observing())
    refuse(stack, stack.take(), codes.METHOD_NOT_ALLOWED)
    refuse(stack, stack.take(), codes.METHOD_NOT_ALLOWED)
    assert stack.silent()
    assert status(stack, device) == (405, "device-method")
    stack.post(device, observing())
    assert OBSERVE_0 in stack.take().options


@pytest.mark.spec("LwM2M-contract 7")
@pytest.mark.parametrize(("observes", "reason"), [(False, "device-method"), (None, "observe-no-id")])
def test_attributes_written_for_an_observation_that_came_to_nothing_are_taken_away(
    stack: Stack, observes: bool | None, reason: str
) -> None:
    device = join(stack)
    stack.post(device, observing())
    changed(stack, stack.take())
    if observes is None:
        answer(stack, stack.take(), {VALUE: 1})
    else:
        refuse(stack, stack.take(), codes.METHOD_NOT_ALLOWED)
    unset = stack.take()
    assert (unset.code, sorted(query_of(unset))) == (codes.PUT, [b"pmax", b"pmin"])
    changed(stack, unset)
    assert status(stack, device)[1] == reason


@pytest.mark.spec("OB-7", "LwM2M-contract 7")
def test_after_a_new_registration_a_device_of_1_2_gets_them_within_the_observe_again(stack: Stack) -> None:
    device = join(stack, version="1.2")
    stack.post(device, observing())
    establish(stack, stack.take())
    join(stack, version="1.2", mid=9)
    request = stack.take()
    assert OBSERVE_0 in request.options
    assert sorted(query_of(request)) == [b"pmax=60", b"pmin=10"]


# -- attributes under a live observation (§7) --


@pytest.mark.spec("LwM2M-contract 7", "ATT-15")
@pytest.mark.parametrize("path", [VALUE, "/3303/0", "/3303"])
def test_other_attributes_at_or_above_an_observed_path_make_it_observed_anew(stack: Stack, path: str) -> None:
    device = join(stack)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack.post(device, attributing(path, ("pmin", "5")))
    changed(stack, stack.take())
    assert status(stack, device) == (200, "ok")
    cancel = stack.take()
    assert OBSERVE_1 in cancel.options
    assert cancel.token == token
    answer(stack, cancel, {VALUE: 1})
    again = stack.take()
    assert OBSERVE_0 in again.options
    assert establish(stack, again) == token
    assert "observation-renewed" in stack.log(device)
    stack << notification(token, mid=50, number=1) >> ack(mid=50)
    assert last(stack, device)["messageType"] == "notify"


@pytest.mark.spec("LwM2M-contract 7", "ATT-13")
def test_attributes_elsewhere_or_below_leave_an_observation_alone(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, observe("/3303/0"))
    establish(stack, stack.take())
    stack.post(device, attributing(VALUE, ("pmin", "5")), attributing("/3/0", ("pmin", "5")))
    changed(stack, stack.take())
    changed(stack, stack.take())
    assert stack.silent()


@pytest.mark.spec("LwM2M-contract 7", "OB-7")
def test_attributes_written_to_an_observed_path_are_those_of_the_observation_from_then_on(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, observing())
    changed(stack, stack.take())
    token = establish(stack, stack.take())
    stack.post(device, attributing(VALUE, ("pmin", "5"), ("pmax", None)))
    changed(stack, stack.take())
    answer(stack, stack.take(), {VALUE: 1})
    establish(stack, stack.take())
    stack << notification(token, mid=50, number=2) >> ack(mid=50)
    assert last(stack, device)["attributes"] == {"pmin": 5}
    join(stack, mid=9)
    written = stack.take()
    assert (written.code, query_of(written)) == (codes.PUT, [b"pmin=5"])


@pytest.mark.spec("LwM2M-contract 7", "QM-4")
def test_a_device_that_falls_asleep_before_the_cancel_is_asked_when_it_is_heard(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack.post(device, attributing(VALUE, ("pmin", "5")))
    changed(stack, stack.take())
    assert OBSERVE_1 in stack.take().options
    stack << after(120)
    stack.out.clear()
    stack << con(codes.POST, location, mid=7) >> ack(codes.CHANGED, mid=7)
    again = stack.take()
    assert OBSERVE_0 in again.options
    assert again.token == token


# -- the end of observations (OB-4, OB-5) --


@pytest.mark.spec("OB-5", "READ-8")
def test_a_passive_cancel_sends_nothing_and_resets_the_next_notification(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack.post(device, CommandRequest("unobserve", VALUE, "UNOBSERVE", attributes=(("passive", None),)))
    assert stack.silent()
    assert status(stack, device) == (200, "ok")
    stack << notification(token, mid=50, number=2)
    assert stack.take().type == RST
    stack.post(device, observe())
    assert OBSERVE_0 in stack.take().options


@pytest.mark.spec("OB-5", "QM-3")
def test_a_sleeping_device_is_not_waited_for_to_end_an_observation(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack << after(100)
    stack.post(device, unobserve())
    assert stack.silent()
    assert responses(stack, device) == [(200, "ok"), (200, "ok")]
    stack << notification(token, mid=50, number=2)
    assert stack.take().type == RST
    stack << con(codes.POST, location, mid=7) >> ack(codes.CHANGED, mid=7)
    assert stack.silent()


@pytest.mark.spec("OB-5", "QM-5")
def test_a_cancel_behind_another_command_of_a_sleeper_keeps_its_place(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    establish(stack, stack.take())
    stack << after(100)
    stack.post(device, read("/3/0/0"), unobserve())
    assert responses(stack, device) == [(200, "ok")]
    stack << con(codes.POST, location, mid=7) >> ack(codes.CHANGED, mid=7)
    assert path_of(stack.take()) == "/3/0/0"


@pytest.mark.spec("OB-4")
@pytest.mark.parametrize(
    ("code", "reason"), [(codes.NOT_FOUND, "device-not-found"), (codes.INTERNAL_SERVER_ERROR, "adapter")]
)
def test_an_error_ends_an_observation_and_applications_hear_of_it(stack: Stack, code: int, reason: str) -> None:
    device = join(stack)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack << con(code, mid=50, token=token) >> ack(mid=50)
    message = last(stack, device)
    assert message["messageType"] == "notify"
    assert message["resourcePath"] == VALUE
    assert message["status"]["reason"] == reason
    assert message["data"] is None
    assert "observation-ended" in stack.log(device)
    assert len(stack.values(device, VALUE)) == 1
    # The next registration sets it up again.
    join(stack, mid=9)
    assert OBSERVE_0 in stack.take().options


# -- instances (D-9, D-10) --


def create(path: str = "/3303") -> CommandRequest:
    return command("create", path, value={"5701": "Cel"}, has_value=True, from_text=False)


def instances(stack: Stack, device: Any) -> tuple[int, ...]:
    known = stack.registry.of(device.device_id)
    assert known is not None
    return tuple(known.registration.objects.objects[3303].instances)


def stored_instances(stack: Stack, device: Any) -> tuple[int, ...]:
    assert stack.store is not None
    found = stack.run(stack.store.registration_of(device.device_id))
    return tuple(found.objects.objects[3303].instances)


@pytest.mark.spec("D-9", "T-6")
def test_what_the_device_made_is_in_its_object_list_from_then_on(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, create())
    changed(stack, stack.take(), codes.CREATED, extra=[(8, b"3303"), (8, b"7")])
    assert instances(stack, device) == stored_instances(stack, device) == (0, 7)
    assert "instances-changed" in stack.log(device)


@pytest.mark.spec("D-9")
def test_an_instance_whose_id_the_caller_chose_needs_no_location(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, create("/3303/4"))
    changed(stack, stack.take(), codes.CREATED)
    assert stack.silent()
    assert last(stack, device)["createdPath"] == "3303/4"
    assert instances(stack, device) == (0, 4)


@pytest.mark.spec("D-9", "LwM2M-contract 13", "T-6")
def test_without_a_location_the_device_is_asked_what_there_is(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, create())
    changed(stack, stack.take(), codes.CREATED)
    discover = stack.take()
    assert (discover.code, path_of(discover), options(discover, 17)) == (codes.GET, "/3303", [40])
    links = b"</3303>;ver=1.1,</3303/0>,</3303/0/5700>,</3303/2>,</3303/2/5700>"
    changed(stack, discover, codes.CONTENT, payload=links, content_format=40)
    assert status(stack, device) == (200, "ok")
    assert last(stack, device)["createdPath"] == "3303/2"
    assert instances(stack, device) == (0, 2)


@pytest.mark.spec("D-9")
@pytest.mark.parametrize("payload", [None, b"no links"])
def test_what_was_made_stays_unknown_where_the_device_does_not_tell(stack: Stack, payload: bytes | None) -> None:
    device = join(stack)
    stack.post(device, create())
    changed(stack, stack.take(), codes.CREATED)
    if payload is None:
        refuse(stack, stack.take(), codes.NOT_FOUND)
    else:
        changed(stack, stack.take(), codes.CONTENT, payload=payload, content_format=40)
    assert status(stack, device) == (200, "ok")
    assert "createdPath" not in last(stack, device)
    assert instances(stack, device) == (0,)
    assert "instances-unknown" in stack.log(device)


@pytest.mark.spec("D-9", "MOD-1")
@pytest.mark.parametrize(
    "segments",
    [
        (b"nonsense",),
        (b"3303", b"x"),
        (b"3303", b"-1"),
        (b"9", b"1"),
        (b"3303", b"7", b"1"),
        (b"3303", b"65535"),
        (b"3303", b"9" * 200),
        (b"",) * 20,
    ],
)
def test_a_location_that_is_no_instance_of_the_object_is_as_good_as_none(
    stack: Stack, segments: tuple[bytes, ...]
) -> None:
    device = join(stack)
    stack.post(device, create())
    changed(stack, stack.take(), codes.CREATED, extra=[(8, each) for each in segments])
    changed(stack, stack.take(), codes.CONTENT, payload=b"</3303>,</3303/0>,</3303/2>", content_format=40)
    assert status(stack, device) == (200, "ok")
    assert last(stack, device)["createdPath"] == "3303/2"
    assert instances(stack, device) == (0, 2)
    assert "location-ignored" in stack.log(device)


@pytest.mark.spec("D-9", "LwM2M-contract 15")
def test_more_instances_than_a_device_may_register_leave_its_list_as_it_was(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, create())
    changed(stack, stack.take(), codes.CREATED)
    discover = stack.take()
    # As many links as one body may have; what else the device registered does not fit beside them.
    links = ",".join(f"</3303/{each}>" for each in range(2000)).encode()
    blocks = [links[at : at + 1024] for at in range(0, len(links), 1024)]
    for number, block in enumerate(blocks):
        more = number + 1 < len(blocks)
        option = [(23, encode_uint(number << 4 | (8 if more else 0) | 6))]
        changed(stack, discover, codes.CONTENT, payload=block, content_format=40, extra=option)
        if more:
            discover = stack.take()
    assert status(stack, device) == (200, "ok")
    assert instances(stack, device) == (0,)
    assert "instances-unknown" in stack.log(device)


@pytest.mark.spec("D-9")
def test_an_instance_that_the_device_refuses_is_not_listed(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, create("/3303/0"))
    refuse(stack, stack.take(), codes.BAD_REQUEST)
    assert status(stack, device) == (400, "device-bad-request")
    assert instances(stack, device) == (0,)


@pytest.mark.spec("D-10")
def test_what_the_device_deleted_is_gone_from_its_object_list_after_a_restart_too(stack: Stack) -> None:
    device = join(stack, links=b'</>;rt="oma.lwm2m";ct="110 112",</3303>;ver=1.1,</3303/0>,</3303/1>')
    stack.post(device, command("delete", "/3303/1"))
    refuse(stack, stack.take(), codes.DELETED)
    assert instances(stack, device) == stored_instances(stack, device) == (0,)
    stack.post(device, command("delete", "/3303/0"))
    refuse(stack, stack.take(), codes.DELETED)
    assert instances(stack, device) == ()
    known = stack.registry.of(device.device_id)
    assert known is not None
    assert known.registration.objects.objects[3303].version == "1.1"
    assert known.registration.objects.content_formats == (110, 112)


@pytest.mark.spec("D-10", "LwM2M-contract 0.1")
def test_one_resource_instance_can_be_deleted_since_1_1(stack: Stack) -> None:
    device = join(stack, links=b"</1/0>,</3/0>,</16/0>")
    stack.post(device, command("delete", "/16/0/0/2"))
    request = stack.take()
    assert (request.code, path_of(request)) == (codes.DELETE, "/16/0/0/2")
    refuse(stack, request, codes.DELETED)
    assert status(stack, device) == (200, "ok")


# -- what is refused here --


@pytest.mark.spec("LwM2M-contract 0.1", "D-5")
@pytest.mark.parametrize(
    "request_",
    [
        read("/3/0/7/0"),
        observe("/3/0/7/0"),
        command("delete", "/16/0/0/2"),
        attributing("/3/0/7/0", ("pmin", "5")),
        write("/16/0/0/2", "x"),
    ],
)
def test_a_device_of_1_0_is_never_asked_about_a_resource_instance(stack: Stack, request_: CommandRequest) -> None:
    device = join(stack, version="1.0", links=b"</1/0>,</3/0>,</16/0>")
    stack.post(device, request_)
    assert stack.silent()
    assert status(stack, device)[0] == 404
    assert "1.0 has no paths to resource instances" in last(stack, device)["status"]["detail"]


@pytest.mark.spec("D-5", "R-12")
@pytest.mark.parametrize("verb", ["read", "observe", "discover", "create", "write-attributes"])
@pytest.mark.parametrize("object_id", [0, 21, 23])
def test_objects_of_keys_are_never_asked_about(stack: Stack, verb: Any, object_id: int) -> None:
    device = join(stack)
    stack.post(device, command(verb, f"/{object_id}"))
    assert stack.silent()
    assert status(stack, device) == (404, "path-invalid")


@pytest.mark.spec("D-8")
@pytest.mark.parametrize("arguments", ["5", "0='x',1", "0,1,2,3,4,5,6,7,8,9", "3=''", "0='http://[a]?b=c&d;e'"])
def test_arguments_of_the_grammar_are_sent_as_they_stand(stack: Stack, arguments: str) -> None:
    device = join(stack)
    stack.post(device, CommandRequest("execute", "/3/0/4", "EXECUTE", arguments=arguments))
    request = stack.take()
    assert (options(request, 12), request.payload) == ([0], arguments.encode())


@pytest.mark.spec("D-8")
@pytest.mark.parametrize(
    "arguments",
    ["10", "0=x", "0='x'1", "0, 1", "0='a b'", "0='a\\b'", "0='a\"b'", "0='a", "1,1", ",", "0,", "x", "0='ä'", "5 "],
)
def test_arguments_outside_of_the_grammar_are_refused_with_what_is_right(stack: Stack, arguments: str) -> None:
    device = join(stack)
    stack.post(device, CommandRequest("execute", "/3/0/4", "EXECUTE", arguments=arguments))
    assert stack.silent()
    assert status(stack, device) == (400, "adapter-bad-request")
    assert (
        "5 or 0='x',1" in last(stack, device)["status"]["detail"] or "twice" in last(stack, device)["status"]["detail"]
    )


def test_an_execute_without_arguments_has_no_body(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, execute("/3/0/4"))
    request: Message = stack.take()
    assert (request.payload, options(request, 12)) == (b"", [])


def test_a_discover_that_is_no_list_of_links_is_refused(stack: Stack) -> None:
    device = join(stack)
    stack.post(device, command("discover", "/3"))
    changed(stack, stack.take(), codes.CONTENT, payload=NOTIFICATION, content_format=112)
    assert status(stack, device) == (500, "adapter")
