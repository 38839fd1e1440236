"""What the use cases need of the world, as protocols beside their user. `storage` and `southbound` implement them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from stellwerk.app.journal import JournalEntry
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.device.command import Command, Step
from stellwerk.device.end_device import NO_GATEWAY, EndDeviceRecord, EndDeviceRegistration
from stellwerk.device.observation import WantedObservation
from stellwerk.device.profile import ProfileRecord
from stellwerk.device.record import Credential, DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.operations import Operation
from stellwerk.lwm2m.paths import Target

# -- changes of deciding state, committed together with the journal entries that caused them --


@dataclass(frozen=True, slots=True)
class PutRegistration:
    """A new registration replaces whatever the device had (R-9). ``deadline_ms``: when to look whether it expired."""

    registration: Registration
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class ChangeRegistration:
    """What an Update changed, the registration as it is from now on. A plain Update changes no row: the journal entry
    is enough, and ``deadline_ms`` in the row stays a lower bound."""

    registration: Registration
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class DropRegistration:
    device_id: DeviceId
    location: str


@dataclass(frozen=True, slots=True)
class PutObservation:
    """Replaces the relation of the same device and path."""

    observation: WantedObservation


@dataclass(frozen=True, slots=True)
class DropObservation:
    device_id: DeviceId
    path: Target


@dataclass(frozen=True, slots=True)
class ChangeCommand:
    """A command takes a step; the store refuses nothing here, `device.command.advance` was asked before."""

    command_id: int
    step: Step
    at_ms: int
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CommandSent:
    """The move from outgoing-msg to sent-msg (contract Device to Cloud §7.1 step 3): insert the sent message, delete
    the outgoing one when this was the last of its commands, set the command to `sent`; before the datagram leaves. Of a
    command without a message only the step."""

    command: Command
    at_ms: int
    labels: tuple[str, ...]
    """Labels of the sent message: the trace pair, then uplink properties."""


@dataclass(frozen=True, slots=True)
class CommandNeverSent:
    """A command ended before it was sent: set its step, delete the outgoing message when it was the last."""

    command: Command
    step: Step
    at_ms: int
    reason: str = ""
    detail: str = ""


Change: TypeAlias = (
    PutRegistration
    | ChangeRegistration
    | DropRegistration
    | PutObservation
    | DropObservation
    | ChangeCommand
    | CommandSent
    | CommandNeverSent
)


@dataclass(slots=True)
class Commit:
    """What one decision writes: all of it or nothing. ``done`` runs on the event loop once it is durable, with None, or
    with the error that kept it from being stored (then nothing of it is)."""

    entries: Sequence[JournalEntry]
    changes: Sequence[Change]
    done: Callable[[Exception | None], None]
    seq: int = 0
    """Set by the store before ``done(None)``: the journal's sequence number of the last entry, 0 without entries. What
    the entries say is readable once `ProjectedStore.projected_seq` has reached it."""
    reserve: bool = False
    """May use the part of the queue that is kept free of uplinks: what came of our own requests (design §3)."""


# -- messages of the Device to Cloud containers, as stored --


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


# -- ports --

OBJECT_LISTS_KEPT: Final = 4
"""Profile IDs kept per device: a new firmware has a new one."""


UNBOUNDED: Final = 1 << 62
"""No bound, where one may be given."""


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """How a deciding store is just now: commits that wait or are being written, and the bytes of payload in them; the
    journal's newest entry; bytes of payload that this run has put into it; why nothing can be written, empty while it
    can."""

    queue: int = 0
    queue_bytes: int = 0
    last_seq: int = 0
    journalled_bytes: int = 0
    failing: str = ""


class DecidingStore(Protocol):
    """Deciding state and journal: one transaction for both. Writers are serialised by the store; reads see every commit
    whose ``done`` has run. Methods raise the store's own errors only when the store itself fails."""

    def submit(self, commit: Commit) -> None:
        """Queue for the next group commit; never blocks. ``done`` gets `StoreOverloaded` soon when the queue is full
        (in commits or in bytes of payload, with a quarter more of either for ``reserve``), `StoreFailing` when nothing
        can be written."""
        ...

    def queue_length(self) -> int:
        """Commits waiting or being written."""
        ...

    def condition(self) -> StoreCondition:
        """What the brake looks at, a few times a second; cheap."""
        ...

    async def tenant(self, name: str) -> TenantId | None: ...
    async def ensure_tenant(self, name: str, now_ms: int) -> TenantId: ...

    async def create_device(self, tenant_id: TenantId, device: NewDevice) -> DeviceRecord:
        """Raises `AlreadyExists` for a taken name (an application's counts too) or node ID, and for an endpoint name
        that means a device of another tenant and would mean this one; then nothing is written. Raises `DeviceGone`
        where its gateway is none of the tenant's. An endpoint name never means an end device where it may mean another
        device."""
        ...

    async def device(self, device_id: DeviceId) -> DeviceRecord | None: ...
    async def device_by_name(self, tenant_id: TenantId, name: str) -> DeviceRecord | None: ...
    async def device_by_endpoint(self, endpoint_name: str) -> DeviceRecord | None:
        """The device an endpoint name means (`device.record.endpoint_aliases`, lowest rank first), over all tenants."""
        ...

    async def devices(self, tenant_id: TenantId, limit: int, offset: int) -> Sequence[DeviceRecord]: ...
    async def device_by_resource_id(self, tenant_id: TenantId, resource_id: str) -> tuple[DeviceRecord, str] | None:
        """The device that a resource ID of `app.resource_ids.device_resource_id` belongs to, with the part it names:
        empty for the node, ``device-info``, ``communication/sent-msg`` ..."""
        ...

    async def change_device(self, device_id: DeviceId, change: DeviceChange) -> DeviceRecord | None:
        """The device as it is then; None where there is none."""
        ...

    async def credential_of(self, device_id: DeviceId) -> Credential | None: ...
    async def set_credential(self, device_id: DeviceId, credential: Credential | None) -> DeviceRecord | None:
        """Give the device a key, or take it away; ``security`` follows. None where there is no such device. Raises
        `AlreadyExists` for an identity that another device has."""
        ...

    async def remove_device(self, device_id: DeviceId) -> bool:
        """Removes the device with registration, observations, commands and messages, and with the end devices behind
        it. False where there is none."""
        ...

    async def end_devices(self, gateway_id: DeviceId) -> Sequence[tuple[EndDeviceRecord, EndDeviceRegistration | None]]:
        """The devices behind a gateway in the order they were made, each with its registration."""
        ...

    async def registration_of(self, device_id: DeviceId) -> Registration | None:
        """An end device's is an `EndDeviceRegistration`; it has one only while its gateway has one."""
        ...

    async def registration_at(self, location: str) -> Registration | None:
        """Never an end device's, as with `registration_from`: it has neither."""
        ...

    async def registration_from(self, peer: PeerId) -> Registration | None: ...
    async def registrations_due(self, before_ms: int, limit: int) -> Sequence[tuple[Registration, int]]:
        """Registrations whose stored deadline lies before ``before_ms``, soonest first, each with that deadline. Their
        ``updated_ms`` is as fresh as row, journal and projection together know."""
        ...

    async def observations_of(self, device_id: DeviceId) -> Sequence[WantedObservation]: ...
    async def observation_by_token(self, token: bytes) -> WantedObservation | None: ...

    async def post_outgoing(
        self, outgoing: NewOutgoing, limit: int, queue_length: int = UNBOUNDED
    ) -> tuple[MessageRecord, Sequence[Command]]:
        """``limit``: how many messages the container holds; ``queue_length``: how many commands of the device may be
        open. Raises `ContainerFull`, `QueueFull`, `AlreadyExists` for a name taken in the container, or `DeviceGone`;
        then nothing is written."""
        ...

    async def object_lists_of(self, device_id: DeviceId) -> Mapping[str, bytes]:
        """What the device's profile IDs stand for, by ID, as link format."""
        ...

    async def put_object_list(self, device_id: DeviceId, profile_id: str, body: bytes, now_ms: int) -> None:
        """Keep what a profile ID of the device stands for, and only the newest `OBJECT_LISTS_KEPT` of them. They go
        with the device."""
        ...

    async def open_commands(self, device_id: DeviceId | None, limit: int) -> Sequence[Command]:
        """Commands not in a final step: of one device in the order in which they leave (`device.queue.turn`), of all
        oldest first."""
        ...

    async def queued_commands(self, device_id: DeviceId, limit: int) -> Sequence[tuple[int, str]]:
        """Of the device's commands that were not sent yet, in the order in which they leave: each one's number and the
        resource ID of its message. Cheaper than `open_commands`, for whoever only looks."""
        ...

    async def recent_commands(self, device_id: DeviceId, limit: int) -> Sequence[Command]:
        """The last commands of a device, newest first, whatever their step."""
        ...

    async def devices_with_open_commands(self) -> Sequence[tuple[DeviceId, bool]]:
        """Each device that has a command which is not in a final step; True where that cannot wait until the device is
        heard: something of it was sent, or the device is no registered sleeper."""
        ...

    async def commands_due(self, before_ms: int, limit: int) -> Sequence[Command]:
        """Commands not in a final step whose ``expires_ms`` lies before ``before_ms``, soonest first."""
        ...

    async def outgoing_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]: ...
    async def sent_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        """Newest first, at most what the eviction rules leave."""
        ...

    async def find_message(
        self, device_id: DeviceId, container: str, *, name: str | None = None, resource_id: str | None = None
    ) -> MessageRecord | None:
        """Of ``outgoing-msg`` or ``sent-msg``, by resource name or by resource ID."""
        ...

    async def message_by_resource_id(
        self, tenant_id: TenantId, resource_id: str
    ) -> tuple[DeviceRecord, str, MessageRecord] | None:
        """An outgoing or sent message anywhere in the tenant: its device, its container, itself."""
        ...

    async def remove_sent_message(self, device_id: DeviceId, resource_id: str) -> bool:
        """False where there is none. (What is outgoing is cancelled instead.)"""
        ...

    async def commands_of_message(self, resource_id: str) -> Sequence[Command]:
        """All commands of an outgoing message (or posted without one, by `NewOutgoing.resource_id`), in order, whatever
        their step."""
        ...

    async def container_state(self, device_id: DeviceId, container: str) -> ContainerState:
        """Of ``outgoing-msg`` or ``sent-msg``."""
        ...

    async def create_resource(self, resource: TreeResource) -> None:
        """Raises `AlreadyExists` when the parent has a child of that name; below the tenant, devices are children."""
        ...

    async def change_resource(
        self,
        tenant_id: TenantId,
        parent: str,
        name: str,
        *,
        modified_ms: int,
        labels: tuple[str, ...] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> TreeResource | None:
        """Replace labels, attributes or both, and count the state tag up; the resource as it is then, None where there
        is none."""
        ...

    async def remove_resource(self, tenant_id: TenantId, parent: str, name: str) -> bool:
        """Removes the resource and all below it (whose ``parent`` is its ID, and so on). False where there is none."""
        ...

    async def resource_by_id(self, tenant_id: TenantId, resource_id: str) -> TreeResource | None: ...
    async def resource(self, tenant_id: TenantId, parent: str, name: str) -> TreeResource | None: ...
    async def resources(self, tenant_id: TenantId, parent: str, limit: int, offset: int) -> Sequence[TreeResource]: ...

    async def profiles(self, tenant_id: TenantId | None = None) -> Sequence[ProfileRecord]:
        """Of one tenant or of all, by tenant and name."""
        ...

    async def profile(self, tenant_id: TenantId, name: str) -> ProfileRecord | None: ...
    async def put_profile(self, record: ProfileRecord) -> None:
        """Make it, or replace the one of that name; ``created_ms`` stays the first one's."""
        ...

    async def remove_profile(self, tenant_id: TenantId, name: str) -> bool:
        """False where there is none. Raises `ProfileInUse`."""
        ...

    async def profiles_version(self) -> int:
        """Another number than before after every change of a profile, and of which device has which; cheap."""
        ...

    async def account(self, name: str) -> Account | None: ...
    async def put_account(self, account: Account) -> None:
        """Make it, or replace the one of that name."""
        ...

    async def api_client(self, client_id: str) -> ApiClient | None: ...
    async def api_clients(self) -> Sequence[ApiClient]: ...
    async def put_api_client(self, client: ApiClient) -> None:
        """Make it, or replace the one of that ID."""
        ...

    async def remove_api_client(self, client_id: str) -> bool: ...

    async def models_generation(self) -> int:
        """Another number after every change of the imported models, whichever process made it. Cheap."""
        ...

    async def object_models(self) -> Sequence[ModelHead]:
        """Every imported model, by tenant, object and version."""
        ...

    async def model_source(self, tenant: str, object_id: int, version: str) -> bytes | None:
        """The DDF file of an imported model as it came."""
        ...

    async def put_object_models(self, models: Sequence[NewModel], now_ms: int) -> None:
        """Keep all of them or none; one of the same tenant, object and version is replaced."""
        ...

    async def remove_object_models(self, keys: Sequence[tuple[str, int, str]]) -> int:
        """Forget models by `ModelHead.key`; returns how many there were."""
        ...

    def may_recall(self, receipt: bytes) -> bool:
        """Whether `recall` could find something: False is certain, True may be wrong. In memory and cheap, for it is
        asked of every request in the first EXCHANGE_LIFETIME after a start."""
        ...

    async def recall(self, receipt: bytes, since_ms: int) -> JournalEntry | None:
        """The entry whose message had this receipt, not older than ``since_ms``."""
        ...

    async def check(self) -> None:
        """Raises when the store does not answer (health)."""
        ...


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


class ProjectedStore(Protocol):
    """Reads of what the projector made of the journal; a little behind, never ahead."""

    async def received_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        """Newest first, at most what the eviction rules leave."""
        ...

    async def received_state(self, device_id: DeviceId) -> ContainerState: ...
    async def find_received(
        self,
        device_id: DeviceId,
        *,
        name: str | None = None,
        resource_id: str | None = None,
        seq: int | None = None,
    ) -> MessageRecord | None:
        """A received message by resource name, by resource ID, or by the journal sequence number it came from."""
        ...

    async def received_by_resource_id(self, resource_id: str) -> tuple[DeviceId, MessageRecord] | None:
        """A received message of any device; the caller checks whose."""
        ...

    async def recent_states(self, tenant_devices: Sequence[DeviceId]) -> Sequence[DeviceState]:
        """The states of these devices, those there are."""
        ...

    async def state_of(self, device_id: DeviceId) -> DeviceState | None: ...
    async def current_values(self, device_id: DeviceId) -> Sequence[StoredValue]: ...
    async def value_history(self, device_id: DeviceId, path: str, limit: int) -> Sequence[StoredValue]:
        """Newest first."""
        ...

    async def device_log(self, device_id: DeviceId, limit: int) -> Sequence[LogLine]:
        """Newest first."""
        ...

    async def projected_seq(self) -> int:
        """The journal sequence number up to which everything is projected."""
        ...


# -- devices to choose from --


class DeviceDirectory(Protocol):
    """Devices in pages, for people who look for one. Works beside the event loop: a search may read every device of a
    tenant, and no acknowledgement waits for it."""

    async def page(
        self,
        tenant_id: TenantId | None,
        text: str,
        limit: int,
        *,
        after: DeviceRecord | None = None,
        before: DeviceRecord | None = None,
    ) -> Sequence[DeviceRecord]:
        """At most ``limit`` devices by tenant and name, of one tenant or of all: those with ``text`` in name, node ID
        or labels (letters of ASCII in either case), the first behind ``after`` or the last before ``before``."""
        ...

    async def count(self, tenant_id: TenantId | None, text: str, at_most: int) -> int:
        """How many devices `page` would find in all; the count ends at ``at_most``."""
        ...


# -- the device side --


@dataclass(slots=True)
class DeviceAnswer:
    """What came of an operation, as the wire gave it. ``failure`` is empty when the device answered with ``status``
    (``205``); else ``timeout``, ``reset``, ``refused``, ``malformed``, ``oversized``, ``cancelled``, ``lost`` (with its
    connection, after it was sent), ``unconnected`` (nothing was sent), ``undecodable`` (one of several answers that
    were put together) or ``unsupported`` (the device cannot do this, and there is nothing as good that it can), and
    ``detail`` says more. ``observing``: the answer established an observation, in the format ``accept`` (-1: none was
    asked for). ``acknowledged``: of a timeout, the device got the request. ``to_attributes``: the device refused the
    attributes of an Observe, which was not sent then. ``instances``: of a Create whose answer did not say what was
    made, the instances that the object has now; None where that is not known."""

    handle: int
    status: int = 0
    content_format: int = -1
    payload: bytes = b""
    location: str = ""
    observing: bool = False
    failure: str = ""
    detail: str = ""
    accept: int = -1
    to_attributes: bool = False
    instances: tuple[int, ...] | None = None
    acknowledged: bool = False


@dataclass(slots=True)
class Acknowledgement:
    """Our answer to an uplink, handed to southbound by the use case after the commit. ``max_age_s`` goes with 5.03.
    ``prove``: with 4.01, the device has to show that it receives at its address before we believe it is there."""

    status: int
    location: str = ""
    detail: str = ""
    max_age_s: int = 0
    prove: bool = False


class DeviceLink(Protocol):
    """Southbound: operations down. Outcomes come back through the callbacks that wiring set."""

    def draw_token(self) -> bytes:
        """A fresh unguessable token for an Observe."""
        ...

    def choose_format(self, registration: Registration, operation: Operation) -> int:
        """The Content-Format that `send` would begin with where the operation names none (contract D-2)."""
        ...

    def send(
        self,
        handle: int,
        registration: Registration,
        operation: Operation,
        token: bytes | None = None,
        ack_timeout_s: float | None = None,
    ) -> None:
        """Start the operation; its `DeviceAnswer` arrives later with this ``handle``, exactly once. It may take several
        requests: another format, attributes first, single reads in the place of a composite. ``token``: of the request
        with Observe. ``ack_timeout_s``: until the first repetition, None for the transport's own."""
        ...

    def cancel(self, handle: int) -> None:
        """Give the operation up; its answer is ``cancelled`` unless another came first."""
        ...

    def hold(self, handle: int) -> None:
        """The device sleeps: do not repeat what it has not acknowledged; the time for it runs on."""
        ...

    def repeat(self, handle: int) -> None:
        """The device listens again: repeat at once what it has not acknowledged, as the same message."""
        ...

    def prove_peer(self, peer: PeerId) -> None:
        """The device at ``peer`` showed that it receives what we send there."""
        ...

    def reaches(self, peer: PeerId) -> bool:
        """Whether something could be sent to ``peer`` now: always to an address, to a connection while it stands."""
        ...

    def move_peer(self, old: PeerId, new: PeerId) -> None: ...
    def forget_peer(self, peer: PeerId) -> None: ...
    def forget_observation(self, peer: PeerId, token: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the message containers, per tenant later (contract Device to Cloud §4.4)."""

    max_instances: int = 100
    max_bytes: int = 1_000_000


class StoreTrouble(Exception):
    """The store cannot take this now and may be able to later: a device is answered 5.03, an application 5xx."""


class StoreOverloaded(StoreTrouble):
    """``waiting`` writes are queued, and that is as many as may."""

    def __init__(self, waiting: int = 0) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting} writes wait for the disk already; try again in a few seconds")


class StoreFailing(StoreTrouble):
    """Nothing can be written, whatever it is: the disk is full or broken. ``reason``: the database's words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the store cannot write ({reason}); nothing was changed, try again in a few seconds")


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def lifetime_ms(self) -> int:
        """Milliseconds for lifetimes: wall time at the start of this run plus monotonic time since, so that a step of
        the wall clock neither expires nor prolongs a registration."""
        ...

    def wall_ms(self) -> int:
        """UTC milliseconds since 1970."""
        ...
