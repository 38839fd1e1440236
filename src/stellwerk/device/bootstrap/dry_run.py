"""A plan or a pack for people: each operation with what it writes, secrets withheld, and what would go wrong."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography.x509.oid import NameOID

from stellwerk.device.bootstrap.account import Account, OscoreKeys
from stellwerk.device.bootstrap.configuration import DEVICE_KEYS, BootstrapConfiguration
from stellwerk.device.bootstrap.pack import Pack
from stellwerk.device.bootstrap.plan import Plan
from stellwerk.device.bootstrap.summaries import SECRETS
from stellwerk.device.key_material import BadMaterial, certificate_key_id, raw_key_id, read_certificate
from stellwerk.device.record import NOSEC, PSK, RPK, X509, BadKey, Credential
from stellwerk.lwm2m.bootstrap import OSCORE, BootstrapDelete, bootstrap_types
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import Value

_LONGEST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class ShownValue:
    """``path``: ``/0/1/5``; ``name`` as the object's definition has it; ``text``: the value, or what is said of it."""

    path: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ShownStep:
    """``operation``: ``Bootstrap-Delete``, ``Bootstrap-Write``, ``Bootstrap-Pack``."""

    operation: str
    path: str
    values: tuple[ShownValue, ...] = ()
    content_format: int | None = None


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a device would be told, in order, and what a person should know of it; no secrets in either."""

    steps: tuple[ShownStep, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Lines for a terminal."""
        lines: list[str] = []
        for step in self.steps:
            written = "" if step.content_format is None else f"  (Content-Format {step.content_format})"
            lines.append(f"{step.operation} {step.path}{written}")
            lines += [f"  {each.path:<10} {each.name}: {each.text}" for each in step.values]
        if not lines:
            lines.append("Nothing would be written.")
        return "\n".join([*lines, *(f"warning: {each}" for each in self.warnings)])


def show_plan(
    plan: Plan, configuration: BootstrapConfiguration, accounts: Iterable[Account], credential: Credential | None
) -> DryRun:
    """``accounts``: those that ``plan`` was made of, without those of servers that are not this one's; ``credential``:
    what the device would be accepted with here."""
    steps: list[ShownStep] = []
    for step in plan.steps:
        if isinstance(step, BootstrapDelete):
            steps.append(ShownStep("Bootstrap-Delete", str(step.path)))
        else:
            values = show_content(step.content)
            steps.append(ShownStep("Bootstrap-Write", str(step.path), values, step.content_format))
    return DryRun(tuple(steps), (*plan.warnings, *_doubts(configuration, accounts, credential)))


def show_pack(
    pack: Pack,
    content_format: int,
    configuration: BootstrapConfiguration,
    accounts: Iterable[Account],
    credential: Credential | None,
) -> DryRun:
    """As `show_plan`."""
    step = ShownStep("Bootstrap-Pack", "/", show_content(pack.content), content_format)
    return DryRun((step,), (*pack.warnings, *_doubts(configuration, accounts, credential)))


def show_content(content: Content) -> tuple[ShownValue, ...]:
    """Every value, secrets withheld."""
    types = bootstrap_types(content)
    shown = []
    for path, value, _ in content.entries:
        model = types.resource(path)
        shown.append(ShownValue(str(path), "" if model is None else model.name, show_value(path, value)))
    return tuple(shown)


def show_value(path: Path, value: Value) -> str:
    """A value that a bootstrap server writes; of a secret its length alone, of other bytes their text or a digest."""
    if value in (b"", ""):
        return "empty"
    if (path[0], path[2]) in SECRETS:
        count = len(value) if isinstance(value, bytes) else len(str(value)) // 2
        return f"{count} bytes, withheld"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return _show_bytes(path, value)
    text = str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _show_bytes(path: Path, value: bytes) -> str:
    if path[0] == OSCORE:
        return value.hex()
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text.isprintable() and text and len(text) <= _LONGEST_TEXT:
        return repr(text)
    return f"{len(value)} bytes, SHA-256 {sha256(value).hexdigest()[:16]}..."


def _doubts(
    configuration: BootstrapConfiguration, accounts: Iterable[Account], credential: Credential | None
) -> Sequence[str]:
    found = []
    servers = [each for each in configuration.servers if not each.is_bootstrap]
    if len(servers) > 1 and not configuration.acls:
        found.append(
            f"the profile has {len(servers)} servers and no acls: a device that has object 2 gives each server only "
            "what that one creates itself"
        )
    for each in accounts:
        if each.entry.mode == RPK and each.entry.transport == "tcp":
            found.append(f"{each}: raw public keys do not go over TLS here; PSK and X509 do, and all over UDP")
        if not each.entry.is_bootstrap and each.entry.keys == DEVICE_KEYS:
            found += [f"{each}: {difference}" for difference in differences(each, credential)]
    return found


def differences(account: Account, credential: Credential | None) -> tuple[str, ...]:
    """Why this server would not accept the device with the keys of ``account``; nothing where it would."""
    keys, kind = account.keys, NOSEC if credential is None else credential.kind
    wanted = _WITHOUT if credential is None else credential
    found = []
    carried = NOSEC if kind == "oscore" else kind
    if carried != keys.mode:
        found.append(f"the device is given keys of mode {keys.mode}, and here its credential is of mode {kind}")
    elif keys.mode == PSK:
        if wanted.identity.encode() != keys.public:
            found.append(f"the PSK identity is another than here, where it is {wanted.identity!r}")
        elif _key_of(wanted) != keys.secret:
            found.append("the pre-shared key is another than here, of the same identity")
    elif keys.mode == RPK and wanted.key_id != raw_key_id(keys.public):
        found.append("the raw public key is another than here")
    elif keys.mode == X509:
        found += _certificate_differences(keys.public, wanted)
    found += _oscore_differences(keys.oscore if account.entry.oscore else None, wanted.oscore)
    return tuple(found)


_WITHOUT: Final = Credential("", "", kind=NOSEC)


def _key_of(credential: Credential) -> bytes:
    try:
        return credential.key
    except BadKey:
        return b""


def _certificate_differences(certificate: bytes, credential: Credential) -> list[str]:
    if credential.secret:
        same = credential.key_id == certificate_key_id(certificate)
        return [] if same else ["the certificate is another than the one that is pinned here"]
    try:
        names = read_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except BadMaterial as error:
        return [f"the certificate cannot be used: {error}"]
    if any(each.value == credential.endpoint for each in names):
        return []
    return [f"the certificate's common name is not the endpoint name {credential.endpoint!r}"]


def _oscore_differences(keys: OscoreKeys | None, here: str) -> list[str]:
    """``here``: the JSON text of `Credential.oscore`."""
    try:
        context: Any = json.loads(here) if here else None
    except ValueError:
        context = None
    if keys is None or context is None:
        if keys is context is None:
            return []
        return ["an OSCORE context is wanted here, and none is given" if keys is None else "no OSCORE context is here"]
    given = {
        "senderId": keys.sender_id,
        "recipientId": keys.recipient_id,
        "masterSecret": keys.master_secret,
        "masterSalt": keys.master_salt,
        "idContext": keys.id_context,
    }
    other = [name for name, value in given.items() if str(context.get(name) or "").lower() != value.hex()]
    return [f"the OSCORE context differs from the one here in {', '.join(other)}"] if other else []
