"""Devices that fall silent while they are bootstrapped: each session ends, and says at which step."""

import pytest
from bootstrapped import Bootstrapped
from silent_devices import ACKNOWLEDGED

WRITTEN = "perhaps the device has taken what it was given"


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.spec("B-3", "B-16", "Platform 12.1")
@pytest.mark.parametrize(
    ("step", "detail"),
    [
        ("GET /", "Bootstrap-Discover /: timeout: no acknowledgement"),
        ("DELETE /0/1", "Bootstrap-Delete /0/1: timeout: no acknowledgement"),
        ("PUT /0/1", "Bootstrap-Write /0/1: timeout: no acknowledgement"),
        ("POST /bs", f"Bootstrap-Finish: timeout: no acknowledgement; {WRITTEN}"),
        (ACKNOWLEDGED, "Bootstrap-Write /0/1: timeout: no answer after its acknowledgement"),
    ],
)
def test_a_device_that_falls_silent_at_a_step(
    silent_bootstraps: dict[str, Bootstrapped], step: str, detail: str
) -> None:
    # Sooner than the 247 s after which the client gives up.
    session = silent_bootstraps[step].wait_ended(within_s=100)
    assert (session["state"], session["reason"], session["detail"]) == ("silent", "timeout", detail)
    assert session["steps"][-1]["failure"] == "timeout"
    assert silent_bootstraps[step].log()[-1] == ("bootstrap-ended", f"silent, timeout, {detail}")
