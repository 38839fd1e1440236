"""The key that signs bearer tokens, and what follows from it: a file in the data directory, made by whoever needs it
first."""

import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stellwerk.core.errors import UserError

TOKEN_KEY_FILE: Final = "token.key"
KEY_BYTES: Final = 32


@dataclass
class TokenKeyUnusable(UserError):
    """``file`` cannot be made or read, or holds something else; ``reason`` says which."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return (
            f"cannot use the key of bearer tokens {self.file.absolute()}: {self.reason}; make it readable for this "
            "user, or remove it: a new one is made, and tokens signed by the old one are good for nothing"
        )


def load_token_key(data_dir: Path) -> bytes:
    """The key of this data directory; made, with the directory, where there is none. A server and commands beside it
    may ask at the same moment: all get the same one. Raises `TokenKeyUnusable`."""
    file = data_dir / TOKEN_KEY_FILE
    try:
        try:
            key = file.read_bytes()
        except FileNotFoundError:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(file)
            key = file.read_bytes()
    except OSError as error:
        raise TokenKeyUnusable(file, error.strerror or str(error)) from error
    if len(key) != KEY_BYTES:
        raise TokenKeyUnusable(file, f"it has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def ticket_secret(data_dir: Path) -> tuple[bytes, bytes]:
    """Name (16 bytes) and key (32 bytes) of the tickets of secure sessions; they follow from the key of tokens, so that
    tickets outlive a restart. Raises `TokenKeyUnusable`."""
    key = load_token_key(data_dir)
    name, secret = (hmac.digest(key, text, "sha256") for text in (b"dtls ticket name", b"dtls ticket key"))
    return name[:16], secret


def session_id_secret(data_dir: Path) -> bytes:
    """32 bytes that the ids of secure sessions are checked with; they follow from the key of tokens, as the sessions
    outlive a restart. Raises `TokenKeyUnusable`."""
    return hmac.digest(load_token_key(data_dir), b"dtls session id", "sha256")


def _make(file: Path) -> None:
    """Whole or not at all, and the first one stays."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, secrets.token_bytes(KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
