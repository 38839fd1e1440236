"""What devices of one kind have in common: when they listen, how patient we are, what may wait for them.

The settings are those of a profile's power section elsewhere (``powerMode``, ``psmActivityTimer``,
``pagingTransmissionWindow``, ``edrxCycle``), in seconds, and our own of the queue. Whatever a profile leaves open, the
server's settings say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final

from stellwerk.core.errors import UserError
from stellwerk.core.ids import TenantId
from stellwerk.device.bootstrap.configuration import NO_BOOTSTRAP, BootstrapConfiguration

LONGEST_S: Final = 365 * 86_400
MOST_WAITING: Final = 100_000
PRIORITIES: Final = range(-100, 101)
LONGEST_NAME: Final = 255

_TRANSMISSIONS: Final = 31
"""A message that is never acknowledged is waited for this many times its ACK_TIMEOUT (1 + 2 + 4 + 8 + 16)."""


class PowerMode(Enum):
    """When a device can be reached. ``DRX``: always. ``PSM``: for a while after it was heard. ``E_DRX``: as PSM, and
    then once more each cycle, when it looks for pages."""

    DRX = "DRX"
    PSM = "PSM"
    E_DRX = "E_DRX"


class BadProfile(UserError):
    """``name`` or ``setting`` cannot be what somebody wants; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Every setting may be None: the server's own holds. Times are seconds.

    ``power_mode``: None: PSM for a device that registers in queue mode, DRX for one that does not. ``awake_s``: how
    long a sleeper listens after it was heard (PSM). ``paging_window_s``: the same under E_DRX, None: as ``awake_s``.
    ``edrx_cycle_s``: how long one request outside the window may take to be answered under E_DRX. ``ack_timeout_s``:
    ACK_TIMEOUT towards the device (RFC 7252 §4.8). ``request_timeout_s``: when an answer is given up at the latest.
    ``queue_s``: how long a command may wait that says nothing itself. ``queue_length``: how many commands may wait.
    ``priority``: of commands that say nothing. ``coalesce``: whether a Write that waits gives way to a newer one.
    """

    power_mode: PowerMode | None = None
    awake_s: float | None = None
    paging_window_s: float | None = None
    edrx_cycle_s: float | None = None
    ack_timeout_s: float | None = None
    request_timeout_s: float | None = None
    queue_s: float | None = None
    queue_length: int | None = None
    priority: int | None = None
    coalesce: bool | None = None

    def sleeps(self, queue_mode: bool) -> bool:
        """Whether a device that registered with or without queue mode listens only for a while after it was heard."""
        return queue_mode if self.power_mode is None else self.power_mode is not PowerMode.DRX

    def window_s(self, default_s: float) -> float:
        """How long a sleeper listens after it was heard; ``default_s``: the server's setting."""
        if self.power_mode is PowerMode.E_DRX and self.paging_window_s is not None:
            return self.paging_window_s
        return default_s if self.awake_s is None else self.awake_s

    @property
    def pages(self) -> bool:
        """Whether one request may leave although the window is over: the network keeps it for the next page."""
        return self.power_mode is PowerMode.E_DRX and self.edrx_cycle_s is not None

    @property
    def longest_answer_s(self) -> float | None:
        """When an answer is given up although the peer may still send it; None: by CoAP's own times."""
        if self.request_timeout_s is None and self.pages:
            return self.edrx_cycle_s
        return self.request_timeout_s

    @property
    def first_timeout_s(self) -> float | None:
        """ACK_TIMEOUT towards the device, long enough for CoAP not to give up within a cycle; None: CoAP's."""
        if self.pages and self.edrx_cycle_s is not None:
            return max(self.ack_timeout_s or 2.0, self.edrx_cycle_s / _TRANSMISSIONS)
        return self.ack_timeout_s


DEFAULT: Final = Profile()
SETTINGS: Final = tuple(each.name for each in fields(Profile))


@dataclass(frozen=True, slots=True)
class ProfileRecord:
    """A profile as stored. Times are UTC milliseconds since 1970."""

    tenant_id: TenantId
    name: str
    profile: Profile
    created_ms: int
    modified_ms: int
    bootstrap: BootstrapConfiguration = NO_BOOTSTRAP


def check_name(name: str) -> None:
    """Raises `BadProfile` for what is no name of a profile."""
    if not 1 <= len(name) <= LONGEST_NAME or not all("!" <= each <= "~" and each not in "=," for each in name):
        raise BadProfile(f"a profile's name has 1 to {LONGEST_NAME} visible ASCII characters without '=' and ','")


def parse_settings(texts: Mapping[str, str], before: Profile = DEFAULT) -> Profile:
    """``before`` with the settings in ``texts``, an empty text for "as the server". Raises `BadProfile`; then nothing
    holds."""
    chosen = {name: getattr(before, name) for name in SETTINGS}
    for name, text in texts.items():
        if name not in chosen:
            raise BadProfile(f"{name[:40]!r} is no setting of a profile; they are {', '.join(SETTINGS)}")
        chosen[name] = _parse(name, text.strip()) if text.strip() else None
    profile = Profile(**chosen)
    if profile.power_mode is not PowerMode.E_DRX:
        for name in ("paging_window_s", "edrx_cycle_s"):
            if chosen[name] is not None:
                raise BadProfile(f"{name} needs power_mode=E_DRX; under PSM awake_s says how long a device listens")
    return profile


def to_settings(profile: Profile) -> dict[str, Any]:
    """What the profile says itself, as JSON values."""
    said = {name: getattr(profile, name) for name in SETTINGS}
    return {
        name: each.value if isinstance(each, PowerMode) else each for name, each in said.items() if each is not None
    }


def from_settings(settings: Mapping[str, Any]) -> Profile:
    """The inverse of `to_settings`; what a later version wrote, or nobody understands, is left out."""
    chosen: dict[str, Any] = {}
    for name, value in settings.items():
        if name in SETTINGS and value is not None:
            try:
                chosen[name] = _parse(name, "on" if value is True else "off" if value is False else str(value))
            except BadProfile:
                continue
    return Profile(**chosen)


def _parse(name: str, text: str) -> Any:
    match name:
        case "power_mode":
            try:
                return PowerMode(text.upper().replace("EDRX", "E_DRX").replace("-", "_"))
            except ValueError:
                raise BadProfile(f"power_mode={text!r}: one of DRX, PSM, E_DRX") from None
        case "coalesce":
            if text.lower() not in ("on", "off", "true", "false"):
                raise BadProfile(f"coalesce={text!r}: on or off")
            return text.lower() in ("on", "true")
        case "queue_length":
            return _whole(name, text, range(1, MOST_WAITING + 1))
        case "priority":
            return _whole(name, text, PRIORITIES)
        case "ack_timeout_s":
            return _seconds(name, text, 0.1, 300)
        case "request_timeout_s" | "edrx_cycle_s":
            return _seconds(name, text, 1, 86_400)
        case _:
            return _seconds(name, text, 0, LONGEST_S)


def parse_priority(text: str) -> int:
    """Raises `BadProfile`."""
    return _whole("priority", text.strip(), PRIORITIES)


def _whole(name: str, text: str, allowed: range) -> int:
    try:
        # Not what Python takes besides: 1_000, ' 5 ', other scripts' digits.
        number = int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20 else None
    except ValueError:
        number = None
    if number is None or number not in allowed:
        raise BadProfile(f"{name}={text[:40]!r}: a whole number from {allowed[0]} to {allowed[-1]}")
    return number


def _seconds(name: str, text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise BadProfile(f"{name}={text[:40]!r}: seconds, {least:g} to {most:g}")
    return number
