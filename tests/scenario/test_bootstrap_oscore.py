"""Devices that speak OSCORE with the bootstrap server, alone or within DTLS (ETS int-11; contract §2.6, B-10)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stellwerk.app.oscore import UNKNOWN
from stellwerk.app.records import AlreadyExists
from stellwerk.coap import codes, events
from stellwerk.coap.message import decode_message
from stellwerk.coap.options import ECHO, OSCORE
from stellwerk.device.bootstrap.configuration import ServerEntry
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.lwm2m.formats import ContentFormat, decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.value import ObjectLink
from tests.scenario.bootstrap_port import EMPTY, NO_SEC, BootstrapPort, Client, SecureClient, psk_block, with_bootstrap
from tests.scenario.oscore_device import Keys, OscoreDevice
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import Stack, after

TYPES = Library.builtin().for_device("1.2", {})
NAME = "urn:dev:os:dev1"
KEY = bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e859")
THERE = Keys(b"dev1-bs", b"bs", bytes.fromhex("5a17c8d3e0f2964b8d7c1e3f90a2b4c6"))
AT_SERVER = Keys(b"dev1-dm", b"dm", bytes.fromhex("d41a90073fc86be25577913e08b2aa64"))
ONE = ServerEntry(short_id=123, host="dm.example", oscore=True)
BOOTSTRAP = ServerEntry(is_bootstrap=True, host="bs.example", port=5687, oscore=True)
METHODS = {codes.GET: "GET", codes.PUT: "PUT", codes.DELETE: "DELETE", codes.POST: "POST"}


def members(keys: Keys) -> dict[str, str]:
    """As a record has it."""
    return {
        "masterSecret": keys.secret.hex(),
        "senderId": keys.sender_id.hex(),
        "recipientId": keys.recipient_id.hex(),
        "masterSalt": keys.salt.hex(),
    }


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


def provision(port: BootstrapPort, block: dict[str, Any] | None = None, name: str = "dev1", **more: Any) -> Any:
    """A device with that context at the bootstrap server, and another one at its server."""
    there = {**(block or NO_SEC), "oscore": members(THERE)}
    credential = with_bootstrap(there, {**NO_SEC, "oscore": members(AT_SERVER)}, AT_SERVER.credential(name), **more)
    return port.stack.provision(name, credential=credential)


def client(port: BootstrapPort, keys: Keys = THERE, holds: str = EMPTY, **more: Any) -> OscoreDevice:
    device = OscoreDevice(port, keys, **more)  # type: ignore[arg-type]
    device.resources["/"] = (40, holds.encode())
    return device


def steps(device: OscoreDevice) -> list[str]:
    return [f"{METHODS[each.code]} /{'/'.join(each.path)}" for each in device.requests]


def value(device: OscoreDevice, path: str) -> Any:
    """What was written there, in TLV."""
    at = Path.parse(path)
    instance = Path(*at[:2])
    payload = next(each.payload for each in device.requests if "/" + "/".join(each.path) == str(instance))
    content = decode_content(ContentFormat.TLV, payload, instance, TYPES)
    return next((entry.value for entry in content.entries if entry.path == at), None)


def reasons(port: BootstrapPort) -> list[tuple[str, str]]:
    return [(each.reason, each.device) for each in port.failures.recent(None)]


def refused(device: OscoreDevice, target: str = "/bs") -> str:
    """The code of an answer that is not protected, since no context could be used for it."""
    answer = device.request(codes.POST, target)
    assert isinstance(answer, events.RequestFailed), answer
    assert answer.reason == "unprotected"
    return answer.detail[:4]


@pytest.mark.spec("ETS 11", "LwM2M-contract 2.6", "B-10", "RFC 8613 B.1.2")
def test_a_device_is_bootstrapped_with_oscore_and_registers_with_the_context_that_it_got(port: BootstrapPort) -> None:
    record = provision(port)
    device = client(port)
    assert device.ask(codes.POST, f"/bs?ep={NAME}") == codes.CHANGED
    assert steps(device) == ["GET /", "PUT /0/1", "PUT /1/0", "PUT /21/1", "POST /bs"]
    assert (value(device, "/0/1/0"), value(device, "/0/1/2")) == ("coap://dm.example:5683", 3)
    assert value(device, "/0/1/17") == ObjectLink(21, 1)
    assert (value(device, "/21/1/0"), value(device, "/21/1/1")) == (AT_SERVER.secret, AT_SERVER.sender_id)
    assert port.ends_of(record) == [("configured", "")]
    registering = OscoreDevice(port.stack, AT_SERVER)
    assert registering.register(f"/rd?ep={NAME}&lt=300&lwm2m=1.1&b=U") == codes.CREATED


@pytest.mark.spec("ETS 11", "LwM2M-contract 1.7", "RFC 9175 2.3")
def test_the_first_request_of_a_context_is_believed_after_an_echo_and_nothing_is_readable(port: BootstrapPort) -> None:
    provision(port)
    device = client(port)
    assert device.ask(codes.POST, f"/bs?ep={NAME}") == codes.CHANGED
    asked = [each for each in map(decode_message, device.up) if each.code == codes.POST]
    assert len(asked) == 2
    for message in map(decode_message, (*device.up, *device.down)):
        if not message.code:
            continue
        assert {number for number, _ in message.options} <= {OSCORE, ECHO}
        assert b"dm.example" not in message.payload
    # Without it nothing has begun.
    assert len(port.sessions_of(port.stack.run(port.stack.store.device_by_endpoint(NAME)))) == 1


@pytest.mark.spec("SEC-3", "SEC-4", "B-15")
@pytest.mark.parametrize("target", ["/bs", f"/bs?ep={NAME}", "/bs?ep=dev1", "/bs?ep=dev1-bs", "/bs?ep=meter@factory"])
def test_any_name_of_the_device_will_do(port: BootstrapPort, target: str) -> None:
    record = provision(port, endpoint="meter@factory")
    assert client(port).ask(codes.POST, target) == codes.CHANGED
    assert port.ends_of(record) == [("configured", "")]


@pytest.mark.spec("SEC-3")
@pytest.mark.parametrize("name", ["urn:dev:os:dev2", "nobody"])
def test_another_name_is_refused(port: BootstrapPort, name: str) -> None:
    record = provision(port)
    port.stack.provision("dev2")
    device = client(port)
    assert device.ask(codes.POST, f"/bs?ep={name}") == codes.BAD_REQUEST
    assert port.ends_of(record) == [("refused", "wrong-identity")]
    assert device.requests == []


@pytest.mark.spec("SEC-6", "LwM2M-contract 2.6")
def test_a_device_with_a_context_is_refused_without_it(port: BootstrapPort) -> None:
    record = provision(port)
    assert Client(port).ask().code == codes.BAD_REQUEST
    assert port.ends_of(record) == [("refused", "has-credentials")]


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-8")
def test_each_server_takes_its_own_contexts_only(port: BootstrapPort) -> None:
    provision(port)
    assert refused(client(port, AT_SERVER)) == "4.01"
    assert reasons(port) == [("unknown-context", "")]
    registering = OscoreDevice(port.stack, THERE, port=42_001)
    assert refused(registering, "/rd?lt=300&lwm2m=1.1&b=U") == "4.01"
    assert port.stack.registrations() == []


@pytest.mark.spec("LwM2M-contract 2.6")
def test_one_sender_id_may_be_used_at_both_servers(port: BootstrapPort) -> None:
    same = Keys(THERE.sender_id, b"dm", AT_SERVER.secret)
    credential = with_bootstrap({**NO_SEC, "oscore": members(THERE)}, NO_SEC, same.credential("dev1"))
    port.stack.provision("dev1", credential=credential)
    port.profile()
    assert client(port).ask(codes.POST, "/bs") == codes.CHANGED
    assert OscoreDevice(port.stack, same).register() == codes.CREATED


@pytest.mark.spec("RFC 8613 3.3", "RFC 8613 7.4")
def test_a_device_whose_key_is_wrong_is_told_so_and_people_too(port: BootstrapPort) -> None:
    provision(port)
    wrong = Keys(THERE.sender_id, THERE.recipient_id, bytes(16))
    assert refused(client(port, wrong)) == "4.00"
    assert reasons(port) == [("oscore-decryption", "dev1")]


@pytest.mark.spec("RFC 8613 7.4")
def test_a_replayed_request_begins_nothing(port: BootstrapPort) -> None:
    record = provision(port)
    device = client(port)
    device.ask(codes.POST, "/bs")
    [*_, request] = [each for each in device.up if decode_message(each).code == codes.POST]
    port.engine.feed(request, peer=device.here._replace(remote_host="203.0.113.6"), now=port.clock.now())
    port.settle()
    [answer] = [each for to, each in port.out if to.remote_host == "203.0.113.6"]
    assert answer.code == codes.UNAUTHORIZED
    assert len(port.sessions_of(record)) == 1


@pytest.mark.spec("SEC-9")
def test_another_context_counts_at_once_and_the_former_no_more(port: BootstrapPort) -> None:
    record = provision(port)
    former = client(port)
    assert former.ask(codes.POST, "/bs") == codes.CHANGED
    other = Keys(THERE.sender_id, THERE.recipient_id, KEY)
    changed = with_bootstrap({**NO_SEC, "oscore": members(other)}, NO_SEC, AT_SERVER.credential("dev1"))
    port.stack.run(port.stack.store.set_credential(record.device_id, changed))
    port.profile()
    assert former.ask(codes.POST, "/bs") == codes.BAD_REQUEST
    assert port.ends_of(record)[0] == ("refused", "wrong-identity")
    device = client(port, other)
    # The engine still knows the former context by that name: the first message ends that.
    assert refused(device) == "4.01"
    assert device.ask(codes.POST, "/bs") == codes.CHANGED
    assert port.ends_of(record)[0] == ("nothing to do", "")


@pytest.mark.spec("SEC-9")
def test_what_is_taken_away_in_the_middle_ends_the_session(port: BootstrapPort) -> None:
    record = provision(port)
    device = client(port)
    device.is_deaf = True
    device.request(codes.POST, "/bs")
    device.is_deaf = False
    device._answer = lambda request: None  # type: ignore[method-assign]
    port.stack << after(3)
    device.tick()
    assert [each.state.value for each in port.sessions_of(record)] == ["running"]
    port.revoked(record)
    assert port.ends_of(record)[0][0] == "lost"


@pytest.mark.spec("B-16", "LwM2M-contract 2.6")
def test_a_device_that_moves_goes_on_and_a_second_request_starts_again(port: BootstrapPort) -> None:
    record = provision(port)
    device = client(port)
    answer, device._answer = device._answer, lambda request: None  # type: ignore[method-assign]
    assert device.ask(codes.POST, "/bs") == codes.CHANGED
    device._answer = answer  # type: ignore[method-assign]
    device.move(42_009)
    assert device.ask(codes.POST, "/bs") == codes.CHANGED
    assert port.ends_of(record) == [("configured", ""), ("replaced", "another-request")]


@pytest.mark.spec("RFC 8613 B.2", "LwM2M-contract 2.6")
def test_a_device_that_lost_its_numbers_agrees_on_another_context_and_is_bootstrapped(port: BootstrapPort) -> None:
    record = provision(port)
    assert client(port).ask(codes.POST, "/bs") == codes.CHANGED
    device = client(port, rederive=True)
    assert device.ask(codes.POST, "/bs") == codes.CHANGED
    assert steps(device)[-1] == "POST /bs"
    assert port.ends_of(record) == [("configured", "")] * 2


@pytest.mark.spec("RFC 8613 B.1.1", "Design 7")
def test_after_a_backup_was_put_back_a_device_needs_another_context(port: BootstrapPort) -> None:
    record = provision(port)
    store = port.stack.store
    assert store is not None
    context = port.run(store.oscore_context_of(record.device_id, is_bootstrap=True))
    port.run(store.put_oscore_context(replace(context, ceiling=UNKNOWN)))
    assert refused(client(port)) == "4.01"
    assert reasons(port) == [("numbers-unknown", "dev1")]


class TestBothLayers:
    def layered(self, port: BootstrapPort) -> tuple[Any, SecureDevice]:
        record = provision(port, psk_block("bs-dev1", KEY))
        session = SecureDevice(port, b"bs-dev1", KEY).connect()  # type: ignore[arg-type]
        assert session.session is not None
        return record, session

    @pytest.mark.spec("ETS 11", "LwM2M-contract 2.6")
    def test_a_device_is_bootstrapped_with_oscore_within_dtls(self, port: BootstrapPort) -> None:
        record, session = self.layered(port)
        device = client(port, session=session)
        assert device.ask(codes.POST, "/bs") == codes.CHANGED
        assert steps(device)[-1] == "POST /bs"
        assert port.ends_of(record) == [("configured", "")]

    @pytest.mark.spec("LwM2M-contract 2.6", "SEC-6")
    def test_one_layer_alone_does_not_do(self, port: BootstrapPort) -> None:
        record, _ = self.layered(port)
        alone = SecureClient(port, b"bs-dev1", KEY, port=40_009).connect()
        assert alone.ask(f"/bs?ep={NAME}").code == codes.BAD_REQUEST
        assert port.ends_of(record) == [("refused", "wrong-layers")]
        assert refused(client(port)) == "4.01"
        assert reasons(port) == [("wrong-layers", "dev1")]

    @pytest.mark.spec("LwM2M-contract 2.6", "SEC-6")
    def test_nor_a_session_that_is_not_wanted(self, port: BootstrapPort) -> None:
        provision(port)
        other = with_bootstrap(psk_block("bs-dev2", KEY))
        port.stack.provision("dev2", credential=other)
        session = SecureDevice(port, b"bs-dev2", KEY).connect()  # type: ignore[arg-type]
        assert refused(client(port, session=session)) == "4.01"
        assert reasons(port) == [("wrong-layers", "dev1")]

    @pytest.mark.spec("B-16", "LwM2M-contract 5")
    def test_the_end_of_the_session_below_is_the_end_of_the_conversation(self, port: BootstrapPort) -> None:
        record, session = self.layered(port)
        device = client(port, session=session)
        device._answer = lambda request: None  # type: ignore[method-assign]
        assert device.ask(codes.POST, "/bs") == codes.CHANGED
        [peer] = [each for each in port.sessions.devices if each.is_context]
        assert port.contexts.may_reach(peer)
        session.close()
        assert port.ends_of(record)[0][0] == "lost"
        assert not port.contexts.may_reach(peer)

    def test_the_session_below_is_closed_a_while_after_the_end(self, port: BootstrapPort) -> None:
        _, session = self.layered(port)
        device = client(port, session=session)
        device.ask(codes.POST, "/bs")
        assert [peer.transport for peer in port.secure_link.closing] == ["dtls"]


@pytest.mark.spec("LwM2M-contract 2.6", "Platform 12.1")
@pytest.mark.parametrize("holds", [EMPTY, "</>;lwm2m=1.1,</0/0>,</1>,</21/0>,</3/0>"])
def test_the_bootstrap_account_is_rewritten_with_its_context_where_the_profile_says_so(
    port: BootstrapPort, holds: str
) -> None:
    record = provision(port)
    port.profile(BOOTSTRAP, ONE, updates_bootstrap_server=True)
    device = client(port, holds=holds)
    assert device.ask(codes.POST, "/bs") == codes.CHANGED
    assert port.ends_of(record) == [("configured", "")]
    theirs, ours = value(device, "/0/0/17"), value(device, "/0/1/17")
    assert theirs == ObjectLink(21, 0 if "/21/0" in holds else 1)
    assert theirs != ours
    assert value(device, f"/21/{theirs.instance_id}/0") == THERE.secret
    assert value(device, f"/21/{ours.instance_id}/0") == AT_SERVER.secret


@pytest.mark.spec("LwM2M-contract 2.6")
def test_an_entry_without_oscore_writes_no_context_of_the_bootstrap_account(port: BootstrapPort) -> None:
    provision(port)
    port.profile(ServerEntry(is_bootstrap=True, host="bs.example", port=5687), ONE, updates_bootstrap_server=True)
    device = client(port)
    assert device.ask(codes.POST, "/bs") == codes.CHANGED
    assert [each for each in steps(device) if "/21" in each] == ["PUT /21/1"]
    assert value(device, "/0/0/17") is None


@pytest.mark.spec("RFC 8613 3.3")
def test_two_devices_do_not_have_one_context(port: BootstrapPort) -> None:
    provision(port)
    again = with_bootstrap({**NO_SEC, "oscore": members(THERE)})
    with pytest.raises(AlreadyExists, match="OSCORE sender ID"):
        port.stack.provision("dev2", credential=again)
    with pytest.raises(AlreadyExists, match="OSCORE recipient ID"):
        port.stack.provision("dev2", credential=THERE.credential("dev2"))
