"""Leshan knows a bootstrap server and nothing else: it is given what its profile says, and registers with that."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bootstrapped import Bootstrapped, bs, dm, key_of, set_profile
from cryptography import x509
from leshan_client import BootstrapClient, LeshanClient
from leshan_fixtures import needs_leshan
from raw_coap import PUT, Relay, decode
from served import Json, Served, wait_until

pytestmark = needs_leshan
MODES = {"none": "NO_SEC", "psk": "PSK", "rpk": "RPK", "x509": "X509"}


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module().start()


class Device(Bootstrapped):
    """One and its Leshans."""

    def __init__(self, *arguments: Any, **bootstrap: Any) -> None:
        super().__init__(*arguments, **bootstrap)
        self.clients: list[BootstrapClient | LeshanClient] = []

    def start(
        self, port: int | None = None, *, endpoint: str = "", security: tuple[str, ...] | None = None, **options: Any
    ) -> BootstrapClient:
        """As from the factory."""
        secure = self.security() if security is None else security
        own = self.server.bootstrap_coaps_port if secure else self.server.bootstrap_coap_port
        client = BootstrapClient(port or own, endpoint or self.endpoint, security=secure, **options)
        self.clients.append(client)
        return client

    def uri(self) -> str:
        """Where it is to register."""
        if self.mode == "none":
            return f"coap://127.0.0.1:{self.server.coap_port}"
        return f"coaps://127.0.0.1:{self.server.coaps_port}"

    def close(self) -> None:
        for each in self.clients:
            each.kill()


Make = Callable[..., Device]


@pytest.fixture
def device(server: Served, tmp_path: Path) -> Iterator[Make]:
    made: list[Device] = []

    def make(mode: str, profile: str, *, on: Served | None = None, **bootstrap: Any) -> Device:
        made.append(Device(on or server, mode, profile, tmp_path, **bootstrap))
        return made[-1]

    yield make
    for each in made:
        each.close()


def operations(session: Json) -> list[str]:
    return [
        f"{each['operation'].removeprefix('Bootstrap-')} {each['path'].rstrip('/')}".strip()
        for each in session["steps"]
    ]


def failed_handshakes(server: Served) -> list[Json]:
    return [each for each in server.log_lines() if each.get("event") == "handshake.failed"]


def executes(server: Served, name: str) -> None:
    # It de-registers at once, so that the answer may not be the newest message.
    (answer,) = server.answers(name, server.api.command(name, "EXECUTE /1/0/9"))
    assert answer["status"]["code"] == 200, answer


@pytest.mark.spec("B-1", "B-2", "B-4", "B-7", "B-8", "B-10", "B-15", "B-16", "ETS 0", "Platform 12.1", "Platform 12.3")
@pytest.mark.parametrize(
    ("mode", "prefers"), [("none", "TLV"), ("psk", "SENML_CBOR"), ("rpk", "SENML_JSON"), ("x509", "-")]
)
def test_leshan_is_given_one_server_and_registers_there(server: Served, device: Make, mode: str, prefers: str) -> None:
    profile = set_profile(server, f"one-{mode}", dm(server, MODES[mode], lifetime=600))
    one = device(mode, profile)
    client = one.start(prefers=prefers)
    client.wait_said("bootstrapped")
    assert client.wait_said("regist").startswith(f"registered {one.uri()} /rd/")
    server.api.wait_type(one.name, "registration")
    session = one.wait_ended()
    assert (session["state"], session["reason"], session["trigger"]) == ("configured", "", "client")
    assert operations(session) == ["Discover", "Write /0/1", "Write /1/0", "Finish"]
    assert [each["status"] for each in session["steps"]] == [205, 204, 204, 204]
    told = client.accounts()
    assert told["/0/0"]["1"] == "true"
    assert (told["/0/1"]["0"], told["/0/1"]["1"], told["/0/1"]["10"]) == (one.uri(), "false", "123")
    assert (told["/1/0"]["0"], told["/1/0"]["1"]) == ("123", "600")
    assert server.api.run(one.name, "READ /3/0/1")["content"]["data"] == {"3/0/1": "bootstrapped"}
    one.wait_logged(
        "bootstrap-began", "bootstrap-discover", "bootstrap-write", "bootstrap-write", "bootstrap-finish",
        "bootstrap-ended",
    )  # fmt: skip


@pytest.mark.spec("B-2", "B-5", "B-6", "B-11", "B-16", "ETS 5", "Platform 12.2", "Platform 12.3")
def test_leshan_is_told_to_come_again_and_does_so_with_the_bootstrap_account_that_it_was_given(
    server: Served, device: Make
) -> None:
    entries = bs(server, "PSK", host="localhost"), dm(server, "PSK")
    one = device("psk", set_profile(server, "both", *entries, bootstrapServerUpdateEnable=True))
    client = one.start()
    assert client.wait_said("bootstrap started") == f"bootstrap started coaps://127.0.0.1:{server.bootstrap_coaps_port}"
    client.wait_said(f"registered {one.uri()}")
    assert operations(one.wait_ended()) == ["Discover", "Write /0/0", "Write /0/1", "Write /1/0", "Finish"]
    told = client.accounts()
    rewritten = f"coaps://localhost:{server.bootstrap_coaps_port}"
    assert (told["/0/0"]["0"], told["/0/0"]["1"]) == (rewritten, "true")
    assert [path for path in told if path.startswith("/0/")] == ["/0/0", "/0/1"]

    server.api.wait_type(one.name, "registration")
    executes(server, one.name)
    assert client.wait_said("bootstrap started") == f"bootstrap started {rewritten}"
    client.wait_said("bootstrapped")
    client.wait_said(f"registered {one.uri()}")
    session = one.wait_ended(2)
    assert session["state"] == "configured"
    assert operations(session) == [
        "Discover", "Delete /0/1", "Delete /1/0", "Write /0/0", "Write /0/1", "Write /1/0", "Finish",
    ]  # fmt: skip
    assert client.accounts() == told


@pytest.mark.spec("B-7", "B-12", "Platform 12.3", "Platform 13")
def test_leshan_is_given_three_servers_and_who_may_do_what(server: Served, device: Make) -> None:
    entries = dm(server, shortServerId=7), dm(server, shortServerId=8, host="localhost"), dm(
        server, shortServerId=9, host="dm.example", port=5683, lifetime=1000
    )  # fmt: skip
    acls = [
        {"objectId": 3, "instanceId": 0, "owner": 7, "acl": {"7": 31, "8": 5, "0": 1}},
        {"objectId": 6, "instanceId": 65535, "owner": 65535, "acl": {"7": 16}},
    ]
    one = device("none", set_profile(server, "three", *entries, acls=acls))
    client = one.start()
    client.wait_said("bootstrapped")
    # It speaks to one of them at a time, the first that it has.
    client.wait_said(f"registered {one.uri()}")
    told = client.accounts()
    assert [(told[path]["0"], told[path]["10"]) for path in ("/0/1", "/0/2", "/0/3")] == [
        (one.uri(), "7"), (one.uri().replace("127.0.0.1", "localhost"), "8"), ("coap://dm.example:5683", "9"),
    ]  # fmt: skip
    assert [(told[path]["0"], told[path]["1"]) for path in ("/1/0", "/1/1", "/1/2")] == [
        ("7", "300"), ("8", "300"), ("9", "1000"),
    ]  # fmt: skip
    assert told["/2/0"] == {"0": "3", "1": "0", "2": "[0:1,7:31,8:5]", "3": "7"}
    assert told["/2/1"] == {"0": "6", "1": "65535", "2": "[7:16]", "3": "65535"}
    assert one.wait_ended()["state"] == "configured"


@pytest.mark.spec("B-10", "SEC-9", "Platform 12.1")
@pytest.mark.parametrize("mode", ["psk", "x509"])
def test_leshan_is_given_a_fresh_key_and_the_former_is_no_longer_taken(server: Served, device: Make, mode: str) -> None:
    profile = set_profile(server, f"fresh-{mode}", dm(server, MODES[mode], keys="fresh"))
    one = device(mode, profile)
    known = one.record()["client"]
    client = one.start()
    client.wait_said("bootstrapped")
    client.wait_said(f"registered {one.uri()}")
    server.api.wait_type(one.name, "registration")
    after = one.record()["client"]
    if mode == "psk":
        assert after["identity"].startswith(f"{one.endpoint}#")
        assert len(after["key"]) == 32
        assert after["key"] != known["key"]
    else:
        given = x509.load_der_x509_certificate(base64.b64decode(after["cert"]))
        authority = x509.load_pem_x509_certificate((server.data_dir / "keys" / "ca.pem").read_bytes())
        given.verify_directly_issued_by(authority)
        assert one.endpoint in given.subject.rfc4514_string()
    assert all(after["key" if mode == "psk" else "cert"] not in str(each) for each in one.history())

    client.stop()
    server.api.wait_type(one.name, "deregistration")
    before = len(failed_handshakes(server))
    former = LeshanClient(server.coaps_port, one.endpoint, security=one.former())
    one.clients.append(former)
    failed = wait_until(lambda: failed_handshakes(server)[before:], within_s=15, what="a handshake failed")
    assert failed[-1]["reason"] in ("unknown-identity", "untrusted-certificate")
    assert server.api.latest(one.name)["content"]["messageType"] == "deregistration"


@pytest.mark.spec("B-10", "SEC-3", "Platform 12.1")
def test_a_credential_for_one_time_is_refused_the_second_time_until_it_is_given_anew(
    server: Served, device: Make
) -> None:
    one = device("psk", set_profile(server, "one-psk", dm(server, "PSK")), oneTime=True)
    client = one.start()
    client.wait_said("bootstrapped")
    client.wait_said("registered")
    one.wait_ended()
    server.api.wait_type(one.name, "registration")
    executes(server, one.name)
    assert client.wait_said("bootstrap refused").startswith("bootstrap refused BAD_REQUEST(400) the bootstrap cred")
    session = one.wait_ended(2)
    assert (session["state"], session["reason"], session["steps"]) == ("refused", "spent", [])
    assert "was for one time and was used up; give it another one" in session["detail"]
    assert any(event == "bootstrap-refused" and "was used up" in detail for event, detail in one.log())
    assert "(spent: the bootstrap credential of device" in one.told().splitlines()[0]
    one.set_record(oneTime=True)
    client.wait_said("bootstrapped")
    client.wait_said("registered")
    assert one.wait_ended(3)["state"] == "configured"


@pytest.mark.spec("SEC-3", "SEC-4", "B-15", "B-16")
def test_leshan_learns_why_it_is_not_bootstrapped(server: Served, device: Make) -> None:
    profile = set_profile(server, "one-psk", dm(server, "PSK"))
    one, other = device("psk", profile), device("psk", profile)

    stranger = one.start(endpoint="urn:dev:os:nobody", security=())
    assert stranger.wait_said("bootstrap refused") == (
        "bootstrap refused BAD_REQUEST(400) no device has the endpoint name 'urn:dev:os:nobody'"
    )
    stranger.kill()
    said = [each for each in server.log_lines() if each.get("event") == "bootstrap.refused"][-1]
    assert (said["reason"], said["endpoint"]) == ("unknown-endpoint", "urn:dev:os:nobody")

    wrong_name = one.start(endpoint=other.endpoint)
    answer = wrong_name.wait_said("bootstrap refused")
    assert f"endpoint '{other.endpoint}' is not that of device '{one.name}'" in answer
    wrong_name.kill()
    session = one.wait_ended()
    assert (session["state"], session["reason"]) == ("refused", "wrong-identity")
    assert other.history() == []

    before = len(failed_handshakes(server))
    wrong_key = one.start(security=one.security(key=key_of("another").hex()))
    failed = wait_until(lambda: failed_handshakes(server)[before:], within_s=15, what="a handshake failed")
    assert (failed[-1]["reason"], one.identity("bs") in failed[-1]["identity"]) == ("wrong-key", True)
    wrong_key.kill()
    one.wait_logged("bootstrap-refused", "handshake-failed")


LOST = "; the server stopped before it had the answer"


class UntilWritten(Relay):
    """Lets the first Bootstrap-Write through, and then nothing that the server says, until ``goes_on``."""

    goes_on = False

    @property
    def is_open(self) -> bool:
        return self.goes_on or not any(decode(each).code == PUT for each in self.down)


@pytest.mark.slow
@pytest.mark.spec("B-3", "B-16", "Design 7")
def test_a_server_that_is_killed_in_the_middle_says_so_and_leshan_comes_again(
    serve: Callable[..., Served], device: Make
) -> None:
    server = serve().start()
    relay = UntilWritten(server.bootstrap_coap_port)
    try:
        one = device("none", set_profile(server, "one-none", dm(server)), on=server)
        client = one.start(relay.port, session_s=4)
        wait_until(lambda: not relay.is_open, within_s=20, what="the first write is through")
        relay.passes_up = False
        server.kill()
        assert [each["state"] for each in one.history()] == ["running"]
        # Also before anybody starts it again.
        begun, discover, write = one.told().splitlines()
        assert begun.endswith("2 steps")
        assert "  Bootstrap-Discover /  2.05  </>" in discover
        assert "  Bootstrap-Write /0/1  no answer yet  " in write
        server.start()
        (session,) = one.history()
        assert session["state"] == "interrupted"
        begun, *known = one.told().splitlines()
        assert "\tinterrupted after " in begun
        assert begun.endswith("2 steps")
        assert "(during Bootstrap-Write /0/1)" in begun
        assert known == [discover, write.replace("no answer yet", "interrupted") + LOST]
        relay.goes_on = relay.passes_up = True
        client.wait_said("bootstrapped", within_s=30)
        client.wait_said(f"registered {one.uri()}")
        assert one.wait_ended(2)["state"] == "configured"
    finally:
        relay.close()
