"""What the use cases need of storage and time, as protocols beside their user; `storage` implements the former. What is
about security is in `security_ports`, what is only read in `reading_ports`, the device side in `device_ports`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from stellwerk.app.changes import Commit
from stellwerk.app.journal import JournalEntry
from stellwerk.app.records import (
    Account,
    ApiClient,
    ContainerState,
    DeviceChange,
    MessageRecord,
    ModelHead,
    NewDevice,
    NewModel,
    NewOutgoing,
    TreeResource,
)
from stellwerk.app.security_ports import SecurityStore
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.device.bootstrap.history import BootstrapSession
from stellwerk.device.command import Command
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration
from stellwerk.device.observation import WantedObservation
from stellwerk.device.profile import ProfileRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration

OBJECT_LISTS_KEPT: Final = 4
"""Profile IDs kept per device: a new firmware has a new one."""


BOOTSTRAP_SESSIONS_KEPT: Final = 50
"""Of each device."""

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


class DecidingStore(SecurityStore, Protocol):
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
    async def tenants(self) -> Sequence[str]:
        """The names of all, in order."""
        ...

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

    async def put_bootstrap_session(self, session: BootstrapSession) -> int:
        """Make it, or replace the one of its number, where that is still kept; its number. The newest
        `BOOTSTRAP_SESSIONS_KEPT` of a device stay, and they go with the device. ``device_id`` is not None. Raises
        `DeviceGone`."""
        ...

    async def bootstrap_sessions(self, device_id: DeviceId, limit: int) -> Sequence[BootstrapSession]:
        """Newest first."""
        ...

    async def interrupt_bootstrap_sessions(self, now_ms: int) -> int:
        """At start: what is still running was interrupted, with the steps that the journal knows; how many. One whose
        end is in the journal (`app.bootstrap_progress`) ended so, and its one-time credential is used up."""
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
