"""The command line: what it answers, and that mistakes are one line and exit status 2."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stellwerk import __version__
from stellwerk.access import open_store
from stellwerk.app.records import NewDevice
from stellwerk.cli import app, main
from stellwerk.config import load_settings
from stellwerk.core.errors import UserError
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.path import Path as ResourcePath
from stellwerk.northbound.auth import SignedTokens, Unauthorized
from stellwerk.sim.bootstrap.faults import StepFault
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions, Mode, OscoreValues, Preference
from stellwerk.sim.faults import Fault
from stellwerk.sim.fleet import Behaviour
from stellwerk.sim.options import Composites, DeviceOptions
from stellwerk.sim.security import AfterHandshake, PreSharedKey, Resume
from stellwerk.storage.lock import DirectoryLock
from stellwerk.storage.migrations import migrate
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.token_key import TOKEN_KEY_FILE, load_token_key
from stellwerk.storage.vault import KEY_FILE

run = CliRunner()


def test_the_version_is_told():
    found = run.invoke(app, ["--version"])
    assert (found.exit_code, found.stdout) == (0, f"stellwerk {__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["demo"],
        ["sim"],
        ["token"],
        ["client"],
        ["client", "add"],
        ["profile"],
        ["profile", "set"],
        ["device"],
    ],
)
def test_every_command_has_help(command: list[str]):
    found = run.invoke(app, [*command, "--help"])
    assert found.exit_code == 0
    assert "Usage" in found.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["sim", "--count", "0"],
        ["sim", "--loss", "200%"],
        ["sim", "--loss", "nan"],
        ["sim", "--lifetime", "99999999999"],
        ["sim", "--fault", "noise"],
        ["sim", "--fault", "silence:20%", "--fault", "refuse"],
        ["sim", "--lwm2m-version", "1.3"],
        ["sim", "--behaviour", "tired"],
        ["sim", "--gateway-version", "3"],
        ["sim", "--composites", "maybe"],
        ["sim", "--awake", "0"],
        ["sim", "--cid-length", "33"],
        ["sim", "--resume", "maybe"],
        ["sim", "--after-handshake", "sleep"],
        ["sim", "--handshake-timeout", "0"],
        ["sim", "--fault", "wrong-key@/3/0"],
        ["demo", "--coaps-port", "65536"],
        ["demo", "--http-port", "65536"],
        ["demo", "--coap-port", "-1"],
    ],
)
def test_a_word_that_makes_no_sense_is_refused(words: list[str]):
    assert run.invoke(app, words).exit_code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("sim --count x", "'--count': 'x' is not a whole number from 1 to 100000"),
        ("sim --cid-length 33", "'--cid-length': '33' is not a whole number from 0 to 32"),
        ("sim --awake 0", "'--awake': '0' is not a number, 0.1 or more"),
        ("sim --object 3 --object x", "'--object': 'x' is not a whole number"),
        ("token --tenant a --days nan", "'--days': 'nan' is not a number from 0.001 to 3650"),
        ("models export x", "'x' is not a whole number from 0 to 65534"),
        ("sim --resume maybe", "'--resume': 'maybe' is not one of 'id', 'ticket'"),
        ("sim --behaviour quiet --behaviour tired", "'--behaviour': 'tired' is not one of 'quiet', 'moving'"),
        ("sim --loss 200%", "--loss: '200%' is no share; write it like 5% or 0.05"),
        ("sim --duplicates x", "--duplicates: 'x' is no share"),
        ("sim --fault noise", "--fault: fault 'noise'"),
        ("sim --lwm2m 1.3", "--lwm2m: LwM2M '1.3' is not simulated; one of 1.0"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_said_with_the_option_and_with_what_it_can(
    monkeypatch, words: str, says: str
):
    monkeypatch.setenv("COLUMNS", "300")
    found = run.invoke(app, words.split())
    assert found.exit_code == 2
    assert says in found.output
    assert not any(each in found.output for each in ("Value error", "Input should"))


def test_a_device_of_the_first_release_needs_no_format_for_sends(monkeypatch: pytest.MonkeyPatch):
    asked = []

    async def note(options, stop, on_summary):
        asked.append(options)

    monkeypatch.setattr("stellwerk.sim_commands.run_fleet", note)
    found = run.invoke(app, ["sim", "--lwm2m", "1.0"])
    assert found.exit_code == 0, found.output
    assert asked[0].lwm2m_version == "1.0"
    assert "send-format" in str(run.invoke(app, ["sim", "--lwm2m", "1.0", "--send-format", "112"]).exception)


def test_the_simulator_does_what_its_options_say(monkeypatch):
    asked = []

    async def note(options, stop, on_summary):
        asked.append(options)

    monkeypatch.setattr("stellwerk.sim_commands.run_fleet", note)
    words = "sim --count 3 --queue-mode --awake 4 --update-every 20 --lwm2m-version 1.2 --behaviour quiet"
    found = run.invoke(app, [*words.split(), "--behaviour", "misbehaving", "--fault", "silence:20%", "--fault", "late"])
    assert found.exit_code == 0, found.output
    (options,) = asked
    assert (options.count, options.queue_mode, options.awake_s, options.update_every_s) == (3, True, 4, 20)
    assert (options.lwm2m_version, options.behaviours) == ("1.2", (Behaviour.QUIET, Behaviour.MISBEHAVING))
    assert options.faults == (Fault.parse("silence:20%"), Fault.parse("late:5s"))


def test_the_simulator_bootstraps_as_its_options_say(monkeypatch, tmp_path):
    asked = []

    async def note(options, stop, on_summary):
        asked.append(options)

    monkeypatch.setattr("stellwerk.sim_commands.run_fleet", note)
    words = (
        "sim --bootstrap --lwm2m 1.2 --bootstrap-mode pack --bootstrap-instance 5 --hold-off 3 --account-timeout 60 "
        "--renew-every 90 --pct none --pack-format 11544 --factory-server coap://f:1 --bootstrap-fault silence@finish "
        "--duplicates 2%"
    )
    found = run.invoke(app, [*words.split(), "--state", str(tmp_path)])
    assert found.exit_code == 0, found.output
    (options,) = asked
    assert options.server == "coap://127.0.0.1:5687"
    assert options.conditions.duplication == 0.02
    assert options.bootstrap == Commissioning(
        BootstrapOptions(
            "",
            mode=Mode.PACK,
            instance=5,
            hold_off_s=3,
            account_timeout_s=60,
            renew_every_s=90,
            preference=Preference.NONE,
            accept=11544,
            factory_uri="coap://f:1",
            faults=(StepFault.parse("silence@finish"),),
        ),
        tmp_path,
    )


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--bootstrap-mode", "pack"], "a pack is of LwM2M 1.2"),
        (["--pct", "many"], "write the number of a content format"),
        (["--pct", "65536"], "write the number of a content format"),
        (["--pack-format", "40"], "a pack is in 110, 112 or 11544"),
        (["--factory-server", "coaps://h"], "write it as coap://HOST:PORT"),
        (["--bootstrap-fault", "noise"], "no kind of fault of a bootstrap"),
    ],
)
def test_how_to_bootstrap_has_to_make_sense(words: list[str], rule: str):
    found = run.invoke(app, ["sim", "--bootstrap", *words])
    assert isinstance(found.exception, UserError)
    assert rule in str(found.exception)


def test_the_simulator_is_the_device_that_its_options_say(monkeypatch):
    asked = []

    async def note(options, stop, on_summary):
        asked.append(options)

    monkeypatch.setattr("stellwerk.sim_commands.run_fleet", note)
    words = (
        "sim --lwm2m 1.2 --formats 112,0 --composites 5.01 --root /lwm2m --pid 6:27354b9a=/1/0,/3/0 --ets --object 4 "
        "--acl /3/0:1 --gateway 2 --gateway-leave-every 9 --send-format 11544 --mute --second-server coap://b:1"
    )
    found = run.invoke(app, words.split())
    assert found.exit_code == 0, found.output
    device = asked[0].device(0)
    assert device == DeviceOptions(
        endpoint_name="sim-1",
        server_uri="coap://127.0.0.1:5683",
        other_server_uris=("coap://b:1",),
        lwm2m_version="1.2",
        formats=(112, 0),
        composites=Composites.NOT_IMPLEMENTED,
        root="/lwm2m",
        profile_id="6:27354b9a",
        profile_covers=(ResourcePath(1, 0), ResourcePath(3, 0)),
        object_ids=frozenset({4}),
        ets=True,
        access_rights=((ResourcePath(3, 0), 1),),
        end_devices=2,
        end_devices_leave_every_s=9.0,
        lifetime_s=86_400,
        send_format=11544,
        muted=True,
        awake_s=10.0,
        seed=device.seed,
    )


def test_the_simulator_secures_its_devices_as_its_options_say(monkeypatch):
    asked = []

    async def note(options, stop, on_summary):
        asked.append(options)

    monkeypatch.setattr("stellwerk.sim_commands.run_fleet", note)
    words = (
        "sim --server coaps://h --count 2 --psk {endpoint}:00ff --cid --resume ticket --after-handshake update "
        "--suite PSK_WITH_AES_128_CCM --suite PSK_WITH_AES_128_CCM_8 --handshake-timeout 9 "
        "--move-every 60 --fault wrong-key:5%"
    )
    found = run.invoke(app, words.split())
    assert found.exit_code == 0, found.output
    security = asked[0].security
    assert security.keyring("sim-2", 2) == PreSharedKey(b"sim-2", b"\x00\xff")
    assert (security.cid_length, security.resume, security.after_handshake) == (
        *(0, Resume.TICKET, AfterHandshake.UPDATE),
    )
    assert (security.suites, security.handshake_s) == ((0xC0A4, 0xC0A8), 9)
    assert asked[0].faults == (Fault.parse("wrong-key:5%"), Fault.parse("move:60s"))
    assert run.invoke(app, ["sim", "--psk", "a:00", "--cid-length", "4"]).exit_code == 0
    assert asked[1].security.cid_length == 4


def test_credentials_that_make_no_sense_are_refused_before_anything_runs():
    for words in (
        ["--psk", "x"],
        ["--psk", "a:00", "--rpk", "k"],
        ["--rpk", "nowhere"],
        ["--psk", "a:00", "--suite", "X"],
    ):
        found = run.invoke(app, ["sim", "--server", "coaps://127.0.0.1:9", *words])
        assert isinstance(found.exception, UserError), words


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("--hold-off 3", "--hold-off goes with --bootstrap"),
        ("--renew-every 60 --bootstrap-fault csr", "--renew-every and --bootstrap-fault go with --bootstrap"),
        ("--state here", "--state goes with --bootstrap or --oscore"),
        ("--cid --suite PSK_WITH_AES_128_CCM_8", "--suite and --cid go with credentials (--psk, --rpk or --cert)"),
        ("--ca ca.pem", "--ca goes with credentials"),
    ],
)
def test_options_that_say_something_about_nothing_are_refused(words: str, rule: str):
    found = run.invoke(app, ["sim", *words.split()])
    assert isinstance(found.exception, UserError)
    assert rule in str(found.exception)


@pytest.mark.parametrize("tenant", ["[/red]", "[bold]x", "x" * 200 + " y"])
def test_a_mistake_is_one_line_that_repeats_what_was_written(monkeypatch, capsys, tenant: str):
    monkeypatch.setenv("STELLWERK_TENANT", tenant)
    monkeypatch.setattr(sys, "argv", ["stellwerk", "serve"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert repr(tenant) in said


@pytest.mark.parametrize("words", ["keys show", "keys make", "backup x.tar", "credentials show dev1"])
def test_a_data_directory_of_another_user_is_one_line_that_says_so(monkeypatch, capsys, tmp_path, words: str):
    theirs = tmp_path / "theirs"
    (theirs / "keys").mkdir(parents=True)
    monkeypatch.setenv("STELLWERK_DATA_DIR", str(theirs))
    monkeypatch.setattr(sys, "argv", ["stellwerk", *words.split()])
    user = os.geteuid()
    theirs.chmod(0)
    if user == 0:
        os.seteuid(65_534)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        os.seteuid(user)
        theirs.chmod(0o700)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "run this as the user that runs the server" in said


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    """A data directory that the commands find."""
    monkeypatch.setenv("STELLWERK_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def tenants(scratch):
    """The same, with the tenants ``acme`` and ``b``, as servers have made them."""

    async def fill() -> None:
        async with open_store(load_settings(), may_make=True) as store:
            for name in ("b", "acme"):
                await store.ensure_tenant(name, 1)

    asyncio.run(fill())
    return scratch


@pytest.mark.parametrize(("words", "role"), [([], "rw"), (["--role", "r"], "r")])
def test_a_token_of_the_command_line_opens_its_tenant_to_servers_on_the_same_data(tenants, words, role):
    issued = run.invoke(app, ["token", "--tenant", "acme", *words]).stdout.strip()
    signed = SignedTokens(load_token_key(tenants), lambda: time.time_ns() // 1_000_000)
    access, _ = signed.verify(issued)
    assert (access.tenants, access.role) == ({"acme"}, role)


def test_a_token_lives_as_long_as_was_asked(tenants):
    issued = run.invoke(app, ["token", "--tenant", "acme", "--days", "2"]).stdout.strip()
    later_ms = time.time_ns() // 1_000_000 + 2 * 86_400_000 + 60_000
    signed = SignedTokens(load_token_key(tenants), lambda: later_ms)
    with pytest.raises(Unauthorized, match="expired"):
        signed.verify(issued)


@pytest.mark.parametrize("words", ["token", "client add app1", "client add app1 --tenant b"])
def test_whoever_asks_for_a_tenant_that_is_not_there_is_told_those_that_are(tenants, words: str):
    text = refusal(*words.split(), "--tenant", "NOBODY")
    assert f"no tenant 'NOBODY' in the data directory {tenants}; there is 'acme', 'b'." in text
    assert run.invoke(app, ["client", "list"]).stdout == ""
    assert not (tenants / TOKEN_KEY_FILE).exists()


def test_clients_are_made_listed_given_new_secrets_and_removed(tenants):
    first = run.invoke(
        app, ["client", "add", "app1", "--tenant", "acme", "--tenant", "b", "--role", "r"]
    ).stdout.strip()
    second = run.invoke(app, ["client", "add", "app1", "--tenant", "acme"]).stdout.strip()
    assert len(first) > 40
    assert first != second
    assert run.invoke(app, ["client", "list"]).stdout == "app1\trw\tacme\n"
    assert run.invoke(app, ["client", "remove", "app1"]).exit_code == 0
    assert run.invoke(app, ["client", "list"]).stdout == ""
    gone = run.invoke(app, ["client", "remove", "app1"])
    assert isinstance(gone.exception, UserError)
    assert "no client 'app1'" in str(gone.exception)


def test_a_client_whose_tokens_no_header_could_carry_is_not_made(tenants):
    tenants = [each for number in range(400) for each in ("--tenant", f"a-tenant-with-a-name-{number}")]
    refused = run.invoke(app, ["client", "add", "app1", *tenants])
    assert "name fewer tenants" in str(refused.exception)
    assert run.invoke(app, ["client", "list"]).stdout == ""


def test_clients_are_made_beside_a_running_server(tenants):
    lock = DirectoryLock.take(tenants)
    try:
        assert run.invoke(app, ["client", "add", "app1", "--tenant", "acme"]).exit_code == 0
    finally:
        lock.release()


def test_no_file_holds_the_secret_of_a_client(tenants):
    secret = run.invoke(app, ["client", "add", "app1", "--tenant", "acme"]).stdout.strip()
    assert all(secret.encode() not in file.read_bytes() for file in tenants.iterdir())


async def _provisioned(data_dir: Path) -> DeviceRecord | None:
    store = await SqliteStore.open(data_dir)
    try:
        tenant_id = await store.ensure_tenant("default", 1)
        if await store.device_by_name(tenant_id, "meter-1") is None:
            await store.create_device(tenant_id, NewDevice("meter-1", "urn:x:1", (), "SCS-LwM2M", (), 1))
        return await store.device_by_name(tenant_id, "meter-1")
    finally:
        await store.close()


def refusal(*words: str) -> str:
    refused = run.invoke(app, list(words))
    assert isinstance(refused.exception, UserError), refused.output
    return str(refused.exception)


def test_profiles_are_made_changed_shown_listed_and_removed(scratch):
    migrate(scratch)
    assert f"no tenant 'default' in the data directory {scratch}" in refusal("profile", "list")
    asyncio.run(_provisioned(scratch))
    made = run.invoke(app, ["profile", "set", "meters", "awake_s=10", "power_mode=psm"])
    assert made.stdout == "meters\tpower_mode=PSM awake_s=10\n"
    changed = run.invoke(app, ["profile", "set", "meters", "power_mode=", "coalesce=off", "priority=-3"])
    assert changed.stdout == "meters\tawake_s=10 priority=-3 coalesce=off\n"
    run.invoke(app, ["profile", "set", "all", "awake_s="])
    assert run.invoke(app, ["profile", "list"]).stdout == "all\t(as the server)\n" + changed.stdout
    assert run.invoke(app, ["profile", "show", "meters"]).stdout == changed.stdout
    assert run.invoke(app, ["device", "profile", "meter-1", "meters"]).exit_code == 0
    device = asyncio.run(_provisioned(scratch))
    assert device is not None
    assert device.profile == "meters"
    assert "one device has the profile 'meters' ('meter-1' for example)" in refusal("profile", "remove", "meters")
    run.invoke(app, ["device", "profile", "meter-1", "all"])
    assert run.invoke(app, ["profile", "remove", "meters"]).exit_code == 0
    assert run.invoke(app, ["profile", "list"]).stdout == "all\t(as the server)\n"


@pytest.mark.parametrize(
    "words",
    [
        *("profile list", "profile set meters awake_s=1", "device profile a b", "profile bootstrap meters --show"),
        *("credentials show a", "credentials set a --none", "bootstrap history a", "bootstrap plan a"),
        *("client list", "client add a --tenant default", "client remove a", "token --tenant default"),
        *("models list", "models export 3", "models remove 3", "models import ."),
    ],
)
def test_a_command_in_another_folder_than_the_servers_leaves_nothing_there(monkeypatch, tmp_path, words: str):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STELLWERK_DATA_DIR", "elsewhere")
    assert f"no data in the data directory {tmp_path / 'elsewhere'}" in refusal(*words.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["profile set meters awake_s=1", "client list", "token --tenant acme", "models list"])
def test_where_the_server_has_its_master_key_from_the_environment_no_command_makes_one(tenants, words: str):
    (tenants / KEY_FILE).unlink()
    assert run.invoke(app, [*words.split(), *(["--tenant", "b"] if "profile" in words else [])]).exit_code == 0
    assert not (tenants / KEY_FILE).exists()


def test_a_profile_is_refused_whole_with_what_would_be_right(scratch):
    migrate(scratch)
    asyncio.run(_provisioned(scratch))
    run.invoke(app, ["profile", "set", "meters", "awake_s=10"])
    assert "awake_s='soon': seconds" in refusal("profile", "set", "meters", "priority=5", "awake_s=soon")
    assert "'awake_s' is no setting; write name=value" in refusal("profile", "set", "meters", "awake_s")
    assert "'colour' is no setting of a profile" in refusal("profile", "set", "meters", "colour=red")
    assert "given twice" in refusal("profile", "set", "meters", "awake_s=1", "awake_s=2")
    assert "visible ASCII" in refusal("profile", "set", "me ters", "awake_s=1")
    assert run.invoke(app, ["profile", "list"]).stdout == "meters\tawake_s=10\n"


def test_what_is_not_there_is_named_with_how_to_find_what_is(scratch):
    migrate(scratch)
    asyncio.run(_provisioned(scratch))
    assert "no profile 'pumps'; `stellwerk profile set pumps awake_s=10` makes one" in refusal(
        "profile", "show", "pumps"
    )
    assert "no profile 'pumps'; `stellwerk profile list`" in refusal("profile", "remove", "pumps")
    assert "no profile 'pumps'" in refusal("device", "profile", "meter-1", "pumps")
    run.invoke(app, ["profile", "set", "pumps", "awake_s=1"])
    assert "'default' has no device 'meter-2'" in refusal("device", "profile", "meter-2", "pumps")
    assert "no tenant 'acme'" in refusal("profile", "list", "--tenant", "acme")


def test_the_simulator_speaks_oscore_as_its_options_say(monkeypatch, tmp_path):
    asked = []

    async def note(options, stop, on_summary):
        asked.append(options)

    monkeypatch.setattr("stellwerk.sim_commands.run_fleet", note)
    words = ["sim", "--count", "2", "--oscore", "{endpoint}:01{n}:00ff", "--state", str(tmp_path)]
    found = run.invoke(app, words)
    assert found.exit_code == 0, found.output
    (options,) = asked
    assert options.server == "coap://127.0.0.1:5683"
    assert options.bootstrap == Commissioning(BootstrapOptions("", is_bootstrap=False), tmp_path)
    assert options.oscore("sim-2", 2) == OscoreValues(b"\x00\xff", b"sim-2", b"\x01\x00\x02")
    assert run.invoke(app, ["sim", "--bootstrap", "--oscore", "01:02:00ff"]).exit_code == 0
    assert asked[1].bootstrap.template.is_bootstrap
    assert run.invoke(app, [*words, "--psk", "{n}:00", "--resume", "id"]).exit_code == 2
