"""From provisioning to a device's answer with nothing but HTTP: real sockets, real store, a simulated device."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from stellwerk.config import Settings
from stellwerk.sim.fleet import Behaviour, FleetOptions, run_fleet
from stellwerk.wiring import Server

WITHIN_S = 15.0
HEADERS = {
    "Accept": "application/json",
    "Authorization": "Bearer token-of-the-test",
    "X-M2M-Origin": "CTestApp",
    "X-M2M-RI": "123",
}


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer of ``ask`` that is not None."""
    async with asyncio.timeout(WITHIN_S):
        while (found := await ask()) is None:  # noqa: ASYNC110 - an application has nothing but polling
            await asyncio.sleep(0.01)
        return found


class Application:
    """What an application does: posts, and polls for what comes of it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, path: str, ty: int, body: Any) -> dict[str, Any]:
        answer = await self.http.post(path, json=body, headers={"Content-Type": f"application/json;ty={ty}"})
        assert answer.status_code == 201, answer.text
        (resource,) = answer.json().values()
        return resource

    async def get(self, path: str) -> Any:
        """The resource's attributes, None while there is none."""
        answer = await self.http.get(path)
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        (resource,) = answer.json().values()
        return resource

    async def received(self, device: str, label: str) -> dict[str, Any]:
        """The received message with this label."""

        async def ask() -> Any:
            container = await self.get(f"/device-communication/{device}/received-msg?rcn=4")
            messages = container.get("m2m:cin", []) if container else []
            return next((each for each in messages if label in each.get("lbl", [])), None)

        return await eventually(ask)


async def journey(application: Application, coap_port: int) -> None:
    item = {"noRNe": "sim-1", "ni": "urn:dev:os:sim-1", "profe": "SCS-LwM2M", "lbl": ["d2c-uplink-property_Room:7"]}
    request = await application.post("/device-provisioning/request", 28, {"dtiot:noPRt": {"opern": 1, "reqLt": [item]}})
    result = await eventually(
        lambda: application.get(f"/device-provisioning/response/responseToRequest-{request['ri']}")
    )
    assert result["resSs"] == 1
    stop = asyncio.Event()
    fleet = asyncio.ensure_future(
        run_fleet(FleetOptions(server=f"coap://127.0.0.1:{coap_port}", behaviours=[Behaviour.QUIET]), stop)
    )
    try:
        registration = await application.received("sim-1", "Room:7")
        assert registration["con"]["messageType"] == "registration"
        outgoing = await application.post(
            "/device-communication/sim-1/outgoing-msg", 4, {"m2m:cin": {"con": "READ /3/0/0; WRITE /3/0/14"}}
        )
        trace = f"outgoing_msgRN:{outgoing['resourceName']}"

        async def answered() -> Any:
            container = await application.get("/device-communication/sim-1/received-msg?rcn=4")
            found = [each for each in container["m2m:cin"] if trace in each.get("lbl", [])]
            return found if len(found) == 2 else None

        by_code = {each["con"]["status"]["code"]: each for each in await eventually(answered)}
        assert by_code.keys() == {200, 400}
        answer = by_code[200]
        assert list(answer["con"]["data"]) == ["3/0/0"]
        assert "Room:7" in answer["lbl"]
        sent = await application.get("/device-communication/sim-1/sent-msg/la")
        assert (sent["content"], sent["labels"][0]) == ("READ /3/0/0", trace)
        assert sent["labels"][1] in answer["lbl"]
        assert await application.get("/device-communication/sim-1/outgoing-msg/la") is None
        node = await application.get("/sim-1")
        assert any(label.startswith("registrations_timestamp: ") for label in node["labels"])
        info = await application.get("/sim-1/device-info")
        assert (info["deviceLabel"], info["manufacturer"]) == ("sim-1", answer["con"]["data"]["3/0/0"])
    finally:
        stop.set()
        await fleet


def metrics(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.spec("D2C 6.2", "D2C 7.1", "D2C 8", "D2C 9")
def test_a_device_is_provisioned_registers_and_answers_a_command(tmp_path: Path):
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
            api_token="token-of-the-test",
        )
        server = Server(settings)
        await server.start()
        try:
            base = f"http://127.0.0.1:{server.bound.http_port}"
            async with httpx.AsyncClient(
                verify=False, base_url=f"{base}/device-management-orchestrator/v3/acme", headers=HEADERS
            ) as http:
                assert (await http.get(f"{base}/health/ready")).status_code == 200
                await journey(Application(http), server.bound.coap[0][1])
                figures = metrics((await http.get(f"{base}/metrics", headers={"Authorization": ""})).text)
                assert figures['stellwerk_uplinks_total{code="2.01",kind="register"}'] == 1
                assert figures['stellwerk_answer_seconds_count{kind="register"}'] == 1
                assert figures['stellwerk_command_seconds_count{outcome="succeeded"}'] == 1
                assert figures['stellwerk_http_requests_total{face="device-to-cloud",status="201"}'] == 2
                assert figures["stellwerk_projector_up"] == 1
                assert figures["stellwerk_brake_level"] == 0
                assert figures["stellwerk_datagrams_received_total"] > 3
                assert figures["stellwerk_journal_entries_total"] >= 2
                assert figures["stellwerk_commit_group_size_count"] > 2
                assert figures["stellwerk_projector_process_resident_memory_bytes"] > 1_000_000
        finally:
            await server.stop()

    asyncio.run(run())
