"""What objects 0, 1 and 21 say about the servers of a device (Core 1.2.2 App. E.1, E.2; contract B-7, B-8)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stellwerk.coap.oscore.context import refusal_of
from stellwerk.coap.oscore.material import AES_CCM_16_64_128, HKDF_SHA_256, ContextMaterial
from stellwerk.device import key_material
from stellwerk.device.key_material import BadMaterial, spki_of
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.bootstrap.options import OscoreValues as OscoreValues
from stellwerk.sim.objects import SERVER, SHORT_SERVER_ID
from stellwerk.sim.security import (
    LONGEST_IDENTITY,
    LONGEST_KEY,
    Certificate,
    Credentials,
    PreSharedKey,
    RawKey,
    Security,
    one_for_all,
)
from stellwerk.sim.tree import SECURITY, Instance, ObjectTree

OSCORE: Final = 21

URI: Final = 0
IS_BOOTSTRAP: Final = 1
MODE: Final = 2
IDENTITY: Final = 3
SERVER_KEY: Final = 4
SECRET: Final = 5
SHORT_ID: Final = 10
HOLD_OFF: Final = 11
ACCOUNT_TIMEOUT: Final = 12
SERVER_NAME: Final = 14
CERTIFICATE_USAGE: Final = 15
OSCORE_LINK: Final = 17

PSK: Final = 0
RPK: Final = 1
X509: Final = 2
NOSEC: Final = 3
EST: Final = 4
"""A certificate that the device enrols for, with a key that it makes (RFC 9148)."""
FIRST_SHORT_ID: Final = 1
"""The Short Server ID of a server that the device was made for."""
_MODES: Final = {PSK: "PSK", RPK: "RPK", X509: "certificate", NOSEC: "NoSec", EST: "certificate with EST"}
_TRUST_ANCHORS: Final = (0, 2)
"""Certificate usages that name an authority and not the server itself."""

_NULL: Final = 65_535
_PORTS: Final = {"coap": 5683, "coaps": 5684, "coap+tcp": 5683, "coaps+tcp": 5684}
_SECURE: Final = ("coaps", "coaps+tcp")


class Inconsistent(Exception):
    """An account that a device cannot use; the text says why. Keys are never in it."""


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """``instance`` is that of object 0, ``number`` that of object 1 (-1 of a bootstrap server, which has none).
    ``credentials`` None: NoSec, or where it ``enrols``, that it has no certificate yet."""

    instance: int
    number: int
    short_id: int
    uri: str
    scheme: str
    host: str
    port: int
    credentials: Credentials | None = field(default=None, repr=False)
    server_key: bytes = b""
    anchors: tuple[x509.Certificate, ...] = ()
    server_name: str = ""
    oscore: OscoreValues | None = None
    enrols: bool = False

    @property
    def lacks_certificate(self) -> bool:
        """Whether it cannot be used before the device has enrolled."""
        return self.enrols and self.credentials is None

    def security(self, options: BootstrapOptions) -> Security | None:
        """How a handshake with this server goes; None: there is none."""
        if self.credentials is None:
            return None
        return Security(
            one_for_all(self.credentials),
            server_key=self.server_key,
            anchors=self.anchors or (() if self.server_key else options.anchors),
            suites=options.suites,
            cid_length=options.cid_length,
            server_name=self.server_name,
            handshake_s=options.handshake_s,
            first_timeout_s=options.first_timeout_s,
        )


def bootstrap_account(tree: ObjectTree, options: BootstrapOptions) -> ServerAccount | None:
    """The one account of a bootstrap server; None where there is none, or none that can be used."""
    for number, cells in tree.instances(SECURITY).items():
        if cells.get(IS_BOOTSTRAP) is True:
            try:
                account = _read(tree, number, cells, short_id=0, server=-1)
            except Inconsistent:
                return None
            return as_made(account, tree, options)
    return None


def seconds_of_account(tree: ObjectTree, resource_id: int) -> int:
    """What the account of a bootstrap server says; 0 where it says nothing."""
    for cells in tree.instances(SECURITY).values():
        value = cells.get(resource_id)
        if cells.get(IS_BOOTSTRAP) is True and isinstance(value, int):
            return max(0, value)
    return 0


def purge_bootstrap_account(tree: ObjectTree) -> None:
    """There is no bootstrap server any more."""
    for number, cells in [*tree.instances(SECURITY).items()]:
        if cells.get(IS_BOOTSTRAP) is True:
            tree.remove(Path(SECURITY, number))


def as_made(account: ServerAccount, tree: ObjectTree, options: BootstrapOptions) -> ServerAccount:
    """With what the device was made with, which says more than fits object 0, as long as the account is the same."""
    if tree.instance(Path(SECURITY, account.instance)) == bootstrap_instance(options):
        return replace(account, credentials=options.credentials, server_key=options.server_key)
    return account


def server_accounts(tree: ObjectTree) -> list[ServerAccount]:
    """The accounts of all servers but bootstrap servers, in order. Raises `Inconsistent` unless there is one at least,
    and each can be used."""
    by_short_id: dict[int, int] = {}
    for number, cells in tree.instances(SERVER).items():
        short_id = cells.get(SHORT_SERVER_ID)
        if not isinstance(short_id, int) or not 1 <= short_id < _NULL:
            raise Inconsistent(f"/1/{number} has no Short Server ID from 1 to 65534")
        if short_id in by_short_id:
            raise Inconsistent(f"/1/{by_short_id[short_id]} and /1/{number} have the same Short Server ID {short_id}")
        by_short_id[short_id] = number
    found: dict[int, ServerAccount] = {}
    for number, cells in sorted(tree.instances(SECURITY).items()):
        if cells.get(IS_BOOTSTRAP) is True:
            continue
        short_id = cells.get(SHORT_ID)
        if not isinstance(short_id, int) or short_id not in by_short_id:
            raise Inconsistent(f"/0/{number} has the Short Server ID {short_id!r}, which no instance of object 1 has")
        if short_id in found:
            raise Inconsistent(
                f"/0/{found[short_id].instance} and /0/{number} have the same Short Server ID {short_id}"
            )
        found[short_id] = _read(tree, number, cells, short_id=short_id, server=by_short_id[short_id])
    if lonely := by_short_id.keys() - found.keys():
        raise Inconsistent(f"/1/{by_short_id[min(lonely)]} has the Short Server ID {min(lonely)}, which /0 has not")
    if not found:
        raise Inconsistent("there is no account of a server")
    for each in found.values():
        if each.lacks_certificate and not _is_secure(tree):
            why = "the device can enrol nowhere: its bootstrap server is not spoken to by DTLS"
            raise Inconsistent(f"/0/{each.instance} wants a certificate, and {why}")
    return list(found.values())


def keep_certificate(tree: ObjectTree, certificate: Certificate) -> None:
    """Every account that enrols has ``certificate`` from now on, and its key."""
    for number, cells in tree.instances(SECURITY).items():
        if cells.get(MODE) == EST and cells.get(IS_BOOTSTRAP) is not True:
            own: Instance = {IDENTITY: certificate.chain[0], SECRET: key_material.pkcs8_of(certificate.key)}
            tree.add(Path(SECURITY, number), {**cells, **own})


def bootstrap_instance(options: BootstrapOptions) -> Instance:
    """The account that a device is made with."""
    cells: Instance = {URI: options.server_uri, IS_BOOTSTRAP: options.is_bootstrap, MODE: NOSEC}
    cells |= {IDENTITY: b"", SERVER_KEY: b"", SECRET: b""}
    if not options.is_bootstrap:
        cells[SHORT_ID] = FIRST_SHORT_ID
    credentials = options.credentials
    if isinstance(credentials, PreSharedKey):
        cells |= {MODE: PSK, IDENTITY: credentials.identity, SECRET: credentials.key}
    elif credentials is not None:
        secret = key_material.pkcs8_of(credentials.key)
        if isinstance(credentials, RawKey):
            identity = spki_of(credentials.key.public_key())
            cells |= {MODE: RPK, IDENTITY: identity, SERVER_KEY: options.server_key, SECRET: secret}
        else:
            cells |= {MODE: X509, IDENTITY: credentials.chain[0], SECRET: secret}
    if options.oscore is not None:
        cells[OSCORE_LINK] = ObjectLink(OSCORE, options.instance)
    if options.hold_off_s:
        cells[HOLD_OFF] = options.hold_off_s
    if options.account_timeout_s:
        cells[ACCOUNT_TIMEOUT] = options.account_timeout_s
    return cells


def oscore_instance(values: OscoreValues) -> Instance:
    """An instance of object 21."""
    cells: Instance = {0: values.master_secret, 1: values.sender_id, 2: values.recipient_id}
    cells |= {3: values.aead, 4: values.hkdf}
    cells |= {number: value for number, value in ((5, values.master_salt), (6, values.id_context)) if value}
    return cells


def _read(tree: ObjectTree, number: int, cells: Instance, *, short_id: int, server: int) -> ServerAccount:
    where = f"/0/{number}"
    uri, mode = cells.get(URI), cells.get(MODE)
    if not isinstance(uri, str) or not isinstance(mode, int) or mode not in _MODES:
        raise Inconsistent(f"{where} has no server URI or no security mode from 0 to 4")
    try:
        parts = urlsplit(uri)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        raise Inconsistent(f"{where}/0 is no URI") from None
    if scheme not in _PORTS or not host:
        raise Inconsistent(f"{where}/0 is no URI like coap://HOST:PORT or coaps://HOST:PORT")
    if (scheme in _SECURE) is (mode == NOSEC):
        raise Inconsistent(f"{where} has the security mode {_MODES[mode]}, and a URI that begins with {scheme}:")
    name = cells.get(SERVER_NAME)
    account = ServerAccount(number, server, short_id, uri, scheme, host, port or _PORTS[scheme])
    account = replace(account, server_name=name if isinstance(name, str) else "", oscore=_oscore(tree, where, cells))
    if mode == NOSEC:
        return account
    if mode == PSK:
        return replace(account, credentials=_pre_shared(where, cells))
    try:
        return _with_keys(account, mode, where, cells)
    except BadMaterial as error:
        raise Inconsistent(f"{where}: {error}") from None


def _pre_shared(where: str, cells: Mapping[int, object]) -> PreSharedKey:
    identity, key = _bytes(cells, IDENTITY), _bytes(cells, SECRET)
    if not 1 <= len(identity) <= LONGEST_IDENTITY or not 1 <= len(key) <= LONGEST_KEY:
        raise Inconsistent(f"{where} has no identity of 1 to {LONGEST_IDENTITY} or no key of 1 to {LONGEST_KEY} bytes")
    return PreSharedKey(identity, key)


def _with_keys(account: ServerAccount, mode: int, where: str, cells: Mapping[int, object]) -> ServerAccount:
    own, server, secret = (_bytes(cells, each) for each in (IDENTITY, SERVER_KEY, SECRET))
    account = replace(account, enrols=mode == EST)
    if account.enrols and not own and not secret:
        return _trusting(account, server, cells)
    key = key_material.read_private_key(secret)
    if mode == RPK:
        if key_material.read_public_key(own) != spki_of(key.public_key()):
            raise Inconsistent(f"{where} has a public and a private key that do not belong together")
        server_key = key_material.read_public_key(server) if server else b""
        return replace(account, credentials=RawKey(key), server_key=server_key)
    certificate = key_material.read_certificate(own)
    if key_material.key_of(certificate) != spki_of(key.public_key()):
        raise Inconsistent(f"{where} has a certificate and a private key that do not belong together")
    return _trusting(replace(account, credentials=Certificate(key, (own,))), server, cells)


def _trusting(account: ServerAccount, server: bytes, cells: Mapping[int, object]) -> ServerAccount:
    """With what the server proves itself by. Raises `BadMaterial`."""
    if not server:
        return account
    theirs = key_material.read_certificate(server)
    if cells.get(CERTIFICATE_USAGE) in _TRUST_ANCHORS:
        return replace(account, anchors=(theirs,))
    spki = theirs.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return replace(account, server_key=spki)


def _is_secure(tree: ObjectTree) -> bool:
    """Whether there is a bootstrap server, and it is spoken to by DTLS (RFC 9148 §3)."""
    uris = (each.get(URI) for each in tree.instances(SECURITY).values() if each.get(IS_BOOTSTRAP) is True)
    return any(isinstance(each, str) and each.startswith("coaps:") for each in uris)


def _oscore(tree: ObjectTree, where: str, cells: Mapping[int, object]) -> OscoreValues | None:
    link = cells.get(OSCORE_LINK)
    if not isinstance(link, ObjectLink) or link == ObjectLink(_NULL, _NULL):
        return None
    found = tree.instances(OSCORE).get(link.instance_id) if link.object_id == OSCORE else None
    if found is None:
        raise Inconsistent(f"{where}/17 is a link to {link}, which is not there")
    secret, ids = _bytes(found, 0), (_bytes(found, 1), _bytes(found, 2))
    aead, hkdf = found.get(3, AES_CCM_16_64_128), found.get(4, HKDF_SHA_256)
    assert isinstance(aead, int)
    assert isinstance(hkdf, int)
    refusal = refusal_of(ContextMaterial(1, *ids, secret, aead=aead, hkdf=hkdf))
    if refusal is not None:
        raise Inconsistent(f"/21/{link.instance_id}: {refusal}")
    return OscoreValues(secret, *ids, aead, hkdf, _bytes(found, 5), _bytes(found, 6))


def _bytes(cells: Mapping[int, object], resource_id: int) -> bytes:
    value = cells.get(resource_id, b"")
    if isinstance(value, str):
        # Object 21 before version 2.0 has texts of hexadecimal digits.
        try:
            return bytes.fromhex(value)
        except ValueError:
            return value.encode()
    return value if isinstance(value, bytes) else b""
