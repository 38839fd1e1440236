"""Credentials, fresh ones and OSCORE contexts in any order: every store is in the same state after each step, and no
context comes back with numbers that it has used."""

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stellwerk.app.oscore import OscoreContext
from stellwerk.app.ports import DecidingStore
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import NOSEC, OSCORE, PSK, RPK, Credential
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.sqlite.store import SqliteStore

from .builders import NOW_MS, make_device

DEVICES = ("dev-0", "dev-1")
SENDERS = tuple(bytes((each,)) for each in range(2))
NO_SEC = {"securityMode": "NO_SEC"}
_rounds = count(1)


def keys(run: int, sender: int, secret: int) -> dict[str, str]:
    """Of a context; the secrets of each ``run`` are its own, as what was used up stays known for ever."""
    return {
        "masterSecret": (run * 2 + secret).to_bytes(16).hex(),
        "senderId": SENDERS[sender].hex(),
        "recipientId": bytes((0xF0 + secret,)).hex(),
    }


@st.composite
def credentials(draw: st.DrawFn) -> tuple[Credential, tuple[int, int] | None, tuple[int, int] | None]:
    """One, and which contexts it has: for the server of devices, for the bootstrap server."""
    small = st.integers(0, 1)
    context = st.tuples(small, small)
    kind, number = draw(st.sampled_from((PSK, RPK, OSCORE, OSCORE, NOSEC))), draw(small)
    made = {
        PSK: Credential(f"id{number}", f"psk-hex:{draw(small):032x}"),
        RPK: Credential(f"ep{number}", "spki", kind=RPK, key_id=f"rpk:{draw(small)}"),
    }.get(kind, Credential(f"ep{number}", "", kind=kind))
    inner = None if kind == NOSEC else draw(context) if kind == OSCORE else draw(st.none() | context)
    return replace(made, modified_ms=NOW_MS), inner, draw(st.none() | context)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(DEVICES), st.none() | credentials()),
        st.tuples(st.just("fresh"), st.sampled_from(DEVICES), st.none() | credentials()),
        st.tuples(st.just("promote"), st.sampled_from(DEVICES), st.none()),
        st.tuples(st.just("use"), st.sampled_from(SENDERS), st.integers(1, 500)),
        st.tuples(st.just("derive"), st.sampled_from(SENDERS), st.none()),
    ),
    min_size=15,
    max_size=40,
)


class Side:
    """One store, and what of its contexts was used so far."""

    def __init__(self, store: DecidingStore, run: int) -> None:
        self.store, self.run = store, run
        self.used: dict[Any, int] = {}
        self.derived = count(1)

    async def begin(self) -> None:
        self.tenant = await self.store.ensure_tenant("default", NOW_MS)
        for each in await self.store.devices(self.tenant, 9, 0):
            await self.store.remove_device(each.device_id)
        self.ids = {name: (await make_device(self.store, name)).device_id for name in DEVICES}

    async def contexts(self) -> list[OscoreContext]:
        looked = [
            await self.store.oscore_context(each, None, is_bootstrap=there)
            for each in SENDERS
            for there in (False, True)
        ]
        return [each for each in looked if each is not None]

    def whole(self, made: Any) -> Credential | None:
        if made is None:
            return None
        known: Credential
        known, inner, there = made
        if inner is not None:
            known = replace(known, oscore=json.dumps(keys(self.run, *inner)))
        if there is not None:
            block = {**NO_SEC, "oscore": keys(self.run, *there)}
            known = replace(known, bootstrap=json.dumps({"bootstrapServer": block, "lwm2mServer": NO_SEC}))
        return known

    async def take(self, what: str, where: Any, more: Any) -> str:
        """What came of it."""
        if what == "set":
            return await came(self.store.set_credential(self.ids[where], self.whole(more)))
        if what == "fresh":
            return await came(self.store.put_fresh_credential(self.ids[where], self.whole(more)))
        if what == "promote":
            return await came(self.store.promote_fresh_credential(self.ids[where]))
        for each in await self.contexts():
            if each.sender_id == where and what == "use":
                await self.store.raise_oscore_ceiling(each.number, more)
            elif each.sender_id == where:
                # As after RFC 8613 App. B.2: never the same again.
                anew = replace(each, number=0, ceiling=0, id_context=next(self.derived).to_bytes(4))
                await came(self.store.put_oscore_context(anew))
        return ""

    async def state(self) -> list[Any]:
        """All that there is, without numbers of rows."""
        shown: list[Any] = []
        for name, device_id in self.ids.items():
            known = await self.store.device(device_id)
            fresh = await self.store.fresh_credential(device_id)
            shown += [name, known and known.security, await self.store.credential_of(device_id), fresh]
        owner: dict[DeviceId, str] = {device_id: name for name, device_id in self.ids.items()}
        for each in await self.contexts():
            shown.append((owner[each.device_id], replace(each, number=0, device_id=DeviceId(0))))
            key = (each.recipient_id, each.master_secret, each.id_context)
            assert each.ceiling >= self.used.get(key, 0), "numbers would be used again"
            self.used[key] = each.ceiling
        for number in range(2):
            for found in (
                await self.store.credential_by_identity(f"id{number}"),
                await self.store.credential_by_key(f"rpk:{number}"),
            ):
                shown.append(None if found is None else (owner[found[0].device_id], found[1]))
        changes = await self.store.credential_changes(99)
        shown.append([(owner[each.device_id], each.only_bootstrap) for each in changes if each.device_id in owner])
        return shown


async def came(work: Awaitable[object]) -> str:
    try:
        await work
    except UserError as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.slow
@pytest.mark.spec("SEC-8", "RFC 8613 B.1.1", "Platform 12.1")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_steps_leave_every_store_the_same_and_use_no_number_twice(data_dir: Path, steps: list[Any]) -> None:
    async def both() -> None:
        run = next(_rounds)
        durable = await SqliteStore.open(data_dir)
        sides = [Side(durable, run), Side(MemoryStore(), run)]
        try:
            for side in sides:
                await side.begin()
            for step in steps:
                outcomes = [await side.take(*step) for side in sides]
                assert outcomes[0] == outcomes[1]
                states = [await side.state() for side in sides]
                assert states[0] == states[1]
        finally:
            await durable.close()

    asyncio.run(both())
