"""The grammar of outgoing messages."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.status_table import STATUS
from stellwerk.northbound.onem2m.command_text import MAX_COMMANDS, VERBS
from stellwerk.northbound.onem2m.commands import parse_commands


def only(content: Any, content_info: str | None = None) -> CommandRequest | RefusedRequest:
    (request,) = parse_commands(content, content_info)
    return request


def refusal(content: Any, content_info: str | None = None) -> RefusedRequest:
    request = only(content, content_info)
    assert isinstance(request, RefusedRequest)
    return request


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize(
    ("words", "verb"),
    [
        ("READ RD GET read Rd", "read"),
        ("EXECUTE EXE EXEC POST exe", "execute"),
        ("OBSERVE OBS observe", "observe"),
        ("UNOBSERVE UOBS unObserve", "unobserve"),
    ],
)
def test_every_word_for_a_method_is_understood_in_both_modes(words: str, verb: str):
    for word in words.split():
        assert only(f"{word} /3442/0/2") == CommandRequest(verb, "/3442/0/2", f"{word} /3442/0/2")
        item = {"method": word, "path": "/3442/0/2"}
        assert only(item, "application/json:0") == CommandRequest(verb, "/3442/0/2", item)


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize("word", ["WRITE", "WR", "PUT", "write"])
def test_a_write_carries_its_value_as_text_or_as_json(word: str):
    text = only(f"{word} /3442/0/110 Hello you")
    assert (text.value, text.has_value, text.from_text) == ("Hello you", True, True)
    item = only({"method": word, "path": "/3442/0/110", "value": [1, {"a": None}]})
    assert (item.value, item.has_value, item.from_text) == ([1, {"a": None}], True, False)


@pytest.mark.spec("D2C 7.2")
def test_several_commands_keep_their_order_and_their_own_text():
    requests = parse_commands("READ /6; RD /3/0/0 ;;\n GET /3303\n", None)
    assert [(each.path, each.content) for each in requests] == [
        ("/6", "READ /6"),
        ("/3/0/0", "RD /3/0/0"),
        ("/3303", "GET /3303"),
    ]


@pytest.mark.spec("QM-5")
@pytest.mark.parametrize("priority", [5, "5", -100, 0])
def test_an_object_may_say_its_priority(priority: Any):
    item = {"method": "read", "path": "/6", "priority": priority}
    (request,) = parse_commands(item, "application/json:0")
    assert request.priority == int(priority)


@pytest.mark.spec("QM-5")
@pytest.mark.parametrize("priority", [101, "high", 1.5, True, [5], 10**30])
def test_a_priority_that_is_no_number_in_range_is_refused(priority: Any):
    (request,) = parse_commands({"method": "read", "path": "/6", "priority": priority}, "application/json:0")
    assert isinstance(request, RefusedRequest)
    assert request.reason == "adapter-bad-request"
    assert "a whole number from -100 to 100" in request.detail


@pytest.mark.spec("D2C 7.2")
def test_a_list_of_objects_is_one_command_each():
    items = [{"method": "read", "path": "/6"}, {"method": "READ", "path": "/3/0/0"}]
    assert parse_commands(items, "application/json:0") == [
        CommandRequest("read", "/6", items[0]),
        CommandRequest("read", "/3/0/0", items[1]),
    ]


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("WRITE /1/0/1 'a;b'", "a;b"),
        ('WRITE /1/0/1 "it\'s; fine"  ', "it's; fine"),
        ('WRITE /1/0/1 ""', ""),
        ("WRITE /1/0/1 it's", "it's"),
        ("WRITE /1/0/1 ?what", "?what"),
        ('WRITE /1/0/1 say "x"', 'say "x"'),
        ("WRITE   /1/0/1\tx  y ", "x  y"),
    ],
)
def test_quotes_protect_a_value_that_starts_with_one(text: str, value: str):
    request = only(text)
    assert isinstance(request, CommandRequest)
    assert (request.value, request.has_value) == (value, True)


def test_an_apostrophe_inside_a_plain_value_does_not_swallow_the_next_command():
    requests = parse_commands("WRITE /1/0/1 it's; READ /3", None)
    assert [each.content for each in requests] == ["WRITE /1/0/1 it's", "READ /3"]


@pytest.mark.spec("D2C 7.2", "D-8")
@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ("EXECUTE /3/0/4", ""),
        ("EXECUTE /3/0/4?5", "5"),
        ("EXE /3/0/4 ?0='x',1", "0='x',1"),
        ("EXE /3/0/4?0='x;y',1", "0='x;y',1"),
        ("EXE /3/0/4 5", "5"),
        ("EXE /3/0/4 \"0='a;b'\"", "0='a;b'"),
        ({"method": "EXE", "path": "/3/0/4", "args": "0='x'"}, "0='x'"),
        ({"method": "EXE", "path": "/3/0/4", "value": "1"}, "1"),
        ({"method": "EXE", "path": "/3/0/4", "value": 5}, "5"),
    ],
)
def test_an_execute_carries_its_argument_string_as_it_stands(content: Any, arguments: str):
    request = only(content)
    assert isinstance(request, CommandRequest)
    assert (request.verb, request.arguments) == ("execute", arguments)


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize(
    "content",
    [
        "OBSERVE /3303/0/5700?pmin=10&pmax=60&gt=2.5&step=0.5",
        "OBS /3303/0/5700 ? pmin = 10 & pmax=60 & gt=2.5 & steps=5e-1",
        {
            "method": "OBS",
            "path": "/3303/0/5700",
            "attributes": {"pmin": 10, "pmax": "60", "gt": 2.5, "st": 0.5},
        },
    ],
)
def test_observe_takes_parameters_with_blanks_and_synonyms(content: Any):
    request = only(content)
    assert isinstance(request, CommandRequest)
    assert request.attributes == (("pmin", "10"), ("pmax", "60"), ("gt", "2.5"), ("st", "0.5"))


@pytest.mark.spec("D2C 7.2")
def test_unobserve_takes_the_same_parameters_and_ignores_them():
    request = only("UNOBSERVE /3303/0/5700?pmin=10&gt=3")
    assert request == CommandRequest("unobserve", "/3303/0/5700", "UNOBSERVE /3303/0/5700?pmin=10&gt=3")


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize(
    ("content", "verb"),
    [
        ("DISCOVER /3/0", "discover"),
        ("discover /3303?depth=2", "discover"),
        ("DELETE /3303/1", "delete"),
        ("DELETE /3/0/11/0", "delete"),
        ("CREATE /3303", "create"),
        ('CREATE /3303/1 {"5701": "Cel"}', "create"),
        ("WRITE-ATTRIBUTES /3303/0/5700?pmin=5&pmax", "write-attributes"),
        ("CANCEL /3303/0/5700", "unobserve"),
        ({"method": "DISCOVER", "path": "/3/0"}, "discover"),
        ({"method": "Create", "path": "/3303/1", "value": {"5701": "Cel"}}, "create"),
        ({"method": "DELETE", "path": "/3303/1"}, "delete"),
        ({"method": "WRITE-ATTRIBUTES", "path": "/3/0", "attributes": {"pmin": 5, "pmax": None}}, "write-attributes"),
    ],
)
def test_the_methods_that_are_ours_take_both_modes(content: Any, verb: str):
    request = only(content)
    assert isinstance(request, CommandRequest), request
    assert (request.verb, request.content) == (verb, content)


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('WRITE /3442/0 {"110": "Hello; you", "120": [1, 2]}', {"110": "Hello; you", "120": [1, 2]}),
        ('CREATE /3442/1 {"110": "}"} ; READ /3', {"110": "}"}),
        ({"method": "WRITE", "path": "/3442/0", "value": {"110": "Hello"}}, {"110": "Hello"}),
    ],
)
def test_an_instance_is_written_as_json_of_its_resources(content: Any, value: Any):
    request = parse_commands(content, None)[0]
    assert isinstance(request, CommandRequest), request
    assert (request.value, request.has_value, request.from_text) == (value, True, False)


@pytest.mark.spec("D2C 7.2")
def test_attributes_are_unset_with_a_name_alone_or_with_null():
    for content in (
        "WRITE-ATTRIBUTES /3/0/9?pmin=5&pmax",
        {"method": "WRITE-ATTRIBUTES", "path": "/3/0/9", "attributes": {"pmin": 5, "pmax": None}},
    ):
        request = only(content)
        assert isinstance(request, CommandRequest)
        assert set(request.attributes) == {("pmin", "5"), ("pmax", None)}


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize(
    ("content", "verb", "paths", "attributes"),
    [
        ("READ-COMPOSITE /3/0/0 /6", "read-composite", ("/3/0/0", "/6"), ()),
        ("read-composite /3/0/0, /6 ,/1", "read-composite", ("/3/0/0", "/6", "/1"), ()),
        ({"method": "Read-Composite", "paths": ["/3/0/0", "/6"]}, "read-composite", ("/3/0/0", "/6"), ()),
        ({"method": "Read-Composite", "path": "/", "paths": ["/3"]}, "read-composite", ("/3",), ()),
        ("observe-composite /3", "observe-composite", ("/3",), ()),
        ("READ-COMPOSITE /", "read-composite", ("/",), ()),
        ("OBSERVE-COMPOSITE /?pmin=5", "observe-composite", ("/",), (("pmin", "5"),)),
        ("OBSERVE-COMPOSITE /3/0/9 /6?pmin=5", "observe-composite", ("/3/0/9", "/6"), (("pmin", "5"),)),
        (
            {"method": "OBSERVE-COMPOSITE", "paths": ["/3/0/9"], "attributes": {"pmax": 60}},
            "observe-composite",
            ("/3/0/9",),
            (("pmax", "60"),),
        ),
        ("UNOBSERVE-COMPOSITE /3/0/9 /6?pmin=5", "unobserve-composite", ("/3/0/9", "/6"), ()),
        ("CANCEL-COMPOSITE /3?passive", "unobserve-composite", ("/3",), (("passive", None),)),
        ("UNOBSERVE /3?passive=1&pmin=3", "unobserve", (), (("passive", None),)),
        ("UNOBSERVE /3?passive=0", "unobserve", (), ()),
    ],
)
def test_operations_on_several_paths_take_a_list(content: Any, verb: str, paths: Any, attributes: Any):
    request = only(content)
    assert isinstance(request, CommandRequest)
    assert (request.verb, request.paths, request.attributes) == (verb, paths, attributes)
    assert request.path == (",".join(paths) or "/3")


@pytest.mark.spec("D2C 7.2")
@pytest.mark.parametrize(
    "content",
    [
        'WRITE-COMPOSITE {"/3/0/14": "+01; ?", "/1/0": {"1": 60}}; ',
        {"method": "WRITE-COMPOSITE", "path": "/", "value": {"/3/0/14": "+01; ?", "/1/0": {"1": 60}}},
    ],
)
def test_a_write_of_several_paths_takes_a_map_of_values(content: Any):
    request = only(content)
    assert isinstance(request, CommandRequest)
    assert request.verb == "write-composite"
    assert request.value == {"/3/0/14": "+01; ?", "/1/0": {"1": 60}}
    assert not request.from_text


@pytest.mark.spec("D2C 7.2", "D2C 12")
@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        ("READ-COMPOSITE", "path-invalid", "needs paths"),
        ("READ-COMPOSITE /3/0/9 six", "path-invalid", "'six'"),
        ('WRITE-COMPOSITE {"/": 5}', "path-invalid", "name an object"),
        ("READ-COMPOSITE /3?pmin=5", "adapter-bad-request", "nothing behind"),
        ('READ-COMPOSITE /3 {"a": 1}', "adapter-bad-request", "paths alone"),
        ("READ-COMPOSITE " + " ".join(f"/3/0/{n}" for n in range(101)), "path-invalid", "100 may be"),
        ({"method": "READ-COMPOSITE", "path": "/3/0/9"}, "path-invalid", '"paths"'),
        ({"method": "READ-COMPOSITE"}, "path-invalid", '"paths"'),
        ({"method": "READ-COMPOSITE", "paths": "/3/0/9"}, "path-invalid", '"paths"'),
        ({"method": "READ-COMPOSITE", "paths": [3]}, "path-invalid", '"paths"'),
        ({"method": "READ-COMPOSITE", "paths": []}, "path-invalid", "needs paths"),
        ({"method": "READ-COMPOSITE", "paths": ["/3"], "value": 1}, "adapter-bad-request", "no use"),
        ({"method": "OBSERVE-COMPOSITE", "paths": ["/3"], "attributes": 5}, "adapter-bad-request", "an object"),
        ("OBSERVE-COMPOSITE /3/0/9?pmin=x", "adapter-bad-request", "whole number"),
        ("OBSERVE-COMPOSITE /3/0/9?passive", "adapter-bad-request", "no parameter"),
        ("UNOBSERVE-COMPOSITE /3?passive=2", "adapter-bad-request", "passive is 1"),
        ("WRITE-COMPOSITE", "value-missing", "values by path"),
        ("WRITE-COMPOSITE {}", "value-missing", "values by path"),
        ("WRITE-COMPOSITE /3/0/14 5", "adapter-bad-request", "values by path"),
        ("WRITE-COMPOSITE {/3/0/14: 5}", "adapter-bad-request", "values by path"),
        ('WRITE-COMPOSITE {"/3": 5}', "path-invalid", "needs an instance or a resource"),
        ('WRITE-COMPOSITE {"3/0/14": 5}', "path-invalid", "starts with '/'"),
        ({"method": "WRITE-COMPOSITE", "path": "/1", "value": {"/1/0/1": 5}}, "path-invalid", '"value"'),
        ({"method": "WRITE-COMPOSITE", "value": [1]}, "adapter-bad-request", "values by path"),
    ],
)
def test_lists_that_cannot_be_are_refused_with_what_would_be_right(content: Any, reason: str, said: str):
    refused = refusal(content)
    assert refused.reason == reason
    assert said in refused.detail
    assert refused.method.endswith("-composite")


@pytest.mark.spec("D2C 7.2", "D2C 12")
@pytest.mark.parametrize(
    ("content", "reason", "method"),
    [
        ("FETCH /3", "method-unknown", ""),
        ("READ/3", "method-unknown", ""),
        ({"path": "/3"}, "method-unknown", ""),
        ({"method": 7, "path": "/3"}, "method-unknown", ""),
        ("WRITE /3442/0/110", "value-missing", "write"),
        ({"method": "WRITE", "path": "/3442/0/110", "value": None}, "value-missing", "write"),
        ("READ", "path-invalid", "read"),
        ("READ 3/0/0", "path-invalid", "read"),
        ("READ /", "path-invalid", "read"),
        ("READ /3/", "path-invalid", "read"),
        ("READ /3/0/0/0/0", "path-invalid", "read"),
        ("READ /65535", "path-invalid", "read"),
        ("READ /70000", "path-invalid", "read"),
        ("READ /" + "1" * 5000, "path-invalid", "read"),
        ("EXECUTE /3/0", "path-invalid", "exec"),
        ("WRITE /3 x", "path-invalid", "write"),
        ({"method": "READ"}, "path-invalid", "read"),
        ({"method": "READ", "path": 3}, "path-invalid", "read"),
        ("READ /3 now", "adapter-bad-request", "read"),
        ("READ /3?x=1", "adapter-bad-request", "read"),
        ("WRITE /1/0/1 'open", "adapter-bad-request", "write"),
        ("WRITE /1/0/1 'a' b", "adapter-bad-request", "write"),
        ("OBSERVE /3 pmin=1", "adapter-bad-request", "observe"),
        ("OBSERVE /3?pmin", "adapter-bad-request", "observe"),
        ("OBSERVE /3?pmin=1.5", "adapter-bad-request", "observe"),
        ("OBSERVE /3?pmin=9&pmax=3", "adapter-bad-request", "observe"),
        ("OBSERVE /3?pmin=1&pmin=2", "adapter-bad-request", "observe"),
        ("OBSERVE /3?lt=5&gt=4", "adapter-bad-request", "observe"),
        ("OBSERVE /3?speed=4", "adapter-bad-request", "observe"),
        ({"method": "OBS", "path": "/3", "attributes": {"pmin": [1]}}, "adapter-bad-request", "observe"),
        ({"method": "WRITE", "path": "/1/0/1", "vlaue": 1}, "adapter-bad-request", "write"),
        ({"method": "READ", "path": "/1/0/1", "value": 1}, "adapter-bad-request", "read"),
        ("WRITE /3442/0 Hello", "adapter-bad-request", "write"),
        ("WRITE /3442/0 [1]", "adapter-bad-request", "write"),
        ("CREATE /3442/0/1", "path-invalid", "create"),
        ("CREATE /3442 Hello", "adapter-bad-request", "create"),
        ("CREATE /3442?x=1", "path-invalid", "create"),
        ("DELETE /3442", "path-invalid", "delete"),
        ("DELETE /3442/0 x", "adapter-bad-request", "delete"),
        ("DISCOVER /3?pmin=1", "adapter-bad-request", "discover"),
        ("DISCOVER /3?depth=9", "adapter-bad-request", "discover"),
        ("WRITE /1/0/1?pmin=1 x", "path-invalid", "write"),
        ("UNOBSERVE /3 now", "adapter-bad-request", "unobserve"),
        ({"method": "OBS", "path": "/3", "attributes": 5}, "adapter-bad-request", "observe"),
        ({"method": "EXE", "path": "/3/0/4", "args": "1", "value": "2"}, "adapter-bad-request", "exec"),
        ({"method": "EXE", "path": "/3/0/4", "args": 10}, "adapter-bad-request", "exec"),
        ({"method": "EXE", "path": "/3/0/4", "args": True}, "adapter-bad-request", "exec"),
        ("READ\u00a0/3\u0000", "path-invalid", "read"),
        ("", "adapter-bad-request", ""),
        (" ; ;", "adapter-bad-request", ""),
        ([], "adapter-bad-request", ""),
        (7, "format", ""),
        (None, "format", ""),
        (["READ /3"], "format", ""),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_reason_and_a_hint(content: Any, reason: str, method: str):
    refused = refusal(content)
    assert (refused.reason, refused.method) == (reason, method)
    assert len(refused.detail) > 15
    assert len(refused.path) <= 100


@pytest.mark.spec("D2C 4.4", "D2C 12")
@pytest.mark.parametrize(
    ("content", "content_info"),
    [
        ("READ /3", "text/plain:1"),
        ("READ /3", "image/png:0"),
        ({"method": "READ", "path": "/3"}, "text/plain:0"),
        ({"method": "READ", "path": "/3"}, "application/json:2"),
    ],
)
def test_a_content_info_that_does_not_fit_is_refused_as_format(content: Any, content_info: str):
    assert refusal(content, content_info).reason == "format"


@pytest.mark.parametrize(
    "content_info", [None, "text/plain:0", "application/json:0", "text/plain", "application/json:3"]
)
def test_text_is_understood_under_every_plain_content_info(content_info: str | None):
    assert only("READ /3", content_info) == CommandRequest("read", "/3", "READ /3")


def test_a_failing_command_leaves_the_others_alone():
    requests = parse_commands("READ /3; JUMP /4; READ /6", None)
    assert [type(each) for each in requests] == [CommandRequest, RefusedRequest, CommandRequest]
    assert requests[1].content == "JUMP /4"


def test_a_message_with_too_many_commands_is_refused_as_a_whole():
    assert len(parse_commands("READ /3;" * MAX_COMMANDS, None)) == MAX_COMMANDS
    assert refusal("READ /3;" * (MAX_COMMANDS + 1)).reason == "adapter-bad-request"
    assert refusal([{"method": "READ", "path": "/3"}] * (MAX_COMMANDS + 1)).reason == "adapter-bad-request"


def check(requests: list[CommandRequest | RefusedRequest]) -> None:
    assert requests
    for each in requests:
        if isinstance(each, RefusedRequest):
            assert each.reason in STATUS
            assert each.detail
        else:
            assert each.path.startswith("/")


WORDS = st.sampled_from(
    [*VERBS, "JUMP", "/3", "/3/0/0", "/1/0/1", "?", "pmin=1", "&", ";", " ", "'", '"', "0='a;b'", "x"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["method", "path", "value", "attributes", "args", "paths", "x"]), inner)
    ),
    max_leaves=6,
)


@given(st.lists(WORDS | st.text(max_size=5), max_size=20).map(" ".join), st.none() | st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_any_text_is_understood_or_refused(content: str, content_info: str | None):
    check(parse_commands(content, content_info))


@given(JSON, st.none() | st.just("application/json:0"))
@settings(max_examples=150, deadline=None)
def test_any_json_is_understood_or_refused(content: Any, content_info: str | None):
    requests = parse_commands(content, content_info)
    check(requests)
    if isinstance(content, list) and content:
        assert len(requests) == len(content)


@given(
    st.fixed_dictionaries(
        {"method": st.sampled_from(sorted(VERBS)), "path": st.sampled_from(["/3/0/4", "/3", " /1/0/1 "])},
        optional={
            "value": JSON,
            "attributes": JSON | st.dictionaries(st.sampled_from(["pmin", "st"]), JSON),
            "args": JSON,
        },
    )
)
@settings(max_examples=150, deadline=None)
def test_any_object_that_looks_like_a_command_is_understood_or_refused(content: dict[str, Any]):
    check(parse_commands(content, "application/json:0"))


@given(
    st.lists(st.sampled_from(["READ /3", "WRITE /1/0/1 'a;b'", "EXE /3/0/4?0=';'", "JUMP", "WRITE /1/0/1"]), max_size=8)
)
@settings(max_examples=100, deadline=None)
def test_each_part_of_a_text_yields_one_result(parts: list[str]):
    requests = parse_commands(";".join(parts), None)
    assert [each.content for each in requests] == parts or (not parts and len(requests) == 1)
