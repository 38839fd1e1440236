"""The Bootstrap interface as frozen values (Core 1.2.2 §6.1; contract §5)."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path

ROOT: Final = Path()

# -- what a device asks of a bootstrap server --


@dataclass(frozen=True, slots=True)
class BootstrapRequest:
    """POST /bs. ``query`` as received; `decode_bootstrap_request` reads it."""

    query: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootstrapPackRequest:
    """GET /bspack (1.2). ``accept``: the Content-Format that the device wants, None where it names none."""

    query: tuple[str, ...]
    accept: int | None


BootstrapUplink: TypeAlias = BootstrapRequest | BootstrapPackRequest


# -- what a bootstrap server asks of a device --


@dataclass(frozen=True, slots=True)
class BootstrapDiscover:
    """GET with Accept 40 on the root, or on an object."""

    path: Path = ROOT


@dataclass(frozen=True, slots=True)
class BootstrapRead:
    """GET on object 1 or 2, or an instance of one."""

    path: Path
    accept: int | None = None


@dataclass(frozen=True, slots=True)
class BootstrapWrite:
    """PUT on an object, an instance or a resource. ``content_format`` is always said (contract B-4)."""

    path: Path
    content: Content
    content_format: int


@dataclass(frozen=True, slots=True)
class BootstrapDelete:
    """DELETE of the root, an object or an instance."""

    path: Path


@dataclass(frozen=True, slots=True)
class BootstrapFinish:
    """POST /bs without a payload."""


BootstrapOperation: TypeAlias = BootstrapDiscover | BootstrapRead | BootstrapWrite | BootstrapDelete | BootstrapFinish
