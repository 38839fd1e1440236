"""`stellwerk bootstrap` and `stellwerk profile bootstrap`: what devices are given when they bootstrap, and how that
went. Works beside a running server, which takes another configuration up with the next device."""

import asyncio
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from stellwerk.access import device_named, is_served, open_store, tenant_named
from stellwerk.app.bootstrap_accounts import BootstrapAccounts
from stellwerk.app.bootstrap_sight import preview
from stellwerk.app.fresh_keys import FreshKeys
from stellwerk.app.members import Twice, once
from stellwerk.app.ports import BOOTSTRAP_SESSIONS_KEPT
from stellwerk.bootstrap_server import own_material
from stellwerk.config import Settings, load_settings
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.configuration import (
    NO_BOOTSTRAP,
    BootstrapConfiguration,
    check_new,
    ignored_members,
    parse_bootstrap,
)
from stellwerk.device.bootstrap.configuration import render_bootstrap as render
from stellwerk.device.bootstrap.discovered import Discovered, decode_discovered
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, StepRecord
from stellwerk.device.profile import Profile, ProfileRecord, check_name
from stellwerk.key_files import KeyFolder
from stellwerk.logs import configure_logs
from stellwerk.lwm2m.bootstrap import PctUnsupported
from stellwerk.lwm2m.link_format import LinkFormatError
from stellwerk.lwm2m.status import dotted
from stellwerk.net.clock import SystemClock

LONGEST: Final = 1 << 20
"""Bytes of a file."""
_VERSION: Final = re.compile(r"1\.[0-9]")

bootstrap = typer.Typer(
    no_args_is_help=True,
    help="What a device is given when it bootstraps, and how it went. What a profile gives is set with `stellwerk "
    "profile bootstrap`, the keys of a device with `stellwerk credentials set --record`.",
)

_Device = Annotated[str, typer.Argument(help="The device's name, as it was provisioned.", metavar="DEVICE")]
_Tenant = Annotated[str | None, typer.Option(help="Whose; the configured one unless given.")]
_Config = Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")]


class BadOption(UserError):
    """What the command line says cannot be done; the text names the option."""


def profile_bootstrap(
    name: Annotated[str, typer.Argument(help="The profile's name; it is made if there is none.")],
    file: Annotated[
        str | None, typer.Option(help="What it says from now on, in JSON; - for standard input.", metavar="FILE")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what it says, in JSON.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Nothing: its devices are not bootstrapped.")] = False,
    tenant: _Tenant = None,
    config: _Config = None,
) -> None:
    """Say what a profile's devices are given when they bootstrap: {"bootstrap": [...], "bootstrapServerUpdateEnable":
    ..., "acls": [...]}."""
    if (file is not None) + show + clear != 1:
        raise BadOption("say one of --file, --show or --clear")
    settings = _settings(config)
    wanted = None if show else NO_BOOTSTRAP if file is None else _configuration(file)
    found = asyncio.run(_profile_bootstrap(settings, tenant or settings.tenant, name, wanted))
    if show:
        typer.echo(json.dumps(render(found), indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{name}\t{describe(found)}")


@bootstrap.command("plan")
def bootstrap_plan(
    device: _Device,
    discovered: Annotated[
        str | None,
        typer.Option(
            help="What the device holds, as it answers Bootstrap-Discover, in link format; - for standard input. "
            "Unless given, as if it could not be asked.",
            metavar="FILE",
        ),
    ] = None,
    pct: Annotated[int | None, typer.Option(help="The Content-Format that it prefers, as 11542.")] = None,
    lwm2m_version: Annotated[str | None, typer.Option(help="Its version of LwM2M, as 1.1.")] = None,
    transport: Annotated[
        str | None, typer.Option(help="How it comes, udp or tcp; as it is registered unless given, else udp.")
    ] = None,
    tenant: _Tenant = None,
    config: _Config = None,
) -> None:
    """Print what would be written to a device, secrets withheld; nothing is sent or changed."""
    if lwm2m_version is not None and not _VERSION.fullmatch(lwm2m_version):
        raise BadOption("--lwm2m-version: it is a version as 1.0, 1.1 or 1.2")
    if transport not in (None, "udp", "tcp"):
        raise BadOption("--transport: it is udp or tcp, with DTLS and TLS alike")
    settings = _settings(config)
    held = None if discovered is None else _held(discovered)
    typer.echo(asyncio.run(_plan(settings, tenant or settings.tenant, device, held, pct, lwm2m_version, transport)))


@bootstrap.command("history")
def bootstrap_history(
    device: _Device,
    steps: Annotated[bool, typer.Option("--steps", help="With each step of each session.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=BOOTSTRAP_SESSIONS_KEPT, help="How many at most.")] = 10,
    tenant: _Tenant = None,
    config: _Config = None,
) -> None:
    """Print a device's bootstrap sessions, the newest first."""
    settings = _settings(config)
    found = asyncio.run(_history(settings, tenant or settings.tenant, device, limit))
    if not found:
        typer.echo(f"device {device!r} has not asked to be bootstrapped")
    for each in found:
        typer.echo(session_line(each))
        for step in each.steps if steps else ():
            typer.echo(f"  {step_line(step)}")
    if any(each.state is BootstrapState.RUNNING for each in found) and not is_served(settings):
        say = "no server works here: what is called running was interrupted, and is named so when the server starts"
        typer.echo(f"warning: {say}", err=True)


def describe(configuration: BootstrapConfiguration) -> str:
    """One line."""
    if not configuration:
        return "its devices are not bootstrapped"
    names = ["bootstrap server" if each.is_bootstrap else f"server {each.short_id}" for each in configuration.servers]
    acls = f"; {len(configuration.acls)} access control instances" if configuration.acls else ""
    return ", ".join(names) + acls


def session_line(session: BootstrapSession) -> str:
    """When it began, how it stands or ended, who began it, as whom and from where, how many steps it took."""
    took = f" after {(session.ended_ms - session.started_ms) / 1000:.1f} s" if session.ended_ms else ""
    return "\t".join(
        (
            _time(session.started_ms),
            f"{session.state.value}{took}{f' ({session.why})' if session.why else ''}",
            f"{session.trigger.value}, {session.endpoint_name} from {session.peer}",
            f"{len(session.steps)} steps",
        )
    )


def step_line(step: StepRecord) -> str:
    """What was asked and what came of it."""
    outcome = dotted(step.status) if step.status else step.failure
    if not outcome and step.operation.startswith("Bootstrap-"):
        outcome = "no answer yet"
    more = "; ".join(filter(None, (step.summary, step.detail)))
    return f"{_time(step.at_ms)}  {step.operation} {step.path}  {outcome}{f'  {more}' if more else ''}"


# -- parts --


async def _profile_bootstrap(
    settings: Settings, tenant: str, name: str, wanted: BootstrapConfiguration | None
) -> BootstrapConfiguration:
    """As it is then; ``wanted`` None: as it is."""
    check_name(name)
    async with open_store(settings) as store:
        tenant_id = await tenant_named(settings, store, tenant)
        record = await store.profile(tenant_id, name)
        no_such_profile = UserError(f"there is no profile {name!r}; `stellwerk profile list` names them")
        if wanted is None:
            if record is None:
                raise no_such_profile
            return record.bootstrap
        if record is None and not wanted:
            raise no_such_profile
        now_ms = SystemClock().wall_ms()
        if record is None:
            record = ProfileRecord(tenant_id, name, Profile(), now_ms, now_ms)
        await store.put_profile(replace(record, modified_ms=now_ms, bootstrap=wanted))
        return wanted


async def _plan(
    settings: Settings,
    tenant: str,
    name: str,
    held: Discovered | None,
    pct: int | None,
    version: str | None,
    transport: str | None,
) -> str:
    folder = KeyFolder(settings.data_dir)
    async with open_store(settings, has_secrets=True) as store:
        device = await device_named(settings, store, tenant, name)
        accounts = BootstrapAccounts(store, own_material(folder, None, None), FreshKeys(folder.certify))
        try:
            if not await accounts.configuration_of(device):
                return (
                    f"Nothing would be written: the device's profile {device.profile!r} says nothing of bootstrapping; "
                    "`stellwerk profile bootstrap` changes it, `stellwerk device profile` gives the device another"
                )
            dry_run = await preview(store, accounts, device, held, pct=pct, version=version, transport=transport or "")
            return str(dry_run)
        except PctUnsupported as error:
            raise BadOption(f"--pct: {error}") from None


async def _history(settings: Settings, tenant: str, name: str, limit: int) -> list[BootstrapSession]:
    async with open_store(settings) as store:
        device = await device_named(settings, store, tenant, name)
        found = await store.bootstrap_sessions(device.device_id, limit)
        is_running = BootstrapState.RUNNING
        return [await store.known_bootstrap_session(each) if each.state is is_running else each for each in found]


def _configuration(file: str) -> BootstrapConfiguration:
    content = _read(file, "--file")
    if not content.strip():
        raise BadOption(f"--file {file}: it is empty")
    try:
        value: Any = json.loads(content, object_pairs_hook=once)
    except Twice as error:
        raise BadOption(f"--file {file}: {error.name} is given twice in one object") from None
    except (ValueError, RecursionError) as error:
        place = f" in line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadOption(f"--file {file}: it is no JSON{place}") from None
    found = parse_bootstrap(value)
    check_new(found)
    if "bootstrap" not in value:
        # Over HTTP what is missing is an empty list; here it is a slip of the pen, and there is --clear.
        raise BadOption(f"--file {file}: it has no member bootstrap, the list of servers; --clear empties that")
    for name in ignored_members(value):
        typer.echo(f"warning: {name} means nothing here and is left out", err=True)
    return found


def _held(file: str) -> Discovered:
    try:
        return decode_discovered(_read(file, "--discovered"))
    except LinkFormatError as error:
        raise BadOption(f"--discovered {file}: {error}") from None


def _read(name: str, option: str) -> bytes:
    try:
        if name == "-":
            content = sys.stdin.buffer.read(LONGEST + 1)
        else:
            with Path(name).open("rb") as reading:
                content = reading.read(LONGEST + 1)
    except OSError as error:
        raise BadOption(f"{option} {name}: {error.strerror or error}") from None
    if len(content) > LONGEST:
        raise BadOption(f"{option} {name}: it is larger than {LONGEST} bytes")
    return content


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logs(settings.log_level, settings.log_format)
    return settings
