"""aiocoap is bootstrapped over OSCORE: an independent implementation of RFC 8613 as a device from the factory, which
then registers with the context that it was given; and clients that go wrong."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import resource
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from oscore_device import Keys, OnlyProtected, OscoreDevice
from raw_coap import Relay, decode
from served import TENANT, Served, wait_until

from stellwerk.access import open_store
from stellwerk.config import load_settings
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.profile import DEFAULT, ProfileRecord

_numbers = itertools.count(1)
OSCORE_OPTION = 9
HOLDS = b"</>;lwm2m=1.2,</0/0>,</1>,</21/0>,</3/0>"
STEPS = ["GET /", "PUT /0/1", "PUT /1/0", "PUT /21/1", "POST /bs"]
SECRETS = [bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e8"), bytes.fromhex("d41a90073fc86be25577913e08b2aa")]


class Everything(resource.Resource):
    """Takes what a bootstrap server does, but for ``refusals``: codes by method and path."""

    def __init__(self, refusals: dict[str, aiocoap.Code]) -> None:
        super().__init__()
        self.refusals = refusals
        self.steps: list[str] = []
        self.written: dict[str, bytes] = {}

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        path = "/" + "/".join(request.opt.uri_path)
        step = f"{request.code} {path}"
        self.steps.append(step)
        if step in self.refusals:
            return aiocoap.Message(code=self.refusals[step], payload=b"no")
        if request.code == aiocoap.GET:
            return aiocoap.Message(code=aiocoap.CONTENT, payload=HOLDS, content_format=40)
        if request.code == aiocoap.PUT:
            self.written[path] = request.payload
        return aiocoap.Message(code=aiocoap.DELETED if request.code == aiocoap.DELETE else aiocoap.CHANGED)


class FromFactory(OscoreDevice):
    """Knows a bootstrap server alone."""

    def __init__(self, server_port: int, folder: Path, refusals: dict[str, aiocoap.Code] | None = None) -> None:
        self.everything = Everything(refusals or {})
        super().__init__(server_port, folder)

    def _site(self) -> Any:
        credentials = CredentialsMap()
        credentials[":server"] = self.security
        self.guard = OnlyProtected(self.everything)
        return OscoreSiteWrapper(self.guard, credentials)


def members(keys: Keys) -> dict[str, str]:
    return {
        "masterSecret": keys.master_secret.hex(),
        "senderId": keys.sender_id.hex(),
        "recipientId": keys.recipient_id.hex(),
        "masterSalt": keys.master_salt.hex(),
    }


class Setting:
    """A device whose record has a context for each server, and a relay before the bootstrap server."""

    def __init__(self, server: Served, folder: Path) -> None:
        self.server, self.folder = server, folder
        number = next(_numbers)
        self.name = f"boot-{number}"
        self.there = Keys(SECRETS[0] + bytes([number]), self.name.encode(), b"bs", b"salty")
        self.at_server = Keys(SECRETS[1] + bytes([number]), b"dm-%d" % number, b"dm", b"salty")
        server.api.provision(self.name, self.name)
        no_sec = {"securityMode": "NO_SEC"}
        record = {
            "client": {"securityConfigClientMode": "NO_SEC", "endpoint": self.name, "oscore": members(self.at_server)},
            "bootstrap": {
                "bootstrapServer": {**no_sec, "oscore": members(self.there)},
                "lwm2mServer": {**no_sec, "oscore": members(self.at_server)},
            },
        }
        file = folder / "record.json"
        file.write_text(json.dumps(record))
        server.run("credentials", "set", self.name, "--record", str(file))
        # The server looks every second, and ends what was begun with what the device had before.
        wait_until(
            lambda: server.query("stellwerk.db", "SELECT count(*) FROM credential_change") == [(0,)],
            within_s=20,
            what="the change is taken notice of",
        )
        self.relay = Relay(server.bootstrap_coap_port)
        self._devices: list[OscoreDevice] = []

    def device(self, keys: Keys | None = None, **refusals: Any) -> FromFactory:
        made = FromFactory(self.relay.port, (keys or self.there).write(self.folder / "factory"), **refusals)
        self._devices.append(made)
        return made

    def registering(self) -> OscoreDevice:
        made = OscoreDevice(self.server.coap_port, self.at_server.write(self.folder / "given"))
        self._devices.append(made)
        return made

    def ends(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = self.server.query(
            "stellwerk.db",
            "SELECT state,reason FROM bootstrap_session s JOIN device d ON d.id=s.device_id "
            f"WHERE d.name='{self.name}' ORDER BY s.id DESC",
        )
        return found

    def wait_end(self, *expected: tuple[str, str]) -> None:
        wait_until(lambda: self.ends() == [*expected], within_s=40, what=f"it ended as {expected}")

    def close(self) -> None:
        for each in self._devices:
            each.close()
            # Else it writes its numbers down when the folder is gone.
            each.security._destroy()
        self.relay.close()


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    made = serve_module(auto_read="").start()

    async def give_profile() -> None:
        entry = ServerEntry(short_id=123, host="127.0.0.1", port=made.coap_port, oscore=True)
        async with open_store(load_settings(environment=made.environment()), may_make=True) as store:
            tenant_id = await store.tenant(TENANT)
            assert tenant_id is not None
            record = ProfileRecord(tenant_id, "SCS-LwM2M", DEFAULT, 0, 0, BootstrapConfiguration((entry,)))
            await store.put_profile(record)

    asyncio.run(give_profile())
    return made


@pytest.fixture
def setting(server: Served, tmp_path: Path) -> Iterator[Setting]:
    made = Setting(server, tmp_path)
    yield made
    made.close()


@pytest.mark.spec("ETS 11", "LwM2M-contract 2.6", "B-10")
def test_aiocoap_is_bootstrapped_over_oscore_and_registers_with_what_it_got(setting: Setting) -> None:
    device = setting.device()
    assert device.ask(aiocoap.POST, f"/bs?ep={setting.name}").code == aiocoap.CHANGED
    setting.wait_end(("configured", ""))
    assert device.everything.steps == STEPS
    assert device.guard.unprotected == 0
    assert setting.at_server.master_secret in device.everything.written["/21/1"]
    for datagram in (*setting.relay.up, *setting.relay.down):
        message = decode(datagram)
        assert not message.code or OSCORE_OPTION in {number for number, _ in message.options}
        assert setting.at_server.master_secret not in datagram
    registering = setting.registering()
    registering.register(setting.name)
    setting.server.api.wait_type(setting.name, "registration")


@pytest.mark.spec("ETS 9", "ETS 11", "B-16")
@pytest.mark.parametrize(
    ("refused", "code", "end"),
    [
        ("GET /", aiocoap.NOT_FOUND, ("configured", "")),
        ("PUT /21/1", aiocoap.BAD_REQUEST, ("step failed", "write-refused")),
        ("POST /bs", aiocoap.NOT_ACCEPTABLE, ("inconsistent", "finish-refused")),
        ("POST /bs", aiocoap.BAD_REQUEST, ("step failed", "finish-refused")),
    ],
)
def test_what_aiocoap_refuses_has_a_name(setting: Setting, refused: str, code: Any, end: tuple[str, str]) -> None:
    device = setting.device(refusals={refused: code})
    assert device.ask(aiocoap.POST, "/bs").code == aiocoap.CHANGED
    setting.wait_end(end)
    assert refused in device.everything.steps


@pytest.mark.spec("SEC-3", "SEC-6", "LwM2M-contract 2.6")
def test_who_is_somebody_else_or_comes_without_the_context_is_refused(setting: Setting) -> None:
    device = setting.device()
    assert device.ask(aiocoap.POST, "/bs?ep=nobody").code == aiocoap.BAD_REQUEST
    assert device.ask_unprotected(aiocoap.POST, f"/bs?ep={setting.name}").code == aiocoap.BAD_REQUEST
    setting.wait_end(("refused", "has-credentials"), ("refused", "wrong-identity"))
    assert device.everything.steps == []


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 8.2")
def test_a_context_of_the_other_server_is_unknown_here(setting: Setting) -> None:
    device = setting.device(setting.at_server)
    with pytest.raises(aiocoap.error.Error):
        device.ask(aiocoap.POST, f"/bs?ep={setting.name}")
    assert setting.ends() == []


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 B.1.2", "ETS 11")
def test_aiocoap_is_bootstrapped_again_after_the_server_was_killed(setting: Setting) -> None:
    device = setting.device()
    assert device.ask(aiocoap.POST, "/bs").code == aiocoap.CHANGED
    setting.wait_end(("configured", ""))
    setting.server.kill()
    setting.server.start()
    assert device.ask(aiocoap.POST, "/bs").code == aiocoap.CHANGED
    setting.wait_end(("configured", ""), ("configured", ""))
