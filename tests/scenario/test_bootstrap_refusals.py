"""Who is not bootstrapped, and what is told of it: to the device, in its history and log, in the list of recent
refusals."""

from collections.abc import Iterator

import pytest

from stellwerk.app.brake import Strain
from stellwerk.app.credential_record import pre_shared_credential
from stellwerk.app.handlers.bootstrapping import STARTS_AT_ONCE, STARTS_PER_S
from stellwerk.coap.codes import (
    BAD_REQUEST,
    CHANGED,
    SERVICE_UNAVAILABLE,
    UNAUTHORIZED,
    UNSUPPORTED_CONTENT_FORMAT,
)
from stellwerk.device.bootstrap.configuration import ServerEntry
from stellwerk.device.record import PSK, RPK, X509
from stellwerk.dtls.parameters import ServerParameters
from tests.scenario.bootstrap_port import (
    AWAY,
    HOME,
    BootstrapPort,
    Client,
    SecureClient,
    psk_block,
    with_bootstrap,
)
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import Stack

KEY = bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e859")
OTHER = bytes.fromhex("00f1e2d3c4b5a69788796a5b4c3d2e1f")
ONE = ServerEntry(short_id=123, host="dm.example")


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(secure=ServerParameters())
    yield made
    made.close()


@pytest.fixture
def port(stack: Stack) -> BootstrapPort:
    made = BootstrapPort(stack, secure=ServerParameters())
    made.profile(ONE)
    return made


def refusals(port: BootstrapPort) -> list[str]:
    return [each.reason for each in port.history.refusals(None)]


@pytest.mark.spec("SEC-3", "B-16")
def test_an_unknown_endpoint_is_refused_and_stands_in_the_list_alone(port: BootstrapPort) -> None:
    client = Client(port)
    answer = client.ask("/bs?ep=nobody")
    assert answer.code == BAD_REQUEST
    assert b"nobody" in answer.payload
    (refused,) = port.history.refusals(None)
    assert (refused.reason, refused.endpoint, refused.device_id) == ("unknown-endpoint", "nobody", 0)
    assert refused.peer == str(HOME)
    assert client.hears_nothing()


@pytest.mark.spec("SEC-4")
def test_a_request_without_a_name_and_without_an_identity_is_refused(port: BootstrapPort) -> None:
    assert Client(port).ask("/bs").code == BAD_REQUEST
    assert refusals(port) == ["no-name"]


@pytest.mark.parametrize("target", ["/bs?ep=a&ep=b", "/bs?ep=", "/bs?ep=dev1&pct=x", "/bs?ep=dev1&pct=70000"])
def test_parameters_that_make_no_sense_are_refused(port: BootstrapPort, target: str) -> None:
    assert Client(port).ask(target).code == BAD_REQUEST
    assert refusals(port) == ["parameters"]


@pytest.mark.spec("B-4")
@pytest.mark.parametrize("pct", [0, 40, 50, 11543])
def test_a_format_that_nobody_writes_is_4_15_and_stands_in_the_history(port: BootstrapPort, pct: int) -> None:
    device = port.stack.provision("dev1")
    client = Client(port)
    assert client.ask(f"/bs?ep=urn:dev:os:dev1&pct={pct}").code == UNSUPPORTED_CONTENT_FORMAT
    assert client.hears_nothing()
    assert port.ends_of(device) == [("refused", "pct")]
    assert port.stack.log(device) == ["bootstrap-refused"]


@pytest.mark.spec("SEC-6", "Platform 5")
def test_a_device_with_keys_for_the_bootstrap_server_is_refused_without_security(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = Client(port)
    answer = client.ask()
    text = "device 'dev1' has credentials for the bootstrap server and must use them"
    assert (answer.code, answer.payload) == (BAD_REQUEST, text.encode())
    assert client.hears_nothing()
    assert port.ends_of(device) == [("refused", "has-credentials")]
    right = "coaps:// or coaps+tcp://, at the port that STELLWERK_BOOTSTRAP_COAPS_PORT names"
    assert port.sessions_of(device)[0].detail == f"{text}: {right}"


@pytest.mark.spec("SEC-6", "Platform 5")
def test_a_device_without_keys_for_the_bootstrap_server_makes_no_handshake(port: BootstrapPort) -> None:
    port.stack.provision("dev1", credential=with_bootstrap())
    client = SecureClient(port, b"urn:dev:os:dev1", KEY)
    client.device.connect()
    assert client.device.session is None
    (failed,) = port.sessions.handshakes.recent_failures(None)
    assert failed.reason == "unknown-identity"


@pytest.mark.spec("SEC-3", "B-15", "Platform 12.1")
def test_a_device_may_not_be_bootstrapped_in_the_name_of_another(port: BootstrapPort) -> None:
    mine = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    other = port.stack.provision("dev2", credential=with_bootstrap(psk_block("bs-dev2", OTHER)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    assert client.ask("/bs?ep=urn:dev:os:dev2").code == BAD_REQUEST
    assert client.hears_nothing()
    assert port.ends_of(mine) == [("refused", "wrong-identity")]
    assert port.ends_of(other) == []
    assert refusals(port) == ["wrong-identity"]


@pytest.mark.spec("SEC-3", "B-15")
@pytest.mark.parametrize("name", ["urn:dev:os:dev1", "dev1", "bs-dev1", "imei-352099001761481", None])
def test_over_a_session_any_name_of_the_device_will_do(port: BootstrapPort, name: str | None) -> None:
    credential = with_bootstrap(psk_block("bs-dev1", KEY), endpoint="imei-352099001761481")
    device = port.stack.provision("dev1", credential=credential)
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    assert client.bootstrap("/bs" if name is None else f"/bs?ep={name}")[-1] == "POST /bs"
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("SEC-3")
def test_the_name_of_nobody_is_no_name_of_the_device(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    answer = client.ask("/bs?ep=never-heard")
    assert answer.code == BAD_REQUEST
    assert b"bootstrap.endpoint" in answer.payload
    assert port.ends_of(device) == [("refused", "wrong-identity")]


@pytest.mark.spec("SEC-9")
def test_a_session_from_before_the_credential_changed_is_worth_nothing(port: BootstrapPort) -> None:
    stack = port.stack
    device = stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    stack.run(stack.store.set_credential(device.device_id, with_bootstrap(psk_block("bs-new", OTHER))))
    assert client.ask("/bs?ep=urn:dev:os:dev1").code == BAD_REQUEST
    assert refusals(port) == ["wrong-identity"]


@pytest.mark.spec("B-15", "Platform 12.1")
def test_a_key_for_the_server_of_devices_is_none_for_the_bootstrap_server(port: BootstrapPort) -> None:
    own = pre_shared_credential("dm-dev1", OTHER.hex(), 0)
    port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY), credential=own))
    client = SecureClient(port, b"dm-dev1", OTHER)
    client.device.connect()
    assert client.device.session is None
    (failed,) = port.sessions.handshakes.recent_failures(None)
    said = "; device 'dev1' has it for device management (STELLWERK_COAPS_PORT): is the port right?"
    assert failed.detail.endswith(said)


@pytest.mark.spec("Platform 4", "B-7")
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ServerEntry(short_id=1, mode=PSK, host="h", port=5684), "mode PSK"),
        (ServerEntry(short_id=1, mode=RPK, host="h", port=5684), "mode RPK"),
        (ServerEntry(short_id=1, mode=X509, host="h", port=5684), "mode X509"),
        (ServerEntry(short_id=1, mode=PSK, host="h", port=5684, keys="fresh"), "fresh"),
        (ServerEntry(short_id=1, host="h", oscore=True), "OSCORE"),
    ],
)
def test_a_profile_that_the_credential_does_not_fit_is_named_and_the_device_learns_no_more(
    port: BootstrapPort, entry: ServerEntry, said: str
) -> None:
    device = port.stack.provision("dev1")
    port.profile(entry)
    client = Client(port)
    answer = client.ask()
    assert answer.code == BAD_REQUEST
    assert b"incomplete" in answer.payload
    assert client.hears_nothing()
    (session,) = port.sessions_of(device)
    assert (session.state.value, session.reason) == ("refused", "configuration")
    assert said in session.detail


@pytest.mark.spec("Platform 4")
def test_an_entry_for_the_bootstrap_server_has_to_fit_as_well(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    own = ServerEntry(is_bootstrap=True, short_id=None, mode=PSK, host="bs", port=5688)
    port.profile(own, ONE, updates_bootstrap_server=True)
    assert Client(port).ask().code == BAD_REQUEST
    assert "bootstrapServer" in port.sessions_of(device)[0].detail


def test_the_same_refusal_fills_neither_history_nor_log(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = Client(port)
    for _ in range(5):
        client.ask()
    assert port.ends_of(device) == [("refused", "has-credentials")]
    assert port.stack.log(device) == ["bootstrap-refused"]
    assert len(refusals(port)) == 5
    port.stack.clock.at += 61
    client.ask()
    assert len(port.ends_of(device)) == 2


def test_the_list_of_refusals_is_bounded(port: BootstrapPort) -> None:
    client = Client(port)
    for number in range(210):
        client.ask(f"/bs?ep=nobody-{number}")
    assert len(refusals(port)) == 200
    assert port.history.refusals(None)[0].endpoint == "nobody-209"
    assert port.history.refusals("default") == []


def test_more_devices_than_may_are_told_to_come_again(stack: Stack) -> None:
    port = BootstrapPort(stack, most=1)
    port.profile(ONE)
    stack.provision("dev1")
    device = stack.provision("dev2")
    first, second = Client(port), Client(port, AWAY)
    assert first.ask().code == CHANGED
    answer = second.ask("/bs?ep=urn:dev:os:dev2")
    assert answer.code == SERVICE_UNAVAILABLE
    assert 14 in dict(answer.options)
    first.run()
    assert second.bootstrap("/bs?ep=urn:dev:os:dev2")[-1] == "POST /bs"
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("SEC-9", "Platform 4")
def test_another_key_for_the_bootstrap_server_ends_what_came_in_with_the_former_and_no_registration(
    port: BootstrapPort,
) -> None:
    stack = port.stack
    assert stack.store is not None
    own = pre_shared_credential("dm-dev1", OTHER.hex(), 0)
    device = stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY), credential=own))
    stack.devices.revoking.bootstrap_revoked = port.revoked_now
    registered = SecureDevice(stack, b"dm-dev1", OTHER, port=40_009).connect()
    assert registered.register("/rd?ep=dev1&lt=300&lwm2m=1.1&b=U") == 0x41
    idle, client = (SecureClient(port, b"bs-dev1", KEY, port=each).connect() for each in (40_001, 40_002))
    client.ask("/bs?ep=dev1")
    anew = with_bootstrap(psk_block("bs-dev1", OTHER), credential=own)
    stack.run(stack.store.set_credential(device.device_id, anew))
    stack.run(stack.devices.revoking.look())
    port.settle()
    assert port.ends_of(device) == [("lost", "revoked")]
    assert len(port.sessions) == 0
    assert idle.hears_nothing()
    assert stack.registrations() == ["dev1"]
    again = SecureClient(port, b"bs-dev1", OTHER, port=40_003).connect()
    assert again.bootstrap("/bs?ep=dev1")[-1] == "POST /bs"


@pytest.mark.spec("LwM2M-contract 15", "MSG-14")
def test_a_device_that_asks_again_and_again_is_told_to_come_later_and_costs_the_store_nothing(
    port: BootstrapPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, other = port.stack.provision("dev1"), port.stack.provision("dev2")
    clients = [Client(port, HOME._replace(remote_port=41_000 + each)) for each in range(40)]
    answers = [each.ask().code for each in clients]
    begun = answers.count(CHANGED)
    assert answers == [CHANGED] * begun + [SERVICE_UNAVAILABLE] * (40 - begun)
    assert begun == STARTS_AT_ONCE
    assert set(refusals(port)) == {"rate"}
    assert Client(port, AWAY).bootstrap("/bs?ep=urn:dev:os:dev2")[-1] == "POST /bs"
    assert port.ends_of(other) == [("configured", "")]
    port.stack.clock.at += 1 / STARTS_PER_S
    assert clients[0].ask().code == CHANGED
    assert [each for each, _ in port.ends_of(device)].count("refused") == 1


@pytest.mark.spec("MSG-14")
def test_while_the_store_cannot_keep_up_nobody_is_bootstrapped(stack: Stack) -> None:
    port = BootstrapPort(stack)
    port.profile(ONE)
    device = stack.provision("dev1")
    stack.brake.measure(Strain(queue=8_000), stack.clock.now())
    client = Client(port)
    answer = client.ask()
    assert answer.code == SERVICE_UNAVAILABLE
    assert 14 in dict(answer.options)
    assert port.ends_of(device) == []
    stack.clock.at += 2
    stack.brake.measure(Strain(), stack.clock.now())
    assert client.bootstrap()[-1] == "POST /bs"


@pytest.mark.spec("RFC 9175 2.4", "B-16")
def test_where_a_move_takes_proof_nobody_ends_the_session_of_another_address_without(stack: Stack) -> None:
    port = BootstrapPort(stack, prove_moves=True)
    port.profile(ONE)
    device = stack.provision("dev1")
    client, away = Client(port), Client(port, AWAY)
    client.ask()
    asked = away.ask()
    assert asked.code == UNAUTHORIZED
    client.run()
    assert port.ends_of(device) == [("configured", "")]
    client.ask()
    echo = [(252, dict(asked.options)[252])]
    assert away.ask(extra=echo).code == CHANGED
    away.run()
    assert port.ends_of(device)[:2] == [("configured", ""), ("replaced", "another-request")]
