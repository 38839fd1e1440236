"""Whose a handshake is, what is kept of sessions, and what ends them: the decisions behind the DTLS engine."""

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from stellwerk.app.changes import Commit, PutSession
from stellwerk.app.credential_record import parse_record
from stellwerk.app.handlers.secure_sessions import SecureSessions
from stellwerk.app.identities import Trust
from stellwerk.app.live_peers import MOST_PER_DEVICE
from stellwerk.app.meters import Meters
from stellwerk.app.ports import StoreOverloaded
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.records import NewDevice
from stellwerk.app.session import SecureSession
from stellwerk.app.speaking import Speaking
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity
from stellwerk.core.ids import DeviceId, PeerId, session_peer
from stellwerk.core.instant import Instant
from stellwerk.device.key_material import certificate_key_id, raw_key_id
from stellwerk.device.record import RPK, X509, Credential, DeviceRecord
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.vault import SecretUnreadable

FAR = PeerId("udp", "192.0.2.7", 40_000, "192.0.2.100", 5684)
NOW = Instant(1000.0, 1_790_000_000_000)
SPKI, DER = b"some public key", b"some certificate"
UNTRUSTED = Trust("untrusted-certificate: it leads to nobody that we trust")


@dataclass
class Wire:
    """The secure link, as a list of what it was told."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def give_key(self, handshake: int, key: bytes, device_id: DeviceId) -> None:
        self.told.append(("key", handshake, key, device_id))

    def accept(self, handshake: int, device_id: DeviceId) -> None:
        self.told.append(("accept", handshake, device_id))

    def refuse(self, handshake: int, reason: str, detail: str) -> None:
        self.told.append(("refuse", handshake, reason))
        self.details.append(detail)

    def restore(self, question: int, session: SecureSession) -> bool:
        self.told.append(("restore", question, session.session_id))
        return question < 10

    def no_session(self, question: int) -> None:
        self.told.append(("none", question))

    def lose(self, peer: PeerId, why: str) -> None:
        self.told.append(("lose", peer))

    def stored(self, session_id: bytes, ceiling: int) -> None:
        self.told.append(("stored", session_id, ceiling))

    def close(self, peer: PeerId, *, revoked: bool = False) -> None:
        self.told.append(("close", peer, revoked))

    def forget_handshakes(self, device_id: DeviceId) -> None:
        self.told.append(("forget", device_id))

    def follow(self, old: PeerId, new: PeerId) -> None:
        self.told.append(("follow", old, new))


class Clock:
    def now(self) -> float:
        return NOW.now

    def wall_ms(self) -> int:
        return NOW.wall_ms

    def lifetime_ms(self) -> int:
        return NOW.wall_ms


class Bench:
    """Sessions over a store in memory, with the devices that a test wants."""

    def __init__(self, per_tenant: float = 0.0) -> None:
        self.store = MemoryStore()
        self.tasks = Tasks()
        self.wire = Wire()
        self.meters = Meters(lambda: NOW.now)
        self.lost: list[PeerId] = []
        self.taken_over: list[tuple[PeerId, bool]] = []
        self.sessions = SecureSessions(
            store=self.store,
            tasks=self.tasks,
            clock=Clock(),
            link=self.wire,
            lines=RareLines(self.store),
            meters=self.meters,
            per_tenant=per_tenant,
        )
        self.sessions.connect(self._take_over, lambda peer, why, at: self.lost.append(peer))

    async def device(self, name: str, credential: Credential | None = None, tenant: str = "acme") -> DeviceRecord:
        tenant_id = await self.store.ensure_tenant(tenant, NOW.wall_ms)
        return await self.store.create_device(tenant_id, NewDevice(name, f"urn:dev:{name}", credential=credential))

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def establish(self, number: int, device_id: DeviceId, **more: Any) -> PeerId:
        peer = session_peer(bytes([number] * 8))
        self.sessions.established(peer, FAR, PskIdentity(b"i"), device_id, NOW, **more)
        return peer

    def session(self, number: int, device_id: DeviceId, ceiling: int = 1024) -> SecureSession:
        return SecureSession(bytes([number] * 8), device_id, FAR, b"keys", ceiling, NOW.wall_ms)

    async def _take_over(self, peer: PeerId, at: Instant, *, followed: bool = False) -> None:
        self.taken_over.append((peer, followed))


Story = Callable[[Bench], Coroutine[Any, Any, None]]


def tell(story: Story, bench: Bench | None = None) -> None:
    async def run() -> None:
        told = bench or Bench()
        await story(told)
        await told.settle()
        await told.tasks.close()

    asyncio.run(run())


def psk(identity: str = "meter-1", secret: str = "psk-hex:00112233445566778899aabbccddeeff") -> Credential:
    return Credential(identity, secret)


def raw_key(endpoint: str = "urn:dev:meter") -> Credential:
    return Credential(endpoint, base64.b64encode(SPKI).decode(), kind=RPK, key_id=raw_key_id(SPKI))


def pinned() -> Credential:
    return Credential("c" * 64, base64.b64encode(DER).decode(), kind=X509, key_id=certificate_key_id(DER))


def by_name(endpoint: str = "urn:dev:meter") -> Credential:
    return Credential(endpoint, "", kind=X509)


# -- pre-shared keys --


@pytest.mark.spec("SEC-3", "RFC 4279 5.1", "D2C 6.6")
def test_a_psk_identity_gets_the_key_of_its_device() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        bench.sessions.handshakes.asked_for_key(7, b"meter-1", NOW)
        await bench.settle()
        assert bench.wire.told == [("key", 7, bytes.fromhex("00112233445566778899aabbccddeeff"), device.device_id)]

    tell(story)


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
@pytest.mark.parametrize("identity", [b"meter-2", b"METER-1", b"meter-1 ", b"\xff\xfe", b"urn:dev:meter", b""])
def test_any_other_identity_is_refused_as_unknown(identity: bytes) -> None:
    async def story(bench: Bench) -> None:
        await bench.device("meter", psk())
        bench.sessions.handshakes.asked_for_key(7, identity, NOW)
        await bench.settle()
        assert bench.wire.told == [("refuse", 7, "unknown-identity")]

    tell(story)


@pytest.mark.spec("SEC-3", "Platform 5")
def test_the_endpoint_name_of_a_raw_key_is_no_psk_identity() -> None:
    async def story(bench: Bench) -> None:
        await bench.device("meter", raw_key())
        bench.sessions.handshakes.asked_for_key(7, b"urn:dev:meter", NOW)
        await bench.settle()
        assert bench.wire.told == [("refuse", 7, "unknown-identity")]

    tell(story)


@pytest.mark.spec("SEC-3", "Platform 5")
def test_an_identity_for_the_bootstrap_server_lets_nobody_in_and_the_port_is_named() -> None:
    record = {
        "client": {"securityConfigClientMode": "NO_SEC", "endpoint": "urn:dev:meter"},
        "bootstrap": {
            "bootstrapServer": {
                "securityMode": "PSK",
                "clientPublicKeyOrId": "factory",
                "clientSecretKey": "4b9d2e7f1a6c8035d7e19f4c2b6a8d50",
            },
            "lwm2mServer": {"securityMode": "NO_SEC"},
        },
    }

    async def story(bench: Bench) -> None:
        await bench.device("meter", parse_record(json.dumps(record), 0))
        bench.sessions.handshakes.asked_for_key(7, b"factory", NOW)
        bench.sessions.handshakes.asked_for_key(8, b"elsewhere", NOW)
        await bench.settle()
        assert sorted(bench.wire.told) == [("refuse", 7, "unknown-identity"), ("refuse", 8, "unknown-identity")]
        said = next(each for each in bench.wire.details if "factory" in each)
        assert said.endswith(
            "; device 'meter' has it for the bootstrap server (STELLWERK_BOOTSTRAP_COAPS_PORT): is the port right?"
        )
        assert sum("is the port right?" in each for each in bench.wire.details) == 1
        bench.sessions.handshakes.failed(FAR, "unknown-identity", said, PskIdentity(b"factory"), NOW)
        await bench.settle()
        # Whose device it is may see it.
        assert [each.detail for each in bench.sessions.handshakes.recent_failures("acme")] == [said]

    tell(story)


@pytest.mark.spec("LwM2M-contract 15")
def test_a_tenant_that_makes_too_many_handshakes_waits_and_no_other_does() -> None:
    async def story(bench: Bench) -> None:
        meter = await bench.device("meter", psk())
        await bench.device("other", psk("other"), tenant="other")
        for handshake in range(12):
            bench.sessions.handshakes.asked_for_key(handshake, b"meter-1", NOW)
            bench.establish(handshake, meter.device_id)
        bench.wire.told = [each for each in bench.wire.told if each[0] != "close"]
        bench.sessions.handshakes.asked_for_key(99, b"other", NOW)
        await bench.settle()
        kinds = [each[0] for each in bench.wire.told]
        assert kinds == ["key"] * 10 + ["refuse"] * 2 + ["key"]
        assert bench.wire.told[10] == ("refuse", 10, "rate")
        assert bench.meters.secure.limited == {"tenant": 2}

    tell(story, Bench(per_tenant=1.0))


def test_whoever_only_knows_an_identity_uses_up_nothing_of_its_tenant() -> None:
    async def story(bench: Bench) -> None:
        meter = await bench.device("meter", psk())
        for handshake in range(50):
            bench.sessions.handshakes.asked_for_key(handshake, b"meter-1", NOW)
            bench.sessions.handshakes.failed(FAR, "wrong-key", "", PskIdentity(b"meter-1"), NOW)
        bench.sessions.handshakes.asked_for_key(99, b"meter-1", NOW)
        bench.establish(1, meter.device_id)
        await bench.settle()
        assert [each[0] for each in bench.wire.told] == ["key"] * 51

    tell(story, Bench(per_tenant=1.0))


def test_a_store_that_fails_leaves_no_handshake_without_an_answer() -> None:
    async def story(bench: Bench) -> None:
        async def fail(identity: str) -> None:
            raise StoreOverloaded(1)

        bench.store.credential_by_identity = fail  # type: ignore[method-assign,assignment]
        bench.sessions.handshakes.asked_for_key(7, b"meter-1", NOW)
        await bench.settle()
        assert bench.wire.told == [("refuse", 7, "not-answered")]

    tell(story)


def test_a_key_that_does_not_open_is_said_to_be_and_is_no_fault_of_the_program() -> None:
    async def story(bench: Bench) -> None:
        async def shut(_: Any) -> None:
            raise SecretUnreadable("key of device 1")

        bench.store.credential_by_identity = shut  # type: ignore[method-assign,assignment]
        bench.store.session = shut  # type: ignore[method-assign,assignment]
        with capture_logs() as lines:
            bench.sessions.handshakes.asked_for_key(7, b"meter-1", NOW)
            bench.sessions.handshakes.failed(FAR, "not-answered", "it does not open", PskIdentity(b"meter-1"), NOW)
            bench.sessions.asked_for_session(8, bytes(8), FAR, NOW)
            await bench.settle()
        assert [each["event"] for each in lines] == ["handshake.failed"]
        assert bench.wire.told == [("refuse", 7, "not-answered"), ("none", 8), ("lose", session_peer(bytes(8)))]
        assert "STELLWERK_MASTER_KEY" in bench.wire.details[0]
        assert [each.reason for each in bench.sessions.handshakes.recent_failures(None)] == ["not-answered"]

    tell(story)


def test_people_of_a_tenant_see_the_failures_that_name_its_devices_and_no_others() -> None:
    async def story(bench: Bench) -> None:
        await bench.device("meter", psk())
        await bench.device("other", psk("other"), tenant="other")
        for identity in (b"meter-1", b"other", b"stranger"):
            bench.sessions.handshakes.failed(FAR, "wrong-key", "give it the right one", PskIdentity(identity), NOW)
        bench.sessions.handshakes.failed(FAR, "version", "it is old", None, NOW)
        await bench.settle()
        seen = {tenant: bench.sessions.summary(tenant) for tenant in ("acme", "other", "nobody", None)}
        assert [each.device for each in seen["acme"].failures] == ["meter"]
        assert [each.device for each in seen["other"].failures] == ["other"]
        assert seen["nobody"].failures == ()
        assert [each.device for each in seen[None].failures] == ["", "", "other", "meter"]
        assert [each.sessions for each in seen.values()] == [None, None, None, 0]

    tell(story)


@pytest.mark.spec("SEC-9")
def test_a_key_that_changes_while_it_is_looked_up_is_looked_up_again() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        look, waiting = bench.store.credential_by_identity, asyncio.Event()

        async def slow(identity: str) -> Any:
            found = await look(identity)
            await waiting.wait()
            return found

        bench.store.credential_by_identity = slow  # type: ignore[method-assign]
        bench.sessions.handshakes.asked_for_key(7, b"meter-1", NOW)
        await bench.settle()
        await bench.store.set_credential(device.device_id, psk(secret="psk-text:the newer one"))
        bench.sessions.revoked(device)
        waiting.set()
        await bench.settle()
        assert bench.wire.told[-1] == ("key", 7, b"the newer one", device.device_id)

    tell(story)


# -- raw keys and certificates --


@pytest.mark.spec("SEC-3", "RFC 7250 4")
def test_a_raw_key_is_the_device_that_has_exactly_this_one() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", raw_key())
        bench.sessions.handshakes.asked_about_raw_key(1, RawKeyIdentity(SPKI), NOW)
        bench.sessions.handshakes.asked_about_raw_key(2, RawKeyIdentity(SPKI + b"!"), NOW)
        await bench.settle()
        assert bench.wire.told == [("accept", 1, device.device_id), ("refuse", 2, "unknown-identity")]

    tell(story)


@pytest.mark.spec("SEC-3", "Platform 5")
def test_a_pinned_certificate_needs_no_authority_but_has_to_be_of_this_day() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", pinned())
        identity = CertificateIdentity((DER,), "whatever")
        bench.sessions.handshakes.asked_about_certificate(1, identity, UNTRUSTED, NOW)
        expired = Trust("expired-certificate: it is", "expired-certificate: it is")
        bench.sessions.handshakes.asked_about_certificate(2, identity, expired, NOW)
        await bench.settle()
        assert bench.wire.told == [("accept", 1, device.device_id), ("refuse", 2, "expired-certificate")]

    tell(story)


@pytest.mark.spec("SEC-3", "Platform 5")
def test_a_certificate_of_a_trusted_authority_is_the_device_that_it_names() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", by_name())
        for number, identity in enumerate(
            [
                CertificateIdentity((DER,), "urn:dev:meter"),
                CertificateIdentity((DER,), "", ("urn:dev:meter",)),
                CertificateIdentity((DER,), "A certificate", ("meters.example", "meter")),
                CertificateIdentity((DER,), "urn:dev:other"),
            ]
        ):
            bench.sessions.handshakes.asked_about_certificate(number, identity, Trust(), NOW)
        await bench.settle()
        assert [each[0] for each in bench.wire.told] == ["accept", "accept", "accept", "refuse"]
        assert bench.wire.told[0][2] == device.device_id

    tell(story)


@pytest.mark.spec("SEC-3", "Platform 5", "LwM2M-contract 15")
def test_a_name_without_trust_opens_nothing() -> None:
    async def story(bench: Bench) -> None:
        await bench.device("meter", by_name())
        bench.sessions.handshakes.asked_about_certificate(
            1, CertificateIdentity((DER,), "urn:dev:meter"), UNTRUSTED, NOW
        )
        await bench.settle()
        assert bench.wire.told == [("refuse", 1, "untrusted-certificate")]

    tell(story)


@pytest.mark.spec("SEC-3", "SEC-6", "Platform 5")
@pytest.mark.parametrize("credential", [None, psk(), raw_key(), pinned()])
def test_a_trusted_certificate_names_no_device_that_has_something_else(credential: Credential | None) -> None:
    async def story(bench: Bench) -> None:
        await bench.device("meter", credential)
        identity = CertificateIdentity((b"another certificate",), "urn:dev:meter")
        bench.sessions.handshakes.asked_about_certificate(1, identity, Trust(), NOW)
        await bench.settle()
        assert bench.wire.told == [("refuse", 1, "unknown-identity")]

    tell(story)


# -- what is kept --


@pytest.mark.spec("Design 7")
def test_a_state_is_told_to_be_stored_once_it_is() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        bench.sessions.keep(bench.session(1, device.device_id))
        assert bench.wire.told == []
        await bench.settle()
        assert bench.wire.told == [("stored", b"\1" * 8, 1024)]
        assert await bench.store.session(b"\1" * 8) is not None

    tell(story)


@pytest.mark.spec("Design 7")
def test_a_state_that_the_store_could_not_take_is_stored_later() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        bench.establish(1, device.device_id)
        submit = bench.store.submit
        full: list[Commit] = []
        bench.store.submit = full.append  # type: ignore[method-assign]
        bench.sessions.keep(bench.session(1, device.device_id))
        full[0].done(StoreOverloaded(1))
        bench.store.submit = submit  # type: ignore[method-assign]
        bench.sessions.retry()
        await bench.settle()
        assert bench.wire.told == [("stored", b"\1" * 8, 1024)]

    tell(story)


@pytest.mark.spec("Design 7")
def test_an_older_state_is_not_tried_again_once_a_newer_one_is_stored() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        bench.establish(1, device.device_id)
        held: list[Commit] = []
        bench.store.submit = held.append  # type: ignore[method-assign]
        bench.sessions.keep(bench.session(1, device.device_id, 1024))
        bench.sessions.keep(bench.session(1, device.device_id, 2048))
        bench.sessions.keep(bench.session(1, device.device_id, 3072))
        oldest, older, newest = held
        # A queue that is full says so at once, while what came before is being written.
        newest.done(StoreOverloaded(1))
        oldest.done(StoreOverloaded(1))
        older.done(None)
        held.clear()
        bench.sessions.retry()
        assert [each.session.ceiling for commit in held for each in commit.changes] == [3072]  # type: ignore[union-attr]
        held[0].done(None)
        held.clear()
        bench.sessions.retry()
        assert held == []

    tell(story)


@pytest.mark.spec("Design 7", "SEC-1")
def test_of_two_states_that_the_store_could_not_take_the_newer_is_stored_later() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        bench.establish(1, device.device_id)
        submit = bench.store.submit
        full: list[Commit] = []
        bench.store.submit = full.append  # type: ignore[method-assign]
        older = bench.session(1, device.device_id)
        for state in (older, replace(older, ceiling=older.ceiling + 1024)):
            bench.sessions.keep(state)
        for commit in reversed(full):
            commit.done(StoreOverloaded(1))
        bench.store.submit = submit  # type: ignore[method-assign]
        bench.sessions.retry()
        await bench.settle()
        assert bench.wire.told == [("stored", b"\1" * 8, 2048)]

    tell(story)


@pytest.mark.spec("Design 4", "Design 7")
def test_a_stored_session_is_found_by_its_id_and_by_its_address() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        bench.sessions.keep(bench.session(1, device.device_id))
        await bench.settle()
        bench.wire.told.clear()
        bench.sessions.asked_for_session(5, b"\1" * 8, None, NOW)
        bench.sessions.asked_for_session(6, None, FAR, NOW)
        bench.sessions.asked_for_session(7, b"\2" * 8, None, NOW)
        await bench.settle()
        found, gone = b"\1" * 8, session_peer(b"\2" * 8)
        assert bench.wire.told == [("restore", 5, found), ("restore", 6, found), ("none", 7), ("lose", gone)]
        assert bench.sessions.devices == {session_peer(b"\1" * 8): device.device_id}
        assert bench.meters.secure.restored == 2
        assert bench.lost == [gone]

    tell(story)


@pytest.mark.spec("SEC-9")
def test_resuming_works_only_from_a_session_that_is_kept() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        other = await bench.device("other", psk("other"))
        bench.sessions.keep(bench.session(1, device.device_id))
        await bench.settle()
        bench.wire.told.clear()
        bench.sessions.asked_to_resume(1, PskIdentity(b"meter-1"), device.device_id, b"\1" * 8, NOW)
        bench.sessions.asked_to_resume(2, PskIdentity(b"meter-1"), device.device_id, b"\2" * 8, NOW)
        bench.sessions.asked_to_resume(3, PskIdentity(b"other"), other.device_id, b"\1" * 8, NOW)
        await bench.settle()
        assert [each[:2] for each in bench.wire.told] == [("accept", 1), ("refuse", 2), ("refuse", 3)]

    tell(story)


# -- their lives --


@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_resumed_session_takes_everything_along_at_once_and_a_new_one_waits_for_an_uplink() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        first = bench.establish(1, device.device_id)
        assert bench.taken_over == []
        second = bench.establish(2, device.device_id, resumed=first)
        bench.sessions.ended(first, "replaced", "", NOW)
        await bench.settle()
        assert ("follow", first, second) in bench.wire.told
        assert bench.taken_over == [(second, True)]
        assert bench.lost == []

    tell(story)


@pytest.mark.spec("LwM2M-contract 2.2", "Design 7")
@pytest.mark.parametrize(
    ("reason", "is_kept", "is_lost"),
    [
        ("alert", False, True),
        ("closed", False, True),
        ("replaced", False, True),
        ("exhausted", False, True),
        ("close-notify", True, True),
        ("evicted", True, False),
    ],
)
def test_what_ends_a_session_says_whether_it_may_come_back(reason: str, is_kept: bool, is_lost: bool) -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        peer = bench.establish(1, device.device_id)
        bench.sessions.keep(bench.session(1, device.device_id))
        bench.sessions.ended(peer, reason, "", NOW)
        await bench.settle()
        assert (await bench.store.session(b"\1" * 8) is not None) is is_kept
        assert bench.lost == ([peer] if is_lost else [])
        assert len(bench.sessions) == 0

    tell(story)


@pytest.mark.spec("LwM2M-contract 15")
def test_a_device_that_makes_session_after_session_keeps_the_newest() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        made = [bench.establish(number, device.device_id) for number in range(MOST_PER_DEVICE + 1)]
        assert bench.wire.told == [("close", made[0], False)]
        # Nobody has said yet that the first has ended.
        bench.establish(len(made), device.device_id)
        assert {("close", each, False) for each in made[:2]} == set(bench.wire.told)

    tell(story)


# -- revocation --


@pytest.mark.spec("SEC-9", "Platform 4", "LwM2M-contract 2.2")
def test_changed_credentials_end_sessions_and_only_those_that_were_taken_away_are_said_to_be() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        peer = bench.establish(1, device.device_id)
        changed = await bench.store.set_credential(device.device_id, psk(secret="psk-text:another one"))
        assert changed is not None
        bench.sessions.revoked(changed)
        assert bench.wire.told == [("forget", device.device_id), ("close", peer, False)]
        taken = await bench.store.set_credential(device.device_id, None)
        assert taken is not None
        bench.wire.told.clear()
        bench.sessions.revoked(taken)
        assert bench.wire.told == [("forget", device.device_id), ("close", peer, True)]
        bench.wire.told.clear()
        bench.sessions.removed(device.device_id)
        assert bench.wire.told == [("forget", device.device_id), ("close", peer, True)]

    tell(story)


# -- what people read --


@pytest.mark.spec("Design 3")
def test_a_failed_handshake_is_counted_kept_and_told_to_the_device_that_it_names() -> None:
    async def story(bench: Bench) -> None:
        device = await bench.device("meter", psk())
        for _ in range(3):
            bench.sessions.handshakes.failed(FAR, "wrong-key", "its key is another one", PskIdentity(b"meter-1"), NOW)
        bench.sessions.handshakes.failed(FAR, "unknown-identity", "nobody has it", PskIdentity(b"nobody"), NOW)
        bench.sessions.handshakes.failed(FAR, "timeout", "it fell silent", None, NOW)
        await bench.settle()
        assert bench.meters.secure.handshakes == {
            ("failed", "wrong-key"): 3,
            ("failed", "unknown-identity"): 1,
            ("failed", "timeout"): 1,
        }
        shown = bench.sessions.handshakes.recent_failures(None)
        assert [(each.reason, each.device) for each in shown[:3]] == [
            ("timeout", ""),
            ("unknown-identity", ""),
            ("wrong-key", "meter"),
        ]
        assert len(bench.sessions.handshakes.recent_failures("acme")) == 3
        assert bench.sessions.handshakes.recent_failures("other") == []
        lines = await bench.store.projection.device_log(device.device_id, 10)
        assert [each.event for each in lines] == ["handshake-failed"]
        assert "wrong-key" in lines[0].detail
        assert "192.0.2.7" in lines[0].detail

    tell(story)


@pytest.mark.spec("LwM2M-contract 15")
def test_a_flood_of_failures_is_counted_whole_and_written_down_in_part() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(1000):
            bench.sessions.handshakes.failed(FAR, "timeout", "it fell silent", None, NOW)
        await bench.settle()
        assert bench.meters.secure.handshakes["failed", "timeout"] == 1000
        assert len(bench.sessions.handshakes.recent_failures(None)) == 50

    tell(story)


@pytest.mark.spec("LwM2M-contract 15", "Design 7")
def test_look_ups_by_address_leave_room_for_those_by_connection_id() -> None:
    async def story(bench: Bench) -> None:
        for number in range(6000):
            bench.sessions.asked_for_session(number, None, FAR, NOW)
        assert bench.meters.secure.limited == {"look-up": 1000}
        device = await bench.device("meter-1")
        session = bench.session(1, device.device_id)
        bench.store.submit(Commit((), (PutSession(session),), lambda error: None))
        await bench.settle()
        bench.sessions.asked_for_session(7, session.session_id, FAR, NOW)
        await bench.settle()
        assert bench.wire.told[-1] == ("restore", 7, session.session_id)

    tell(story)


def test_whose_identity_cannot_be_looked_up_while_credentials_change_may_try_again() -> None:
    async def story(bench: Bench) -> None:
        await bench.device("meter", psk())
        handshakes = bench.sessions.handshakes
        look_up = handshakes._identities.with_key

        async def overtaken(identity: PskIdentity) -> Any:
            found = await look_up(identity)
            handshakes.revisions += 1
            return found

        handshakes._identities.with_key = overtaken  # type: ignore[method-assign]
        handshakes.asked_for_key(7, b"meter-1", NOW)
        await bench.settle()
        assert bench.wire.told == [("refuse", 7, "not-answered")]

    tell(story)


# -- fresh credentials --


def test_a_handshake_with_the_fresh_key_ends_what_came_in_with_the_former() -> None:
    async def story(bench: Bench) -> None:
        meter = await bench.device("meter", psk())
        fresh = psk("meter-1#fresh", "psk-hex:ffeeddccbbaa99887766554433221100")
        await bench.store.put_fresh_credential(meter.device_id, fresh)
        heard: list[tuple[DeviceRecord, PeerId]] = []

        async def promoted(record: DeviceRecord, peer: PeerId) -> None:
            heard.append((record, peer))

        bench.sessions.promoting.hearers.append(promoted)
        for number, identity in ((1, b"meter-1"), (2, b"meter-1#fresh")):
            bench.sessions.handshakes.asked_for_key(number, identity, NOW)
            await bench.settle()
        # Both are taken until the new one was used.
        assert [each[0] for each in bench.wire.told] == ["key", "key"]
        old = bench.establish(1, meter.device_id)
        stored = bench.session(3, meter.device_id)
        for session in (bench.session(1, meter.device_id), stored, bench.session(2, meter.device_id)):
            bench.sessions.keep(session)
        await bench.settle()
        assert heard == []
        bench.wire.told.clear()
        bench.sessions.handshakes.asked_for_key(2, b"meter-1#fresh", NOW)
        await bench.settle()
        new = session_peer(bytes([2] * 8))
        bench.sessions.established(new, FAR, PskIdentity(b"meter-1#fresh"), meter.device_id, NOW)
        await bench.sessions.promoting.settled(meter.device_id)
        await bench.settle()
        assert heard == [(meter, new)]
        assert ("close", old, False) in bench.wire.told
        assert ("close", new, False) not in bench.wire.told
        assert [each.session_id for each in await bench.store.sessions_of(meter.device_id)] == [bytes([2] * 8)]
        assert await bench.store.fresh_credential(meter.device_id) is None
        credential = await bench.store.credential_of(meter.device_id)
        assert credential is not None
        assert credential.identity == "meter-1#fresh"
        bench.wire.told.clear()
        bench.sessions.handshakes.asked_for_key(9, b"meter-1", NOW)
        await bench.settle()
        assert bench.wire.told == [("refuse", 9, "unknown-identity")]

    tell(story)


def test_a_handshake_with_the_former_key_promotes_nothing() -> None:
    async def story(bench: Bench) -> None:
        meter = await bench.device("meter", psk())
        await bench.store.put_fresh_credential(meter.device_id, psk("fresh"))
        # It asked with both, and one handshake came to its end.
        for number, identity in ((1, b"fresh"), (2, b"meter-1")):
            bench.sessions.handshakes.asked_for_key(number, identity, NOW)
            await bench.settle()
        bench.sessions.established(session_peer(bytes(8)), FAR, PskIdentity(b"meter-1"), meter.device_id, NOW)
        await bench.settle()
        assert await bench.store.fresh_credential(meter.device_id) is not None
        assert not [each for each in bench.wire.told if each[0] == "close"]

    tell(story)


def test_a_handshake_with_the_fresh_key_counts_though_one_with_the_former_came_to_its_end_meanwhile() -> None:
    async def story(bench: Bench) -> None:
        meter = await bench.device("meter", psk())
        await bench.store.put_fresh_credential(meter.device_id, psk("fresh"))
        for number, identity in ((1, b"fresh"), (2, b"meter-1")):
            bench.sessions.handshakes.asked_for_key(number, identity, NOW)
            await bench.settle()
        for number, identity in ((2, b"meter-1"), (1, b"fresh")):
            peer = session_peer(bytes([number] * 8))
            bench.sessions.established(peer, FAR, PskIdentity(identity), meter.device_id, NOW)
            await bench.settle()
        assert await bench.store.fresh_credential(meter.device_id) is None

    tell(story)


@pytest.mark.parametrize(
    ("credential", "identity"),
    [
        (Credential("m", "", kind=RPK, key_id=raw_key_id(SPKI)), RawKeyIdentity(SPKI)),
        (Credential("m", "", kind=X509, key_id=certificate_key_id(DER)), CertificateIdentity((DER,), "m")),
    ],
)
def test_a_device_without_credentials_may_register_as_soon_as_it_has_shown_fresh_ones(
    credential: Credential, identity: RawKeyIdentity | CertificateIdentity
) -> None:
    async def story(bench: Bench) -> None:
        meter = await bench.device("meter")
        await bench.store.put_fresh_credential(meter.device_id, credential)
        if isinstance(identity, RawKeyIdentity):
            bench.sessions.handshakes.asked_about_raw_key(1, identity, NOW)
        else:
            bench.sessions.handshakes.asked_about_certificate(1, identity, UNTRUSTED, NOW)
        await bench.settle()
        peer = session_peer(bytes(8))
        bench.sessions.established(peer, FAR, identity, meter.device_id, NOW)
        speaking = Speaking(bench.store, bench.sessions.devices)
        speaking.settled = bench.sessions.promoting.settled
        found = await speaking.registrant("urn:dev:meter", peer)
        assert found == (replace(meter, security=credential.kind), "urn:dev:meter")

    tell(story)
