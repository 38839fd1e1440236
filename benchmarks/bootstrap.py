"""Devices that are all bootstrapped at once over a bad network, and register with what they got.

    make bench BENCH=bootstrap                                      1,000 devices, 10 % loss, without security and with
    make bench BENCH=bootstrap ARGS="--devices 200 --security psk --loss 0"

The devices are simulated in this process (`stellwerk sim --bootstrap`), the server is one of its own. Its memory is
resident bytes, the peak is the kernel's (VmHWM) from before the first device on.
"""

import argparse
import asyncio
import json
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import reports
import servers
from run import scratch

SECURITY = ("nosec", "psk", "x509")
_LIFETIME_S = 3600
_SETTLE_S = 120


def main() -> int:
    from stellwerk.logs import configure_logs

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--loss", type=float, default=10, help="per cent of datagrams lost, each way")
    parser.add_argument("--security", action="append", choices=SECURITY)
    parser.add_argument(
        "--within", type=float, default=600, help="seconds after which what is not done counts as failed"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="where the database is written (default: build/bench in the project)")
    parser.add_argument("--write", metavar="FILE", help="put the table into FILE between its markers")
    options = parser.parse_args()
    configure_logs("error", "console")
    with scratch(options.folder) as folder:
        found = [_measure(security, folder / security, options) for security in options.security or ("nosec", "psk")]
    reports.publish("bootstrap", _report(found, options), options.write)
    return 0 if all(each.registered == options.devices for each in found) else 1


@dataclass(slots=True)
class Measured:
    """One run. ``configured``: seconds from the start at which a device was, one for each, in order. ``states``: how
    the server's sessions ended; ``failures``: why bootstraps failed, as the devices saw it."""

    security: str
    configured: list[float] = field(default_factory=list)
    registered: int = 0
    registered_s: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    before: int = 0
    after: int = 0
    peak: int = 0
    cpu_s: float = 0.0


def _measure(security: str, data_dir: Path, options: argparse.Namespace) -> Measured:
    from stellwerk.issuing import Issuer, make_authority

    # The platform's authority signs as this one would; the devices only have to be known by their certificates.
    authority = make_authority("benchmark")
    issuer = Issuer(authority.key, authority.chain[0])
    ports = [servers.free_port(socket.SOCK_DGRAM) for _ in range(4)]
    port, secure_port, bootstrap_port, bootstrap_secure_port = ports
    keys = _keys(security, options.devices, issuer)
    data_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_provision(data_dir, security, keys, port if security == "nosec" else secure_port))
    settings = {
        "STELLWERK_BOOTSTRAP_COAP_PORT": str(bootstrap_port),
        "STELLWERK_BOOTSTRAP_COAPS_PORT": str(bootstrap_secure_port),
    }
    measured = Measured(security)
    with servers.stellwerk(data_dir, keep=True, port=port, secure_port=secure_port, settings=settings) as server:
        measured.before = servers.memory(server.pid).resident
        # From here on: the start takes more than any load of this size.
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")
        cpu = servers.cpu_seconds(server.pid)["server"]
        url = (
            f"coap://127.0.0.1:{bootstrap_port}"
            if security == "nosec"
            else f"coaps://127.0.0.1:{bootstrap_secure_port}"
        )
        asyncio.run(_bootstrap(url, keys, measured, data_dir, options))
        measured.cpu_s = servers.cpu_seconds(server.pid)["server"] - cpu
        measured.after = servers.memory(server.pid).resident
        measured.peak = _peak(server.pid)
    print(measured.security, measured.registered, dict(measured.states), file=sys.stderr, flush=True)
    return measured


# -- devices --


@dataclass(frozen=True, slots=True)
class Keys:
    """What a device proves itself with to the bootstrap server, and what it is given: members of its credential
    record. None: nothing."""

    own: Any
    client: dict[str, Any]
    bootstrap: dict[str, Any]
    given: dict[str, Any]


def _name(number: int) -> str:
    return f"bench-{number}"


def _keys(security: str, devices: int, issuer: Any) -> list[Keys]:
    made = {"nosec": _no_keys, "psk": _pre_shared, "x509": lambda number: _certificates(number, issuer)}[security]
    return [made(number) for number in range(1, devices + 1)]


def _no_keys(number: int) -> Keys:
    none = {"securityMode": "NO_SEC"}
    return Keys(None, {"securityConfigClientMode": "NO_SEC"}, none, none)


def _pre_shared(number: int) -> Keys:
    from stellwerk.sim.security import PreSharedKey

    def block(which: str) -> tuple[bytes, dict[str, Any]]:
        key = sha256(f"{which} {number}".encode()).digest()[:16]
        return key, {
            "securityMode": "PSK",
            "clientPublicKeyOrId": f"{which}-{number}",
            "clientSecretKey": key.hex(),
        }

    own, bootstrap = block("bs")
    key, given = block("dm")
    client = {"securityConfigClientMode": "PSK", "identity": f"dm-{number}", "key": key.hex()}
    return Keys(PreSharedKey(f"bs-{number}".encode(), own), client, bootstrap, given)


def _certificates(number: int, issuer: Any) -> Keys:
    from stellwerk.device.key_material import der_of, pkcs8_of, to_base64
    from stellwerk.issuing import new_key
    from stellwerk.sim.security import Certificate

    def block() -> tuple[Any, dict[str, Any]]:
        issued = issuer.client(new_key(), _name(number))
        chain = tuple(der_of(each) for each in issued.chain)
        return Certificate(issued.key, chain), {
            "securityMode": "X509",
            "clientPublicKeyOrId": to_base64(chain[0]),
            "clientSecretKey": to_base64(pkcs8_of(issued.key)),
        }

    own, bootstrap = block()
    _, given = block()
    client = {"securityConfigClientMode": "X509", "cert": given["clientPublicKeyOrId"]}
    return Keys(own, client, bootstrap, given)


async def _provision(data_dir: Path, security: str, keys: list[Keys], port: int) -> None:
    from stellwerk.app.credential_record import parse_record
    from stellwerk.app.records import NewDevice
    from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
    from stellwerk.device.profile import DEFAULT, ProfileRecord
    from stellwerk.storage.migrations import migrate
    from stellwerk.storage.sqlite.store import SqliteStore
    from stellwerk.storage.vault import Vault

    migrate(data_dir)
    store = await SqliteStore.open(data_dir, vault=Vault.load(data_dir, None))
    now_ms = time.time_ns() // 1_000_000
    tenant_id = await store.ensure_tenant(servers.TENANT, now_ms)
    entry = ServerEntry(mode=security, host="127.0.0.1", port=port, lifetime_s=_LIFETIME_S)
    configuration = BootstrapConfiguration((entry,))
    await store.put_profile(ProfileRecord(tenant_id, "bench", DEFAULT, now_ms, now_ms, configuration))

    async def device(number: int, each: Keys) -> None:
        name = _name(number)
        record = {
            "client": {"endpoint": name, **each.client},
            "bootstrap": {"bootstrapServer": each.bootstrap, "lwm2mServer": each.given},
        }
        credential = parse_record(json.dumps(record), now_ms)
        made = NewDevice(name, f"urn:dev:os:{name}", profile="bench", created_ms=now_ms, credential=credential)
        await store.create_device(tenant_id, made)

    await asyncio.gather(*(device(number, each) for number, each in enumerate(keys, 1)))
    await store.close()


async def _bootstrap(
    url: str, keys: list[Keys], measured: Measured, data_dir: Path, options: argparse.Namespace
) -> None:
    from stellwerk.sim.bootstrap.fleet import Commissioning
    from stellwerk.sim.fleet import Fleet, FleetOptions
    from stellwerk.sim.happenings import BootstrapFailed, Bootstrapped, Registered
    from stellwerk.sim.impairment import Conditions
    from stellwerk.sim.security import Security

    count = len(keys)
    configured: set[str] = set()
    registered: set[str] = set()
    done = asyncio.Event()
    started = 0.0

    def note(happening: object) -> None:
        if isinstance(happening, BootstrapFailed):
            measured.failures[happening.reason] += 1
        elif isinstance(happening, Bootstrapped) and happening.endpoint_name not in configured:
            configured.add(happening.endpoint_name)
            measured.configured.append(time.monotonic() - started)
        elif isinstance(happening, Registered) and happening.endpoint_name not in registered:
            registered.add(happening.endpoint_name)
            measured.registered_s = time.monotonic() - started
            if len(registered) == count:
                done.set()

    security = None if keys[0].own is None else Security(lambda name, number: keys[number - 1].own)
    fleet = Fleet(
        FleetOptions(
            server=url,
            count=count,
            prefix="bench-",
            bootstrap=Commissioning(),
            security=security,
            conditions=Conditions(loss=options.loss / 100),
            start_per_s=20.0 * count,
            seed=options.seed,
        ),
        note,
    )
    try:
        await fleet.open()
        started = time.monotonic()
        await fleet.start()
        try:
            async with asyncio.timeout(options.within):
                await done.wait()
        except TimeoutError:
            pass
        measured.registered = len(registered)
        # Some answers to Finish are lost: the server asks again, and the devices have to be there.
        settled = time.monotonic() + _SETTLE_S
        measured.states = await _states(data_dir, count)
        while measured.states["running"] and time.monotonic() < settled:
            await asyncio.sleep(2)
            measured.states = await _states(data_dir, count)
    finally:
        fleet.close()


async def _states(data_dir: Path, devices: int) -> Counter[str]:
    """How the server's sessions of all devices stand."""
    from stellwerk.storage.sqlite.store import SqliteStore
    from stellwerk.storage.vault import Vault

    store = await SqliteStore.open(data_dir, vault=Vault.load(data_dir, None))
    tenant_id = await store.tenant(servers.TENANT)
    assert tenant_id is not None
    found: Counter[str] = Counter()
    for number in range(1, devices + 1):
        device = await store.device_by_name(tenant_id, _name(number))
        assert device is not None
        for each in await store.bootstrap_sessions(device.device_id, 100):
            found[each.state.value] += 1
    await store.close()
    return found


# -- what came of it --


def _peak(pid: int) -> int:
    """The most that was resident since it was set back."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _report(found: list[Measured], options: argparse.Namespace) -> str:
    rows = []
    for each in found:
        times = sorted(each.configured)
        rows.append(
            [
                each.security,
                f"{len(times):,}",
                *(
                    f"{times[min(len(times) - 1, int(share * len(times)))]:.1f}" if times else ""
                    for share in (0.5, 0.99)
                ),
                f"{times[-1]:.1f}" if times else "",
                f"{each.registered:,} in {each.registered_s:.1f}",
                _counted(each.states),
                _counted(each.failures) or "none",
                *(f"{amount / 1048576:.1f}" for amount in (each.before, each.peak, each.after)),
                f"{each.cpu_s * 1000 / options.devices:.1f}",
            ]
        )
    columns = (
        *("security", " configured", " half, s", " 99 %, s", " all, s", " registered, s", "sessions by state"),
        *("failed, as devices saw it", " MiB before", " peak", " after", " CPU ms each"),
    )
    return "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"{options.devices:,} devices at once, {options.loss:g} % of datagrams lost each way; {reports.machine()}. "
            "MiB and CPU are of the server's process.",
            reports.table(columns, rows),
        ]
    )


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counter.most_common())


if __name__ == "__main__":
    raise SystemExit(main())
