"""Connections with the bootstrap server that do anything in any order: once they ended, nothing is kept of them."""

import contextlib
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
from OpenSSL import SSL

from stellwerk.coap.codes import CONTENT, GET, POST, is_request
from stellwerk.coap.tcp.signalling import ReleaseNotice, encode_abort, encode_ping, encode_release
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from tests.scenario.bootstrap_port import BootstrapPort
from tests.scenario.bootstrap_streams import CONNECTION, OverTcp, OverTls, StreamClient
from tests.scenario.stack import Stack, after, con
from tests.scenario.test_bootstrap_interleaved import OTHER_KEY, Gate, keyed
from tests.scenario.test_bootstrap_streams import BS_KEY, ONE, behind_tls
from tests.scenario.test_secure_keys import ISSUER, SERVER, der
from tests.tls_client import PskClient

HALVES = (b"\xf0\xff\xff\xff\xff\x45", b"\xd1", b"\x00\x00", b"\xe0\x00")
"""A length beyond all bounds, the begin of a message, an empty message, an empty message and the begin of one."""
LOOKS = ("registration_of", "credential_of", "device_by_endpoint", "put_bootstrap_session", "profile")


@pytest.fixture
def port() -> Iterator[BootstrapPort]:
    stack = Stack(patience=40)
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


class Crowd:
    """A few ends of connections, over TCP and TLS, of three devices."""

    def __init__(self, port: BootstrapPort, random: Random) -> None:
        self._port = port
        self._random = random
        self.devices = [port.stack.provision("plain"), *keyed(port)]
        self.alive: list[StreamClient] = []
        self._gate: Gate | None = None

    def act(self) -> None:
        random = self._random
        act = random.choice([self.connect] * 3 + [self.step] * 4 + [self.ask] * 2 + [self.say] * 3 + [self.disturb] * 2)
        # Whoever speaks over a connection that the server has closed is not heard.
        with contextlib.suppress(SSL.Error):
            act()
        for each in list(self.alive):
            each.listen()
            if each.was_closed:
                self.alive.remove(each)

    def connect(self) -> None:
        number, which = self._random.randrange(50_001, 50_006), self._random.randrange(3)
        taken = {each.peer.remote_port for each in self.alive if (each.peer.transport == "tcp") == (which == 0)}
        if number in taken:
            return
        if which:
            key = PskClient(*((b"bs-dev1", BS_KEY), (b"bs-dev2", OTHER_KEY))[which - 1])
            self.alive.append(behind_tls(self._port, number=number, client=key))
        else:
            self.alive.append(StreamClient(self._port, CONNECTION._replace(remote_port=number)).connect())

    def step(self) -> None:
        for client in self._anybody():
            if client._has_any():
                message = client._heard.pop(0)
                if is_request(message.code):
                    client.react(message)

    def ask(self) -> None:
        for client in self._anybody():
            name = "&ep=urn:dev:os:plain" if client.peer.transport == "tcp" else ""
            target, code = self._random.choice([("/bs?x=1", POST), ("/bs?", POST), ("/bspack?acc=</0/0>", GET)])
            self._say(client, target + name, code)

    def say(self) -> None:
        random = self._random
        for client in self._anybody():
            what = random.randrange(4)
            if what == 0:
                client.hang_up()
                self.alive.remove(client)
            elif what == 1:
                client._send(random.choice(HALVES))
            elif what == 2:
                client._send(random.choice([encode_abort("no"), encode_release(ReleaseNotice()), encode_ping(b"x")]))
            else:
                target = random.choice(["/rd?ep=x", "/bs?pct=9&ep=y", "/.well-known/est/crts"])
                self._say(client, target, random.choice([GET, POST, CONTENT]))

    def disturb(self) -> None:
        port, random = self._port, self._random
        what = random.randrange(4)
        if what == 0:
            port.calls(partial(port.revoked_now, random.choice(self.devices)))
        elif what == 1:
            port.stack << after(random.choice([0.5, 20, 70]))
        elif what == 2:
            port.stack.clock.at += random.choice([0, 600])
            port.calls(port.streams["tls"].connections.look)
        else:
            self.let_go() if self._gate else self._hold_back()

    def _hold_back(self) -> None:
        self._gate = Gate(self._port.stack.store, self._random.choice(LOOKS))

    def let_go(self) -> None:
        if self._gate is not None:
            self._port.calls(self._gate.open)
            self._gate = None

    def _anybody(self) -> list[StreamClient]:
        return [self._random.choice(self.alive)] if self.alive else []

    def _say(self, client: StreamClient, target: str, code: int) -> None:
        client._say(con(code, target, mid=1, token=self._random.randbytes(2), peer=client.peer, accept=112).message)


def kept(port: BootstrapPort) -> dict[str, Any]:
    """All that there is of somebody, wherever that is."""
    asked, conversations, tls = port.bootstrapping, port.bootstrapping.conversations, port.streams["tls"]
    found: dict[str, Any] = {
        "asked": asked._asked,
        "deciding": asked._deciding,
        "by device": conversations._by_device,
        "by handle": conversations._by_handle,
        "by peer": conversations._by_peer,
        "devices": port.table.devices,
        "identities": port.table.identities,
        "since": tls.connections._since,
        "live": tls.connections._live._by_device,
        "channels": tls.engine._channels,
        "questions of TLS": tls.engine._by_question,
        "tasks": len(port.stack.tasks),
    }
    for name, engine in (("tcp", port.streams["tcp"].engine), ("tls", tls.engine._inner)):
        found |= {
            f"closing {name}": port.streams[name].link.closing,
            f"connections {name}": len(engine._base.peers),
            f"held {name}": engine._base.peers.held_total,
            f"open {name}": engine._serving._open,
            f"questions {name}": engine._questions._waiting,
            f"requests {name}": engine._requests._by_handle,
        }
    return {name: each for name, each in found.items() if each}


@pytest.mark.spec("B-16", "Design 7", "LwM2M-contract 1.8")
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40))])
def test_nothing_is_kept_of_connections_that_ended_whatever_was_done_with_them(port: BootstrapPort, seed: int) -> None:
    crowd = Crowd(port, Random(seed))
    for _ in range(60):
        crowd.act()
    crowd.let_go()
    for each in crowd.alive:
        each.hang_up()
    port.settle()
    assert kept(port) == {}
    states = [each.state.value for device in crowd.devices for each in port.sessions_of(device)]
    assert states
    assert "running" not in states
