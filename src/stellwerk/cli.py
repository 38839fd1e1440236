"""The command line."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
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
from stellwerk.models import models
from stellwerk.option_errors import Commands
from stellwerk.profile_commands import (
    describe,
    give_profile,
    list_profiles,
    remove_profile,
    set_profile,
    show_profile,
)
from stellwerk.signals import run_until_signal
from stellwerk.sim_commands import sim
from stellwerk.vault_commands import rotate_master
from stellwerk.wiring import Server, run

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="LwM2M devices, served.",
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

    run_until_signal(work)


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

    run_until_signal(work)


app.command()(sim)


@app.command()
def token(
    tenant: Annotated[str, typer.Option(help="What the token opens.")],
    role: Annotated[Literal["rw", "r"], typer.Option(help="rw: read and write; r: read.")] = "rw",
    days: Annotated[float, typer.Option(help="How long it is good for.", min=0.001, max=3650)] = 365,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")] = None,
) -> None:
    """Print a bearer token for scripts. Works beside a running server and without one."""
    settings = _settings(config)
    typer.echo(asyncio.run(issue_token(settings, tenant, role, int(days * 86_400))))


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


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logs(settings.log_level, settings.log_format)
    return settings
