"""`stellwerk keys rotate-master`: another master key for what is sealed in the database."""

from pathlib import Path
from typing import Annotated

import typer

from stellwerk.config import Settings, load_settings
from stellwerk.core.errors import UserError
from stellwerk.storage.lock import DirectoryLock
from stellwerk.storage.migrations import DECIDING_FILE, migrate
from stellwerk.storage.resealing import Resealed, is_all_current, reseal
from stellwerk.storage.vault import KEY_FILE, KEY_SETTING, OLD_KEYS_SETTING, Vault, put_new_key, read_keys


class NothingToRotate(UserError):
    """There is no key to exchange, or nobody said what comes in its place; the text says what to do."""


def rotate_master(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")] = None,
) -> None:
    """Exchange the master key and seal every stored secret anew. The server has to be stopped."""
    for line in rotate(load_settings(config)):
        typer.echo(line)


def rotate(settings: Settings) -> list[str]:
    """A new key in the key file, or the one of the setting; then everything is sealed with it. Run again after a crash,
    it ends what was begun. Returns what was done, for people. Raises `DataDirInUse` beside a server: it would go on to
    seal with the key it knows; and `NothingToRotate`, `MasterKeyUnusable`."""
    data_dir, file = settings.data_dir, settings.data_dir / KEY_FILE
    if not (data_dir / DECIDING_FILE).exists():
        raise NothingToRotate(
            f"there is no database in {data_dir.absolute()}; name the server's directory in STELLWERK_DATA_DIR"
        )
    lock = DirectoryLock.take(data_dir)
    try:
        migrate(data_dir)
        if not settings.master_key and not file.exists():
            raise NothingToRotate(
                f"there is no {KEY_FILE} in {data_dir.absolute()}; where the server has its key from {KEY_SETTING}, "
                f"set that to the new key and {OLD_KEYS_SETTING} to the former one"
            )
        vault = _load(settings)
        current = is_all_current(data_dir, vault)
        if settings.master_key:
            if current:
                raise NothingToRotate(
                    f"everything is sealed with the key in {KEY_SETTING} already; to exchange it, put the new key "
                    f"there and the former one into {OLD_KEYS_SETTING}"
                )
            return _say(reseal(data_dir, vault), settings)
        if not current and len(read_keys(file)) > 1:
            ended = reseal(data_dir, vault)
            # What no key opens is not the rest of a rotation.
            if ended.sealed:
                return ["a rotation that was begun is ended", *_say(ended, settings)]
        put_new_key(file)
        return _say(reseal(data_dir, _load(settings)), settings)
    finally:
        lock.release()


def _load(settings: Settings) -> Vault:
    return Vault.load(settings.data_dir, settings.master_key or None, settings.master_key_old)


def _say(done: Resealed, settings: Settings) -> list[str]:
    lines = [f"{done.sealed} secrets are sealed with the new master key"]
    if done.unreadable_count:
        more = ", ..." if done.unreadable_count > len(done.unreadable) else ""
        lines.append(
            f"{done.unreadable_count} could be opened with no key there is and stay as they are: "
            f"{', '.join(done.unreadable)}{more}"
        )
    if settings.master_key:
        lines.append(f"{OLD_KEYS_SETTING} can be unset; a backup from before needs the former key")
    else:
        file = settings.data_dir / KEY_FILE
        lines.append(
            f"{file} has the new key; the former one stays on its second line until the next rotation: a backup from "
            "before needs it"
        )
    return lines
