"""The credential record of the device platform (contract §4): JSON with what a device proves itself with (``client``)
and what a bootstrap server gives it (``bootstrap``).

A record is taken whole or refused with the first field that is wrong and the rule it breaks, as
``client.key: a key has 32, 64, 96 or 128 hex digits, this one has 31``; the text never holds a key. Certificates and
keys may be PEM where the contract says base64 of DER.
"""

import json
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from stellwerk.app.credentials import (
    NO_SEC,
    WITHHELD,
    BadCredential,
    certificate_credential,
    check_identity,
    raw_key_credential,
)
from stellwerk.device.key_material import (
    BadMaterial,
    certificate_key_id,
    der_of,
    key_of,
    pkcs8_of,
    raw_key_id,
    read_certificate,
    read_private_key,
    read_public_key,
    spki_of,
    to_base64,
)
from stellwerk.device.record import NOSEC, PSK, RPK, X509, Credential

MODES: Final = {NO_SEC: NOSEC, "PSK": PSK, "RPK": RPK, "X509": X509}
"""Names of security modes in records, each with the ``kind`` of its credential."""
LONGEST: Final = 131_072
"""Characters of a record."""
LONGEST_ENDPOINT: Final = 255

_SERVERS: Final = ("bootstrapServer", "lwm2mServer")
_CLIENT_MEMBERS: Final = {NO_SEC: (), "PSK": ("identity", "key"), "RPK": ("key",), "X509": ("cert",)}
_MODE_OF_CLIENT: Final = "securityConfigClientMode"
_MODE_OF_SERVER: Final = "securityMode"
_PUBLIC: Final = "clientPublicKeyOrId"
_SECRET: Final = "clientSecretKey"
_ONE_TIME: Final = "oneTime"
_HEX: Final = re.compile(r"[0-9a-fA-F]*")
_KEY_STEP, _KEY_MOST = 32, 128
_NAMES: Final = {kind: mode for mode, kind in MODES.items()}


class BadField(BadCredential):
    """``field`` (``client.key``) of a record breaks ``rule``."""

    def __init__(self, field: str, rule: str) -> None:
        self.field, self.rule = field, rule
        super().__init__(f"{field}: {rule}")


def parse_record(text: str, now_ms: int) -> Credential:
    """The credential that a record in JSON says; `NOSEC` is its kind where there is none. Raises `BadField`."""
    if len(text) > LONGEST:
        raise BadField("record", f"it has {len(text)} characters, {LONGEST} are the most")
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except _Twice as error:
        raise BadField(error.name, "it is given twice") from None
    except RecursionError:
        raise BadField("record", "it is nested too deeply") from None
    except ValueError as error:
        # Of a decoder's words only the place: the rest may quote.
        place = f" in line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadField("record", f"it is no JSON{place}") from None
    record = _Members("", value)
    record.check({"client", "bootstrap"})
    credential = _client(_Members("client", record.need("client")), now_ms)
    bootstrap = _bootstrap(_Members("bootstrap", record.need("bootstrap")))
    return replace(credential, bootstrap=bootstrap)


def pre_shared_credential(identity: str, key: str, now_ms: int) -> Credential:
    """By the rules of a record: ``key`` in hex. Raises `BadField`."""
    return _pre_shared(_Members("client", {"identity": identity, "key": key}), now_ms, "")


def render_record(credential: Credential | None, endpoint: str) -> dict[str, Any]:
    """The record, secrets and all. ``endpoint``: the device's, where the credential names none; None: the device has no
    credential. A pre-shared key of another length than `parse_record` takes is shown as it is."""
    if credential is None:
        client = {_MODE_OF_CLIENT: NO_SEC, "endpoint": endpoint}
        return {"client": client, "bootstrap": {each: dict(_NO_SEC_BLOCK) for each in _SERVERS}}
    client = {_MODE_OF_CLIENT: _NAMES[credential.kind], "endpoint": credential.endpoint or endpoint}
    match credential.kind:
        case "psk":
            client |= {"identity": credential.identity, "key": credential.key.hex()}
        case "rpk":
            client |= {"key": credential.secret}
        case "x509" if credential.secret:
            client |= {"cert": credential.secret}
    return {"client": client, "bootstrap": json.loads(credential.bootstrap or _NO_BOOTSTRAP)}


def without_secrets(record: dict[str, Any]) -> dict[str, Any]:
    """What everybody may see of a record that `render_record` made: identities, public keys and certificates."""
    client = dict(record["client"])
    if client[_MODE_OF_CLIENT] == "PSK":
        client["key"] = WITHHELD
    servers = {
        name: {member: WITHHELD if member == _SECRET else value for member, value in block.items()}
        for name, block in record["bootstrap"].items()
    }
    return {"client": client, "bootstrap": servers}


# -- the device --


def _client(client: "_Members", now_ms: int) -> Credential:
    mode = client.mode(_MODE_OF_CLIENT)
    client.check({_MODE_OF_CLIENT, "endpoint", *_CLIENT_MEMBERS[mode]}, spare={"identity", "key", "cert"}, mode=mode)
    endpoint = client.text("endpoint")
    if not endpoint.isprintable() or endpoint != endpoint.strip() or len(endpoint) > LONGEST_ENDPOINT:
        raise client.bad(
            "endpoint",
            f"an endpoint name has at most {LONGEST_ENDPOINT} printable characters, no blank before or after",
        )
    match mode:
        case "PSK":
            return _pre_shared(client, now_ms, endpoint)
        case "RPK":
            key = client.text("key")
            try:
                return raw_key_credential(endpoint, key, now_ms, endpoint)
            except BadMaterial as error:
                raise client.bad("key", str(error)) from None
        case "X509":
            certificate = client.optional("cert")
            if not certificate:
                return Credential(endpoint, "", created_ms=now_ms, modified_ms=now_ms, kind=X509, endpoint=endpoint)
            try:
                return certificate_credential(certificate, now_ms, endpoint)
            except BadMaterial as error:
                raise client.bad("cert", str(error)) from None
    return Credential(endpoint, "", created_ms=now_ms, modified_ms=now_ms, kind=NOSEC, endpoint=endpoint)


def _pre_shared(client: "_Members", now_ms: int, endpoint: str) -> Credential:
    identity = client.text("identity")
    _check_identity(client, "identity", identity)
    key = f"psk-hex:{_hex_key(client, 'key')}"
    return Credential(identity, key, created_ms=now_ms, modified_ms=now_ms, endpoint=endpoint)


def _check_identity(members: "_Members", name: str, identity: str) -> None:
    try:
        check_identity(identity)
    except BadCredential as error:
        raise members.bad(name, str(error)) from None


def _hex_key(members: "_Members", name: str) -> str:
    key = members.text(name)
    if not _HEX.fullmatch(key):
        raise members.bad(name, "a key is hex digits")
    if len(key) % _KEY_STEP or len(key) > _KEY_MOST:
        raise members.bad(name, f"a key has 32, 64, 96 or {_KEY_MOST} hex digits, this one has {len(key)}")
    return key.lower()


# -- what a bootstrap server gives it --

_NO_SEC_BLOCK: Final = {_MODE_OF_SERVER: NO_SEC}


def _bootstrap(bootstrap: "_Members") -> str:
    """Canonical JSON; empty where both servers are NO_SEC, as of a device that is not bootstrapped."""
    bootstrap.check(set(_SERVERS))
    blocks = {each: _server(_Members(f"bootstrap.{each}", bootstrap.need(each))) for each in _SERVERS}
    text = json.dumps(blocks)
    return "" if text == _NO_BOOTSTRAP else text


def _server(block: "_Members") -> dict[str, str]:
    mode = block.mode(_MODE_OF_SERVER)
    wanted = set() if mode == NO_SEC else {_PUBLIC, _SECRET}
    block.check({_MODE_OF_SERVER, *wanted}, spare={_PUBLIC, _SECRET}, mode=mode)
    if mode == NO_SEC:
        return dict(_NO_SEC_BLOCK)
    public, secret = block.text(_PUBLIC), block.text(_SECRET)
    if mode == "PSK":
        _check_identity(block, _PUBLIC, public)
        return {_MODE_OF_SERVER: mode, _PUBLIC: public, _SECRET: _hex_key(block, _SECRET)}
    try:
        if mode == "RPK":
            der = spki = read_public_key(public)
        else:
            certificate = read_certificate(public)
            der, spki = der_of(certificate), key_of(certificate)
    except BadMaterial as error:
        raise block.bad(_PUBLIC, str(error)) from None
    try:
        key = read_private_key(secret)
    except BadMaterial as error:
        raise block.bad(_SECRET, str(error)) from None
    if spki_of(key.public_key()) != spki:
        raise block.bad(_SECRET, f"it is not the private key to {_PUBLIC}")
    return {_MODE_OF_SERVER: mode, _PUBLIC: to_base64(der), _SECRET: to_base64(pkcs8_of(key))}


_NO_BOOTSTRAP: Final = json.dumps(dict.fromkeys(_SERVERS, _NO_SEC_BLOCK))


def bootstrap_id(bootstrap: str) -> str:
    """How the bootstrap server finds the device with this `Credential.bootstrap`: as the store's `bootstrap_credential`
    takes it, empty where the device proves nothing to it."""
    try:
        block = json.loads(bootstrap)["bootstrapServer"] if bootstrap else _NO_SEC_BLOCK
        match block[_MODE_OF_SERVER]:
            case "PSK":
                return f"psk:{block[_PUBLIC]}"
            case "RPK":
                return raw_key_id(read_public_key(block[_PUBLIC]))
            case "X509":
                return certificate_key_id(der_of(read_certificate(block[_PUBLIC])))
    except (ValueError, KeyError, TypeError, BadMaterial):
        # Kept from before it was checked.
        pass
    return ""


def is_one_time(bootstrap: str) -> bool:
    """Whether the device with this `Credential.bootstrap` is bootstrapped once with it."""
    return bool(bootstrap and json.loads(bootstrap).get(_ONE_TIME))


# -- JSON --


class _Twice(ValueError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(_shown(next(each for each in names if names.count(each) > 1)))
    return members


class _Members:
    """An object of the record; ``path`` stands before the names of its members in errors."""

    def __init__(self, path: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise BadField(path or "record", "it is a JSON object")
        self._path = path
        self._members: dict[str, Any] = value

    def bad(self, name: str, rule: str) -> BadField:
        return BadField(f"{self._path}.{name}" if self._path else name, rule)

    def check(self, known: Collection[str], spare: Collection[str] = (), mode: str = "") -> None:
        """Other members are refused, since they are slips of the pen; those of ``spare`` may be there, but empty."""
        for name, value in self._members.items():
            if name in known or (name in spare and value in (None, "")):
                continue
            if name in spare:
                raise self.bad(name, f"mode {mode} has none")
            raise self.bad(_shown(name), f"there is no such member; the members are {', '.join(sorted(known))}")

    def need(self, name: str) -> Any:
        if self._members.get(name) is None:
            raise self.bad(name, "it is missing")
        return self._members[name]

    def text(self, name: str) -> str:
        """Not blank."""
        value = self.need(name)
        if not isinstance(value, str):
            raise self.bad(name, "it is a text")
        if not value.strip():
            raise self.bad(name, "it is not blank")
        return value

    def optional(self, name: str) -> str:
        """Empty where it is missing, null or blank."""
        value = self._members.get(name)
        if value is not None and not isinstance(value, str):
            raise self.bad(name, "it is a text")
        return (value or "").strip()

    def mode(self, name: str) -> str:
        mode = self.text(name)
        if mode not in MODES:
            raise self.bad(name, f"it is one of {', '.join(MODES)}")
        return mode


def _shown(name: str) -> str:
    """What may be repeated of a name that is none."""
    is_key = len(name) >= _KEY_STEP // 2 and _HEX.fullmatch(name)
    return name[:40] if name.isidentifier() and not is_key else WITHHELD
