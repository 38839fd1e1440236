"""Connections that end, change hands or multiply while the bootstrap server decides (contract B-16, SEC-3, SEC-9)."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from stellwerk.coap.codes import CONTENT, GET, NOT_FOUND, POST
from stellwerk.coap.message import Message
from stellwerk.coap.tcp.connection import StreamLimits
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from tests.scenario.bootstrap_port import BootstrapPort, psk_block, with_bootstrap
from tests.scenario.bootstrap_streams import CONNECTION, OverTcp, OverTls, StreamClient
from tests.scenario.stack import Stack, con
from tests.scenario.test_bootstrap_streams import BS_KEY, ONE, OWN, behind_tls
from tests.scenario.test_secure_keys import ISSUER, SERVER, der
from tests.scenario.test_streams import CONNECTION as MANAGEMENT
from tests.scenario.test_streams import frame, said
from tests.tls_client import PskClient

OTHER_KEY = bytes(reversed(BS_KEY))


@pytest.fixture
def port() -> Iterator[BootstrapPort]:
    stack = Stack()
    stack.patience = 30
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


def keyed(port: BootstrapPort) -> list[Any]:
    keys = {"dev1": BS_KEY, "dev2": OTHER_KEY}
    return [
        port.stack.provision(name, credential=with_bootstrap(psk_block(f"bs-{name}", key)))
        for name, key in keys.items()
    ]


class Gate:
    """Holds look-ups of one kind back until it is opened."""

    def __init__(self, store: Any, name: str) -> None:
        self._look = getattr(store, name)
        self._open = asyncio.Event()
        self.waiting = 0
        self._store, self._name = store, name
        setattr(store, name, self)

    async def __call__(self, *args: Any, **more: Any) -> Any:
        found = await self._look(*args, **more)
        self.waiting += 1
        await self._open.wait()
        return found

    def open(self) -> None:
        setattr(self._store, self._name, self._look)
        self._open.set()


@pytest.mark.spec("B-16", "SEC-3", "SEC-9")
def test_who_comes_over_the_same_two_ends_gets_nothing_that_was_asked_before(port: BootstrapPort) -> None:
    one, two = keyed(port)
    first = behind_tls(port, client=PskClient(b"bs-dev1", BS_KEY))
    gate = Gate(port.stack.store, "registration_of")
    first._say(con(POST, "/bs", mid=1, token=b"ask!", peer=first.peer).message)
    assert gate.waiting == 1
    first.hang_up()
    second = behind_tls(port, client=PskClient(b"bs-dev2", OTHER_KEY))
    assert second.peer == first.peer
    port.calls(gate.open)
    assert second.hears_nothing()
    assert port.ends_of(one) == [("refused", "lost")]
    assert port.ends_of(two) == []
    assert second.bootstrap("/bs")[-1] == "POST /bs"
    assert port.ends_of(two) == [("configured", "")]


@pytest.mark.spec("B-11", "LwM2M-contract 1.8")
def test_where_the_server_begins_over_tls_the_device_goes_to_its_servers_over_tls_too(port: BootstrapPort) -> None:
    one, _ = keyed(port)
    port.profile(ONE, server_initiated=True)
    client = behind_tls(port, client=PskClient(b"bs-dev1", BS_KEY))
    port.stack.run(port.bootstrapping.begin(one, None, port.clock.instant()))
    port.settle()
    client.run()
    assert port.ends_of(one) == [("configured", "")]
    assert b"coap+tcp://dm.example:5683" in client.written["/0/1"]


@pytest.mark.spec("B-16", "LwM2M-contract 1.8")
def test_one_device_has_no_more_than_four_connections_behind_tls(port: BootstrapPort) -> None:
    keyed(port)
    clients = [
        behind_tls(port, number=number, client=PskClient(b"bs-dev1", BS_KEY)) for number in range(50_001, 50_007)
    ]
    other = behind_tls(port, number=50_007, client=PskClient(b"bs-dev2", OTHER_KEY))
    for each in (*clients, other):
        each.listen()
    assert [each.was_closed for each in clients] == [True, True, False, False, False, False]
    assert not other.was_closed
    assert len(port.streams["tls"].connections) == len(port.table.devices) == 5


@pytest.mark.spec("B-16", "LwM2M-contract 1.8")
@pytest.mark.parametrize("junk", [Message(0, CONTENT, 0, b"none"), Message(0, GET, 0, b"none", ((9_999, b""),))])
def test_a_connection_that_says_only_what_means_nothing_is_closed_after_a_while(
    port: BootstrapPort, junk: Message
) -> None:
    client = StreamClient(port).connect()
    client._say(junk)
    assert list(port.streams["tcp"].link.closing) == [CONNECTION]
    client.hang_up()
    assert not port.streams["tcp"].link.closing


@pytest.mark.spec("SEC-3", "SEC-9")
def test_a_certificate_that_is_looked_up_while_authorities_change_does_not_come_in(port: BootstrapPort) -> None:
    block = {"securityMode": "X509"}
    port.stack.provision("dev1", credential=with_bootstrap(block))
    gate = Gate(port.stack.store, "credential_of")
    client = behind_tls(port, OWN)
    assert gate.waiting == 1
    port.calls(port.streams["tls"].connections.keys_changed)
    port.calls(gate.open)
    client.listen()
    assert client.was_closed
    assert len(port.streams["tls"].connections) == 0


@pytest.mark.spec("B-16")
def test_a_connection_that_is_not_taken_leaves_nothing_behind(port: BootstrapPort) -> None:
    server = port.streams["tcp"]
    server.engine._layer.peers._limits = StreamLimits(connections_per_address=1)
    StreamClient(port).connect()
    second = StreamClient(port, CONNECTION._replace(remote_port=50_002)).connect()
    second.listen()
    assert second.was_closed
    assert list(server.link.closing) == [CONNECTION]


@pytest.mark.spec("B-1", "LwM2M-contract 1.8")
def test_each_server_says_that_what_is_for_the_other_is_not_there(port: BootstrapPort) -> None:
    keyed(port)
    port.stack.provision("plain")
    clients = [StreamClient(port).connect(), behind_tls(port, client=PskClient(b"bs-dev1", BS_KEY))]
    for client in clients:
        for target in ("/rd?ep=urn:dev:os:plain&lt=300&lwm2m=1.1&b=T", "/dp", "/"):
            assert client.ask(target).code == NOT_FOUND
    port.stack.connect(MANAGEMENT).say(MANAGEMENT, frame(POST, "/bs?ep=urn:dev:os:plain"))
    assert said(port.stack).code == NOT_FOUND
    assert port.stack.registrations() == []
