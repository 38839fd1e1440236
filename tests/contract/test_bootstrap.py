"""What bootstrapping needs of a store: who shows the bootstrap server what, fresh credentials, sessions."""

import json
from dataclasses import replace

import pytest

from stellwerk.app.bootstrap_progress import Progress, encode_progress, ended
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.oscore import render_oscore
from stellwerk.app.ports import BOOTSTRAP_SESSIONS_KEPT, DecidingStore
from stellwerk.app.records import AlreadyExists, CredentialChanged, DeviceGone
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.configuration import Acl, BootstrapConfiguration, ServerEntry
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.device.profile import Profile, ProfileRecord
from stellwerk.device.record import NOSEC, PSK, RPK, Credential, basis_of

from .builders import NOW_MS, make_device, write
from .conftest import Stores
from .test_keys_and_accounts import KEY
from .test_oscore_contexts import context

pytestmark = pytest.mark.anyio


def blocks(identity: str, **more: object) -> str:
    block = {"securityMode": "PSK", "clientPublicKeyOrId": identity, "clientSecretKey": "00" * 16}
    return json.dumps({"bootstrapServer": block, "lwm2mServer": {"securityMode": "NO_SEC"}, **more})


def fresh(identity: str = "fresh@psk", **fields: object) -> Credential:
    return replace(KEY, identity=identity, secret="psk-text:fresh", created_ms=NOW_MS, **fields)  # type: ignore[arg-type]


# -- profiles --


async def test_a_profile_keeps_what_devices_are_bootstrapped_with(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    configuration = BootstrapConfiguration(
        (ServerEntry(is_bootstrap=True, short_id=None, mode=PSK), ServerEntry(short_id=7, port=5684, oscore=True)),
        (Acl(3, 0, 7, ((0, 1), (9, 3))),),
        updates_bootstrap_server=True,
    )
    record = ProfileRecord(tenant_id, "meters", Profile(awake_s=5.0), NOW_MS, NOW_MS, configuration)
    await store.put_profile(record)
    before = await store.profiles_version()
    assert await store.profile(tenant_id, "meters") == record
    assert await store.profiles() == [record]
    without = replace(record, bootstrap=BootstrapConfiguration())
    await store.put_profile(without)
    assert await store.profile(tenant_id, "meters") == without
    assert await store.profiles_version() != before


# -- who is it --


@pytest.mark.spec("Platform 12.1")
async def test_a_device_is_found_by_what_it_shows_the_bootstrap_server(store: DecidingStore) -> None:
    credential = replace(KEY, bootstrap=blocks("meter@bs"))
    meter = await make_device(store, "meter", credential=credential)
    other = await make_device(store, "other")
    assert await store.bootstrap_credential("psk:meter@bs") == (meter, credential)
    assert await store.bootstrap_credential("psk:meter@psk") is None
    assert await store.bootstrap_credential("") is None
    with pytest.raises(AlreadyExists, match="identity for the bootstrap server"):
        await store.set_credential(other.device_id, replace(KEY, identity="other", bootstrap=blocks("meter@bs")))
    await store.set_credential(meter.device_id, replace(KEY, bootstrap=blocks("anew@bs")))
    assert await store.bootstrap_credential("psk:meter@bs") is None
    given = await store.set_credential(other.device_id, replace(KEY, identity="other", bootstrap=blocks("meter@bs")))
    found = await store.bootstrap_credential("psk:meter@bs")
    assert found is not None
    assert found[0] == given


async def test_a_one_time_credential_is_spent_once_and_others_never(store: DecidingStore) -> None:
    once = replace(KEY, bootstrap=blocks("meter@bs", oneTime=True))
    meter = (await make_device(store, "meter", credential=once)).device_id
    often = (await make_device(store, "often", credential=replace(KEY, identity="o", bootstrap=blocks("o")))).device_id
    for device_id in (meter, often, DeviceId(99)):
        await store.spend_bootstrap_credential(device_id, NOW_MS + 1)
        await store.spend_bootstrap_credential(device_id, NOW_MS + 2)
    found = await store.bootstrap_credential("psk:meter@bs")
    assert found is not None
    assert found[1] == replace(once, spent_ms=NOW_MS + 1)
    assert await store.credential_of(often) == replace(KEY, identity="o", bootstrap=blocks("o"))
    # Whoever sets it anew arms it again.
    await store.set_credential(meter, once)
    assert await store.credential_of(meter) == once
    # What was used up before that was another one.
    anew = replace(once, modified_ms=NOW_MS + 5)
    await store.set_credential(meter, anew)
    await store.spend_bootstrap_credential(meter, NOW_MS + 4)
    assert await store.credential_of(meter) == anew


async def test_whoever_uses_a_fresh_credential_has_used_up_the_one_time_credential_that_it_was_given_for(
    store: DecidingStore,
) -> None:
    once = replace(KEY, bootstrap=blocks("meter@bs", oneTime=True), modified_ms=NOW_MS)
    meter = (await make_device(store, "meter", credential=once)).device_id
    await store.put_fresh_credential(meter, fresh(oscore=render_oscore(context())))
    assert await store.promote_fresh_credential(meter) is not None
    used = await store.credential_of(meter)
    assert used is not None
    assert used.spent_ms == NOW_MS
    # Armed again after it was given.
    await store.put_fresh_credential(meter, fresh("another"))
    await store.change_credential(meter, lambda known: known and replace(known, spent_ms=0, modified_ms=NOW_MS + 1))
    assert await store.promote_fresh_credential(meter) is not None
    armed = await store.credential_of(meter)
    assert armed is not None
    assert (armed.identity, armed.spent_ms) == ("another", 0)


# -- fresh credentials --


@pytest.mark.spec("Platform 12.1")
async def test_a_fresh_credential_is_found_beside_the_one_that_holds(store: DecidingStore) -> None:
    meter = await make_device(store, "meter", credential=KEY)
    assert await store.fresh_credential(meter.device_id) is None
    await store.put_fresh_credential(meter.device_id, fresh(bootstrap="not kept"))
    kept = fresh(is_fresh=True)
    assert await store.fresh_credential(meter.device_id) == kept
    assert await store.credential_by_identity("fresh@psk") == (meter, kept)
    assert await store.credential_by_identity(KEY.identity) == (meter, KEY)
    assert await store.credential_of(meter.device_id) == KEY
    key = fresh("meter", kind=RPK, key_id="rpk:1")
    await store.put_fresh_credential(meter.device_id, key)
    assert await store.credential_by_key("rpk:1") == (meter, replace(key, is_fresh=True))
    assert await store.credential_by_identity("fresh@psk") is None
    await store.put_fresh_credential(meter.device_id, None)
    assert await store.credential_by_key("rpk:1") is None


async def test_a_fresh_credential_that_was_used_is_the_one_that_holds(store: DecidingStore) -> None:
    before = replace(KEY, bootstrap=blocks("meter@bs", oneTime=True), spent_ms=NOW_MS)
    meter = await make_device(store, "meter", credential=before)
    assert await store.promote_fresh_credential(meter.device_id) is None
    key = fresh("meter", kind=RPK, key_id="rpk:1", oscore=render_oscore(context()))
    await store.put_fresh_credential(meter.device_id, key)
    promoted = await store.promote_fresh_credential(meter.device_id)
    assert promoted == replace(meter, security="rpk+oscore")
    assert await store.device(meter.device_id) == promoted
    assert await store.credential_of(meter.device_id) == replace(
        key, created_ms=before.created_ms, bootstrap=before.bootstrap, spent_ms=NOW_MS
    )
    assert await store.credential_by_identity(KEY.identity) is None
    assert await store.bootstrap_credential("psk:meter@bs") is not None
    assert await store.fresh_credential(meter.device_id) is None
    assert await store.credential_changes(9) == []
    assert await store.promote_fresh_credential(meter.device_id) is None


async def test_a_device_without_credentials_gets_its_first_one_fresh(store: DecidingStore) -> None:
    meter = await make_device(store, "meter")
    await store.put_fresh_credential(meter.device_id, fresh())
    assert (await store.device(meter.device_id)) == meter
    assert meter.security == NOSEC
    promoted = await store.promote_fresh_credential(meter.device_id)
    assert promoted == replace(meter, security=PSK)
    assert await store.credential_of(meter.device_id) == fresh()


async def test_what_somebody_else_has_is_given_to_nobody_fresh(store: DecidingStore) -> None:
    meter = (await make_device(store, "meter", credential=KEY)).device_id
    other = (await make_device(store, "other", credential=replace(KEY, identity="other"))).device_id
    for taken, text in ((fresh("other"), "PSK identity"), (fresh(KEY.identity), "PSK identity")):
        with pytest.raises(AlreadyExists, match=text):
            await store.put_fresh_credential(meter, taken)
    await store.put_fresh_credential(meter, fresh(key_id="rpk:1", kind=RPK))
    with pytest.raises(AlreadyExists, match="public key"):
        await store.put_fresh_credential(other, fresh("x", key_id="rpk:1", kind=RPK))
    with pytest.raises(AlreadyExists, match="public key"):
        await store.set_credential(other, fresh("x", key_id="rpk:1", kind=RPK))
    with pytest.raises(AlreadyExists, match="credentials ID"):
        await make_device(store, "third", credential=fresh(kind=RPK))
    with pytest.raises(DeviceGone):
        await store.put_fresh_credential(DeviceId(99), fresh("x"))


@pytest.mark.spec("LwM2M-contract SEC-9")
async def test_whoever_changes_the_credentials_of_a_device_takes_the_fresh_ones_away(store: DecidingStore) -> None:
    meter = (await make_device(store, "meter", credential=KEY)).device_id
    given = fresh(oscore=render_oscore(context()))
    await store.put_fresh_credential(meter, given)
    await store.set_credential(meter, replace(KEY, description="the same key"))
    assert await store.fresh_credential(meter) is not None
    for changed in (replace(KEY, secret="psk-text:another"), replace(KEY, bootstrap=blocks("meter@bs")), None):
        await store.put_fresh_credential(meter, given)
        await store.set_credential(meter, changed)
        assert await store.fresh_credential(meter) is None
        assert await store.credential_by_identity(given.identity) is None
        assert await store.oscore_context(context().sender_id, None) is None
    await store.put_fresh_credential(meter, given)
    await store.remove_device(meter)
    assert await store.credential_by_identity(given.identity) is None
    assert await store.oscore_context(context().sender_id, None) is None


@pytest.mark.spec("LwM2M-contract SEC-9")
async def test_nothing_fresh_is_put_beside_another_credential_than_it_was_made_for(store: DecidingStore) -> None:
    meter = (await make_device(store, "meter", credential=KEY)).device_id
    bare = (await make_device(store, "bare")).device_id
    given = replace(KEY, bootstrap=blocks("meter@bs"))
    for device_id, before, after in ((meter, KEY, given), (meter, given, None), (bare, None, fresh("own"))):
        await store.put_fresh_credential(device_id, fresh(), basis=basis_of(before))
        await store.put_fresh_credential(device_id, None)
        await store.set_credential(device_id, after)
        with pytest.raises(CredentialChanged):
            await store.put_fresh_credential(device_id, fresh(), basis=basis_of(before))
        assert await store.fresh_credential(device_id) is None


async def test_a_fresh_credential_that_took_the_place_of_the_one_that_was_used_does_not_hold(
    store: DecidingStore,
) -> None:
    meter = (await make_device(store, "meter", credential=KEY)).device_id
    await store.put_fresh_credential(meter, fresh())
    used = await store.fresh_credential(meter)
    await store.put_fresh_credential(meter, fresh("newer@psk"))
    assert await store.promote_fresh_credential(meter, used) is None
    assert await store.credential_of(meter) == KEY
    assert await store.promote_fresh_credential(meter, await store.fresh_credential(meter)) is not None


# -- sessions --

STEPS = (
    StepRecord(NOW_MS, "Bootstrap-Discover", "/", status=205),
    StepRecord(NOW_MS + 9, "Bootstrap-Write", "/0/1", "mode 0, key ***", 0, "timeout", "no answer in 93 s"),
)


def session(device_id: DeviceId, **fields: object) -> BootstrapSession:
    known = BootstrapSession(
        0, device_id, "urn:imei:1", "udp://192.0.2.7:5683", BootstrapTrigger.CLIENT, BootstrapState.RUNNING, NOW_MS
    )
    return replace(known, **fields)  # type: ignore[arg-type]


async def test_a_bootstrap_session_is_kept_with_its_steps_and_replaced_by_its_number(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    first = session(device_id)
    number = await store.put_bootstrap_session(first)
    second = await store.put_bootstrap_session(session(device_id, trigger=BootstrapTrigger.PACK))
    assert second > number > 0
    ended = replace(
        first, number=number, state=BootstrapState.SILENT, ended_ms=NOW_MS + 9, reason="silent", detail="d", steps=STEPS
    )
    assert await store.put_bootstrap_session(ended) == number
    if stores.durable:
        await stores.close()
        await stores.open()
    kept = await stores.deciding.bootstrap_sessions(device_id, 9)
    assert kept == [session(device_id, number=second, trigger=BootstrapTrigger.PACK), ended]
    assert await stores.deciding.bootstrap_sessions(device_id, 1) == kept[:1]


async def test_the_newest_bootstrap_sessions_of_a_device_are_kept_and_go_with_it(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    other_id = (await make_device(store, "other")).device_id
    others = await store.put_bootstrap_session(session(other_id))
    numbers = [await store.put_bootstrap_session(session(device_id)) for _ in range(BOOTSTRAP_SESSIONS_KEPT + 2)]
    kept = [each.number for each in await store.bootstrap_sessions(device_id, 99)]
    assert kept == numbers[:1:-1]
    # One that was pushed out meanwhile does not come back.
    assert await store.put_bootstrap_session(session(device_id, number=numbers[0])) == numbers[0]
    assert [each.number for each in await store.bootstrap_sessions(device_id, 99)] == kept
    await store.remove_device(device_id)
    assert await store.bootstrap_sessions(device_id, 99) == []
    assert [each.number for each in await store.bootstrap_sessions(other_id, 99)] == [others]
    with pytest.raises(DeviceGone):
        await store.put_bootstrap_session(session(device_id))


async def journal(store: DecidingStore, device_id: DeviceId, *progress: Progress) -> None:
    """A line of the device's log for each."""
    for each in progress:
        await write(
            store, [JournalEntry(Kind.LOG, device_id, NOW_MS, payload=encode_progress(each), reason="bootstrap-x")]
        )


@pytest.mark.spec("B-16", "Design 7")
async def test_a_session_that_was_interrupted_has_the_steps_that_the_journal_knows(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    other_id = (await make_device(store, "other")).device_id
    number = await store.put_bootstrap_session(session(device_id))
    other = await store.put_bootstrap_session(session(other_id))
    untold = await store.put_bootstrap_session(session(other_id))
    discover, under_way = STEPS[0], StepRecord(NOW_MS + 9, "Bootstrap-Write", "/0/1", "mode 0, key ***")
    begun = StepRecord(NOW_MS, "Bootstrap-Discover", "/")
    await journal(store, device_id, Progress(number, None, begun))
    await journal(store, other_id, Progress(other, None, begun), Progress(other, discover))
    await journal(store, device_id, Progress(number, discover, under_way))
    await write(store, [JournalEntry(Kind.LOG, device_id, NOW_MS, payload=b"what another version wrote")])
    if stores.durable:
        await stores.close()
        await stores.open()
    store = stores.deciding
    assert await store.interrupt_bootstrap_sessions(NOW_MS + 5) == 3
    (kept,) = await store.bootstrap_sessions(device_id, 9)
    why = "the server stopped before it had the answer"
    assert kept == session(
        device_id,
        number=number,
        state=BootstrapState.INTERRUPTED,
        ended_ms=NOW_MS + 5,
        detail="during Bootstrap-Write /0/1",
        steps=(discover, replace(under_way, failure="interrupted", detail=why)),
    )
    others = await store.bootstrap_sessions(other_id, 9)
    assert [(each.number, each.steps, each.detail) for each in others] == [(untold, (), ""), (other, (discover,), "")]


@pytest.mark.spec("B-16", "Design 7")
async def test_a_session_whose_end_only_the_journal_knows_has_ended_so(store: DecidingStore) -> None:
    once = replace(KEY, bootstrap=blocks("meter@bs", oneTime=True))
    device_id = (await make_device(store, "meter", credential=once)).device_id
    number = await store.put_bootstrap_session(session(device_id))
    done = session(
        device_id, number=number, state=BootstrapState.CONFIGURED, ended_ms=NOW_MS + 3, detail="d", steps=STEPS[:1]
    )
    await journal(store, device_id, Progress(number, STEPS[0]), ended(done, NOW_MS + 3))
    assert await store.interrupt_bootstrap_sessions(NOW_MS + 5) == 0
    assert await store.bootstrap_sessions(device_id, 9) == [done]
    assert await store.credential_of(device_id) == replace(once, spent_ms=NOW_MS + 3)


async def test_what_was_running_when_the_server_stopped_was_interrupted(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await store.put_bootstrap_session(session(device_id, state=BootstrapState.CONFIGURED, ended_ms=NOW_MS + 1))
    await store.put_bootstrap_session(session(device_id))
    assert await store.interrupt_bootstrap_sessions(NOW_MS + 5) == 1
    assert await store.interrupt_bootstrap_sessions(NOW_MS + 6) == 0
    found = [(each.state, each.ended_ms) for each in await store.bootstrap_sessions(device_id, 9)]
    assert found == [(BootstrapState.INTERRUPTED, NOW_MS + 5), (BootstrapState.CONFIGURED, NOW_MS + 1)]
