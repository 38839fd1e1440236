"""Devices that have TCP alone are bootstrapped over TCP and TLS: on aiocoap, by hand, and OpenSSL's and libcoap's
clients. Whatever happens has a name in the device's history, and what is refused a reason at both ends."""

import shutil
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import BAD_REQUEST, CHANGED, resource
from aiocoap_device import DEVICE_JSON, FACTORY, LINKS, SENML_JSON, TEXT, AiocoapDevice, Fixed, ScriptedDevice
from bootstrapped import Bootstrapped, dm, set_profile, stellwerk
from served import Served, wait_until
from tests.dtls_keys import authority, certificate
from tests.tls_client import pem

from stellwerk.issuing import Issuer, make_authority, new_key

ALL = ["GET /", "PUT /0/1", "PUT /1/0", "POST /bs"]
LIBCOAP = "coap-client-openssl"


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    server = serve_module(auto_read="").start()
    set_profile(server, "one", dm(server))
    set_profile(server, "one-psk", dm(server, "PSK"))
    set_profile(server, "one-x509", dm(server, "X509"))
    return server


class StreamScripted(ScriptedDevice):
    """A device over TCP, or with ``tls`` over that."""

    def __init__(self, port: int, answers: dict[str, Any] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        super().__init__(port, answers, FACTORY)
        self.server = f"coap{'s' if tls else ''}+tcp://localhost:{port}"

    async def _start(self) -> aiocoap.Context:
        transport = "tcpclient" if self._tls is None else "tlsclient"
        context = await aiocoap.Context.create_server_context(self._site(), transports=[transport])
        if self._tls is not None:
            context.client_credentials.ssl_client_context = lambda scheme, hostinfo: self._tls
        return context

    def hang_up(self) -> None:
        """Let the connection go."""
        self.wait(self._hang_up())

    async def _hang_up(self) -> None:
        for interface in self._context.request_interfaces:
            for connection in list(getattr(interface.token_interface, "_pool", {}).values()):
                connection._transport.close()


class Registered(AiocoapDevice):
    """What registers with the account that was given."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.server = f"coap+tcp://127.0.0.1:{port}"

    async def _start(self) -> aiocoap.Context:
        site = resource.Site()
        site.add_resource(["3"], Fixed(DEVICE_JSON, SENML_JSON))
        site.add_resource(["3", "0", "0"], Fixed(b"aiocoap", TEXT))
        return await aiocoap.Context.create_server_context(site, transports=["tcpclient"])


@pytest.mark.spec("B-1", "B-2", "B-7", "B-11", "ETS 0", "RFC 8323 5.3", "LwM2M-contract 1.8", "Platform 12.1")
def test_aiocoap_is_given_an_account_over_tcp_registers_and_is_sent_back(server: Served, tmp_path: Path) -> None:
    known = Bootstrapped(server, "none", "one", tmp_path)
    one, two = StreamScripted(server.bootstrap_coap_port), Registered(server.coap_port)
    try:
        assert one.request(known.endpoint).code == CHANGED
        assert (known.wait_ended()["state"], one.steps) == ("configured", ALL)
        assert f"coap+tcp://127.0.0.1:{server.coap_port}" in known.told()
        two.register(known.endpoint, links=LINKS)
        server.api.wait_type(known.name, "registration")
        # aiocoap has no object 1 here: what counts is that it is asked over its connection.
        answer = server.api.run(known.name, "EXECUTE /1/0/9")
        assert answer["content"]["status"]["code"] == 404
        assert one.request(known.endpoint).code == CHANGED
        assert known.wait_ended(2)["state"] == "configured"
    finally:
        one.close()
        two.close()


@pytest.mark.spec("B-16", "LwM2M-contract 1.8")
def test_what_aiocoap_does_wrong_over_tcp_has_its_name(server: Served, tmp_path: Path) -> None:
    known = Bootstrapped(server, "none", "one", tmp_path)
    one = StreamScripted(server.bootstrap_coap_port, {"PUT /0/1": [BAD_REQUEST, 30.0]})
    try:
        assert one.request("nobody").code == BAD_REQUEST
        assert one.request(known.endpoint).code == CHANGED
        session = known.wait_ended()
        assert (session["state"], session["reason"]) == ("step failed", "write-refused")
        assert "as the test wants it" in session["detail"]
        assert one.request(known.endpoint).code == CHANGED
        wait_until(lambda: one.steps.count("PUT /0/1") == 2, within_s=5, what="the second Write")
        one.hang_up()
        session = known.wait_ended(2)
        assert (session["state"], session["reason"]) == ("lost", "lost")
        assert session["steps"][-1]["operation"] == "Bootstrap-Write"
        assert session["steps"][-1]["failure"] == "lost"
    finally:
        one.close()


def context(server: Served, folder: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(server.data_dir / "keys" / "ca.pem"))
    made.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    return made


@pytest.mark.spec("B-10", "B-15", "SEC-1", "SEC-4", "ETS 0", "RFC 8323 9", "LwM2M-contract 1.8")
def test_aiocoap_with_a_certificate_is_given_its_account_over_tls(server: Served, tmp_path: Path) -> None:
    known = Bootstrapped(server, "x509", "one-x509", tmp_path)
    known.security()
    one = StreamScripted(server.bootstrap_coaps_port, tls=context(server, known.folder))
    try:
        assert one.ask(aiocoap.POST, "/bs").code == CHANGED
        assert (known.wait_ended()["state"], one.steps) == ("configured", ALL)
        assert f"coaps+tcp://127.0.0.1:{server.coaps_port}" in known.told()
    finally:
        one.close()


def s_client(server: Served, folder: Path, *words: str) -> str:
    """What OpenSSL's client complained about, once the server has closed."""
    address = f"127.0.0.1:{server.bootstrap_coaps_port}"
    command = ["openssl", "s_client", "-connect", address, "-quiet", "-alpn", "coap", *words]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.PIPE, capture_output=True, timeout=30, check=False)
    return done.stderr.decode().lower()


@pytest.mark.spec("SEC-3", "B-15", "LwM2M-contract 2.2")
def test_openssl_hears_why_its_certificate_will_not_do_and_people_do(server: Served, tmp_path: Path) -> None:
    one = Bootstrapped(server, "x509", "one-x509", tmp_path)
    ours, strange = Issuer(authority().key, authority().certificate), make_authority("Nobody")
    (tmp_path / "authority.pem").write_text(authority().pem)
    stellwerk(server, "keys", "trust", str(tmp_path / "authority.pem"))
    wait_until(
        lambda: any(
            (each.get("event"), each.get("name")) == ("keys.replaced", "bootstrap") for each in server.log_lines()
        ),
        within_s=10,
        what="the authority is trusted",
    )
    past = datetime.now(UTC) - timedelta(days=20)
    cases = {
        ("expired-certificate", "certificate expired"): pem(ours.client(new_key(), one.endpoint, days=5, now=past)),
        ("untrusted-certificate", "unknown ca"): pem(
            Issuer(strange.key, strange.chain[0]).client(new_key(), one.endpoint)
        ),
        # The one that it has for device management.
        ("unknown-identity", "decrypt error"): pem(certificate(one.endpoint, authority())),
    }

    def reasons() -> list[str]:
        failed = [each for each in server.log_lines() if each.get("event") == "handshake.failed"]
        return [each["reason"] for each in failed if each["address"].startswith("tls://")]

    before = len(reasons())
    for (_, alert), shown in cases.items():
        (tmp_path / "bad.pem").write_text(shown)
        for version in ("-tls1_2", "-tls1_3"):
            assert alert in s_client(server, tmp_path, version, "-cert", "bad.pem")
    wanted = [reason for reason, _ in cases for _ in range(2)]
    wait_until(lambda: reasons()[before:] == wanted, within_s=5, what=f"handshakes fail as {wanted}")
    assert f"device '{one.name}' has it for device management" in server.log_path.read_text()


@pytest.mark.spec("SEC-1", "SEC-3", "SEC-4", "B-16", "RFC 8323 9")
def test_libcoap_is_let_in_over_tls_with_its_key_alone_and_is_missed_when_it_leaves(
    server: Served, tmp_path: Path
) -> None:
    if shutil.which(LIBCOAP) is None:
        pytest.skip(f"no {LIBCOAP} on this machine (Debian: libcoap3-bin)")
    one = Bootstrapped(server, "psk", "one-psk", tmp_path)

    def ask(key: str) -> str:
        target = f"coaps+tcp://127.0.0.1:{server.bootstrap_coaps_port}/bs?ep={one.endpoint}"
        command = [LIBCOAP, "-B", "10", "-v", "6", "-m", "post", "-u", one.identity("bs"), "-k", key, target]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
        return (done.stdout + done.stderr).decode(errors="replace")

    ask("another")
    one.wait_logged("handshake-failed")
    assert "2.04" in ask(one.psk["bs"].decode())
    session = one.wait_ended()
    assert (session["state"], session["reason"]) == ("lost", "lost")
