"""aiocoap and our server with OSCORE between them: an independent implementation of RFC 8613, in both roles."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap_device import SENML_CBOR
from oscore_device import Keys, OscoreDevice, OscoreStreamDevice, give_context
from oscore_engine import Engine
from raw_coap import ACK, RawSocket, Relay, decode
from served import Served, wait_until

from stellwerk.coap import codes, events

_numbers = itertools.count(1)
SECRET = bytes(range(16))
PACK = b"\x81\xa2\x00\x6c/3303/0/5700\x02\xf9\x4e\x00"
OSCORE_OPTION = 9


class Setting:
    """A provisioned device and what it needs: its name, its keys, the folder of its context, a relay in between."""

    def __init__(self, server: Served, folder: Path) -> None:
        self.server = server
        self.name = f"oscore-{next(_numbers)}"
        # Each has a secret of its own: the server sends as the same to all.
        self.keys = Keys(self.name.encode().ljust(16, b"-"), self.name.encode()[-7:], b"us", b"salty")
        self.folder = self.keys.write(folder / self.name)
        server.api.provision(self.name, self.name)
        give_context(server, self.name, self.keys)
        self.relay = Relay(server.coap_port)
        self._devices: list[OscoreDevice] = []

    def device(self, folder: Path | None = None) -> OscoreDevice:
        made = OscoreDevice(self.relay.port, folder or self.folder)
        self._devices.append(made)
        return made

    def registered(self) -> OscoreDevice:
        device = self.device()
        device.register(self.name)
        self.server.api.wait_type(self.name, "registration")
        return device

    def close(self) -> None:
        for each in self._devices:
            each.close()
        self.relay.close()


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module(auto_read="", log_level="debug").start()


@pytest.fixture
def setting(server: Served, tmp_path: Path) -> Iterator[Setting]:
    made = Setting(server, tmp_path)
    yield made
    made.close()


@pytest.mark.spec("LwM2M-contract 2.6", "ETS 405", "RFC 8613 B.1.2")
def test_aiocoap_registers_with_oscore_after_an_echo_and_nothing_is_readable_on_the_way(setting: Setting) -> None:
    device = setting.registered()
    assert device.location.startswith("/rd/")
    said = [decode(each) for each in (*setting.relay.up, *setting.relay.down)]
    assert all(OSCORE_OPTION in [number for number, _ in each.options] for each in said if each.code)
    assert not [each for each in (*setting.relay.up, *setting.relay.down) if b"rd" in each or b"/3303" in each]
    # The first Register was answered with an Echo, the second one taken.
    assert len([each for each in said if each.type != ACK and each.code]) == 2


@pytest.mark.spec("LwM2M-contract 2.6", "ETS 405")
def test_aiocoap_is_read_written_and_executed_under_the_same_context(setting: Setting) -> None:
    device = setting.registered()
    api, name = setting.server.api, setting.name
    assert api.run(name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}
    assert api.run(name, "READ /3")["content"]["data"]["3/0/9"] == 88
    assert api.run(name, "WRITE /3/0/15 Asia/Tokyo")["content"]["status"]["code"] == 200
    assert device.timezone.writes == [(SENML_CBOR, b"\x81\xa2\x21\x67/3/0/15\x03\x6aAsia/Tokyo")]
    assert api.run(name, "EXECUTE /3/0/4?0='now'")["content"]["status"]["code"] == 200
    assert device.guard.unprotected == 0


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 4.1.3.5")
def test_aiocoap_is_observed_and_its_notifications_are_values(setting: Setting) -> None:
    device = setting.registered()
    api, name = setting.server.api, setting.name
    assert api.run(name, "OBSERVE /3303/0/5700")["content"]["data"] == {"3303/0/5700": 21.5}
    for value in (22.25, 23.5):
        device.soon(device.temperature.change, value)
        api.wait_latest(name, lambda each, value=value: each["content"].get("dataValue") == value)  # type: ignore[misc]
    assert api.run(name, "UNOBSERVE /3303/0/5700")["content"]["status"]["code"] == 200
    wait_until(lambda: device.temperature.observers == 0, within_s=5, what="the observer is gone")


@pytest.mark.spec("LwM2M-contract 2.6")
def test_aiocoap_sends_updates_and_deregisters(setting: Setting) -> None:
    device = setting.registered()
    assert device.ask(aiocoap.POST, "/dp", PACK, SENML_CBOR).code == aiocoap.CHANGED
    assert setting.server.api.wait_type(setting.name, "send")["content"]["data"] == {"3303/0/5700": 24}
    assert device.ask(aiocoap.POST, device.location + "?lt=600").code == aiocoap.CHANGED
    assert device.ask(aiocoap.DELETE, device.location).code == aiocoap.DELETED
    setting.server.api.wait_type(setting.name, "deregistration")


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 7.4")
def test_a_captured_datagram_is_refused_wherever_it_comes_from(setting: Setting) -> None:
    device = setting.registered()
    assert device.ask(aiocoap.POST, "/dp", PACK, SENML_CBOR).code == aiocoap.CHANGED
    setting.server.api.wait_type(setting.name, "send")
    setting.server.wait_projected()
    before = len(setting.server.messages(setting.name))
    for captured in [each for each in setting.relay.up if decode(each).code]:
        thief = RawSocket(setting.server.coap_port)
        thief.send(captured)
        answer = thief.receive(5)
        assert answer is not None
        assert answer.dotted == "4.01"
    setting.server.wait_projected()
    assert len(setting.server.messages(setting.name)) == before
    # What is asked of the device still goes to where it is.
    assert setting.server.api.run(setting.name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}


@pytest.mark.spec("SEC-6", "LwM2M-contract 2.6")
def test_what_comes_without_oscore_is_refused(setting: Setting) -> None:
    device = setting.device()
    answer = device.ask_unprotected(aiocoap.POST, f"/rd?ep={setting.name}&lt=300&lwm2m=1.1&b=U", b"</3/0>")
    assert answer.code == aiocoap.FORBIDDEN
    assert b"has credentials and must use them" in answer.payload


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.6")
def test_another_devices_endpoint_name_is_refused(setting: Setting) -> None:
    other = f"{setting.name}-other"
    setting.server.api.provision(other, other)
    answer = setting.device().ask(aiocoap.POST, f"/rd?ep={other}&lt=300&lwm2m=1.1&b=U", b"</3/0>", 40)
    assert answer.code == aiocoap.BAD_REQUEST


def _refused(setting: Setting, keys: Keys, folder: Path) -> Any:
    device = setting.device(keys.write(folder))
    with pytest.raises(Exception) as refusal:
        device.register(setting.name)
    return refusal.value


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 8.2")
def test_an_unknown_sender_id_and_a_wrong_key_come_to_nothing(setting: Setting, tmp_path: Path) -> None:
    _refused(setting, Keys(SECRET, b"who?", b"us", b"salty"), tmp_path / "unknown")
    _refused(setting, Keys(bytes(16), setting.keys.sender_id, b"us", b"salty"), tmp_path / "wrong")
    said = [decode(each).dotted for each in setting.relay.down]
    assert said == ["4.01", "4.00"]
    assert setting.server.api.latest(setting.name) is None
    lines = [each for each in setting.server.log_lines() if each["event"] == "oscore.refused"]
    assert [each["reason"] for each in lines][-2:] == ["unknown-context", "oscore-decryption"]


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 B.1.1", "RFC 8613 B.1.2")
def test_a_server_that_was_killed_goes_on_and_uses_no_number_twice(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    server = serve(auto_read="").start()
    setting = Setting(server, tmp_path)
    try:
        device = setting.registered()
        assert server.api.run(setting.name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}
        server.kill()
        server.start()
        posted = server.api.command(setting.name, "READ /3/0/0")
        # The device is not known to be anywhere until it is heard; then an Echo shows that it is there now.
        device.update()
        [answer] = server.answers(setting.name, posted)
        assert answer["data"] == {"3/0/0": "aiocoap"}
        assert device.ask(aiocoap.POST, "/dp", PACK, SENML_CBOR).code == aiocoap.CHANGED
    finally:
        setting.close()
    used = [_piv(each) for each in setting.relay.down]
    numbers = [each for each in used if each]
    assert len(numbers) == len(set(numbers)) >= 3


def _piv(datagram: bytes) -> bytes:
    value = next((value for number, value in decode(datagram).options if number == OSCORE_OPTION), b"")
    return value[1 : 1 + (value[0] & 7)] if value else b""


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 B.1.1")
def test_a_device_that_lost_its_power_comes_again_with_the_numbers_it_has_written_down(setting: Setting) -> None:
    setting.registered().forget()
    again = setting.registered()
    assert setting.server.api.run(setting.name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}
    assert again.guard.unprotected == 0


@pytest.mark.spec("LwM2M-contract 2.6")
def test_a_device_behind_a_nat_that_forgot_it_is_found_where_it_was_heard_last(setting: Setting) -> None:
    device = setting.registered()
    setting.relay.move()
    device.update()
    assert setting.server.api.run(setting.name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}


@pytest.mark.spec("SEC-9", "LwM2M-contract 2.6")
def test_a_context_that_was_replaced_is_refused_and_the_new_one_registers(setting: Setting, tmp_path: Path) -> None:
    device = setting.registered()
    newer = Keys(bytes(16), b"newer", b"us", b"salty")
    give_context(setting.server, setting.name, newer)
    setting.server.api.wait_type(setting.name, "registration-expire", within_s=8)
    with pytest.raises(Exception):  # noqa: B017
        device.update()
    assert setting.relay.down
    setting.device(newer.write(tmp_path / "newer")).register(setting.name)


@pytest.mark.spec("LwM2M-contract 2.6", "ETS 405", "RFC 8613 4.1.3.5")
def test_aiocoap_registers_and_is_read_and_observed_with_oscore_over_tcp(setting: Setting) -> None:
    device = OscoreStreamDevice(setting.server.coap_port, setting.folder)
    api, name = setting.server.api, setting.name
    try:
        device.register(name)
        api.wait_type(name, "registration")
        assert api.run(name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}
        assert api.run(name, "OBSERVE /3303/0/5700")["content"]["data"] == {"3303/0/5700": 21.5}
        device.soon(device.temperature.change, 22.25)
        api.wait_latest(name, lambda each: each["content"].get("dataValue") == 22.25)
        assert device.ask(aiocoap.POST, "/dp", PACK, SENML_CBOR).code == aiocoap.CHANGED
        assert device.guard.unprotected == 0
    finally:
        device.close()


# -- our engine as the client, aiocoap as the server --


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[OscoreDevice, Keys, int]]:
    """An aiocoap that serves, the keys of its other end, and its port."""
    keys = Keys(SECRET, b"device", b"us", b"salty", id_context=b"there")
    device = OscoreDevice(1, keys.write(tmp_path / "served"))
    yield device, keys.mirrored(), device.port
    device.close()


@pytest.mark.spec("RFC 8613 8.1", "RFC 8613 8.4", "RFC 8613 4.1.3.5")
def test_our_engine_reads_writes_and_observes_an_aiocoap_server(served: tuple[OscoreDevice, Keys, int]) -> None:
    device, keys, port = served
    engine = Engine(keys, port)
    answer = engine.ask(codes.GET, "/3/0/0")
    assert (answer.code, answer.payload) == (codes.CONTENT, b"aiocoap")
    assert engine.ask(codes.PUT, "/3/0/15", b"UTC").code == codes.CHANGED
    assert engine.ask(codes.GET, "/9").code == codes.NOT_FOUND
    large = b"x" * 5000
    assert engine.ask(codes.PUT, "/3/0/15", large).code == codes.CHANGED
    assert device.timezone.writes[-1] == (None, large)
    assert engine.ask(codes.GET, "/3/0/15").payload == large
    assert engine.ask(codes.GET, "/3303/0/5700", observe=0).observe is not None
    device.soon(device.temperature.change, 30.5)
    told = engine.wait(lambda event: isinstance(event, events.NotificationReceived))
    assert told.payload == b"30.5"
    assert device.guard.unprotected == 0
    engine.close()


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 B.1.2")
def test_an_aiocoap_server_that_lost_its_window_asks_our_engine_for_an_echo(
    served: tuple[OscoreDevice, Keys, int], tmp_path: Path
) -> None:
    device, keys, port = served
    engine = Engine(keys, port)
    assert engine.ask(codes.GET, "/3/0/0").code == codes.CONTENT
    engine.close()
    device.forget()
    again = OscoreDevice(1, tmp_path / "served")
    try:
        engine = Engine(keys, again.port, unused=1000)
        assert engine.ask(codes.GET, "/3/0/0").payload == b"aiocoap"
        engine.close()
    finally:
        again.close()


@pytest.mark.spec("RFC 8613 7.4")
def test_an_aiocoap_server_refuses_our_engine_with_numbers_it_has_used(served: tuple[OscoreDevice, Keys, int]) -> None:
    _, keys, port = served
    engine = Engine(keys, port)
    assert engine.ask(codes.GET, "/3/0/0").code == codes.CONTENT
    engine.close()
    engine = Engine(keys, port)
    refused = engine.ask(codes.GET, "/3/0/0")
    assert isinstance(refused, events.RequestFailed)
    assert (refused.reason, refused.detail[:4]) == ("unprotected", "4.01")
    engine.close()
