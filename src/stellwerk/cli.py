"""The command line."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from stellwerk import __version__
from stellwerk.access import add_client, issue_token, list_clients, remove_client
from stellwerk.backup_commands import backup, restore
from stellwerk.bootstrap_commands import bootstrap, profile_bootstrap
from stellwerk.config import Settings, load_settings
from stellwerk.core.errors import UserError
from stellwerk.credential_commands import credentials
from stellwerk.demo import run_demo
from stellwerk.device.profile import SETTINGS
from stellwerk.key_commands import keys
from stellwerk.logs import configure_logs
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.models import models
from stellwerk.profile_commands import (
    describe,
    give_profile,
    list_profiles,
    remove_profile,
    set_profile,
    show_profile,
)
from stellwerk.sim.bootstrap.faults import StepFaultKind
from stellwerk.sim.bootstrap.options import Mode
from stellwerk.sim.bootstrap.written import parse_commissioning
from stellwerk.sim.faults import Fault, FaultKind, InvalidFault
from stellwerk.sim.fleet import Behaviour, FleetOptions, run_fleet
from stellwerk.sim.gateway import VERSIONS as GATEWAY_VERSIONS
from stellwerk.sim.impairment import Conditions
from stellwerk.sim.key_files import Sources, read_certificates, read_public_key
from stellwerk.sim.options import Composites, DeviceOptions
from stellwerk.sim.release import RELEASES
from stellwerk.sim.security import LONGEST_CID, AfterHandshake, Resume, Security, parse_suites
from stellwerk.sim.written import (
    parse_binding,
    parse_formats,
    parse_profile,
    parse_rights,
    parse_root,
    parse_send_format,
)
from stellwerk.vault_commands import rotate_master
from stellwerk.wiring import Server, run

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help="LwM2M devices, served."
)
_say = Console(stderr=True, highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stellwerk {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point. What a user can mend is one line on standard error and exit status 2."""
    try:
        app()
    except (UserError, PermissionError) as error:
        text = str(error)
        if isinstance(error, PermissionError):
            if error.filename is None:
                raise
            # Somebody else's data directory, which is closed to all others.
            text = f"{error.filename}: {error.strerror}; run this as the user that runs the server"
        # What the user wrote may look like markup; and one line stays one line, however narrow the terminal.
        _say.print(f"[red]stellwerk:[/red] {escape(text)}", soft_wrap=True)
        raise SystemExit(2) from None


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """LwM2M devices, served."""


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")] = None,
) -> None:
    """Serve devices and applications: all roles in one process."""
    settings = _settings(config)

    async def work(stop: asyncio.Event) -> None:
        await run(Server(settings), stop)

    _run(work)


@app.command()
def demo(
    http_port: Annotated[int, typer.Option(help="Port of the HTTP API; 0: any free one.", min=0, max=65535)] = 8080,
    coap_port: Annotated[int, typer.Option(help="Port of CoAP; 0: any free one.", min=0, max=65535)] = 5683,
    coaps_port: Annotated[
        int | None,
        typer.Option(help="Port of CoAP over DTLS; the one after --coap-port, 0: any free one.", min=0, max=65535),
    ] = None,
    devices: Annotated[int, typer.Option(help="How many simulated devices live.", min=1, max=500)] = 6,
) -> None:
    """Serve on a scratch directory with simulated devices that live; bearer token `demo`, loopback only."""
    configure_logs("info", "console")

    async def work(stop: asyncio.Event) -> None:
        await run_demo(http_port, coap_port, devices, stop, _say, coaps_port)

    _run(work)


_BOOTSTRAP = "Bootstrapping (with --bootstrap)"


@app.command()
def sim(
    server: Annotated[
        str,
        typer.Option(
            help="Where to register: coap://HOST:PORT, coaps://HOST:PORT or coap+tcp://HOST:PORT. "
            "[default: coap://127.0.0.1:5683, with --bootstrap port 5687]",
            show_default=False,
        ),
    ] = "",
    count: Annotated[int, typer.Option(help="How many devices.", min=1, max=100_000)] = 1,
    prefix: Annotated[str, typer.Option(help="Endpoint names are PREFIX1, PREFIX2, ...")] = "sim-",
    second_server: Annotated[
        list[str] | None, typer.Option(help="Where to register too: coap://HOST:PORT; may be repeated.")
    ] = None,
    lwm2m_version: Annotated[
        str, typer.Option("--lwm2m", "--lwm2m-version", help="Release of LwM2M: 1.0, 1.1 or 1.2.")
    ] = "1.1",
    formats: Annotated[
        str, typer.Option(help="The content formats it has, like 110,112; all where none is said.")
    ] = "",
    composites: Annotated[
        Composites, typer.Option(help="What becomes of operations on several paths at once.")
    ] = Composites.ON,
    binding: Annotated[str, typer.Option(help="What is registered as binding, like U or UT.")] = "U",
    root: Annotated[str, typer.Option(help="The alternate path before all objects, like /lwm2m.")] = "",
    pid: Annotated[
        str, typer.Option(help="A profile instead of the object list, like 6:27354b9a or 6:27354b9a=/1/0,/3/0.")
    ] = "",
    objects: Annotated[
        list[int] | None,
        typer.Option("--object", help="The objects that it has besides 1 and 3; may be repeated. Else the usual ones."),
    ] = None,
    ets: Annotated[bool, typer.Option("--ets", help="The values of OMA's test specification, standing still.")] = False,
    acl: Annotated[
        list[str] | None, typer.Option(help="What the server may do somewhere, like /3/0:1; may be repeated.")
    ] = None,
    gateway: Annotated[int, typer.Option(help="How many end devices are behind each.", min=0, max=1000)] = 0,
    gateway_version: Annotated[str, typer.Option(help="Version of object 25: 1.0 or 2.0.")] = "2.0",
    gateway_leave_every: Annotated[
        float, typer.Option(help="Seconds after which an end device goes and another comes; 0: they stay.", min=0)
    ] = 0,
    behaviour: Annotated[
        list[Behaviour] | None,
        typer.Option(help="What the first device is, the second and so on; the last one counts for the rest."),
    ] = None,
    lifetime: Annotated[
        int | None,
        typer.Option(help="Seconds of a registration; 300, with --ets 86400.", min=1, max=2**31 - 1),
    ] = None,
    update_every: Annotated[
        float, typer.Option(help="Seconds between Updates; 0: 80 % of the lifetime, 60 for sleepers.", min=0)
    ] = 0,
    sample_every: Annotated[float, typer.Option(help="Seconds between looks at observed values.", min=0.1)] = 10,
    send_every: Annotated[float, typer.Option(help="Seconds between Sends of a device; 0: none.", min=0)] = 0,
    send_format: Annotated[
        int | None, typer.Option(help="Content format of a Send: 110, 112, or in 1.2 11544.", show_default="112")
    ] = None,
    mute: Annotated[bool, typer.Option("--mute", help="No Send until the server unmutes it.")] = False,
    queue_mode: Annotated[bool, typer.Option("--queue-mode", help="All devices sleep between their messages.")] = False,
    awake: Annotated[float, typer.Option(help="Seconds that a sleeper listens after its last message.", min=0.1)] = 10,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="What goes wrong, as silence:20%, late:5s, refuse:4.04@/3/0/9, reboot:60s; may be repeated. "
            f"Kinds: {', '.join(each.value for each in FaultKind)}."
        ),
    ] = None,
    move_every: Annotated[
        float,
        typer.Option(help="Seconds after which a device speaks from another port, as behind a NAT; 0: never.", min=0),
    ] = 0,
    psk: Annotated[
        str, typer.Option(help="Secure: pre-shared key, IDENTITY:HEXKEY; {endpoint} or {n} in it for several devices.")
    ] = "",
    psk_file: Annotated[
        Path | None, typer.Option(help="Secure: lines of ENDPOINT IDENTITY HEXKEY, one for each device.")
    ] = None,
    rpk: Annotated[
        Path | None, typer.Option(help="Secure: raw public key; file with the private key, or folder of ENDPOINT.key.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(help="Secure: certificate, or folder of ENDPOINT.crt and ENDPOINT.key.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The private key that goes with --cert.")] = None,
    issuer: Annotated[
        Path | None, typer.Option(help="Secure: authority that issues a certificate to each device, with --issuer-key.")
    ] = None,
    issuer_key: Annotated[Path | None, typer.Option(help="The private key that goes with --issuer.")] = None,
    server_key: Annotated[
        Path | None, typer.Option(help="The server's public key; another one is refused. Else any is taken.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Certificates that the server's must lead to. Else any is taken.")
    ] = None,
    suites: Annotated[
        list[str] | None, typer.Option("--suite", help="Cipher suite, like PSK_WITH_AES_128_CCM_8; may be repeated.")
    ] = None,
    cid: Annotated[bool, typer.Option("--cid", help="Use a connection ID of the server's, and want none.")] = False,
    cid_length: Annotated[
        int | None, typer.Option(help="Want a connection ID of so many bytes, too.", min=0, max=LONGEST_CID)
    ] = None,
    resume: Annotated[
        Resume | None, typer.Option(help="Go on from the earlier session after sleep, reboot or loss, by id or ticket.")
    ] = None,
    after_handshake: Annotated[
        AfterHandshake, typer.Option(help="What a registered device does after a full handshake.")
    ] = AfterHandshake.REGISTER,
    handshake_timeout: Annotated[
        float, typer.Option(help="Seconds after which a handshake has failed.", min=0.1, max=3600)
    ] = 90,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="The server is a bootstrap server, and names those to register with.")
    ] = False,
    bootstrap_mode: Annotated[
        Mode, typer.Option(help="Who begins a bootstrap, and with what.", rich_help_panel=_BOOTSTRAP)
    ] = Mode.CLIENT,
    bootstrap_instance: Annotated[
        int,
        typer.Option(
            help="Instance of object 0 for the bootstrap server.", min=0, max=65534, rich_help_panel=_BOOTSTRAP
        ),
    ] = 0,
    hold_off: Annotated[
        int, typer.Option(help="Seconds before it asks.", min=0, max=86_400, rich_help_panel=_BOOTSTRAP)
    ] = 0,
    account_timeout: Annotated[
        int,
        typer.Option(
            help="Seconds after which it forgets the bootstrap server; 0: never.", min=0, rich_help_panel=_BOOTSTRAP
        ),
    ] = 0,
    pct: Annotated[
        str, typer.Option(help="Preferred content format: a number, or none.", rich_help_panel=_BOOTSTRAP)
    ] = "",
    pack_format: Annotated[
        int, typer.Option(help="Content format of a pack: 110, 112 or 11544.", rich_help_panel=_BOOTSTRAP)
    ] = 112,
    factory_server: Annotated[
        str, typer.Option(help="Register here first: coap://HOST:PORT.", rich_help_panel=_BOOTSTRAP)
    ] = "",
    bootstrap_fault: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What goes wrong, as silence@finish, refuse:4.00:once@write, again@2; may be repeated. "
            f"Kinds: {', '.join(each.value for each in StepFaultKind)}.",
            rich_help_panel=_BOOTSTRAP,
        ),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder where devices keep what they were given.", rich_help_panel=_BOOTSTRAP)
    ] = None,
    loss: Annotated[str, typer.Option(help="Share of datagrams lost each way, like 5%.")] = "0%",
    duplicates: Annotated[str, typer.Option(help="Share of datagrams that come twice, each way, like 5%.")] = "0%",
    seed: Annotated[int, typer.Option(help="The same seed gives the same values, faults and losses.")] = 1,
) -> None:
    """Simulated LwM2M clients against any server. End with Ctrl-C: they de-register."""
    configure_logs("info", "console")
    if lwm2m_version not in RELEASES:
        raise typer.BadParameter(f"LwM2M {lwm2m_version!r} is not simulated; one of {', '.join(RELEASES)}")
    if gateway_version not in GATEWAY_VERSIONS:
        raise typer.BadParameter(f"object 25 has no version {gateway_version!r}; one of {', '.join(GATEWAY_VERSIONS)}")
    faults = [_fault(each) for each in fault or ()]
    if move_every:
        faults.append(Fault(FaultKind.MOVE, seconds=move_every))
    keyring = Sources(psk, psk_file, rpk, cert, issuer, key, issuer_key).keyring(count)
    security = None
    if keyring is not None:
        security = Security(
            keyring,
            server_key=read_public_key(server_key, "--server-key") if server_key is not None else b"",
            anchors=read_certificates(ca, "--ca") if ca is not None else (),
            suites=parse_suites(suites or []),
            cid_length=cid_length if cid_length is not None else 0 if cid else None,
            resume=resume,
            after_handshake=after_handshake,
            handshake_s=handshake_timeout,
        )
    release = RELEASES[lwm2m_version]
    profile, covered = parse_profile(pid)
    commissioning = None
    if bootstrap:
        commissioning = parse_commissioning(
            release=release,
            mode=bootstrap_mode,
            instance=bootstrap_instance,
            hold_off_s=hold_off,
            account_timeout_s=account_timeout,
            pct=pct,
            pack_format=pack_format,
            factory_server=factory_server,
            faults=bootstrap_fault or (),
            state=state,
        )
    template = DeviceOptions(
        "",
        other_server_uris=tuple(second_server or ()),
        formats=parse_formats(formats, release),
        composites=composites,
        binding=parse_binding(binding, release),
        root=parse_root(root),
        profile_id=profile,
        profile_covers=covered,
        object_ids=frozenset(objects) if objects else None,
        ets=ets,
        access_rights=parse_rights(acl or ()),
        end_devices=gateway,
        gateway_version=gateway_version,
        end_devices_leave_every_s=gateway_leave_every or None,
        send_format=ContentFormat.SENML_CBOR if send_format is None else parse_send_format(send_format, release),
        muted=mute,
    )
    options = FleetOptions(
        template=template,
        server=server or f"coap://127.0.0.1:{5687 if bootstrap else 5683}",
        count=count,
        prefix=prefix,
        lwm2m_version=lwm2m_version,
        lifetime_s=lifetime or (86_400 if ets else 300),
        update_every_s=update_every or None,
        sample_every_s=sample_every,
        send_every_s=send_every or None,
        queue_mode=queue_mode,
        awake_s=awake,
        behaviours=tuple(behaviour or (Behaviour.MOVING,)),
        faults=tuple(faults),
        security=security,
        bootstrap=commissioning,
        conditions=Conditions(loss=_share(loss), duplication=_share(duplicates)),
        seed=seed,
    )

    async def work(stop: asyncio.Event) -> None:
        await run_fleet(options, stop, on_summary=lambda summary: _say.print(str(summary), soft_wrap=True))

    _run(work)


def _fault(text: str) -> Fault:
    """Raises `typer.BadParameter`."""
    try:
        return Fault.parse(text)
    except InvalidFault as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def token(
    tenant: Annotated[str, typer.Option(help="What the token opens.")],
    role: Annotated[Literal["rw", "r"], typer.Option(help="rw: read and write; r: read.")] = "rw",
    days: Annotated[float, typer.Option(help="How long it is good for.", min=0.001, max=3650)] = 365,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")] = None,
) -> None:
    """Print a bearer token for scripts. Works beside a running server and without one."""
    settings = _settings(config)
    issued = issue_token(settings, tenant, role, int(days * 86_400))
    typer.echo(issued)


app.command()(backup)
app.command()(restore)
client = typer.Typer(
    no_args_is_help=True,
    help="Programs that fetch bearer tokens with an id and a secret. Works beside a running server.",
)
app.add_typer(client, name="client")


@client.command("add")
def client_add(
    client_id: Annotated[str, typer.Argument(help="The client's id.")],
    tenant: Annotated[list[str], typer.Option(help="What it may open; may be given more than once.")],
    role: Annotated[Literal["rw", "r"], typer.Option(help="rw: read and write; r: read.")] = "rw",
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")] = None,
) -> None:
    """Make a client, or give one a new secret, and print the secret."""
    settings = _settings(config)
    typer.echo(asyncio.run(add_client(settings, client_id, tuple(tenant), role)))


@client.command("list")
def client_list(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")] = None,
) -> None:
    """List the clients: id, role, tenants."""
    for each in asyncio.run(list_clients(_settings(config))):
        typer.echo(f"{each.client_id}\t{each.role}\t{','.join(each.tenants)}")


@client.command("remove")
def client_remove(
    client_id: Annotated[str, typer.Argument(help="The client's id.")],
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")] = None,
) -> None:
    """Remove a client. Tokens it fetched stay good for five minutes at most."""
    if not asyncio.run(remove_client(_settings(config), client_id)):
        raise UserError(f"there is no client {client_id!r}; `stellwerk client list` names them")


app.add_typer(models, name="models")
app.add_typer(credentials, name="credentials")
app.add_typer(bootstrap, name="bootstrap")
app.add_typer(keys, name="keys")
keys.command("rotate-master")(rotate_master)
profile = typer.Typer(
    no_args_is_help=True,
    help="Profiles: what devices of one kind have in common, as when they listen. A running server takes changes up "
    "within seconds.",
)
app.add_typer(profile, name="profile")
_Config = Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")]
_Tenant = Annotated[str | None, typer.Option(help="Whose; the configured one unless given.")]


profile.command("bootstrap")(profile_bootstrap)


@profile.command("list")
def profile_list(tenant: _Tenant = None, config: _Config = None) -> None:
    """List the profiles with what each says."""
    settings = _settings(config)
    for each in asyncio.run(list_profiles(settings, tenant or settings.tenant)):
        typer.echo(describe(each))


@profile.command("show")
def profile_show(
    name: Annotated[str, typer.Argument(help="The profile's name.")], tenant: _Tenant = None, config: _Config = None
) -> None:
    """Show what a profile says."""
    settings = _settings(config)
    typer.echo(describe(asyncio.run(show_profile(settings, tenant or settings.tenant, name))))


@profile.command("set")
def profile_set(
    name: Annotated[str, typer.Argument(help="The profile's name; it is made if there is none.")],
    setting: Annotated[
        list[str], typer.Argument(help=f"name=value, empty for what the server says. Names: {', '.join(SETTINGS)}.")
    ],
    tenant: _Tenant = None,
    config: _Config = None,
) -> None:
    """Make a profile, or change some of its settings."""
    settings = _settings(config)
    typer.echo(describe(asyncio.run(set_profile(settings, tenant or settings.tenant, name, setting))))


@profile.command("remove")
def profile_remove(
    name: Annotated[str, typer.Argument(help="The profile's name.")], tenant: _Tenant = None, config: _Config = None
) -> None:
    """Remove a profile that no device has."""
    settings = _settings(config)
    asyncio.run(remove_profile(settings, tenant or settings.tenant, name))


device = typer.Typer(no_args_is_help=True, help="Devices that are provisioned. Works beside a running server.")
app.add_typer(device, name="device")


@device.command("profile")
def device_profile(
    name: Annotated[str, typer.Argument(help="The device's name.")],
    profile: Annotated[str, typer.Argument(help="The profile that it gets.")],
    tenant: _Tenant = None,
    config: _Config = None,
) -> None:
    """Give a device another profile."""
    settings = _settings(config)
    asyncio.run(give_profile(settings, tenant or settings.tenant, name, profile))


def _share(text: str) -> float:
    """``5%`` or ``0.05`` as a share. Raises `typer.BadParameter`."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r} is no share; write it like 5% or 0.05")
    return share


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logs(settings.log_level, settings.log_format)
    return settings


def _run(work: Any) -> None:
    """Run ``work(stop)`` on uvloop; SIGTERM and SIGINT set ``stop``."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        job: Coroutine[Any, Any, None] = work(stop)
        await job

    uvloop.run(main())
