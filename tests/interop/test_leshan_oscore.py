"""Leshan with OSCORE (Californium's): what it is given for it, and how far it gets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from bootstrapped import NO_SEC, Bootstrapped, dm, set_profile
from leshan_client import OscoreClient, class_path
from raw_coap import Relay, decode
from served import Served

REASON = class_path("oscore")[1]
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"Leshan with OSCORE: {REASON}")
OSCORE_OPTION = 9


@pytest.mark.spec("LwM2M-contract 2.6", "LwM2M-contract 10", "RFC 8613 B.1.2", "ETS 11")
def test_leshan_is_given_a_context_and_speaks_under_it_and_repeats_no_echo(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    server = serve().start()
    relay = Relay(server.coap_port)
    keys = {
        "masterSecret": b"no counting here".hex(), "masterSalt": b"salty".hex(),
        "senderId": b"leshan".hex(), "recipientId": b"us".hex(),
    }  # fmt: skip
    profile = set_profile(server, "oscore", dm(server, oscore=True, port=relay.port))
    one = Bootstrapped(server, "none", profile, tmp_path, lwm2mServer={**NO_SEC, "oscore": keys})
    client = OscoreClient(server.bootstrap_coap_port, one.endpoint)
    try:
        client.wait_said("bootstrapped")
        # Its Register was read, and it reads the answer: both have the same keys. Californium does not repeat the Echo
        # that the answer asks for.
        assert client.wait_said("register") == "register refused UNAUTHORIZED(401)"
        said = [decode(each) for each in (*relay.up, *relay.down)]
        assert all(OSCORE_OPTION in [number for number, _ in each.options] for each in said if each.code)
        assert {each.dotted for each in map(decode, relay.down) if each.code} == {"2.04"}
        session = one.history()[0]
        assert session["state"] == "configured"
        assert [each["path"] for each in session["steps"] if each["operation"] == "Bootstrap-Write"] == [
            "/0/1", "/1/0", "/21/1",
        ]  # fmt: skip
        assert keys["masterSecret"] not in one.told()
    finally:
        client.kill()
        relay.close()
