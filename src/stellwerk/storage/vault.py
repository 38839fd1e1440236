"""Secrets at rest: sealed with AES-256-GCM under a master key that never lies in the database (design §2, §7).

What is sealed says with which key. A vault seals with the first of its keys and opens with all of them, so that the key
can be exchanged (`storage.resealing`).
"""

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stellwerk.core.errors import UserError

KEY_FILE: Final = "master.key"
KEY_SETTING: Final = "STELLWERK_MASTER_KEY"

OLD_KEYS_SETTING: Final = "STELLWERK_MASTER_KEY_OLD"

_KEY_BYTES: Final = 32
_KEY_TEXT: Final = re.compile(r"[0-9a-fA-F]{64}")
_MOST_KEYS: Final = 16
_FORMAT: Final = b"\x02"
"""First byte of whatever is sealed; the ID of the key follows."""
_FIRST_FORMAT: Final = b"\x01"
"""Of earlier versions: there was one key, and no ID."""
_ID_BYTES: Final = 4
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
            f"set {KEY_SETTING} to the key of this database, {OLD_KEYS_SETTING} to former ones, or put its {KEY_FILE} "
            "back from the backup"
        )


class Vault:
    """Seals and opens secrets. ``context`` says what and whose a secret is; what was sealed for one device does not
    open as another's."""

    def __init__(self, key: bytes, *old: bytes) -> None:
        """``key`` seals, all open; 32 bytes each."""
        for each in (key, *old):
            if len(each) != _KEY_BYTES:
                raise ValueError(f"a master key has {_KEY_BYTES} bytes, not {len(each)}")
        self._ciphers = {_head(each): AESGCM(each) for each in (*reversed(old), key)}
        self._head = _head(key)
        self._cipher = self._ciphers[self._head]

    @classmethod
    def load(cls, data_dir: Path, master_key_hex: str | None, old_keys: str = "") -> Self:
        """With the key of the setting if there is one (64 hex digits), else with the first of `KEY_FILE` in
        ``data_dir``, which is made where it is missing. Whatever else is in that file, or in ``old_keys`` (divided by
        commas), opens too. Raises `MasterKeyUnusable`."""
        old = [_parse(each, f"the setting {OLD_KEYS_SETTING}") for each in old_keys.split(",") if each.strip()]
        file = data_dir / KEY_FILE
        if master_key_hex is not None:
            key = _parse(master_key_hex, f"the setting {KEY_SETTING}")
            with suppress(MasterKeyUnusable):
                old += read_keys(file)
            return cls(key, *old)
        try:
            if not file.exists():
                _create(file)
        except OSError as error:
            raise MasterKeyUnusable(str(file.absolute()), error.strerror or str(error)) from error
        return cls(*read_keys(file), *old)

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """``plaintext`` encrypted and bound to ``context``; 33 bytes longer, different each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._head + nonce + self._cipher.encrypt(nonce, plaintext, self._head + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plaintext. Raises `SecretUnreadable` for what was sealed with another key or context, or is damaged."""
        if sealed[:1] == _FIRST_FORMAT:
            head, ciphers = _FIRST_FORMAT, list(self._ciphers.values())
        else:
            head = sealed[: len(self._head)]
            cipher = self._ciphers.get(head)
            ciphers = [] if cipher is None else [cipher]
        end_of_nonce = len(head) + _NONCE_BYTES
        if len(sealed) >= end_of_nonce + _TAG_BYTES:
            nonce, ciphertext = sealed[len(head) : end_of_nonce], sealed[end_of_nonce:]
            for cipher in ciphers:
                with suppress(InvalidTag):
                    return cipher.decrypt(nonce, ciphertext, head + context)
        raise SecretUnreadable(context.decode("utf-8", "replace"))

    def can_open(self, sealed: bytes, context: bytes) -> bool:
        """Whether `open` gives what was sealed."""
        try:
            self.open(sealed, context)
        except SecretUnreadable:
            return False
        return True

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the key that seals now."""
        return sealed[: len(self._head)] == self._head


def read_keys(file: Path) -> list[bytes]:
    """The keys of a key file, one a line, that which seals first. Raises `MasterKeyUnusable`."""
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyUnusable(str(file.absolute()), getattr(error, "strerror", "") or "it is no text") from error
    lines = text.split()
    if len(lines) > _MOST_KEYS:
        raise MasterKeyUnusable(str(file.absolute()), f"it has {len(lines)} lines; a key a line, {_MOST_KEYS} at most")
    return [_parse(each, str(file.absolute())) for each in lines or [""]]


def put_new_key(file: Path) -> None:
    """Before the keys of a key file, of which the first stays as the second line; the file is replaced whole. Raises
    `MasterKeyUnusable`."""
    former = read_keys(file)[0]
    try:
        scratch = _write(file, f"{secrets.token_hex(_KEY_BYTES)}\n{former.hex()}\n")
        scratch.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        raise MasterKeyUnusable(str(file.absolute()), error.strerror or str(error)) from error


def _head(key: bytes) -> bytes:
    return _FORMAT + sha256(b"stellwerk master key " + key).digest()[:_ID_BYTES]


def _parse(text: str, source: str) -> bytes:
    text = text.strip()
    if not _KEY_TEXT.fullmatch(text):
        raise MasterKeyUnusable(source, f"it takes {2 * _KEY_BYTES} hex digits")
    return bytes.fromhex(text)


def _create(file: Path) -> None:
    """Written whole under another name, then linked: whoever comes second finds the first one's key, a crash leaves no
    half a key, and what is sealed with it later never is on disk before it."""
    scratch = _write(file, secrets.token_hex(_KEY_BYTES) + "\n")
    try:
        with suppress(FileExistsError):
            os.link(scratch, file)
    finally:
        scratch.unlink()
    _sync_folder(file.parent)


def _write(file: Path, text: str) -> Path:
    """Beside ``file``, under another name; synced."""
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
    except BaseException:
        scratch.unlink()
        raise
    return scratch


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
