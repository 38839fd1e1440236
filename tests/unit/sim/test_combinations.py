"""What a fleet cannot be is refused, with what would be right."""

from dataclasses import replace
from typing import Any

import pytest

from stellwerk.core.errors import UserError
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import OscoreValues
from stellwerk.sim.faults import Fault
from stellwerk.sim.fleet_options import FleetOptions, require_possible
from stellwerk.sim.impairment import Conditions
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.security import AfterHandshake, PreSharedKey, Resume, Security, one_for_all

SECURITY = Security(one_for_all(PreSharedKey(b"dev-1", bytes(16))))
SCHEMES = ("coap", "coaps", "coap+tcp", "coaps+tcp")


def options(scheme: str, **more: Any) -> FleetOptions:
    security = SECURITY if scheme.startswith("coaps") else None
    return FleetOptions(**{"server": f"{scheme}://127.0.0.1", "security": security, **more})


def context(name: str, number: int) -> OscoreValues:
    return OscoreValues(bytes(16), b"d", b"s")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("oscore", [None, context])
@pytest.mark.parametrize("bootstrap", [None, Commissioning()])
def test_every_transport_goes_with_oscore_and_with_bootstrapping(scheme: str, oscore: Any, bootstrap: Any):
    require_possible(options(scheme, oscore=oscore, bootstrap=bootstrap))


WRONG_KEY = (Fault.parse("wrong-key"),)
SECOND = DeviceOptions("", other_server_uris=("coap://127.0.0.2",))
REFUSED: dict[str, tuple[FleetOptions, str]] = {
    "DTLS without credentials": (options("coaps", security=None), "--psk, --rpk or --cert"),
    "TLS without credentials": (options("coaps+tcp", security=None), "--psk or --cert"),
    "credentials for nothing": (options("coap+tcp", security=SECURITY), "write coaps://HOST:PORT or coaps+tcp://"),
    "connection IDs over TLS": (options("coaps+tcp", security=replace(SECURITY, cid_length=4)), "leave out --cid"),
    "resumption over TLS": (options("coaps+tcp", security=replace(SECURITY, resume=Resume.ID)), "leave out --cid"),
    "an Update after handshakes over TLS": (
        options("coaps+tcp", security=replace(SECURITY, after_handshake=AfterHandshake.UPDATE)),
        "leave out --after-handshake",
    ),
    "OSCORE with a suite over TLS": (
        options("coaps+tcp", oscore=context, security=replace(SECURITY, suites=(0xC0A8,))),
        "--suite",
    ),
    "a second server and OSCORE": (options("coap", oscore=context, template=SECOND), "write no second server"),
    "a second server and TCP": (options("coap+tcp", template=SECOND), "write coap:// for all of them"),
    "faults of handshakes over TLS": (options("coaps+tcp", faults=WRONG_KEY), "write coaps://"),
    "faults of handshakes without any": (options("coap", faults=WRONG_KEY), "without security there are none"),
    "losses over TCP": (options("coap+tcp", oscore=context, conditions=Conditions(loss=0.1)), "leave out the losses"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_go_together_is_refused_with_what_would_be_right(what: str):
    impossible, rule = REFUSED[what]
    with pytest.raises(UserError) as refused:
        require_possible(impossible)
    assert rule in str(refused.value)


def test_who_bootstraps_over_tls_may_be_given_accounts_for_dtls():
    security = replace(SECURITY, cid_length=4, suites=(0xC0A8,))
    require_possible(options("coaps+tcp", security=security, bootstrap=Commissioning(), faults=WRONG_KEY))
