"""Fleets of simulated devices and the relay on real sockets, against a bare CoAP engine."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import Respond, SendRequest
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import RequestReceived, ResponseReceived
from stellwerk.coap.parameters import Parameters
from stellwerk.core.ids import PeerId
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.net.driver import Driver
from stellwerk.net.udp import UdpSocket
from stellwerk.sim.faults import Fault
from stellwerk.sim.fleet import Behaviour, Fleet, FleetOptions, NoServer, resolve, run_fleet
from stellwerk.sim.impairment import Conditions
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.relay import Relay, RelayOptions


class Server:
    """Accepts every registration request and Send, and remembers who came from where."""

    def __init__(self) -> None:
        self.registered: dict[str, str] = {}
        self.ports: dict[str, list[int]] = {}
        self.sends = 0
        self.executed: list[int] = []
        self._driver: Driver = Driver(Endpoint(SystemEntropy()), self._handle, clock=SystemClock())
        bound = UdpSocket("127.0.0.1", 0)
        self.address = (bound.host, bound.port)
        self._driver.add(bound)

    def execute(self, location: str, path: tuple[str, ...]) -> None:
        peer = PeerId("udp", "127.0.0.1", self.ports[location][-1], *self.address)
        self._driver.submit(SendRequest(1, peer, codes.POST, b"execute!", path))

    def close(self) -> None:
        self._driver.close()

    def _handle(self, events, instant) -> None:
        for event in events:
            if isinstance(event, RequestReceived):
                self._driver.submit(self._answer(event))
            elif isinstance(event, ResponseReceived):
                self.executed.append(event.code)

    def _answer(self, event: RequestReceived) -> Respond:
        if event.path == ("rd",):
            name = next(each[3:] for each in event.query if each.startswith("ep="))
            location = f"r{len(self.ports)}"
            self.registered[location] = name
            self.ports.setdefault(location, []).append(event.peer.remote_port)
            return Respond(event.exchange, codes.CREATED, ("rd", location))
        if event.code == codes.DELETE:
            self.registered.pop(event.path[1])
            return Respond(event.exchange, codes.DELETED)
        if event.path == ("dp",):
            self.sends += 1
        else:
            self.ports[event.path[1]].append(event.peer.remote_port)
        return Respond(event.exchange, codes.CHANGED)


@contextmanager
def serving():
    server = Server()
    try:
        yield server
    finally:
        server.close()


async def until(condition: Callable[[], bool], within_s: float = 8.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for spans two engines, neither of which tells of it
            await asyncio.sleep(0.01)


def options(address: tuple[str, int], **changes) -> FleetOptions:
    eager = Parameters(ack_timeout_s=0.1, max_retransmit=7)
    return FleetOptions(server=f"coap://{address[0]}:{address[1]}", parameters=eager, **changes)


def test_a_fleet_registers_sends_and_deregisters():
    async def story() -> None:
        with serving() as server:
            stop, summaries = asyncio.Event(), []
            wanted = options(server.address, count=20, prefix="d-", send_every_s=0.2, summary_every_s=0.1)
            running = asyncio.ensure_future(run_fleet(wanted, stop, summaries.append))
            await until(lambda: len(server.registered) == 20 and server.sends > 20)
            assert sorted(server.registered.values()) == sorted(f"d-{number}" for number in range(1, 21))
            await until(lambda: bool(summaries) and summaries[-1].registered == 20)
            stop.set()
            last = await running
            assert server.registered == {}
            assert last.registered == 0
            assert last.registrations_total == 20
            assert last.sends_total == server.sends

    asyncio.run(story())


def test_a_fleet_registers_with_every_server_and_deregisters_from_all_of_them():
    async def story() -> None:
        with serving() as server, serving() as second:
            stop = asyncio.Event()
            template = DeviceOptions("", other_server_uris=(f"coap://127.0.0.1:{second.address[1]}",), end_devices=2)
            running = asyncio.ensure_future(run_fleet(options(server.address, count=5, template=template), stop))
            await until(lambda: len(server.registered) == len(second.registered) == 5)
            assert set(server.registered.values()) == set(second.registered.values())
            stop.set()
            await running
            assert server.registered == second.registered == {}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("server", "other"),
    [("coap+tcp://127.0.0.1:1", "coap://127.0.0.1:1"), ("coap://127.0.0.1:1", "coap+tcp://127.0.0.1:1")],
)
def test_several_servers_are_not_reached_over_tcp(server, other):
    template = DeviceOptions("", other_server_uris=(other,))
    with pytest.raises(NoServer, match="over UDP"):
        asyncio.run(run_fleet(FleetOptions(server=server, template=template), asyncio.Event()))


def test_a_fleet_is_stopped_while_it_still_starts():
    async def story() -> None:
        with serving() as server:
            stop = asyncio.Event()
            running = asyncio.ensure_future(run_fleet(options(server.address, count=50, start_per_s=20), stop))
            await until(lambda: len(server.registered) >= 3)
            stop.set()
            summary = await running
            assert 3 <= summary.started < 50
            assert server.registered == {}

    asyncio.run(story())


def test_behaviours_are_given_to_the_first_devices_and_the_last_one_to_the_rest():
    kinds = (Behaviour.QUIET, Behaviour.SLEEPER, Behaviour.MISBEHAVING, Behaviour.MOVING)
    fleet = FleetOptions(count=6, behaviours=kinds, prefix="demo-")
    devices = [fleet.device(index) for index in range(6)]
    assert devices[0].endpoint_name == "demo-1"
    assert not devices[0].moving
    assert devices[1].queue_mode
    assert devices[2].faults
    assert [each.moving and not each.queue_mode and not each.faults for each in devices] == [False] * 3 + [True] * 3
    assert len({each.seed for each in devices}) == 6


def test_what_a_fleet_is_told_counts_for_each_of_its_devices():
    late = Fault.parse("late:1s")
    fleet = FleetOptions(queue_mode=True, awake_s=3, lwm2m_version="1.0", faults=(late,), behaviours=[Behaviour.QUIET])
    device = fleet.device(7)
    assert (device.queue_mode, device.awake_s, device.update_every_s) == (True, 3, 60.0)
    assert (device.lwm2m_version, device.faults, device.moving) == ("1.0", (late,), False)
    assert FleetOptions(queue_mode=True, update_every_s=20.0).device(0).update_every_s == 20.0


@pytest.mark.parametrize(
    "url",
    [
        *("coaps+udp://localhost:5684", "localhost:5683", "coap://", "coap://localhost:99999", "coap://[::1"),
        *("coap://localhost:5683/rd", "coap://localhost?ep=a", "coap://me@localhost"),
    ],
)
def test_a_server_that_cannot_be_reached_that_way_is_refused_with_advice(url):
    with pytest.raises(NoServer, match=r"write it as coap://|no more than the scheme, the host|Port|IPv6"):
        asyncio.run(resolve(url))


def test_a_fleet_registers_through_a_relay_that_loses_and_doubles():
    async def story() -> None:
        with serving() as server:
            bad = Conditions(loss=0.1, duplication=0.3, delay_s=0.01)
            relay = Relay(RelayOptions(("127.0.0.1", 0), server.address, up=bad, down=bad, seed=3))
            fleet = Fleet(options(relay.address, count=5))
            try:
                await fleet.open()
                await fleet.start()
                await until(lambda: fleet.summary().registered == 5)
                assert sorted(server.registered.values()) == [f"sim-{number}" for number in range(1, 6)]
                assert relay.up.duplicated + relay.down.duplicated > 0
            finally:
                fleet.close()
                relay.close()

    asyncio.run(story())


def test_a_rebooted_device_may_register_from_another_port():
    async def story() -> None:
        with serving() as server:
            fleet = Fleet(options(server.address, count=1, reboot_moves=True))
            try:
                await fleet.open()
                await fleet.start()
                await until(lambda: len(server.ports) == 1)
                server.execute("r0", ("3", "0", "4"))
                await until(lambda: len(server.ports) == 2)
                assert server.executed == [codes.CHANGED]
                assert server.ports["r1"] != server.ports["r0"]
            finally:
                fleet.close()

    asyncio.run(story())


def test_a_device_that_moves_by_itself_goes_on_from_another_port():
    async def story() -> None:
        with serving() as server:
            moving = (Fault.parse("move:0.3s"),)
            fleet = Fleet(options(server.address, count=1, update_every_s=0.1, faults=moving))
            try:
                await fleet.open()
                await fleet.start()
                await until(lambda: len(set(server.ports.get("r0", []))) >= 3)
                assert list(server.ports) == ["r0"]
            finally:
                fleet.close()

    asyncio.run(story())


def test_a_relay_obeys_orders_to_drop_an_ack_and_to_move_its_clients():
    async def story() -> None:
        with serving() as server:
            relay = Relay(RelayOptions(("127.0.0.1", 0), server.address, control=("127.0.0.1", 0)))
            fleet = Fleet(options(relay.address, count=1, update_every_s=0.2))
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as operator:
                operator.setblocking(False)
                operator.connect(relay.control_address)

                async def order(text: str) -> str:
                    await loop.sock_sendall(operator, text.encode())
                    async with asyncio.timeout(2):
                        return (await loop.sock_recv(operator, 1000)).decode()

                try:
                    assert await order("drop-ack down") == "ok"
                    await fleet.open()
                    await fleet.start()
                    await until(lambda: fleet.summary().registered == 1)
                    # The first answer was lost, so the Register came twice but ran once.
                    assert relay.down.lost == 1
                    assert len(server.registered) == 1
                    assert await order("move") == "moved 1"
                    await until(lambda: len(set(server.ports["r0"])) == 2)
                    assert (await order("stats")).startswith("up delivered=")
                    assert (await order("dance")).startswith("unknown order")
                finally:
                    fleet.close()
                    relay.close()

    asyncio.run(story())
