"""`stellwerk backup` and `stellwerk restore`: what the command line does about copies of a data directory."""

import time
from pathlib import Path
from typing import Annotated

import typer

from stellwerk import __version__
from stellwerk.config import load_settings
from stellwerk.net.clock import SystemClock
from stellwerk.storage.backup import make_backup
from stellwerk.storage.restore import restore_backup
from stellwerk.storage.vault import KEY_FILE, KEY_SETTING

_Config = Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")]


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The tar file to write. It holds every secret of the server.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    config: _Config = None,
) -> None:
    """Write databases, keys and certificates to one file. Works beside a running server and without one."""
    settings = load_settings(config)
    contents = make_backup(settings.data_dir, file, __version__, SystemClock().wall_ms(), replace=force)
    typer.echo(f"{file}: {len(contents.files)} files, {contents.size} bytes")
    typer.echo("It holds keys: keep it as secret as the data directory")
    if KEY_FILE not in contents.files:
        typer.echo(f"The master key is not in it: keep what {KEY_SETTING} says, without it no device key can be read")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup that `stellwerk backup` made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Set aside what is in the data directory, where it is not empty.")
    ] = False,
    config: _Config = None,
) -> None:
    """Put a backup into the data directory. The server has to be stopped."""
    settings = load_settings(config)
    restored = restore_backup(settings.data_dir, file, SystemClock().wall_ms(), replace=replace)
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(restored.contents.made_ms / 1000))
    typer.echo(f"{settings.data_dir} is as it was at {made}; secure devices make new handshakes")
    if restored.set_aside is not None:
        typer.echo(f"what was there before is in {restored.set_aside}")
