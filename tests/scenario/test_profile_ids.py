"""Profile IDs stand for object lists: known ones are taken, others asked for once, and nobody teaches another."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.core.ids import PeerId
from tests.scenario.stack import HOME, Stack, ack, after, con
from tests.scenario.test_commands import NOTIFICATION

ETS = "6:27354b9a"
OURS = "4:0123456789abcdef01234567"
FULL = b"</1/0>,</3/0>;ver=1.2,</3303/0>,</3303/1>"
OTHER = PeerId("udp", "192.0.2.2", 40000, "192.0.2.100", 5683)


def come(stack: Stack, query: str, body: bytes = b"", mid: int = 1, ep: str = "dev1", peer: PeerId = HOME) -> Message:
    target = f"/rd?ep={ep}&lt=300&lwm2m=1.2&{query}"
    stack << con(codes.POST, target, mid=mid, token=b"t", payload=body, content_format=40 if body else None, peer=peer)
    return stack.take()


def paths(stack: Stack, name: str = "dev1") -> list[str]:
    (found,) = [each.registration for each in stack.registry if each.registration.endpoint_name == name]
    return [str(each) for each in found.objects.paths()]


def location_of(answer: Message) -> str:
    assert answer.code == codes.CREATED
    return "/" + "/".join(value.decode() for number, value in answer.options if number == 8)


@pytest.fixture
def dev1(stack: Stack) -> Any:
    return stack.provision("dev1")


@pytest.mark.spec("ETS 110", "LwM2M-contract 4")
@pytest.mark.parametrize("pid", [ETS, f'"{ETS}"', f"{ETS},{ETS}"])
def test_the_profile_that_a_standard_prints_is_known(stack: Stack, dev1: Any, pid: str) -> None:
    assert come(stack, f"pid={pid}").code == codes.CREATED
    assert paths(stack) == ["/1/0", "/3/0"]


@pytest.mark.spec("ETS 111", "LwM2M-contract 4")
def test_a_profile_and_a_list_are_joined_and_a_restart_knows_both(stack: Stack, dev1: Any) -> None:
    location = location_of(come(stack, f"pid={ETS}", b"</4/0>"))
    assert paths(stack) == ["/1/0", "/3/0", "/4/0"]
    again = Stack(store=stack.store, clock=stack.clock, seed=1)
    again << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    assert paths(again) == ["/1/0", "/3/0", "/4/0"]
    again.close()


@pytest.mark.spec("LwM2M-contract 4")
def test_an_unknown_profile_is_a_conflict_and_then_the_full_list_teaches_it(stack: Stack, dev1: Any) -> None:
    assert come(stack, f"pid={OURS}").code == codes.CONFLICT
    assert come(stack, f"pid={OURS}", mid=2).code == codes.CONFLICT
    assert stack.registrations() == []
    assert come(stack, f"pid={OURS}", FULL, mid=3).code == codes.CREATED
    learned = paths(stack)
    assert learned == ["/1/0", "/3/0", "/3303/0", "/3303/1"]
    # From now on, also after a restart, the ID is enough; and it may be joined with others and with a list.
    again = Stack(store=stack.store, clock=stack.clock, seed=1)
    assert come(again, f"pid={OURS}", mid=4).code == codes.CREATED
    assert paths(again) == learned
    assert next(iter(again.registry)).registration.objects.version(3) == "1.2"
    assert come(again, f"pid={ETS},{OURS}", b"</6/0>,</3303/2>", mid=5).code == codes.CREATED
    assert paths(again) == ["/1/0", "/3/0", "/6/0", "/3303/0", "/3303/1", "/3303/2"]
    again.close()


@pytest.mark.spec("LwM2M-contract 4", "LwM2M-contract 15")
def test_what_one_device_teaches_holds_for_no_other(stack: Stack, dev1: Any) -> None:
    stack.provision("dev2")
    come(stack, f"pid={OURS}")
    assert come(stack, f"pid={OURS}", FULL, mid=2).code == codes.CREATED
    assert come(stack, f"pid={OURS}", mid=3, ep="dev2", peer=OTHER).code == codes.CONFLICT
    assert come(stack, f"pid={OURS}", b"</1/0>,</3/0>", mid=4, ep="dev2", peer=OTHER).code == codes.CREATED
    assert paths(stack, "dev2") == ["/1/0", "/3/0"]
    assert come(stack, f"pid={OURS}", mid=5).code == codes.CREATED
    assert paths(stack) == ["/1/0", "/3/0", "/3303/0", "/3303/1"]


@pytest.mark.spec("LwM2M-contract 4")
def test_a_list_beside_an_unknown_profile_is_not_taken_for_the_whole_before_it_was_asked_for(
    stack: Stack, dev1: Any
) -> None:
    # It may be what comes on top of the profile.
    assert come(stack, f"pid={OURS}", b"</4/0>").code == codes.CONFLICT
    assert stack.registrations() == []


@pytest.mark.spec("LwM2M-contract 4")
def test_a_full_list_under_several_profiles_is_taken_and_teaches_none(stack: Stack, dev1: Any) -> None:
    assert come(stack, f"pid={OURS},v:x").code == codes.CONFLICT
    assert come(stack, f"pid={OURS},v:x", FULL, mid=2).code == codes.CREATED
    for mid, pid in enumerate((OURS, "v:x", f"{OURS},v:x"), 3):
        assert come(stack, f"pid={pid}", mid=mid).code == codes.CONFLICT


@pytest.mark.spec("LwM2M-contract 4")
def test_neither_a_profile_nor_an_object_is_a_conflict_from_1_2_on(stack: Stack, dev1: Any) -> None:
    assert come(stack, "b=U").code == codes.CONFLICT
    assert come(stack, "b=U", b"</0/0>", mid=2).code == codes.CONFLICT
    assert come(stack, "b=U", FULL, mid=3).code == codes.CREATED
    stack << con(codes.POST, "/rd?ep=dev1&lwm2m=1.1", mid=4)
    assert stack.take().code == codes.CREATED


@pytest.mark.spec("LwM2M-contract 0.1", "R-3")
def test_before_1_2_a_profile_is_a_parameter_like_any_other(stack: Stack, dev1: Any) -> None:
    stack << con(codes.POST, f"/rd?ep=dev1&lwm2m=1.1&pid={ETS}", mid=1, payload=b"</3303/0>", content_format=40)
    assert stack.take().code == codes.CREATED
    assert paths(stack) == ["/3303/0"]
    assert next(iter(stack.registry)).registration.extra == (("pid", ETS),)


@pytest.mark.spec("LwM2M-contract 4")
@pytest.mark.parametrize("pid", ["", ",", "a,,b", "x" * 129, "a b", ",".join(map(str, range(17)))])
def test_what_is_no_list_of_profiles_is_refused(stack: Stack, dev1: Any, pid: str) -> None:
    assert come(stack, f"pid={pid}", FULL).code == codes.BAD_REQUEST


def test_more_links_together_than_one_list_may_have_are_refused(stack: Stack, dev1: Any) -> None:
    body = b",".join(b"</%d>" % each for each in range(30_000, 31_999))
    assert come(stack, f"pid={ETS}", body).code == codes.BAD_REQUEST
    assert stack.registrations() == []


@pytest.mark.spec("READ-3")
def test_an_update_may_name_profiles_for_its_list(stack: Stack, dev1: Any) -> None:
    location = location_of(come(stack, "b=U", FULL))
    stack << con(codes.POST, f"{location}?pid={ETS}&lt=60", mid=2) >> ack(codes.CHANGED, mid=2)
    assert paths(stack) == ["/1/0", "/3/0"]
    assert next(iter(stack.registry)).registration.lifetime_s == 60
    stack << con(codes.POST, f"{location}?pid={OURS}&lt=70", mid=3) >> ack(codes.CONFLICT, mid=3)
    assert "update-refused" in stack.log(dev1)
    assert next(iter(stack.registry)).registration.lifetime_s == 60
    stack << con(codes.POST, f"{location}?pid={OURS}", mid=4, payload=FULL) >> ack(codes.CHANGED, mid=4)
    stack << con(codes.POST, f"{location}?pid={ETS}", mid=5) >> ack(codes.CHANGED, mid=5)
    stack << con(codes.POST, f"{location}?p%69d={OURS}", mid=6) >> ack(codes.CHANGED, mid=6)
    assert paths(stack) == ["/1/0", "/3/0", "/3303/0", "/3303/1"]
    stack << con(codes.POST, f"{location}?pid=", mid=7) >> ack(codes.BAD_REQUEST, mid=7)
    stack << con(codes.POST, f"{location}?pid={ETS}", mid=8, payload=b"x", content_format=0)
    assert stack.take().code == codes.BAD_REQUEST
    stack << after(61) << con(codes.POST, f"{location}?pid={ETS}", mid=9) >> ack(codes.NOT_FOUND, mid=9)


@pytest.mark.spec("LwM2M-contract 4")
def test_values_of_a_device_that_only_named_its_profile_have_their_types(stack: Stack, dev1: Any) -> None:
    come(stack, f"pid={OURS}")
    come(stack, f"pid={OURS}", FULL, mid=2)
    come(stack, f"pid={OURS}", mid=3)
    payload = bytes.fromhex("81a2216c2f333330332f302f35373030") + b"\x02\x18\x15"
    for mid, each in enumerate((NOTIFICATION, payload), 4):
        stack << con(codes.POST, "/dp", mid=mid, payload=each, content_format=112) >> ack(codes.CHANGED, mid=mid)
    assert stack.values(dev1, "/3303/0/5700") == ["21.5", "21.0"]


def test_a_bad_profile_provisions_nobody() -> None:
    stack = Stack(auto_provision=("load-*",))
    assert come(stack, f"pid={OURS}", ep="load-1").code == codes.CONFLICT
    assert stack.store is not None
    assert stack.run(stack.store.devices(stack.tenant_id, 10, 0)) == []
    assert come(stack, f"pid={OURS}", FULL, mid=2, ep="load-1").code == codes.CREATED
    assert come(stack, f"pid={OURS}", mid=3, ep="load-1").code == codes.CREATED
    stack.close()
