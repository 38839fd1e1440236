"""Secure simulated devices on real sockets against a real server."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stellwerk.app.credentials import parse_credentials
from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.actions import Respond
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import RequestReceived
from stellwerk.coap.parameters import Parameters
from stellwerk.config import Settings
from stellwerk.device.key_material import der_of, spki_of, to_base64
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint as DtlsEndpoint
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.issuing import new_key
from stellwerk.key_files import SERVER, KeyFolder
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.net.driver import Driver
from stellwerk.net.secure import SecureStack
from stellwerk.net.udp import UdpSocket
from stellwerk.sim.enrolment import Patience
from stellwerk.sim.faults import Fault, InvalidFault
from stellwerk.sim.fleet import Fleet, FleetOptions, NoServer
from stellwerk.sim.happenings import HandshakeDone, HandshakeFailed, Happening, Resumed, SessionLost, Updated
from stellwerk.sim.impairment import Conditions
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.relay import Relay, RelayOptions
from stellwerk.sim.security import Certificate, Credentials, PreSharedKey, RawKey, Resume, Security, one_for_all
from stellwerk.wiring import Server

KEY = bytes(range(16))
EAGER = Parameters(ack_timeout_s=0.1, max_retransmit=2)


class Served:
    """A server with provisioned devices, and the fleets against it."""

    def __init__(self, server: Server, data_dir: Path) -> None:
        self.server = server
        self.keys = KeyFolder(data_dir)
        self.address = server.bound.coaps[0]
        self.happened: list[Happening] = []
        self._fleets: list[Fleet] = []

    async def provision(self, name: str, *credentials: str) -> None:
        known = parse_credentials(credentials, 0, (name,))
        await self.server.provision([NewDevice(name, f"urn:dev:os:{name}", credential=known)])

    async def run(self, credentials: Credentials, security: dict | None = None, **changes) -> Fleet:
        shared = {"keyring": one_for_all(credentials), "first_timeout_s": 0.1, **(security or {})}
        options = FleetOptions(
            **{
                "server": f"coaps://{self.address[0]}:{self.address[1]}",
                "prefix": "dev-",
                "parameters": EAGER,
                "security": Security(**shared),
                **changes,
            }
        )
        fleet = Fleet(options, self.happened.append)
        self._fleets.append(fleet)
        await fleet.open()
        await fleet.start()
        return fleet

    def told(self, kind: type) -> list:
        return [each for each in self.happened if isinstance(each, kind)]

    async def stop(self) -> None:
        for each in self._fleets:
            each.close()
        await self.server.stop()


@pytest.fixture
def served(tmp_path):
    """Runs a story against a server."""

    def play(story: Callable[[Served], Awaitable[None]]) -> None:
        async def work() -> None:
            settings = Settings(
                data_dir=tmp_path,
                http_port=None,
                coap_host="127.0.0.1",
                coap_port=None,
                coaps_port=0,
                bootstrap_coap_port=None,
                bootstrap_coaps_port=None,
                auto_read=(),
            )
            server = Server(settings, {})
            await server.start()
            served = Served(server, tmp_path)
            try:
                await story(served)
            finally:
                await served.stop()

        asyncio.run(work())

    return play


async def until(condition: Callable[[], object], within_s: float = 8.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for spans two engines, neither of which tells of it
            await asyncio.sleep(0.01)


def registered(fleet: Fleet) -> bool:
    return all(each.is_registered for each in fleet.devices)


async def manufacturer(served: Served, name: str) -> object:
    return (await served.server.operations.read(name, "/3/0/0")).values[0].value


def ports(fleet: Fleet) -> set[int]:
    return {each.port for each in fleet._sockets}


async def provisioned_with_psk(served: Served, name: str = "dev-1") -> Credentials:
    await served.provision(name, f"psk-id:{name}", f"psk-hex:{KEY.hex()}")
    return PreSharedKey(name.encode(), KEY)


async def provisioned_with_certificate(served: Served, name: str = "dev-1") -> Credentials:
    await served.provision(name, "x509-cn:")
    issuer = served.keys.issuer()
    issued = issuer.client(new_key(), name)
    return Certificate(issued.key, tuple(der_of(each) for each in issued.chain), issuer)


def test_a_fleet_makes_its_handshakes_moves_and_leaves_with_close_notify():
    told: list[events.SessionEstablished | events.PeerMoved | events.SessionEnded] = []

    async def story() -> None:
        dtls = DtlsEndpoint(SystemEntropy(), ServerParameters())
        locations = count(1)

        def handle(happened, instant) -> None:
            for event in happened:
                if isinstance(event, events.PskQuestion):
                    driver.submit(actions.GivePsk(event.handshake, KEY))
                elif isinstance(event, events.SessionEstablished | events.PeerMoved | events.SessionEnded):
                    told.append(event)
                elif isinstance(event, RequestReceived):
                    created = (codes.CREATED, ("rd", f"r{next(locations)}"))
                    rest = (codes.DELETED if event.code == codes.DELETE else codes.CHANGED,)
                    driver.submit(Respond(event.exchange, *(created if event.path == ("rd",) else rest)))

        driver: Driver = Driver(
            SecureStack(dtls, Endpoint(SystemEntropy(), verified=True)), handle, clock=SystemClock()
        )
        bound = UdpSocket("127.0.0.1", 0)
        driver.add(bound)
        security = Security(lambda name, number: PreSharedKey(name.encode(), KEY), cid_length=0)
        options = FleetOptions(
            server=f"coaps://127.0.0.1:{bound.port}",
            count=3,
            security=security,
            parameters=Parameters(ack_timeout_s=0.1, max_retransmit=5),
            update_every_s=0.1,
            faults=(Fault.parse("move:0.1s"),),
        )
        fleet = Fleet(options)
        try:
            await fleet.open()
            await fleet.start()
            await until(lambda: len({each.peer for each in told if isinstance(each, events.PeerMoved)}) == 3)
            await fleet.leave()
            await until(lambda: sum(isinstance(each, events.SessionEnded) for each in told) == 3)
        finally:
            fleet.close()
            driver.close()

    asyncio.run(story())
    established = [each for each in told if isinstance(each, events.SessionEstablished)]
    assert {str(each.identity) for each in established} == {f"PSK identity 'sim-{number}'" for number in (1, 2, 3)}
    assert {each.reason for each in told if isinstance(each, events.SessionEnded)} == {"close-notify"}


@pytest.mark.slow
@pytest.mark.spec("RFC 9146 6", "LwM2M-contract 2.3")
def test_a_device_with_a_connection_id_is_read_and_observed_and_goes_on_from_another_port(served):
    async def story(served: Served) -> None:
        moving = (Fault.parse("move:0.3s"),)
        fleet = await served.run(
            await provisioned_with_psk(served), {"cid_length": 0}, faults=moving, update_every_s=0.2, sample_every_s=0.1
        )
        await until(lambda: registered(fleet))
        operations = served.server.operations
        assert await manufacturer(served, "dev-1") == "Stellwerk"
        assert (await operations.observe("dev-1", "/3303/0/5700")).succeeded
        seen = set(ports(fleet))
        await until(lambda: seen.update(ports(fleet)) or len(seen) >= 3)
        updates = len(served.told(Updated))
        await until(lambda: len(served.told(Updated)) > updates)
        assert await manufacturer(served, "dev-1") == "Stellwerk"
        assert len(served.told(HandshakeDone)) == fleet.summary().registrations_total == 1
        assert served.told(SessionLost) == []
        await fleet.leave()
        assert fleet.summary().registered == 0

    served(story)


@pytest.mark.slow
def test_without_a_connection_id_a_device_that_moved_makes_another_handshake(served):
    async def story(served: Served) -> None:
        faults, eager = (Fault.parse("move@/3/0/0"),), Patience(first_s=0.2)
        credentials = await provisioned_with_psk(served)
        fleet = await served.run(credentials, faults=faults, patience=eager, update_every_s=0.3)
        await until(lambda: registered(fleet))
        assert await manufacturer(served, "dev-1") == "Stellwerk"
        await until(lambda: len(served.told(HandshakeDone)) == 2)
        assert [each.reason for each in served.told(SessionLost)] == ["timeout"]
        await until(lambda: fleet.summary().registrations_total == 2)

    served(story)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong-key", "wrong-key"),
        ("wrong-identity", "unknown-identity"),
        ("expired-certificate", "expired-certificate"),
    ],
)
def test_a_handshake_that_fails_tells_why_at_both_ends(served, fault, reason):
    async def story(served: Served) -> None:
        if fault == "expired-certificate":
            credentials = await provisioned_with_certificate(served)
        else:
            credentials = await provisioned_with_psk(served)
        with capture_logs() as lines:
            fleet = await served.run(credentials, faults=(Fault.parse(fault),))
            await until(lambda: served.told(HandshakeFailed))
        assert [each["reason"] for each in lines if each["event"] == "handshake.failed"] == [reason]
        # Devices try again after this one, whatever was wrong (contract LwM2M 2.2).
        assert "decrypt_error (51)" in served.told(HandshakeFailed)[0].detail
        assert fleet.summary().failed_handshakes == {"alert": 1}

    served(story)


@pytest.mark.slow
@pytest.mark.parametrize("resume", list(Resume))
def test_a_device_resumes_after_a_reboot(served, resume):
    async def story(served: Served) -> None:
        fleet = await served.run(await provisioned_with_psk(served), {"resume": resume, "cid_length": 2})
        await until(lambda: registered(fleet))
        assert (await served.server.operations.execute("dev-1", "/3/0/4")).succeeded
        await until(lambda: served.told(Resumed))
        await until(lambda: fleet.summary().registrations_total == 2)

    served(story)


@pytest.mark.slow
def test_raw_public_keys_and_certificates_prove_both_ends(served):
    async def story(served: Served) -> None:
        own = new_key()
        await served.provision("dev-1", f"rpk:{to_base64(spki_of(own.public_key()))}")
        certificate = await provisioned_with_certificate(served, "dev-2")
        server_key = spki_of(served.keys.load(SERVER).key.public_key())
        anchors = served.keys.anchors().certificates
        raw = await served.run(RawKey(own), {"server_key": server_key})
        certified = await served.run(certificate, {"anchors": anchors}, first=2)
        await until(lambda: registered(raw) and registered(certified))
        for name in ("dev-1", "dev-2"):
            assert await manufacturer(served, name) == "Stellwerk"

    served(story)


@pytest.mark.slow
def test_a_fleet_registers_through_a_network_that_loses_doubles_and_moves_it(served):
    async def story(served: Served) -> None:
        for number in range(1, 6):
            await provisioned_with_psk(served, f"dev-{number}")
        bad = Conditions(loss=0.1, duplication=0.3, delay_s=0.01, reorder=0.1, reorder_delay_s=0.05)
        relay = Relay(RelayOptions(("127.0.0.1", 0), served.address, up=bad, down=bad, seed=3))
        keyring = lambda name, number: PreSharedKey(name.encode(), KEY)  # noqa: E731
        try:
            fleet = await served.run(
                PreSharedKey(b"", b""),
                {"keyring": keyring, "cid_length": 0},
                server=f"coaps://{relay.address[0]}:{relay.address[1]}",
                count=5,
                update_every_s=0.3,
                parameters=Parameters(ack_timeout_s=0.1, max_retransmit=7),
                patience=Patience(first_s=0.2),
            )
            await until(lambda: registered(fleet), 20)
            relay.move_clients()
            updates = len(served.told(Updated))
            await until(lambda: len(served.told(Updated)) > updates + 10, 20)
            assert len(served.told(HandshakeDone)) == 5
        finally:
            relay.close()

    served(story)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"server": "coaps://127.0.0.1:9"}, NoServer, "need credentials"),
        ({"security": Security(one_for_all(PreSharedKey(b"a", KEY)))}, NoServer, "write coaps://"),
        ({"faults": (Fault.parse("wrong-key"),)}, InvalidFault, "without security there are none"),
        (
            {
                "server": "coaps://127.0.0.1:9",
                "security": Security(one_for_all(PreSharedKey(b"a", KEY))),
                "faults": (Fault.parse("expired-certificate"),),
            },
            InvalidFault,
            "--issuer",
        ),
        (
            {
                "server": "coaps://127.0.0.1:9",
                "security": Security(one_for_all(PreSharedKey(b"a", KEY))),
                "template": DeviceOptions("", other_server_uris=("coaps://127.0.0.1:10",)),
            },
            NoServer,
            "reached over UDP",
        ),
    ],
)
def test_what_cannot_be_secured_is_refused_with_what_would_be_right(options, error, said):
    with pytest.raises(error, match=said):
        asyncio.run(Fleet(FleetOptions(**options)).open())
