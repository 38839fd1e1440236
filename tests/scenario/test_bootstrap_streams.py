"""Devices that bootstrap over TCP and over TLS: the same steps over the same connection, whose end is the session's
(contract §1.8, B-1, B-3, B-16; RFC 8323)."""

import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from stellwerk.app.fresh_keys import FreshKeys
from stellwerk.app.handlers.bootstrap_channels import IDLE_S
from stellwerk.coap.codes import BAD_REQUEST, CHANGED, CONTENT, GET
from stellwerk.coap.message import Message
from stellwerk.coap.options import BLOCK1
from stellwerk.coap.tcp.signalling import RELEASE
from stellwerk.device.bootstrap.configuration import ServerEntry
from stellwerk.device.key_material import pkcs8_of, to_base64
from stellwerk.device.record import PSK, X509
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.issuing import Issuer
from tests.scenario.bootstrap_port import CONFIGURED, BootstrapPort, psk_block, with_bootstrap
from tests.scenario.bootstrap_streams import CONNECTION, OverTcp, OverTls, StreamClient, TlsBootstrapClient
from tests.scenario.stack import Stack, after
from tests.scenario.test_secure_keys import BAD, ISSUER, KEY, NAME, NOW, SERVER, STRANGER, der
from tests.scenario.tls_device import TlsDevice
from tests.tls_client import VERSIONS, PskClient

ONE = ServerEntry(short_id=123, host="dm.example")
STEPS = ["GET /", "DELETE /0/1", "DELETE /1/0", "PUT /0/1", "PUT /1/0", "POST /bs"]
"""Of a device that has a server already."""
BS_KEY = bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e859")
OWN = ISSUER.client(KEY, NAME, now=NOW)
SELF_SIGNED = Issuer(STRANGER.key, STRANGER.chain[0]).client(KEY, "some serial number", now=NOW)


@pytest.fixture
def port() -> Iterator[BootstrapPort]:
    stack = Stack()
    identity = ServerIdentity(SERVER.key, der(SERVER)[:1])
    made = BootstrapPort(
        stack,
        secure=ServerParameters(identity=identity),
        trusted=(ISSUER.certificate,),
        over=(OverTcp, partial(OverTls, identity=identity)),
    )
    made.profile(ONE)
    yield made
    stack.close()


def until(client: StreamClient, step: str, target: str = "/bs?ep=urn:dev:os:dev1") -> Message:
    """Go on up to that step, which is not answered."""
    client.ask(target)
    while True:
        request = client.next()
        if client.steps[-1] == step:
            return request
        client.react(request)


@pytest.mark.spec("B-1", "B-2", "B-7", "BIN-4", "RFC 8323 5.3", "LwM2M-contract 1.8")
def test_a_device_over_tcp_gets_its_account_over_its_connection(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = StreamClient(port, holds=CONFIGURED).connect()
    assert client.bootstrap() == STEPS
    assert port.ends_of(device) == [("configured", "")]
    assert port.sessions_of(device)[0].peer == str(CONNECTION)
    # What the profile leaves open is as the device came.
    assert b"coap+tcp://dm.example:5683" in client.written["/0/1"]
    # In a while the server takes leave.
    link = port.streams["tcp"].link
    assert list(link.closing) == [CONNECTION]
    port.calls(lambda: link._close_peer(CONNECTION))
    client.listen()
    assert client.was_closed
    assert [each.code for each in client.signals][-1] == RELEASE


@pytest.mark.spec("B-16", "RFC 8323 5.6", "LwM2M-contract 1.8")
@pytest.mark.parametrize("step", STEPS)
def test_a_connection_that_breaks_ends_the_session_at_once(port: BootstrapPort, step: str) -> None:
    device = port.stack.provision("dev1")
    client = StreamClient(port, holds=CONFIGURED).connect()
    until(client, step)
    client.hang_up()
    (session,) = port.sessions_of(device)
    assert (session.state.value, session.reason) == ("lost", "lost")
    assert session.steps[-1].failure == "lost"
    assert "the peer closed the connection" in session.detail
    assert len(session.steps) == STEPS.index(step) + 1
    assert len(port.bootstrapping.conversations) == 0
    # And the device comes again, over another one.
    again = StreamClient(port, CONNECTION._replace(remote_port=50_002), holds=CONFIGURED).connect()
    assert again.bootstrap()[-1] == "POST /bs"


@pytest.mark.spec("B-3", "B-16")
@pytest.mark.parametrize("step", STEPS)
def test_silence_at_a_step_ends_by_the_time_limit_and_nothing_is_said_twice(port: BootstrapPort, step: str) -> None:
    device = port.stack.provision("dev1")
    client = StreamClient(port, holds=CONFIGURED).connect()
    until(client, step)
    port.stack << after(90)
    assert client.hears_nothing()
    assert port.ends_of(device) == [("running", "")]
    port.stack << after(5)
    assert port.ends_of(device) == [("silent", "timeout")]


@pytest.mark.spec("B-3")
def test_a_device_that_answers_late_each_time_is_out_of_time(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = StreamClient(port, holds=CONFIGURED).connect()
    request = until(client, "GET /")
    for _ in range(2):
        port.stack << after(80)
        client.react(request)
        request = client.next()
    port.stack << after(71)
    assert port.ends_of(device) == [("overtime", "time")]


@pytest.mark.spec("B-16")
def test_a_second_request_over_the_connection_begins_anew(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = StreamClient(port, holds=CONFIGURED).connect()
    until(client, "PUT /0/1")
    assert client.bootstrap() == STEPS
    assert port.ends_of(device) == [("configured", ""), ("replaced", "another-request")]


@pytest.mark.spec("B-9", "LwM2M-contract 1.7")
def test_a_pack_is_handed_over_without_a_proof_of_the_address(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    client = StreamClient(port).connect()
    answer = client.ask("/bspack?ep=urn:dev:os:dev1&acc=</0/0>", GET, accept=112)
    assert answer.code == CONTENT
    assert b"coap+tcp://dm.example:5683" in answer.payload
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("RFC 8323 6", "LwM2M-contract 1.8")
@pytest.mark.parametrize(("message_bytes", "blocks"), [(1_152, True), (65_536, False)])
def test_a_large_write_goes_in_blocks_where_the_device_takes_no_more(
    port: BootstrapPort, message_bytes: int, blocks: bool
) -> None:
    client_key = pkcs8_of(KEY)
    large = Issuer(STRANGER.key, STRANGER.chain[0]).client(KEY, "n" * 250, now=NOW)
    block = {
        "securityMode": "X509",
        "clientPublicKeyOrId": to_base64(der(large)[0]),
        "clientSecretKey": to_base64(client_key),
    }
    port.profile(ServerEntry(mode=X509, host="dm.example", server_certificate=to_base64(der(SERVER)[0])))
    device = port.stack.provision("dev1", credential=with_bootstrap(lwm2m_server=block))
    client = StreamClient(port, message_bytes=message_bytes).connect()
    assert client.bootstrap()[-1] == "POST /bs"
    assert port.ends_of(device) == [("configured", "")]
    assert len(client.written["/0/1"]) > 1_152
    write = client.requests[client.steps.index("PUT /0/1")]
    assert any(number == BLOCK1 for number, _ in write.options) == blocks


@pytest.mark.spec("SEC-3", "SEC-6")
def test_over_tcp_nobody_comes_who_has_a_key(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-1", BS_KEY)))
    client = StreamClient(port).connect()
    assert client.ask().code == BAD_REQUEST
    assert port.ends_of(device) == [("refused", "has-credentials")]


# -- TLS --


def behind_tls(port: BootstrapPort, issued: Any = None, number: int = 50_001, **more: Any) -> TlsBootstrapClient:
    device = TlsDevice(port.stack, issued, port=number, server=port.streams["tls"], **more)
    return TlsBootstrapClient(port, device).connect()


def with_certificate(port: BootstrapPort, certificate: str = "") -> Any:
    block = {"securityMode": "X509", **({"clientPublicKeyOrId": certificate} if certificate else {})}
    return port.stack.provision("dev1", credential=with_bootstrap(block))


@pytest.mark.spec("B-1", "B-15", "SEC-4", "RFC 8323 9", "LwM2M-contract 1.8")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_with_a_certificate_bootstraps_behind_tls(port: BootstrapPort, version: ssl.TLSVersion) -> None:
    device = with_certificate(port)
    client = behind_tls(port, OWN, version=version)
    assert client.bootstrap("/bs")[-1] == "POST /bs"
    (session,) = port.sessions_of(device)
    assert (session.state.value, session.endpoint_name) == ("configured", NAME)
    assert session.peer.startswith("tls://192.0.2.1:")
    assert b"coap+tcp://dm.example:5683" in client.written["/0/1"]


@pytest.mark.spec("SEC-1", "B-10", "LwM2M-contract 1.8")
def test_a_device_with_a_pre_shared_key_bootstraps_behind_tls_and_gets_fresh_keys(port: BootstrapPort) -> None:
    port.bootstrapping._accounts._issue = FreshKeys(lambda *about: None)  # type: ignore[arg-type]
    port.profile(ServerEntry(mode=PSK, host="dm.example", port=5684, keys="fresh"))
    device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-1", BS_KEY)))
    client = behind_tls(port, client=PskClient(b"bs-1", BS_KEY))
    assert client.bootstrap()[-1] == "POST /bs"
    assert port.ends_of(device) == [("configured", "")]
    assert b"coaps+tcp://dm.example:5684" in client.written["/0/1"]
    assert port.stack.run(port.stack.store.fresh_credential(device.device_id)) is not None


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
@pytest.mark.parametrize("which", BAD)
def test_a_certificate_that_will_not_do_is_refused_and_people_hear_why(port: BootstrapPort, which: str) -> None:
    wanted, issue = BAD[which]
    with_certificate(port)
    client = behind_tls(port, issue())
    assert client.device.was_closed
    assert port.failures.newest[-1].reason == wanted
    assert client.device.client.trouble


@pytest.mark.spec("SEC-3")
def test_a_wrong_key_and_one_for_device_management_do_not_come_in(port: BootstrapPort) -> None:
    port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-1", BS_KEY)))
    assert behind_tls(port, client=PskClient(b"bs-1", bytes(16))).device.was_closed
    assert behind_tls(port, number=50_002, client=PskClient(b"nobody", BS_KEY)).device.was_closed
    assert [each.reason for each in port.failures.newest] == ["wrong-key", "unknown-identity"]


@pytest.mark.spec("B-15", "SEC-3")
def test_a_pinned_certificate_comes_in_and_speaks_for_no_other(port: BootstrapPort) -> None:
    device = with_certificate(port, to_base64(der(SELF_SIGNED)[0]))
    port.stack.provision("dev2")
    client = behind_tls(port, SELF_SIGNED)
    assert client.ask("/bs?ep=urn:dev:os:dev2").code == BAD_REQUEST
    assert client.bootstrap()[-1] == "POST /bs"
    assert port.ends_of(device)[0] == ("configured", "")


@pytest.mark.spec("B-16", "SEC-9")
@pytest.mark.parametrize("how", ["hang_up", "close"])
def test_behind_tls_too_a_connection_that_ends_is_the_end(port: BootstrapPort, how: str) -> None:
    device = with_certificate(port)
    client = behind_tls(port, OWN)
    until(client, "PUT /0/1")
    getattr(client.device, how)()
    assert port.ends_of(device) == [("lost", "lost")]
    assert port.table.devices == port.table.identities == {}


@pytest.mark.spec("SEC-9")
def test_whose_credentials_change_is_told_to_go(port: BootstrapPort) -> None:
    device = with_certificate(port)
    client = behind_tls(port, OWN)
    until(client, "PUT /0/1")
    port.calls(lambda: port.revoked_now(device))
    client.listen()
    assert client.was_closed
    assert port.ends_of(device) == [("lost", "revoked")]


@pytest.mark.spec("B-16", "LwM2M-contract 1.8")
def test_behind_tls_a_connection_of_no_use_is_closed_after_a_while(port: BootstrapPort) -> None:
    with_certificate(port)
    port.stack.provision("dev2", credential=with_bootstrap(psk_block("bs-2", BS_KEY)))
    connections = port.streams["tls"].connections
    idle, busy = behind_tls(port, OWN), behind_tls(port, number=50_002, client=PskClient(b"bs-2", BS_KEY))
    for client in (idle, busy):
        assert client.ask("/bs?ep=nobody").code == BAD_REQUEST
    port.stack.clock.at += IDLE_S - 1
    until(busy, "PUT /0/1", "/bs")
    port.calls(connections.look)
    assert len(connections) == 2
    port.stack.clock.at += 2
    port.calls(connections.look)
    idle.listen()
    busy.listen()
    assert (idle.was_closed, busy.was_closed, len(connections)) == (True, False, 1)


@pytest.mark.spec("SEC-3", "SEC-9")
def test_behind_tls_who_showed_a_certificate_shows_it_again_when_authorities_change(port: BootstrapPort) -> None:
    with_certificate(port)
    port.stack.provision("dev2", credential=with_bootstrap(psk_block("bs-2", BS_KEY)))
    certified, keyed = behind_tls(port, OWN), behind_tls(port, number=50_002, client=PskClient(b"bs-2", BS_KEY))
    port.calls(port.streams["tls"].connections.keys_changed)
    for client in (certified, keyed):
        client.listen()
    assert (certified.was_closed, keyed.was_closed) == (True, False)


@pytest.mark.spec("RFC 9148 3", "SEC-7")
def test_nobody_enrols_behind_tls(port: BootstrapPort) -> None:
    with_certificate(port)
    client = behind_tls(port, OWN)
    assert client.ask("/.well-known/est/crts", GET).code != CONTENT
    assert client.ask("/bs").code == CHANGED
