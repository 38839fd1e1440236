"""Rows of the deciding tables and what they stand for."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import msgspec

from stellwerk.app.credential_record import bootstrap_id
from stellwerk.app.operation_record import decode_operation
from stellwerk.app.records import MessageRecord, TreeResource
from stellwerk.core.ids import DeviceId, TenantId, decode_peer, encode_peer
from stellwerk.core.sharing import share
from stellwerk.device.command import Command, Step
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration, register_behind
from stellwerk.device.observation import WantedObservation
from stellwerk.device.profile import ProfileRecord, from_settings
from stellwerk.device.record import Credential, DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.link_format import ObjectList, decode_object_list
from stellwerk.lwm2m.paths import parse_target
from stellwerk.lwm2m.schema.library import DeviceTypes, Library
from stellwerk.storage.bootstrap_text import decode_bootstrap
from stellwerk.storage.vault import Vault

Row = Sequence[Any]
Model = Callable[[bytes, str, str], tuple[bytes, ObjectList, DeviceTypes]]
"""From object list, enabler version and tenant to the shared bytes, their decoded form and the types they imply."""

_MODELS_KEPT: Final = 1024
_SHARED_BODY: Final = 2048
"""Object lists up to this many bytes are shared: longer ones are no fleet's, and their models are large."""

DEVICE: Final = (
    "d.id,d.tenant_id,t.name,d.name,d.node_id,d.labels,d.profile,d.created_ms,d.modified_ms,d.security,d.device_info,"
    "d.gateway_id,d.gateway_prefix,"
    "CASE WHEN d.gateway_id>0 THEN (SELECT g.name FROM device g WHERE g.id=d.gateway_id) END"
)
DEVICE_COLUMNS: Final = 14
CREDENTIAL: Final = (
    "device_id,identity,secret,description,envelope,created_ms,modified_ms,kind,endpoint,bootstrap,key_id,oscore,"
    "spent_ms,bootstrap_id"
)
REGISTRATION: Final = (
    "device_id,location,endpoint_name,peer,version,lifetime_s,binding,queue_mode,body,content_formats,registered_ms,"
    "updated_ms,sms,extra,deadline_ms"
)
STORED_REGISTRATION: Final = (
    "(SELECT t.name FROM device d JOIN tenant t ON t.id=d.tenant_id WHERE d.id=registration.device_id)," + REGISTRATION
)
"""As read: the tenant's name comes first."""
BEHIND: Final = ""
"""Stands where an address stands otherwise: the device is behind a gateway, and what its row does not say, that one's
does."""
OBSERVATION: Final = "device_id,path,token,accept,attributes,labels,created_ms"
COMMAND: Final = (
    "id,device_id,outgoing_ri,outgoing_rn,request_id,method,operation,content,content_info,step,created_ms,expires_ms,"
    "priority,reason,detail"
)
PROFILE: Final = "tenant_id,name,settings,created_ms,modified_ms,bootstrap"
MESSAGE: Final = "resource_id,resource_name,state_tag,created_ms,content,content_info,content_size,creator,labels"
TREE_RESOURCE: Final = (
    "tenant_id,resource_id,resource_name,parent,resource_type,envelope,creator,labels,created_ms,modified_ms,"
    "state_tag,attributes"
)

_encode = msgspec.json.Encoder().encode
_decode_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_numbers = msgspec.json.Decoder(tuple[int, ...] | None).decode
_decode_pairs = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode
_decode_attributes = msgspec.json.Decoder(tuple[tuple[str, str | None], ...]).decode


def to_json(value: object) -> str:
    """Compact JSON text."""
    return _encode(value).decode()


@lru_cache(maxsize=1024)
def labels_of(text: str) -> tuple[str, ...]:
    """Labels from their column; equal ones are shared."""
    return _decode_texts(text)


def model_reader(library: Library) -> Model:
    """Devices that registered the same object list share its bytes, its decoded form and their types."""

    def build(body: bytes, version: str, tenant: str) -> tuple[bytes, ObjectList, DeviceTypes]:
        objects = decode_object_list(body)
        versions = {each: listed.version for each, listed in objects.objects.items()}
        return body, objects, library.for_device(version, versions, tenant)

    share = lru_cache(maxsize=_MODELS_KEPT)(build)

    def model(body: bytes, version: str, tenant: str) -> tuple[bytes, ObjectList, DeviceTypes]:
        return share(body, version, tenant) if len(body) <= _SHARED_BODY else build(body, version, tenant)

    return model


def device_from(row: Row) -> DeviceRecord:
    """From the columns in `DEVICE`."""
    (device_id, tenant_id, tenant, name, node_id, labels, profile, created, modified, security, info) = row[:11]
    fields = (
        DeviceId(device_id),
        TenantId(tenant_id),
        share(tenant),
        name,
        # As good as every text in here is held once for each device otherwise.
        name if node_id == name else node_id,
        labels_of(labels),
        share(profile),
        created,
        created if modified == created else modified,
        share(security),
        _decode_pairs(info),
    )
    gateway_id, prefix, gateway = row[11:]
    if not gateway_id:
        return DeviceRecord(*fields)
    return EndDeviceRecord(*fields, DeviceId(gateway_id), share(gateway or ""), prefix)


def read_device(connection: sqlite3.Connection, device_id: DeviceId) -> DeviceRecord | None:
    """None where there is none."""
    query = f"SELECT {DEVICE} FROM device d JOIN tenant t ON t.id=d.tenant_id WHERE d.id=?"
    found = connection.execute(query, (device_id,)).fetchall()
    return device_from(found[0]) if found else None


def credential_row(device_id: DeviceId, credential: Credential, vault: Vault) -> tuple[Any, ...]:
    """The columns in `CREDENTIAL`."""
    bootstrap, oscore = credential.bootstrap.encode(), credential.oscore.encode()
    return (
        device_id,
        credential.identity,
        vault.seal(credential.secret.encode(), secret_context(device_id)),
        credential.description,
        credential.envelope,
        credential.created_ms,
        credential.modified_ms,
        credential.kind,
        credential.endpoint,
        vault.seal(bootstrap, bootstrap_context(device_id)) if bootstrap else None,
        credential.key_id or None,
        vault.seal(oscore, oscore_context(device_id)) if oscore else None,
        credential.spent_ms,
        bootstrap_id(credential.bootstrap) or None,
    )


def credential_from(row: Row, vault: Vault) -> Credential:
    """From the columns in `CREDENTIAL`. Raises `SecretUnreadable`."""
    device_id, identity, sealed, description, envelope, created_ms, modified_ms, *others = row
    kind, endpoint, bootstrap, key_id, oscore, spent_ms, _ = others
    secret = vault.open(sealed, secret_context(device_id)).decode()
    opened = "" if bootstrap is None else vault.open(bootstrap, bootstrap_context(device_id)).decode()
    return Credential(
        identity,
        secret,
        description,
        share(envelope),
        created_ms,
        modified_ms,
        share(kind),
        endpoint,
        opened,
        key_id or "",
        "" if oscore is None else vault.open(oscore, oscore_context(device_id)).decode(),
        spent_ms=spent_ms,
    )


def secret_context(device_id: int) -> bytes:
    """What a device's key is sealed with."""
    return f"key of device {device_id}".encode()


def bootstrap_context(device_id: int) -> bytes:
    """What its bootstrap part is sealed with."""
    return f"bootstrap of device {device_id}".encode()


def oscore_context(device_id: int) -> bytes:
    """What its OSCORE part is sealed with."""
    return f"oscore of device {device_id}".encode()


def fresh_context(device_id: int) -> bytes:
    """What its fresh credential is sealed with."""
    return f"fresh credential of device {device_id}".encode()


_decode_fresh: Final = msgspec.json.Decoder(Credential).decode


def fresh_from(sealed: bytes, vault: Vault, device_id: int) -> Credential:
    """Raises `SecretUnreadable`."""
    return _decode_fresh(vault.open(sealed, fresh_context(device_id)))


def registration_row(registration: Registration, deadline_ms: int) -> tuple[Any, ...]:
    """The columns in `REGISTRATION`."""
    return (
        registration.device_id,
        registration.location,
        registration.endpoint_name,
        BEHIND if isinstance(registration, EndDeviceRegistration) else encode_peer(registration.peer),
        registration.version,
        registration.lifetime_s,
        registration.binding,
        int(registration.queue_mode),
        registration.body,
        to_json(registration.objects.content_formats),
        registration.registered_ms,
        registration.updated_ms,
        registration.sms,
        to_json(registration.extra) if registration.extra else "[]",
        deadline_ms,
    )


def registration_from(row: Row, updated_ms: int, model: Model) -> Registration:
    """From the columns in `STORED_REGISTRATION`. ``updated_ms``: what journal and projection know, 0 where nothing is
    newer."""
    (
        tenant,
        device_id,
        location,
        endpoint_name,
        peer,
        version,
        lifetime_s,
        binding,
        queue_mode,
        body,
        content_formats,
        registered_ms,
        stored_updated_ms,
        sms,
        extra,
        _,
    ) = row
    body, objects, types = model(body, version, share(tenant or ""))
    # An Update's object list without ct keeps the formats known before (contract R-13): they are not in the body.
    kept = _decode_numbers(content_formats)
    if kept != objects.content_formats:
        objects = replace(objects, content_formats=kept)
    return Registration(
        location,
        DeviceId(device_id),
        endpoint_name,
        decode_peer(peer),
        share(version),
        share(lifetime_s),
        share(binding),
        bool(queue_mode),
        body,
        objects,
        types,
        registered_ms,
        max(stored_updated_ms, updated_ms),
        sms,
        _decode_pairs(extra) if extra != "[]" else (),
    )


def is_behind(row: Row) -> bool:
    """Whether the columns in `STORED_REGISTRATION` are an end device's."""
    return bool(row[4] == BEHIND)


def end_device_registration_from(
    row: Row, record: EndDeviceRecord, gateway: Registration, model: Model
) -> EndDeviceRegistration:
    """From the columns in `STORED_REGISTRATION` and the registration of its gateway."""
    version, registered_ms = share(row[5]), row[11]
    body, objects, types = model(row[9], version, record.tenant)
    return register_behind(
        gateway,
        record,
        location=row[2],
        version=version,
        body=body,
        objects=objects,
        types=types,
        registered_ms=registered_ms,
    )


def observation_row(observation: WantedObservation) -> tuple[Any, ...]:
    """The columns in `OBSERVATION`."""
    return (
        observation.device_id,
        str(observation.path),
        observation.token,
        observation.accept,
        to_json(observation.attributes),
        to_json(observation.labels),
        observation.created_ms,
    )


def observation_from(row: Row) -> WantedObservation:
    """From the columns in `OBSERVATION`."""
    device_id, path, token, accept, attributes, labels, created_ms = row
    return WantedObservation(
        DeviceId(device_id),
        parse_target(path),
        token,
        accept,
        _decode_attributes(attributes),
        labels_of(labels),
        created_ms,
    )


def command_from(row: Row) -> Command:
    """From the columns in `COMMAND`."""
    command_id, device_id, ri, rn, request_id, method, operation, content, content_info, step, created, *rest = row
    return Command(
        command_id,
        DeviceId(device_id),
        ri,
        rn,
        request_id,
        method,
        decode_operation(operation),
        content,
        content_info,
        Step(step),
        created,
        *rest,
    )


def profile_from(row: Row) -> ProfileRecord:
    """From the columns in `PROFILE`."""
    tenant_id, name, settings, created_ms, modified_ms, bootstrap = row
    profile = from_settings(msgspec.json.decode(settings))
    kept = decode_bootstrap(bootstrap, name)
    return ProfileRecord(TenantId(tenant_id), name, profile, created_ms, modified_ms, kept)


def message_from(row: Row) -> MessageRecord:
    """From the columns in `MESSAGE`."""
    resource_id, resource_name, state_tag, created_ms, content, content_info, content_size, creator, labels = row
    return MessageRecord(
        resource_id,
        resource_name,
        state_tag,
        created_ms,
        content,
        content_info,
        content_size,
        creator,
        labels_of(labels),
    )


def tree_resource_row(resource: TreeResource) -> tuple[Any, ...]:
    """The columns in `TREE_RESOURCE`."""
    return (
        resource.tenant_id,
        resource.resource_id,
        resource.resource_name,
        resource.parent,
        resource.resource_type,
        resource.envelope,
        resource.creator,
        to_json(resource.labels),
        resource.created_ms,
        resource.modified_ms,
        resource.state_tag,
        to_json(resource.attributes),
    )


def tree_resource_from(row: Row) -> TreeResource:
    """From the columns in `TREE_RESOURCE`."""
    tenant_id, ri, rn, parent, kind, envelope, creator, labels, created_ms, modified_ms, state_tag, attributes = row
    return TreeResource(
        TenantId(tenant_id),
        ri,
        rn,
        parent,
        kind,
        envelope,
        creator,
        labels_of(labels),
        created_ms,
        modified_ms,
        state_tag,
        msgspec.json.decode(attributes),
    )
