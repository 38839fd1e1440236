"""Gateways: end devices become devices of their own, and stay true to what their gateway says (LwM2M Gateway 1.1)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest

from stellwerk.app.changes import Commit
from stellwerk.app.command_request import CommandRequest
from stellwerk.app.handlers.deregistering import forget_registration
from stellwerk.app.ports import Limits
from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.message import encode_message
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore
from tests.scenario.gateway_device import Behind, Gateway
from tests.scenario.stack import HOME, Stack, ack, after, con
from tests.scenario.test_changes import KEY, devices
from tests.scenario.test_commands import execute, path_of, read, status, write
from tests.scenario.test_observations import observe
from tests.scenario.trouble import TroubledStore

ELSEWHERE = PeerId("udp", "192.0.2.77", 41000, "192.0.2.100", 5683)
LABELS = ("d2c-uplink-property_Room:7", "ICCID:89490200001234567890")
URN = "urn:dev:os:32473-7"


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(end_devices=5)
    yield made
    made.close()


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    stack.provision("gw1", LABELS)
    return Gateway(stack, behind=[Behind("d7", "d01"), Behind(URN, "d02")])


def device(stack: Stack, name: str) -> Any:
    assert stack.store is not None
    return stack.run(stack.store.device_by_name(stack.tenant_id, name))


def kinds(stack: Stack, name: str) -> list[str]:
    return [each["messageType"] for each in stack.received(device(stack, name))]


@pytest.mark.spec("LwM2M-contract 12", "LwM2M-contract 10", "GW-1")
def test_each_end_device_becomes_a_device_with_a_registration_of_its_own(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    first, second = device(stack, "gw1-d7"), device(stack, f"gw1-{URN}")
    assert isinstance(first, EndDeviceRecord)
    assert (first.gateway, first.prefix, first.profile) == ("gw1", "d01", "SCS-LwM2M")
    # A URN means the same device everywhere, another name only behind this gateway.
    assert (first.node_id, second.node_id) == ("urn:dev:os:gw1:d7", URN)
    assert first.labels == ("d2c-uplink-property_Room:7",)
    assert stack.registrations() == ["gw1", "urn:dev:os:32473-7", "urn:dev:os:gw1:d7"]
    assert kinds(stack, "gw1-d7") == ["registration"]


@pytest.mark.spec("LwM2M-contract 12", "R-11", "GW-4")
@pytest.mark.parametrize("root", ["", "/lwm2m"])
def test_a_command_for_an_end_device_goes_to_the_gateway_under_its_prefix(
    stack: Stack, gateway: Gateway, root: str
) -> None:
    gateway.root = root
    gateway.register()
    gateway.asked.clear()
    target = device(stack, "gw1-d7")
    for request in (read("/3303/0/5700"), write("/3303/0/5750", "x"), execute("/3303/0/5605")):
        stack.post(target, request)
        gateway.pump()
        assert status(stack, target) == (200, "ok"), stack.received(target)[-1]
    assert gateway.asked == [
        (codes.GET, f"{root}/d01/3303/0/5700"),
        (codes.PUT, f"{root}/d01/3303/0/5750"),
        (codes.POST, f"{root}/d01/3303/0/5605"),
    ]
    assert stack.values(target, "/3303/0/5700") == ["21.5"]
    assert stack.values(device(stack, "gw1"), "/3303/0/5700") == []


@pytest.mark.spec("LwM2M-contract 12", "D-13", "GW-5", "Gateway 1.1.1 8.3.1")
def test_a_discover_is_answered_without_the_prefix(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    target = device(stack, "gw1-d7")
    stack.post(target, CommandRequest("discover", "/3303", "DISCOVER /3303"))
    gateway.pump()
    assert stack.received(target)[-1]["data"] == {"3/0": {}, "3303/0": {}, "3303/0/5700": {"pmin": 5}}


@pytest.mark.spec("MSG-1", "LwM2M-contract 1.2")
def test_gateway_and_end_devices_share_one_turn(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    gateway.silent = True
    targets = [device(stack, name) for name in ("gw1-d7", f"gw1-{URN}", "gw1")]
    for target in targets:
        stack.post(target, read("/3/0/0"))
    asked = []
    while stack.out:
        assert len(stack.out) == 1
        request = gateway.next()
        asked.append(path_of(request))
        # What waits is still only posted: nothing is said to be sent that is not.
        assert stack.commands.delivery.in_flight == 1
        gateway.answer(request)
    assert asked == ["/d01/3/0/0", "/d02/3/0/0", "/3/0/0"]


@pytest.mark.spec("LwM2M-contract 12", "OB-7", "OB-8")
def test_observations_behind_a_gateway_notify_by_token_and_are_restored_with_its_register(
    stack: Stack, gateway: Gateway
) -> None:
    gateway.register()
    target = device(stack, "gw1-d7")
    stack.post(target, observe("/3303/0/5700"))
    gateway.pump()
    gateway.notify("/d01/3303/0/5700", b'[{"n":"/d01/3303/0/5700","v":22.5}]')
    assert stack.values(target, "/3303/0/5700") == ["21.5", "22.5"]
    token = gateway.tokens["/d01/3303/0/5700"]
    gateway.register()
    assert gateway.tokens["/d01/3303/0/5700"] != token
    gateway.notify("/d01/3303/0/5700", b'[{"n":"/d01/3303/0/5700","v":23.5}]')
    assert stack.values(target, "/3303/0/5700")[-1] == "23.5"


# -- Send --


@pytest.mark.spec("LwM2M-contract 12", "LwM2M-contract 8.4", "GW-8")
def test_a_send_becomes_a_message_of_each_device_it_speaks_of(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    pack = [
        {"bn": "/d01/3303/0/", "bt": 1_790_000_000, "n": "5700", "v": 1},
        {"n": "5700", "t": 5, "v": 2},
        {"bn": "/", "n": "3/0/0", "vs": "GW"},
        {"n": "d02/9999/0/1", "vs": "not listed, and taken"},
    ]
    assert gateway.send(pack) == codes.CHANGED
    assert stack.values(device(stack, "gw1-d7"), "/3303/0/5700") == ["1.0", "2.0"]
    assert stack.values(device(stack, f"gw1-{URN}"), "/9999/0/1") == ['"not listed, and taken"']
    assert stack.values(device(stack, "gw1"), "/3/0/0")[-1] == '"GW"'
    assert [kinds(stack, name)[-1] for name in ("gw1", "gw1-d7", f"gw1-{URN}")] == ["send"] * 3


@pytest.mark.spec("LwM2M-contract 8.5", "LwM2M-contract 12", "GW-8")
def test_a_send_in_lwm2m_cbor_has_prefixes_in_its_keys(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    body = bytes.fromhex("a18463643031190ce700191644f94d60")
    assert gateway.send(body, 11544) == codes.CHANGED
    assert stack.values(device(stack, "gw1-d7"), "/3303/0/5700") == ["21.5"]
    mixed = cbor2.dumps({("d02", 3303, 0): {5700: 1.5}, (3, 0, 0): "GW"})
    assert gateway.send(mixed, 11544) == codes.CHANGED
    assert stack.values(device(stack, f"gw1-{URN}"), "/3303/0/5700") == ["1.5"]
    assert stack.values(device(stack, "gw1"), "/3/0/0")[-1] == '"GW"'


@pytest.mark.parametrize(
    ("pack", "code"),
    [
        ([{"n": "/d01/3303/0/5700", "v": 1}, {"n": "/9999/0/1", "v": 1}], codes.NOT_FOUND),
        ([{"n": "/d01/3303/0/5700", "v": 1}, {"n": "/d02/3303/0/5700", "vs": "no number"}], codes.BAD_REQUEST),
        ([{"n": "/d01/3303/0/5700", "v": 1}, {"n": "/d02/3303"}], codes.BAD_REQUEST),
        ([{"n": "/d01/3303/0/5700", "v": 1}, {"n": "/d77/3303/0/5700", "v": 1}], codes.NOT_FOUND),
    ],
)
def test_of_a_send_that_is_wrong_in_one_place_nothing_is_stored(
    stack: Stack, gateway: Gateway, pack: list[dict[str, Any]], code: int
) -> None:
    gateway.register()
    assert gateway.send(pack) == code
    assert stack.values(device(stack, "gw1-d7"), "/3303/0/5700") == []
    assert stack.log(device(stack, "gw1"))[-1] == "send-refused"


@pytest.mark.spec("LwM2M-contract 12", "GW-8")
def test_a_send_of_a_device_attached_just_now_is_asked_for_again_and_taken_then(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    stack << after(120)
    gateway.behind.append(Behind("d9", "d09"))
    pack = [{"n": "/d09/3303/0/5700", "v": 9}]
    assert gateway.send(pack) == codes.SERVICE_UNAVAILABLE
    assert gateway.send(pack) == codes.CHANGED
    assert stack.values(device(stack, "gw1-d9"), "/3303/0/5700") == ["9.0"]


@pytest.mark.spec("MSG-1")
def test_a_repeated_send_of_end_devices_after_a_restart_gets_the_first_answer(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    assert gateway.send([{"n": "/d01/3303/0/5700", "v": 1}]) == codes.CHANGED
    again = Stack(store=stack.store, clock=stack.clock, seed=1, ask_for_s=247, end_devices=5)
    gateway.stack, gateway.mid = again, gateway.mid - 1
    assert gateway.send([{"n": "/d01/3303/0/5700", "v": 1}]) == codes.CHANGED
    assert stack.values(device(again, "gw1-d7"), "/3303/0/5700") == ["1.0"]
    again.close()


# -- coming and going --


@pytest.mark.spec("LwM2M-contract 12")
@pytest.mark.parametrize("told_by", ["update", "notification", "register"])
def test_a_device_that_its_gateway_does_not_list_any_more_is_offline_and_the_same_when_it_is_back(
    stack: Stack, gateway: Gateway, told_by: str
) -> None:
    def tell() -> None:
        if told_by == "update":
            gateway.update(with_list=True)
        elif told_by == "register":
            gateway.register()
        else:
            gateway.notify("/25", gateway.listing())

    gateway.register()
    before = device(stack, "gw1-d7")
    gone = gateway.behind.pop(0)
    tell()
    assert stack.registrations() == ["gw1", URN]
    assert kinds(stack, "gw1-d7") == ["registration", "deregistration"]
    stack.post(before, read("/3/0/0"))
    assert status(stack, before) == (408, "timeout-binding")
    gateway.behind.append(gone)
    tell()
    assert device(stack, "gw1-d7") == before
    assert kinds(stack, "gw1-d7")[-1] == "registration"
    stack.post(before, read("/3/0/0"))
    gateway.pump()
    assert status(stack, before) == (200, "ok")


@pytest.mark.spec("LwM2M-contract 12", "GW-3")
def test_other_objects_and_another_prefix_are_an_update_of_the_same_device(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    gateway.behind[0].prefix, gateway.behind[0].objects = "x1", "</3300/0>"
    gateway.notify("/25", gateway.listing())
    target = device(stack, "gw1-d7")
    assert (target.prefix, kinds(stack, "gw1-d7")) == ("x1", ["registration", "update"])
    gateway.behind[0].values = {"/3300/0/5700": 4}
    stack.post(target, read("/3300/0/5700"))
    gateway.pump()
    assert gateway.asked[-1] == (codes.GET, "/x1/3300/0/5700")
    assert status(stack, target) == (200, "ok")


@pytest.mark.spec("LwM2M-contract 12", "R-6")
@pytest.mark.parametrize("how", ["deregister", "expire"])
def test_end_devices_end_with_their_gateway(stack: Stack, gateway: Gateway, how: str) -> None:
    gateway.register()
    if how == "deregister":
        gateway.deregister()
    else:
        stack << after(301)
    assert stack.registrations() == []
    last = "deregistration" if how == "deregister" else "registration-expire"
    assert [kinds(stack, name)[-1] for name in ("gw1", "gw1-d7", f"gw1-{URN}")] == [last] * 3
    assert stack.run(stack.store.registration_of(device(stack, "gw1-d7").device_id)) is None  # type: ignore[union-attr]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_waits_for_a_device_ends_when_its_gateway_de_registers(
    stack: Stack, gateway: Gateway, restarted: bool
) -> None:
    gateway.queue = "&Q"
    gateway.register()
    stack << after(100)
    target = device(stack, "gw1-d7")
    stack.post(target, read("/3/0/0"))
    now = Stack(store=stack.store, clock=stack.clock, seed=1, end_devices=5) if restarted else stack
    gateway.stack = now
    now.run(now.commands.recover())
    gateway.deregister()
    now << after(0.1)
    assert status(now, target) == (408, "timeout-binding")
    if restarted:
        now.close()


@pytest.mark.spec("R-14", "QM-7")
def test_end_devices_move_with_their_gateway(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    gateway.update(peer=ELSEWHERE)
    target = device(stack, "gw1-d7")
    stack.post(target, read("/3/0/0"))
    assert [peer for peer, _ in stack.out] == [ELSEWHERE]
    gateway.pump()
    assert status(stack, target) == (200, "ok")


def test_a_device_that_is_no_gateway_any_more_has_nobody_behind_it(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    gateway.update(with_list=True, with_gateway=False)
    assert stack.registrations() == ["gw1"]
    assert kinds(stack, "gw1-d7")[-1] == "deregistration"
    gateway.register()
    assert len(stack.registrations()) == 3
    gateway.register(with_gateway=False)
    assert stack.registrations() == ["gw1"]
    assert kinds(stack, "gw1-d7")[-2:] == ["registration", "deregistration"]


@pytest.mark.spec("QM-2", "QM-3", "LwM2M-contract 12")
def test_what_waits_for_a_device_behind_a_sleeper_leaves_when_the_gateway_is_heard(
    stack: Stack, gateway: Gateway
) -> None:
    gateway.queue = "&Q"
    gateway.register()
    stack << after(100)
    target = device(stack, "gw1-d7")
    stack.post(target, read("/3/0/0"))
    assert stack.silent()
    gateway.update()
    assert status(stack, target) == (200, "ok")


@pytest.mark.spec("LwM2M-contract 12")
def test_after_a_restart_end_devices_are_known_when_they_are_needed(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    target = device(stack, "gw1-d7")
    stack.post(target, observe("/3303/0/5700"))
    gateway.pump()
    again = Stack(store=stack.store, clock=stack.clock, seed=1, end_devices=5)
    gateway.stack = again
    assert again.registrations() == []
    gateway.notify("/d01/3303/0/5700", b'[{"n":"/d01/3303/0/5700","v":22.5}]')
    assert again.values(target, "/3303/0/5700")[-1] == "22.5"
    again.post(target, read("/3/0/0"))
    gateway.pump()
    assert status(again, target) == (200, "ok")
    gateway.deregister()
    assert again.registrations() == []
    assert [kinds(again, name)[-1] for name in ("gw1-d7", f"gw1-{URN}")] == ["deregistration"] * 2
    again.close()


def test_commands_of_a_stopped_server_leave_when_the_gateway_is_heard_again(stack: Stack, gateway: Gateway) -> None:
    gateway.queue = "&Q"
    gateway.register()
    stack << after(100)
    target = device(stack, "gw1-d7")
    stack.post(target, read("/3/0/0"))
    again = Stack(store=stack.store, clock=stack.clock, seed=1, end_devices=5)
    again.run(again.commands.recover())
    gateway.stack = again
    gateway.update()
    assert status(again, target) == (200, "ok")
    again.close()


# -- whose device it is --


@pytest.mark.spec("SEC-6", "LwM2M-contract 12", "GW-7")
@pytest.mark.parametrize("name", ["gw1-d7", "urn:dev:os:gw1:d7", URN])
def test_nobody_registers_under_the_name_of_an_end_device(name: str) -> None:
    stack = Stack(end_devices=5, auto_provision=("*",))
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind("d7", "d01"), Behind(URN, "d02")])
    gateway.register()
    target = f"/rd?ep={name}&lt=300&lwm2m=1.1"
    stack << con(codes.POST, target, mid=1, payload=b"</3/0>", content_format=40, peer=ELSEWHERE)
    assert stack.take().code == codes.FORBIDDEN
    assert len(stack.registrations()) == 3
    assert dict(stack.meters.registers_refused) == {"end-device": 1}
    stack.close()


@pytest.mark.spec("SEC-5", "LwM2M-contract 12", "GW-7")
def test_the_location_of_an_end_device_is_none_from_outside(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    assert stack.store is not None
    registration = stack.run(stack.store.registration_of(device(stack, "gw1-d7").device_id))
    for code in (codes.POST, codes.DELETE):
        gateway.mid += 1
        stack << con(code, f"/rd/{registration.location}", mid=gateway.mid) >> ack(codes.NOT_FOUND, mid=gateway.mid)


@pytest.mark.spec("LwM2M-contract 12", "GW-7")
def test_an_end_device_takes_neither_the_node_id_nor_the_endpoint_name_of_another(stack: Stack) -> None:
    stack.provision("gw1")
    other = stack.provision("d7")
    assert stack.store is not None
    tenant = stack.run(stack.store.ensure_tenant("other", 0))
    foreign = stack.run(stack.store.create_device(tenant, NewDevice("x", URN, (), "SCS-LwM2M", (), 0)))
    # One is provisioned by its owner, one is another tenant's, one has a node ID whose last part is that of `other`.
    gateway = Gateway(stack, behind=[Behind("urn:dev:os:d7", "d01"), Behind(URN, "d02"), Behind("d7", "d03")])
    gateway.register()
    assert stack.registrations() == ["gw1", "urn:dev:os:gw1:d7"]
    assert stack.log(device(stack, "gw1")).count("end-device-trouble") == 2
    assert stack.run(stack.store.device(foreign.device_id)) == foreign
    assert stack.run(stack.store.device_by_endpoint("d7")) == other


@pytest.mark.spec("LwM2M-contract 12")
def test_a_name_that_is_taken_or_not_allowed_becomes_one_with_digits(stack: Stack) -> None:
    stack.provision("gw1")
    stack.provision("gw1-d7")
    gateway = Gateway(stack, behind=[Behind("d7", "d01"), Behind("a/b", "d02"), Behind("a.b", "d03")])
    gateway.register()
    assert stack.store is not None
    made = stack.run(stack.store.end_devices(device(stack, "gw1").device_id))
    names = [record.name for record, _ in made]
    assert [name.rpartition("-")[0] for name in names] == ["gw1-d7", "gw1-a_b", "gw1-a_b"]
    assert len(set(names)) == 3


@pytest.mark.spec("LwM2M-contract 12")
def test_a_device_moves_to_another_gateway_once_its_own_does_not_list_it(stack: Stack, gateway: Gateway) -> None:
    stack.provision("gw2")
    gateway.register()
    before = device(stack, f"gw1-{URN}")
    second = Gateway(stack, name="gw2", peer=ELSEWHERE, behind=[Behind(URN, "z9"), Behind("d7", "z1")])
    second.register()
    # `d7` is a name within each gateway, the URN is one device, and that is still behind the first.
    assert stack.registrations() == ["gw1", "gw2", URN, "urn:dev:os:gw1:d7", "urn:dev:os:gw2:d7"]
    assert device(stack, f"gw1-{URN}").gateway == "gw1"
    del gateway.behind[1]
    gateway.update(with_list=True)
    second.pump()
    after_move = device(stack, f"gw1-{URN}")
    assert (after_move.device_id, after_move.gateway, after_move.prefix) == (before.device_id, "gw2", "z9")
    stack.post(after_move, read("/3/0/0"))
    second.pump()
    assert status(stack, after_move) == (200, "ok")
    assert "end-device-moved" in stack.log(device(stack, "gw1"))


@pytest.mark.spec("GW-10")
def test_more_end_devices_than_may_be_are_refused_with_a_line(stack: Stack) -> None:
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind(f"d{each}", f"p{each}") for each in range(8)])
    gateway.register()
    assert len(stack.registrations()) == 6
    # Those that were there keep their places, also while they are gone.
    gateway.behind = gateway.behind[3:]
    gateway.update(with_list=True)
    assert len(stack.registrations()) == 3
    assert "end-device-trouble" in stack.log(device(stack, "gw1"))


# -- what a gateway may say wrong --


@pytest.mark.spec("LwM2M-contract 12", "GW-10")
def test_instances_that_make_no_sense_leave_lines_and_the_others_are_taken(stack: Stack) -> None:
    stack.provision("gw1")
    wrong = [Behind("a", ""), Behind("b", "17"), Behind("c", "x/y"), Behind("", "d01"), Behind("e", "p" * 300)]
    wrong += [Behind("f", "\x07"), Behind("good", "d01"), Behind("good", "d02"), Behind("other", "d01")]
    gateway = Gateway(stack, behind=wrong)
    gateway.register()
    assert stack.registrations() == ["gw1", "urn:dev:os:gw1:good"]
    assert stack.log(device(stack, "gw1")).count("end-device-trouble") == 8


def test_objects_that_make_no_sense_leave_what_was_known(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    gateway.behind[0].objects = "</3/0>,<<<"
    gateway.notify("/25", gateway.listing())
    assert kinds(stack, "gw1-d7") == ["registration"]
    target = device(stack, "gw1-d7")
    stack.post(target, read("/3303/0/5700"))
    gateway.pump()
    assert status(stack, target) == (200, "ok")


@pytest.mark.parametrize(
    "payload",
    [
        *(b"[", b'[{"n":"/25/0/0","v":1}]', b'[{"n":"/3/0/0","vs":"x"}]'),
        *(b"[]", b'[{"n":"/25/0/0","vs":"d7"}]'),
    ],
)
def test_an_answer_that_is_none_ends_nobody(stack: Stack, gateway: Gateway, payload: bytes) -> None:
    gateway.register()
    good = gateway.listing
    gateway.listing = lambda: payload  # type: ignore[method-assign]
    gateway.update()
    stack.gateways.look(stack.registry.of(device(stack, "gw1").device_id), stack.clock.instant())  # type: ignore[arg-type]
    stack << after(0.1)
    gateway.pump()
    stands = len(stack.registrations()) == 3
    # An empty object is an answer: there is nobody. One whose instances cannot be reached is, too.
    assert stands is (payload not in (b"[]", b'[{"n":"/25/0/0","vs":"d7"}]'))
    gateway.listing = good  # type: ignore[method-assign]
    gateway.register()
    assert len(stack.registrations()) == 3


# -- version 1.0 --


@pytest.mark.spec("LwM2M-contract 10", "LwM2M-contract 12", "GW-9", "READ-14")
@pytest.mark.parametrize(("discovers", "objects"), [(True, {3, 3303}), (False, {3300})])
def test_version_1_0_says_no_objects_so_each_device_is_asked_or_its_route_is_taken(
    stack: Stack, gateway: Gateway, discovers: bool, objects: set[int]
) -> None:
    gateway.version, gateway.discovers = "1.0", discovers
    gateway.register()
    assert stack.store is not None
    registration = stack.run(stack.store.registration_of(device(stack, "gw1-d7").device_id))
    assert set(registration.objects.objects) == objects
    assert (codes.GET, "/d01") in gateway.asked


# -- removal --


def test_a_removed_gateway_takes_its_end_devices_along(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    assert stack.store is not None
    ids = [device(stack, name).device_id for name in ("gw1", "gw1-d7", f"gw1-{URN}")]
    assert stack.run(stack.store.remove_device(ids[0]))
    assert [stack.run(stack.store.device(each)) for each in ids] == [None] * 3


def test_a_removed_end_device_is_made_anew_when_its_gateway_is_read_again(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    assert stack.store is not None
    before = device(stack, "gw1-d7")
    stack.run(stack.store.remove_device(before.device_id))
    stack.registry.drop(before.device_id)
    gateway.register()
    assert device(stack, "gw1-d7").device_id != before.device_id
    assert len(stack.registrations()) == 3


def test_without_the_setting_a_gateway_is_a_device_like_any_other(stack: Stack) -> None:
    plain = Stack()
    plain.provision("gw1")
    gateway = Gateway(plain, behind=[Behind("d7", "d01")])
    gateway.register()
    assert (gateway.asked, plain.registrations()) == ([], ["gw1"])
    assert gateway.send([{"n": "/3/0/0", "vs": "GW"}]) == codes.CHANGED
    plain.close()


# -- when things go wrong --


@pytest.mark.spec("LwM2M-contract 15", "GW-10")
def test_a_gateway_with_more_instances_than_one_answer_may_hold_keeps_what_was_known(
    stack: Stack, gateway: Gateway
) -> None:
    gateway.register()
    gateway.listing = lambda: (
        b"["
        + b",".join(  # type: ignore[method-assign]
            b'{"n":"/25/%d/0","vs":"d%d"}' % (each, each) for each in range(5_000)
        )
        + b"]"
    )
    request_path = "/25"
    stack.gateways.look(stack.registry.of(device(stack, "gw1").device_id), stack.clock.instant())  # type: ignore[arg-type]
    stack << after(0.1)
    (_, request) = stack.out.pop(0)
    assert path_of(request) == request_path
    body = gateway.listing()
    first = ack(
        codes.CONTENT,
        mid=request.mid,
        token=request.token,
        payload=body[:1024],
        content_format=110,
        extra=[(23, b"\x0e"), (28, len(body).to_bytes(3, "big"))],
    )
    stack << first
    number = 1
    while stack.out and len(stack.registrations()) == 3 and number * 1024 < len(body):
        (_, following) = stack.out.pop(0)
        if following.code != codes.GET:
            break
        block = body[number * 1024 : (number + 1) * 1024]
        more = (number + 1) * 1024 < len(body)
        value = number << 4 | (8 if more else 0) | 6
        stack << ack(
            codes.CONTENT,
            mid=following.mid,
            token=following.token,
            payload=block,
            content_format=110,
            extra=[(23, value.to_bytes((value.bit_length() + 7) // 8, "big"))],
        )
        number += 1
    assert len(stack.registrations()) == 3
    assert "reading-failed" in stack.log(device(stack, "gw1"))


def test_what_the_store_did_not_take_is_read_and_stored_later() -> None:
    store = TroubledStore()
    stack = Stack(store=store, end_devices=5, again_s=0.01)
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind("d7", "d01")])
    gateway.silent = True
    gateway.register()
    store.full = True
    gateway.silent = False
    gateway.pump()
    assert stack.registrations() == ["gw1"]
    store.full = False

    stack << after(0.1)
    gateway.pump()
    assert stack.registrations() == ["gw1", "urn:dev:os:gw1:d7"]
    assert kinds(stack, "gw1-d7") == ["registration"]
    stack.close()


@pytest.mark.spec("MSG-1", "LwM2M-contract 12")
def test_when_the_one_whose_turn_it_is_goes_the_others_have_theirs(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    gateway.silent = True
    gone, left = device(stack, "gw1-d7"), device(stack, f"gw1-{URN}")
    stack.post(gone, read("/3/0/0"))
    stack.post(left, read("/3/0/0"))
    assert path_of(stack.take()) == "/d01/3/0/0"
    assert stack.silent()

    async def forget() -> None:
        known = stack.registry.of(gone.device_id)
        assert known is not None
        assert stack.store is not None
        await stack.store.remove_device(gone.device_id)
        instant = stack.clock.instant()
        forget_registration(stack.registry, stack.link, stack.listening, known.registration, instant)
        stack.commands.device_removed(gone.device_id, instant)

    stack.run(forget())
    stack << after(0.1)
    gateway.silent = False
    gateway.pump()
    assert status(stack, left) == (200, "ok")


@pytest.mark.spec("SEC-6", "SEC-9")
def test_a_gateway_that_gets_a_key_has_nobody_behind_it_until_it_comes_with_it(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    stack.run(devices(stack).give_credential(device(stack, "gw1"), KEY))
    assert stack.registrations() == []
    assert [kinds(stack, name)[-1] for name in ("gw1", "gw1-d7")] == ["registration-expire"] * 2


def test_values_of_many_are_read_after_a_register_one_at_a_time() -> None:
    stack = Stack(end_devices=200, reads=(3,))
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind(f"d{each}", f"p{each}") for each in range(100)])
    gateway.register()
    assert len(stack.registrations()) == 101
    assert stack.values(device(stack, "gw1-d99"), "/3/0/0") == ['"ACME"']
    assert stack.gateways is not None
    assert len(stack.reading) == 0
    assert "reading-failed" not in stack.log(device(stack, "gw1-d70"))
    stack.close()


@pytest.mark.spec("LwM2M-contract 15", "GW-3")
def test_a_gateway_that_notifies_without_end_is_read_once_in_a_while(stack: Stack, gateway: Gateway) -> None:
    gateway.register()
    stack.gateways._pause_s = 0.02
    gateway.asked.clear()
    for _ in range(5):
        gateway.notify("/25", gateway.listing())
    assert gateway.asked == []

    stack << after(0.1)
    gateway.pump()
    assert gateway.asked == [(codes.GET, "/25")]


class SlowLists(MemoryStore):
    """End devices are looked up when ``wait`` is set, where it is there."""

    def __init__(self) -> None:
        super().__init__(library=Library.builtin(), limits=Limits())
        self.wait: asyncio.Event | None = None

    async def end_devices(self, gateway_id: DeviceId) -> Any:
        if self.wait is not None:
            await self.wait.wait()
        return await super().end_devices(gateway_id)


@pytest.mark.spec("R-5", "LwM2M-contract 12")
def test_a_gateway_that_de_registers_twice_at_once_ends_once() -> None:
    store = SlowLists()
    stack = Stack(store=store, end_devices=5)
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind("d7", "d01")])
    gateway.register()

    def say(code: int, mid: int, token: bytes, peer: PeerId = HOME) -> None:
        message = con(code, gateway.location, mid=mid, token=token).message
        stack.engine.feed(encode_message(message), peer=peer, now=stack.clock.now())
        stack.link.handle(stack.engine.take_events(), stack.clock.instant())

    async def leave_twice() -> None:
        store.wait = asyncio.Event()
        say(codes.DELETE, 900, b"d")
        # It moves meanwhile, which makes another object of what is known of it.
        say(codes.POST, 902, b"u", ELSEWHERE)
        for _ in range(9):
            await asyncio.sleep(0)
        assert stack.meters.uplinks["update"].answers
        store.wait.set()
        held: list[Commit] = []
        store.submit = held.append  # type: ignore[method-assign]
        for _ in range(5):
            await asyncio.sleep(0)
        say(codes.DELETE, 901, b"d")
        del store.submit  # type: ignore[method-assign]
        for each in held:
            store.submit(each)
        await stack._settle()

    stack.run(leave_twice())
    assert [message.code for _, message in stack.out if message.token == b"d"] == [codes.DELETED] * 2
    assert kinds(stack, "gw1").count("deregistration") == 1
    assert stack.registrations() == []
    stack.close()
