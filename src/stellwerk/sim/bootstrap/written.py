"""How a device bootstraps, as people write it on a command line."""

import re
from collections.abc import Iterable
from pathlib import Path

from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.sim.bootstrap.faults import StepFault
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions, Mode, Preference
from stellwerk.sim.release import Release
from stellwerk.sim.written import InvalidOption

_PACKS = (ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR)


def parse_commissioning(
    *,
    release: Release,
    mode: Mode,
    instance: int,
    hold_off_s: int,
    account_timeout_s: int,
    renew_every_s: float,
    pct: str,
    pack_format: int,
    factory_server: str,
    faults: Iterable[str],
    state: Path | None,
) -> Commissioning:
    """What the options of a command line say. Raises `InvalidOption`, `InvalidFault`."""
    if mode is Mode.PACK and release.name != "1.2":
        raise InvalidOption("bootstrap-mode", mode.value, "a pack is of LwM2M 1.2; say --lwm2m 1.2 too")
    if pack_format not in _PACKS or (mode is Mode.PACK and pack_format not in release.formats):
        raise InvalidOption("pack-format", str(pack_format), "a pack is in 110, 112 or 11544")
    if factory_server and not factory_server.startswith("coap://"):
        raise InvalidOption("factory-server", factory_server, "write it as coap://HOST:PORT")
    template = BootstrapOptions(
        "",
        mode=mode,
        instance=instance,
        hold_off_s=hold_off_s,
        account_timeout_s=account_timeout_s,
        renew_every_s=renew_every_s,
        preference=parse_preference(pct),
        accept=pack_format,
        factory_uri=factory_server,
        faults=tuple(map(StepFault.parse, faults)),
    )
    return Commissioning(template, state)


def parse_preference(text: str) -> int | Preference:
    """``112``, ``none``, or nothing for what the release prefers. Raises `InvalidOption`."""
    if not text:
        return Preference.BY_RELEASE
    if text == Preference.NONE.value:
        return Preference.NONE
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) > 65_535:
        raise InvalidOption("pct", text, "write the number of a content format like 112, or none")
    return int(text)
