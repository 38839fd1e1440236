"""Simulated devices get their servers: who begins, what follows, and what they do when it comes to nothing."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import Drop, Respond, SendRequest
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.options import Mode, Preference
from stellwerk.sim.enrolment import Patience, State
from stellwerk.sim.happenings import (
    BootstrapAsked,
    BootstrapFailed,
    Bootstrapped,
    Forgot,
    Rebooted,
    Registered,
    RegistrationRefused,
)
from stellwerk.sim.objects import device_types
from stellwerk.sim.security import PreSharedKey

from .bootstrap_bench import (
    BOOTSTRAP,
    DELETE,
    DEVICE,
    DISCOVER,
    FINISH,
    OTHER,
    PLAIN,
    SENML_CBOR,
    SERVER,
    BootstrapBench,
    Peer,
    account,
    security,
    server,
)

KEY = bytes(range(16))


def home(device: tuple[str, int] = DEVICE) -> PeerId:
    return PeerId("udp", *device, *BOOTSTRAP)


def execute(bench: BootstrapBench, path: str, handle: int = 900) -> None:
    """The server that the device is registered with executes ``path``."""
    segments = tuple(path.strip("/").split("/"))
    bench.server.station.submit(
        SendRequest(handle, PeerId("udp", *DEVICE, *SERVER), codes.POST, b"exec%d" % handle, segments)
    )


def test_a_device_asks_is_given_a_server_and_registers_there():
    bench = BootstrapBench()
    device = bench.start()
    (asked,) = bench.bootstrap.asked("bs")
    assert (asked.code, asked.query) == (codes.POST, ("ep=dev-1", "pct=112"))
    assert bench.bootstrap.codes == ["2.05", "2.02", "2.04", "2.04", "2.04"]
    assert [each.servers for each in bench.of(Bootstrapped)] == [("coap://10.0.0.3:5683",)]
    (registered,) = bench.server.asked("rd")
    assert {"ep=dev-1", "lt=600"} <= set(registered.query)
    assert device.is_registered
    bench.stop(device)
    assert bench.server.requests[-1].code == codes.DELETE
    assert device.state is State.OFF


@pytest.mark.parametrize(
    ("release", "preference", "query"),
    [
        ("1.0", Preference.BY_RELEASE, ()),
        ("1.1", Preference.BY_RELEASE, ("pct=112",)),
        ("1.1", Preference.NONE, ()),
        ("1.2", 11544, ("pct=11544",)),
    ],
)
def test_what_it_prefers_is_said_in_the_request(release: str, preference: Any, query: tuple[str, ...]):
    bench = BootstrapBench(preference=preference)
    bench.start(lwm2m_version=release)
    assert bench.bootstrap.asked("bs")[0].query == ("ep=dev-1", *query)


def test_it_registers_with_every_server_that_it_was_given():
    script = [DELETE, *account(), *account(2, f"coap://{OTHER[0]}:{OTHER[1]}", 7), FINISH]
    bench = BootstrapBench(script)
    other = Peer(bench.network, OTHER)
    device = bench.start()
    assert (len(bench.server.asked("rd")), len(other.asked("rd"))) == (1, 1)
    assert device.is_registered
    # Disabled by the one of instance 2, which has Short Server ID 7, it stays with the other.
    segments = ("1", "2", "4")
    other.station.submit(SendRequest(1, PeerId("udp", *DEVICE, *OTHER), codes.POST, b"x", segments))
    bench.network.run_for(1)
    assert other.requests[-1].code == codes.DELETE
    assert all(each.code == codes.POST for each in bench.server.requests)


def test_a_hold_off_comes_before_the_request():
    bench = BootstrapBench(hold_off_s=30)
    bench.start(29.9)
    assert not bench.bootstrap.requests
    bench.network.run_for(1)
    assert bench.is_configured


# -- a pack --


def pack(content_format: int = SENML_CBOR, **more: Any) -> bytes:
    values = {**security(1, f"coap://{SERVER[0]}:{SERVER[1]}", 123, **more), **server(1, 123)}
    entries = tuple(Entry(Path.parse(each), value) for each, value in values.items())
    return encode_content(content_format, Content(entries), Path(), device_types("1.2"))


@pytest.mark.parametrize("content_format", [110, 112, 11544])
def test_a_pack_is_all_that_it_asks_for(content_format: int):
    bench = BootstrapBench((), mode=Mode.PACK, accept=content_format)
    payload = pack(content_format)
    bench.bootstrap.decide = lambda request: Respond(
        request.exchange, codes.CONTENT, content_format=content_format, payload=payload
    )
    device = bench.start(lwm2m_version="1.2")
    (asked,) = bench.bootstrap.requests
    assert (asked.code, asked.path, asked.accept) == (codes.GET, ("bspack",), content_format)
    assert asked.query == ("ep=dev-1", "acc=</0/0>")
    assert bench.is_configured
    assert set(device.tree.instances(0)) == {0, 1}


@pytest.mark.parametrize("code", [codes.METHOD_NOT_ALLOWED, codes.NOT_IMPLEMENTED])
def test_without_packs_it_asks_the_other_way(code: int):
    bench = BootstrapBench(mode=Mode.PACK)
    bench.bootstrap.decide = lambda request: Respond(request.exchange, code) if request.path == ("bspack",) else None
    bench.start(lwm2m_version="1.2")
    assert [each.path for each in bench.bootstrap.requests] == [("bspack",), ("bs",)]
    assert bench.is_configured


@pytest.mark.parametrize(
    ("code", "payload", "reason"),
    [(codes.BAD_REQUEST, b"", "refused"), (codes.CONTENT, b"\xff", "pack"), (codes.CONTENT, b"", "pack")],
)
def test_a_pack_that_is_of_no_use_leaves_it_as_it_was(code: int, payload: bytes, reason: str):
    bench = BootstrapBench((), mode=Mode.PACK)
    bench.bootstrap.decide = lambda request: Respond(request.exchange, code, content_format=SENML_CBOR, payload=payload)
    device = bench.start(lwm2m_version="1.2")
    assert bench.failures == [reason]
    assert set(device.tree.instances(0)) == {0}


# -- begun by servers --


def test_a_device_of_1_0_is_given_a_server_unasked():
    bench = BootstrapBench(mode=Mode.SERVER)
    bench.start(1000, lwm2m_version="1.0")
    assert not bench.bootstrap.requests
    bench.bootstrap.send(home(), [*account(release="1.0"), FINISH])
    bench.network.run_for(1)
    assert bench.bootstrap.codes == ["2.04", "2.04", "2.04"]
    assert bench.is_configured


@pytest.mark.spec("B-11")
def test_the_server_may_begin_with_a_device_that_is_registered():
    bench = BootstrapBench(mode=Mode.SERVER, factory_uri=f"coap://{SERVER[0]}:{SERVER[1]}")
    bench.start(1, lwm2m_version="1.0")
    assert not bench.is_configured
    bench.bootstrap.send(home(), [*account(release="1.0"), FINISH])
    bench.network.run_for(1)
    assert bench.bootstrap.codes[0] == "2.04"


def test_what_comes_unasked_is_refused_by_a_device_that_asks_itself():
    bench = BootstrapBench(hold_off_s=500)
    bench.start()
    bench.bootstrap.send(home(), account()[:1])
    bench.network.run_for(1)
    assert bench.bootstrap.codes == ["4.01"]


def test_a_device_that_waits_asks_when_its_hold_off_is_over():
    bench = BootstrapBench(mode=Mode.SERVER, hold_off_s=20)
    bench.start(21)
    assert bench.is_configured


def test_a_server_that_it_is_registered_with_sends_it_to_its_bootstrap_server():
    bench = BootstrapBench()
    device = bench.start()
    execute(bench, "/1/1/9")
    bench.network.run_for(0.3)
    # It is still registered, and answers, until it asks.
    assert len(bench.bootstrap.asked("bs")) == 1
    bench.network.run_for(2)
    assert len(bench.bootstrap.asked("bs")) == 2
    assert len(bench.of(Bootstrapped)) == len(bench.of(Registered)) == 2
    assert device.is_registered


def test_its_other_servers_are_refused_while_it_bootstraps():
    bench = BootstrapBench()
    bench.start()
    bench.bootstrap.script = (DISCOVER,)
    execute(bench, "/1/1/9")
    bench.network.run_for(2)
    answers = []
    bench.server.hear = lambda event, now: answers.append(event)  # type: ignore[method-assign]
    bench.server.station.submit(SendRequest(77, PeerId("udp", *DEVICE, *SERVER), codes.GET, b"r", ("3", "0")))
    bench.network.run_for(1)
    assert [codes.dotted(each.code) for each in answers] == ["4.01"]


@pytest.mark.parametrize("path", ["0/0", "bs", "1"])
def test_a_server_that_is_no_bootstrap_server_cannot_act_as_one(path: str):
    bench = BootstrapBench()
    bench.start()
    answers = []
    bench.server.hear = lambda event, now: answers.append(event)  # type: ignore[method-assign]
    request = SendRequest(77, PeerId("udp", *DEVICE, *SERVER), codes.PUT, b"r", tuple(path.split("/")))
    request.payload, request.content_format = b"\xc0\x01", 11542
    bench.server.station.submit(request)
    bench.network.run_for(1)
    assert codes.dotted(answers[0].code) in ("4.00", "4.01", "4.04")


# -- in which order --


def test_a_device_with_a_server_of_the_factory_registers_there_first():
    bench = BootstrapBench(factory_uri=f"coap://{SERVER[0]}:{SERVER[1]}")
    bench.start(100)
    assert bench.of(Registered)
    assert not bench.bootstrap.requests


def test_when_that_server_fails_it_asks_its_bootstrap_server():
    bench = BootstrapBench(factory_uri=f"coap://{OTHER[0]}:{OTHER[1]}", failures=2)
    other = Peer(bench.network, OTHER)
    other.decide = lambda request: Respond(request.exchange, codes.FORBIDDEN)
    device = bench.start(60)
    assert len(other.asked("rd")) == 2
    assert bench.is_configured
    assert device.is_registered
    assert len(bench.server.asked("rd")) == 1


def test_when_bootstrapping_fails_too_it_goes_round_again():
    bench = BootstrapBench((), factory_uri=f"coap://{OTHER[0]}:{OTHER[1]}", failures=1)
    other = Peer(bench.network, OTHER)
    other.decide = lambda request: Respond(request.exchange, codes.FORBIDDEN)
    bench.bootstrap.decide = lambda request: Respond(request.exchange, codes.BAD_REQUEST)
    bench.start(100, patience=Patience(first_s=10, count=2, pause_s=20))
    assert set(bench.failures) == {"refused"}
    # At the pace of registrations, not at that of the network.
    assert 2 < len(bench.failures) <= 12
    assert 2 < len(other.asked("rd")) <= 12


def test_what_the_server_says_with_a_refusal_is_told():
    bench = BootstrapBench()
    bench.bootstrap.decide = lambda request: Respond(request.exchange, codes.BAD_REQUEST, payload=b"no device has it")
    bench.start(3)
    assert {each.detail for each in bench.of(BootstrapFailed)} == {"4.00 no device has it"}


def test_a_device_that_was_refused_asks_again_after_a_while():
    bench = BootstrapBench()
    bench.bootstrap.decide = lambda request: Respond(request.exchange, codes.BAD_REQUEST)
    bench.bootstrap.script = ()
    bench.start(3)
    bench.bootstrap.decide, bench.bootstrap.script = lambda request: None, PLAIN
    bench.network.run_for(10)
    assert bench.failures == ["refused"]
    assert bench.is_configured


def test_nobody_answers_and_it_says_so():
    bench = BootstrapBench()
    bench.bootstrap.decide = lambda request: Drop(request.exchange)
    bench.bootstrap.script = ()
    bench.start(300)
    assert bench.failures[0] in ("silent", "overtime")


def test_servers_that_it_cannot_speak_to_are_no_servers():
    bench = BootstrapBench([DELETE, *account(uri="coap+tcp://nowhere.example:5683"), FINISH])
    bench.start()
    assert bench.failures == ["unreachable"]
    assert [each.reason for each in bench.of(RegistrationRefused)][:1] == ["no way to coap+tcp://nowhere.example:5683"]
    bench = BootstrapBench([DELETE, *account(), *account(2, "coap://nowhere.example:1", 7), FINISH])
    device = bench.start()
    assert bench.is_configured
    assert len(device.accounts) == 1


# -- restarts --


def test_a_restarted_device_registers_with_what_it_was_given():
    bench = BootstrapBench()
    device = bench.start()
    again = bench.restart(device)
    assert len(bench.bootstrap.asked("bs")) == 1
    assert len(bench.server.asked("rd")) == 2
    assert again.is_registered
    execute(bench, "/1/1/9")
    bench.network.run_for(2)
    assert len(bench.bootstrap.asked("bs")) == 2


def test_a_reboot_loses_no_accounts_and_a_factory_reset_all():
    bench = BootstrapBench()
    bench.start()
    execute(bench, "/3/0/4")
    bench.network.run_for(3)
    assert bench.of(Rebooted)
    assert len(bench.of(Registered)) == 2
    assert len(bench.of(BootstrapAsked)) == 1
    answers: list[Any] = []
    bench.server.hear, hear = (lambda event, now: answers.append(event)), bench.server.hear  # type: ignore[method-assign]
    execute(bench, "/3/0/5", 901)
    bench.network.run_for(1)
    assert [codes.dotted(each.code) for each in answers] == ["2.04"]
    bench.server.hear = hear  # type: ignore[method-assign]
    bench.network.run_for(5)
    assert bench.of(Forgot)
    assert len(bench.of(BootstrapAsked)) == 2
    assert len(bench.of(Registered)) == 3


def test_the_account_of_the_bootstrap_server_ends_in_its_time():
    bench = BootstrapBench(account_timeout_s=600)
    device = bench.start(590)
    assert 0 in device.tree.instances(0)
    bench.network.run_for(20)
    assert set(device.tree.instances(0)) == {1}
    assert bench.of(Forgot)
    execute(bench, "/1/1/9")
    bench.network.run_for(2)
    assert bench.failures == ["no-account"]
    assert device.is_registered


def test_the_bootstrap_server_may_give_another_account_of_itself():
    own = security(0, "coap://10.0.0.9:5687", 0) | {"/0/0/1": True}
    own.pop("/0/0/10")
    from .bootstrap_bench import write

    bench = BootstrapBench([write("/0/0", own), *account(), FINISH])
    device = bench.start()
    moved = Peer(bench.network, ("10.0.0.9", 5687))
    execute(bench, "/1/1/9")
    bench.network.run_for(2)
    assert (device.server.remote_host, device.server.remote_port) == ("10.0.0.9", 5687)
    assert len(moved.asked("bs")) == 1
    again = bench.restart(device)
    assert (again.server.remote_host, again.server.remote_port) == ("10.0.0.9", 5687)


def test_a_device_that_stops_in_the_middle_says_nothing_more():
    bench = BootstrapBench((DISCOVER,))
    device = bench.start()
    bench.stop(device)
    bench.network.run_for(300)
    assert len(bench.bootstrap.requests) == 1
    assert not bench.failures
    assert not device.is_bootstrapping


def test_a_sleeper_listens_while_it_bootstraps():
    bench = BootstrapBench(network={"delay_s": 8.0})
    bench.start(200, queue_mode=True, awake_s=1.0)
    assert bench.is_configured


def test_keys_are_in_no_text_of_a_device():
    bench = BootstrapBench(keys={b"me": KEY}, credentials=PreSharedKey(b"me", KEY))
    device: BootstrapDevice = bench.device()
    assert KEY.hex() not in repr(bench.options) + repr(device)
    assert repr(KEY) not in repr(bench.options)
