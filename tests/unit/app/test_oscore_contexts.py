"""Whose an OSCORE context is, which numbers of ours may be used, and which end: the decisions behind the engines."""

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from stellwerk.app.failures import Failures
from stellwerk.app.handlers.oscore_contexts import NUMBERS_AT_FIRST, OscoreContexts
from stellwerk.app.handlers.promoting import Promoting
from stellwerk.app.meters import Meters
from stellwerk.app.oscore import UNKNOWN, ContextName, OscoreContext, render_oscore
from stellwerk.app.ports import StoreOverloaded
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.records import NewDevice
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId, PeerId, context_peer, session_peer
from stellwerk.core.instant import Instant
from stellwerk.device.record import OSCORE, PSK, Credential, DeviceRecord
from stellwerk.storage.memory import MemoryStore

NOW = Instant(1000.0, 1_790_000_000_000)
FAR = PeerId("udp", "192.0.2.7", 40_000, "192.0.2.100", 5683)
AWAY = PeerId("udp", "192.0.2.8", 41_000, "192.0.2.100", 5683)
LINE = PeerId("tcp", "192.0.2.7", 40_001, "192.0.2.100", 5683)
SESSION, FOREIGN = session_peer(b"session1"), session_peer(b"session2")
KID = b"dev1"
NAME = ContextName(KID)


def oscore(kid: bytes = KID, id_context: bytes = b"") -> str:
    return render_oscore(OscoreContext(0, DeviceId(0), kid, b"us", kid.ljust(16, b"-"), id_context=id_context))


@dataclass(eq=False)
class Wire:
    """An engine, as a list of what it was told."""

    told: list[tuple[Any, ...]] = field(default_factory=list)

    def give(self, question: int, context: OscoreContext, unused: int, ceiling: int) -> None:
        self.told.append(("give", question, context.sender_id, unused, ceiling))

    def no_context(self, question: int, *, is_busy: bool = False) -> None:
        self.told.append(("busy" if is_busy else "none", question))

    def stored(self, number: int, unused: int, ceiling: int) -> None:
        self.told.append(("stored", unused, ceiling))

    def drop(self, number: int) -> None:
        self.told.append(("drop",))


class Bench:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.tasks = Tasks()
        self.meters = Meters(lambda: NOW.now)
        self.failures = Failures(tasks=self.tasks, lines=RareLines(self.store))
        self.devices: dict[PeerId, DeviceId] = {}
        self.promoting = Promoting(self.store, self.tasks)
        self.contexts = OscoreContexts(
            store=self.store,
            tasks=self.tasks,
            failures=self.failures,
            meters=self.meters.oscore,
            devices=self.devices,
            promoting=self.promoting,
        )
        self.lost: list[PeerId] = []
        self.contexts.connect(lambda peer, why, at: self.lost.append(peer))
        self.udp, self.tcp = Wire(), Wire()

    async def device(self, name: str = "meter", kind: str = OSCORE, kid: bytes = KID) -> DeviceRecord:
        tenant_id = await self.store.ensure_tenant("acme", NOW.wall_ms)
        credential = Credential(name, "psk-text:0123456789abcdef" if kind == PSK else "", kind=kind, oscore=oscore(kid))
        await self.store.create_device(tenant_id, NewDevice(name, f"urn:{name}", credential=credential))
        record = await self.store.device_by_name(tenant_id, name)
        assert record is not None
        return record

    def number(self) -> int:
        [number] = self.contexts._held
        return number

    def reasons(self) -> list[tuple[str, str]]:
        return [(each.reason, each.device) for each in self.failures.recent(None)]


def run(work: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        bench = Bench()
        await work(bench)
        await bench.tasks.close()

    asyncio.run(all_of_it())


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-3")
def test_a_known_sender_id_gets_its_context_and_speaks_for_its_device() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        assert bench.udp.told == [("give", 1, KID, 0, NUMBERS_AT_FIRST)]
        peer = context_peer(bench.number(), "udp")
        assert bench.devices == {peer: record.device_id}
        assert not bench.contexts.may_reach(peer)
        bench.contexts.heard(bench.udp, bench.number(), peer, FAR, NOW)
        assert bench.contexts.may_reach(peer)

    run(work)


@pytest.mark.spec("RFC 8613 B.1.1")
def test_numbers_are_stored_as_used_before_they_are_given() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        stored = await bench.store.oscore_context(KID, None)
        assert stored is not None
        assert stored.ceiling == NUMBERS_AT_FIRST
        bench.contexts.wants_numbers(bench.udp, bench.number(), 1000)
        stored = await bench.store.oscore_context(KID, None)
        assert stored is not None
        assert stored.ceiling == 1000
        assert bench.udp.told[-1] == ("stored", NUMBERS_AT_FIRST, 1000)

    run(work)


@pytest.mark.spec("RFC 8613 B.1.1")
def test_a_later_run_goes_on_behind_the_ceiling_of_the_one_before() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        again = Bench()
        again.contexts._store = bench.store
        again.contexts.asked(again.udp, 1, FAR, NAME, NOW)
        assert again.udp.told == [("give", 1, KID, NUMBERS_AT_FIRST, 2 * NUMBERS_AT_FIRST)]
        await again.tasks.close()

    run(work)


@pytest.mark.spec("RFC 8613 B.1.1")
def test_two_engines_with_one_context_never_have_the_same_numbers() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        bench.contexts.asked(bench.tcp, 2, LINE, NAME, NOW)
        assert bench.tcp.told == [("give", 2, KID, NUMBERS_AT_FIRST, 2 * NUMBERS_AT_FIRST)]
        # What would follow its own is the other engine's.
        bench.contexts.wants_numbers(bench.udp, bench.number(), NUMBERS_AT_FIRST + 100)
        assert bench.udp.told[-1] == ("stored", 2 * NUMBERS_AT_FIRST, 2 * NUMBERS_AT_FIRST + 100)
        bench.contexts.wants_numbers(bench.tcp, bench.number(), 2 * NUMBERS_AT_FIRST + 50)
        assert bench.tcp.told[-1] == ("stored", 2 * NUMBERS_AT_FIRST + 100, 2 * NUMBERS_AT_FIRST + 150)

    run(work)


@pytest.mark.spec("RFC 8613 7.4", "RFC 8613 7.2")
def test_a_context_that_is_heard_over_one_engine_ends_in_the_others() -> None:
    """Each knows only which numbers came to itself: what came to one could be said again to another."""

    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        number = bench.number()
        near, far = context_peer(number, "tcp"), context_peer(number, "udp")
        bench.contexts.heard(bench.udp, number, far, FAR, NOW)
        bench.contexts.asked(bench.tcp, 2, LINE, NAME, NOW)
        # Whoever knows a sender ID may ask; only the device is heard.
        assert bench.udp.told[-1][0] == "give"
        bench.contexts.heard(bench.tcp, number, near, LINE, NOW)
        assert bench.udp.told[-1] == ("drop",)
        assert bench.lost == [far]
        assert (bench.contexts.may_reach(far), bench.contexts.may_reach(near)) == (False, True)
        bench.contexts.asked(bench.udp, 3, FAR, NAME, NOW)
        bench.contexts.heard(bench.udp, number, far, FAR, NOW)
        assert bench.tcp.told[-1] == ("drop",)
        assert bench.lost == [far, near]
        # With numbers of its own, as after any question.
        assert bench.udp.told[-1] == ("give", 3, KID, 2 * NUMBERS_AT_FIRST, 3 * NUMBERS_AT_FIRST)

    run(work)


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 7.2")
def test_an_engine_that_wants_more_while_another_is_being_given_some_gets_none_of_those() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        gate = asyncio.Event()
        store_it = bench.store.raise_oscore_ceiling

        async def slow(number: int, ceiling: int) -> bool:
            await gate.wait()
            return await store_it(number, ceiling)

        bench.store.raise_oscore_ceiling = slow  # type: ignore[method-assign]
        bench.contexts.asked(bench.tcp, 2, LINE, NAME, NOW)
        bench.contexts.wants_numbers(bench.udp, bench.number(), 2 * NUMBERS_AT_FIRST)
        gate.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.tcp.told == [("give", 2, KID, NUMBERS_AT_FIRST, 2 * NUMBERS_AT_FIRST)]
        assert bench.udp.told[1:] == [("stored", 2 * NUMBERS_AT_FIRST, 3 * NUMBERS_AT_FIRST)]

    run(work)


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 7.2")
def test_a_context_that_ends_while_it_is_looked_up_is_looked_up_again_with_the_numbers_used_since() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device(kind=PSK)
        bench.devices[SESSION], bench.devices[FOREIGN] = record.device_id, DeviceId(99)
        bench.contexts.asked(bench.udp, 1, SESSION, NAME, NOW)
        number, gate = bench.number(), asyncio.Event()
        look_up = bench.store.oscore_context

        async def slow(*name: Any, **where: Any) -> OscoreContext | None:
            found = await look_up(*name, **where)
            await gate.wait()
            return found

        bench.store.oscore_context = slow  # type: ignore[method-assign]
        bench.contexts.asked(bench.tcp, 2, SESSION, NAME, NOW)
        bench.contexts.wants_numbers(bench.udp, number, 2 * NUMBERS_AT_FIRST)
        assert bench.udp.told[-1] == ("stored", NUMBERS_AT_FIRST, 2 * NUMBERS_AT_FIRST)
        bench.contexts.heard(bench.udp, number, context_peer(number, "dtls"), FOREIGN, NOW)
        assert bench.udp.told[-1] == ("drop",)
        gate.set()
        for _ in range(6):
            await asyncio.sleep(0)
        [(what, _, _, unused, _)] = bench.tcp.told
        assert what == "give"
        assert unused >= 2 * NUMBERS_AT_FIRST

    run(work)


@pytest.mark.spec("RFC 8613 B.1.1")
def test_an_engine_that_asks_twice_and_goes_on_with_its_first_numbers_gets_others_of_its_own() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        bench.contexts.asked(bench.udp, 2, AWAY, NAME, NOW)
        bench.contexts.wants_numbers(bench.udp, bench.number(), 2 * NUMBERS_AT_FIRST)
        assert bench.udp.told[-1] == ("stored", 2 * NUMBERS_AT_FIRST, 3 * NUMBERS_AT_FIRST)
        bench.contexts.asked(bench.tcp, 3, LINE, NAME, NOW)
        assert bench.tcp.told == [("give", 3, KID, 3 * NUMBERS_AT_FIRST, 4 * NUMBERS_AT_FIRST)]

    run(work)


@pytest.mark.parametrize("trouble", [StoreOverloaded(1), OSError("nobody has thought of this")])
def test_numbers_that_the_store_does_not_take_are_not_given(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(number: int, ceiling: int) -> bool:
        raise trouble

    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        monkeypatch.setattr(bench.store, "raise_oscore_ceiling", full)
        bench.contexts.wants_numbers(bench.udp, bench.number(), 1000)
        bench.contexts.asked(bench.tcp, 2, LINE, NAME, NOW)
        assert bench.udp.told[1:] == [("stored", 0, 0)]
        # Who is told that its context is unknown may give it up.
        assert bench.tcp.told == [("busy", 2)]

    run(work)


def test_an_unknown_sender_id_is_refused_and_shown_to_people() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, ContextName(b"other", b"there"), NOW)
        assert bench.udp.told == [("none", 1)]
        [failure] = bench.failures.recent(None)
        assert (failure.address, failure.reason) == ("udp://192.0.2.7:40000", "unknown-context")
        assert failure.identity == "OSCORE sender ID 6f74686572 in ID context 7468657265"

    run(work)


@pytest.mark.spec("RFC 8613 B.2")
def test_an_unknown_id_context_means_the_context_of_the_sender_id() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, ContextName(KID, b"random!!"), NOW)
        assert bench.udp.told == [("give", 1, KID, 0, NUMBERS_AT_FIRST)]

    run(work)


def test_who_asks_for_many_unknown_sender_ids_is_not_looked_up_any_more() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        for number in range(300):
            bench.contexts.asked(bench.udp, number, FAR, ContextName(number.to_bytes(2, "big")), NOW)
        assert bench.meters.oscore.contexts["limited"] == 100
        assert [each[0] for each in bench.udp.told] == ["none"] * 200 + ["busy"] * 100
        bench.contexts.asked(bench.udp, 300, AWAY, NAME, NOW)
        assert bench.udp.told[-1][0] == "give"
        bench.contexts.asked(bench.udp, 301, FAR, NAME, Instant(NOW.now + 1, NOW.wall_ms + 1000))
        assert bench.udp.told[-1][0] == "give"

    run(work)


@pytest.mark.spec("LwM2M-contract 15")
def test_a_flood_in_the_name_of_a_context_makes_few_look_ups_and_takes_none_from_others() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        look_up, looked = bench.store.oscore_context, []

        async def counted(*name: Any, **where: Any) -> OscoreContext | None:
            looked.append(name)
            return await look_up(*name, **where)

        bench.store.oscore_context = counted  # type: ignore[method-assign]
        for _ in range(6_000):
            bench.contexts.refused(bench.number(), AWAY, "oscore_decryption", "Decryption failed", NOW)
        await asyncio.sleep(0)
        assert len(looked) == 1
        bench.contexts.asked(bench.tcp, 2, LINE, NAME, NOW)
        assert bench.tcp.told[-1][0] == "give"

    run(work)


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-6")
@pytest.mark.parametrize(
    ("kind", "carrier", "is_given"),
    [
        (OSCORE, FAR, True),
        (OSCORE, LINE, True),
        (OSCORE, SESSION, False),
        (PSK, FAR, False),
        (PSK, LINE, False),
        (PSK, SESSION, True),
        (PSK, FOREIGN, False),
    ],
)
def test_a_context_is_taken_over_the_layers_that_its_device_has_to_come_with(
    kind: str, carrier: PeerId, is_given: bool
) -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device(kind=kind)
        bench.devices[SESSION] = record.device_id
        bench.devices[FOREIGN] = DeviceId(99)
        bench.contexts.asked(bench.udp, 1, carrier, NAME, NOW)
        assert bench.udp.told[0][0] == ("give" if is_given else "none")
        assert bench.reasons() == ([] if is_given else [("wrong-layers", "meter")])

    run(work)


@pytest.mark.spec("SEC-3")
def test_a_context_heard_within_another_devices_session_ends() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device(kind=PSK)
        bench.devices[SESSION], bench.devices[FOREIGN] = record.device_id, DeviceId(99)
        bench.contexts.asked(bench.udp, 1, SESSION, NAME, NOW)
        number = bench.number()
        peer = context_peer(number, "dtls")
        bench.contexts.heard(bench.udp, number, peer, SESSION, NOW)
        bench.contexts.heard(bench.udp, number, peer, FOREIGN, NOW)
        assert bench.udp.told[-1] == ("drop",)
        assert peer not in bench.devices
        assert bench.lost == [peer]
        assert bench.reasons() == [("wrong-layers", "meter")]

    run(work)


@pytest.mark.spec("SEC-9")
def test_revoked_credentials_end_the_context_in_every_engine() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device()
        other = await bench.device("other", kid=b"dev2")
        for question, (link, carrier) in enumerate([(bench.udp, FAR), (bench.tcp, LINE)]):
            bench.contexts.asked(link, question, carrier, NAME, NOW)
        number = bench.number()
        bench.contexts.asked(bench.udp, 9, AWAY, ContextName(b"dev2"), NOW)
        bench.contexts.heard(bench.udp, number, context_peer(number, "udp"), FAR, NOW)
        bench.contexts.revoked(record)
        assert bench.udp.told[-1] == bench.tcp.told[-1] == ("drop",)
        assert list(bench.devices.values()) == [other.device_id]
        assert not bench.contexts.may_reach(context_peer(number, "udp"))
        bench.contexts.removed(other.device_id)
        assert bench.devices == {}
        assert len(bench.contexts) == 0

    run(work)


@pytest.mark.spec("SEC-9")
def test_a_context_that_is_revoked_while_it_is_looked_up_is_not_given() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device()
        gate = asyncio.Event()
        look_up = bench.store.oscore_context

        async def slow(kid: bytes, id_context: bytes | None, *, is_bootstrap: bool) -> OscoreContext | None:
            found = await look_up(kid, id_context, is_bootstrap=is_bootstrap)
            await gate.wait()
            return found

        bench.store.oscore_context = slow  # type: ignore[method-assign]
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        await bench.store.set_credential(record.device_id, None)
        bench.contexts.revoked(record)
        bench.store.oscore_context = look_up  # type: ignore[method-assign]
        assert bench.udp.told == []
        gate.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.udp.told == [("none", 1)]
        assert bench.devices == {}

    run(work)


@pytest.mark.spec("RFC 8613 B.1.1")
def test_engines_that_ask_while_numbers_are_being_stored_get_numbers_of_their_own() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        gate = asyncio.Event()
        store_it = bench.store.raise_oscore_ceiling

        async def slow(number: int, ceiling: int) -> bool:
            await gate.wait()
            return await store_it(number, ceiling)

        bench.store.raise_oscore_ceiling = slow  # type: ignore[method-assign]
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        bench.contexts.asked(bench.tcp, 2, LINE, NAME, NOW)
        assert not bench.udp.told
        gate.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.udp.told == [("give", 1, KID, 0, NUMBERS_AT_FIRST)]
        assert bench.tcp.told == [("give", 2, KID, NUMBERS_AT_FIRST, 2 * NUMBERS_AT_FIRST)]

    run(work)


def test_changes_of_other_devices_do_not_keep_a_context_from_being_given() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        other = await bench.device("other", kid=b"dev2")
        store_it = bench.store.raise_oscore_ceiling

        async def slow(number: int, ceiling: int) -> bool:
            bench.contexts.revoked(other)
            await asyncio.sleep(0)
            return await store_it(number, ceiling)

        bench.store.raise_oscore_ceiling = slow  # type: ignore[method-assign]
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        for _ in range(8):
            await asyncio.sleep(0)
        assert bench.udp.told == [("give", 1, KID, 0, NUMBERS_AT_FIRST)]
        assert not bench.contexts._changed_at

    run(work)


@pytest.mark.spec("SEC-9")
def test_a_context_that_is_revoked_while_its_numbers_are_stored_is_not_given() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device()
        gate = asyncio.Event()

        async def slow(number: int, ceiling: int) -> bool:
            await gate.wait()
            return True

        bench.store.raise_oscore_ceiling = slow  # type: ignore[method-assign]
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        await bench.store.set_credential(record.device_id, None)
        bench.contexts.revoked(record)
        gate.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert bench.udp.told == [("none", 1)]
        assert bench.devices == {}
        assert len(bench.contexts) == 0

    run(work)


@pytest.mark.spec("RFC 8613 B.2")
def test_after_a_backup_was_put_back_nothing_is_protected_with_a_context_that_was_used() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device()
        context = await bench.store.oscore_context_of(record.device_id)
        assert context is not None
        await bench.store.put_oscore_context(replace(context, ceiling=UNKNOWN))
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        assert bench.udp.told == [("none", 1)]
        assert bench.reasons() == [("numbers-unknown", "meter")]

    run(work)


def test_a_lost_connection_takes_what_was_heard_over_it_along() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.tcp, 1, LINE, NAME, NOW)
        peer = context_peer(bench.number(), "tcp")
        bench.contexts.heard(bench.tcp, bench.number(), peer, LINE, NOW)
        bench.contexts.carrier_lost(LINE, "it ended", NOW)
        assert bench.lost == [peer]
        assert not bench.contexts.may_reach(peer)
        bench.contexts.carrier_lost(LINE, "it ended", NOW)
        bench.contexts.heard(bench.tcp, bench.number(), peer, replace_port(LINE, 5), NOW)
        assert bench.contexts.may_reach(peer)
        assert bench.lost == [peer]

    run(work)


def replace_port(peer: PeerId, port: int) -> PeerId:
    return peer._replace(remote_port=port)


def test_the_newest_address_is_where_the_context_is() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        peer = context_peer(bench.number(), "udp")
        for carrier in (FAR, AWAY, AWAY):
            bench.contexts.heard(bench.udp, bench.number(), peer, carrier, NOW)
        assert dict(bench.meters.oscore.contexts) == {"given": 1, "heard": 1, "moved": 1}

    run(work)


@pytest.mark.spec("Platform 12.1")
def test_a_fresh_context_that_is_heard_becomes_the_one_that_holds() -> None:
    async def work(bench: Bench) -> None:
        record = await bench.device()
        fresh = Credential("meter", "", kind=OSCORE, oscore=oscore(b"new"), endpoint="meter")
        await bench.store.put_fresh_credential(record.device_id, fresh)
        told: list[DeviceRecord] = []

        async def promoted(device: DeviceRecord, carrier: PeerId) -> None:
            told.append(device)
            assert carrier == FAR

        bench.promoting.hearers.append(promoted)
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        old = bench.number()
        bench.contexts.asked(bench.udp, 2, FAR, ContextName(b"new"), NOW)
        [number] = set(bench.contexts._held) - {old}
        assert await bench.store.fresh_credential(record.device_id) is not None
        bench.contexts.heard(bench.udp, number, context_peer(number, "udp"), FAR, NOW)
        await bench.promoting.settled(record.device_id)
        assert await bench.store.fresh_credential(record.device_id) is None
        assert [each.device_id for each in told] == [record.device_id]
        assert bench.udp.told[-1] == ("drop",)
        assert bench.devices == {context_peer(number, "udp"): record.device_id}
        bench.contexts.asked(bench.udp, 3, FAR, NAME, NOW)
        assert bench.udp.told[-1] == ("none", 3)

    run(work)


def test_what_cannot_be_looked_up_for_want_of_tasks_is_busy_and_leaves_nothing_behind() -> None:
    async def work(bench: Bench) -> None:
        bench.contexts._tasks = Tasks(limit=0)
        with warnings.catch_warnings():
            # What was made and never ran would say so.
            warnings.simplefilter("error")
            bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        assert bench.udp.told == [("busy", 1)]

    run(work)


def test_a_context_that_is_another_one_each_time_it_is_looked_at_is_busy_and_not_unknown() -> None:
    async def work(bench: Bench) -> None:
        await bench.device()

        async def replaced_meanwhile(number: int, ceiling: int) -> bool:
            return False

        bench.store.raise_oscore_ceiling = replaced_meanwhile  # type: ignore[method-assign]
        bench.contexts.asked(bench.udp, 1, FAR, NAME, NOW)
        # "Security context not found" would let the device throw away what is good.
        assert bench.udp.told == [("busy", 1)]

    run(work)
