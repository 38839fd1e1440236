"""What the use cases need of storage and time, as protocols beside their user. `storage` implements the former; what
they need of the device side is in `device_ports`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from stellwerk.app.changes import Commit
from stellwerk.app.journal import JournalEntry
from stellwerk.app.oscore import OscoreContext
from stellwerk.app.records import (
    Account,
    ApiClient,
    ContainerState,
    DeviceChange,
    DeviceState,
    LogLine,
    MessageRecord,
    ModelHead,
    NewDevice,
    NewModel,
    NewOutgoing,
    SecureSession,
    StoredValue,
    TreeResource,
)
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.device.bootstrap.history import BootstrapSession
from stellwerk.device.command import Command
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration
from stellwerk.device.observation import WantedObservation
from stellwerk.device.profile import ProfileRecord
from stellwerk.device.record import Credential, DeviceRecord
from stellwerk.device.registration import Registration

# -- ports --

OBJECT_LISTS_KEPT: Final = 4
"""Profile IDs kept per device: a new firmware has a new one."""


Marks: TypeAlias = Sequence[tuple[bytes, int]]
"""Of secure sessions by their IDs: the highest number (epoch << 48 | sequence number) of a record that was read."""

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


class CredentialChange(NamedTuple):
    """``number``: of the device's latest change. ``only_bootstrap``: all that changed since it was last forgotten is
    what the bootstrap server goes by."""

    device_id: DeviceId
    number: int
    only_bootstrap: bool = False


class DecidingStore(Protocol):
    """Deciding state and journal: one transaction for both. Writers are serialised by the store; reads see every commit
    whose ``done`` has run. Methods raise the store's own errors only when the store itself fails."""

    marks: Callable[[], Marks] | None
    """Asked when a group of commits forms: read marks that are new since it was asked last. They are stored with the
    group, so that after a crash no record is taken again whose effect was stored. Marks of a group that fails are
    stored with the next."""

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
    async def credential_by_identity(self, credentials_id: str) -> tuple[DeviceRecord, Credential] | None:
        """Whose ``identity`` that is, whatever the kind of credential."""
        ...

    async def credential_by_key(self, key_id: str) -> tuple[DeviceRecord, Credential] | None:
        """Whose raw public key or certificate that is; None for an empty ``key_id``."""
        ...

    async def set_credential(self, device_id: DeviceId, credential: Credential | None) -> DeviceRecord | None:
        """Give the device a credential, or take it away; ``security`` follows. None where there is no such device.
        Raises `AlreadyExists` for an identity or a key that another device has. Sessions stay, and so does the
        registration, but where the device proves itself otherwise from now on (`proof_of`), or the bootstrap server
        goes by something else, `credential_changes` names it."""
        ...

    async def change_credential(
        self, device_id: DeviceId, change: Callable[[Credential | None], Credential | None]
    ) -> DeviceRecord | None:
        """`set_credential` with what ``change`` makes of the credential that the device has then: nothing comes in
        between, no other program and no fresh key that is taken. ``change`` looks at nothing else and is quick; what it
        raises is raised, and nothing is changed."""
        ...

    async def credential_changes(self, limit: int) -> Sequence[CredentialChange]:
        """Devices whose credentials changed, longest ago first, until that is forgotten."""
        ...

    async def trust_authorities(self, fingerprints: Collection[str]) -> int:
        """Only these are trusted from now on, and remembered. Where one that was trusted before is not among them, a
        change is noted for every device that brings a certificate which only its name and an authority vouch for;
        returns of how many."""
        ...

    async def forget_credential_change(self, number: int) -> None:
        """The change was taken notice of."""
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
    async def session(self, session_id: bytes) -> SecureSession | None:
        """With the highest read mark that rows and groups know. Raises `core.errors.UserError` where it cannot be
        decrypted."""
        ...

    async def session_from(self, address: PeerId) -> SecureSession | None:
        """Of the sessions heard last from there the one that was made last, of those that are found ``by_address``."""
        ...

    async def sessions_of(self, device_id: DeviceId) -> Sequence[SecureSession]:
        """As they were made, at most `SESSIONS_PER_DEVICE`."""
        ...

    async def drop_sessions(self) -> int:
        """Forget all sessions of all devices; returns how many there were."""
        ...

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

    async def bootstrap_credential(self, bootstrap_id: str) -> tuple[DeviceRecord, Credential] | None:
        """Whose bootstrap credential is found by ``bootstrap_id``: ``psk:`` with the identity, ``rpk:`` with the
        SHA-256 of the SubjectPublicKeyInfo in hex, ``x509:`` with that of the certificate."""
        ...

    async def fresh_credential(self, device_id: DeviceId) -> Credential | None:
        """The credential that the device was given and has not used yet. `credential_by_identity` and
        `credential_by_key` find the device by it too, and give it as `Credential.is_fresh`."""
        ...

    async def put_fresh_credential(
        self, device_id: DeviceId, credential: Credential | None, *, basis: tuple[str, ...] | None = None
    ) -> None:
        """Keep it beside the one that holds, in the place of an earlier fresh one, with its OSCORE context; None:
        forget it. ``bootstrap`` of it is not kept. Raises `AlreadyExists` for an identity, a key or an OSCORE sender ID
        that another device has, and where it cannot be told from the one that holds; `DeviceGone`; `CredentialChanged`
        where ``basis`` is not `basis_of` the credential that holds, None: whatever that is. It is forgotten too when
        `set_credential` changes what the device proves itself with, or what the bootstrap server goes by. Nothing
        changes where it is kept already."""
        ...

    async def promote_fresh_credential(
        self, device_id: DeviceId, used: Credential | None = None, *, session: bytes = b""
    ) -> DeviceRecord | None:
        """The device has used its fresh credential: it is the one that holds from now on, its OSCORE context keeps its
        number, and the former are forgotten, with its secure sessions but ``session``; ``bootstrap`` stays, used up
        where it was for one time. None where there was none, or it is another than ``used`` by now.
        `credential_changes` does not name the device: whoever calls this ends what came in with the former and
        lives."""
        ...

    async def spend_bootstrap_credential(self, device_id: DeviceId, now_ms: int) -> None:
        """A one-time bootstrap credential was used up at that time (`Credential.spent_ms`); nothing where it is not
        one-time, was spent before, or was set after that. It can be used again once somebody sets it anew."""
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

    async def oscore_context(
        self, sender_id: bytes, id_context: bytes | None, *, is_bootstrap: bool = False
    ) -> OscoreContext | None:
        """The context of the device that sends as ``sender_id`` to the bootstrap server or to that of device
        management, there also one that is fresh; ``id_context`` None: whatever it is. At one server no two contexts
        have the same ``sender_id``."""
        ...

    async def oscore_context_of(self, device_id: DeviceId, *, is_bootstrap: bool = False) -> OscoreContext | None:
        """The one that holds. `set_credential` makes it of `Credential.oscore`, that with the bootstrap server of what
        `Credential.bootstrap` says, and leaves each alone where the device proves itself as before."""
        ...

    async def put_oscore_context(self, context: OscoreContext) -> OscoreContext:
        """Make it, or replace the one that the device had (the fresh one with one that ``is_fresh``); the context with
        its number, another than before. ``ceiling`` is higher, or `UNKNOWN`, where the same keys were used before and
        were gone meanwhile. Raises `AlreadyExists` for a ``sender_id`` that another context has at that server, and for
        a key of ours that another one has, wherever (`app.oscore.SAME_KEY`); `DeviceGone`."""
        ...

    async def raise_oscore_ceiling(self, number: int, ceiling: int) -> bool:
        """Numbers below ``ceiling`` may be used from now on; never lowered. False where there is no such context, or
        its ceiling is `UNKNOWN`: then nothing may be protected with it."""
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
