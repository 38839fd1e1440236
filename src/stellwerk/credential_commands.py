"""`stellwerk credentials`: what devices prove themselves with. Works beside a running server, where changes act within
a second: sessions end and the device has to come again."""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from stellwerk.access import device_named, no_device, open_store
from stellwerk.app.credential_record import (
    LONGEST,
    BadField,
    oscore_text,
    parse_record,
    pre_shared_credential,
    render_record,
    without_secrets,
)
from stellwerk.app.credentials import (
    Change,
    certificate_credential,
    change_credential,
    endpoint_names,
    in_place_of,
    raw_key_credential,
    written_credential,
)
from stellwerk.app.oscore import read_oscore
from stellwerk.app.ports import StoreTrouble
from stellwerk.config import Settings, load_settings
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId
from stellwerk.device.key_material import BadMaterial, key_of, read_certificate, spki_of, to_base64
from stellwerk.device.record import NOSEC, OSCORE, PSK, RPK, X509, Credential, DeviceRecord
from stellwerk.key_files import AUTHORITY, BOOTSTRAP, SERVER, KeyFileUnusable, KeyFolder
from stellwerk.logs import configure_logs
from stellwerk.net.clock import SystemClock

credentials = typer.Typer(
    no_args_is_help=True,
    help="What devices prove themselves with. Works beside a running server: a change ends the device's sessions and "
    "its registration within a second.",
)

_Device = Annotated[str, typer.Argument(help="The device's name, as it was provisioned.", metavar="DEVICE")]
_Tenant = Annotated[str | None, typer.Option(help="Whose; the configured one unless given.")]
_Config = Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")]

_WAYS: Final = "--psk, --rpk, --cert, --cn, --oscore, --no-oscore, --only-oscore, --record or --none"
_CONTEXT_PARTS: Final = {
    "Sender ID": "senderId",
    "Recipient ID": "recipientId",
    "secret": "masterSecret",
    "salt": "masterSalt",
}
_BELOW: Final = frozenset({PSK, RPK, X509})


class BadOption(UserError):
    """What the command line says cannot be done; the text names the option, never a key."""


@credentials.command("set")
def credentials_set(
    device: _Device,
    psk: Annotated[
        str | None,
        typer.Option(help="A pre-shared key: its identity and 32, 64, 96 or 128 hex digits.", metavar="ID:HEXKEY"),
    ] = None,
    rpk: Annotated[
        Path | None, typer.Option(help="A raw public key: SubjectPublicKeyInfo, PEM or DER.", metavar="FILE")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="This very certificate: X.509, PEM or DER.", metavar="FILE")] = None,
    cn: Annotated[
        str | None,
        typer.Option(help="Any certificate of a trusted authority with this endpoint name.", metavar="ENDPOINT"),
    ] = None,
    oscore: Annotated[
        str | None,
        typer.Option(
            help="An OSCORE context: the device's Sender ID and Recipient ID, the secret, perhaps the salt, in hex.",
            metavar="SENDER:RECIPIENT:SECRET[:SALT]",
        ),
    ] = None,
    no_oscore: Annotated[
        bool, typer.Option("--no-oscore", help="No OSCORE context any more; key or certificate stay.")
    ] = False,
    only_oscore: Annotated[
        bool, typer.Option("--only-oscore", help="No key or certificate any more; the OSCORE context stays.")
    ] = False,
    record: Annotated[
        str | None,
        typer.Option(
            help="All of it: the credential record in JSON, with what a bootstrap server gives; - for standard input.",
            metavar="FILE",
        ),
    ] = None,
    none: Annotated[
        bool,
        typer.Option(
            "--none",
            help="None at all: the device comes without security; what a bootstrap server has for it goes, too.",
        ),
    ] = False,
    tenant: _Tenant = None,
    config: _Config = None,
) -> None:
    """Say what a device proves itself with from now on: a key or a certificate for DTLS or TLS, an OSCORE context, or
    both, the context within. What is not named stays as it is."""
    below = [each for each in (psk, rpk, cert, cn) if each is not None]
    layers = [*below, *(each for each in (oscore, no_oscore, only_oscore) if each)]
    whole = (record is not None) + none
    if bool(layers) + whole != 1 or len(below) > 1:
        raise BadOption(f"say one of {_WAYS}; --oscore or --no-oscore may stand beside one of the first four")
    if no_oscore and (oscore or only_oscore):
        raise BadOption(
            f"--no-oscore: {'--oscore gives it one' if oscore else '--only-oscore keeps it'}; say one of both"
        )
    if only_oscore and below:
        raise BadOption(
            "--only-oscore takes the key or certificate away, and another option gives one; say one of both"
        )
    settings = _settings(config)
    now_ms = SystemClock().wall_ms()

    def shown(known: DeviceRecord) -> Credential | None:
        """What the options say without a look at what it has."""
        if psk is not None:
            return _pre_shared(psk, now_ms)
        if rpk is not None:
            return _of_file(rpk, lambda content: raw_key_credential(known.node_id, content, now_ms), "--rpk")
        if cert is not None:
            return _of_file(cert, lambda content: certificate_credential(content, now_ms), "--cert")
        if cn is not None:
            return written_credential(None, f"x509-cn:{cn}", now_ms, endpoint_names(known.node_id, known.name))
        return None if record is None else parse_record(_text(record), now_ms)

    def wanted(known: DeviceRecord) -> Change | None:
        given = shown(known)
        if given is not None or none:
            _check_allowed(settings, given)
        if none:
            return None
        if record is not None:
            return lambda before: _with_its_past(given, before)
        return partial(_layered, known, given, oscore or "", no_oscore, only_oscore)

    changed, credential = asyncio.run(_set(settings, tenant or settings.tenant, device, wanted))
    typer.echo(f"{changed.name}\t{describe(credential)}")
    if credential is not None and credential.kind == X509 and credential.secret:
        _warn_of_dates(credential)


@credentials.command("show")
def credentials_show(
    device: _Device,
    reveal: Annotated[bool, typer.Option("--reveal", help="With the secrets: whoever reads along has them.")] = False,
    tenant: _Tenant = None,
    config: _Config = None,
) -> None:
    """Print the credential record in JSON; secrets as ***."""
    settings = _settings(config)
    known, credential = asyncio.run(_find(settings, tenant or settings.tenant, device))
    shown = render_record(credential, known.node_id)
    typer.echo(json.dumps(shown if reveal else without_secrets(shown), indent=2, ensure_ascii=False))


def describe(credential: Credential | None) -> str:
    """One line without secrets."""
    if credential is None:
        return "no credentials: it comes without security"
    if credential.oscore and credential.kind != OSCORE:
        return f"{_described(credential)}; and {_context(credential)} within"
    return _described(credential)


def _described(credential: Credential) -> str:
    match credential.kind:
        case "psk":
            return f"pre-shared key, identity {credential.identity!r}"
        case "rpk":
            return f"raw public key, SHA-256 {credential.key_id.removeprefix('rpk:')}"
        case "x509" if credential.secret:
            return f"certificate, SHA-256 {credential.key_id.removeprefix('x509:')}"
        case "x509":
            return f"any trusted certificate of {credential.identity!r}"
        case "oscore":
            return f"{_context(credential)}, with nothing below it"
    return "no credentials: it comes without security; a bootstrap server has some for it"


def _context(credential: Credential) -> str:
    sender_id = read_oscore(credential.oscore, DeviceId(0)).sender_id.hex()
    return f"OSCORE context, sender ID {sender_id or '(empty)'}"


# -- parts --


async def _set(
    settings: Settings, tenant: str, name: str, wanted: Callable[[DeviceRecord], Change | None]
) -> tuple[DeviceRecord, Credential | None]:
    """The device and what it has then. ``wanted`` None: nothing."""
    async with open_store(settings, has_secrets=True) as store:
        device = await device_named(settings, store, tenant, name)
        change = wanted(device)
        try:
            if change is None:
                # Also what cannot be read: this may not be the master key that it was sealed with.
                changed = await store.set_credential(device.device_id, None)
            else:
                changed = await change_credential(store, device, change, SystemClock().wall_ms())
        except StoreTrouble as error:
            raise UserError(f"{error}; nothing was changed") from None
        if changed is None:
            raise no_device(tenant, name)
        return changed, await store.credential_of(device.device_id)


def _with_its_past(record: Credential | None, before: Credential | None) -> Credential | None:
    """A record, in the place of whatever was before."""
    if record is None or before is None:
        return record
    return replace(record, created_ms=before.created_ms, description=before.description, envelope=before.envelope)


def _layered(
    device: DeviceRecord,
    below: Credential | None,
    context: str,
    no_oscore: bool,
    only_oscore: bool,
    before: Credential | None,
) -> Credential:
    """``before`` with another layer ``below``, another OSCORE ``context`` as ``--oscore`` has it, or without one of
    them."""
    has_below, has = before is not None and before.kind in _BELOW, describe(before)
    if before is None:
        before = Credential(device.node_id, "", kind=NOSEC)
    oscore = "" if no_oscore else before.oscore
    if context:
        oscore = _oscore_context(context, before.bootstrap)
    if no_oscore and below is None and not (before.oscore and has_below):
        if before.oscore:
            raise BadOption(f"--no-oscore: the device has nothing else ({has}); give it a key too, or say --none")
        raise BadOption(f"--no-oscore: the device has no OSCORE context ({has})")
    if only_oscore and not oscore:
        raise BadOption(f"--only-oscore: the device has no OSCORE context ({has}); --oscore gives it one")
    if below is None and has_below and not only_oscore:
        return replace(before, oscore=oscore)
    if below is None:
        name = before.endpoint or device.node_id
        below = Credential(name, "", created_ms=before.created_ms, kind=OSCORE)
    return replace(in_place_of(before, below), oscore=oscore)


def _oscore_context(text: str, bootstrap: str) -> str:
    parts = text.split(":")
    if not 3 <= len(parts) <= 4:
        raise BadOption("--oscore takes SENDER:RECIPIENT:SECRET or SENDER:RECIPIENT:SECRET:SALT, each in hex")
    try:
        return oscore_text(dict(zip(_CONTEXT_PARTS.values(), parts, strict=False)), bootstrap)
    except BadField as error:
        part = error.field.rpartition(".")[2]
        names = {member: name for name, member in _CONTEXT_PARTS.items()}
        if error.field.startswith("bootstrap."):
            raise BadOption(
                "--oscore, secret: the device has it at the bootstrap server too; each server has one of its own"
            ) from None
        raise BadOption(f"--oscore, {names.get(part, part)}: {error.rule}") from None


async def _find(settings: Settings, tenant: str, name: str) -> tuple[DeviceRecord, Credential | None]:
    async with open_store(settings, has_secrets=True) as store:
        device = await device_named(settings, store, tenant, name)
        return device, await store.credential_of(device.device_id)


def _check_allowed(settings: Settings, credential: Credential | None) -> None:
    if credential is None or credential.kind == NOSEC:
        if not settings.allow_nosec:
            raise BadOption("devices without credentials are not allowed here (STELLWERK_ALLOW_NOSEC=off)")
        return
    folder = KeyFolder(settings.data_dir)
    for name in (SERVER, BOOTSTRAP, AUTHORITY):
        # Files that cannot be used are for `stellwerk keys` to complain about.
        with suppress(KeyFileUnusable):
            own = spki_of(folder.load(name).key.public_key())
            if credential.key_id and _is_of(credential, own):
                raise BadOption(f"{folder.key_file(name)} is the same key; each has one of its own (SEC-8)")


def _is_of(credential: Credential, spki: bytes) -> bool:
    if credential.kind == X509:
        return key_of(read_certificate(credential.secret)) == spki
    return credential.secret == to_base64(spki)


def _pre_shared(text: str, now_ms: int) -> Credential:
    # An identity may hold colons (urn:imei:1), a key in hex does not.
    identity, colon, key = text.rpartition(":")
    if not colon:
        raise BadOption("--psk takes an identity, a colon and the key in hex digits")
    try:
        return pre_shared_credential(identity, key, now_ms)
    except BadField as error:
        raise BadOption(f"--psk, {error.field.removeprefix('client.')}: {error.rule}") from None


def _of_file(file: Path, make: Callable[[bytes], Credential], option: str) -> Credential:
    try:
        return make(_bytes(file, option))
    except BadMaterial as error:
        raise BadOption(f"{option} {file}: {error}") from None


def _bytes(file: Path, option: str) -> bytes:
    try:
        with file.open("rb") as reading:
            return reading.read(LONGEST + 1)
    except OSError as error:
        raise BadOption(f"{option} {file}: {error.strerror or error}") from None


def _text(name: str) -> str:
    content = sys.stdin.buffer.read(LONGEST + 1) if name == "-" else _bytes(Path(name), "--record")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadOption(f"--record {name}: it is no UTF-8 text") from None


def _warn_of_dates(credential: Credential) -> None:
    ends = read_certificate(credential.secret).not_valid_after_utc
    if ends <= datetime.now(UTC):
        typer.echo(f"warning: the certificate has ended on {ends:%Y-%m-%d}; the device is refused with it", err=True)


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logs(settings.log_level, settings.log_format)
    return settings
