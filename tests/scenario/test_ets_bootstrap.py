"""OMA's enabler tests of the bootstrap interface, INT 0 to 12, as far as their criteria are about servers: simulated
devices that come from the factory, and clients played by hand where answers have to be odd (contract §14)."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.app.credential_record import parse_record
from stellwerk.coap import codes
from stellwerk.coap.message import ACK, Message
from stellwerk.device.bootstrap.configuration import Acl, ServerEntry
from stellwerk.device.record import PSK
from stellwerk.sim.bootstrap.options import Mode, OscoreValues
from tests.scenario.bootstrap_lab import BOOTSTRAP, HOST, PLAIN, BootstrapLab
from tests.scenario.bootstrap_port import NO_SEC, Client, psk_block, with_bootstrap
from tests.scenario.stack import WALL_MS, con
from tests.scenario.test_bootstrap_matrix import FOR_SERVER, KEY, KINDS, NAME
from tests.scenario.test_bootstrap_oscore import AT_SERVER, THERE, members

ONE = ServerEntry(short_id=123, host=HOST, port=PLAIN)
OTHER = ServerEntry(short_id=124, host="dm2.example")
RIGHTS = (Acl(3, 0, 123, ((123, 31), (0, 1))), Acl(3, 65535, 65535, ((124, 16),)))
VALUES = OscoreValues(THERE.secret, THERE.sender_id, THERE.recipient_id, master_salt=THERE.salt)


@pytest.fixture
def lab() -> Iterator[BootstrapLab]:
    made = BootstrapLab()
    yield made
    made.close()


def steps_of(lab: BootstrapLab, record: Any) -> list[str]:
    """Of the newest session."""
    return [f"{each.operation} {each.path}".rstrip() for each in lab.port.sessions_of(record)[0].steps]


@pytest.mark.spec("ETS 0", "B-1", "B-2", "Platform 12.1")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_device_bootstraps_and_registers_with_what_it_got(lab: BootstrapLab, version: str) -> None:
    record = lab.provision()
    lab.port.profile(ONE)
    device = lab.join(options={"lwm2m_version": version})
    assert lab.steps[-3:] == ["PUT /0/1", "PUT /1/0" if "GET /" in lab.steps else "PUT /1/1", "POST /bs"]
    assert lab.port.ends_of(record) == [("configured", "")]
    assert lab.registered() == [NAME]
    assert device.is_registered
    [known] = lab.stack.registry
    assert (known.registration.version, known.registration.lifetime_s) == (version, 300)


@pytest.mark.spec("ETS 1", "B-10")
def test_a_device_bootstraps_over_psk_and_registers_over_psk(lab: BootstrapLab) -> None:
    kind = KINDS["PSK"]
    record = lab.provision(credential=parse_record(kind.record(), WALL_MS))
    lab.port.profile(kind.server())
    lab.join(credentials=kind.credentials)
    assert lab.port.ends_of(record) == [("configured", "")]
    [known] = lab.stack.registry
    assert known.registration.peer.transport == "dtls"


@pytest.mark.spec("ETS 4", "B-5", "Platform 12.1")
@pytest.mark.parametrize("instance", [0, 3])
def test_delete_leaves_the_bootstrap_account_wherever_it_is(lab: BootstrapLab, instance: int) -> None:
    record = lab.provision()
    lab.port.profile(ONE)
    device = lab.join(instance=instance)
    own = device.tree.instances(0)[instance]
    lab.steps.clear()
    assert lab.command(record, "EXECUTE /1/0/9") == 200
    deleted = [each for each in lab.steps if each.startswith("DELETE /0")]
    assert len(deleted) == 1
    assert deleted != [f"DELETE /0/{instance}"]
    assert device.tree.instances(0)[instance] == own
    assert lab.accounts(device) == [123]
    assert lab.registered() == [NAME]


@pytest.mark.spec("ETS 5", "Platform 12.2", "B-11")
def test_the_trigger_makes_a_registered_device_bootstrap(lab: BootstrapLab) -> None:
    record = lab.provision()
    lab.port.profile(ONE)
    lab.join()
    assert len(lab.port.sessions_of(record)) == 1
    assert lab.command(record, "EXECUTE /1/0/9") == 200
    assert lab.port.ends_of(record) == [("configured", "")] * 2
    assert lab.registered() == [NAME]


@pytest.mark.spec("ETS 7")
def test_a_device_whose_server_is_silent_bootstraps_and_registers(lab: BootstrapLab) -> None:
    record = lab.provision()
    lab.port.profile(ONE)
    device = lab.join(factory_uri=f"coap://{HOST}:9", failures=1, wait_s=1)
    assert (lab.registered(), lab.port.sessions_of(record)) == ([], [])
    lab.run_for(120)
    assert lab.port.ends_of(record) == [("configured", "")]
    assert 123 in lab.accounts(device)
    assert lab.registered() == [NAME]


@pytest.mark.spec("ETS 7", "SEC-6")
def test_a_device_that_is_refused_without_keys_bootstraps_to_get_some(lab: BootstrapLab) -> None:
    kind = KINDS["PSK"]
    record = lab.provision(credential=parse_record(kind.record(), WALL_MS))
    lab.port.profile(kind.server())
    lab.join(factory_uri=f"coap://{HOST}:{PLAIN}", failures=1, credentials=kind.credentials, wait_s=30)
    assert lab.stack.meters.registers_refused["has-credentials"] >= 1
    assert lab.port.ends_of(record) == [("configured", "")]
    [known] = lab.stack.registry
    assert known.registration.peer.transport == "dtls"


def over(lab: BootstrapLab, way: str) -> dict[str, Any]:
    """Provision the device for that way; what it knows of the bootstrap server."""
    match way:
        case "PSK":
            lab.provision(credential=with_bootstrap(psk_block("bs-dev1", KEY)))
            return {"credentials": KINDS["PSK"].credentials}
        case "OSCORE":
            lab.provision(credential=with_bootstrap({**NO_SEC, "oscore": members(THERE)}))
            return {"oscore": VALUES}
    lab.provision()
    return {}


@pytest.mark.spec("ETS 8", "ETS 9", "READ-2", "B-12")
@pytest.mark.parametrize("way", ["NoSec", "PSK", "OSCORE"])
def test_servers_and_rights_are_read_on_every_binding(lab: BootstrapLab, way: str) -> None:
    known = over(lab, way)
    record = lab.stack.run(lab.stack.store.device_by_endpoint(NAME))
    lab.port.profile(ONE, OTHER, acls=RIGHTS)
    device = lab.join(faults=("refuse:4.06:once@finish",), **known)
    steps = steps_of(lab, record)
    assert [each for each in steps if "Read" in each] == ["Bootstrap-Read /1", "Bootstrap-Read /2"]
    # What was read goes before it is written anew.
    assert steps.index("Bootstrap-Read /2") < steps.index("Bootstrap-Delete /2")
    assert steps.count("Bootstrap-Finish") == 2
    assert lab.port.ends_of(record) == [("configured", "")]
    assert lab.accounts(device) == [123, 124]
    assert sorted(device.tree.instances(2)) == [0, 1]


@pytest.mark.spec("ETS 9", "B-7")
def test_a_finish_that_stays_refused_leaves_the_device_as_it_was(lab: BootstrapLab) -> None:
    record = lab.provision()
    lab.port.profile(ONE)
    device = lab.join(faults=("refuse:4.06@finish",))
    assert lab.port.ends_of(record) == [("inconsistent", "finish-refused")]
    while not lab.failures:
        lab.run_for(0.5)
    assert (lab.accounts(device), lab.registered()) == ([], [])
    assert lab.has_bootstrap_account(device)


@pytest.mark.spec("ETS 11", "LwM2M-contract 2.6", "B-10")
def test_a_device_bootstraps_over_oscore_and_registers_over_oscore(lab: BootstrapLab) -> None:
    there = {**NO_SEC, "oscore": members(THERE)}
    credential = with_bootstrap(there, {**NO_SEC, "oscore": members(AT_SERVER)}, AT_SERVER.credential("dev1"))
    record = lab.provision(credential=credential)
    account = ServerEntry(is_bootstrap=True, short_id=None, host=HOST, port=BOOTSTRAP, oscore=True, hold_off_s=1)
    lab.port.profile(
        account, ServerEntry(short_id=123, host=HOST, port=PLAIN, oscore=True), updates_bootstrap_server=True
    )
    # Before that, object 21 has texts.
    device = lab.join(oscore=VALUES, options={"lwm2m_version": "1.2"})
    assert lab.port.ends_of(record) == [("configured", "")]
    [known] = lab.stack.registry
    assert known.registration.peer.transport == "oscore+udp"
    assert {each[0] for each in device.tree.instances(21).values()} == {THERE.secret, AT_SERVER.secret}
    # The rewritten account is used: its numbers go on where they were, and nothing is taken for a repetition.
    assert lab.command(record, "EXECUTE /1/0/9", wait_s=8) == 200
    assert lab.port.ends_of(record) == [("configured", "")] * 2
    assert lab.registered() == [NAME]


@pytest.mark.spec("ETS 12", "B-9")
def test_a_device_gets_everything_in_a_pack(lab: BootstrapLab) -> None:
    credential = with_bootstrap(psk_block("bs-dev1", KEY), psk_block("dm-dev1", FOR_SERVER))
    record = lab.provision(credential=credential)
    lab.port.profile(ServerEntry(short_id=123, mode=PSK, host=HOST, port=5684))
    device = lab.join(mode=Mode.PACK, credentials=KINDS["PSK"].credentials, options={"lwm2m_version": "1.2"})
    [session] = lab.port.sessions_of(record)
    assert (session.state.value, session.trigger.value) == ("configured", "pack")
    assert lab.accounts(device) == [123]
    assert lab.value(device, "/0/1/5") == FOR_SERVER


FORMS = {
    "says 1.0 whatever it speaks": '</>;lwm2m=1.0,</0/0>,</0/1>;ssid=123;uri="coap://old:5683",</1/0>;ssid=123,</3/0>',
    "version in quotes, no root": 'lwm2m="1.0",</0/0>,</0/1>;ssid=123,</1/0>;ssid=123,</3/0>',
    "neither version nor root": "</0/0>,</0/1>;ssid=123,</1/0>;ssid=123,</3/0>",
    "objects with versions": '</0>;ver=1.1,</0/0>,</0/1>;ssid="123",</1>;ver="1.1",</1/0>;ssid="123",</21>;ver=2.0',
    "ssid of the bootstrap account": "</0/0>;ssid=65535,</0/1>;ssid=123,</1/0>;ssid=123",
}


@pytest.mark.spec("T-14", "B-13", "B-14")
@pytest.mark.parametrize("holds", FORMS.values(), ids=FORMS)
def test_odd_answers_to_discover_and_a_finish_answered_apart(lab: BootstrapLab, holds: str) -> None:
    record = lab.provision()
    lab.port.profile(ONE)
    client = Client(lab.port, holds=holds)
    assert client.ask().code == codes.CHANGED
    while (request := client.next()).code != codes.POST:
        client.react(request)
    client._say(Message(ACK, 0, request.mid))
    client._say(con(codes.CHANGED, mid=7_777, token=request.token).message)
    assert client._take().mid == 7_777
    assert client.steps == ["GET /", "DELETE /0/1", "DELETE /1/0", "PUT /0/1", "PUT /1/0", "POST /bs"]
    assert lab.port.ends_of(record) == [("configured", "")]
