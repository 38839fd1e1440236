"""Keys and certificates of simulated devices, from what was written on the command line and in files.

Where several devices need several of something, its name has a place for theirs: ``{endpoint}`` stands for the endpoint
name, ``{n}`` for the number in it. A folder of keys means ``FOLDER/{endpoint}.key``, one of certificates
``FOLDER/{endpoint}.crt``.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from stellwerk.coap.oscore.context import refusal_of
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.errors import UserError
from stellwerk.device import key_material
from stellwerk.device.key_material import BadMaterial, der_of, digits_fault, pre_shared_fault, spki_of
from stellwerk.issuing import Issuer, new_key
from stellwerk.sim.bootstrap.options import OscoreValues
from stellwerk.sim.security import (
    LONGEST_IDENTITY,
    LONGEST_KEY,
    Certificate,
    Credentials,
    Keyring,
    PreSharedKey,
    RawKey,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LARGEST_FILE: Final = 16 * 1024 * 1024
_OSCORE: Final = "--oscore"
_CONTEXT: Final = "6d31:01:000102030405060708090a0b0c0d0e0f"

ContextKeyring: TypeAlias = Callable[[str, int], OscoreValues]
"""Gives the OSCORE context of the device with an endpoint name and a number. Raises `UserError` where there is none."""


class BadCredentials(UserError):
    """``where`` (an option or a file) holds nothing that a device can prove itself with; ``reason`` says what would be
    right. What it holds is not repeated."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where}: {reason}")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the credentials of devices come from, as options of the command line say it; one of the first five."""

    psk: str = field(default="", repr=False)
    psk_file: Path | None = None
    rpk: Path | None = None
    certificate: Path | None = None
    issuer: Path | None = None
    key: Path | None = None
    issuer_key: Path | None = None

    def keyring(self, count: int) -> Keyring | None:
        """The credentials of ``count`` devices; None where none are said. Raises `BadCredentials`."""
        said = {
            "--psk": self.psk,
            "--psk-file": self.psk_file,
            "--rpk": self.rpk,
            "--cert": self.certificate,
            "--issuer": self.issuer,
        }
        named = [option for option, value in said.items() if value]
        if len(named) > 1:
            raise BadCredentials(" and ".join(named), "a device has one kind of credentials; leave out the others")
        if self.key is not None and self.certificate is None:
            raise BadCredentials("--key", "it goes with --cert; name the certificate, or use --rpk for a bare key")
        if (self.issuer is None) is not (self.issuer_key is None):
            raise BadCredentials("--issuer", "the authority's certificate and its key (--issuer-key) go together")
        if self.psk:
            return psk_keyring(self.psk, count=count)
        if self.psk_file is not None:
            return listed_keyring(self.psk_file)
        if self.rpk is not None:
            return raw_key_keyring(self.rpk, count=count)
        if self.certificate is not None:
            return certificate_keyring(self.certificate, self.key, count=count)
        if self.issuer is not None and self.issuer_key is not None:
            return issuing_keyring(self.issuer, self.issuer_key)
        return None


def psk_keyring(text: str, *, count: int) -> Keyring:
    """All devices have the key in ``IDENTITY:HEXKEY``, each its own identity. Raises `BadCredentials`."""
    identity, colon, key = text.rpartition(":")
    if not colon:
        raise BadCredentials("--psk", "write it as IDENTITY:HEXKEY, like dev-1:000102030405060708090a0b0c0d0e0f")
    if count > 1 and not _has_place(identity):
        raise BadCredentials(
            "--psk",
            f"{count} devices cannot share one identity; write {{endpoint}} or {{n}} in it, like {{endpoint}}:HEXKEY, "
            "or list them with --psk-file",
        )
    secret = _read_key("--psk", key)
    _warn_of([("--psk", pre_shared_fault(len(key)))])

    def of(endpoint_name: str, number: int) -> Credentials:
        return PreSharedKey(_read_identity("--psk", _fill(identity, endpoint_name, number)), secret)

    of("dev-1", 1)
    return of


def listed_keyring(path: Path) -> Keyring:
    """Each device has what its line in a file says: endpoint name, identity and key in hex, blanks between them;
    empty lines and those that begin with ``#`` say nothing. Raises `BadCredentials`."""
    found: dict[str, PreSharedKey] = {}
    faults = []
    for number, words in _lines(path, "--psk-file"):
        where = f"{path}, line {number}"
        if len(words) != 3:
            raise BadCredentials(where, "write endpoint name, identity and key in hex, with blanks between them")
        if words[0] in found:
            raise BadCredentials(where, f"{words[0]!r} has a line already")
        found[words[0]] = PreSharedKey(_read_identity(where, words[1]), _read_key(where, words[2]))
        faults.append((where, pre_shared_fault(len(words[2]))))
    _warn_of(faults)

    def of(endpoint_name: str, number: int) -> Credentials:
        key = found.get(endpoint_name)
        if key is None:
            raise BadCredentials(str(path), f"no line begins with {endpoint_name!r}")
        return key

    return of


def context_keyring(text: str, path: Path | None, *, count: int) -> ContextKeyring | None:
    """The OSCORE contexts of ``count`` devices, from ``SENDER:RECIPIENT:SECRET[:SALT]`` or a file of them; None where
    neither is said. Raises `BadCredentials`."""
    if text and path is not None:
        raise BadCredentials("--oscore and --oscore-file", "a device has one context; leave out one of them")
    if path is not None:
        return listed_contexts(path)
    return oscore_keyring(text, count=count) if text else None


def oscore_keyring(text: str, *, count: int) -> ContextKeyring:
    """All devices have the secret in ``SENDER:RECIPIENT:SECRET[:SALT]``, bytes in hex, each its own IDs: ``{endpoint}``
    stands for the bytes of its name, ``{n}`` for its number in two bytes or more. Raises `BadCredentials`."""
    words = text.split(":")
    if not 3 <= len(words) <= 4:
        raise BadCredentials(_OSCORE, f"write it as SENDER:RECIPIENT:SECRET[:SALT] in hex, like {_CONTEXT}")
    # RFC 8613 3.3: one secret never goes with the same ID of a sender twice, and each end is a sender.
    if count > 1 and not (_has_place(words[0]) and _has_place(words[1])):
        raise BadCredentials(
            _OSCORE,
            f"{count} devices with one secret cannot share an ID, nor can their server use one for all; write "
            "{endpoint} or {n} in both, like {n}:01{n}:SECRET, or list contexts with --oscore-file",
        )

    def of(endpoint_name: str, number: int) -> OscoreValues:
        digits = f"{number:04x}"
        filled = (
            each.replace("{n}", digits.zfill(len(digits) + len(digits) % 2)).replace(
                "{endpoint}", endpoint_name.encode().hex()
            )
            for each in words
        )
        return _read_context(_OSCORE, *filled)

    of("d", 1)
    _warn_of([(f"{_OSCORE}, secret", digits_fault(len(words[2])))])
    return of


def listed_contexts(path: Path) -> ContextKeyring:
    """Each device has what its line in a file says: endpoint name, Sender ID, Recipient ID, Master Secret and, if any,
    Master Salt and ID Context, bytes in hex, ``-`` for none; else as for `listed_keyring`. Raises `BadCredentials`."""
    found: dict[str, OscoreValues] = {}
    faults = []
    for number, words in _lines(path, "--oscore-file"):
        where = f"{path}, line {number}"
        if not 4 <= len(words) <= 6:
            raise BadCredentials(
                where,
                "write endpoint name, Sender ID, Recipient ID and secret, then salt and ID Context, if any, in hex",
            )
        if words[0] in found:
            raise BadCredentials(where, f"{words[0]!r} has a line already")
        found[words[0]] = _read_context(where, *("" if each == "-" else each for each in words[1:]))
        faults.append((f"{where}, secret", digits_fault(len(words[3]))))
    _warn_of(faults)

    def of(endpoint_name: str, number: int) -> OscoreValues:
        context = found.get(endpoint_name)
        if context is None:
            raise BadCredentials(str(path), f"no line begins with {endpoint_name!r}")
        return context

    return of


def _read_context(
    where: str, sender: str, recipient: str, secret: str, salt: str = "", id_context: str = ""
) -> OscoreValues:
    try:
        sender_id, recipient_id, *rest = (bytes.fromhex(each) for each in (sender, recipient, secret, salt, id_context))
    except ValueError:
        raise BadCredentials(where, "not all of the context is written in hex digits, two for each byte") from None
    context = OscoreValues(rest[0], sender_id, recipient_id, master_salt=rest[1], id_context=rest[2])
    refusal = refusal_of(ContextMaterial(1, sender_id, recipient_id, rest[0]))
    if refusal is not None:
        raise BadCredentials(where, refusal)
    return context


def raw_key_keyring(path: Path, *, count: int) -> Keyring:
    """Each device has the key pair of its file. Raises `BadCredentials`."""
    pattern = _pattern(path, "key", "--rpk", count)
    return lambda endpoint_name, number: RawKey(read_private_key(_path(pattern, endpoint_name, number), "--rpk"))


def certificate_keyring(certificate: Path, key: Path | None, *, count: int) -> Keyring:
    """Each device has the chain and the key of its files; with a folder, both are there. Raises `BadCredentials`."""
    if key is None and not certificate.is_dir():
        raise BadCredentials("--cert", "the key that goes with it is missing; name its file with --key")
    chains = _pattern(certificate, "crt", "--cert", count)
    keys = _pattern(key or certificate, "key", "--key", count)

    def of(endpoint_name: str, number: int) -> Credentials:
        own = read_private_key(_path(keys, endpoint_name, number), "--key")
        where = _path(chains, endpoint_name, number)
        chain = read_certificates(where, "--cert")
        _check_pair(where, chain[0], own)
        return Certificate(own, tuple(der_of(each) for each in chain))

    return of


def issuing_keyring(certificate: Path, key: Path) -> Keyring:
    """Each device has a new key, and a certificate with its endpoint name from the authority in the files. Raises
    `BadCredentials`; what it gives raises `issuing.NotIssued`."""
    own, *above = read_certificates(certificate, "--issuer")
    issuer = Issuer(read_private_key(key, "--issuer-key"), own)
    _check_pair(certificate, own, read_private_key(key, "--issuer-key"))

    def of(endpoint_name: str, number: int) -> Credentials:
        issued = issuer.client(new_key(), endpoint_name)
        return Certificate(issued.key, tuple(der_of(each) for each in (*issued.chain, *above)), issuer)

    return of


def read_private_key(path: Path, option: str) -> EllipticCurvePrivateKey:
    """A private key on secp256r1, PEM or DER (PKCS #8 or SEC 1), without a password. Raises `BadCredentials`."""
    return _material(path, option, key_material.read_private_key)


def read_public_key(path: Path, option: str) -> bytes:
    """A public key on secp256r1 (DER SubjectPublicKeyInfo), from PEM or DER. Raises `BadCredentials`."""
    return _material(path, option, key_material.read_public_key)


def read_certificates(path: Path, option: str) -> tuple[x509.Certificate, ...]:
    """The certificates in a file: several in PEM, or one in DER. Raises `BadCredentials`."""
    return tuple(_material(path, option, key_material.read_certificates))


def _material(path: Path, option: str, read: Callable[[bytes], T]) -> T:
    try:
        return read(_read(path, option))
    except BadMaterial as error:
        raise BadCredentials(f"{option} {path}", str(error)) from None


def _check_pair(path: Path, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
    if key_material.key_of(certificate) != spki_of(key.public_key()):
        raise BadCredentials(str(path), "the certificate is for another key; a device would fail with the two")


def _pattern(path: Path, suffix: str, option: str, count: int) -> str:
    pattern = str(path / f"{{endpoint}}.{suffix}") if path.is_dir() else str(path)
    if count > 1 and not _has_place(pattern):
        raise BadCredentials(
            option,
            f"{count} devices cannot share one file; name a folder with ENDPOINT.{suffix} for each, or write "
            "{endpoint} or {n} in the name",
        )
    return pattern


def _path(pattern: str, endpoint_name: str, number: int) -> Path:
    return Path(_fill(pattern, endpoint_name, number))


def _fill(pattern: str, endpoint_name: str, number: int) -> str:
    return pattern.replace("{n}", str(number)).replace("{endpoint}", endpoint_name)


def _has_place(pattern: str) -> bool:
    return "{endpoint}" in pattern or "{n}" in pattern


def _read_identity(where: str, text: str) -> bytes:
    identity = text.encode("utf-8", "surrogateescape")
    if not 1 <= len(identity) <= LONGEST_IDENTITY:
        raise BadCredentials(where, f"an identity has 1 to {LONGEST_IDENTITY} octets, not {len(identity)}")
    return identity


def _read_key(where: str, text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise BadCredentials(where, "the key is not written in hex digits, two for each octet") from None
    if not 1 <= len(key) <= LONGEST_KEY:
        raise BadCredentials(where, f"a key has 1 to {LONGEST_KEY} octets, not {len(key)}")
    return key


def _warn_of(faults: Iterable[tuple[str, str | None]]) -> None:
    """Of the first that has one, and how many more do. A warning only: another server may take what ours does not."""
    found = [(where, fault) for where, fault in faults if fault]
    if found:
        where, fault = found[0]
        log.warning(
            "sim.unusual_key",
            where=where,
            reason=fault,
            more=len(found) - 1,
            meaning="`stellwerk credentials` gives a device no such key, so this server may not know it",
        )


def _lines(path: Path, option: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the words of each line that says something. Raises `BadCredentials`."""
    for number, line in enumerate(_read(path, option).decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            yield number, words


def _read(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise BadCredentials(f"{option} {path}", error.strerror or str(error)) from None
    if len(data) > _LARGEST_FILE:
        raise BadCredentials(f"{option} {path}", f"the file is longer than {_LARGEST_FILE} bytes")
    return data
