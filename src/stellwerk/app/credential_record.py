"""The credential record of the device platform (contract §4): JSON with what a device proves itself with (``client``)
and what a bootstrap server gives it (``bootstrap``).

A record is taken whole or refused with the first field that is wrong and the rule it breaks, as
``client.key: a key has 32, 64, 96 or 128 hex digits, this one has 31``; the text never holds a key. Certificates and
keys may be PEM where the contract says base64 of DER.

Beyond the contract, all of it optional:

- ``client.oscore``: the OSCORE context of the device, ``{"masterSecret", "senderId", "recipientId", "masterSalt",
  "idContext", "aead", "hkdf"}``; bytes are hex, names those of object 21 (the device sends as ``senderId``), algorithms
  COSE numbers (10 and -10 unless given). With mode ``NO_SEC`` nothing lies below OSCORE, else both layers are wanted
  (contract LwM2M §2.6).
- ``bootstrap.bootstrapServer.oscore``: the one that it has with the bootstrap server, with a master secret of its own.
  Beside mode ``NO_SEC`` it is all that the device proves itself with there, else both layers are wanted.
- ``bootstrap.lwm2mServer.oscore``: the one that a bootstrap server gives the device with its keys.
- ``bootstrap.servers``: ``{"<short server ID>": {...}}``, keys of single servers in the place of ``lwm2mServer``.
- ``bootstrap.bootstrapServer`` need not have the private key of a device that is not given it anew (RPK, X509), and of
  X509 not the certificate: then whatever a trusted authority has made out to the device's name will do.
- ``bootstrap.oneTime``: whether the device is bootstrapped once with this; whoever sets the record arms it again.
- ``bootstrap.endpoint``: the endpoint name that the device has at the bootstrap server (contract LwM2M B-15).
"""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final

from stellwerk.app.bootstrap_blocks import BOOTSTRAP_SERVER, LWM2M_SERVER, ONE_TIME, SERVERS
from stellwerk.app.credentials import (
    NO_SEC,
    WITHHELD,
    BadCredential,
    certificate_credential,
    check_identity,
    raw_key_credential,
)
from stellwerk.app.members import BadField as BadField
from stellwerk.app.members import Members, Twice, once, shown
from stellwerk.app.oscore import AEAD_NONCES, AES_CCM_16_64_128, HKDF_SHA_256, HKDFS, OscoreContext, render_oscore
from stellwerk.core.ids import DeviceId
from stellwerk.device.key_material import (
    LEAST_KEY,
    LONGEST_KEY,
    BadMaterial,
    certificate_key_id,
    der_of,
    key_of,
    pkcs8_of,
    pre_shared_fault,
    raw_key_id,
    read_certificate,
    read_private_key,
    read_public_key,
    spki_of,
    to_base64,
)
from stellwerk.device.record import MODE_NAMES, MODES, NOSEC, OSCORE, X509, Credential, promoted

LONGEST: Final = 131_072
"""Characters of a record."""
LONGEST_ENDPOINT: Final = 255

_SERVERS: Final = (BOOTSTRAP_SERVER, LWM2M_SERVER)
_CLIENT_MEMBERS: Final = {NO_SEC: (), "PSK": ("identity", "key"), "RPK": ("key",), "X509": ("cert",)}
_MODE_OF_CLIENT: Final = "securityConfigClientMode"
_MODE_OF_SERVER: Final = "securityMode"
_PUBLIC: Final = "clientPublicKeyOrId"
_SECRET: Final = "clientSecretKey"
_ENDPOINT: Final = "endpoint"
_HEX: Final = re.compile(r"[0-9a-fA-F]*")
_NAMES: Final = {**MODE_NAMES, OSCORE: NO_SEC}
_OSCORE: Final = "oscore"
_SHORT_IDS: Final = range(1, 65535)
_MOST_SALT: Final = 64
_MOST_ID_CONTEXT: Final = 32


def parse_record(text: str, now_ms: int) -> Credential:
    """The credential that a record in JSON says; `NOSEC` is its kind where there is none. Raises `BadField`."""
    if len(text) > LONGEST:
        raise BadField("record", f"it has {len(text)} characters, {LONGEST} are the most")
    try:
        value = json.loads(text, object_pairs_hook=once)
    except Twice as error:
        raise BadField(error.name, "it is given twice") from None
    except RecursionError:
        raise BadField("record", "it is nested too deeply") from None
    except ValueError as error:
        # Of a decoder's words only the place: the rest may quote.
        place = f" in line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadField("record", f"it is no JSON{place}") from None
    record = Members("", value)
    record.check({"client", "bootstrap"})
    client = Members("client", record.need("client"))
    credential = _client(client, now_ms)
    oscore = _oscore(client)
    if oscore:
        kind = OSCORE if credential.kind == NOSEC else credential.kind
        credential = replace(credential, kind=kind, oscore=json.dumps(oscore))
    bootstrap = _bootstrap(Members("bootstrap", record.need("bootstrap")), oscore)
    return replace(credential, bootstrap=bootstrap)


def pre_shared_credential(identity: str, key: str, now_ms: int) -> Credential:
    """By the rules of a record: ``key`` in hex. Raises `BadField`."""
    return _pre_shared(Members("client", {"identity": identity, "key": key}), now_ms, "")


def oscore_text(context: dict[str, str], bootstrap: str) -> str:
    """`Credential.oscore` by the rules of a record: ``context`` as ``client.oscore`` of one whose other part is
    ``bootstrap`` (as `Credential.bootstrap`). Raises `BadField`."""
    oscore = _oscore(Members("client", {_OSCORE: context}))
    if bootstrap:
        _check_apart(json.loads(bootstrap)[BOOTSTRAP_SERVER], [oscore])
    return json.dumps(oscore)


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
    if credential.oscore:
        client |= {_OSCORE: json.loads(credential.oscore)}
    return {"client": client, "bootstrap": json.loads(credential.bootstrap or _NO_BOOTSTRAP)}


def without_secrets(record: dict[str, Any]) -> dict[str, Any]:
    """What everybody may see of a record that `render_record` made: identities, public keys and certificates."""
    hidden = {_SECRET, "masterSecret", "key" if record["client"][_MODE_OF_CLIENT] == "PSK" else ""}
    masked = _masked(record, hidden)
    assert isinstance(masked, dict)
    return masked


def _masked(value: Any, hidden: Collection[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: WITHHELD if name in hidden else _masked(each, hidden) for name, each in value.items()}


# -- the device --


def _client(client: Members, now_ms: int) -> Credential:
    mode = client.one_of(_MODE_OF_CLIENT, MODES)
    client.check(
        {_MODE_OF_CLIENT, "endpoint", _OSCORE, *_CLIENT_MEMBERS[mode]}, spare={"identity", "key", "cert"}, mode=mode
    )
    endpoint = client.text("endpoint")
    _check_endpoint(client, endpoint)
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


def _check_endpoint(members: Members, endpoint: str) -> None:
    if not endpoint.isprintable() or endpoint != endpoint.strip() or len(endpoint) > LONGEST_ENDPOINT:
        raise members.bad(
            _ENDPOINT, f"an endpoint name has at most {LONGEST_ENDPOINT} printable characters, no blank before or after"
        )


def _oscore(members: Members) -> dict[str, Any] | None:
    """Canonical; None where there is none."""
    given = members.inner(_OSCORE)
    if given is None:
        return None
    given.check({"masterSecret", "senderId", "recipientId", "masterSalt", "idContext", "aead", "hkdf"})
    aead = given.number("aead", AEAD_NONCES, AES_CCM_16_64_128)
    # RFC 8613 §3.3.
    longest = AEAD_NONCES[aead] - 6
    context = OscoreContext(
        0,
        DeviceId(0),
        given.hex("senderId", 0, longest),
        given.hex("recipientId", 0, longest),
        given.hex("masterSecret", LEAST_KEY, LONGEST_KEY),
        given.hex("masterSalt", 0, _MOST_SALT, optional=True),
        given.hex("idContext", 0, _MOST_ID_CONTEXT, optional=True),
        aead,
        HKDFS[given.number("hkdf", HKDFS, HKDF_SHA_256)],
    )
    if context.sender_id == context.recipient_id:
        raise given.bad("recipientId", "both ends have the same ID; each has one of its own (RFC 8613 §3.3)")
    rendered = json.loads(render_oscore(context))
    assert isinstance(rendered, dict)
    return rendered


def _pre_shared(client: Members, now_ms: int, endpoint: str) -> Credential:
    identity = client.text("identity")
    _check_identity(client, "identity", identity)
    key = f"psk-hex:{_hex_key(client, 'key')}"
    return Credential(identity, key, created_ms=now_ms, modified_ms=now_ms, endpoint=endpoint)


def _check_identity(members: Members, name: str, identity: str) -> None:
    try:
        check_identity(identity)
    except BadCredential as error:
        raise members.bad(name, str(error)) from None


def _hex_key(members: Members, name: str) -> str:
    key = members.text(name)
    if not _HEX.fullmatch(key):
        raise members.bad(name, "a key is hex digits")
    if fault := pre_shared_fault(len(key)):
        raise members.bad(name, fault)
    return key.lower()


# -- what a bootstrap server gives it --

_NO_SEC_BLOCK: Final = {_MODE_OF_SERVER: NO_SEC}


def _bootstrap(bootstrap: Members, of_client: dict[str, Any] | None) -> str:
    """Canonical JSON; empty where both servers are NO_SEC, as of a device that is not bootstrapped. ``of_client``: the
    OSCORE context of the device."""
    bootstrap.check({*_SERVERS, SERVERS, ONE_TIME, _ENDPOINT})
    blocks: dict[str, Any] = {}
    for name in _SERVERS:
        blocks[name] = _server(Members(f"bootstrap.{name}", bootstrap.need(name)), is_shown=name == BOOTSTRAP_SERVER)
    single = bootstrap.inner(SERVERS) or Members("", {})
    servers = {}
    for short_id in single.names():
        if not short_id.isdecimal() or str(int(short_id[:9])) != short_id or int(short_id) not in _SHORT_IDS:
            raise single.bad(shown(short_id), "it is a short server ID, 1 to 65534")
        servers[short_id] = _server(Members(f"bootstrap.{SERVERS}.{short_id}", single.need(short_id)))
    given = (each.get(_OSCORE) for each in (blocks[LWM2M_SERVER], *servers.values()))
    _check_apart(blocks[BOOTSTRAP_SERVER], [of_client, *given])
    if servers:
        blocks[SERVERS] = servers
    if bootstrap.flag(ONE_TIME):
        blocks[ONE_TIME] = True
    if endpoint := bootstrap.optional(_ENDPOINT):
        _check_endpoint(bootstrap, endpoint)
        blocks[_ENDPOINT] = endpoint
    text = json.dumps(blocks)
    return "" if text == _NO_BOOTSTRAP else text


def _check_apart(bootstrap_server: dict[str, Any], others: Iterable[dict[str, Any] | None]) -> None:
    """Two servers with one context would use the same nonces, each without knowing of the other (RFC 8613 §3.3)."""
    own = bootstrap_server.get(_OSCORE)
    if own and any(each and each["masterSecret"] == own["masterSecret"] for each in others):
        raise BadField(
            f"bootstrap.{BOOTSTRAP_SERVER}.{_OSCORE}.masterSecret", "another server has it too; each has one of its own"
        )


def _server(block: Members, is_shown: bool = False) -> dict[str, Any]:
    """``is_shown``: the device shows it, and need not be given it."""
    found: dict[str, Any] = _keys(block, is_shown)
    oscore = _oscore(block)
    return found if oscore is None else {**found, _OSCORE: oscore}


def _keys(block: Members, is_shown: bool) -> dict[str, str]:
    mode = block.one_of(_MODE_OF_SERVER, MODES)
    wanted = set() if mode == NO_SEC else {_PUBLIC, _SECRET}
    block.check({_MODE_OF_SERVER, _OSCORE, *wanted}, spare={_PUBLIC, _SECRET}, mode=mode)
    if mode == NO_SEC:
        return dict(_NO_SEC_BLOCK)
    if is_shown and mode == "X509" and not (block.optional(_PUBLIC) or block.optional(_SECRET)):
        # Any that a trusted authority has made out to its name.
        return {_MODE_OF_SERVER: mode}
    public = block.text(_PUBLIC)
    secret = block.optional(_SECRET) if is_shown and mode != "PSK" else block.text(_SECRET)
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
    if not secret:
        return {_MODE_OF_SERVER: mode, _PUBLIC: to_base64(der)}
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
        block = json.loads(bootstrap)[BOOTSTRAP_SERVER] if bootstrap else _NO_SEC_BLOCK
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


def bootstrap_oscore(bootstrap: str) -> str:
    """The OSCORE context that the device with this `Credential.bootstrap` has with the bootstrap server, as
    `app.oscore.read_oscore` takes it; empty where there is none."""
    try:
        oscore = json.loads(bootstrap)[BOOTSTRAP_SERVER].get(_OSCORE) if bootstrap else None
    except (ValueError, KeyError, TypeError, AttributeError):
        # Kept from before it was checked.
        oscore = None
    return json.dumps(oscore) if oscore else ""


def is_one_time(bootstrap: str) -> bool:
    """Whether the device with this `Credential.bootstrap` is bootstrapped once with it."""
    return bool(bootstrap and json.loads(bootstrap).get(ONE_TIME))


def taken_up(before: Credential | None, fresh: Credential) -> Credential:
    """`promoted`. A device that uses what it was given has been bootstrapped, whether or not its answer to Finish was
    heard: a credential for one time that was armed before is used up."""
    credential = promoted(before, fresh)
    if credential.spent_ms or before is None or not before.modified_ms <= fresh.created_ms:
        return credential
    return replace(credential, spent_ms=fresh.created_ms) if is_one_time(before.bootstrap) else credential
