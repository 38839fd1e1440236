"""What is stored and asked for, as values: messages, devices to be made, accounts, models, what is only shown; and why
a store refuses."""

from dataclasses import dataclass, field
from typing import Any

from stellwerk.app.changes import CommandNeverSent
from stellwerk.app.journal import JournalEntry
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.command import Command, Step
from stellwerk.device.end_device import NO_GATEWAY
from stellwerk.device.record import Credential
from stellwerk.lwm2m.operations import Operation


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """One contentInstance. ``content`` is the JSON text of ``con`` (a string is a JSON string), ``state_tag`` counts
    per container. ``resource_id`` is 24 hex digits. Times are UTC milliseconds since 1970."""

    resource_id: str
    resource_name: str
    state_tag: int
    created_ms: int
    content: str
    content_info: str | None
    content_size: int
    creator: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What a message container knows of itself; counts respect the eviction rules (§4.4)."""

    state_tag: int
    count: int
    bytes: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class NewOutgoing:
    """An outgoing message with its commands, and with the entries of those that failed at once. One transaction:
    the message (unless nothing of it waits), its commands, the entries, the end of what it replaces. Without a
    ``resource_name`` there is no message: the commands are found by ``resource_id``, the containers show nothing of
    them, and their bounds do not count."""

    device_id: DeviceId
    resource_id: str
    resource_name: str
    created_ms: int
    content: str
    content_info: str | None
    content_size: int
    creator: str
    labels: tuple[str, ...]
    commands: tuple["NewCommand", ...]
    entries: tuple[JournalEntry, ...]
    ended: tuple["CommandNeverSent", ...] = ()
    """Commands of older messages that these make needless; their messages make room before this one is counted."""

    def message(self, state_tag: int) -> "MessageRecord":
        """The message as its container has it. ``state_tag``: 0 where there is none."""
        return MessageRecord(
            self.resource_id,
            self.resource_name,
            state_tag,
            self.created_ms,
            self.content,
            self.content_info,
            self.content_size,
            self.creator,
            self.labels,
        )

    def command(self, new: "NewCommand", command_id: int) -> Command:
        """One of ``commands`` as it waits, with the number that the store gave it."""
        return Command(
            command_id,
            self.device_id,
            self.resource_id,
            self.resource_name,
            new.request_id,
            new.method,
            new.operation,
            new.content,
            new.content_info,
            Step.QUEUED,
            self.created_ms,
            new.expires_ms,
            new.priority,
        )


@dataclass(frozen=True, slots=True)
class NewCommand:
    request_id: str
    method: str
    operation: Operation
    content: str
    """JSON text of the single command, for sent-msg."""
    content_info: str | None
    expires_ms: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class NewDevice:
    """One item of a provisioning request, checked."""

    name: str
    node_id: str
    labels: tuple[str, ...] = ()
    profile: str = "SCS-LwM2M"
    device_info: tuple[tuple[str, str], ...] = ()
    created_ms: int = 0
    credential: Credential | None = None
    """None: the device connects over NoSec."""
    gateway_id: DeviceId = NO_GATEWAY
    """The device that it is behind and speaks through."""
    gateway_prefix: str = ""


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """What people change of a device; None leaves it as it is. ``labels`` replaces all labels that are not the
    server's own, ``device_info`` all provisioned attributes; the label that names the profile follows ``profile``."""

    modified_ms: int
    labels: tuple[str, ...] | None = None
    device_info: tuple[tuple[str, str], ...] | None = None
    behind: tuple[DeviceId, str] | None = None
    """Of an end device: its gateway, and its prefix there."""
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Who may log in to the console. ``password_hash``: an Argon2 hash as text. ``authority``: ``SYS_ADMIN`` or
    ``TENANT_ADMIN``; ``tenant``: empty for the former."""

    name: str
    password_hash: str = field(repr=False)
    authority: str
    tenant: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class ApiClient:
    """A program that fetches bearer tokens with a client id and a secret (contract Device to Cloud §5).
    ``secret_hash``: hex digits of SHA-256; the secrets are random, so nothing slower is needed. ``role``: ``rw`` or
    ``r``."""

    client_id: str
    secret_hash: str = field(repr=False)
    tenants: tuple[str, ...]
    role: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class ModelHead:
    """An imported object model without its XML. ``tenant``: a tenant's name, empty for all. ``version``: major.minor;
    ``file_name``: where it came from, for people; ``size``: octets of XML. It changed when ``modified_ms`` did."""

    tenant: str
    object_id: int
    version: str
    name: str
    file_name: str
    size: int
    created_ms: int
    modified_ms: int

    @property
    def key(self) -> tuple[str, int, str]:
        """Tenant, object and version: there is one of each."""
        return self.tenant, self.object_id, self.version


@dataclass(frozen=True, slots=True)
class NewModel:
    """An object model to keep. ``source``: the DDF file as it came; it may define other objects too."""

    tenant: str
    object_id: int
    version: str
    name: str
    file_name: str
    source: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TreeResource:
    """A oneM2M resource that people or the platform wrote and that has no table of its own (AE, flexContainer, ...).
    ``attributes``: short names, JSON values, without the universal ones. ``parent`` is the parent's resource ID or the
    well-known name of an infrastructure resource such as ``device-provisioning/request``."""

    tenant_id: TenantId
    resource_id: str
    resource_name: str
    parent: str
    resource_type: int
    envelope: str
    creator: str
    labels: tuple[str, ...]
    created_ms: int
    modified_ms: int
    state_tag: int
    attributes: dict[str, Any]


class AlreadyExists(UserError):
    """``what`` (``device name``, ``node ID``, ``resource name`` ...) ``value`` is taken."""

    def __init__(self, what: str, value: str) -> None:
        self.what, self.value = what, value
        super().__init__(f"{what} {value!r} exists already; choose another")


class DeviceGone(UserError):
    """The device was removed while it was being changed, or told something."""

    def __init__(self, name: str = "") -> None:
        super().__init__(f"device {name!r} is gone" if name else "the device is gone")


class CredentialChanged(UserError):
    """What a device proves itself with changed while keys were made to go with it."""

    def __init__(self) -> None:
        super().__init__("the credentials of the device changed meanwhile")


class ContainerFull(UserError):
    """``container`` holds ``count`` messages, ``limit`` is the most it may (outgoing-msg never evicts)."""

    def __init__(self, container: str, count: int, limit: int) -> None:
        self.container, self.count, self.limit = container, count, limit
        super().__init__(f"{container} is full: {count} messages wait, {limit} is the limit; wait or cancel some")


class QueueFull(UserError):
    """``count`` commands wait for the device, ``limit`` may, and ``more`` were to be added."""

    def __init__(self, count: int, more: int, limit: int) -> None:
        self.count, self.more, self.limit = count, more, limit
        super().__init__(
            f"{count} commands wait for the device already, {limit} may; {more} more are too many: wait until it was "
            "heard, or cancel some"
        )


class ProfileInUse(UserError):
    """``count`` devices have the profile ``name``; ``device`` is one of them."""

    def __init__(self, name: str, count: int, device: str) -> None:
        self.name, self.count, self.device = name, count, device
        many = f"{count} devices have" if count > 1 else "one device has"
        super().__init__(f"{many} the profile {name!r} ({device!r} for example); give them another first")


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What is projected of a device: shown, never decided upon. Times UTC ms, 0 = never. ``endpoint_name``: of its
    newest registration, whether that still stands or not; empty where there was none."""

    device_id: DeviceId
    status: str
    last_seen_ms: int
    registered_ms: int
    updated_ms: int
    deregistered_ms: int
    expired_ms: int
    endpoint_name: str = ""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """``value`` is JSON text as messages show it, ``time_ms`` the device's time or the reception's, ``seq`` the journal
    sequence number of the entry it came in."""

    path: str
    value: str
    time_ms: int
    seq: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """``event``: a stable word (``registered``, ``refused`` ...); ``detail``: for people."""

    seq: int
    time_ms: int
    event: str
    detail: str
