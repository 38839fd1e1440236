"""`stellwerk keys`: what the server shows to devices and whom it trusts. Works on files; a running server takes changes
up within seconds."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from stellwerk.config import load_settings
from stellwerk.core.errors import UserError
from stellwerk.device.key_material import BadMaterial, key_of, read_private_key, spki_of, to_base64
from stellwerk.issuing import CLIENT_DAYS, Issued, make_authority, new_key
from stellwerk.key_files import (
    AUTHORITY,
    BOOTSTRAP,
    SERVER,
    KeyFileUnusable,
    KeyFolder,
    check_authority,
    fingerprint_of,
    host_name,
    load_chain,
    notice_about,
    read_file,
    server_names,
    to_pem,
    write_whole,
)

keys = typer.Typer(
    no_args_is_help=True,
    help="The server's own keys and certificates, and the authorities it trusts. A running server takes changes up "
    "within seconds.",
)

_Config = Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")]
_Bootstrap = Annotated[bool, typer.Option("--bootstrap", help="The bootstrap server's instead of the server's.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace what is there; the old files stay as .old.")]
_FILE_NAME: Final = re.compile(r"[^0-9A-Za-z._:-]")


class KeyRefused(UserError):
    """What was asked for would leave the server without usable keys, or with keys that others have."""


@keys.command("show")
def keys_show(
    spki: Annotated[
        bool,
        typer.Option(
            "--spki",
            help="Only the server's public key, which devices for raw public keys know it by (/0/x/4): base64 of its "
            "SubjectPublicKeyInfo.",
        ),
    ] = False,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Only the bootstrap server's; with --spki instead of the server's.")
    ] = False,
    config: _Config = None,
) -> None:
    """Show public keys, certificates and whom the server trusts. Private keys are never shown."""
    folder = _folder(config)
    wanted = BOOTSTRAP if bootstrap else SERVER
    if not folder.exists(SERVER) and not folder.exists(BOOTSTRAP):
        raise KeyRefused("there are no keys yet; `stellwerk keys make` or the first `stellwerk serve` makes them")
    if (spki or bootstrap) and not folder.exists(wanted):
        make = f"stellwerk keys make{' --bootstrap' if bootstrap else ''}"
        raise KeyRefused(f"{folder.key_file(wanted)} is not there; `{make}` or the next `stellwerk serve` makes it")
    if spki:
        typer.echo(to_base64(spki_of(folder.load(wanted).key.public_key())))
        return
    if bootstrap:
        _show(folder, wanted, folder.load(wanted))
        return
    for name in (SERVER, BOOTSTRAP, AUTHORITY):
        if folder.exists(name):
            _show(folder, name, folder.load(name))
    anchors = folder.anchors()
    for each in anchors.certificates:
        if each not in (folder.load(AUTHORITY).chain if folder.exists(AUTHORITY) else ()):
            typer.echo("trusted authority")
            _show_certificate(each)
    for refused in anchors.refused:
        typer.echo(f"not trusted: {refused}", err=True)


@keys.command("make")
def keys_make(
    cn: Annotated[str, typer.Option("--cn", help="The common name; this host's name unless given.")] = "",
    name: Annotated[
        list[str] | None, typer.Option(help="A host name or address that devices use; may be repeated.")
    ] = None,
    ca: Annotated[
        bool, typer.Option("--ca", help="A new certificate authority too: what the old one has signed is void.")
    ] = False,
    bootstrap: _Bootstrap = False,
    force: _Force = False,
    config: _Config = None,
) -> None:
    """Make a key and a certificate of the platform's own authority, which is made too where there is none."""
    folder, wanted = _folder(config), BOOTSTRAP if bootstrap else SERVER
    if not force:
        for each in (AUTHORITY, wanted) if ca else (wanted,):
            if folder.exists(each):
                raise KeyRefused(
                    f"{folder.key_file(each)} is there already; --force replaces it, and devices that know it have to "
                    "learn the new one"
                )
    void: list[Path] = []
    if ca or not folder.exists(AUTHORITY):
        void = _signed_by_authority(folder, {SERVER, BOOTSTRAP} - {wanted})
        _keep_old(folder, AUTHORITY)
        folder.store(AUTHORITY, make_authority(f"Stellwerk CA of {host_name()}"))
        typer.echo(f"made\t{folder.certificate_file(AUTHORITY)}")
    common_name = cn or host_name()
    names = [common_name, *(name or ())] if cn or name else server_names()
    issued = folder.issuer().server(new_key(), common_name, names)
    _keep_old(folder, wanted)
    folder.store(wanted, issued)
    typer.echo(f"made\t{folder.certificate_file(wanted)}")
    for file in void:
        other = "" if bootstrap else "--bootstrap "
        typer.echo(
            f"warning: {file} is of the former authority; `stellwerk keys make {other}--force` renews it", err=True
        )


@keys.command("import")
def keys_import(
    key: Annotated[Path, typer.Option("--key", help="The private key: PKCS#8, PEM or DER, no password.")],
    cert: Annotated[
        Path | None, typer.Option("--cert", help="Its certificate, then those up to the root; none: raw keys only.")
    ] = None,
    bootstrap: _Bootstrap = False,
    force: Annotated[bool, typer.Option("--force", help="Take a certificate that has ended, too.")] = False,
    config: _Config = None,
) -> None:
    """Use a key and a certificate from elsewhere. The old files stay as .old."""
    folder, wanted = _folder(config), BOOTSTRAP if bootstrap else SERVER
    try:
        private = read_private_key(read_file(key))
    except BadMaterial as error:
        raise KeyRefused(f"{key}: {error}") from None
    chain = tuple(load_chain(cert)) if cert is not None else ()
    own = spki_of(private.public_key())
    if chain and key_of(chain[0]) != own:
        raise KeyRefused(f"{cert}: its first certificate is not of the key in {key}")
    for other in {SERVER, BOOTSTRAP, AUTHORITY} - {wanted}:
        if folder.exists(other) and spki_of(folder.load(other).key.public_key()) == own:
            raise KeyRefused(f"{key}: {folder.key_file(other)} is the same key; each has one of its own (SEC-8)")
    for each in chain:
        if notice := notice_about(each, datetime.now(UTC)):
            if each.not_valid_after_utc <= datetime.now(UTC) and not force:
                raise KeyRefused(f"{cert}: {notice}; --force takes it nevertheless")
            typer.echo(f"warning: {notice}", err=True)
    _keep_old(folder, wanted)
    folder.store(wanted, Issued(private, chain))
    typer.echo(f"imported\t{folder.key_file(wanted)}")


@keys.command("trust")
def keys_trust(
    files: Annotated[list[Path], typer.Argument(help="Certificates of authorities: PEM or DER.", metavar="FILE...")],
    config: _Config = None,
) -> None:
    """Trust certificate authorities: whom they call by a device's endpoint name is let in as that device, of whatever
    tenant, where the device's credentials say so."""
    folder = _folder(config)
    found = [(file, each) for file in files for each in load_chain(file, most=1_000)]
    for file, each in found:
        check_authority(each, file)
    for _, each in found:
        folder.add_trust(each)
        typer.echo(f"trusted\t{fingerprint_of(each)}\t{each.subject.rfc4514_string()}")
        if notice := notice_about(each, datetime.now(UTC)):
            typer.echo(f"warning: {notice}", err=True)


@keys.command("distrust")
def keys_distrust(
    wanted: Annotated[
        list[str],
        typer.Argument(
            help="SHA-256 fingerprints as `keys show` prints them (16 digits do).", metavar="FINGERPRINT..."
        ),
    ],
    config: _Config = None,
) -> None:
    """Trust certificate authorities no more. The sessions and registrations of devices whose certificate is known by
    name only end; those whose authority is still trusted come back."""
    folder = _folder(config)
    held = [(file, load_chain(file, most=1_000)) for file in folder.trust_files()]
    gone: list[x509.Certificate] = []
    for text in wanted:
        prefix = text.lower().replace(":", "")
        fits = [each for _, chain in held for each in chain if fingerprint_of(each).startswith(prefix)]
        if len(prefix) < 16 or not fits:
            own = folder.exists(AUTHORITY) and fingerprint_of(folder.issuer().certificate).startswith(prefix)
            hint = (
                "that is the platform's own; `stellwerk keys make --ca --force` replaces it"
                if own
                else ("`stellwerk keys show` names those there are")
            )
            raise KeyRefused(f"no authority in {folder.trust} has the fingerprint {text[:80]!r}; {hint}")
        gone += fits
    for file, chain in held:
        left = [each for each in chain if each not in gone]
        if not left:
            file.unlink()
        elif len(left) < len(chain):
            write_whole(file, to_pem(left), 0o644)
    for each in dict.fromkeys(gone):
        typer.echo(f"distrusted\t{fingerprint_of(each)}\t{each.subject.rfc4514_string()}")


@keys.command("issue")
def keys_issue(
    endpoint: Annotated[str, typer.Argument(help="The endpoint name of the device.")],
    out: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("."),
    days: Annotated[int, typer.Option(help="How long the certificate is valid.", min=1, max=36_500)] = CLIENT_DAYS,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    config: _Config = None,
) -> None:
    """Make a key for a device: ENDPOINT.key (private), ENDPOINT.pem (certificate of the platform's own authority),
    ENDPOINT.pub (raw public key). For tests and demos: in the field the private key is best made by the device."""
    folder = _folder(config)
    if not folder.exists(AUTHORITY):
        raise KeyRefused("there is no authority yet; `stellwerk keys make` or the first `stellwerk serve` makes it")
    issued = folder.issuer().client(new_key(), endpoint, days)
    stem = _FILE_NAME.sub("_", endpoint).lstrip(".")[:120] or "device"
    files = {each: out / f"{stem}.{each}" for each in ("key", "pem", "pub")}
    there = [str(each) for each in files.values() if each.exists()]
    if there and not force:
        raise KeyRefused(f"{', '.join(there)} is there already; --force replaces it")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KeyRefused(f"{out}: {error.strerror or error}") from None
    write_whole(files["key"], _private_pem(issued.key), 0o600)
    write_whole(files["pem"], to_pem(issued.chain[:1]), 0o644)
    public = issued.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_whole(files["pub"], public, 0o644)
    for each in files.values():
        typer.echo(str(each))


# -- parts --


def _folder(config: Path | None) -> KeyFolder:
    return KeyFolder(load_settings(config).data_dir)


def _private_pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _keep_old(folder: KeyFolder, name: str) -> None:
    for file in (folder.key_file(name), folder.certificate_file(name)):
        if file.exists():
            # A second name: the file itself stays until its successor is whole.
            old = file.with_name(f"{file.name}.old")
            old.unlink(missing_ok=True)
            os.link(file, old)


def _signed_by_authority(folder: KeyFolder, names: Iterable[str]) -> list[Path]:
    """Whose certificates the platform's own authority has signed."""
    found = []
    with suppress(KeyFileUnusable):
        authority = folder.load(AUTHORITY).chain[0]
        for each in names:
            with suppress(KeyFileUnusable, InvalidSignature, ValueError, TypeError, IndexError):
                folder.load(each).chain[0].verify_directly_issued_by(authority)
                found.append(folder.certificate_file(each))
    return found


def _show(folder: KeyFolder, name: str, issued: Issued) -> None:
    spki = spki_of(issued.key.public_key())
    typer.echo(f"{'authority' if name == AUTHORITY else name}\t{folder.key_file(name)}")
    typer.echo(f"  public key (SPKI, base64)  {to_base64(spki)}")
    typer.echo(f"  public key, SHA-256        {sha256(spki).hexdigest()}")
    if issued.chain:
        _show_certificate(issued.chain[0])
    else:
        typer.echo("  no certificate: raw public keys and pre-shared keys only")


def _show_certificate(certificate: x509.Certificate) -> None:
    typer.echo(f"  certificate                {certificate.subject.rfc4514_string()}")
    typer.echo(f"  issued by                  {certificate.issuer.rfc4514_string()}")
    with suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        typer.echo(f"  names                      {' '.join(str(each.value) for each in names)}")
    typer.echo(f"  certificate, SHA-256       {fingerprint_of(certificate)}")
    typer.echo(
        f"  valid                      {certificate.not_valid_before_utc:%Y-%m-%d} "
        f"to {certificate.not_valid_after_utc:%Y-%m-%d}"
    )
    if notice := notice_about(certificate, datetime.now(UTC)):
        typer.echo(f"  warning                    {notice}")
