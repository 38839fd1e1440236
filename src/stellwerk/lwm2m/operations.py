"""The operations of LwM2M as frozen values (Core 1.2.2 §6; contract §4, §6, §7)."""

from dataclasses import dataclass
from typing import TypeAlias

from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths

# -- what we ask of a device (Device Management and Information Reporting) --


@dataclass(frozen=True, slots=True)
class Read:
    """Read an object, instance, resource or resource instance. ``accept``: Content-Format number, None = choose."""

    path: Path
    accept: int | None = None


@dataclass(frozen=True, slots=True)
class Discover:
    path: Path
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """``replace`` True is Write (PUT), False is the partial update (POST) of an instance or multiple resource."""

    path: Path
    content: Content
    replace: bool = True
    content_format: int | None = None


@dataclass(frozen=True, slots=True)
class WriteAttributes:
    """``attributes``: pairs for the query, in order; value None unsets the attribute at this level."""

    path: Path
    attributes: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Execute:
    """``arguments``: the LwM2M argument string as it stands, ``5`` or ``0='x',1`` (contract D-8)."""

    path: Path
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    """``content`` paths name the instance where the caller chose one; else they use instance 65535."""

    path: Path
    content: Content
    content_format: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    path: Path


@dataclass(frozen=True, slots=True)
class Observe:
    """``attributes``: notification attributes that hold for the observation, as pairs for a query. They go with the
    Observe to a device of LwM2M 1.2, and to others are written to the path before it leaves (contract §7)."""

    path: Path
    accept: int | None = None
    attributes: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class CancelObservation:
    """Cancel the observation of ``path`` (contract OB-5): actively, by a GET with Observe 1 and the relation's token,
    or, ``passive``, by forgetting it, so that the device's next notification is reset. ``attributes``: those that were
    given with the Observe; what was written for it is unset again."""

    path: Path
    accept: int | None = None
    passive: bool = False
    attributes: tuple[tuple[str, str | None], ...] = ()


# Composites (1.1): on the root, about a list of paths (contract §1.4, §6). ``path`` is what the operation is about, as
# others have it.


@dataclass(frozen=True, slots=True)
class ReadComposite:
    """``content_format``: of the list; ``accept``: of the answer. None = choose, both the same (contract D-3)."""

    paths: Paths
    accept: int | None = None
    content_format: int | None = None

    @property
    def path(self) -> Paths:
        return self.paths


@dataclass(frozen=True, slots=True)
class WriteComposite:
    """Write ``content`` whole or not at all (contract D-11); resource instances that it says to be removed are deleted
    with it (1.2, by a null in SenML-ETCH)."""

    content: Content
    content_format: int | None = None

    @property
    def path(self) -> Paths:
        return Paths([*(entry.path for entry in self.content.entries), *self.content.removed])


@dataclass(frozen=True, slots=True)
class ObserveComposite:
    """``attributes``: as of `Observe`; only devices of LwM2M 1.2 take them with a list."""

    paths: Paths
    accept: int | None = None
    content_format: int | None = None
    attributes: tuple[tuple[str, str | None], ...] = ()

    @property
    def path(self) -> Paths:
        return self.paths


@dataclass(frozen=True, slots=True)
class CancelComposite:
    """Cancel the observation of ``paths``, as `CancelObservation` does: a FETCH with the byte-identical list."""

    paths: Paths
    accept: int | None = None
    content_format: int | None = None
    passive: bool = False

    @property
    def path(self) -> Paths:
        return self.paths


AnyObserve: TypeAlias = Observe | ObserveComposite
AnyCancel: TypeAlias = CancelObservation | CancelComposite
AnyRead: TypeAlias = Read | ReadComposite | AnyObserve
"""What is answered with values."""

Operation: TypeAlias = (
    Read
    | Discover
    | Write
    | WriteAttributes
    | Execute
    | Create
    | Delete
    | Observe
    | CancelObservation
    | ReadComposite
    | WriteComposite
    | ObserveComposite
    | CancelComposite
)


# -- what a device tells us (Client Registration and Information Reporting) --


@dataclass(frozen=True, slots=True)
class Register:
    """POST /rd. ``query`` and ``body`` as received; `registration_parameters` and `link_format` decode them."""

    query: tuple[str, ...]
    content_format: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """POST /rd/{location}."""

    location: str
    query: tuple[str, ...]
    content_format: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Deregister:
    """DELETE /rd/{location}."""

    location: str


@dataclass(frozen=True, slots=True)
class Send:
    """POST /dp."""

    content_format: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Notify:
    """A notification of the observation ``token``; ``code`` is the CoAP response code."""

    token: bytes
    code: int
    content_format: int | None
    body: bytes


Uplink: TypeAlias = Register | Update | Deregister | Send | Notify
