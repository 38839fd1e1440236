"""Settings, read once: environment ``STELLWERK_*`` or the same names in a TOML file (design §2)."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from stellwerk.core.errors import UserError

Naming: TypeAlias = Literal["published", "short", "full"]
Echo: TypeAlias = Literal["off", "amplification", "moves"]

TOLERANCES: Final = ("queue-in-binding", "missing-version")

CID_CODE_POINTS: Final = (53, 54)
"""Of connection_id: before RFC 9146, and by it."""

PREFIX = "STELLWERK_"
_MOST_DAYS: Final = 36_500
"""A ticket says its seconds with 32 bits (RFC 5077 3.3)."""
_MASTER_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")

_COAP_PORTS: Final = ("coap_port", "coaps_port", "bootstrap_coap_port", "bootstrap_coaps_port")

LATER: Final = frozenset(
    {
        "STELLWERK_NATS_URL",
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
    coap_tcp: bool = True
    coap_tcp_connections: int = 10_000
    coap_tcp_per_address: int = 1_000
    coap_tcp_ping_s: float = 600.0
    """0: a silent connection is never asked whether it stands."""
    coaps_port: int | None = 5684
    coap_tls: bool = True
    dtls_cid: bool = True
    dtls_cid_code_points: tuple[int, ...] = (54,)
    dtls_cbc: bool = False
    dtls_clockless: bool = False
    dtls_session_days: float = 7.0
    dtls_sessions: int = 1_000_000
    dtls_half_open: int = 4_096
    dtls_handshakes_per_address: float = 500.0
    """Handshakes a second; 0: as many as come. The same for the next two."""
    dtls_handshakes_per_tenant: float = 2_000.0
    dtls_handshakes_with_certificates: float = 400.0
    bootstrap_coap_port: int | None = 5687
    bootstrap_coaps_port: int | None = 5688
    bootstrap_sessions: int = 10_000
    """How many devices are bootstrapped at once."""
    bootstrap_packs: bool = True
    node_id: int = 0
    oscore: bool = True
    tenant: str = "default"
    admin_password: str = field(default="", repr=False)
    master_key: str = field(default="", repr=False)
    master_key_old: str = field(default="", repr=False)
    """Former ones, divided by commas."""
    api_token: str = field(default="", repr=False)
    api_auth: bool = True
    naming: Naming = "published"
    allow_nosec: bool = True
    container_mni: int = 100
    container_mbs: int = 1_000_000
    queue_s: float | None = None
    """None: commands wait as long as the registration lasts."""
    queue_length: int = 1_000
    auto_read: tuple[int, ...] = (3, 6)
    auto_read_messages: bool = False
    auto_provision: tuple[str, ...] = ()
    expiry_grace_s: float = 93.0
    awake_s: float = 93.0
    gateway_end_devices: int = 200
    brake_lag_s: float = 60.0
    echo: Echo = "amplification"
    tolerate: tuple[str, ...] = ("queue-in-binding",)
    uplinks_extend_lifetime: bool = False
    log_level: str = "info"
    log_format: str = "console"


def load_settings(config_file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """File first, environment over it. Raises `BadSetting` for an unknown name, a value that makes no sense, one port
    for two listeners, or a file that cannot be read."""
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
    known = {PREFIX + each.name.upper(): each.name for each in fields(Settings)}
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name in LATER:
            continue
        if name not in known:
            # It may be the misspelt name of a secret.
            near = get_close_matches(
                name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], cutoff=0.8
            )
            names = ", ".join(PREFIX + each for each in near) or ", ".join(sorted(known))
            raise BadSetting(
                name, "***", f"there is no such setting; {'near is' if near else 'the settings are'} {names}"
            )
        chosen[known[name]] = _parse(name, known[name], value)
    settings = Settings(**chosen)
    _check_ports(settings)
    return settings


def _check_ports(settings: Settings) -> None:
    """Each engine of CoAP has a port of its own; the system would only say that it is taken."""
    taken: dict[int, str] = {}
    for setting in _COAP_PORTS:
        port = getattr(settings, setting)
        if not port:
            continue
        name = PREFIX + setting.upper()
        if port in taken:
            raise BadSetting(name, port, f"{taken[port]} has this port too; each has one of its own, or is 'off'")
        taken[port] = name


def _parse(name: str, field: str, value: Any) -> Any:
    match field:
        case "data_dir":
            text = _text(name, value)
            if not text:
                raise BadSetting(name, value, "a directory; '.' for the current one")
            return Path(text)
        case "http_port" | "coap_port" | "coaps_port" | "bootstrap_coap_port" | "bootstrap_coaps_port":
            return _port(name, value)
        case "auto_provision":
            parts = value if isinstance(value, list) else _text(name, value).split(",")
            texts = [_text(name, each).strip() for each in parts]
            return tuple(each for each in texts if each)
        case "tolerate":
            listed = value if isinstance(value, list) else _text(name, value).split(",")
            return tuple(_one_of(name, each.strip(), TOLERANCES) for each in map(str, listed) if each.strip())
        case "echo":
            return _one_of(name, value, ("off", "amplification", "moves"))
        case "expiry_grace_s" | "awake_s" | "brake_lag_s" | "coap_tcp_ping_s":
            return _seconds(name, value)
        case "queue_s":
            return None if value == "" else _seconds(name, value)
        case "dtls_session_days":
            return _amount(name, value, "days", most=_MOST_DAYS)
        case "dtls_handshakes_per_address" | "dtls_handshakes_per_tenant" | "dtls_handshakes_with_certificates":
            return _amount(name, value, "handshakes a second")
        case "dtls_cid_code_points":
            return _code_points(name, value)
        case "node_id":
            return _count(name, value, 0, 255)
        case "dtls_sessions" | "dtls_half_open" | "bootstrap_sessions":
            return _count(name, value, 1, 10_000_000)
        case "auto_read":
            return _objects(name, value)
        case "gateway_end_devices":
            return _count(name, value, 0, 1000)
        case "queue_length":
            return _count(name, value, 1, 100_000)
        case "container_mni":
            return _count(name, value, 1, 1_000_000)
        case "container_mbs":
            return _count(name, value, 1000, 1_000_000_000)
        case "coap_tcp_connections" | "coap_tcp_per_address":
            return _count(name, value, 1, 1_000_000)
        case "api_auth" | "allow_nosec" | "auto_read_messages" | "uplinks_extend_lifetime" | "coap_tcp" | "coap_tls":
            return _switch(name, value)
        case "dtls_cid" | "dtls_cbc" | "dtls_clockless" | "bootstrap_packs" | "oscore":
            return _switch(name, value)
        case "naming":
            return _one_of(name, value, ("published", "short", "full"))
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
        case "master_key":
            text = _text(name, value)
            if text and not _MASTER_KEY.fullmatch(text):
                raise BadSetting(name, "***", "64 hex digits, for example of: openssl rand -hex 32")
            return text
        case "master_key_old":
            text = _text(name, value)
            if not all(_MASTER_KEY.fullmatch(each.strip()) for each in text.split(",") if each.strip()):
                raise BadSetting(name, "***", "keys of 64 hex digits, divided by commas")
            return text
        case "admin_password":
            text = _text(name, value)
            if text and not 8 <= len(text) <= 1024:
                raise BadSetting(name, "***", "a password has 8 to 1024 characters")
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
        raise BadSetting(name, "***", "a text, in quotes in a TOML file")
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
    return _amount(name, value, "seconds")


def _amount(name: str, value: Any, unit: str, most: float = 1e9) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= most:
        raise BadSetting(name, value, f"{unit}, 0 or more" if number <= most else f"{unit}, {most:g} at most")
    return number


def _switch(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return _one_of(name, value, ("on", "off", "true", "false", "1", "0")) in ("on", "true", "1")


def _count(name: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if not least <= number <= most:
        raise BadSetting(name, value, f"a number from {least} to {most}")
    return number


def _objects(name: str, value: Any) -> tuple[int, ...]:
    parts = value if isinstance(value, list) else [each for each in str(value).split(",") if each.strip()]
    try:
        numbers = tuple(dict.fromkeys(int(each) for each in parts))
    except (ValueError, TypeError, OverflowError):
        numbers = (-1,)
    if not all(0 < each < 65535 for each in numbers):
        raise BadSetting(name, value, "numbers of objects, like 3,6; empty for none")
    return numbers


def _code_points(name: str, value: Any) -> tuple[int, ...]:
    parts = value if isinstance(value, list) else [each for each in str(value).split(",") if each.strip()]
    try:
        numbers = tuple(dict.fromkeys(int(each) for each in parts))
    except (ValueError, TypeError, OverflowError):
        numbers = ()
    if not numbers or not all(each in CID_CODE_POINTS for each in numbers):
        allowed = " and ".join(map(str, CID_CODE_POINTS))
        raise BadSetting(name, value, f"TLS extension types of connection_id, which are {allowed}, like 54,53")
    return numbers


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    text = str(value).lower()
    if text not in allowed:
        raise BadSetting(name, value, "one of " + ", ".join(allowed))
    return text
