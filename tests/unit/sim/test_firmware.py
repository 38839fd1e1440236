"""The firmware state machine by itself; `test_objects` shows it behind object 5."""

import pytest

from stellwerk.coap import codes
from stellwerk.sim.firmware import DOWNLOAD_S, INSTALL_S, Firmware, Result, State, next_version
from stellwerk.sim.tree import Denied

NOW_S = 1_800_000_000.0


@pytest.mark.spec("Core E.6")
def test_nothing_is_written_while_a_package_is_installed():
    firmware = Firmware()
    firmware.take_package(b"package", NOW_S)
    firmware.update(NOW_S)
    for refused in (lambda: firmware.take_package(b"x", NOW_S), lambda: firmware.take_uri("", NOW_S)):
        with pytest.raises(Denied) as denied:
            refused()
        assert denied.value.code == codes.METHOD_NOT_ALLOWED
    assert (firmware.state, firmware.result) == (State.UPDATING, Result.INITIAL)


def test_each_step_takes_its_time_and_the_last_one_a_restart():
    firmware = Firmware()
    firmware.take_uri("coap://example.org/x", NOW_S)
    assert firmware.deadline() == NOW_S + DOWNLOAD_S
    assert not firmware.advance(NOW_S + DOWNLOAD_S - 0.1)
    assert firmware.state is State.DOWNLOADING
    assert not firmware.advance(NOW_S + DOWNLOAD_S)
    assert (firmware.state, firmware.deadline()) == (State.DOWNLOADED, None)
    firmware.update(NOW_S + 10)
    assert firmware.advance(NOW_S + 10 + INSTALL_S)
    assert (firmware.state, firmware.result) == (State.IDLE, Result.SUCCESS)


def test_an_update_brings_the_next_version():
    assert next_version("1.0.0") == "1.1.0"
