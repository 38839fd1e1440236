"""A device without security is bootstrapped: what each profile gives it, in which order, and what is told of it."""

from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.app.handlers.bootstrapping import CannotBegin
from stellwerk.coap.codes import BAD_REQUEST, CHANGED, NOT_ACCEPTABLE, NOT_FOUND, POST
from stellwerk.device.bootstrap.configuration import Acl, ServerEntry
from stellwerk.lwm2m.formats import ContentFormat, decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from tests.scenario.bootstrap_port import CONFIGURED, EMPTY, HOME, BootstrapPort, Client, psk_block, with_bootstrap
from tests.scenario.stack import Stack, Step, ack, con

TYPES = Library.builtin().for_device("1.2", {})
ONE = ServerEntry(short_id=123, host="dm.example")
TWO = ServerEntry(short_id=7, host="two.example", lifetime_s=600)
THREE = ServerEntry(short_id=9, host="three.example", hold_off_s=30)
OWN = ServerEntry(is_bootstrap=True, short_id=None, host="bs.example", port=5687)


@pytest.fixture
def port(stack: Stack) -> BootstrapPort:
    return BootstrapPort(stack)


def registers(mid: int, version: str = "1.1") -> Step:
    target = f"/rd?ep=urn:dev:os:dev1&lt=300&lwm2m={version}&b=U"
    return con(POST, target, mid=mid, payload=b"</1/0>,</3/0>", content_format=40)


def value(client: Client, path: str) -> object:
    """What was last written there, in TLV."""
    at = Path.parse(path)
    instance = Path(*at[:2])
    content = decode_content(ContentFormat.TLV, client.written[str(instance)], instance, TYPES)
    return next((entry.value for entry in content.entries if entry.path == at), None)


@pytest.mark.spec("B-1", "B-2", "B-7", "ETS 0", "Platform 12.1", "Platform 12.3")
def test_a_device_with_nothing_but_its_bootstrap_account_gets_a_server_and_registers(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    device = stack.provision("dev1")
    port.profile(ONE)
    answer = client.ask()
    assert answer.code == CHANGED
    client.run()
    assert client.steps == ["GET /", "PUT /0/1", "PUT /1/0", "POST /bs"]
    assert value(client, "/0/1/0") == "coap://dm.example:5683"
    assert value(client, "/0/1/10") == value(client, "/1/0/0") == 123
    assert value(client, "/0/1/1") is False
    (session,) = port.sessions_of(device)
    assert (session.state.value, session.reason, session.trigger.value) == ("configured", "", "client")
    assert [each.operation for each in session.steps] == [
        "Bootstrap-Discover",
        "Bootstrap-Write",
        "Bootstrap-Write",
        "Bootstrap-Finish",
    ]
    stack << registers(1)
    assert stack.registrations() == ["urn:dev:os:dev1"]


@pytest.mark.spec("B-16")
def test_each_step_stands_in_the_devices_log_with_the_clients_code(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    device = stack.provision("dev1")
    port.profile(ONE)
    client.answers["PUT /1/0"] = BAD_REQUEST
    client.bootstrap()
    assert stack.log(device) == [
        "bootstrap-began",
        "bootstrap-discover",
        "bootstrap-write",
        "bootstrap-write",
        "bootstrap-ended",
    ]
    lines = stack.run(stack.store.projection.device_log(device.device_id, 10))
    assert "/1/0 4.00" in next(each.detail for each in lines if each.event == "bootstrap-write")
    assert "step failed, write-refused" in next(each.detail for each in lines if each.event == "bootstrap-ended")


@pytest.mark.spec("B-1")
def test_one_request_at_a_time_each_with_a_message_id_of_its_own(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    stack.provision("dev1")
    port.profile(ONE)
    client.ask()
    seen = set()
    while not client.hears_nothing():
        request = client.next()
        assert client.hears_nothing()
        seen.add(request.mid)
        client.react(request)
    assert len(seen) == 4


@pytest.mark.spec("ETS 4", "Platform 12.1", "Platform 12.3", "B-5", "B-6")
def test_a_server_that_is_rewritten_keeps_its_instances_and_the_bootstrap_account_is_not_touched(
    port: BootstrapPort,
) -> None:
    stack, client = port.stack, Client(port, holds=CONFIGURED)
    stack.provision("dev1")
    port.profile(ONE)
    assert client.bootstrap() == ["GET /", "DELETE /0/1", "DELETE /1/0", "PUT /0/1", "PUT /1/0", "POST /bs"]


@pytest.mark.spec("Platform 12.1", "Platform 12.3", "B-6")
def test_bootstrap_and_server_both_are_rewritten_where_the_profile_says_so(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port, holds=CONFIGURED)
    stack.provision("dev1")
    port.profile(OWN, ONE, updates_bootstrap_server=True)
    assert client.bootstrap() == [
        "GET /",
        "DELETE /0/1",
        "DELETE /1/0",
        "PUT /0/0",
        "PUT /0/1",
        "PUT /1/0",
        "POST /bs",
    ]
    assert value(client, "/0/0/1") is True
    assert value(client, "/0/0/0") == "coap://bs.example:5687"


@pytest.mark.spec("Platform 12.1", "B-6")
def test_without_that_word_the_bootstrap_account_stays(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    stack.provision("dev1")
    port.profile(OWN, ONE)
    assert "PUT /0/0" not in client.bootstrap()


@pytest.mark.spec("Platform 12.3")
def test_a_profile_with_only_the_bootstrap_server_writes_that_alone(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port, holds=CONFIGURED)
    device = stack.provision("dev1")
    port.profile(OWN, updates_bootstrap_server=True)
    assert client.bootstrap() == ["GET /", "PUT /0/0", "POST /bs"]
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("Platform 12.3")
@pytest.mark.parametrize("has_profile", [True, False])
def test_a_profile_that_gives_nothing_is_finished_at_once(port: BootstrapPort, has_profile: bool) -> None:
    stack, client = port.stack, Client(port, holds=CONFIGURED)
    device = stack.provision("dev1")
    if has_profile:
        port.profile()
    assert client.bootstrap() == ["GET /", "POST /bs"]
    assert port.ends_of(device) == [("nothing to do", "")]


@pytest.mark.spec("Platform 12.3", "B-7")
def test_three_servers_each_get_an_account(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    stack.provision("dev1")
    port.profile(ONE, TWO, THREE)
    steps = client.bootstrap()
    assert sorted(steps[1:-1]) == ["PUT /0/1", "PUT /0/2", "PUT /0/3", "PUT /1/0", "PUT /1/1", "PUT /1/2"]
    assert {value(client, f"/0/{each}/10") for each in (1, 2, 3)} == {123, 7, 9}
    assert {value(client, f"/1/{each}/0") for each in (0, 1, 2)} == {123, 7, 9}


@pytest.mark.spec("B-12", "Platform 13")
def test_rights_of_several_servers_are_written_as_object_2(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    stack.provision("dev1")
    port.profile(ONE, TWO, acls=(Acl(3, 0, 123, ((123, 31), (0, 1))), Acl(3303, 65535, 65535, ((7, 16),))))
    steps = client.bootstrap()
    assert [each for each in steps if each.startswith("PUT /2")] == ["PUT /2/0", "PUT /2/1"]
    assert (value(client, "/2/0/2/123"), value(client, "/2/0/3")) == (31, 123)
    assert (value(client, "/2/1/1"), value(client, "/2/1/2/7"), value(client, "/2/1/3")) == (65535, 16, 65535)


@pytest.mark.spec("B-4")
@pytest.mark.parametrize("pct", [112, 110, 11544, 11542])
def test_writes_come_in_the_format_that_the_device_prefers(port: BootstrapPort, pct: int) -> None:
    stack, client = port.stack, Client(port)
    device = stack.provision("dev1")
    port.profile(ONE)
    client.bootstrap(f"/bs?ep=urn:dev:os:dev1&pct={pct}")
    written = [each for each in client.requests if each.code == 3]
    assert {dict(each.options)[12] for each in written} == {pct.to_bytes(2, "big") if pct > 255 else bytes([pct])}
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("B-14", "Platform 12.1")
@pytest.mark.parametrize(
    "holds",
    ['lwm2m="1.0",</0/0>,</0/1>;ssid=123,</1/0>;ssid=123,</3/0>', CONFIGURED],
)
def test_both_forms_of_an_answer_to_discover_are_understood(port: BootstrapPort, holds: str) -> None:
    stack, client = port.stack, Client(port, holds=holds)
    stack.provision("dev1")
    port.profile(ONE)
    assert client.bootstrap() == ["GET /", "DELETE /0/1", "DELETE /1/0", "PUT /0/1", "PUT /1/0", "POST /bs"]


@pytest.mark.spec("Platform 12.1", "B-6")
@pytest.mark.parametrize("refusal", [NOT_FOUND, BAD_REQUEST])
def test_a_device_that_refuses_discover_keeps_its_bootstrap_account(port: BootstrapPort, refusal: int) -> None:
    stack, client = port.stack, Client(port)
    device = stack.provision("dev1")
    port.profile(ONE)
    client.answers["GET /"] = refusal
    steps = client.bootstrap()
    assert "PUT /0/1" in steps
    assert not any(each.endswith(" /0/0") for each in steps)
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("ETS 9", "ETS 8", "B-7")
def test_a_refused_finish_is_corrected_once(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    device = stack.provision("dev1")
    port.profile(ONE)
    client.answers["POST /bs"] = [NOT_ACCEPTABLE]
    client.answers["GET /1"] = b""
    steps = client.bootstrap()
    assert steps.count("POST /bs") == 2
    assert steps.count("PUT /0/1") == 2
    assert "GET /1" in steps
    assert port.ends_of(device) == [("configured", "")]


@pytest.mark.spec("ETS 9")
def test_a_finish_that_is_refused_twice_is_inconsistent(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    device = stack.provision("dev1")
    port.profile(ONE)
    client.answers["POST /bs"] = NOT_ACCEPTABLE
    client.answers["GET /1"] = b""
    assert client.bootstrap().count("POST /bs") == 2
    assert port.ends_of(device) == [("inconsistent", "finish-refused")]


@pytest.mark.spec("B-13")
def test_an_answer_to_finish_may_come_later_as_a_message_of_its_own(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port)
    device = stack.provision("dev1")
    port.profile(ONE)
    client.ask()
    client.run(3)
    finish = client.next()
    client._say(ack(mid=finish.mid).message)
    assert port.ends_of(device) == [("running", "")]
    client._say(con(NOT_ACCEPTABLE, mid=7777, token=finish.token, payload=b"no server account").message)
    assert client._take().mid == 7777
    assert not client.hears_nothing()


@pytest.mark.spec("ETS 5", "Platform 12.2", "B-11")
def test_a_registered_device_that_is_told_to_bootstraps_and_registers_anew(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port, holds=CONFIGURED)
    device = stack.provision("dev1")
    port.profile(ONE)
    stack << registers(1)
    assert stack.take().code == 0x41
    stack.post(device, CommandRequest("execute", "/1/0/9", "EXECUTE /1/0/9"))
    execute = stack.take()
    assert execute.code == POST
    assert [value for number, value in execute.options if number == 11] == [b"1", b"0", b"9"]
    stack << ack(CHANGED, mid=execute.mid, token=execute.token)
    assert client.bootstrap()[-1] == "POST /bs"
    stack << registers(2)
    assert stack.take().code == 0x41
    assert port.ends_of(device) == [("configured", "")]
    assert stack.registrations() == ["urn:dev:os:dev1"]


@pytest.mark.spec("B-11")
class TestTheServerBegins:
    def begin(self, port: BootstrapPort, device: Any, address: tuple[str, int] | None = None) -> None:
        port.stack.run(port.bootstrapping.begin(device, address, port.clock.instant()))
        port.settle()

    def test_with_a_device_that_never_registered_where_somebody_says_it_is(self, port: BootstrapPort) -> None:
        stack, client = port.stack, Client(port)
        device = stack.provision("dev1")
        port.profile(ONE, server_initiated=True)
        self.begin(port, device, (client.peer.remote_host, client.peer.remote_port))
        client.run()
        assert client.steps == ["PUT /0/1", "PUT /1/1", "POST /bs"]
        (session,) = port.sessions_of(device)
        assert (session.state.value, session.trigger.value) == ("configured", "server")

    @pytest.mark.spec("SEC-9")
    def test_but_no_second_time_with_a_credential_for_one_time(self, port: BootstrapPort) -> None:
        client = Client(port)
        device = port.stack.provision("dev1", credential=with_bootstrap(oneTime=True))
        port.profile(ONE, server_initiated=True)
        where = client.peer.remote_host, client.peer.remote_port
        self.begin(port, device, where)
        client.run()
        with pytest.raises(CannotBegin, match="used up"):
            self.begin(port, device, where)

    def test_with_a_device_of_1_0_where_it_is_registered(self, port: BootstrapPort) -> None:
        stack, client = port.stack, Client(port)
        device = stack.provision("dev1")
        port.profile(ONE, server_initiated=True)
        # The server listens on every address that it has.
        port.bootstrapping.listens_at = "0.0.0.0", HOME.local_port
        stack << registers(1, "1.0")
        self.begin(port, device)
        client.run()
        assert client.steps[-1] == "POST /bs"

    def test_not_where_the_profile_does_not_allow_it(self, port: BootstrapPort) -> None:
        device = port.stack.provision("dev1")
        port.profile(ONE)
        with pytest.raises(CannotBegin, match="serverInitiated"):
            self.begin(port, device, ("192.0.2.1", 40_000))

    def test_not_with_a_device_that_speaks_a_later_version(self, port: BootstrapPort) -> None:
        stack = port.stack
        device = stack.provision("dev1")
        port.profile(ONE, server_initiated=True)
        stack << registers(1)
        with pytest.raises(CannotBegin, match="/1/x/9"):
            self.begin(port, device)

    def test_not_where_nobody_knows_where_it_is(self, port: BootstrapPort) -> None:
        device = port.stack.provision("dev1")
        port.profile(ONE, server_initiated=True)
        with pytest.raises(CannotBegin, match="nobody knows"):
            self.begin(port, device)

    def test_not_in_the_open_with_a_device_that_has_keys(self, port: BootstrapPort) -> None:
        device = port.stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", bytes(range(16)))))
        port.profile(ONE, server_initiated=True)
        with pytest.raises(CannotBegin, match="credentials"):
            self.begin(port, device, ("192.0.2.1", 40_000))


def test_profiles_of_other_devices_do_not_matter(port: BootstrapPort) -> None:
    stack, client = port.stack, Client(port, holds=EMPTY)
    stack.provision("dev1")
    port.profile(ONE, TWO, THREE, name="another")
    assert client.bootstrap() == ["GET /", "POST /bs"]
