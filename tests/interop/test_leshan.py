"""Leshan's client and our server: a life from Register to the end of the lifetime, seen through Device to Cloud."""

# ruff: noqa: F811 - a fixture has the name of the parameter that asks for it
from collections.abc import Callable

import pytest
from leshan_client import LeshanClient
from leshan_fixtures import leshan, name, needs_leshan, server  # noqa: F401 - fixtures
from raw_coap import FETCH, GET, IPATCH, OBSERVE, PUT, URI_QUERY, Relay, decode
from served import Served

pytestmark = needs_leshan


@pytest.mark.spec("R-1")
@pytest.mark.spec("R-2")
def test_leshan_registers_and_the_message_carries_the_uplink_property(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    leshan()
    message = server.api.wait_type(name, "registration")
    assert message["content"]["nodeResourceName"] == name
    assert message["labels"] == ["Room:room123"]
    assert message["creator"] == "CNI-IPE"
    assert message["contentInfo"] == "application/json:0"


@pytest.mark.spec("D-1")
@pytest.mark.parametrize("answers_in", ["TLV", "SENML_CBOR", "SENML_JSON"])
def test_leshan_is_read_whole_and_in_part(
    server: Served, name: str, leshan: Callable[..., LeshanClient], answers_in: str
) -> None:
    leshan(answers_in=answers_in)
    whole = server.api.run(name, "READ /3")["content"]
    assert whole["status"]["code"] == 200
    assert whole["data"]["3/0/0"] == "Leshan"
    assert whole["data"]["3/0/9"] == 77
    assert whole["data"]["3/0/11/0"] == 0
    assert whole["data"]["3/0/13"] == 1_700_000_000_000
    one = server.api.run(name, "READ /3/0/0")["content"]
    assert (one["method"], one["resourcePath"], one["data"]) == ("read", "3/0/0", {"3/0/0": "Leshan"})
    place = server.api.run(name, "READ /6")["content"]
    assert place["data"] == {"6/0/0": 52.5, "6/0/1": 13.25, "6/0/5": 1_700_000_000_000}


def test_leshan_is_written_and_reads_back_what_was_written(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    client = leshan()
    answer = server.api.run(name, "WRITE /3/0/15 Europe/Berlin")["content"]
    assert (answer["method"], answer["status"]["code"], answer["data"]) == ("write", 200, None)
    client.wait_said("wrote 15 Europe/Berlin")
    assert server.api.run(name, "READ /3/0/15")["content"]["data"] == {"3/0/15": "Europe/Berlin"}


@pytest.mark.spec("D-8")
def test_leshan_executes_with_and_without_arguments(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    client = leshan()
    answer = server.api.run(name, "EXECUTE /3/0/4")["content"]
    assert (answer["method"], answer["status"]["code"], answer["data"]) == ("exec", 200, None)
    client.wait_said("executed 4")
    assert server.api.run(name, "EXECUTE /3/0/12?0='full',1")["content"]["status"]["code"] == 200
    assert client.wait_said("executed 12") == "executed 12 0='full',1"


def test_what_leshan_refuses_is_told_with_its_code(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    leshan()
    assert server.api.run(name, "READ /3/0/17")["content"]["status"]["code"] == 404
    # An object it did not register is not asked for.
    answer = server.api.run(name, "READ /3303/0/5700", is_sent=False)["content"]
    assert (answer["status"]["code"], answer["status"]["message"], answer["data"]) == (404, "not found", None)


@pytest.mark.spec("OB-1")
@pytest.mark.spec("OB-5")
def test_leshan_is_observed_notifies_and_is_released(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    relay = Relay(server.coap_port)
    try:
        client = leshan(port=relay.port)
        response = server.api.run(name, "OBSERVE /3/0/9")
        assert response["content"]["status"]["code"] == 200
        for level in (41, 40):
            client.order(f"battery {level}")
            notify = server.api.wait_latest(name, lambda each, level=level: each["content"].get("dataValue") == level)  # type: ignore[misc]
            assert (notify["content"]["resourcePath"], notify["content"]["attributes"]) == ("/3/0/9", {})
            assert notify["labels"][:2] == response["labels"][:2]
        released = server.api.run(name, "UNOBSERVE /3/0/9")["content"]
        assert (released["method"], released["status"]["code"]) == ("unobserve", 200)
        asked = [each for each in map(decode, relay.down) if each.number(OBSERVE) is not None]
        assert [(each.path, each.number(OBSERVE)) for each in asked] == [("/3/0/9", 0), ("/3/0/9", 1)]
        # The token is what the device knows the observation by (RFC 7641 3.6).
        assert asked[0].token == asked[1].token
        # Nothing comes any more: what Leshan says next is its Send.
        said = len(relay.up)
        client.order("battery 30")
        client.order("send")
        client.wait_said("sent CHANGED")
        assert [each.path for each in map(decode, relay.up[said:]) if each.code] == ["/dp"]
        assert server.api.wait_type(name, "send")["content"]["data"] == {"3/0/9": 30, "3/0/15": "UTC"}
        # And it can be observed anew.
        assert server.api.run(name, "OBSERVE /3/0/9")["content"]["data"] == {"3/0/9": 30}
    finally:
        relay.close()


@pytest.mark.spec("D2C 7.2")
def test_leshan_is_observed_with_attributes_keeps_to_them_and_forgets_them_with_the_observation(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    relay = Relay(server.coap_port)
    try:
        client = leshan(port=relay.port)
        assert server.api.run(name, "OBSERVE /3/0/9?lt=20&pmax=300")["content"]["status"]["code"] == 200
        client.order("battery 70")
        client.order("battery 10")
        notify = server.api.wait_type(name, "notify")["content"]
        assert (notify["dataValue"], notify["attributes"]) == (10, {"lt": 20, "pmax": 300})
        assert server.api.run(name, "UNOBSERVE /3/0/9")["content"]["status"]["code"] == 200
        assert server.api.run(name, "OBSERVE /3/0/9")["content"]["data"] == {"3/0/9": 10}
        client.order("battery 70")
        again = server.api.wait_type(name, "notify")["content"]
        assert (again["dataValue"], again["attributes"]) == (70, {})
        # The other 70 lay on the same side of the threshold.
        notifies = [each for each in server.messages(name) if each["messageType"] == "notify"]
        assert [each["dataValue"] for each in notifies] == [10, 70]
        asked = [(each.code, each.all(URI_QUERY)) for each in map(decode, relay.down) if each.path == "/3/0/9"]
        assert asked == [(PUT, [b"pmax=300", b"lt=20"]), (GET, []), (GET, []), (PUT, [b"pmax", b"lt"]), (GET, [])]
    finally:
        relay.close()


@pytest.mark.spec("D-3", "D-11")
def test_leshan_reads_and_writes_several_paths_at_once(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    relay = Relay(server.coap_port)
    try:
        client = leshan(port=relay.port)
        read = server.api.run(name, "READ-COMPOSITE /3/0/9 /6/0 /3/0/99")["content"]
        assert read["status"]["code"] == 200
        assert read["data"] == {"3/0/9": 77, "6/0/0": 52.5, "6/0/1": 13.25, "6/0/5": 1_700_000_000_000}
        assert read["missing"] == ["3/0/99"]
        written = server.api.run(name, 'WRITE-COMPOSITE {"/3/0/14": "+02", "/3/0/15": "Europe/Berlin"}')["content"]
        assert written["status"]["code"] == 200
        client.wait_said("wrote 15 Europe/Berlin")
        # All or nothing: the second value has no resource.
        refused = server.api.run(name, 'WRITE-COMPOSITE {"/3/0/14": "+03", "/3/0/99": 5}')["content"]
        assert refused["status"]["code"] != 200
        assert server.api.run(name, "READ-COMPOSITE /3/0/14 /3/0/15")["content"]["data"] == {
            "3/0/14": "+02",
            "3/0/15": "Europe/Berlin",
        }
        composites = [each for each in map(decode, relay.down) if each.code in (FETCH, IPATCH)]
        assert [each.path for each in composites] == ["/"] * 4
    finally:
        relay.close()


@pytest.mark.spec("OB-1", "OB-5")
def test_leshan_is_observed_at_several_paths_and_released(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    relay = Relay(server.coap_port)
    try:
        client = leshan(port=relay.port)
        assert server.api.run(name, "OBSERVE-COMPOSITE /3/0/15 /3/0/9")["content"]["status"]["code"] == 200
        client.order("battery 41")
        notify = server.api.wait_type(name, "notify")["content"]
        assert notify["resourcePath"] == "/3/0/9,/3/0/15"
        assert notify["data"] == {"3/0/9": 41, "3/0/15": "UTC"}
        assert server.api.run(name, "UNOBSERVE-COMPOSITE /3/0/9 /3/0/15")["content"]["status"]["code"] == 200
        asked = [each for each in map(decode, relay.down) if each.number(OBSERVE) is not None]
        assert [(each.code, each.number(OBSERVE)) for each in asked] == [(FETCH, 0), (FETCH, 1)]
        assert (asked[0].token, asked[0].payload) == (asked[1].token, asked[1].payload)
        # Nothing comes any more: what Leshan says next is its Send.
        said = len(relay.up)
        client.order("battery 30")
        client.order("send")
        client.wait_said("sent CHANGED")
        assert [each.path for each in map(decode, relay.up[said:]) if each.code] == ["/dp"]
    finally:
        relay.close()


def test_attributes_written_to_leshan_are_found_by_discover(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    leshan()
    assert server.api.run(name, "WRITE-ATTRIBUTES /3/0/9?pmin=2")["content"]["status"]["code"] == 200
    assert server.api.run(name, "DISCOVER /3/0/9")["content"]["data"] == {"3/0/9": {"pmin": 2}}


def test_leshan_sends(server: Served, name: str, leshan: Callable[..., LeshanClient]) -> None:
    client = leshan()
    client.order("send")
    client.wait_said("sent CHANGED")
    assert server.api.wait_type(name, "send")["content"]["data"] == {"3/0/9": 77, "3/0/15": "UTC"}


@pytest.mark.spec("R-7")
def test_leshan_updates_by_itself_and_keeps_its_registration(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    # Shorter than Leshan's own margin, so that it updates several times in the test.
    client = leshan(lifetime=4)
    client.wait_said("updated")
    server.api.wait_type(name, "update")
    client.wait_said("updated")
    assert server.api.run(name, "READ /3/0/0")["content"]["status"]["code"] == 200


def test_leshan_updates_when_it_is_told_to_and_deregisters_when_it_ends(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    client = leshan()
    client.order("update")
    client.wait_said("updated")
    message = server.api.wait_type(name, "update")
    assert message["content"]["messageTypeName"] == "registration-update"
    client.stop()
    assert server.api.wait_type(name, "deregistration")["content"]["messageTypeName"] == "de-registration"


@pytest.mark.spec("R-6")
def test_a_leshan_that_falls_silent_expires_and_then_nothing_is_sent_to_it(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    client = leshan(lifetime=3)
    client.kill()
    server.api.wait_type(name, "registration-expire", within_s=15)
    before = server.api.latest(name, "sent-msg")
    label = f"outgoing_msgRN:{server.api.command(name, 'READ /3')}"
    answer = server.api.wait_latest(name, lambda each: label in each.get("labels", []))
    assert answer["content"]["status"]["code"] == 408
    assert server.api.latest(name, "sent-msg") == before
