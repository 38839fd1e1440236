"""Connections that end, change hands or multiply while the bootstrap server decides (contract B-16, SEC-3, SEC-9)."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from stellwerk.coap.codes import POST
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from tests.scenario.bootstrap_port import BootstrapPort, psk_block, with_bootstrap
from tests.scenario.bootstrap_streams import OverTcp, OverTls
from tests.scenario.stack import Stack, con
from tests.scenario.test_bootstrap_streams import BS_KEY, ONE, behind_tls
from tests.scenario.test_secure_keys import ISSUER, SERVER, der
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
