"""Leshan's client over DTLS and a real server: every mode, connection IDs, resumption, wrong keys, restarts."""

import base64
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from leshan_client import LeshanClient
from leshan_fixtures import needs_leshan
from raw_coap import Relay
from served import Served, wait_until
from tests import dtls_keys

pytestmark = needs_leshan
_numbers = itertools.count(1)
Figures = dict[str, float]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    dtls_keys.write_files(folder)
    return folder


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served], keys: Path) -> Served:
    return started(serve_module(), keys)


def started(server: Served, keys: Path) -> Served:
    """With a key and a certificate that the tests' devices know."""
    server.run("keys", "import", "--key", str(keys / "server-key.pem"), "--cert", str(keys / "server.pem"))
    server.run("keys", "trust", str(keys / "ca.pem"))
    return server.start()


def figures(server: Served) -> Figures:
    """Counters and gauges by their name with labels."""
    text = httpx.get(f"http://127.0.0.1:{server.http_port}/metrics", verify=False).raise_for_status().text
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def handshakes(server: Served, result: str, reason: str = "") -> float:
    wanted = (f'result="{result}"', f'reason="{reason}"')
    return sum(
        value
        for name, value in figures(server).items()
        if name.startswith("stellwerk_dtls_handshakes_total{") and all(each in name for each in wanted)
    )


class Device:
    """One that is provisioned with what ``mode`` needs, and its Leshan."""

    def __init__(self, server: Served, mode: str, keys: Path) -> None:
        self.server, self.mode, self.keys = server, mode, keys
        number = next(_numbers)
        self.name = f"secure{number:02d}"
        self.endpoint = f"urn:dev:os:{self.name}"
        self.folder = keys
        self.clients: list[LeshanClient] = []
        self.psk = bytes(range(16))
        server.api.provision(self.name, self.endpoint, nCr=self._credentials())

    def _credentials(self) -> list[str]:
        if self.mode == "psk":
            return [f"psk-id:{self.endpoint}", f"psk-hex:{self.psk.hex()}"]
        own = dtls_keys.certificate(self.endpoint, dtls_keys.authority())
        self.folder = self.keys / self.name
        self.folder.mkdir()
        for file, text in (
            ("client.pem", own.pem), ("client-key.pem", own.key_pem), ("client-public.pem", own.public_pem),
            ("server.pem", dtls_keys.server().pem), ("server-public.pem", dtls_keys.server().public_pem),
        ):  # fmt: skip
            (self.folder / file).write_text(text)
        if self.mode == "rpk":
            return [f"rpk:{base64.b64encode(own.spki).decode()}"]
        return [f"x509-cn:{self.endpoint}"]

    def start(
        self, port: int | None = None, *, psk: bytes | None = None, identity: str = "", **options: Any
    ) -> LeshanClient:
        security = (
            ("psk", identity or self.endpoint, (psk or self.psk).hex())
            if self.mode == "psk"
            else (self.mode, str(self.folder))
        )
        client = LeshanClient(port or self.server.coaps_port, self.endpoint, security=security, **options)
        self.clients.append(client)
        return client

    def register(self, port: int | None = None, **options: Any) -> LeshanClient:
        client = self.start(port, **options)
        assert client.wait_said("register").startswith("registered /rd/")
        self.server.api.wait_type(self.name, "registration")
        return client

    def read(self, path: str = "/3/0/0") -> Any:
        answer = self.server.api.run(self.name, f"READ {path}")["content"]
        assert answer["status"]["code"] == 200, answer
        return answer["data"]

    def close(self) -> None:
        for each in self.clients:
            each.kill()


@pytest.fixture
def device(server: Served, keys: Path) -> Iterator[Callable[..., Device]]:
    made: list[Device] = []

    def make(mode: str) -> Device:
        made.append(Device(server, mode, keys))
        return made[-1]

    yield make
    for each in made:
        each.close()


MODES = ["psk", "rpk", "x509"]


@pytest.mark.spec("SEC-1", "SEC-2", "SEC-3", "SEC-10", "ETS 401", "ETS 402")
@pytest.mark.parametrize("mode", MODES)
def test_leshan_registers_securely_is_read_written_and_observed_sends_and_leaves(
    server: Served, device: Callable[..., Device], mode: str
) -> None:
    one = device(mode)
    client = one.register()
    assert one.read() == {"3/0/0": "Leshan"}
    assert server.api.run(one.name, "WRITE /3/0/15 Europe/Berlin")["content"]["status"]["code"] == 200
    client.wait_said("wrote 15 Europe/Berlin")
    assert server.api.run(one.name, "OBSERVE /3/0/9")["content"]["status"]["code"] == 200
    client.order("battery 41")
    server.api.wait_latest(one.name, lambda each: each["content"].get("dataValue") == 41)
    client.order("send")
    client.wait_said("sent CHANGED")
    client.order("update")
    client.wait_said("updated")
    client.stop()
    server.api.wait_type(one.name, "deregistration")


@pytest.mark.spec("RFC 9146 6")
@pytest.mark.parametrize("mode", MODES)
def test_with_a_connection_id_leshan_moves_to_another_port_and_goes_on_without_a_handshake(
    server: Served, device: Callable[..., Device], mode: str
) -> None:
    one = device(mode)
    relay = Relay(server.coaps_port)
    try:
        client = one.register(relay.port, cid=0)
        assert one.read("/3/0/9") == {"3/0/9": 77}
        assert server.api.run(one.name, "OBSERVE /3/0/9")["content"]["status"]["code"] == 200
        before = handshakes(server, "full") + handshakes(server, "resumed")
        relay.move()
        client.order("battery 40")
        server.api.wait_latest(one.name, lambda each: each["content"].get("dataValue") == 40)
        # Downwards too: the answers and requests of the server go to the new port.
        assert one.read() == {"3/0/0": "Leshan"}
        client.order("update")
        client.wait_said("updated")
        assert handshakes(server, "full") + handshakes(server, "resumed") == before
    finally:
        relay.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_leshan_that_slept_resumes_and_keeps_its_registration(
    server: Served, device: Callable[..., Device], mode: str
) -> None:
    one = device(mode)
    client = one.register(reconnects=True)
    full, resumed = handshakes(server, "full"), handshakes(server, "resumed")
    for times in (1, 2):
        client.order("update")
        client.wait_said("updated")
        assert (handshakes(server, "full"), handshakes(server, "resumed")) == (full, resumed + times)
        assert one.read() == {"3/0/0": "Leshan"}
    assert sum(line.startswith("registered") for line in client.said) == 1


@pytest.mark.spec("SEC-3")
def test_a_wrong_key_and_an_unknown_identity_are_counted_and_said(
    server: Served, device: Callable[..., Device]
) -> None:
    one = device("psk")
    for reason, options in (
        ("wrong-key", {"psk": b"another key of 1"}),
        ("unknown-identity", {"identity": "nobody"}),
    ):
        before = handshakes(server, "failed", reason)
        client = one.start(**options)
        wait_until(
            lambda reason=reason, before=before: handshakes(server, "failed", reason) > before,  # type: ignore[misc]
            within_s=15,
            what=f"a handshake failed for {reason}",
        )
        client.kill()
        said = [line for line in server.log_lines() if line.get("event") == "handshake.failed"]
        assert said[-1]["reason"] == reason
        assert (options.get("identity") or one.endpoint) in said[-1]["identity"]
    assert server.api.latest(one.name) is None
    # And with what is right it comes in.
    one.register()


@pytest.mark.spec("SEC-1", "SEC-3")
@pytest.mark.parametrize(("mode", "reason"), [("rpk", "unknown-identity"), ("x509", "untrusted-certificate")])
def test_a_key_or_certificate_of_nobody_is_counted_and_said(
    server: Served, keys: Path, device: Callable[..., Device], mode: str, reason: str
) -> None:
    one = device(mode)
    for file in ("client.pem", "client-key.pem", "client-public.pem"):
        (one.folder / file).write_text((keys / file.replace("client", "stranger")).read_text())
    before = handshakes(server, "failed", reason)
    one.start()
    wait_until(
        lambda: handshakes(server, "failed", reason) > before, within_s=15, what=f"a handshake failed for {reason}"
    )
    said = [line for line in server.log_lines() if line.get("event") == "handshake.failed"][-1]
    assert said["reason"] == reason
    assert server.api.latest(one.name) is None


@pytest.mark.spec("SEC-6")
def test_a_device_with_a_key_does_not_come_in_without_it(server: Served, device: Callable[..., Device]) -> None:
    one = device("psk")
    client = LeshanClient(server.coap_port, one.endpoint)
    one.clients.append(client)
    assert client.wait_said("register") == "register refused FORBIDDEN(403)"


@pytest.mark.spec("Design 7", "RFC 9146 6")
@pytest.mark.parametrize(("mode", "first", "second"), [("psk", "kill", "stop"), ("x509", "stop", "kill")])
def test_a_session_with_leshan_outlives_the_server_and_a_move_meanwhile(
    serve: Callable[..., Served], keys: Path, mode: str, first: str, second: str
) -> None:
    server = serve().start() if mode == "psk" else started(serve(), keys)
    one = Device(server, mode, keys)
    relay = Relay(server.coaps_port)
    try:
        client = one.register(relay.port, cid=0)
        getattr(server, first)()
        server.start()
        # The server speaks first, where it last heard the device.
        assert one.read() == {"3/0/0": "Leshan"}
        getattr(server, second)()
        relay.move()
        server.start()
        client.order("update")
        client.wait_said("updated")
        assert one.read() == {"3/0/0": "Leshan"}
        # What this run of the server has counted.
        assert handshakes(server, "full") + handshakes(server, "resumed") == 0
        assert sum(line.startswith("registered") for line in client.said) == 1
    finally:
        relay.close()
        one.close()
