"""Devices that were made with an OSCORE context for the server that they register with; everything in memory."""

from dataclasses import replace
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import SendRequest
from stellwerk.coap.events import ContextRederived, ResponseReceived
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.sim.bootstrap.options import OscoreValues
from stellwerk.sim.faults import Fault
from stellwerk.sim.happenings import BootstrapFailed, Rebooted, Registered, RegistrationRefused
from stellwerk.sim.population import Leave
from stellwerk.sim.security import PreSharedKey

from .bootstrap_bench import SERVER, BootstrapBench, Peer

KEY = bytes(range(16))
SECRET = b"sixteen secret b"
CONTEXT = OscoreValues(SECRET, b"dev-1", b"srv", master_salt=b"salt")
SERVERS_CONTEXT = ContextMaterial(7, b"srv", b"dev-1", SECRET, b"salt", ceiling=256)


class Server(Peer):
    """Notes when it has agreed with a device on another ID Context."""

    agreed = 0

    def hear(self, event: Any, now: float) -> None:
        self.agreed += isinstance(event, ContextRederived)
        super().hear(event, now)


def agreed(bench: BootstrapBench) -> int:
    assert isinstance(bench.server, Server)
    return bench.server.agreed


def bench_of(keys: dict[bytes, bytes] | None = None, **options: Any) -> BootstrapBench:
    """A device whose own account is that of the server."""
    bench = BootstrapBench(is_bootstrap=False, oscore=CONTEXT, **options)
    scheme = "coap" if keys is None else "coaps"
    bench.options = replace(bench.options, server_uri=f"{scheme}://{SERVER[0]}:{SERVER[1]}")
    bench.server = Server(bench.network, SERVER, keys, context=SERVERS_CONTEXT)
    return bench


def read(bench: BootstrapBench, path: str = "3/0/0", code: int = codes.GET) -> str:
    """The code of the answer to a request in the context of the newest Register."""
    heard: list[Any] = []
    before = bench.server.hear

    def hear(event: Any, now: float) -> None:
        heard.append(event)
        before(event, now)

    bench.server.hear = hear  # type: ignore[method-assign]
    peer = bench.server.asked("rd")[-1].peer
    assert peer.is_context
    bench.server.station.submit(SendRequest(5, peer, code, bytes([len(bench.server.requests)]), tuple(path.split("/"))))
    bench.network.run_for(1)
    bench.server.hear = before  # type: ignore[method-assign]
    return next((codes.dotted(each.code) for each in heard if isinstance(each, ResponseReceived)), "none")


@pytest.mark.parametrize("forgets", [False, True])
def test_it_registers_under_its_context_and_is_read_and_takesLeave(forgets: bool):
    bench = bench_of(forgets=forgets)
    device = bench.start()
    assert device.is_registered
    assert read(bench) == "2.05"
    bench.stop(device)
    assert bench.server.requests[-1].code == codes.DELETE
    assert bench.server.requests[-1].peer.is_context
    assert not bench.bootstrap.requests


def test_it_does_so_in_a_session_that_it_closes():
    bench = bench_of({b"dm-1": KEY}, credentials=PreSharedKey(b"dm-1", KEY))
    device = bench.start()
    assert bench.server.identities == [b"dm-1"]
    assert read(bench) == "2.05"
    bench.stop(device)
    assert bench.server.requests[-1].code == codes.DELETE
    assert [each.reason for each in bench.server.ended] == ["close-notify"]


@pytest.mark.spec("RFC 8613 B.2")
def test_who_keeps_no_count_agrees_on_other_keys_in_each_life():
    bench = bench_of(forgets=True)
    for _ in range(3):
        device = bench.start()
        assert device.is_registered
        bench.devices.submit(Leave(device))
    assert len(bench.server.asked("rd")) == agreed(bench) == 3
    assert bench.of(RegistrationRefused) == []


@pytest.mark.spec("RFC 8613 B.2")
def test_who_lost_what_it_kept_is_refused_once_and_agrees_on_other_keys():
    bench = bench_of()
    bench.devices.submit(Leave(bench.start()))
    elsewhere = ("10.0.0.2", 40_001)
    bench.join(elsewhere)
    device = bench.start(20, local=elsewhere)
    assert [each.reason for each in bench.of(RegistrationRefused)] == ["unprotected: 4.01 Replay detected"]
    assert device.is_registered
    assert agreed(bench) == 1
    assert read(bench) == "2.05"


@pytest.mark.spec("RFC 8613 B.1.1")
def test_who_kept_its_count_is_not_refused():
    bench = bench_of()
    again = bench.restart(bench.start())
    assert again.is_registered
    assert agreed(bench) == 0
    assert bench.of(RegistrationRefused) == []


def test_it_tells_what_the_server_says_of_a_context_that_it_has_not():
    bench = bench_of()
    bench.server.context = None
    bench.start(60)
    assert {each.reason for each in bench.of(RegistrationRefused)} == {"unprotected: 4.01 Security context not found"}
    assert len(bench.of(RegistrationRefused)) > 1


@pytest.mark.parametrize("path", ["3/0/4", "3/0/5"])
def test_after_a_reboot_or_a_factory_reset_it_registers_again(path: str):
    bench = bench_of()
    device = bench.start()
    assert read(bench, path, codes.POST) == "2.04"
    bench.network.run_for(5)
    assert bench.of(Rebooted)
    assert len(bench.of(Registered)) == 2
    assert device.is_registered
    assert read(bench) == "2.05"
    assert bench.of(BootstrapFailed) == []


@pytest.mark.parametrize("forgets", [False, True])
def test_it_goes_on_from_another_port(forgets: bool):
    bench = bench_of(forgets=forgets)
    device = bench.start(update_every_s=20.0, faults=(Fault.parse("move:30s"),))
    bench.network.run_for(120)
    updates = [each for each in bench.server.requests if each.path[:1] == ("rd",) and len(each.path) > 1]
    assert len(updates) >= 4
    assert device.is_registered
    assert bench.of(RegistrationRefused) == []


def test_the_trigger_of_a_bootstrap_means_nothing_to_it():
    bench = bench_of()
    bench.start()
    assert read(bench, "1/0/9", codes.POST) == "2.04"
    bench.network.run_for(5)
    assert len(bench.server.asked("rd")) == 1
    assert bench.of(BootstrapFailed) == []
