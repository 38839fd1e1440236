"""What applications write, against the real store, its projector process and a simulated device."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.credential_material import b64, spki

from stellwerk.access import add_client
from stellwerk.config import Settings
from stellwerk.sim.fleet import Behaviour, FleetOptions, run_fleet
from stellwerk.wiring import Server

WITHIN_S = 15.0
RECEIVED = "/device-communication/sim-1/received-msg"
OUTGOING = "/device-communication/sim-1/outgoing-msg"


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer of ``ask`` that says yes."""
    async with asyncio.timeout(WITHIN_S):
        while not (found := await ask()):  # noqa: ASYNC110 - an application has nothing but polling
            await asyncio.sleep(0.01)
        return found


class Client:
    """Names are short, since it says so."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def call(self, method: str, path: str, body: Any = None, ty: int | None = None) -> Any:
        """The resource of the answer, None where there is no body."""
        headers = {"Content-Type": "application/json" if ty is None else f"application/json;ty={ty}"}
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return next(iter(answer.json().values())) if answer.content else None

    async def refused(self, method: str, path: str, body: Any = None, ty: int | None = None) -> str:
        headers = {"Content-Type": "application/json" if ty is None else f"application/json;ty={ty}"}
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code >= 400
        return answer.headers["x-m2m-rsc"]

    async def newest(self) -> Any:
        return (await self.call("GET", f"{RECEIVED}?rcn=8")).get("m2m:cin", [{}])[0]


async def token_of(base: str, client_id: str, secret: str) -> str:
    async with httpx.AsyncClient(verify=False) as http:
        answer = await http.post(
            f"{base}/oauth/token", data={"grant_type": "client_credentials"}, auth=(client_id, secret)
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


async def story(client: Client, coap_port: int) -> None:
    item = {"noRNe": "sim-1", "ni": "urn:dev:os:sim-1", "profe": "SCS-LwM2M", "lbl": ["d2c-uplink-property_Room:7"]}
    await client.call("POST", "/device-provisioning/request", {"dtiot:noPRt": {"reqLt": [item]}}, 28)

    # An injected message can be read when its answer comes, by name and by ID.
    await eventually(lambda: is_there(client, "/sim-1"))
    injected = await client.call("POST", RECEIVED, {"m2m:cin": {"con": {"t": 1}, "rn": "mine"}}, 4)
    assert (injected["lbl"], injected["cr"]) == (["Room:7"], "CTestApp")
    assert await client.call("GET", f"{RECEIVED}/la") == injected
    assert await client.call("GET", f"/{injected['ri']}") == injected
    assert await client.refused("POST", RECEIVED, {"m2m:cin": {"con": 2, "rn": "mine"}}, 4) == "4105"
    assert await client.call("DELETE", f"{RECEIVED}/mine") is None
    assert await client.refused("GET", f"{RECEIVED}/mine") == "4004"

    # A command for nobody waits as long as it says, and is cancelled before.
    waiting = await client.call("POST", OUTGOING, {"m2m:cin": {"con": "READ /3/0/0", "et": 600_000}}, 4)
    await client.call("DELETE", f"{OUTGOING}/{waiting['rn']}")

    async def cancelled() -> bool:
        return (await client.newest()).get("con", {}).get("status", {}).get("reason") == "cancelled"

    await eventually(cancelled)

    stop = asyncio.Event()
    fleet = asyncio.ensure_future(
        run_fleet(FleetOptions(server=f"coap://127.0.0.1:{coap_port}", behaviours=[Behaviour.QUIET]), stop)
    )
    try:
        # A label that changes while the device is registered is in its next message.
        async def registered() -> bool:
            return (await client.newest()).get("con", {}).get("messageType") == "registration"

        await eventually(registered)
        changed = await client.call("PUT", "/sim-1", {"m2m:nod": {"lbl": ["d2c-uplink-property_Room:8"]}})
        assert changed["lbl"][0] == "d2c-uplink-property_Room:8"
        assert any(each.startswith("registrations_timestamp: ") for each in changed["lbl"])
        await client.call("POST", OUTGOING, {"m2m:cin": {"con": "READ /3/0/0"}}, 4)

        async def answered() -> Any:
            message = await client.newest()
            return message if message.get("con", {}).get("messageType") == "response" else None

        answer = await eventually(answered)
        assert answer["con"]["status"]["code"] == 200
        assert answer["lbl"][2:] == ["Room:8"]

        # With a key it may no longer be registered without.
        key = {"m2m:crds": {"crid": "sim-1", "crse": "psk-hex:00112233"}}
        assert (await client.call("POST", "/sim-1", key, 13))["crse"] == "psk-hex:00112233"

        async def ended() -> bool:
            return (await client.newest()).get("con", {}).get("messageType") == "registration-expire"

        await eventually(ended)
        await client.call("DELETE", "/sim-1/credentials")

        # Or with a raw public key, or a certificate that a trusted authority gave it.
        raw = await client.call("POST", "/sim-1", {"m2m:crds": {"crse": f"rpk:{b64(spki())}"}}, 13)
        assert (raw["crid"], raw["crse"]) == ("urn:dev:os:sim-1", f"rpk:{b64(spki())}")
        assert await client.refused("PUT", "/sim-1/credentials", {"m2m:crds": {"crse": "rpk:AAAA"}}) == "4000"
        named = await client.call("PUT", "/sim-1/credentials", {"m2m:crds": {"crse": "x509-cn:sim-1"}})
        assert (named["crid"], named["crse"]) == ("sim-1", "x509-cn:sim-1")
        await client.call("DELETE", "/sim-1/credentials")
    finally:
        stop.set()
        await fleet

    # An application comes, changes and goes.
    body = {"m2m:ae": {"rn": "myApp", "api": "NmyApp", "poa": ["https://example.com/hook"]}}
    application = await client.call("POST", "", body, 2)
    assert application["aei"] == "CTestApp"
    assert await client.refused("POST", "", {"m2m:ae": {"rn": "other", "api": "N1"}}, 2) == "4117"
    await client.call("PUT", "/myApp", {"m2m:ae": {"poa": ["https://example.com/2"]}})
    assert (await client.call("GET", f"/{application['ri']}"))["poa"] == ["https://example.com/2"]
    await client.call("DELETE", f"/{application['ri']}")
    assert await client.refused("GET", "/myApp") == "4004"
    info = await client.call("PUT", "/sim-1/device-info", {"m2m:dvi": {"cnty": "DE"}})
    assert info["cnty"] == "DE"
    await client.call("DELETE", "/sim-1")
    assert await client.refused("GET", "/sim-1") == "4004"


async def is_there(client: Client, path: str) -> bool:
    return (await client.http.get(path)).status_code == 200


@pytest.mark.spec("D2C 5", "D2C 6.5", "D2C 7.3", "D2C 8", "D2C 8.1")
def test_an_application_writes_and_reads_back_what_it_wrote(tmp_path: Path):
    async def run() -> None:
        settings = Settings(
            data_dir=tmp_path,
            http_port=0,
            coap_host="127.0.0.1",
            coap_port=0,
            coaps_port=None,
            bootstrap_coap_port=None,
            bootstrap_coaps_port=None,
            tenant="acme",
            auto_read=(),
        )
        server = Server(settings)
        await server.start()
        try:
            secret = await add_client(settings, "app", ("acme",), "rw")
            base = f"http://127.0.0.1:{server.bound.http_port}"
            headers = {
                "Authorization": f"Bearer {await token_of(base, 'app', secret)}",
                "X-M2M-Origin": "CTestApp",
                "X-M2M-RI": "1",
                "fullName": "false",
            }
            async with httpx.AsyncClient(
                verify=False, base_url=f"{base}/device-management-orchestrator/v3/acme", headers=headers
            ) as http:
                await story(Client(http), server.bound.coap[0][1])
        finally:
            await server.stop()

    asyncio.run(run())
