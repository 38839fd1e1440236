"""``stellwerk demo``: a server on a scratch directory, its devices provisioned, with simulated devices that live."""

import asyncio
import json
import secrets
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from stellwerk.app.credential_record import parse_record
from stellwerk.app.credentials import NO_SEC, parse_credentials
from stellwerk.app.handlers.accounts import ADMINISTRATOR
from stellwerk.app.records import NewDevice
from stellwerk.config import Settings
from stellwerk.device.bootstrap.configuration import FRESH_KEYS, BootstrapConfiguration, ServerEntry
from stellwerk.device.key_material import der_of, spki_of, to_base64
from stellwerk.device.record import PSK, Credential
from stellwerk.issuing import new_key
from stellwerk.key_files import SERVER, KeyFolder
from stellwerk.northbound.auth import Access
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.faults import Fault, FaultKind
from stellwerk.sim.fleet import Behaviour, FleetOptions, run_fleet
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.reach import SECURE_SCHEME, TCP_SCHEME
from stellwerk.sim.security import Certificate, Credentials, PreSharedKey, RawKey, Security, one_for_all
from stellwerk.wiring import Server

TOKEN: Final = "demo"
PASSWORD: Final = "demo"
"""Good on this machine only, like the token: the demo's server listens on the loopback alone."""
LOOPBACK: Final = "127.0.0.1"
SEND_EVERY_S: Final = 5.0
WAKE_EVERY_S: Final = 30.0
QUEUE_S: Final = 300.0
AWAKE_S: Final = 10.0
MOVE_EVERY_S: Final = 60.0
BOOTSTRAP_PROFILE: Final = "demo-newcomers"
_LAST_PORT: Final = 65_535

_ALL_KINDS: Final = 4
"""So many devices it takes to show one of each kind."""

_CURL: Final = """\
curl -sS http://{host}:{port}/device-management-orchestrator/v3/default/device-communication/demo-1/outgoing-msg \\
  -H 'Authorization: Bearer demo' -H 'Content-Type: application/json;ty=4' \\
  -H 'X-M2M-Origin: CTestApp' -H 'X-M2M-RI: 123' \\
  -d '{{"m2m:cin": {{"con": "READ /3/0/0"}}}}'"""


async def run_demo(
    http_port: int, coap_port: int, devices: int, stop: asyncio.Event, say: Console, coaps_port: int | None = None
) -> None:
    """Serve until ``stop``; the scratch directory goes with it. ``coaps_port``: None for the one after ``coap_port``.
    Raises `UserError` for a taken port."""
    if coaps_port is None:
        coaps_port = coap_port + 1 if 0 < coap_port < _LAST_PORT else 0
    with tempfile.TemporaryDirectory(prefix="stellwerk-demo-") as scratch:
        settings = Settings(
            data_dir=Path(scratch),
            host=LOOPBACK,
            http_port=http_port,
            coap_host=LOOPBACK,
            coap_port=coap_port,
            coaps_port=coaps_port,
            bootstrap_coap_port=None,
            # Any that is free: its device is told, and the next program may want the usual one.
            bootstrap_coaps_port=0,
            # As many as no limit of open files makes a warning of.
            coap_tcp_connections=1_000,
            admin_password=PASSWORD,
            awake_s=AWAKE_S,
            queue_s=QUEUE_S,
        )
        access = Access(tenants=frozenset({settings.tenant}), role="rw", loopback_only=True)
        server = Server(settings, {TOKEN: access})
        await server.start()
        try:
            with_gateway = devices >= _ALL_KINDS
            secure = _secure_devices(KeyFolder(settings.data_dir), devices + 2) if with_gateway else []
            await server.provision(
                [
                    *(_device(number) for number in range(1, devices + 1 + with_gateway)),
                    *(_device(number, credential) for number, credential, _ in secure),
                ]
            )
            port, secure_port = server.bound.coap[0][1], server.bound.coaps[0][1]
            bootstrap_port, newcomer = server.bound.bootstrap_coaps[0][1], devices + 5
            bootstrap = await _newcomer(server, newcomer, secure_port, bootstrap_port) if with_gateway else None
            options = FleetOptions(
                server=f"coap://{LOOPBACK}:{port}",
                count=devices,
                prefix="demo-",
                send_every_s=SEND_EVERY_S,
                sleeper_update_every_s=WAKE_EVERY_S,
                awake_s=AWAKE_S,
                behaviours=_behaviours(devices),
            )
            say.print(
                f"[bold]Stellwerk demo[/bold]: {devices} devices, HTTP on {LOOPBACK}:{server.bound.http_port}, "
                f"CoAP on {LOOPBACK}:{port}, with DTLS on {LOOPBACK}:{secure_port}, bearer token [bold]{TOKEN}[/bold]. "
                "Ctrl-C ends it.",
                soft_wrap=True,
            )
            say.print(
                f"Live pages at [bold]http://{LOOPBACK}:{server.bound.http_port}/[/bold] for "
                f"[bold]{ADMINISTRATOR}[/bold], password [bold]{PASSWORD}[/bold].",
                soft_wrap=True,
            )
            say.print("Ask one for its manufacturer:\n")
            say.print(_CURL.format(host=LOOPBACK, port=server.bound.http_port), soft_wrap=True, markup=False)
            say.print(
                "\nand read the answer with GET .../demo-1/received-msg/la; the README has the lines.", soft_wrap=True
            )
            if with_gateway:
                say.print(
                    f"demo-{devices - 1} sleeps: it wakes every {WAKE_EVERY_S:.0f} s, listens for {AWAKE_S:.0f} s, and "
                    f"commands wait for it. demo-{devices} misbehaves now and then: late, silent, refusing, garbled. "
                    f"demo-{devices + 1} is a gateway of LwM2M 1.2 over TCP; behind it are two devices of their own. "
                    f"demo-{devices + 2} to demo-{devices + 4} speak DTLS: with a pre-shared key, from another port "
                    f"every {MOVE_EVERY_S:.0f} s (a connection ID makes that no matter), with a raw public key, with "
                    f"a certificate. demo-{newcomer} comes from the factory with a key for the bootstrap server "
                    f"({LOOPBACK}:{bootstrap_port}) alone, is given a fresh one for this server and registers with it.",
                    soft_wrap=True,
                )
            fleets = [options]
            if with_gateway:
                fleets.append(_gateway(port, devices + 1))
                fleets += (_secure_fleet(secure_port, number, security) for number, _, security in secure)
            if bootstrap is not None:
                fleets.append(bootstrap)
            await asyncio.gather(*(run_fleet(each, stop) for each in fleets))
        finally:
            await server.stop()


def _device(number: int, credential: Credential | None = None) -> NewDevice:
    name = f"demo-{number}"
    labels = ("d2c:1.0", f"d2c-uplink-property_Room:room-{number}")
    return NewDevice(name, f"urn:dev:os:{name}", labels, "SCS-LwM2M", (), 0, credential)


def _secure_devices(keys: KeyFolder, first: int) -> list[tuple[int, Credential, Security]]:
    """One of each kind of credentials, all made now: their numbers, what the server knows of them, what they know."""
    shared, own = secrets.token_bytes(16), new_key()
    server_key = spki_of(keys.load(SERVER).key.public_key())
    issued = keys.issuer().client(new_key(), f"demo-{first + 2}")
    certificate = Certificate(issued.key, tuple(der_of(each) for each in issued.chain))
    proofs: list[tuple[list[str], Credentials]] = [
        ([f"psk-id:demo-{first}", f"psk-hex:{shared.hex()}"], PreSharedKey(f"demo-{first}".encode(), shared)),
        ([f"rpk:{to_base64(spki_of(own.public_key()))}"], RawKey(own)),
        (["x509-cn:"], certificate),
    ]
    made = []
    for number, (texts, credentials) in enumerate(proofs, first):
        known = parse_credentials(texts, 0, (f"demo-{number}",))
        is_psk = isinstance(credentials, PreSharedKey)
        security = Security(one_for_all(credentials), server_key=b"" if is_psk else server_key, cid_length=0)
        made.append((number, known, security))
    return made


def _secure_fleet(port: int, number: int, security: Security) -> FleetOptions:
    moves = not security.server_key
    return FleetOptions(
        server=f"{SECURE_SCHEME}://{LOOPBACK}:{port}",
        prefix="demo-",
        first=number,
        send_every_s=SEND_EVERY_S,
        security=security,
        faults=(Fault(FaultKind.MOVE, seconds=MOVE_EVERY_S),) if moves else (),
    )


async def _newcomer(server: Server, number: int, secure_port: int, bootstrap_port: int) -> FleetOptions:
    """A device that has a key for the bootstrap server, and gets there what it needs for the other."""
    entry = ServerEntry(mode=PSK, host=LOOPBACK, port=secure_port, hold_off_s=0, keys=FRESH_KEYS)
    await server.give_when_bootstrapped(BOOTSTRAP_PROFILE, BootstrapConfiguration((entry,)))
    name, key = f"demo-{number}", secrets.token_bytes(16)
    factory = {"securityMode": "PSK", "clientPublicKeyOrId": f"{name} factory", "clientSecretKey": key.hex()}
    record = {
        "client": {"securityConfigClientMode": NO_SEC, "endpoint": name},
        "bootstrap": {"bootstrapServer": factory, "lwm2mServer": {"securityMode": NO_SEC}},
    }
    await server.provision([replace(_device(number, parse_record(json.dumps(record), 0)), profile=BOOTSTRAP_PROFILE)])
    return FleetOptions(
        server=f"{SECURE_SCHEME}://{LOOPBACK}:{bootstrap_port}",
        prefix="demo-",
        first=number,
        send_every_s=SEND_EVERY_S,
        security=Security(one_for_all(PreSharedKey(f"{name} factory".encode(), key))),
        bootstrap=Commissioning(),
    )


def _gateway(port: int, number: int) -> FleetOptions:
    return FleetOptions(
        server=f"{TCP_SCHEME}://{LOOPBACK}:{port}",
        prefix="demo-",
        first=number,
        lwm2m_version="1.2",
        send_every_s=SEND_EVERY_S,
        template=DeviceOptions("", end_devices=2),
    )


def _behaviours(devices: int) -> list[Behaviour]:
    """demo-1 stays quiet and awake for the README's lines; the last two sleep and misbehave."""
    if devices < _ALL_KINDS:
        return [Behaviour.QUIET, Behaviour.MOVING]
    moving = [Behaviour.MOVING] * (devices - 3)
    return [Behaviour.QUIET, *moving, Behaviour.SLEEPER, Behaviour.MISBEHAVING]
