"""Floods of the secure port: memory stays where it is, and real devices register meanwhile within three seconds.

STELLWERK_INTEROP_FLOOD_S says how long each flood takes, STELLWERK_INTEROP_FLOOD_RATE how many datagrams a second.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from secure_devices import SecureDevices, metric, provision
from served import Served, wait_until
from tests.dtls_flood import KINDS, Flood

SECONDS = float(os.environ.get("STELLWERK_INTEROP_FLOOD_S", "3"))
RATE = float(os.environ.get("STELLWERK_INTEROP_FLOOD_RATE", "4000"))
GROWTH_BYTES = 12 * 1024 * 1024
WITHIN_S = 3.0
NAMES = [f"flood-{number:03d}" for number in range(60)]


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    server = serve_module(log_level="warning").start()
    provision(server.api, NAMES)
    return server


@pytest.fixture(scope="module")
def names() -> Iterator[str]:
    return iter(NAMES)


@pytest.fixture(scope="module")
def steady(server: Served, names: Iterator[str]) -> Iterator[SecureDevices]:
    """A device that was there before all floods."""
    devices = SecureDevices(server.coaps_port, [next(names)])
    devices.connect()
    devices.send()
    yield devices
    devices.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.spec("RFC 6347 4.2.1", "LwM2M-contract 15", "Design 7")
def test_a_flood_leaves_memory_as_it_is_and_real_devices_get_in(
    kind: str,
    server: Served,
    steady: SecureDevices,
    names: Iterator[str],
    record_property: Callable[[str, object], None],
) -> None:
    flood = Flood(server.coaps_port)
    rates: list[float] = []
    real = [SecureDevices(server.coaps_port, [next(names)]) for _ in range(2)]
    try:
        # What it may take at most, it takes now: buffers, tables up to their bounds.
        flood.run(kind, RATE, SECONDS)
        settled = server.resident_bytes()
        pouring = threading.Thread(target=lambda: rates.append(flood.run(kind, RATE, SECONDS)), name="flood")
        pouring.start()
        waited = []
        for devices in real:
            began = time.monotonic()
            devices.connect()
            waited.append(time.monotonic() - began)
        steady.send(within_s=20)
        pouring.join()
        growth = server.resident_bytes() - settled
        record_property("rate", rates[0])
        print(  # noqa: T201
            f"{kind}: {rates[0]:,.0f}/s, {flood.replies} answers of {flood.reply_bytes} bytes to {flood.sent_bytes}; "
            f"real devices in {', '.join(f'{each:.2f}' for each in waited)} s; memory {growth / 1024:+.0f} KiB"
        )
        assert max(waited) < WITHIN_S
        assert growth < GROWTH_BYTES
        for devices in (*real, steady):
            devices.send()
            devices.check_numbers()
        assert not [each for each in server.log_lines() if each.get("level") in ("error", "critical")]
    finally:
        flood.close()
        for devices in real:
            devices.close()


@pytest.mark.spec("RFC 6347 4.1.2.6", "LwM2M-contract 15")
def test_real_records_said_again_and_again_lead_to_nothing(server: Served, steady: SecureDevices) -> None:
    device = steady.all[0]
    for _ in range(40):
        steady.send()
    flood = Flood(server.coaps_port, sockets=4)
    records = device.taken[-40:]
    steady.collect(0.2)
    before, unasked = metric(server, "stellwerk_dtls_dropped_total", reason="replayed"), device.unasked
    try:
        for turn in range(100):
            for record in records:
                # From where it is, and from where it never was.
                device.put(record)
                flood.put(record, flood.source())
            if turn % 10 == 9:
                steady.send()
        steady.collect(0.2)
    finally:
        flood.close()
    assert metric(server, "stellwerk_dtls_dropped_total", reason="replayed") > before
    assert device.unasked == unasked
    assert metric(server, "stellwerk_dtls_sessions_moved_total") == 0
    steady.send()
    steady.check_numbers()


@pytest.mark.spec("LwM2M-contract 15", "Design 7")
def test_whoever_has_not_proven_its_address_gets_no_more_than_it_sent(server: Served) -> None:
    answered = {"hellos": True, "forged cookies": True, "strange connection IDs": False, "strange records": False}
    for kind, is_answered in answered.items():
        flood = Flood(server.coaps_port, sockets=4, seed=9)
        try:
            flood.run(kind, 2000, 0.5)
            if is_answered:
                wait_until(flood.read_replies, within_s=5, what="an answer to the flood")
            assert (flood.replies > 0) == is_answered
            assert flood.replies <= flood.sent
            assert flood.reply_bytes <= flood.sent_bytes
        finally:
            flood.close()
