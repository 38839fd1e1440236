"""Thousands of secure sessions and a server that stops or dies: they go on without a handshake, nothing acknowledged is
lost, no number is used twice and nothing is taken twice.

STELLWERK_INTEROP_SESSIONS says how many sessions, 4,000 unless it is set.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from secure_devices import SecureDevices, metric, provision
from served import Served

COUNT = int(os.environ.get("STELLWERK_INTEROP_SESSIONS", "4000"))
SETTINGS = {
    "dtls_handshakes_per_address": "0",
    "dtls_handshakes_per_tenant": "0",
    "log_level": "warning",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
@pytest.mark.spec("SEC-8", "Design 7")
def test_thousands_of_sessions_go_on_after_the_server_was_gone(
    ending: str, serve: Callable[..., Served], record_property: Callable[[str, object], None]
) -> None:
    server = serve(**SETTINGS).start()
    names = [f"restart-{number:05d}" for number in range(COUNT)]
    provision(server.api, names)
    devices = SecureDevices(server.coaps_port, names)
    try:
        began = time.monotonic()
        devices.connect()
        print(f"{COUNT} sessions in {time.monotonic() - began:.1f} s")  # noqa: T201
        devices.send()
        # Numbers are on their way when it ends.
        some = random.Random(5).sample(devices.all, COUNT // 4)
        for device in some:
            devices.begin_send(device)
        devices.collect(0.02)
        if ending == "SIGKILL":
            server.kill()
        else:
            assert server.stop() == 0
        stored = server.query("stellwerk.db", "SELECT count(*), sum(length(sealed)) FROM secure_session")[0]
        assert stored[0] == COUNT
        taken = {device.name: list(device.taken) for device in devices.all}

        # What it still said before it ended, and something to ask of the next one.
        devices.collect(0.2)
        for device in some:
            if device.waiting is None:
                devices.begin_send(device)
        devices.first_answer = None
        spawned = time.monotonic()
        ready: list[float] = []
        starting = threading.Thread(target=lambda: (server.start(), ready.append(time.monotonic())), name="start")
        starting.start()
        # They go on as devices do: what has no answer is said again.
        while devices.first_answer is None and time.monotonic() - spawned < 30:
            devices.collect(0.01)
            devices.repeat(some, 0.2)
        assert devices.first_answer is not None
        first_s = devices.first_answer - spawned
        starting.join()
        after_ready_s = devices.first_answer - ready[0]
        while any(device.waiting for device in some) and time.monotonic() - spawned < 60:
            devices.collect(0.02)
            devices.repeat(some)
        assert not [device.name for device in some if device.waiting]

        # Sessions that are not loaded yet, and what they said before: not a byte comes back.
        quiet = [device for device in devices.all if device not in some][: COUNT // 4]
        devices.collect(0.2)
        before = metric(server, "stellwerk_dtls_dropped_total", reason="replayed")
        unasked = [device.unasked for device in quiet]
        replayed = 0
        for index, device in enumerate(quiet):
            for datagram in taken[device.name]:
                device.put(datagram)
                replayed += 1
            if index % 50 == 49:
                devices.collect(0.02)
        deadline = time.monotonic() + 20
        while metric(server, "stellwerk_dtls_dropped_total", reason="replayed") < before + replayed:
            assert time.monotonic() < deadline, "replayed records were not all dropped as such"
            devices.collect(0.05)
        devices.collect(0.5)
        assert [device.unasked for device in quiet] == unasked

        began = time.monotonic()
        devices.send()
        all_s = time.monotonic() - began

        # No handshake: not by the server's count, not by what devices saw.
        assert metric(server, "stellwerk_dtls_handshakes_total") == 0
        assert devices.handshakes == COUNT
        assert metric(server, "stellwerk_dtls_sessions_restored_total") == COUNT
        numbers = devices.check_numbers()
        # Everything that was acknowledged is there, once; what came before the end and was said again after it, too.
        server.wait_projected(60)
        found = Counter(int(each) for each in server.values("/3303/0/5700"))
        assert set(devices.acknowledged) == set(found)
        assert set(found.values()) == {1}
        size = stored[1] / stored[0]
        record_property("first_answer_s", first_s)
        record_property("stored_bytes", size)
        print(  # noqa: T201
            f"{ending}: first answer {first_s:.2f} s after the process began, "
            f"{after_ready_s:.2f} s after it was ready; all {COUNT} in {all_s:.1f} s; "
            f"{size:.0f} bytes for each stored session, {numbers} record numbers, none twice; {replayed} replays"
        )
        # On a busy machine it is the start of the process that takes its time.
        assert after_ready_s < 1
    finally:
        devices.close()
