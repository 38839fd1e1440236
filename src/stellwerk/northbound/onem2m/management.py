"""Management objects below a node that people write: ``credentials`` and ``device-info`` (contract §6.5, §9)."""

from dataclasses import replace
from typing import Any, Final

from stellwerk.app.credentials import endpoint_names, kind_of, written_credential
from stellwerk.app.handlers.provisioning import BadItem, check_info
from stellwerk.device.record import PSK, Credential, DeviceRecord
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.request import wanted_text
from stellwerk.northbound.onem2m.tree import CREDENTIALS, DEVICE_INFO

CREDENTIAL_ENVELOPES: Final = ("m2m:crds", "dcfg:crds")
INFO_ENVELOPE: Final = "m2m:dvi"
CREDENTIAL_SHAPE: Final = '{"m2m:crds": {"mgd": 1029, "crid": "<identity>", "crse": "<base64 key>"}}'
_SECRET_SHAPE: Final = (
    "crse is the key as text: base64, or psk-hex: or psk-text: and then the key; or rpk:<public key>, "
    "x509:<certificate>, x509-cn:<endpoint name>"
)
INFO_SHAPE: Final = '{"m2m:dvi": {"mgd": 1007, "man": "<manufacturer>"}}'

CREDENTIAL_CHANGEABLE: Final = frozenset({"crid", "crse", "dc"})
INFO_CHANGEABLE: Final = frozenset(
    {
        *("dc", "dlb", "man", "mod", "smod", "dty", "dvnm", "fwv", "swv", "hwv", "osv", "cnty", "loc"),
        *("syst", "ptl", "mfd", "mfdl", "spur", "purl"),
    }
)
_OF_EVERY_NEW_ONE: Final = frozenset({"rn", "mgd", "cr", "et", "acpi", "lbl"})
CREDENTIAL_WRITABLE: Final = CREDENTIAL_CHANGEABLE | _OF_EVERY_NEW_ONE
INFO_WRITABLE: Final = INFO_CHANGEABLE | _OF_EVERY_NEW_ONE

_DEFINITIONS: Final = {CREDENTIALS: 1029, DEVICE_INFO: 1007}


def check_identity_of(attributes: dict[str, Any], name: str) -> None:
    """A node has one management object of each kind, under a name of its own. Raises `Refusal`."""
    definition = _DEFINITIONS[name]
    given = attributes.get("mgd", definition)
    if isinstance(given, bool) or given != definition:
        raise Refusal(Rsc.BAD_REQUEST, f"mgd is {definition} for {name}")
    if attributes.get("rn") not in (None, name):
        raise Refusal(Rsc.BAD_REQUEST, f"rn is {name}; a node has one of these")


def wanted_credential(envelope: str, attributes: dict[str, Any], device: DeviceRecord) -> Credential:
    """The key of a new ``credentials``; a public key or a certificate needs no ``crid``. Raises `Refusal` and
    `BadCredential`; the text never says what the key was."""
    parts = wanted_parts(attributes)
    for name in ("crse", "crid"):
        if name not in parts and (name == "crse" or kind_of(parts["crse"]) == PSK):
            raise Refusal(Rsc.BAD_REQUEST, f"the attribute {name} is missing; send {CREDENTIAL_SHAPE}")
    names = endpoint_names(device.node_id, device.name)
    written = written_credential(parts.get("crid"), parts["crse"], 0, names)
    return replace(written, description=parts.get("dc", "cred"), envelope=envelope)


def wanted_parts(attributes: dict[str, Any]) -> dict[str, str]:
    """``crid``, ``crse`` and ``dc``, those that are given. Raises `Refusal`."""
    if attributes.get("crtk") is not None:
        raise Refusal(Rsc.NOT_IMPLEMENTED, "tokens (crtk) are not supported; give an identity (crid) and a key (crse)")
    parts: dict[str, str] = {}
    for name, example in (("crid", "an identity"), ("dc", "a description")):
        text = wanted_text(attributes, name, example)
        if text is not None:
            parts[name] = text
        elif name == "crid" and name in attributes:
            raise Refusal(Rsc.BAD_REQUEST, "crid cannot be taken away; delete the credentials")
    if "crse" in attributes:
        secret = attributes["crse"]
        if not isinstance(secret, str):
            raise Refusal(Rsc.BAD_REQUEST, _SECRET_SHAPE)
        parts["crse"] = secret
    return parts


def wanted_info(attributes: dict[str, Any]) -> dict[str, str | None]:
    """Attributes of ``device-info`` as they are to be; None for what is to go, since it is null or empty. Raises
    `Refusal`."""
    wanted = {name: value for name, value in attributes.items() if name in INFO_CHANGEABLE}
    try:
        return {**dict.fromkeys(wanted), **dict(check_info(wanted))}
    except BadItem as error:
        raise Refusal(Rsc.BAD_REQUEST, str(error)) from None


def not_there(envelope: str) -> Refusal:
    """Other management objects follow the device, which is not there yet."""
    return Refusal(Rsc.NOT_IMPLEMENTED, f"{envelope} below a node is not supported; credentials and device-info are")
