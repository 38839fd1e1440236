"""Registration by the rules of each version of LwM2M, at its edges: what is taken, what is refused and why."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.app.device_ports import Acknowledgement
from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.core.ids import PeerId
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.operations import Update
from stellwerk.lwm2m.registration_parameters import Tolerances
from tests.scenario.stack import HOME, Stack, ack, after, con
from tests.scenario.test_commands import NOTIFICATION, path_of, read, write
from tests.scenario.test_observations import VALUE, establish, notification, observe
from tests.scenario.test_registration import ELSEWHERE, LINKS, REGISTER, register
from tests.scenario.test_storms import answer, catch_up, feed, responses
from tests.scenario.trouble import TroubledStore

TCP = PeerId("tcp", "192.0.2.1", 40000, "192.0.2.100", 5683)
SENML_JSON_INSTANCE_1 = b'[{"n":"/3303/1/5700","v":21.5}]'


@pytest.fixture
def dev1(stack: Stack) -> Any:
    return stack.provision("dev1")


def sent(stack: Stack, target: str, mid: int = 1, body: bytes = LINKS, **more: Any) -> Message:
    """The answer to a request of the device."""
    stack << con(codes.POST, target, mid=mid, token=b"t", payload=body, **({"content_format": 40} | more))
    return stack.take()


def current(stack: Stack) -> Registration:
    (known,) = list(stack.registry)
    return known.registration


def detail(stack: Stack, device: Any) -> str:
    """The newest line of the device's log."""
    assert stack.store is not None
    return stack.run(stack.store.projection.device_log(device.device_id, 1))[0].detail


# -- the version matrix --


@pytest.mark.spec("LwM2M-contract 0.1", "BIN-1", "BIN-2", "BIN-3", "R-4", "ETS 101")
@pytest.mark.parametrize(
    ("query", "binding", "queue_mode"),
    [
        ("lwm2m=1.0&b=U", "U", False),
        ("lwm2m=1.0&b=UQ", "U", True),
        ("lwm2m=1.0&b=UQS", "US", True),
        ("lwm2m=1.0", "U", False),
        ("lwm2m=1.1&b=U&Q", "U", True),
        ("lwm2m=1.1&b=UT", "UT", False),
        ("lwm2m=1.1&b=UQ", "U", True),
        ("lwm2m=1.1&Q", "U", True),
        ("lwm2m=1.2&b=UTMH&Q", "UTMH", True),
    ],
)
def test_each_version_registers_with_its_bindings(
    stack: Stack, dev1: Any, query: str, binding: str, queue_mode: bool
) -> None:
    register(stack, target=f"/rd?ep=dev1&lt=300&{query}")
    registration = current(stack)
    assert (registration.version, registration.binding, registration.queue_mode) == (query[6:9], binding, queue_mode)


@pytest.mark.spec("LwM2M-contract 0.1", "BIN-1", "R-4")
@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("lwm2m=1.0&b=UT", codes.BAD_REQUEST, "U, UQ, S, SQ, US, UQS"),
        ("lwm2m=1.0&b=SU", codes.BAD_REQUEST, "U, UQ, S, SQ, US, UQS"),
        ("lwm2m=1.1&b=UM", codes.BAD_REQUEST, "letters of UTSN"),
        ("lwm2m=1.2&b=UU", codes.BAD_REQUEST, "letters of UTSNMH, each once"),
        ("lwm2m=1.3", codes.PRECONDITION_FAILED, "1.0, 1.1, 1.2"),
        ("lwm2m=2.0&b=Z", codes.PRECONDITION_FAILED, "1.0, 1.1, 1.2"),
        ("b=U", codes.BAD_REQUEST, "is required"),
    ],
)
def test_what_a_version_does_not_have_is_refused_and_the_answer_says_what_it_has(
    stack: Stack, dev1: Any, query: str, code: int, text: str
) -> None:
    # The answer's words are cut for an address that is not proven; this one is.
    register(stack, mid=90)
    stack.link.prove_peer(HOME)
    refused = sent(stack, f"/rd?ep=dev1&lt=300&{query}")
    assert refused.code == code
    assert text in refused.payload.decode()
    assert current(stack).version == "1.1"


def test_a_refused_register_leaves_one_line_a_minute_in_the_log_of_its_device(stack: Stack, dev1: Any) -> None:
    for mid in range(1, 20):
        sent(stack, "/rd?lwm2m=1.1&ep=dev1&lt=soon", mid)
        sent(stack, REGISTER, 100 + mid, b"</1")
    assert stack.log(dev1) == ["register-refused"]
    assert "'lt'" in detail(stack, dev1)
    stack << after(61)
    sent(stack, "/rd?ep=dev1&lwm2m=1.4", 200)
    assert stack.log(dev1) == ["register-refused"] * 2
    assert "1.0, 1.1, 1.2" in detail(stack, dev1)


@pytest.mark.spec("BIN-1", "R-4", "T-1")
def test_what_is_tolerated_is_a_setting() -> None:
    strict = Stack(tolerances=Tolerances(queue_in_binding=False))
    strict.provision("dev1")
    assert sent(strict, "/rd?ep=dev1&lwm2m=1.1&b=UQ").code == codes.BAD_REQUEST
    location = register(strict, mid=2)
    strict << con(codes.POST, location + "?b=UQ", mid=3) >> ack(codes.BAD_REQUEST, mid=3)
    strict.close()
    lenient = Stack(tolerances=Tolerances(missing_version=True))
    lenient.provision("dev1")
    register(lenient, target="/rd?ep=dev1&b=UQ")
    assert (current(lenient).version, current(lenient).queue_mode) == ("1.0", True)
    assert sent(lenient, "/rd?b=U", mid=2).code == codes.BAD_REQUEST
    lenient.close()


@pytest.mark.spec("LwM2M-contract 0.1", "SEC-4")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_without_a_secure_identity_the_endpoint_name_is_needed(stack: Stack, version: str) -> None:
    assert sent(stack, f"/rd?lwm2m={version}&lt=300").code == codes.BAD_REQUEST
    assert stack.registrations() == []


@pytest.mark.spec("LwM2M-contract 0.1", "LwM2M-contract 6", "ETS 306")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize(
    ("content_format", "payload"), [(112, NOTIFICATION), (110, b'[{"n":"/3303/0/5700","v":21.5}]')]
)
def test_a_send_is_taken_from_a_device_of_any_version(
    stack: Stack, dev1: Any, version: str, content_format: int, payload: bytes
) -> None:
    register(stack, target=f"/rd?ep=dev1&lwm2m={version}")
    assert sent(stack, "/dp", 2, payload, content_format=content_format).code == codes.CHANGED
    assert stack.values(dev1, "/3303/0/5700") == ["21.5"]


@pytest.mark.spec("LwM2M-contract 6")
def test_a_send_about_an_instance_that_is_not_registered_is_not_found(stack: Stack, dev1: Any) -> None:
    location = register(stack)
    assert sent(stack, "/dp", 2, SENML_JSON_INSTANCE_1, content_format=110).code == codes.NOT_FOUND
    assert stack.values(dev1, "/3303/1/5700") == []
    assert "/3303/1 is not in the registration" in detail(stack, dev1)
    # A list that names no instance does not say which ones there are.
    assert sent(stack, location, 3, b"</1/0>,</3/0>,</3303>").code == codes.CHANGED
    assert sent(stack, "/dp", 4, SENML_JSON_INSTANCE_1, content_format=110).code == codes.CHANGED
    assert stack.values(dev1, "/3303/1/5700") == ["21.5"]


@pytest.mark.spec("R-12")
def test_objects_that_every_device_has_may_be_missing_with_a_line_in_the_log(stack: Stack, dev1: Any) -> None:
    location = register(stack)
    assert sent(stack, location, 2, b"</3303/0>").code == codes.CHANGED
    assert stack.log(dev1).count("model-warning") == 2
    # It is said once, not with every Register.
    assert sent(stack, REGISTER, 3, b"</3303/0>").code == codes.CREATED
    assert stack.log(dev1).count("model-warning") == 2
    assert sent(stack, REGISTER, 4, b"</1/0>,</3303/0>").code == codes.CREATED
    assert sent(stack, REGISTER, 5, b"</1>,</3303/0>").code == codes.CREATED
    assert stack.store is not None
    lines = stack.run(stack.store.projection.device_log(dev1.device_id, 9))
    assert sorted(each.detail[:8] for each in lines if each.event == "model-warning") == ["object 1", "object 3"]


@pytest.mark.spec("R-10", "LwM2M-contract 9", "LwM2M-contract 13", "MOD-3", "T-2")
@pytest.mark.parametrize(
    ("link", "version", "told"),
    [
        (b"</3>;ver=1.0,</3/0>", "1.0", ""),
        (b'</3/0>;ver="1.2"', "1.2", ""),
        (b"</3/0>", "1.1", ""),
        (b"</3>;ver=one,</3/0>", "1.1", "version 'one' is not major.minor"),
        (b"</3>;ver=9.9,</3/0>", None, "no model of version 9.9"),
    ],
)
def test_a_version_counts_as_it_is_said_and_a_wrong_one_is_a_line_in_the_log(
    stack: Stack, dev1: Any, link: bytes, version: str | None, told: str
) -> None:
    sent(stack, REGISTER, body=b"</1/0>," + link)
    model = current(stack).types.object(3)
    assert (None if model is None else model.version) == version
    assert stack.log(dev1).count("model-warning") == bool(told)
    assert told in detail(stack, dev1)


@pytest.mark.spec("R-12", "ETS 101", "T-13")
def test_security_and_the_like_are_dropped_from_a_list(stack: Stack, dev1: Any) -> None:
    sent(stack, REGISTER, body=b"</0/0>,</0/1>,</1/0>,</3/0>,</21/0>,</23/0>,</24/0>,</3303/0>")
    assert sorted(current(stack).objects.objects) == [1, 3, 3303]


@pytest.mark.spec("R-11", "Transport 1.2.2 6.4.1")
@pytest.mark.parametrize("root", [b"/7", b"/lwm2m/7"])
def test_a_root_with_a_segment_of_digits_is_refused(stack: Stack, dev1: Any, root: bytes) -> None:
    body = b"<" + root + b'>;rt="oma.lwm2m",<' + root + b"/1/0>"
    assert sent(stack, REGISTER, body=body).code == codes.BAD_REQUEST


@pytest.mark.spec("R-11", "R-10")
def test_of_several_root_links_the_first_that_is_typed_counts(stack: Stack, dev1: Any) -> None:
    body = b'</>;ct=110,</a>;rt="oma.lwm2m";ct="60 112",</b>;rt="oma.lwm2m";ct=11542,</a/1/0>,</b/3/0>,</a/3>;ver=1.2'
    sent(stack, REGISTER, body=body)
    objects = current(stack).objects
    assert (objects.root, objects.content_formats) == ("/a", (60, 112))
    assert objects.version(3) == "1.2"


@pytest.mark.spec("LwM2M-contract 15")
def test_a_list_of_too_many_links_is_refused_in_register_and_update(stack: Stack, dev1: Any) -> None:
    many = b",".join(b"</%d>" % each for each in range(30_000, 32_001))
    location = register(stack)
    stack.link.prove_peer(HOME)
    for mid, target in ((2, REGISTER), (3, location)):
        refused = sent(stack, target, mid, many)
        assert refused.code == codes.BAD_REQUEST
        assert b"more than 2000 links" in refused.payload
    assert 30_000 not in current(stack).objects.objects


# -- Update --


@pytest.mark.spec("R-3", "R-13", "R-16", "READ-3", "ETS 107", "ETS 226", "ETS 227", "ETS 230")
def test_an_update_changes_what_it_names_and_keeps_the_rest(stack: Stack, dev1: Any) -> None:
    location = register(stack, target=REGISTER + "&sms=491&site=roof&x=1")
    stack << con(codes.POST, location + "?lt=20&b=UT&Q&sms=492&site=cellar&note", mid=2) >> ack(codes.CHANGED, mid=2)
    registration = current(stack)
    assert (registration.lifetime_s, registration.binding, registration.queue_mode) == (20, "UT", True)
    assert registration.sms == "492"
    assert registration.extra == (("site", "cellar"), ("x", "1"), ("note", ""))
    assert sorted(registration.objects.objects) == [1, 3, 3303]
    stack << con(codes.POST, location, mid=3) >> ack(codes.CHANGED, mid=3)
    assert current(stack) == registration
    assert stack.store is not None
    stored = stack.run(stack.store.registration_of(dev1.device_id))
    assert (stored.extra, stored.sms, stored.lifetime_s) == (registration.extra, "492", 20)


@pytest.mark.spec("R-3")
@pytest.mark.parametrize(
    ("query", "text"),
    [("lt=5&lt=6", "occurs twice"), ("x&x", "occurs twice"), ("lt=-1", "number of seconds"), ("b=UU", "each once")],
)
def test_an_update_that_breaks_the_rules_is_refused_whole(stack: Stack, dev1: Any, query: str, text: str) -> None:
    location = register(stack)
    before = current(stack)
    assert sent(stack, f"{location}?sms=49&{query}", 2).code == codes.BAD_REQUEST
    assert current(stack) == before
    assert current(stack).sms == ""
    assert text in detail(stack, dev1)


@pytest.mark.spec("R-13", "T-3")
def test_a_list_in_an_update_is_link_format_or_says_nothing_of_its_format(stack: Stack, dev1: Any) -> None:
    location = register(stack)
    assert sent(stack, location, 2, b"</1/0>", content_format=0).code == codes.BAD_REQUEST
    assert "must be link-format" in detail(stack, dev1)
    assert sent(stack, location, 3, b"</1/0>", content_format=None).code == codes.CHANGED
    assert sorted(current(stack).objects.objects) == [1]
    assert current(stack).objects.content_formats == (112,)


@pytest.mark.spec("R-3")
def test_parameters_without_end_are_kept_to_a_bound(stack: Stack, dev1: Any) -> None:
    location = register(stack, target=REGISTER + "".join(f"&p{each}=1" for each in range(100)))
    assert len(current(stack).extra) == 32
    assert sent(stack, location + "?q=1", 2, b"").code == codes.CHANGED
    assert len(current(stack).extra) == 32


# -- never 4.04 for who is registered --


@pytest.fixture
def troubled() -> Iterator[tuple[Stack, TroubledStore]]:
    store = TroubledStore()
    made = Stack(store=store)
    yield made, store
    made.close()


@pytest.mark.spec("R-6", "R-7", "R-14", "LwM2M-contract 13", "T-3")
@pytest.mark.parametrize("where", ["in memory", "in the store"])
@pytest.mark.parametrize("peer", [HOME, ELSEWHERE], ids=["same address", "new address"])
@pytest.mark.parametrize("late_s", [-1, 0, 92, 93])
def test_an_update_until_the_end_of_the_grace_finds_its_registration(where: str, peer: PeerId, late_s: int) -> None:
    before = Stack(grace_s=93.0)
    device = before.provision("dev1")
    location = register(before)
    before << after(300 + late_s)
    stack = before if where == "in memory" else Stack(store=before.store, clock=before.clock, seed=1, grace_s=93.0)
    stack << con(codes.POST, location, mid=2, peer=peer) >> ack(codes.CHANGED, mid=2, peer=peer)
    stack << after(392)
    assert [each["messageType"] for each in stack.received(device)] == ["registration", "update"]
    stack << after(2)
    assert stack.received(device)[-1]["messageType"] == "registration-expire"
    stack << con(codes.POST, location, mid=3, peer=peer) >> ack(codes.NOT_FOUND, mid=3, peer=peer)
    stack.close()
    if stack is not before:
        before.close()


@pytest.mark.spec("R-6", "ETS 102", "ETS 105")
def test_a_device_is_dropped_when_its_lifetime_ends_and_may_come_back(stack: Stack, dev1: Any) -> None:
    location = register(stack, target="/rd?ep=dev1&lt=20&lwm2m=1.1&b=U")
    stack << after(19)
    assert stack.registrations() == ["dev1"]
    stack << after(2)
    assert stack.registrations() == []
    stack << con(codes.POST, location, mid=2) >> ack(codes.NOT_FOUND, mid=2)
    assert register(stack, mid=3) != location


@pytest.mark.spec("ETS 103", "R-1")
def test_a_device_that_leaves_is_gone_and_its_location_too(stack: Stack, dev1: Any) -> None:
    location = register(stack)
    stack << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)
    stack << con(codes.POST, location, mid=3) >> ack(codes.NOT_FOUND, mid=3)
    assert stack.registrations() == []


@pytest.mark.spec("ETS 104", "R-7")
def test_an_empty_update_refreshes_the_registration(stack: Stack, dev1: Any) -> None:
    location = register(stack, target="/rd?ep=dev1&lt=20&lwm2m=1.1")
    for mid in range(2, 8):
        stack << after(15) << con(codes.POST, location, mid=mid) >> ack(codes.CHANGED, mid=mid)
    assert stack.registrations() == ["dev1"]


@pytest.mark.spec("ETS 233", "ETS 234", "R-8")
def test_a_lifetime_that_was_written_and_then_updated_is_the_one_that_counts(stack: Stack, dev1: Any) -> None:
    location = register(stack)
    stack.post(dev1, write("/1/0/1", "50"))
    request = stack.take()
    stack << ack(codes.CHANGED, mid=request.mid, token=request.token)
    assert current(stack).lifetime_s == 50
    stack << con(codes.POST, location + "?lt=60", mid=2) >> ack(codes.CHANGED, mid=2)
    assert current(stack).lifetime_s == 60
    stack << after(59)
    assert stack.registrations() == ["dev1"]
    stack << after(2)
    assert stack.registrations() == []


@pytest.mark.spec("R-6", "MSG-14", "LwM2M-contract 13", "T-5")
@pytest.mark.parametrize("trouble", ["full", "broken"])
def test_trouble_of_ours_is_never_told_as_an_unknown_registration(
    troubled: tuple[Stack, TroubledStore], trouble: str
) -> None:
    stack, store = troubled
    stack.provision("dev1")
    location = register(stack, target="/rd?ep=dev1&lt=300&lwm2m=1.2")
    again = Stack(store=store, clock=stack.clock, seed=1)
    setattr(store, trouble, True)
    for mid, target in enumerate((location, location + "?lt=60", location + "?pid=6:27354b9a"), 2):
        again << con(codes.POST, target, mid=mid) >> ack(codes.SERVICE_UNAVAILABLE, mid=mid)
    setattr(store, trouble, False)
    again << con(codes.POST, location, mid=9) >> ack(codes.CHANGED, mid=9)
    again.close()


@pytest.mark.spec("R-14", "BIN-4")
def test_an_update_over_the_other_transport_moves_the_registration_there(stack: Stack, dev1: Any) -> None:
    location = register(stack).rpartition("/")[2]
    answers: list[Acknowledgement] = []

    async def come() -> None:
        at = stack.clock.instant()
        stack.uplinks.receive(Update(location, ("b=T",), None, b""), TCP, b"12345678", at, answers.append)

    stack.run(stack._then_settle(come()))
    assert [each.status for each in answers] == [204]
    assert (current(stack).peer.transport, current(stack).binding) == ("tcp", "T")


# -- lifetimes --


@pytest.mark.spec("R-5", "T-12")
@pytest.mark.parametrize(
    ("query", "lifetime_s"), [("", 86400), ("&lt=0", 0), ("&lt=1", 1), ("&lt=4294967295", 4_294_967_295)]
)
def test_a_lifetime_is_taken_as_it_is(stack: Stack, dev1: Any, query: str, lifetime_s: int) -> None:
    register(stack, target="/rd?ep=dev1&lwm2m=1.1" + query)
    assert current(stack).lifetime_s == lifetime_s
    stack << after((lifetime_s or 10**9) - 0.5)
    assert stack.registrations() == ["dev1"]
    stack << after(1)
    assert stack.registrations() == (["dev1"] if lifetime_s == 0 else [])


@pytest.mark.spec("R-5")
@pytest.mark.parametrize("lifetime", ["4294967296", "-1", "soon", "", "1.5", "0x10"])
def test_a_lifetime_out_of_range_is_refused_and_never_clamped(stack: Stack, dev1: Any, lifetime: str) -> None:
    assert sent(stack, f"/rd?ep=dev1&lwm2m=1.1&lt={lifetime}").code == codes.BAD_REQUEST
    location = register(stack, mid=2)
    assert sent(stack, f"{location}?lt={lifetime}", 3).code == codes.BAD_REQUEST
    assert current(stack).lifetime_s == 300


@pytest.mark.spec("R-7", "READ-6")
def test_values_do_not_prolong_a_registration_unless_that_is_asked_for(stack: Stack, dev1: Any) -> None:
    register(stack)
    stack << after(299)
    sent(stack, "/dp", 2, NOTIFICATION, content_format=112)
    stack << after(2)
    assert stack.registrations() == []


@pytest.mark.spec("R-7", "READ-6")
def test_where_it_is_asked_for_every_send_and_notification_prolongs_a_registration() -> None:
    stack = Stack(uplinks_extend=True)
    device = stack.provision("dev1")
    location = register(stack)
    stack.post(device, observe(VALUE))
    token = establish(stack, stack.take())
    for each in range(4):
        stack << after(200)
        if each % 2:
            sent(stack, "/dp", 10 + each, NOTIFICATION, content_format=112)
        else:
            stack << notification(token, mid=20 + each, number=2 + each) >> ack(mid=20 + each)
    assert stack.registrations() == ["dev1"]
    # A restart forgets no more than an eighth of the lifetime.
    again = Stack(store=stack.store, clock=stack.clock, seed=1, uplinks_extend=True)
    again << after(300 - 300 / 8 - 1) << con(codes.POST, location, mid=30) >> ack(codes.CHANGED, mid=30)
    again << after(301) << con(codes.POST, location, mid=31) >> ack(codes.NOT_FOUND, mid=31)
    stack.close()
    again.close()


# -- storms --


@pytest.mark.spec("R-9", "R-17", "T-12")
def test_of_many_registers_in_flight_at_once_the_last_wins_and_nothing_of_the_others_stays(
    troubled: tuple[Stack, TroubledStore],
) -> None:
    stack, store = troubled
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, observe(VALUE))
    establish(stack, stack.take())
    store.slow = True
    peers = [PeerId("udp", "192.0.2.1", 41_000 + each // 2, "192.0.2.100", 5683) for each in range(20)]
    steps = [
        con(codes.POST, f"/rd?ep=dev1&lt={100 + each}&lwm2m=1.1", mid=100 + each, payload=LINKS, peer=peer)
        for each, peer in enumerate(peers)
    ]
    feed(stack, *steps, *steps)
    catch_up(stack, store)
    created = [message for _, message in stack.out if message.code == codes.CREATED]
    assert len(created) == 20
    locations = ["/" + "/".join(value.decode() for number, value in each.options if number == 8) for each in created]
    assert len(set(locations)) == 20
    registration = current(stack)
    assert (registration.lifetime_s, registration.peer) == (119, peers[-1])
    assert "/rd/" + registration.location == locations[-1]
    stored = stack.run(store.registration_of(device.device_id))
    assert (stored.location, stored.peer) == (registration.location, peers[-1])
    observes = [(peer, message) for peer, message in stack.out if (6, b"") in message.options]
    # One relation is wanted, at the one address that counts.
    assert observes[-1][0] == peers[-1]
    assert len(stack.run(store.observations_of(device.device_id))) == 1
    stack.out.clear()
    for mid, location in enumerate(locations[:-1], 300):
        stack << con(codes.POST, location, mid=mid, peer=peers[-1]) >> ack(codes.NOT_FOUND, mid=mid, peer=peers[-1])
    assert len(stack.registry._by_location) == len(stack.registry._by_peer) == 1


@pytest.mark.spec("R-17", "T-12")
def test_a_register_that_is_said_anew_because_its_answer_was_lost_is_simply_the_newer_one(
    stack: Stack, dev1: Any
) -> None:
    first = register(stack, mid=1)
    second = register(stack, mid=2)
    assert first != second
    assert stack.registrations() == ["dev1"]
    stack.post(dev1, read("/3/0/0"))
    answer(stack, stack.take())
    assert responses(stack, dev1) == [(200, "ok")]


# -- two servers, and the trigger for another transport --


@pytest.mark.spec("R-18", "ETS 950", "ETS 951")
def test_two_servers_of_one_device_know_nothing_of_each_other() -> None:
    """The device lists the account of either server as instance 0 and 1 of object 1."""
    one, two = Stack(seed=1), Stack(seed=2)
    links = LINKS + b",</1/1>"
    devices = [each.provision("dev1") for each in (one, two)]
    locations = []
    for each in (one, two):
        assert sent(each, "/rd?ep=dev1&lt=300&lwm2m=1.1", body=links).code == codes.CREATED
        locations.append("/rd/" + current(each).location)
    assert locations[0] != locations[1]
    one.post(devices[0], CommandRequest("observe", VALUE, f"OBSERVE {VALUE}", attributes=(("pmin", "10"),)))
    attributes = one.take()
    assert (15, b"pmin=10") in attributes.options
    one << ack(codes.CHANGED, mid=attributes.mid, token=attributes.token)
    token = establish(one, one.take())
    assert two.silent()
    # A token of the one means nothing to the other, which does not take its values either.
    two << notification(token, mid=50, number=2)
    assert two.take().type == 3
    assert two.values(devices[1], VALUE) == []
    # Which account is whose only the device knows: a lifetime written to either counts when its Update says so.
    one.post(devices[0], write("/1/1/1", "9000"))
    request = one.take()
    one << ack(codes.CHANGED, mid=request.mid, token=request.token)
    assert [current(each).lifetime_s for each in (one, two)] == [300, 300]
    one << con(codes.DELETE, locations[0], mid=60) >> ack(codes.DELETED, mid=60)
    assert (one.registrations(), two.registrations()) == ([], ["dev1"])
    two << con(codes.POST, locations[1], mid=61) >> ack(codes.CHANGED, mid=61)
    one.close()
    two.close()


@pytest.mark.spec("BIN-5", "D-8", "READ-11")
def test_the_trigger_for_another_transport_is_an_execute_with_an_argument(stack: Stack, dev1: Any) -> None:
    location = register(stack, target="/rd?ep=dev1&lt=300&lwm2m=1.1&b=UT")
    stack.post(dev1, CommandRequest("execute", "/1/0/8", "EXECUTE /1/0/8?0='U'", arguments="0='U'"))
    request = stack.take()
    assert (request.code, path_of(request), request.payload) == (codes.POST, "/1/0/8", b"0='U'")
    stack << ack(codes.CHANGED, mid=request.mid, token=request.token)
    stack << con(codes.POST, location + "?b=U", mid=2) >> ack(codes.CHANGED, mid=2)
    assert current(stack).binding == "U"
