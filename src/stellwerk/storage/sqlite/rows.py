"""Rows of the deciding tables and what they stand for."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import msgspec

from stellwerk.app.operation_record import decode_operation
from stellwerk.app.ports import MessageRecord, TreeResource
from stellwerk.core.ids import DeviceId, TenantId, decode_peer, encode_peer
from stellwerk.core.sharing import share
from stellwerk.device.command import Command, Step
from stellwerk.device.observation import WantedObservation
from stellwerk.device.profile import ProfileRecord, from_settings
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.link_format import ObjectList, decode_object_list
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import DeviceTypes, Library

Row = Sequence[Any]
Model = Callable[[bytes, str], tuple[bytes, ObjectList, DeviceTypes]]
"""From object list and enabler version to the shared bytes, their decoded form and the types they imply."""

_MODELS_KEPT: Final = 1024
_SHARED_BODY: Final = 2048
"""Object lists up to this many bytes are shared: longer ones are no fleet's, and their models are large."""

DEVICE: Final = (
    "d.id,d.tenant_id,t.name,d.name,d.node_id,d.labels,d.profile,d.created_ms,d.modified_ms,d.security,d.device_info"
)
REGISTRATION: Final = (
    "device_id,location,endpoint_name,peer,version,lifetime_s,binding,queue_mode,body,content_formats,registered_ms,"
    "updated_ms,sms,extra,deadline_ms"
)
OBSERVATION: Final = "device_id,path,token,accept,attributes,labels,created_ms"
COMMAND: Final = (
    "id,device_id,outgoing_ri,outgoing_rn,request_id,method,operation,content,content_info,step,created_ms,expires_ms,"
    "priority,reason,detail"
)
PROFILE: Final = "tenant_id,name,settings,created_ms,modified_ms"
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

    def build(body: bytes, version: str) -> tuple[bytes, ObjectList, DeviceTypes]:
        objects = decode_object_list(body)
        versions = {each: listed.version for each, listed in objects.objects.items()}
        return body, objects, library.for_device(version, versions)

    share = lru_cache(maxsize=_MODELS_KEPT)(build)

    def model(body: bytes, version: str) -> tuple[bytes, ObjectList, DeviceTypes]:
        return share(body, version) if len(body) <= _SHARED_BODY else build(body, version)

    return model


def device_from(row: Row) -> DeviceRecord:
    """From the columns in `DEVICE`."""
    device_id, tenant_id, tenant, name, node_id, labels, profile, created, modified, security, info = row
    return DeviceRecord(
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


def registration_row(registration: Registration, deadline_ms: int) -> tuple[Any, ...]:
    """The columns in `REGISTRATION`."""
    return (
        registration.device_id,
        registration.location,
        registration.endpoint_name,
        encode_peer(registration.peer),
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
    """From the columns in `REGISTRATION`. ``updated_ms``: what journal and projection know, 0 for nothing newer."""
    (
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
    body, objects, types = model(body, version)
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
        Path.parse(path),
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
    tenant_id, name, settings, created_ms, modified_ms = row
    return ProfileRecord(
        TenantId(tenant_id), name, from_settings(msgspec.json.decode(settings)), created_ms, modified_ms
    )


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
