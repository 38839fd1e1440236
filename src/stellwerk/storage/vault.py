"""Secrets at rest: sealed with AES-256-GCM under one master key that never lies in the database (design §2, §7)."""

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stellwerk.core.errors import UserError

KEY_FILE: Final = "master.key"
KEY_SETTING: Final = "STELLWERK_MASTER_KEY"

_KEY_BYTES: Final = 32
_KEY_TEXT: Final = re.compile(r"[0-9a-fA-F]{64}")
_FORMAT: Final = b"\x01"
"""First byte of whatever is sealed: which key and which recipe. Another key beside the first one gets another byte."""
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


@dataclass
class MasterKeyUnusable(UserError):
    """``source`` (the setting or the file) gives no master key; ``reason`` never quotes it."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"the master key in {self.source} is unusable: {self.reason}"


@dataclass
class SecretUnreadable(UserError):
    """What was sealed as ``context`` does not open."""

    context: str

    def __str__(self) -> str:
        return (
            f"a stored secret ({self.context}) cannot be decrypted: it was sealed with another master key, or damaged; "
            f"set {KEY_SETTING} to the key of this database, or put its {KEY_FILE} back from the backup"
        )


class Vault:
    """Seals and opens secrets. ``context`` says what and whose a secret is; what was sealed for one device does not
    open as another's."""

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes."""
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a master key has {_KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)

    @classmethod
    def load(cls, data_dir: Path, master_key_hex: str | None) -> Self:
        """With the key of the setting if there is one (64 hex digits), else with that of `KEY_FILE` in ``data_dir``,
        which is made where it is missing. Raises `MasterKeyUnusable`."""
        if master_key_hex is not None:
            return cls(_parse(master_key_hex, f"the setting {KEY_SETTING}"))
        file = data_dir / KEY_FILE
        try:
            if not file.exists():
                _create(file)
            text = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise MasterKeyUnusable(str(file.absolute()), getattr(error, "strerror", "") or "it is no text") from error
        return cls(_parse(text, str(file.absolute())))

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """``plaintext`` encrypted and bound to ``context``; 29 bytes longer, different each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, plaintext, _FORMAT + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plaintext. Raises `SecretUnreadable` for what was sealed with another key or context, or is damaged."""
        end_of_nonce = len(_FORMAT) + _NONCE_BYTES
        if sealed[: len(_FORMAT)] == _FORMAT and len(sealed) >= end_of_nonce + _TAG_BYTES:
            with suppress(InvalidTag):
                nonce, ciphertext = sealed[len(_FORMAT) : end_of_nonce], sealed[end_of_nonce:]
                return self._cipher.decrypt(nonce, ciphertext, _FORMAT + context)
        raise SecretUnreadable(context.decode("utf-8", "replace"))


def _parse(text: str, source: str) -> bytes:
    text = text.strip()
    if not _KEY_TEXT.fullmatch(text):
        raise MasterKeyUnusable(source, f"it takes {2 * _KEY_BYTES} hex digits")
    return bytes.fromhex(text)


def _create(file: Path) -> None:
    """Written whole under another name, then linked: whoever comes second finds the first one's key, a crash leaves no
    half a key, and what is sealed with it later never is on disk before it."""
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as writing:
            writing.write(secrets.token_hex(_KEY_BYTES) + "\n")
            writing.flush()
            os.fsync(writing.fileno())
        with suppress(FileExistsError):
            os.link(scratch, file)
    finally:
        scratch.unlink()
    folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
