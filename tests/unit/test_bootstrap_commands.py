"""`stellwerk bootstrap` and `stellwerk profile bootstrap`: what devices get, before they get it and afterwards."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.credential_material import BARE
from typer.testing import CliRunner

from stellwerk.access import open_store
from stellwerk.app.records import NewDevice
from stellwerk.cli import app
from stellwerk.config import load_settings
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.storage.lock import DirectoryLock
from stellwerk.storage.sqlite.store import SqliteStore

run = CliRunner()
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f1"
PSK = {"securityMode": "PSK", "clientPublicKeyOrId": "meter-1@dm", "clientSecretKey": KEY}
CLIENT = {"securityConfigClientMode": "PSK", "endpoint": "urn:dev:os:meter-1", "identity": "meter-1@dm", "key": KEY}
ENTRY = {"securityMode": "PSK", "shortServerId": 7, "host": "lwm2m.example.org", "port": 5684}
CONFIGURATION = {"bootstrapServerUpdateEnable": False, "bootstrap": [ENTRY]}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a device, to copy."""
    data_dir = tmp_path_factory.mktemp("filled")
    settings = load_settings(None, {"STELLWERK_DATA_DIR": str(data_dir)})

    async def fill() -> None:
        async with open_store(settings, may_make=True) as store:
            tenant_id = await store.ensure_tenant("default", 1)
            await store.create_device(tenant_id, NewDevice("meter-1", "urn:dev:os:meter-1", (), "meters", (), 1))

    asyncio.run(fill())
    return data_dir


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch, filled: Path, tmp_path: Path) -> Path:
    monkeypatch.setenv("STELLWERK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(filled, tmp_path / "data")
    return tmp_path


def said(*arguments: str, given: str | None = None) -> str:
    found = run.invoke(app, list(arguments), input=given)
    assert found.exit_code == 0, (found.output, found.exception)
    return found.stdout


def refused(*arguments: str, given: str | None = None) -> str:
    found = run.invoke(app, list(arguments), input=given)
    assert isinstance(found.exception, UserError), (found.output, found.exception)
    return str(found.exception)


def give(configuration: Any) -> str:
    return said("profile", "bootstrap", "meters", "--file", "-", given=json.dumps(configuration))


def give_keys(**more: Any) -> None:
    record = {"client": CLIENT, "bootstrap": {**BARE, "lwm2mServer": PSK, **more}}
    said("credentials", "set", "meter-1", "--record", "-", given=json.dumps(record))


def in_store(work: Callable[[SqliteStore], Awaitable[Any]]) -> Any:
    async def look() -> Any:
        async with open_store(load_settings(), may_make=True) as store:
            return await work(store)

    return asyncio.run(look())


def test_a_profile_says_what_its_devices_get(scratch: Path) -> None:
    before = in_store(lambda store: store.profiles_version())
    assert give(CONFIGURATION) == "meters\tserver 7\n"
    (scratch / "more.json").write_text(json.dumps({"bootstrap": [ENTRY, {**ENTRY, "shortServerId": 8, "port": 1}]}))
    said("profile", "set", "meters", "awake_s=10")
    assert json.loads(said("profile", "bootstrap", "meters", "--show"))["bootstrap"][0]["shortServerId"] == 7
    assert said("profile", "bootstrap", "meters", "--file", "more.json") == "meters\tserver 7, server 8\n"
    assert said("profile", "show", "meters") == "meters\tawake_s=10\n"
    assert said("profile", "bootstrap", "meters", "--clear") == "meters\tits devices are not bootstrapped\n"
    assert json.loads(said("profile", "bootstrap", "meters", "--show"))["bootstrap"] == []
    # What tells a running server.
    assert in_store(lambda store: store.profiles_version()) > before


@pytest.mark.parametrize(
    ("options", "given", "text"),
    [
        ((), None, "one of --file, --show or --clear"),
        (("--show", "--clear"), None, "one of --file, --show or --clear"),
        (("--show",), None, "no profile 'meters'"),
        (("--show", "--tenant", "other"), None, "no tenant 'other' in the data directory"),
        (("--file", "absent.json"), None, "absent.json: No such file"),
        (("--file", "-"), '{"bootstrap": [', "no JSON in line 1, column 16"),
        (("--file", "-"), '{"bootstrap": [], "bootstrap": []}', "--file -: bootstrap is given twice"),
        (
            ("--file", "-"),
            json.dumps({"bootstrap": [{**ENTRY, "securityMode": "NO_SEC", "keys": "fresh"}]}),
            "bootstrap[0].keys: mode NO_SEC has none",
        ),
        (
            ("--file", "-"),
            json.dumps({"bootstrap": [{**ENTRY, "securityMode": "RPK", "transport": "tcp"}]}),
            "bootstrap[0].transport: this server speaks TLS without raw public keys; say transport udp",
        ),
        (
            ("--file", "-"),
            json.dumps({"bootstrap": [{**ENTRY, "transport": "udp", "binding": "TQ"}]}),
            "bootstrap[0].binding: a server that is reached over udp needs the letter U",
        ),
        (("--file", "-"), '{"bootstrap": [{"shortServerId": 0}]}', "bootstrap[0].securityMode: it is one of NO_SEC"),
        (("--file", "-"), " \n", "--file -: it is empty"),
        (("--file", "-"), '{"bootstrp": []}', "--file -: it has no member bootstrap, the list of servers"),
        (("--clear",), None, "no profile 'meters'"),
    ],
)
def test_what_a_profile_cannot_say_is_refused(
    scratch: Path, options: tuple[str, ...], given: str | None, text: str
) -> None:
    assert text in refused("profile", "bootstrap", "meters", *options, given=given)
    assert in_store(lambda store: store.profiles()) == []


def test_what_means_nothing_is_left_out_and_named(scratch: Path) -> None:
    given = {
        "bootstrap": [{**ENTRY, "keyz": "fresh"}],
        "acls": [{"objectId": 3, "owner": 7, "acl": {}, "x": 1}],
        "y": 2,
    }
    found = run.invoke(app, ["profile", "bootstrap", "meters", "--file", "-"], input=json.dumps(given))
    assert found.exit_code == 0
    for name in ("y", "bootstrap[0].keyz", "acls[0].x"):
        assert f"warning: {name} means nothing here" in found.stderr
    shown = json.loads(said("profile", "bootstrap", "meters", "--show"))
    again = run.invoke(app, ["profile", "bootstrap", "meters", "--file", "-"], input=json.dumps(shown))
    assert again.stderr == ""


@pytest.mark.spec("Platform 12.1")
def test_a_plan_shows_what_would_be_written_and_no_secret(scratch: Path) -> None:
    give(CONFIGURATION)
    give_keys()
    planned = said("bootstrap", "plan", "meter-1")
    assert "Bootstrap-Write /0/1" in planned
    assert "coaps://lwm2m.example.org:5684" in planned
    assert KEY not in planned.lower()
    (scratch / "held").write_text('</>;lwm2m="1.1",</0/0>,</0/3>;ssid=7,</1/5>;ssid=7')
    again = said("bootstrap", "plan", "meter-1", "--discovered", "held", "--pct", "11542", "--lwm2m-version", "1.1")
    assert "Bootstrap-Write /0/3  (Content-Format 11542)" in again
    assert in_store(lambda store: store.fresh_credential(1)) is None


@pytest.mark.spec("Platform 12.1", "BIN-1")
def test_a_plan_is_for_the_transport_that_the_device_comes_over(scratch: Path) -> None:
    give({"bootstrap": [ENTRY, {**ENTRY, "shortServerId": 8, "transport": "udp", "host": "other.example"}]})
    give_keys(servers={"8": PSK})
    assert "coaps://lwm2m.example.org:5684" in said("bootstrap", "plan", "meter-1")
    planned = said("bootstrap", "plan", "meter-1", "--transport", "tcp")
    assert "LWM2M Server URI: coaps+tcp://lwm2m.example.org:5684" in planned
    assert "LWM2M Server URI: coaps://other.example:5684" in planned
    assert "Binding: T\n" in planned
    assert "--transport: it is udp or tcp" in refused("bootstrap", "plan", "meter-1", "--transport", "tls")


def test_a_plan_with_fresh_keys_gives_none_away(scratch: Path) -> None:
    give({"bootstrap": [{**ENTRY, "keys": "fresh"}]})
    give_keys()
    # Whoever says its name would get them.
    assert "only over a secure session" in refused("bootstrap", "plan", "meter-1")
    give_keys(bootstrapServer={**PSK, "clientPublicKeyOrId": "meter-1@bs"})
    planned = said("bootstrap", "plan", "meter-1")
    assert "urn:dev:os:meter-1#" in planned
    assert in_store(lambda store: store.fresh_credential(1)) is None
    assert in_store(lambda store: store.credential_of(1)).identity == "meter-1@dm"


def test_what_cannot_be_planned_says_why(scratch: Path) -> None:
    assert "profile 'meters' says nothing of bootstrapping" in said("bootstrap", "plan", "meter-1")
    give({"bootstrap": [{**ENTRY, "securityMode": "X509", "keys": "fresh"}]})
    assert "`stellwerk keys make` makes one" in refused("bootstrap", "plan", "meter-1")
    assert "--lwm2m-version: " in refused("bootstrap", "plan", "meter-1", "--lwm2m-version", "one")
    give(CONFIGURATION)
    assert "mode PSK, the device's bootstrap credentials (lwm2mServer)" in refused("bootstrap", "plan", "meter-1")
    assert "no device 'meter-9'" in refused("bootstrap", "plan", "meter-9")
    (scratch / "held").write_text("</0/0")
    assert "--discovered held: " in refused("bootstrap", "plan", "meter-1", "--discovered", "held")
    give_keys()
    assert "--pct: " in refused("bootstrap", "plan", "meter-1", "--pct", "50")
    assert "--discovered absent: No such file" in refused("bootstrap", "plan", "meter-1", "--discovered", "absent")


STEPS = (
    StepRecord(1_790_000_000_000, "Bootstrap-Discover", "/", status=205),
    StepRecord(1_790_000_001_000, "Bootstrap-Write", "/0/1", "0 URI: coaps://h; 5 key: ***", 400, detail="no room"),
    StepRecord(1_790_000_002_000, "Bootstrap-Finish", "", failure="timeout"),
)


def test_a_history_tells_each_session_and_each_step(scratch: Path) -> None:
    assert said("bootstrap", "history", "meter-1") == "device 'meter-1' has not asked to be bootstrapped\n"

    async def happen(store: SqliteStore) -> None:
        device = await store.device_by_endpoint("urn:dev:os:meter-1")
        assert device is not None
        session = BootstrapSession(
            0,
            device.device_id,
            "urn:dev:os:meter-1",
            "udp://192.0.2.7:5683",
            BootstrapTrigger.CLIENT,
            BootstrapState.STEP_FAILED,
            1_790_000_000_000,
            1_790_000_002_500,
            "write-refused",
            "4.00 to /0/1",
            STEPS,
        )
        await store.put_bootstrap_session(session)

    in_store(happen)
    line = (
        "2026-09-21T14:13:20Z\tstep failed after 2.5 s (write-refused: 4.00 to /0/1)\t"
        "client, urn:dev:os:meter-1 from udp://192.0.2.7:5683\t3 steps\n"
    )
    assert said("bootstrap", "history", "meter-1") == line
    assert said("bootstrap", "history", "meter-1", "--steps") == line + (
        "  2026-09-21T14:13:20Z  Bootstrap-Discover /  2.05\n"
        "  2026-09-21T14:13:21Z  Bootstrap-Write /0/1  4.00  0 URI: coaps://h; 5 key: ***; no room\n"
        "  2026-09-21T14:13:22Z  Bootstrap-Finish   timeout\n"
    )


def test_a_history_beside_a_stopped_server_says_that_nothing_runs(scratch: Path) -> None:
    async def begin(store: SqliteStore) -> None:
        device = await store.device_by_endpoint("urn:dev:os:meter-1")
        assert device is not None
        await store.put_bootstrap_session(
            BootstrapSession(
                0,
                device.device_id,
                "urn:dev:os:meter-1",
                "udp://192.0.2.7:5683",
                BootstrapTrigger.CLIENT,
                BootstrapState.RUNNING,
                1_790_000_000_000,
            )
        )

    in_store(begin)
    beside_none = run.invoke(app, ["bootstrap", "history", "meter-1"])
    assert "\trunning\t" in beside_none.stdout
    assert beside_none.stderr.startswith("warning: no server works here: what is called running was interrupted")
    lock = DirectoryLock.take(scratch / "data")
    try:
        assert run.invoke(app, ["bootstrap", "history", "meter-1"]).stderr == ""
    finally:
        lock.release()
