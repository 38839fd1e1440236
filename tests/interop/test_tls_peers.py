"""CoAP over TLS with programs of others: OpenSSL, GnuTLS, libcoap and aiocoap as devices (RFC 8323 §8, 9)."""

import itertools
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiocoap
import pytest
from aiocoap import resource
from aiocoap_device import DEVICE_JSON, SENML_JSON, TEXT, AiocoapDevice, Fixed
from served import Served, wait_until
from tests.scenario.test_streams import LINKS, frame
from tests.tls_client import pem

from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.coap.tcp.frames import FrameDecoder, decode_frame
from stellwerk.device.key_material import to_base64
from stellwerk.issuing import Issuer, make_authority, new_key
from stellwerk.key_files import KeyFolder

_numbers = itertools.count(1)
CSM = bytes.fromhex("50e12301000020")
KEY = bytes(range(16))
VERSIONS = ("-tls1_2", "-tls1_3")


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module(auto_read="", log_level="debug").start()


class Device:
    """One that is provisioned: ``own.pem`` has its certificate and key, ``ca.pem`` whom it trusts."""

    def __init__(self, server: Served, folder: Path, *credentials: str) -> None:
        self.name = f"tls-{next(_numbers)}"
        self.endpoint = f"urn:dev:os:{self.name}"
        self.folder = folder
        wanted = [each.replace("{ep}", self.endpoint) for each in credentials] or ["x509-cn:" + self.endpoint]
        server.api.provision(self.name, self.endpoint, nCr=wanted)
        server.run("keys", "issue", self.endpoint, "--out", str(folder))
        issued = next(folder.glob("*.pem"))
        key = issued.with_suffix(".key")
        (folder / "own.pem").write_text(issued.read_text() + key.read_text())
        shutil.copy(server.data_dir / "keys" / "ca.pem", folder / "ca.pem")

    @property
    def target(self) -> str:
        return f"/rd?ep={self.endpoint}&lt=300&lwm2m=1.1&b=T"


@pytest.fixture
def device(server: Served, tmp_path: Path) -> Device:
    return Device(server, tmp_path)


@pytest.fixture
def keyed(server: Served, tmp_path: Path) -> Device:
    return Device(server, tmp_path, "psk-id:{ep}", f"psk-hex:{KEY.hex()}")


class SClient:
    """``openssl s_client``: what is written to it goes out behind TLS, and what comes is read from it."""

    def __init__(self, server: Served, folder: Path, *words: str, cert: str = "own.pem", alpn: str = "coap") -> None:
        address = f"127.0.0.1:{server.coaps_port}"
        command = ["openssl", "s_client", "-connect", address, "-quiet", "-CAfile", "ca.pem", "-verify_return_error"]
        command += ["-cert", cert] if cert else []
        command += ["-alpn", alpn] if alpn else []
        self._process = subprocess.Popen(
            [*command, *words], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._decoder = FrameDecoder(1 << 16)

    def say(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def hear(self) -> Message:
        """The next message that is no signal."""
        assert self._process.stdout is not None
        while True:
            while (found := self._decoder.next()) is None:
                data = self._process.stdout.read1(4096)  # type: ignore[attr-defined]
                assert data, self.end()
                self._decoder.append(data)
            message = decode_frame(found)
            if message.code >> 5 != 7:
                return message

    def end(self) -> str:
        """What it complained about, once the server has closed."""
        _, errors = self._process.communicate(timeout=15)
        return errors.decode().lower()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def s_client(server: Served, tmp_path: Path) -> Iterator[Callable[..., SClient]]:
    made: list[SClient] = []

    def make(*words: str, **more: str) -> SClient:
        made.append(SClient(server, tmp_path, *words, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def registers(client: SClient, device: Device) -> int:
    client.say(CSM + frame(codes.POST, device.target, payload=LINKS, content_format=40))
    return client.hear().code


def reason(server: Served) -> str:
    """Of the newest handshake that failed."""
    found = [each for each in server.log_lines() if each.get("event") == "handshake.failed"]
    return str(found[-1]["reason"]) if found else ""


def failed(server: Served, wanted: str) -> None:
    wait_until(lambda: reason(server) == wanted, within_s=5, what=f"a handshake fails as {wanted}")


@pytest.mark.spec("ETS 404", "RFC 8323 8.2", "LwM2M-contract 2.2")
@pytest.mark.parametrize("alpn", ["coap", "h2,coap", ""])
@pytest.mark.parametrize("version", VERSIONS)
def test_openssl_registers_with_its_certificate(
    server: Served, device: Device, s_client: Callable[..., SClient], version: str, alpn: str
) -> None:
    assert registers(s_client(version, alpn=alpn), device) == codes.CREATED
    peers = server.query("stellwerk.db", "SELECT peer FROM registration WHERE endpoint_name = ?", (device.endpoint,))
    assert peers[0][0].startswith("tls 127.0.0.1 ")


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize(
    "suite", ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES128-GCM-SHA256"]
)
def test_openssl_registers_with_each_suite(device: Device, s_client: Callable[..., SClient], suite: str) -> None:
    assert registers(s_client("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"), device) == codes.CREATED


@pytest.mark.spec("ETS 406", "RFC 4279 2", "LwM2M-contract 2.2")
@pytest.mark.parametrize(
    "words",
    [
        ("-tls1_2", "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "PSK-AES128-CCM"),
        ("-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256"),
        ("-tls1_3",),
    ],
)
def test_openssl_registers_with_a_pre_shared_key(
    keyed: Device, s_client: Callable[..., SClient], words: tuple[str, ...]
) -> None:
    psk = ("-psk", KEY.hex(), "-psk_identity", keyed.endpoint)
    assert registers(s_client(*words, *psk, cert=""), keyed) == codes.CREATED


@pytest.mark.spec("SEC-3")
@pytest.mark.parametrize("words", [("-tls1_2", "-cipher", "PSK-AES128-CCM"), ("-tls1_3",)])
def test_openssl_with_a_wrong_key_is_refused_as_with_an_identity_that_nobody_has(
    server: Served, keyed: Device, s_client: Callable[..., SClient], words: tuple[str, ...]
) -> None:
    wrong = s_client(*words, "-psk", bytes(16).hex(), "-psk_identity", keyed.endpoint, cert="").end()
    failed(server, "wrong-key")
    unknown = s_client(*words, "-psk", KEY.hex(), "-psk_identity", "nobody", cert="").end()
    failed(server, "unknown-identity")
    alerts = [next(line for line in each.splitlines() if "alert number" in line) for each in (wrong, unknown)]
    assert alerts[0].rpartition("alert number")[2] == alerts[1].rpartition("alert number")[2]


def certificates(endpoint: str, server: Served) -> dict[str, str]:
    """Of what is wrong with each."""
    now = datetime.now(UTC)
    ours, strange = KeyFolder(server.data_dir).issuer(), make_authority("Nobody")
    stranger = Issuer(strange.key, strange.chain[0])
    return {
        "expired-certificate": pem(ours.client(new_key(), endpoint, days=5, now=now - timedelta(days=20))),
        "not-yet-valid-certificate": pem(ours.client(new_key(), endpoint, now=now + timedelta(days=3))),
        "untrusted-certificate": pem(stranger.client(new_key(), endpoint)),
        "unknown-identity": pem(ours.client(new_key(), "urn:dev:os:nobody")),
    }


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("wrong", "alert"),
    [
        ("expired-certificate", "certificate expired"),
        ("not-yet-valid-certificate", "certificate expired"),
        ("untrusted-certificate", "unknown ca"),
        ("unknown-identity", "decrypt error"),
        ("no-client-certificate", ""),
    ],
)
def test_openssl_hears_why_its_certificate_will_not_do(
    server: Served, device: Device, s_client: Callable[..., SClient], version: str, wrong: str, alert: str
) -> None:
    if wrong == "no-client-certificate":
        client = s_client(version, cert="")
    else:
        (device.folder / "bad.pem").write_text(certificates(device.endpoint, server)[wrong])
        client = s_client(version, cert="bad.pem")
    said = client.end()
    assert "alert" in said
    assert alert in said
    failed(server, wrong)


@pytest.mark.spec("SEC-3")
@pytest.mark.parametrize("version", VERSIONS)
def test_openssl_registers_with_a_certificate_that_is_pinned_and_self_signed(
    server: Served, tmp_path: Path, s_client: Callable[..., SClient], version: str
) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    made += ["-keyout", "self.key", "-out", "self.crt", "-subj", "/CN=some serial number", "-days", "30"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    der = subprocess.run(
        ["openssl", "x509", "-in", "self.crt", "-outform", "DER"], cwd=tmp_path, check=True, capture_output=True
    ).stdout
    device = Device(server, tmp_path, f"x509:{to_base64(der)}")
    (tmp_path / "self.pem").write_text((tmp_path / "self.crt").read_text() + (tmp_path / "self.key").read_text())
    assert registers(s_client(version, cert="self.pem"), device) == codes.CREATED


@pytest.mark.spec("RFC 7301 3.2", "RFC 8323 8.2")
def test_openssl_with_another_protocol_is_refused(
    server: Served, device: Device, s_client: Callable[..., SClient]
) -> None:
    assert "no application protocol" in s_client(alpn="h2").end()
    failed(server, "no-common-protocol")


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_openssl_of_an_older_version_is_refused(
    server: Served, device: Device, s_client: Callable[..., SClient], version: str
) -> None:
    assert "alert" in s_client(version, "-cipher", "ALL:@SECLEVEL=0").end()
    failed(server, "version")


@pytest.mark.spec("SEC-9", "RFC 8323 5.6")
def test_a_connection_ends_when_the_credentials_of_its_device_change(
    server: Served, device: Device, s_client: Callable[..., SClient]
) -> None:
    client = s_client()
    assert registers(client, device) == codes.CREATED
    server.run("credentials", "set", device.name, "--psk", f"{device.endpoint}:{KEY.hex()}")
    # It ends by itself, as the server has closed.
    client.end()
    again = s_client()
    again.end()
    failed(server, "unknown-identity")


@pytest.mark.spec("BIN-4", "LwM2M-contract 1.8")
def test_a_device_whose_program_is_killed_is_offline_and_comes_back(
    server: Served, device: Device, s_client: Callable[..., SClient]
) -> None:
    first = s_client()
    assert registers(first, device) == codes.CREATED
    first.close()

    def is_noted() -> bool:
        return any(
            each.get("event") == "registration.disconnected" and each["endpoint_name"] == device.endpoint
            for each in server.log_lines()
        )

    wait_until(is_noted, within_s=5, what="the loss of the connection")
    assert registers(s_client(), device) == codes.CREATED


# -- aiocoap --


class TlsAiocoap(AiocoapDevice):
    """A device on aiocoap behind TLS. Its credentials know no certificate of its own, so it gets the context."""

    def __init__(self, server: Served, folder: Path) -> None:
        self._tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self._tls.load_cert_chain(folder / "own.pem")
        super().__init__(server.coaps_port)
        self.server = f"coaps+tcp://localhost:{server.coaps_port}"

    async def _start(self) -> aiocoap.Context:
        site = resource.Site()
        site.add_resource(["3"], Fixed(DEVICE_JSON, SENML_JSON))
        site.add_resource(["3", "0", "0"], Fixed(b"aiocoap", TEXT))
        site.add_resource(["3", "0", "15"], self.timezone)
        site.add_resource(["3303", "0", "5700"], self.temperature)
        context = await aiocoap.Context.create_server_context(site, transports=["tlsclient"])
        context.client_credentials.ssl_client_context = lambda scheme, hostinfo: self._tls
        return context


@pytest.mark.spec("ETS 404", "R-1", "OB-1")
def test_aiocoap_registers_over_tls_is_read_written_and_observed(
    server: Served, device: Device, tmp_path: Path
) -> None:
    made = TlsAiocoap(server, tmp_path)
    try:
        made.register(device.endpoint)
        server.api.wait_type(device.name, "registration")
        assert server.api.run(device.name, "READ /3/0/0")["content"]["data"] == {"3/0/0": "aiocoap"}
        assert server.api.run(device.name, "WRITE /3/0/15 Europe/Berlin")["content"]["status"]["code"] == 200
        assert server.api.run(device.name, "OBSERVE /3303/0/5700")["content"]["status"]["code"] == 200
        made.soon(made.temperature.change, 23.5)
        wait_until(lambda: 23.5 in server.values("/3303/0/5700", device.name), within_s=5, what="the notification")
        made.update()
    finally:
        made.close()


# -- libcoap and GnuTLS --


@pytest.mark.spec("ETS 404")
@pytest.mark.parametrize("library", ["openssl", "gnutls"])
def test_libcoap_registers_over_tls(server: Served, device: Device, library: str) -> None:
    program = f"coap-client-{library}"
    if shutil.which(program) is None:
        pytest.skip(f"no {program} on this machine (Debian: libcoap3-bin)")
    (device.folder / "links").write_bytes(LINKS)
    own = device.folder / "own.pem"
    words = [program, "-m", "post", "-t", "40", "-f", "links", "-B", "5", "-v", "7", "-c", str(own), "-j", str(own)]
    words += ["-C", "ca.pem", f"coaps+tcp://localhost:{server.coaps_port}{device.target}"]
    said = subprocess.run(words, cwd=device.folder, capture_output=True, text=True, timeout=30, check=False)
    wait_until(
        lambda: server.query(
            "stellwerk.db", "SELECT peer FROM registration WHERE endpoint_name = ?", (device.endpoint,)
        ),
        within_s=5,
        what=f"libcoap is registered; it said {said.stdout[-1500:]}{said.stderr[-1500:]}",
    )


@pytest.mark.spec("RFC 8323 8.2", "LwM2M-contract 2.2")
@pytest.mark.parametrize("version", ["TLS1.2", "TLS1.3"])
def test_gnutls_comes_in_with_its_certificate(server: Served, device: Device, version: str) -> None:
    if shutil.which("gnutls-cli") is None:
        pytest.skip("no gnutls-cli on this machine (Debian: gnutls-bin)")
    words = ["gnutls-cli", "--x509cafile", "ca.pem", "--x509certfile", "own.pem", "--x509keyfile", "own.pem"]
    words += ["--alpn", "coap", "--priority", f"NORMAL:-VERS-ALL:+VERS-{version}", "--port", str(server.coaps_port)]
    process = subprocess.Popen([*words, "localhost"], cwd=device.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line.decode(errors="replace")
            if "Handshake was completed" in said:
                break
        wait_until(
            lambda: any(
                each.get("event") == "connection.secured" and device.endpoint in each["identity"]
                for each in server.log_lines()
            ),
            within_s=5,
            what="GnuTLS is let in",
        )
    finally:
        process.kill()
        process.communicate()
    assert "Handshake was completed" in said
    assert "Application protocol: coap" in said
