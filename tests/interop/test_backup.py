"""A backup under load: nobody waits for it, and what was acknowledged before it is in it, once."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from served import Served
from test_crash import DEVICES, Load


def command(server: Served, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "stellwerk", *words],
        env=server.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.spec("MSG-1")
def test_a_backup_under_load_holds_what_was_acknowledged_and_another_server_goes_on_from_it(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    server = serve(auto_provision="backup-*").start()
    load = Load(server.coap_port, "backup-", DEVICES)
    file = tmp_path / "backup.tar"
    try:
        moment = time.monotonic() + 0.5
        load.run(lambda: time.monotonic() > moment)
        before = list(load.acknowledged)
        backup = command(server, "backup", str(file))
        load.run(lambda: backup.poll() is not None)
        assert backup.wait() == 0, backup.communicate()[0]
        during = len(load.acknowledged) - len(before)
        moment = time.monotonic() + 0.3
        load.run(lambda: time.monotonic() > moment)
        sent = max(load.acknowledged + load.outstanding)
    finally:
        load.close()
    assert before
    assert during > DEVICES
    refused = command(server, "restore", "--replace", str(file))
    assert "works in the data directory" in refused.communicate()[0]
    assert refused.returncode == 2
    server.wait_projected()
    everything = Counter(int(each) for each in server.values("/3303/0/5700"))

    other = serve()
    assert "is as it was at" in other.run("restore", str(file))
    other.start()
    other.wait_projected()
    restored = Counter(int(each) for each in other.values("/3303/0/5700"))
    assert set(before) <= set(restored) <= set(everything) <= set(range(1, sent + 1))
    assert max(restored.values()) == 1
    assert {each[0] for each in other.query("stellwerk.db", "SELECT location FROM registration")} == {
        each[0] for each in server.query("stellwerk.db", "SELECT location FROM registration")
    }
    assert (server.stop(), other.stop()) == (0, 0)
