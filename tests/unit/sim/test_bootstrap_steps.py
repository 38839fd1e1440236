"""What a simulated device answers to its bootstrap server, and what it holds afterwards."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import decode_content, encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, Value
from stellwerk.sim.objects import device_types

from .bootstrap_bench import (
    DELETE,
    DISCOVER,
    FINISH,
    SENML_CBOR,
    TLV,
    BootstrapBench,
    Step,
    account,
    security,
    server,
    write,
)

OWN = "coap://10.0.0.1:5687"


def discover(path: str) -> Step:
    return Step(codes.GET, path.strip("/"), accept=40)


def delete(path: str) -> Step:
    return Step(codes.DELETE, path.strip("/"))


def answers_to(*steps: Step, release: str = "1.1", **options: Any) -> tuple[BootstrapBench, list[str]]:
    """The codes of the answers to ``steps``."""
    bench = BootstrapBench(steps, **options)
    bench.start(lwm2m_version=release)
    return bench, bench.bootstrap.codes


def links(bench: BootstrapBench, index: int = -1) -> list[str]:
    answer = bench.bootstrap.answers[index]
    assert answer is not None
    assert answer.content_format == 40
    return answer.payload.decode().split(",")


# -- Discover and Read --


@pytest.mark.parametrize(
    ("release", "first"), [("1.0", 'lwm2m="1.0"'), ("1.1", "</>;lwm2m=1.1"), ("1.2", "</>;lwm2m=1.2")]
)
def test_a_discover_tells_the_release_and_every_instance(release: str, first: str):
    bench, _ = answers_to(DISCOVER, release=release)
    found = links(bench)
    assert found[0] == first
    assert {"</0/0>", "</1>", "</3/0>", "</3303>;ver=1.1", "</3303/0>"} <= set(found)


@pytest.mark.parametrize(("release", "stated"), [("1.0", []), ("1.1", ["</21>;ver=1.0"]), ("1.2", ["</21>"])])
def test_a_discover_tells_whether_object_21_has_texts_or_bytes(release: str, stated: list[str]):
    bench, _ = answers_to(DISCOVER, release=release)
    assert [each for each in links(bench) if each.startswith("</21")] == stated


def test_a_discover_tells_which_instance_is_of_which_server():
    bench, _ = answers_to(*account(4), DISCOVER, discover("/0"), discover("/1"))
    found = links(bench, -3)
    assert {"</0/0>", '</0/4>;ssid=123;uri="coap://10.0.0.3:5683"', "</1/4>;ssid=123"} <= set(found)
    assert links(bench, -2) == ["</>;lwm2m=1.1", "</0/0>", '</0/4>;ssid=123;uri="coap://10.0.0.3:5683"']
    assert links(bench) == ["</>;lwm2m=1.1", "</1/4>;ssid=123"]


def test_in_1_0_it_tells_no_uri():
    bench, _ = answers_to(*account(1, release="1.0"), discover("/0"), release="1.0")
    assert links(bench) == ['lwm2m="1.0"', "</0/0>", "</0/1>;ssid=123"]


@pytest.mark.parametrize("instance", [0, 1, 5])
def test_its_bootstrap_account_is_where_it_was_made_with(instance: int):
    bench, found = answers_to(DISCOVER, DELETE, discover("/0"), instance=instance)
    assert f"</0/{instance}>" in links(bench, 0)
    assert links(bench) == ["</>;lwm2m=1.1", f"</0/{instance}>"]
    assert found == ["2.05", "2.02", "2.05"]


def test_objects_1_and_2_are_read_and_no_others():
    acl = {"/2/0/0": 3, "/2/0/1": 0, "/2/0/2/123": 31, "/2/0/3": 65535}
    paths = ["1", "1/1", "2/0", "0", "0/0", "3/0", "1/1/1", "1/7"]
    steps = [Step(codes.GET, path, accept=SENML_CBOR) for path in paths]
    bench, found = answers_to(*account(), write("/2/0", acl), *steps)
    assert found[3:] == ["2.05", "2.05", "2.05", "4.05", "4.05", "4.05", "4.05", "4.04"]
    answer = bench.bootstrap.answers[5]
    assert answer is not None
    values = decode_content(SENML_CBOR, answer.payload, Path(2, 0), device_types()).latest()
    assert values[Path(2, 0, 2, 123)] == 31


def test_1_0_has_no_read():
    assert answers_to(*account(release="1.0"), Step(codes.GET, "1"), release="1.0")[1][-1] == "4.05"


# -- Write --


@pytest.mark.parametrize(
    ("content_format", "release"), [(TLV, "1.0"), (TLV, "1.1"), (110, "1.1"), (SENML_CBOR, "1.1"), (11544, "1.2")]
)
def test_accounts_are_written_in_every_format_of_the_release(content_format: int, release: str):
    bench, found = answers_to(*account(content_format=content_format, release=release), FINISH, release=release)
    assert found == ["2.04", "2.04", "2.04"]
    assert bench.is_configured


def test_an_object_is_written_with_several_instances_at_once():
    two = {**security(3, "coap://10.0.0.3:5683", 1), **security(4, "coap://10.0.0.4:5683", 2)}
    servers = {**server(0, 1), **server(1, 2)}
    bench, found = answers_to(write("/0", two), write("/1", servers, SENML_CBOR), FINISH)
    assert found == ["2.04", "2.04", "2.04"]
    (device,) = bench.population.devices()
    assert set(device.tree.instances(0)) == {0, 3, 4}
    assert set(device.tree.instances(1)) == {0, 1}


def test_an_instance_without_a_number_gets_a_free_one():
    step = write("/0", security(65535, "coap://10.0.0.3:5683", 123))
    _, found = answers_to(step, *account()[1:], FINISH, discover("/0"))
    assert found[:3] == ["2.04", "2.04", "2.04"]


def test_one_resource_is_written_as_text():
    step = Step(codes.PUT, "1/1/1", b"77", 0)
    bench, found = answers_to(*account(), step, FINISH)
    assert found == ["2.04"] * 4
    assert "lt=77" in bench.server.asked("rd")[0].query


def test_a_written_instance_has_nothing_of_what_was_there():
    bench, _ = answers_to(*account(r11=30), *account(), FINISH)
    (device,) = bench.population.devices()
    assert 11 not in device.tree.instances(0)[1]


def test_what_a_server_cannot_write_a_bootstrap_server_can():
    bench, found = answers_to(write("/3/0", {"/3/0/2": "serial from above"}), *account(), FINISH)
    assert found[0] == "2.04"
    (device,) = bench.population.devices()
    assert device.tree.value(Path(3, 0, 2), 0.0) == "serial from above"
    assert device.tree.value(Path(3, 0, 0), 0.0) == "Stellwerk"


def test_access_control_holds_from_then_on():
    acl = {"/2/0/0": 3, "/2/0/1": 0, "/2/0/2/123": 4, "/2/0/3": 65535}
    bench, found = answers_to(*account(), write("/2/0", acl), FINISH)
    assert found == ["2.04"] * 4
    assert b"</2/0>" in bench.server.asked("rd")[0].payload


def test_what_a_device_does_not_have_of_an_object_is_no_reason_to_refuse_the_rest():
    step = write("/0/1", {**security(1, "coap://10.0.0.3:5683", 123), "/0/1/26": ObjectLink(65535, 65535)}, TLV, "1.2")
    assert answers_to(step, *account()[1:], FINISH, release="1.1")[1] == ["2.04"] * 3


@pytest.mark.parametrize(
    ("step", "code"),
    [
        # Contract B-5, B-6: an account of a server in place of that of the bootstrap server.
        (write("/0/0", security(0, "coap://10.0.0.3:5683", 123)), "4.00"),
        (Step(codes.PUT, "0/0/1", b"0", 0), "4.00"),
        # Contract B-4: no format, one that it has not, one that holds one value.
        (Step(codes.PUT, "0/1", b"\xc0\x01"), "4.15"),
        (Step(codes.PUT, "0/1", b"\xa0", 11544), "4.15"),
        (Step(codes.PUT, "0/1", b"text", 0), "4.15"),
        (Step(codes.PUT, "0/1", b"\xff\xff\xff", TLV), "4.00"),
        (write("/1/1", {"/1/1/0": 123, "/1/1/1": 2**40}, SENML_CBOR), "2.04"),
        (write("/0/1", {"/0/1/10": 70_000}), "4.00"),
        (Step(codes.PUT, "9999/0", b"", TLV), "4.04"),
        (Step(codes.PUT, "", b"[]", 110), "4.00"),
        (Step(codes.PUT, "x/y", b"", TLV), "4.05"),
        (Step(codes.POST, "1/1", b"", TLV), "4.05"),
        (Step(codes.GET, "bs"), "4.05"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(step: Step, code: str):
    bench, found = answers_to(*account(), step, FINISH)
    assert found[2] == code
    assert found[3] == "2.04"
    assert bench.is_configured


# -- Delete --


def test_a_delete_of_everything_leaves_the_bootstrap_account_and_what_the_device_is_made_of():
    oscore = write("/21/3", {"/21/3/0": "aa", "/21/3/1": "01", "/21/3/2": "02"})
    bench, found = answers_to(*account(), oscore, write("/2/0", {"/2/0/0": 1}), DELETE, DISCOVER)
    assert found[-2:] == ["2.02", "2.05"]
    left = links(bench)
    assert {"</0/0>", "</1>", "</2>", "</21>;ver=1.0", "</3/0>", "</3303/0>"} <= set(left)
    # Instances that servers create are theirs to lose.
    assert "</3311>" in left


@pytest.mark.parametrize(
    ("path", "code"),
    [
        *(("/0", "2.02"), ("/1", "2.02"), ("/0/1", "2.02"), ("/1/1", "2.02"), ("/3", "2.02"), ("/3303", "2.02")),
        *(("/0/0", "4.00"), ("/3/0", "4.00"), ("/0/7", "4.04"), ("/9999", "4.04"), ("/1/1/0", "4.00")),
    ],
)
def test_deletes_of_objects_and_instances(path: str, code: str):
    bench, found = answers_to(*account(), delete(path), DISCOVER)
    assert found[2] == code
    assert {"</0/0>", "</3/0>"} <= set(links(bench))


def test_what_belongs_to_the_bootstrap_account_stays_with_it():
    context = write("/21/0", {"/21/0/0": "aa", "/21/0/1": "01", "/21/0/2": "02"})
    link = Content((Entry(Path(0, 0, 17), ObjectLink(21, 0)),))
    step = Step(codes.PUT, "0/0/17", encode_content(TLV, link, Path(0, 0, 17), device_types()), TLV)
    bench, found = answers_to(context, step, DELETE, delete("/21/0"), discover("/21"))
    assert found == ["2.04", "2.04", "2.02", "4.00", "2.05"]
    assert links(bench)[1:] == ["</21>;ver=1.0", "</21/0>"]


# -- Finish --


NO_MODE: dict[str, Value] = {"/0/1/0": "coap://10.0.0.3", "/0/1/1": False, "/0/1/10": 123}


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((), "there is no account of a server"),
        (account()[:1], "which no instance of object 1 has"),
        (account()[1:], "which /0 has not"),
        ((*account(), *account(2)), "the same Short Server ID 123"),
        ((*account(), write("/0/2", security(2, "coap://10.0.0.3:5683", 123))), "the same Short Server ID 123"),
        (account(uri="coaps://10.0.0.3:5684"), "the security mode NoSec"),
        (account(mode=0), "a URI that begins with coap:"),
        (account(uri="http://10.0.0.3"), "is no URI like"),
        (account(uri="coaps://10.0.0.3", mode=0, r3=b"me"), "no key"),
        (account(uri="coaps://10.0.0.3", mode=1, r3=b"me", r5=b"key"), "private key"),
        ((write("/0/1", NO_MODE), account()[1]), "no security mode from 0 to 4"),
        (account(uri="coaps://10.0.0.3", mode=4), "the device can enrol nowhere"),
        (account(uri="coaps://10.0.0.3", mode=4, r3=b"me", r5=b"key"), "private key"),
        (account(r17=ObjectLink(21, 0)), "/0/1/17 is a link to 21:0, which is not there"),
    ],
)
def test_a_finish_without_a_whole_account_is_refused_and_can_be_corrected(steps: tuple[Step, ...], why: str):
    bench = BootstrapBench((*steps, FINISH))
    bench.bootstrap.after = {len(steps) + 1: [DELETE, *account(), FINISH]}
    bench.start()
    refusal = bench.bootstrap.answers[len(steps)]
    assert refusal is not None
    assert codes.dotted(refusal.code) == "4.06"
    assert why in refusal.payload.decode()
    assert bench.bootstrap.codes[-1] == "2.04"
    assert bench.is_configured


def test_the_session_has_247_seconds_from_the_request_on_and_nothing_of_it_stays():
    bench = BootstrapBench([DISCOVER, *account()])
    device = bench.start(246)
    assert not bench.failures
    bench.network.run_for(2)
    assert bench.failures == ["overtime"]
    assert set(device.tree.instances(0)) == {0}
    assert not device.tree.instances(1)
