"""What devices get wrong, asked for and seen from outside: one status for every cause (Device to Cloud §12)."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from stellwerk.config import Settings
from stellwerk.sim.faults import Fault
from stellwerk.sim.fleet import Behaviour, Fleet, FleetOptions
from stellwerk.wiring import Server

WITHIN_S = 15.0
HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/json;ty=4",
    "Authorization": "Bearer token-of-the-test",
    "X-M2M-Origin": "CTestApp",
    "X-M2M-RI": "123",
}

CAUSES = {
    "3/0/0": ("READ", "refuse:4.00", (400, "device-bad-request")),
    "3/0/1": ("READ", "refuse:4.01", (401, "device-unauthorized")),
    "3/0/2": ("READ", "refuse:4.03", (403, "device-forbidden")),
    "3/0/3": ("READ", "refuse:4.04", (404, "device-not-found")),
    "3/0/9": ("READ", "refuse:4.05", (405, "device-method")),
    "3/0/10": ("READ", "refuse:4.06", (406, "device-not-acceptable")),
    "3/0/5": ("EXECUTE", "refuse:4.15", (415, "device-format")),
    "3/0/15": ("READ", "refuse:5.00", (500, "adapter")),
    "3/0/16": ("READ", "refuse:4.12", (400, "device-bad-request")),
    "3/0/12": ("EXECUTE", "reset", (400, "device-bad-request")),
    "3/0/17": ("READ", "garbage", (500, "adapter")),
    "3/0/18": ("READ", "format:65000", (500, "adapter")),
    "3/0/19": ("READ", "format", (200, "ok")),
    "3/0/20": ("READ", "late:0.3s", (200, "ok")),
    "3/0/21": ("OBSERVE", "plain-observe", (500, "observe-no-id")),
}
"""By path: an operation, the fault that befalls it there, and what comes of it."""


async def statuses(http: httpx.AsyncClient) -> dict[str, tuple[int, str]]:
    """Code and reason of the answer for each path, once there is one for all."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            answer = await http.get("/device-communication/sim-1/received-msg?rcn=4")
            messages: list[Any] = answer.json()["m2m:cnt"].get("m2m:cin", []) if answer.status_code == 200 else []
            contents = [each["con"] for each in messages if "status" in each["con"]]
            if len(contents) >= len(CAUSES):
                return {each["path"]: (each["status"]["code"], each["status"]["reason"]) for each in contents}
            await asyncio.sleep(0.02)


async def ask_for_all(fleet: Fleet, base: str) -> dict[str, tuple[int, str]]:
    async with httpx.AsyncClient(base_url=base, headers=HEADERS, verify=False) as http, asyncio.timeout(WITHIN_S):
        await fleet.start()
        while not fleet.devices[0].is_registered:  # noqa: ASYNC110 - both ends run in this loop, neither tells
            await asyncio.sleep(0.01)
        body = {"m2m:cin": {"con": "; ".join(f"{operation} /{path}" for path, (operation, _, _) in CAUSES.items())}}
        answer = await http.post("/device-communication/sim-1/outgoing-msg", json=body)
        assert answer.status_code == 201, answer.text
        return await statuses(http)


@pytest.mark.spec("D2C 12")
def test_every_cause_has_its_status(tmp_path: Path):
    async def run() -> dict[str, tuple[int, str]]:
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
            auto_provision=("sim-*",),
        )
        server = Server(settings)
        await server.start()
        options = FleetOptions(
            server=f"coap://127.0.0.1:{server.bound.coap[0][1]}",
            behaviours=[Behaviour.QUIET],
            faults=tuple(Fault.parse(f"{fault}@/{path}") for path, (_, fault, _) in CAUSES.items()),
        )
        fleet = Fleet(options)
        try:
            await fleet.open()
            base = f"http://127.0.0.1:{server.bound.http_port}/device-management-orchestrator/v3/acme"
            return await ask_for_all(fleet, base)
        finally:
            fleet.close()
            await server.stop()

    assert asyncio.run(run()) == {path: status for path, (_, _, status) in CAUSES.items()}
