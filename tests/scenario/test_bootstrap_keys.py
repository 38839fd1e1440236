"""Devices with keys at the bootstrap server, the keys that they get there, and packs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stellwerk.app.credential_record import parse_record
from stellwerk.app.fresh_keys import FreshKeys
from stellwerk.app.ports import StoreFailing
from stellwerk.coap.codes import (
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    GET,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    SERVICE_UNAVAILABLE,
    UNAUTHORIZED,
)
from stellwerk.coap.options import BLOCK2, encode_uint
from stellwerk.device.bootstrap.account import ClientKeys, ServerMaterial
from stellwerk.device.bootstrap.configuration import ServerEntry
from stellwerk.device.key_material import pkcs8_of, spki_of, to_base64
from stellwerk.device.record import NOSEC, OSCORE, PSK, RPK, X509, Credential, DeviceRecord
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.issuing import Issuer, new_key
from stellwerk.lwm2m.formats import ContentFormat, decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from tests.scenario.bootstrap_port import (
    NO_SEC,
    BootstrapPort,
    Client,
    SecureClient,
    psk_block,
    with_bootstrap,
)
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import WALL_MS, Stack, after
from tests.scenario.test_secure_keys import AUTHORITY, ISSUER, NOW, SERVER, STRANGER, der

TYPES = Library.builtin().for_device("1.2", {})
NAME = "urn:dev:os:dev1"
KEY = bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e859")
FOR_SERVER = bytes.fromhex("d41a90073fc86be25577913e08b2aa64")
FRESH = bytes.fromhex("5a17c8d3e0f2964b8d7c1e3f90a2b4c6")
ONE = ServerEntry(short_id=123, host="dm.example")
BY_PSK = ServerEntry(short_id=123, mode=PSK, host="dm.example", port=5684)
WITH_FRESH = ServerEntry(short_id=123, mode=PSK, host="dm.example", port=5684, keys="fresh")
OWN_KEY, SERVER_KEY = new_key(), new_key()
TRUSTED = ISSUER.client(OWN_KEY, NAME, now=NOW)
FOREIGN = Issuer(STRANGER.key, STRANGER.chain[0]).client(OWN_KEY, NAME, now=NOW)
MATERIAL = ServerMaterial(spki_of(SERVER.key.public_key()), der(SERVER)[0])


def issue(record: DeviceRecord, entry: ServerEntry, now_ms: int) -> tuple[ClientKeys, Credential]:
    """The same fresh key each time."""
    assert entry.mode == PSK
    credential = Credential("dev1-fresh", f"psk-hex:{FRESH.hex()}", created_ms=now_ms)
    return ClientKeys(PSK, b"dev1-fresh", FRESH), credential


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(secure=ServerParameters())
    yield made
    made.close()


@pytest.fixture
def port(stack: Stack) -> BootstrapPort:
    identity = ServerIdentity(SERVER.key, der(SERVER)[:1])
    secure = ServerParameters(identity=identity)
    made = BootstrapPort(stack, secure=secure, trusted=AUTHORITY.chain, own=MATERIAL, issue=issue)
    made.profile(ONE)
    return made


def key_block(mode: str, public: bytes) -> dict[str, str]:
    return {
        "securityMode": mode,
        "clientPublicKeyOrId": to_base64(public),
        "clientSecretKey": to_base64(pkcs8_of(OWN_KEY)),
    }


def value(client: Client, path: str) -> Any:
    """What was last written there, in TLV."""
    at = Path.parse(path)
    instance = Path(*at[:2])
    content = decode_content(ContentFormat.TLV, client.written[str(instance)], instance, TYPES)
    return next((entry.value for entry in content.entries if entry.path == at), None)


def everything(port: BootstrapPort, device: Any) -> str:
    """All that is told of a device's sessions."""
    stack = port.stack
    lines = stack.run(stack.store.projection.device_log(device.device_id, 1000))
    return f"{port.sessions_of(device)}{lines}{port.history.refusals(None)}"


@pytest.mark.spec("ETS 1", "B-10", "Platform 12.1", "B-8")
def test_a_device_with_a_pre_shared_key_gets_another_for_its_server_and_nobody_else_reads_it(
    port: BootstrapPort,
) -> None:
    credential = with_bootstrap(psk_block("bs-dev1", KEY), psk_block("dm-dev1", FOR_SERVER))
    device = port.stack.provision("dev1", credential=credential)
    port.profile(BY_PSK)
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    assert client.bootstrap(f"/bs?ep={NAME}")[-1] == "POST /bs"
    assert value(client, "/0/1/0") == "coaps://dm.example:5684"
    assert (value(client, "/0/1/3"), value(client, "/0/1/5")) == (b"dm-dev1", FOR_SERVER)
    assert value(client, "/0/1/4") == b""
    assert FOR_SERVER.hex() not in everything(port, device)
    assert "dm-dev1" in everything(port, device)
    # A session says little about where the device is.
    (session,) = port.sessions_of(device)
    assert session.peer.startswith(f"udp://198.51.100.1:{client.device.address.local_port}, dtls session ")


@pytest.mark.spec("B-10", "Platform 5")
def test_a_device_with_a_raw_public_key(port: BootstrapPort) -> None:
    block = key_block("RPK", spki_of(OWN_KEY.public_key()))
    device = port.stack.provision("dev1", credential=with_bootstrap(block, block))
    port.profile(ServerEntry(short_id=1, mode=RPK, host="dm.example", port=5684))
    client = SecureClient(port, key=b"", own_key=OWN_KEY, raw_keys=True).connect()
    assert client.bootstrap(f"/bs?ep={NAME}")[-1] == "POST /bs"
    assert value(client, "/0/1/3") == spki_of(OWN_KEY.public_key())
    assert value(client, "/0/1/4") == MATERIAL.public_key
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("ETS 2", "B-10", "Platform 5")
@pytest.mark.parametrize("pinned", [True, False])
def test_a_device_with_a_certificate(port: BootstrapPort, pinned: bool) -> None:
    block = key_block("X509", der(TRUSTED)[0])
    at_bootstrap = block if pinned else {"securityMode": "X509"}
    device = port.stack.provision("dev1", credential=with_bootstrap(at_bootstrap, block))
    port.profile(ServerEntry(short_id=1, mode=X509, host="dm.example", port=5684))
    client = SecureClient(port, own_key=OWN_KEY, chain=der(TRUSTED)).connect()
    assert client.bootstrap(f"/bs?ep={NAME}")[-1] == "POST /bs"
    assert value(client, "/0/1/3") == der(TRUSTED)[0]
    assert value(client, "/0/1/4") == MATERIAL.certificate
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("Platform 5", "SEC-3")
def test_beside_a_certificate_on_record_no_other_of_that_name_will_do(port: BootstrapPort) -> None:
    port.stack.provision("dev1", credential=with_bootstrap(key_block("X509", der(TRUSTED)[0])))
    another = ISSUER.client(new_key(), NAME, now=NOW)
    client = SecureClient(port, own_key=another.key, chain=der(another))
    client.device.connect()
    assert client.device.session is None


@pytest.mark.spec("Platform 5", "SEC-1")
def test_a_certificate_of_an_authority_that_nobody_trusts_opens_nothing(port: BootstrapPort) -> None:
    port.stack.provision("dev1", credential=with_bootstrap({"securityMode": "X509"}))
    client = SecureClient(port, own_key=OWN_KEY, chain=der(FOREIGN))
    client.device.connect()
    assert client.device.session is None
    (failed,) = port.sessions.handshakes.recent_failures(None)
    assert (failed.reason, failed.device) == ("untrusted-certificate", "dev1")


@pytest.mark.spec("Platform 5", "SEC-9")
def test_who_came_with_a_certificate_shows_it_anew_once_other_authorities_are_trusted(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1", credential=with_bootstrap({"securityMode": "X509"}))
    port.stack.provision("dev2", credential=with_bootstrap(psk_block("bs-dev2", KEY)))
    client = SecureClient(port, own_key=OWN_KEY, chain=der(TRUSTED), port=40_001).connect()
    by_psk = SecureClient(port, b"bs-dev2", KEY, port=40_002).connect()
    client.ask()
    port.calls(port.sessions.keys_changed)
    assert port.ends_of(device) == [("lost", "lost")]
    assert len(port.sessions) == 1
    assert by_psk.bootstrap("/bs")[-1] == "POST /bs"


@pytest.mark.spec("Platform 4", "Platform 16.9")
def test_a_server_may_have_keys_of_its_own(port: BootstrapPort) -> None:
    single = {"7": psk_block("dev1-at-7", FRESH)}
    credential = with_bootstrap(psk_block("bs-dev1", KEY), psk_block("dm-dev1", FOR_SERVER), servers=single)
    port.stack.provision("dev1", credential=credential)
    port.profile(BY_PSK, ServerEntry(short_id=7, mode=PSK, host="seven.example", port=5684))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    client.bootstrap(f"/bs?ep={NAME}")
    assert (value(client, "/0/1/3"), value(client, "/0/1/5")) == (b"dm-dev1", FOR_SERVER)
    assert (value(client, "/0/2/3"), value(client, "/0/2/5")) == (b"dev1-at-7", FRESH)


@pytest.mark.spec("B-10")
def test_a_weak_key_is_given_to_nobody(port: BootstrapPort) -> None:
    credential = with_bootstrap(psk_block("bs-dev1", KEY), psk_block("dm-dev1", bytes(16)))
    device = port.stack.provision("dev1", credential=credential)
    port.profile(BY_PSK)
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    assert client.ask(f"/bs?ep={NAME}").code == BAD_REQUEST
    assert port.ends_of(device) == [("refused", "configuration")]


@pytest.mark.spec("B-15")
def test_a_record_as_people_write_it_bootstraps_a_device(port: BootstrapPort) -> None:
    at_server = psk_block("dm-dev1", FOR_SERVER)
    own = {"securityConfigClientMode": "PSK", "endpoint": "dev1-dm", "identity": "dm-dev1", "key": FOR_SERVER.hex()}
    bootstrap = {"bootstrapServer": psk_block("bs-dev1", KEY), "lwm2mServer": at_server, "endpoint": "dev1-bs"}
    record = json.dumps({"client": own, "bootstrap": bootstrap})
    device = port.stack.provision("dev1", credential=parse_record(record, WALL_MS))
    port.profile(BY_PSK)
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    assert client.bootstrap("/bs?ep=dev1-bs")[-1] == "POST /bs"
    assert port.sessions_of(device)[0].endpoint_name == "dev1-bs"
    registering = SecureDevice(port.stack, b"dm-dev1", FOR_SERVER).connect()
    assert registering.register("/rd?ep=dev1-dm&lt=300&lwm2m=1.1&b=U") == 0x41


@pytest.mark.spec("Platform 4", "RFC 8613 3.2", "LwM2M-contract 2.6")
def test_a_server_may_be_spoken_to_with_oscore(port: BootstrapPort) -> None:
    context = {"masterSecret": FRESH.hex(), "senderId": "01", "recipientId": "02", "masterSalt": "9e7ca92223786340"}
    credential = with_bootstrap(psk_block("bs-dev1", KEY), {**NO_SEC, "oscore": context})
    device = port.stack.provision("dev1", credential=credential)
    port.profile(ServerEntry(short_id=123, host="dm.example", oscore=True))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    steps = client.bootstrap(f"/bs?ep={NAME}")
    assert "PUT /21/1" in steps
    assert (value(client, "/21/1/0"), value(client, "/21/1/1"), value(client, "/21/1/2")) == (FRESH, b"\x01", b"\x02")
    assert value(client, "/0/1/17") is not None
    assert port.ends_of(device) == [("configured", "")]
    assert FRESH.hex() not in everything(port, device)


class TestFreshKeys:
    """They are stored before the device gets them, beside those that it has."""

    def given(self, port: BootstrapPort) -> tuple[Any, SecureClient]:
        device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
        port.profile(WITH_FRESH)
        return device, SecureClient(port, b"bs-dev1", KEY).connect()

    def fresh(self, port: BootstrapPort, device: Any) -> Credential | None:
        return port.stack.run(port.stack.store.fresh_credential(device.device_id))  # type: ignore[no-any-return]

    @pytest.mark.spec("SEC-9", "B-10")
    def test_before_anything_is_changed_and_once(self, port: BootstrapPort, monkeypatch: pytest.MonkeyPatch) -> None:
        device, client = self.given(port)
        put, puts = port.stack.store.put_fresh_credential, []

        async def counted(*stored: Any, **more: Any) -> None:
            puts.append(stored)
            await put(*stored, **more)

        monkeypatch.setattr(port.stack.store, "put_fresh_credential", counted)
        assert client.ask(f"/bs?ep={NAME}").code == CHANGED
        assert self.fresh(port, device) is None
        client.run(1)
        stored = self.fresh(port, device)
        assert stored is not None
        assert stored.identity == "dev1-fresh"
        client.run()
        assert (value(client, "/0/1/3"), value(client, "/0/1/5")) == (b"dev1-fresh", FRESH)
        assert len(puts) == 1
        assert port.ends_of(device) == [("configured", "")]
        assert FRESH.hex() not in everything(port, device)

    @pytest.mark.spec("SEC-9", "ETS 1")
    def test_and_the_device_registers_with_them(self, port: BootstrapPort) -> None:
        _, client = self.given(port)
        client.bootstrap(f"/bs?ep={NAME}")
        registering = SecureDevice(port.stack, b"dev1-fresh", FRESH).connect()
        assert registering.register() == 0x41
        assert port.stack.registrations() == [NAME]

    @pytest.mark.spec("SEC-3", "B-15")
    def test_and_keeps_the_endpoint_name_that_its_record_gives_it(self, port: BootstrapPort) -> None:
        own = Credential("dm-dev1", f"psk-hex:{FOR_SERVER.hex()}", endpoint="dev1-dm")
        port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY), credential=own))
        port.profile(WITH_FRESH)
        SecureClient(port, b"bs-dev1", KEY).connect().bootstrap()
        registering = SecureDevice(port.stack, b"dev1-fresh", FRESH).connect()
        assert registering.register("/rd?ep=dev1-dm&lt=300&lwm2m=1.1&b=U") == 0x41
        assert port.stack.registrations() == ["dev1-dm"]

    def test_one_key_for_all_servers_that_want_fresh_ones(self, port: BootstrapPort) -> None:
        _, client = self.given(port)
        port.profile(WITH_FRESH, ServerEntry(short_id=7, mode=PSK, host="seven.example", port=5684, keys="fresh"))
        client.bootstrap(f"/bs?ep={NAME}")
        assert value(client, "/0/1/5") == value(client, "/0/2/5") == FRESH

    @pytest.mark.spec("Design 7")
    def test_where_they_cannot_be_stored_nothing_is_changed(
        self, port: BootstrapPort, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device, client = self.given(port)

        async def fails(*_: Any, **__: Any) -> None:
            raise StoreFailing("disk full")

        monkeypatch.setattr(port.stack.store, "put_fresh_credential", fails)
        assert client.bootstrap(f"/bs?ep={NAME}") == ["GET /"]
        assert port.ends_of(device) == [("step failed", "not-stored")]

    @pytest.mark.spec("B-1", "SEC-9")
    def test_what_a_device_was_given_over_a_session_and_has_not_used_yet_it_is_given_again(self, stack: Stack) -> None:
        port = BootstrapPort(stack, secure=ServerParameters(), issue=FreshKeys())
        device, client = self.given(port)
        client.bootstrap()
        stored = self.fresh(port, device)
        # It has what it was given; of the next session it hears nothing.
        client.answers["PUT /0/1"] = [BAD_REQUEST]
        written = dict(client.written)
        client.bootstrap()
        assert port.ends_of(device)[0] == ("step failed", "write-refused")
        assert self.fresh(port, device) == stored
        client.bootstrap()
        assert client.written == written

    @pytest.mark.spec("RFC 8613 7.2.1")
    @pytest.mark.parametrize("mode", [PSK, NOSEC])
    def test_no_oscore_context_is_given_twice(self, stack: Stack, mode: str) -> None:
        # The device may have used it, and would begin to count its messages anew.
        port = BootstrapPort(stack, secure=ServerParameters(), issue=FreshKeys())
        _, client = self.given(port)
        port.profile(ServerEntry(short_id=123, mode=mode, host="dm", oscore=True, keys="fresh"))
        secrets = []
        for _ in range(2):
            client.bootstrap()
            secrets.append(value(client, "/21/1/0"))
        assert secrets[0] != secrets[1]

    def test_of_another_kind_it_is_not(self, port: BootstrapPort) -> None:
        device, client = self.given(port)
        client.bootstrap()
        context = {"masterSecret": KEY.hex(), "senderId": "01", "recipientId": "02"}
        other = Credential("x", "", kind=OSCORE, oscore=json.dumps(context))
        port.stack.run(port.stack.store.put_fresh_credential(device.device_id, other))  # type: ignore[union-attr]
        client.bootstrap()
        assert value(client, "/0/1/5") == FRESH
        assert port.ends_of(device)[0] == ("configured", "")

    @pytest.mark.spec("SEC-7")
    def test_in_the_open_it_is_not(self, stack: Stack) -> None:
        port = BootstrapPort(stack, issue=FreshKeys())
        stack.provision("dev1")
        port.profile(WITH_FRESH)
        client = Client(port)
        keys = []
        for _ in range(2):
            client.bootstrap()
            keys.append(value(client, "/0/1/5"))
        assert keys[0] != keys[1]

    @pytest.mark.spec("SEC-9")
    def test_and_not_beside_a_credential_that_was_given_since_by_somebody_who_has_not_told_yet(
        self, port: BootstrapPort
    ) -> None:
        device, client = self.given(port)
        client.ask(f"/bs?ep={NAME}")
        anew = with_bootstrap(psk_block("bs-anew", FOR_SERVER))
        port.stack.run(port.stack.store.set_credential(device.device_id, anew))  # type: ignore[union-attr]
        client.run()
        assert client.steps == ["GET /"]
        assert self.fresh(port, device) is None
        assert port.ends_of(device) == [("lost", "revoked")]

    @pytest.mark.spec("SEC-9")
    def test_nor_in_a_pack(self, port: BootstrapPort, monkeypatch: pytest.MonkeyPatch) -> None:
        device, client = self.given(port)
        put = port.stack.store.put_fresh_credential  # type: ignore[union-attr]

        async def late(*stored: Any, **more: Any) -> None:
            await port.stack.store.set_credential(device.device_id, with_bootstrap())  # type: ignore[union-attr]
            await put(*stored, **more)

        monkeypatch.setattr(port.stack.store, "put_fresh_credential", late)
        assert client.ask(f"/bspack?ep={NAME}&acc=</0/0>", GET, accept=112).code == BAD_REQUEST
        assert self.fresh(port, device) is None
        assert port.ends_of(device) == [("refused", "revoked")]

    @pytest.mark.spec("Design 7")
    def test_nor_where_too_much_is_going_on(self, port: BootstrapPort, monkeypatch: pytest.MonkeyPatch) -> None:
        device, client = self.given(port)
        client.ask(f"/bs?ep={NAME}")
        with monkeypatch.context() as busy:
            busy.setattr(port.stack.tasks, "_limit", 0)
            client.run(1)
        assert len(port.bootstrapping.conversations) == 0
        client.run()
        assert client.steps == ["GET /"]
        assert self.fresh(port, device) is None
        assert client.bootstrap()[-1] == "POST /bs"

    @pytest.mark.spec("SEC-7", "B-10")
    def test_a_device_from_nothing_gets_them_in_the_open_and_one_that_has_some_does_not(
        self, port: BootstrapPort
    ) -> None:
        bare = port.stack.provision("dev1")
        port.profile(WITH_FRESH)
        client = Client(port)
        assert client.bootstrap()[-1] == "POST /bs"
        assert port.ends_of(bare) == [("configured", "")]
        own = Credential("dm-dev1", f"psk-hex:{FOR_SERVER.hex()}")
        port.stack.run(port.stack.store.set_credential(bare.device_id, with_bootstrap(NO_SEC, NO_SEC, own)))
        assert client.ask().code == BAD_REQUEST
        session = port.sessions_of(bare)[0]
        assert (session.state.value, session.reason) == ("refused", "configuration")
        assert "secure session" in session.detail


@pytest.mark.spec("SEC-7", "LwM2M-contract 2.6")
def test_what_a_device_proves_itself_with_here_is_told_to_nobody_in_the_open(port: BootstrapPort) -> None:
    context = {"masterSecret": FRESH.hex(), "senderId": "01", "recipientId": "02"}
    own = Credential("dev1", "", kind=OSCORE, oscore=json.dumps(context))
    device = port.stack.provision("dev1", credential=own)
    port.profile(ServerEntry(short_id=123, host="dm.example", oscore=True))
    client = Client(port)
    assert client.ask().code == BAD_REQUEST
    assert client.hears_nothing()
    (session,) = port.sessions_of(device)
    assert (session.state.value, session.reason) == ("refused", "configuration")
    assert "lwm2mServer.oscore" in session.detail


class TestOneTime:
    @pytest.fixture
    def device(self, port: BootstrapPort) -> Any:
        credential = with_bootstrap(psk_block("bs-dev1", KEY), oneTime=True)
        return port.stack.provision("dev1", credential=credential)

    @pytest.mark.spec("SEC-9", "B-16")
    def test_it_is_good_once(self, port: BootstrapPort, device: Any) -> None:
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        client.bootstrap(f"/bs?ep={NAME}")
        assert client.ask(f"/bs?ep={NAME}").code == BAD_REQUEST
        assert port.ends_of(device) == [("refused", "spent"), ("configured", "")]

    def test_and_not_used_up_by_a_session_that_failed(self, port: BootstrapPort, device: Any) -> None:
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        client.answers["PUT /1/0"] = [BAD_REQUEST]
        client.bootstrap(f"/bs?ep={NAME}")
        assert client.bootstrap(f"/bs?ep={NAME}")[-1] == "POST /bs"
        assert port.ends_of(device) == [("configured", ""), ("step failed", "write-refused")]

    def test_a_store_that_cannot_say_so_does_not_give_it_a_second_time(
        self, port: BootstrapPort, device: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fails(*_: Any) -> None:
            raise StoreFailing("disk full")

        monkeypatch.setattr(port.stack.store, "spend_bootstrap_credential", fails)
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        client.bootstrap(f"/bs?ep={NAME}")
        assert client.ask(f"/bs?ep={NAME}").code == SERVICE_UNAVAILABLE
        assert client.hears_nothing()

    def test_whoever_gives_it_anew_may_do_so_after_that_too(
        self, port: BootstrapPort, device: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fails(*_: Any) -> None:
            raise StoreFailing("disk full")

        store = port.stack.store
        assert store is not None
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        with monkeypatch.context() as failing:
            failing.setattr(store, "spend_bootstrap_credential", fails)
            client.bootstrap(f"/bs?ep={NAME}")
        port.stack.clock.at += 1
        anew = replace(with_bootstrap(psk_block("bs-dev1", KEY), oneTime=True), modified_ms=port.stack.clock.wall_ms())
        port.stack.run(store.set_credential(device.device_id, anew))
        assert client.bootstrap(f"/bs?ep={NAME}")[-1] == "POST /bs"
        assert client.ask(f"/bs?ep={NAME}").code == BAD_REQUEST

    def test_it_is_good_once_too_where_the_clock_was_set_back(self, port: BootstrapPort) -> None:
        late = port.stack.clock.wall_ms() + 3_600_000
        credential = replace(with_bootstrap(psk_block("bs-dev1", KEY), oneTime=True), modified_ms=late)
        port.stack.provision("dev1", credential=credential)
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        client.bootstrap()
        assert client.ask("/bs").code == BAD_REQUEST

    @pytest.mark.spec("SEC-9")
    @pytest.mark.parametrize("it_stops", [False, True])
    def test_a_device_that_uses_what_it_was_given_has_used_it_up_though_its_last_answer_was_not_heard(
        self, port: BootstrapPort, device: Any, it_stops: bool
    ) -> None:
        port.profile(WITH_FRESH)
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        client.answers["POST /bs"] = None
        client.bootstrap(f"/bs?ep={NAME}")
        if it_stops:
            assert port.stack.run(port.stack.store.interrupt_bootstrap_sessions(port.stack.clock.wall_ms())) == 1
        else:
            port.stack << after(100)
        assert port.ends_of(device)[0] in (("silent", "timeout"), ("interrupted", ""))
        # It may not have heard that it is finished: until it shows that it was given something it is let in again.
        client = SecureClient(port, b"bs-dev1", KEY, port=40_001, seed=8).connect()
        assert client.ask(f"/bs?ep={NAME}").code == CHANGED
        assert SecureDevice(port.stack, b"dev1-fresh", FRESH).connect().register() == 0x41
        assert client.ask(f"/bs?ep={NAME}").code == BAD_REQUEST
        assert port.ends_of(device)[0] == ("refused", "spent")

    def test_no_pack_is_given_for_it(self, port: BootstrapPort, device: Any) -> None:
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        assert client.ask(f"/bspack?ep={NAME}&acc=</0/0>", GET, accept=112).code == METHOD_NOT_ALLOWED


class TestPacks:
    @pytest.fixture
    def device(self, port: BootstrapPort) -> Any:
        credential = with_bootstrap(psk_block("bs-dev1", KEY), psk_block("dm-dev1", FOR_SERVER))
        port.profile(BY_PSK)
        return port.stack.provision("dev1", credential=credential)

    @pytest.fixture
    def client(self, port: BootstrapPort, device: Any) -> SecureClient:
        return SecureClient(port, b"bs-dev1", KEY).connect()

    @pytest.mark.spec("ETS 12", "B-9", "B-6")
    @pytest.mark.parametrize("accept", [112, 110, 11544])
    def test_a_pack_has_all_and_ends_the_session(
        self, port: BootstrapPort, device: Any, client: SecureClient, accept: int
    ) -> None:
        answer = client.ask(f"/bspack?ep={NAME}&acc=</0/5>", GET, accept=accept)
        assert answer.code == CONTENT
        content = decode_content(accept, answer.payload, Path(), TYPES)
        written = {str(each.path): each.value for each in content.entries}
        accounts = {path.split("/")[2] for path in written if path.startswith("/0/")}
        assert "5" not in accounts
        assert FOR_SERVER in written.values()
        assert client.hears_nothing()
        (session,) = port.sessions_of(device)
        assert (session.state.value, session.trigger.value) == ("configured", "pack")
        assert FOR_SERVER.hex() not in everything(port, device)
        assert len(port.bootstrapping.conversations) == 0

    @pytest.mark.spec("ETS 12", "B-9")
    def test_a_long_one_is_fetched_in_blocks(self, port: BootstrapPort) -> None:
        block = key_block("X509", der(TRUSTED)[0])
        device = port.stack.provision("dev2", credential=with_bootstrap(block, block))
        port.profile(ServerEntry(short_id=1, mode=X509, host="dm.example", port=5684))
        client = SecureClient(port, own_key=OWN_KEY, chain=der(TRUSTED)).connect()
        body, number = b"", 0
        while True:
            option = (BLOCK2, encode_uint(number << 4 | 6))
            answer = client.ask("/bspack?acc=</0/0>", GET, accept=112, extra=[option])
            assert answer.code == CONTENT
            body += answer.payload
            number += 1
            if not dict(answer.options)[BLOCK2][-1] & 8:
                break
        assert number > 1
        written = {str(each.path): each.value for each in decode_content(112, body, Path(), TYPES).entries}
        assert der(TRUSTED)[0] in written.values()
        assert port.ends_of(device) == [("configured", "")]

    @pytest.mark.spec("B-6")
    def test_where_it_could_overwrite_the_bootstrap_account_it_is_refused(
        self, port: BootstrapPort, device: Any, client: SecureClient
    ) -> None:
        assert client.ask(f"/bspack?ep={NAME}", GET, accept=112).code == METHOD_NOT_ALLOWED
        assert port.ends_of(device) == [("refused", "pack-refused")]
        assert client.bootstrap(f"/bs?ep={NAME}")[-1] == "POST /bs"

    def test_a_format_that_no_pack_has_is_4_06(self, client: SecureClient) -> None:
        assert client.ask(f"/bspack?ep={NAME}", GET, accept=40).code == NOT_ACCEPTABLE

    def test_a_profile_without_servers_has_none(self, port: BootstrapPort, client: SecureClient) -> None:
        port.profile()
        assert client.ask(f"/bspack?ep={NAME}&acc=</0/0>", GET, accept=112).code == NOT_FOUND

    @pytest.mark.spec("SEC-3")
    def test_nobody_gets_that_of_another(self, port: BootstrapPort, client: SecureClient) -> None:
        port.stack.provision("dev2")
        assert client.ask("/bspack?ep=urn:dev:os:dev2&acc=</0/0>", GET, accept=112).code == BAD_REQUEST

    def test_in_the_open_it_takes_proof_of_the_address(self, port: BootstrapPort) -> None:
        port.stack.provision("dev2")
        assert Client(port).ask("/bspack?ep=urn:dev:os:dev2&acc=</0/0>", GET, accept=112).code == UNAUTHORIZED

    def test_fresh_keys_in_it_are_stored_before(self, port: BootstrapPort, device: Any, client: SecureClient) -> None:
        port.profile(WITH_FRESH)
        assert client.ask(f"/bspack?ep={NAME}&acc=</0/0>", GET, accept=112).code == CONTENT
        stored = port.stack.run(port.stack.store.fresh_credential(device.device_id))
        assert stored.identity == "dev1-fresh"

    def test_a_pack_in_the_middle_of_a_session_takes_its_place(
        self, port: BootstrapPort, device: Any, client: SecureClient
    ) -> None:
        client.ask(f"/bs?ep={NAME}")
        assert client.ask(f"/bspack?ep={NAME}&acc=</0/0>", GET, accept=112).code == CONTENT
        assert port.ends_of(device) == [("configured", ""), ("replaced", "another-request")]

    def test_where_they_are_switched_off_the_device_is_sent_to_bs(self, stack: Stack) -> None:
        port = BootstrapPort(stack, secure=ServerParameters(), packs=False)
        stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
        client = SecureClient(port, b"bs-dev1", KEY).connect()
        assert client.ask(f"/bspack?ep={NAME}&acc=</0/0>", GET, accept=112).code == NOT_IMPLEMENTED
