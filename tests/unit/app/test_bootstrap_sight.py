"""What people see of the bootstrap server, and what a look leaves behind: nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.credential_material import b64, certificate, der

from stellwerk.app.bootstrap_accounts import BootstrapAccounts, OpenKeys
from stellwerk.app.bootstrap_history import RefusedRequest
from stellwerk.app.bootstrap_sight import SESSIONS, BootstrapSight, recent_sessions
from stellwerk.app.bootstrap_sight import preview as look_ahead
from stellwerk.app.credential_record import parse_record
from stellwerk.app.failures import FailedHandshake
from stellwerk.app.fresh_keys import FreshKeys
from stellwerk.app.handlers.bootstrapping import CannotBegin
from stellwerk.app.records import NewDevice
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.account import BadAccount, ServerMaterial
from stellwerk.device.bootstrap.configuration import EST_KEYS, FRESH_KEYS, BootstrapConfiguration, ServerEntry
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import PSK, X509, Credential, DeviceRecord
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore

NOW_MS = 1_790_000_000_000
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f1"
FACTORY = {"securityMode": "PSK", "clientPublicKeyOrId": "meter factory", "clientSecretKey": KEY}
OWN = {"securityMode": "PSK", "clientPublicKeyOrId": "meter", "clientSecretKey": KEY[::-1]}
CLIENT = {"securityConfigClientMode": "PSK", "endpoint": "meter", "identity": "meter", "key": KEY[::-1]}
CONTEXT = {"masterSecret": "c0ffee00112233445566778899aabbcc", "senderId": "01", "recipientId": "02"}
ENTRY = ServerEntry(mode=PSK, host="dm.example", port=5684)


def credential(bootstrap_server: Any, **more: Any) -> Credential:
    bootstrap = {"bootstrapServer": bootstrap_server, "lwm2mServer": OWN, **more}
    return parse_record(json.dumps({"client": CLIENT, "bootstrap": bootstrap}), NOW_MS)


async def nobody_begins(record: DeviceRecord) -> None:
    raise CannotBegin(f"device {record.name} is nowhere")


def look(
    known: Credential | None, entry: ServerEntry, work: Callable[[BootstrapSight, DeviceRecord], Awaitable[Any]]
) -> tuple[Any, MemoryStore]:
    async def story() -> tuple[Any, MemoryStore]:
        store = MemoryStore(library=Library.builtin())
        tenant_id = await store.ensure_tenant("acme", NOW_MS)
        await store.put_profile(ProfileRecord(tenant_id, "meters", DEFAULT, 0, 0, BootstrapConfiguration((entry,))))
        record = await store.create_device(tenant_id, NewDevice("meter", "meter", (), "meters", (), 0, known))
        sight = BootstrapSight(
            store=store,
            accounts=BootstrapAccounts(store, lambda _: ServerMaterial(), FreshKeys()),
            under_way=lambda _: None,
            begin=nobody_begins,
            requests=lambda _: (),
            handshakes=lambda _: (),
        )
        return await work(sight, record), store

    return asyncio.run(story())


def preview(known: Credential | None, entry: ServerEntry) -> tuple[str, MemoryStore]:
    shown, store = look(known, entry, lambda sight, record: sight.preview(record))
    return str(shown), store


@pytest.mark.spec("Platform 12", "LwM2M-contract 2.6")
def test_oscore_with_the_bootstrap_server_keeps_fresh_keys_secret_too() -> None:
    shown, _ = preview(credential({"securityMode": "NO_SEC", "oscore": CONTEXT}), replace(ENTRY, keys=FRESH_KEYS))
    assert "Secret Key: 16 bytes, withheld" in shown


@pytest.mark.spec("Platform 12")
def test_what_a_device_would_be_given_is_shown_without_the_secret() -> None:
    shown, _ = preview(credential(FACTORY), ENTRY)
    assert "Bootstrap-Write /0/1" in shown
    assert "LWM2M Server URI: coaps://dm.example:5684" in shown
    assert "Secret Key: 16 bytes, withheld" in shown
    assert KEY not in shown
    assert KEY[::-1] not in shown


@pytest.mark.spec("Platform 12")
def test_keys_that_are_made_for_a_look_are_kept_nowhere() -> None:
    shown, store = preview(credential(FACTORY), replace(ENTRY, keys=FRESH_KEYS))
    assert "Public Key or Identity: 'meter#" in shown
    assert asyncio.run(store.fresh_credential(DeviceId(1))) is None
    assert asyncio.run(store.bootstrap_sessions(DeviceId(1), 9)) == []


def test_a_look_at_what_would_be_refused_says_why() -> None:
    with pytest.raises(OpenKeys, match="only over a secure session"):
        preview(credential({"securityMode": "NO_SEC"}), replace(ENTRY, keys=FRESH_KEYS))


@pytest.mark.spec("RFC 9148 3")
def test_a_look_at_a_device_that_cannot_enrol_says_what_would_be_right() -> None:
    def given_over(transport: str, bootstrap_server: Any) -> str:
        async def ask(sight: BootstrapSight, record: DeviceRecord) -> Any:
            return await look_ahead(sight._store, sight._accounts, record, transport=transport)

        entry = replace(ENTRY, mode=X509, keys=EST_KEYS, server_public_key=b64(der(certificate())))
        return str(look(credential(bootstrap_server), entry, ask)[0])

    with pytest.raises(BadAccount, match="goes over DTLS only; let it come to the bootstrap server over coaps://"):
        given_over("tcp", FACTORY)
    for bare in ({"securityMode": "NO_SEC"}, {"securityMode": "NO_SEC", "oscore": CONTEXT}):
        with pytest.raises(BadAccount, match="goes over DTLS only; give it keys for the bootstrap server"):
            given_over("udp", bare)
    assert "Security Mode: 4" in given_over("", FACTORY)


def test_a_look_says_that_a_one_time_credential_was_used_up() -> None:
    async def spend(sight: BootstrapSight, record: DeviceRecord) -> Any:
        before = await sight.preview(record)
        await sight._store.spend_bootstrap_credential(record.device_id, NOW_MS)
        return before, await sight.preview(record)

    (before, after), _ = look(credential(FACTORY, oneTime=True), ENTRY, spend)
    assert "used up" not in str(before)
    assert "its bootstrap credential was for one time and was used up" in str(after)


def session(number: int, state: BootstrapState, *steps: StepRecord) -> BootstrapSession:
    return BootstrapSession(
        number, DeviceId(1), "meter", "udp://h:1", BootstrapTrigger.CLIENT, state, number, steps=steps
    )


@pytest.mark.spec("Platform 12")
def test_a_session_that_runs_is_shown_with_its_steps_so_far_and_one_that_ended_as_it_is_stored() -> None:
    step = StepRecord(1, "Bootstrap-Discover", "/", status=205)

    async def story(sight: BootstrapSight, record: DeviceRecord) -> Any:
        store = sight._store
        for _ in range(SESSIONS + 1):
            number = await store.put_bootstrap_session(session(0, BootstrapState.CONFIGURED))
        running = await store.put_bootstrap_session(session(0, BootstrapState.RUNNING))
        found = await recent_sessions(store, record.device_id, session(running, BootstrapState.RUNNING, step))
        # It ended between the two looks.
        stale = await recent_sessions(store, record.device_id, session(number, BootstrapState.RUNNING, step))
        return found, stale

    (found, stale), _ = look(None, ENTRY, story)
    assert [each.state.value for each in found] == ["running"] + ["configured"] * (SESSIONS - 1)
    assert found[0].steps == (step,)
    assert stale[1].state is BootstrapState.CONFIGURED


def test_requests_and_handshakes_that_were_refused_stand_in_one_list() -> None:
    request = RefusedRequest(1, 30, "udp://h:1", "meter", "unknown-endpoint", "nobody", "acme", "meter", 7)
    handshake = FailedHandshake(1, 40, "udp://h:2", "PSK identity 'x'", "wrong-key", "another key")
    asked: list[str | None] = []

    def of(found: Any) -> Callable[[str | None], list[Any]]:
        def answer(tenant: str | None) -> list[Any]:
            asked.append(tenant)
            return [found]

        return answer

    sight = BootstrapSight(
        store=MemoryStore(library=Library.builtin()),
        accounts=None,  # type: ignore[arg-type]
        under_way=lambda _: None,
        begin=nobody_begins,
        requests=of(request),
        handshakes=of(handshake),
    )
    first, second = sight.refused("acme")
    assert asked == ["acme", "acme"]
    assert (first.said, first.address, first.reason) == ("PSK identity 'x'", "udp://h:2", "wrong-key")
    assert (second.said, second.device, second.device_id) == ("endpoint 'meter'", "meter", 7)
    assert first.key != second.key


@pytest.mark.spec("B-11")
def test_the_server_begins_only_where_the_profile_says_so() -> None:
    async def story(sight: BootstrapSight, record: DeviceRecord) -> Any:
        before = await sight.may_begin(record)
        wanted = BootstrapConfiguration((ENTRY,), server_initiated=True)
        await sight._store.put_profile(ProfileRecord(record.tenant_id, "meters", DEFAULT, 0, 0, wanted))
        return before, await sight.may_begin(record)

    assert look(None, ENTRY, story)[0] == (False, True)
    with pytest.raises(CannotBegin, match="meter is nowhere"):
        look(None, ENTRY, lambda sight, record: sight.begin(record))
