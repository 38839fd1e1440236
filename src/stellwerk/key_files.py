"""The server's own keys, as files in the data directory.

``keys/ca.key`` and ``keys/ca.pem`` are the platform's own certificate authority; ``keys/server.key`` and
``keys/server.pem`` what the server shows to devices, ``keys/bootstrap.*`` what a bootstrap server shows (no two have
the same key: SEC-8). ``trust/*.pem`` are authorities whose certificates devices may bring besides those of our own.
Private keys are PKCS#8 with mode 0600, certificates PEM with 0644.

Files are replaced whole. A running server reads them again within seconds (`ServerKeys.run`); what cannot be used is
refused with the reason, and what was used goes on.
"""

import asyncio
import os
import secrets
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stellwerk.core.errors import UserError
from stellwerk.device.key_material import (
    BadMaterial,
    der_of,
    key_of,
    read_certificates,
    read_private_key,
    spki_of,
)
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.issuing import Issued, Issuer, make_authority, new_key

log = structlog.get_logger(__name__)

KEYS: Final = "keys"
TRUST: Final = "trust"
AUTHORITY: Final = "ca"
SERVER: Final = "server"
BOOTSTRAP: Final = "bootstrap"

LOOK_EVERY_S: Final = 2.0
WARN_BEFORE: Final = timedelta(days=30)
REMIND_EVERY_S: Final = 86_400.0
MOST_ANCHORS: Final = 1_000
LONGEST_CHAIN: Final = 10
LONGEST_FILE: Final = 4 << 20
"""Bytes of one file."""

State: TypeAlias = tuple[tuple[str, int, int, int], ...]


@dataclass
class KeyFileUnusable(UserError):
    """``file`` cannot be made, read or used; ``reason`` says why, never what a key is."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file.absolute()}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Anchors:
    """Authorities that are trusted, the platform's own first; ``refused``: files that are passed over, and why."""

    certificates: tuple[x509.Certificate, ...] = ()
    refused: tuple[KeyFileUnusable, ...] = ()


class KeyFolder:
    """The files of one data directory, by name: read, written, made where they are missing."""

    def __init__(self, data_dir: Path) -> None:
        self.keys = data_dir / KEYS
        self.trust = data_dir / TRUST

    def key_file(self, name: str) -> Path:
        return self.keys / f"{name}.key"

    def certificate_file(self, name: str) -> Path:
        return self.keys / f"{name}.pem"

    def exists(self, name: str) -> bool:
        return self.key_file(name).exists()

    def load(self, name: str) -> Issued:
        """The key and its chain, which is empty where there is no certificate file: raw public keys only. Raises
        `KeyFileUnusable`."""
        key_file, certificate_file = self.key_file(name), self.certificate_file(name)
        try:
            key = read_private_key(read_file(key_file))
        except BadMaterial as error:
            raise KeyFileUnusable(key_file, str(error)) from None
        if not certificate_file.exists():
            return Issued(key)
        chain = load_chain(certificate_file)
        if key_of(chain[0]) != spki_of(key.public_key()):
            raise KeyFileUnusable(
                certificate_file,
                f"its first certificate is not of the key in {key_file.name}; put the right "
                "one there, or make both anew: stellwerk keys make --force",
            )
        return Issued(key, tuple(chain))

    def certify(self, key: EllipticCurvePrivateKey, endpoint: str) -> bytes:
        """The DER certificate of the platform's authority for a device's key. Raises `KeyFileUnusable`, `NotIssued`."""
        return der_of(self.issuer().client(key, endpoint).chain[0])

    def enrol(self, key: EllipticCurvePublicKey, endpoint: str) -> bytes:
        """The same for a key of which the device keeps the private half. Raises as `certify`."""
        return der_of(self.issuer().enrolled(key, endpoint))

    def authority(self) -> bytes:
        """The DER certificate of the platform's authority. Raises `KeyFileUnusable`."""
        return der_of(self.issuer().certificate)

    def issuer(self) -> Issuer:
        """The platform's own authority. Raises `KeyFileUnusable`."""
        if not self.key_file(AUTHORITY).exists():
            raise KeyFileUnusable(
                self.key_file(AUTHORITY), "there is no authority here; `stellwerk keys make` makes one"
            )
        authority = self.load(AUTHORITY)
        if not authority.chain:
            raise KeyFileUnusable(self.certificate_file(AUTHORITY), "the certificate of the authority is missing")
        return Issuer(authority.key, authority.chain[0])

    def store(self, name: str, issued: Issued) -> None:
        """Replace both files, each whole. Raises `KeyFileUnusable`."""
        self._make_folder(self.keys)
        pem = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate_file = self.certificate_file(name)
        if issued.chain:
            write_whole(certificate_file, to_pem(issued.chain), 0o644)
        else:
            certificate_file.unlink(missing_ok=True)
        write_whole(self.key_file(name), pem, 0o600)

    def ensure(self, names: Sequence[str] = (SERVER,), addresses: Sequence[str] = ()) -> list[str]:
        """Make the authority and the keys of ``names`` where there are none; what was made. ``addresses``: where the
        server listens, for its certificate. Raises `KeyFileUnusable`."""
        made = []
        if not self.exists(AUTHORITY) and not all(map(self.exists, names)):
            self.store(AUTHORITY, make_authority(f"Stellwerk CA of {host_name()}"))
            made.append(AUTHORITY)
        for name in names:
            if not self.exists(name):
                self.store(name, self.issuer().server(new_key(), host_name(), server_names(addresses)))
                made.append(name)
        return made

    def anchors(self) -> Anchors:
        """The platform's own authority and those in ``trust``. A file that cannot be used takes no other with it."""
        found: dict[bytes, x509.Certificate] = {}
        refused: list[KeyFileUnusable] = []
        own = [self.certificate_file(AUTHORITY)] if self.certificate_file(AUTHORITY).exists() else []
        for file in [*own, *self.trust_files()]:
            try:
                for each in load_chain(file, MOST_ANCHORS):
                    check_authority(each, file)
                    found[der_of(each)] = each
            except KeyFileUnusable as error:
                refused.append(error)
        if len(found) > MOST_ANCHORS:
            refused.append(KeyFileUnusable(self.trust, f"only the first {MOST_ANCHORS} authorities are trusted"))
        return Anchors(tuple(found.values())[:MOST_ANCHORS], tuple(refused))

    def trust_files(self) -> list[Path]:
        with suppress(OSError):
            return sorted(each for each in self.trust.iterdir() if each.suffix in (".pem", ".crt", ".cer", ".der"))
        return []

    def state(self, name: str) -> State:
        """Changes whenever a file does that `load` of ``name`` or `anchors` read."""
        state = []
        own = [self.key_file(name), self.certificate_file(name), self.certificate_file(AUTHORITY)]
        for file in [*own, *self.trust_files()]:
            try:
                about = file.stat()
            except OSError:
                state.append((str(file), 0, 0, 0))
            else:
                state.append((str(file), about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(state)

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise KeyFileUnusable(folder, error.strerror or str(error)) from None

    def add_trust(self, certificate: x509.Certificate) -> Path:
        """Raises `KeyFileUnusable`."""
        self._make_folder(self.trust)
        file = self.trust / f"{fingerprint_of(certificate)[:32]}.pem"
        write_whole(file, to_pem((certificate,)), 0o644)
        return file


class ServerKeys:
    """What a running server shows and trusts; the same files again after each change. ``changed`` hears that there is
    another ``identity`` or other ``anchors`` (from the event loop)."""

    def __init__(
        self,
        folder: KeyFolder,
        name: str = SERVER,
        changed: Callable[[], object] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._name = name
        self._now = now
        self.changed = changed
        self._seen = self._tried = folder.state(name)
        self._issued = folder.load(name)
        self._anchors = folder.anchors()
        self._reminded: datetime | None = None
        self._say_refused()

    @classmethod
    def open(cls, data_dir: Path, name: str = SERVER, addresses: Sequence[str] = ()) -> "ServerKeys":
        """With keys that are made where there are none. Raises `KeyFileUnusable`."""
        folder = KeyFolder(data_dir)
        for made in folder.ensure((name,), addresses):
            log.info("keys.made", name=made, file=str(folder.certificate_file(made)))
        keys = cls(folder, name)
        keys.remind()
        return keys

    @property
    def identity(self) -> ServerIdentity:
        """The key, and the chain without roots: who trusts a root has it."""
        chain = self._issued.chain
        sent = chain[:1] + tuple(each for each in chain[1:] if each.subject != each.issuer)
        return ServerIdentity(self._issued.key, tuple(map(der_of, sent)))

    @property
    def anchors(self) -> tuple[x509.Certificate, ...]:
        return self._anchors.certificates

    def fingerprints(self) -> list[str]:
        """Of ``anchors``."""
        return [fingerprint_of(each) for each in self.anchors]

    def notices(self) -> list[str]:
        """What somebody should do soon about certificates, a sentence each; empty when all is well."""
        return [
            text
            for each in (*self._issued.chain, *self._anchors.certificates)
            if (text := notice_about(each, self._now()))
        ]

    def remind(self) -> None:
        """Log `notices`, once a day."""
        now = self._now()
        if self._reminded is not None and (now - self._reminded).total_seconds() < REMIND_EVERY_S:
            return
        self._reminded = now
        for each in self._issued.chain:
            if (text := notice_about(each, now)) and each.not_valid_after_utc <= now:
                log.error("keys.certificate_expired", name=self._name, meaning=text)
            elif text:
                log.warning("keys.certificate_ends_soon", name=self._name, meaning=text)
        for each in self._anchors.certificates:
            if text := notice_about(each, now):
                log.warning("keys.authority_ends", meaning=text)

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:
                log.exception("keys.not_read")

    async def look(self) -> bool:
        """Take up changed files once they rest: two looks have to find them the same, so that nobody meets a key whose
        certificate is still being written. False where nothing new is used."""
        state = await asyncio.to_thread(self._folder.state, self._name)
        settled, self._seen = state == self._seen, state
        self.remind()
        if not settled or state == self._tried:
            return False
        self._tried = state
        try:
            issued, anchors = await asyncio.to_thread(self._load)
        except KeyFileUnusable as error:
            log.error("keys.refused", name=self._name, reason=str(error), meaning="what was used before goes on")
            return False
        lost = set(self._anchors.certificates) - set(anchors.certificates)
        self._issued, self._anchors, self._reminded = issued, anchors, None
        log.info("keys.replaced", name=self._name, anchors=len(anchors.certificates), **_shown(issued))
        self._say_refused()
        self.remind()
        if lost:
            log.warning("keys.distrusted", authorities=sorted(each.subject.rfc4514_string() for each in lost))
        self.changed()
        return True

    def _load(self) -> tuple[Issued, Anchors]:
        return self._folder.load(self._name), self._folder.anchors()

    def _say_refused(self) -> None:
        for each in self._anchors.refused:
            log.error("keys.authority_refused", reason=str(each), meaning="it is not trusted")
        file = self._folder.key_file(self._name)
        with suppress(OSError):
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                log.warning("keys.readable_by_others", file=str(file), meaning="give it mode 0600")


def _shown(issued: Issued) -> dict[str, str]:
    return {"certificate": fingerprint_of(issued.chain[0])[:16]} if issued.chain else {}


def load_chain(file: Path, most: int = LONGEST_CHAIN) -> list[x509.Certificate]:
    """At least one certificate. Raises `KeyFileUnusable`."""
    try:
        chain = read_certificates(read_file(file))
    except BadMaterial as error:
        raise KeyFileUnusable(file, str(error)) from None
    if len(chain) > most:
        raise KeyFileUnusable(file, f"it holds {len(chain)} certificates, {most} are the most")
    return chain


def check_authority(certificate: x509.Certificate, file: Path) -> None:
    """Raises `KeyFileUnusable` for what is no certificate authority."""
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise KeyFileUnusable(
            file,
            f"{certificate.subject.rfc4514_string()!r} is no certificate authority (basicConstraints CA:TRUE); "
            "the certificate of a device is given to it with: stellwerk credentials set DEVICE --cert FILE",
        )


def notice_about(certificate: x509.Certificate, now: datetime) -> str:
    """A sentence where the certificate ends within `WARN_BEFORE`, has ended or has not begun; else empty."""
    who = f"the certificate of {certificate.subject.rfc4514_string()!r}"
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= now:
        return f"{who} has ended on {ends:%Y-%m-%d}: devices that check it refuse it"
    if begins > now:
        return f"{who} is not valid before {begins:%Y-%m-%d %H:%M} UTC; is the clock right?"
    if ends - now < WARN_BEFORE:
        return f"{who} ends on {ends:%Y-%m-%d}, in {(ends - now).days} days"
    return ""


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, 64 lower-case hex digits."""
    return sha256(der_of(certificate)).hexdigest()


def to_pem(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in chain)


def host_name() -> str:
    return (socket.gethostname() or "localhost")[:64]


def server_names(addresses: Sequence[str] = ()) -> list[str]:
    """What a server is called by devices: its host's names, and the addresses that it listens on unless that is all of
    them."""
    host = host_name()
    wanted = [host, "localhost", *(each for each in addresses if each not in ("", "0.0.0.0", "::"))]
    return list(dict.fromkeys(wanted))


def write_whole(file: Path, content: bytes, mode: int) -> None:
    """Under another name first: a crash leaves no half a file. Raises `KeyFileUnusable`."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as writing:
                os.fchmod(writing.fileno(), mode)
                writing.write(content)
                writing.flush()
                os.fsync(writing.fileno())
            os.replace(draft, file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileUnusable(file, error.strerror or str(error)) from None


def read_file(file: Path) -> bytes:
    """Raises `KeyFileUnusable`."""
    try:
        with file.open("rb") as reading:
            content = reading.read(LONGEST_FILE + 1)
    except OSError as error:
        raise KeyFileUnusable(file, error.strerror or str(error)) from None
    if len(content) > LONGEST_FILE:
        raise KeyFileUnusable(file, f"it is longer than {LONGEST_FILE} bytes")
    return content
