"""Identifiers: those of messages, derived from what caused them (a replay of the journal gives the same ones), and what
of a credential there is once."""

from hashlib import blake2b
from typing import Final, NamedTuple

from stellwerk.app.credential_record import bootstrap_id
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import PSK, RPK, X509, Credential

SALT_BYTES: Final = 16

_DEVICE_DIGITS: Final = 8
_SEQ_DIGITS: Final = 10
_CHECK_DIGITS: Final = 6
_DEVICE_MASK: Final = (1 << 4 * _DEVICE_DIGITS) - 1
_SEQ_MASK: Final = (1 << 4 * _SEQ_DIGITS) - 1


class MessageIds(NamedTuple):
    """``resource_id``: 24 hex digits. ``resource_name``: a UUID as text (RFC 9562 5.8: version 8, our own recipe)."""

    resource_id: str
    resource_name: str


def received_ids(salt: bytes, device_id: int, seq: int) -> MessageIds:
    """Of the received message that the journal's entry ``seq`` became. ``salt`` differs per installation.

    The resource ID says where to look, so that no index of millions has to: device, entry, and three bytes that only
    this installation can tell.
    """
    derived, resource_name = _derive(salt, b"received", seq)
    place = f"{device_id & _DEVICE_MASK:08x}{seq & _SEQ_MASK:010x}"
    return MessageIds(place + derived[:_CHECK_DIGITS], resource_name)


def receiving_device(resource_id: str) -> DeviceId | None:
    """The device whose received message has this ID, if any has; None for what is no such ID. The ID may still be of
    something else: compare it whole."""
    if len(resource_id) != _DEVICE_DIGITS + _SEQ_DIGITS + _CHECK_DIGITS:
        return None
    try:
        return DeviceId(int.from_bytes(bytes.fromhex(resource_id[:_DEVICE_DIGITS])))
    except ValueError:
        return None


def sent_ids(salt: bytes, command_id: int) -> MessageIds:
    """Of the sent message that a command became."""
    return _derive(salt, b"sent", command_id)


BOOTSTRAP_ID: Final = "bootstrap_id"


def taken_once(credential: Credential) -> list[tuple[str, str, str]]:
    """What no two devices may share of a credential: the column, its value and how people call it."""
    key_name = {RPK: "public key", X509: "certificate"}.get(credential.kind, "")
    found = [("identity", credential.identity, "PSK identity" if credential.kind == PSK else "credentials ID")]
    if credential.key_id:
        found.append(("key_id", credential.key_id, key_name))
    if known := bootstrap_id(credential.bootstrap):
        found.append((BOOTSTRAP_ID, known, "identity for the bootstrap server"))
    return found


def _derive(salt: bytes, kind: bytes, number: int) -> MessageIds:
    digits = blake2b(kind + number.to_bytes(8, "big"), key=salt, digest_size=28).hexdigest()
    name = f"{digits[24:32]}-{digits[32:36]}-8{digits[37:40]}-a{digits[41:44]}-{digits[44:56]}"
    return MessageIds(digits[:24], name)
