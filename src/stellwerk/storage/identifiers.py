"""Identifiers of messages, derived from what caused them: a replay of the journal gives the same ones."""

from hashlib import blake2b
from typing import NamedTuple

SALT_BYTES = 16


class MessageIds(NamedTuple):
    """``resource_id``: 24 hex digits. ``resource_name``: a UUID as text (RFC 9562 5.8: version 8, our own recipe)."""

    resource_id: str
    resource_name: str


def received_ids(salt: bytes, seq: int) -> MessageIds:
    """Of the received message that the journal's entry ``seq`` became. ``salt`` differs per installation."""
    return _derive(salt, b"received", seq)


def sent_ids(salt: bytes, command_id: int) -> MessageIds:
    """Of the sent message that a command became."""
    return _derive(salt, b"sent", command_id)


def _derive(salt: bytes, kind: bytes, number: int) -> MessageIds:
    digits = blake2b(kind + number.to_bytes(8, "big"), key=salt, digest_size=28).hexdigest()
    name = f"{digits[24:32]}-{digits[32:36]}-8{digits[37:40]}-a{digits[41:44]}-{digits[44:56]}"
    return MessageIds(digits[:24], name)
