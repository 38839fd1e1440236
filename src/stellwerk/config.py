"""Settings, read once: environment ``STELLWERK_*`` or the same names in a TOML file (design §2)."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from stellwerk.core.errors import UserError

PREFIX = "STELLWERK_"

LATER: Final = frozenset(
    {
        "STELLWERK_NATS_URL",
        "STELLWERK_COAPS_PORT",
        "STELLWERK_BOOTSTRAP_COAP_PORT",
        "STELLWERK_BOOTSTRAP_COAPS_PORT",
        "STELLWERK_ADMIN_PASSWORD",
        "STELLWERK_MASTER_KEY",
        "STELLWERK_WEBHOOK_ALLOW",
    }
)
"""Settings whose capability is not built yet: accepted, so that a configuration can be written once."""


class BadSetting(UserError):
    """``name`` cannot be ``value``; ``reason`` says what would be right."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        self.name, self.value, self.reason = name, value, reason
        super().__init__(f"{name}={value!r}: {reason}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field is the setting ``STELLWERK_<FIELD>``; ports are None where the listener is ``off``."""

    data_dir: Path = Path("stellwerk-data")
    database_url: str = ""
    host: str = "127.0.0.1"
    http_port: int | None = 8080
    coap_host: str = ""
    """Empty: ``0.0.0.0``, and ``::`` where there is IPv6."""
    coap_port: int | None = 5683
    tenant: str = "default"
    api_token: str = ""
    auto_provision: tuple[str, ...] = ()
    expiry_grace_s: float = 93.0
    awake_s: float = 93.0
    log_level: str = "info"
    log_format: str = "console"


def load_settings(config_file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """File first, environment over it. Raises `BadSetting` for an unknown name or a value that makes no sense, and
    `UserError` for a file that cannot be read."""
    values: dict[str, Any] = {}
    if config_file is not None:
        try:
            loaded = tomllib.loads(config_file.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadSetting("--config", str(config_file), error.strerror or str(error)) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSetting("--config", str(config_file), f"not TOML: {error}") from error
        values.update(loaded)
    source = os.environ if environment is None else environment
    values.update({name: value for name, value in source.items() if name.startswith(PREFIX)})
    known = {PREFIX + field.name.upper(): field.name for field in fields(Settings)}
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name in LATER:
            continue
        if name not in known:
            near = ", ".join(sorted(known))
            raise BadSetting(name, value, f"there is no such setting; the settings are {near}")
        chosen[known[name]] = _parse(name, known[name], value)
    return Settings(**chosen)


def _parse(name: str, field: str, value: Any) -> Any:
    match field:
        case "data_dir":
            text = _text(name, value)
            if not text:
                raise BadSetting(name, value, "a directory; '.' for the current one")
            return Path(text)
        case "http_port" | "coap_port":
            return _port(name, value)
        case "auto_provision":
            parts = value if isinstance(value, list) else _text(name, value).split(",")
            texts = [_text(name, each).strip() for each in parts]
            return tuple(each for each in texts if each)
        case "expiry_grace_s" | "awake_s":
            return _seconds(name, value)
        case "log_level":
            return _one_of(name, value, ("debug", "info", "warning", "error"))
        case "log_format":
            return _one_of(name, value, ("console", "json"))
        case "database_url":
            text = _text(name, value)
            if text:
                raise BadSetting(name, value, "only SQLite in the data directory is there yet; leave it unset")
            return text
        case "tenant":
            text = _text(name, value)
            # A lone '.' or '_' means something else in a URL.
            if not text[:1].isalnum() or not all(each.isalnum() or each in "_-." for each in text):
                raise BadSetting(
                    name,
                    value,
                    "a tenant's name is letters, digits, '-', '_' and '.', and starts with one of the first two",
                )
            return text
        case "api_token":
            text = _text(name, value)
            # The value is a secret, and no header could carry it.
            if not all("!" <= each <= "~" for each in text):
                raise BadSetting(name, "***", "a token is visible ASCII characters without blanks")
            return text
        case _:
            return _text(name, value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadSetting(name, value, "a text, in quotes in a TOML file")
    return value


def _port(name: str, value: Any) -> int | None:
    if str(value).lower() == "off":
        return None
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise BadSetting(name, value, "a port is 0 to 65535 (0: any free one), or 'off'")
    return number


def _seconds(name: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 1e9:
        raise BadSetting(name, value, "seconds, 0 or more")
    return number


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    text = str(value).lower()
    if text not in allowed:
        raise BadSetting(name, value, "one of " + ", ".join(allowed))
    return text
