"""Records as oneM2M resources, with short names, members in the order of the published samples (contract §4.1)."""

from typing import Any, Final, NamedTuple

import msgspec

from stellwerk.app.credentials import written_secret
from stellwerk.app.handlers.commands import Place
from stellwerk.app.ports import Limits
from stellwerk.app.records import ContainerState, DeviceState, MessageRecord, TreeResource
from stellwerk.device.end_device import GATEWAY_LABELS, EndDeviceRecord
from stellwerk.device.record import Credential, DeviceRecord
from stellwerk.northbound.onem2m.identifiers import device_id, infrastructure_id, timestamp
from stellwerk.northbound.onem2m.names import AE, CB, CIN, CNT, FCNT, MGMT_OBJ, NOD, SUB, Form, envelope_name, to_form
from stellwerk.northbound.onem2m.tree import (
    ADAPTER_SUBSCRIPTION,
    COMMUNICATION,
    CREDENTIALS,
    FIXED_PATHS,
    MessageContainerName,
)

SUPPORTED_TYPES: Final = [AE, CNT, CIN, CB, MGMT_OBJ, NOD, SUB, FCNT]
NEVER: Final = "99991231T235959,000000"
"""``et`` of what does not expire."""

SUPPORTED_RELEASES: Final = ["1", "2", "2a", "3", "4", "5"]
_IN_CSE: Final = 1
_CREDENTIALS: Final = 1029
_UPDATED, _CHILD_CREATED = 1, 3
"""Notification event types."""

_COUNTED: Final = frozenset({CNT, CIN, FCNT})
"""Types with a state tag."""

_AE_IDS: Final = {
    "NI-IPE": "CNI-IPE",
    "device-provisioning": "CDevice-Provisioning",
    "device-group": "CDevice-Group",
}

_TIMESTAMP_LABELS: Final = (
    ("updates_timestamp", "updated_ms"),
    ("registrations_timestamp", "registered_ms"),
    ("deregistrations_timestamp", "deregistered_ms"),
    ("expirations_timestamp", "expired_ms"),
)
"""Label and the field of `DeviceState` behind it; the first two in the order of the sample (§8.1)."""

_OWNED_LABELS: Final = tuple(f"{label}:" for label, _ in _TIMESTAMP_LABELS)


class Resource(NamedTuple):
    """``envelope`` and the names of ``attributes`` are short."""

    envelope: str
    resource_type: int
    attributes: dict[str, Any]

    def document(self, form: Form) -> dict[str, Any]:
        """The JSON answer about this resource alone. A provisioning response keeps the generic envelope, which is what
        the vendor's client unwraps (§6.2)."""
        envelope = "flexContainer" if self.envelope == "dtiot:prRRe" else envelope_name(self.envelope, form)
        return {envelope: to_form(self.attributes, form)}

    def shown_to(self, strict: bool) -> "Resource":
        """With an expiration time for standards clients, without one for all others (§4.1); an AE without a point of
        access says null to the latter (§5.3)."""
        if not strict:
            # Nearly everything has none to hide.
            if "et" in self.attributes:
                kept = {name: value for name, value in self.attributes.items() if name != "et"}
                return self._replace(attributes=kept)
            return self
        attributes = dict(self.attributes)
        if self.resource_type != CB:
            attributes.setdefault("et", NEVER)
        if self.resource_type == AE and attributes.get("poa") is None:
            attributes.pop("poa", None)
        return self._replace(attributes=attributes)

    def only(self, names: tuple[str, ...]) -> "Resource":
        """With these attributes alone, those that there are."""
        kept = {name: value for name, value in self.attributes.items() if name in names}
        return self._replace(attributes=kept)


def cse_base(tenant: str) -> Resource:
    return Resource(
        "m2m:cb",
        CB,
        {
            "csi": f"/{tenant}",
            "cst": _IN_CSE,
            "srt": SUPPORTED_TYPES,
            "srv": SUPPORTED_RELEASES,
            "csz": ["application/json"],
            "rn": tenant,
            "ty": CB,
            "ri": tenant,
        },
    )


def system_ae(tenant: str, name: str) -> Resource:
    ae_id = _AE_IDS[name]
    return Resource(
        "m2m:ae",
        AE,
        {
            "api": f"N{name}",
            "rr": True,
            "srv": SUPPORTED_RELEASES,
            "rn": name,
            "ty": AE,
            "ri": infrastructure_id(tenant, name),
            "aei": ae_id,
            "pi": tenant,
        },
    )


def bin_container(tenant: str, path: str) -> Resource:
    parent, _, name = path.rpartition("/")
    return Resource(
        "m2m:cnt",
        CNT,
        {
            "cni": 0,
            "cbs": 0,
            "ty": CNT,
            "st": 0,
            "rn": name,
            "ri": infrastructure_id(tenant, path),
            "pi": infrastructure_id(tenant, parent) if parent else tenant,
        },
    )


def communication(tenant: str) -> Resource:
    return bin_container(tenant, COMMUNICATION)


def stored(tenant: str, resource: TreeResource, with_secrets: bool = True) -> Resource:
    """What people or the platform wrote, as the store keeps it: AE, flexContainer, subscription and the like. Headers
    for calls to an application hold its passwords: they are for those who may write, as keys of devices are (§6.5)."""
    attributes: dict[str, Any] = {}
    if resource.resource_type == AE:
        # Shown as null where it is not set (§5.3).
        attributes["poa"] = None
    attributes |= resource.attributes
    if not with_secrets:
        attributes.pop("poah", None)
    if resource.labels:
        attributes["lbl"] = list(resource.labels)
    attributes["ty"] = resource.resource_type
    if resource.creator:
        attributes["cr"] = resource.creator
    if resource.resource_type in _COUNTED:
        attributes["st"] = resource.state_tag
    attributes |= {
        "rn": resource.resource_name,
        "ri": resource.resource_id,
        "pi": parent_id(tenant, resource.parent),
        "ct": timestamp(resource.created_ms),
        "lt": timestamp(resource.modified_ms),
    }
    return Resource(resource.envelope, resource.resource_type, attributes)


def flex_container(tenant: str, resource: TreeResource) -> Resource:
    """A flexContainer in a bin, or a group of devices."""
    return stored(tenant, resource)


def parent_id(tenant: str, parent: str) -> str:
    """The resource ID of ``parent`` as the store names it."""
    return infrastructure_id(tenant, parent) if parent in FIXED_PATHS else parent


def credentials(device: DeviceRecord, credential: Credential, with_secret: bool) -> Resource:
    """What a device proves itself with; the key is for those who may write (§6.5)."""
    attributes: dict[str, Any] = {}
    if credential.description:
        attributes["dc"] = credential.description
    attributes |= {
        "mgd": _CREDENTIALS,
        "rn": CREDENTIALS,
        "ty": MGMT_OBJ,
        "ri": device_id(device, CREDENTIALS),
        "pi": device_id(device),
        "ct": timestamp(credential.created_ms or device.created_ms),
        "lt": timestamp(credential.modified_ms or device.modified_ms),
        "crid": credential.identity,
    }
    if with_secret:
        attributes["crse"] = written_secret(credential)
    return Resource(credential.envelope, MGMT_OBJ, attributes)


def fixed_subscription(device: DeviceRecord, name: str) -> Resource:
    """How the system itself listens: for commands in ``outgoing-msg``, for changes of the node (§2)."""
    commands = name == ADAPTER_SUBSCRIPTION
    listener = [f"{device.tenant}/NI-IPE"]
    return Resource(
        "m2m:sub",
        SUB,
        {
            "nu": listener,
            "su": listener[0],
            "nct": 1,
            "enc": {"net": [_CHILD_CREATED if commands else _UPDATED]},
            "rn": name,
            "ty": SUB,
            "cr": "CDevice-Provisioning",
            "ri": device_id(device, name),
            "pi": device_id(device, "communication/outgoing-msg" if commands else ""),
            "ct": timestamp(device.created_ms),
            "lt": timestamp(device.created_ms),
        },
    )


def device_container(device: DeviceRecord, limits: Limits) -> Resource:
    """Its instances are none: messages live one level below."""
    empty = ContainerState(0, 0, 0, device.created_ms)
    return _container(
        device, device.name, "communication", infrastructure_id(device.tenant, COMMUNICATION), empty, limits
    )


def message_container(device: DeviceRecord, name: str, state: ContainerState, limits: Limits) -> Resource:
    return _container(device, name, f"communication/{name}", device_id(device, "communication"), state, limits)


def _container(
    device: DeviceRecord, name: str, part: str, parent: str, state: ContainerState, limits: Limits
) -> Resource:
    return Resource(
        "m2m:cnt",
        CNT,
        {
            "mni": limits.max_instances,
            "mbs": limits.max_bytes,
            "cni": state.count,
            "cbs": state.bytes,
            "ty": CNT,
            "st": state.state_tag,
            "cr": "CDevice-Provisioning",
            "rn": name,
            "ri": device_id(device, part),
            "pi": parent,
            "ct": timestamp(device.created_ms),
            "lt": timestamp(max(state.modified_ms, device.created_ms)),
        },
    )


def message(
    device: DeviceRecord, container: MessageContainerName, record: MessageRecord, place: Place | None = None
) -> Resource:
    """``place``: of a message whose commands wait; it is told in labels of our own."""
    attributes: dict[str, Any] = {"con": msgspec.Raw(record.content.encode())}
    labels = record.labels
    if place is not None:
        standing = (f"queue_position:{place.position}", f"queue_length:{place.count}", f"waits_for:{place.waits_for}")
        labels = (*labels, *standing)
    if labels:
        attributes["lbl"] = labels
    if record.content_info is not None:
        attributes["cnf"] = record.content_info
    attributes["ty"] = CIN
    attributes["cs"] = record.content_size
    attributes["st"] = record.state_tag
    if record.creator:
        attributes["cr"] = record.creator
    attributes["rn"] = record.resource_name
    attributes["ri"] = record.resource_id
    attributes["pi"] = device_id(device, f"communication/{container}")
    # A contentInstance never changes (§4.4).
    attributes["ct"] = attributes["lt"] = timestamp(record.created_ms)
    return Resource("m2m:cin", CIN, attributes)


def node(device: DeviceRecord, state: DeviceState | None) -> Resource:
    """A device. Its labels say when it was last heard, so that is a modification too (§8.1); those of an end device
    name its gateway and its prefix there."""
    labels = [label for label in device.labels if not label.startswith(_OWNED_LABELS)]
    if isinstance(device, EndDeviceRecord):
        labels = [label for label in labels if not label.startswith(GATEWAY_LABELS)]
        labels += [f"gateway:{device.gateway}", f"gateway_prefix:{device.prefix}"]
    modified_ms = device.modified_ms
    if state is not None:
        for label, field in _TIMESTAMP_LABELS:
            if at_ms := getattr(state, field):
                modified_ms = max(modified_ms, at_ms)
                # The sample's form: a blank behind the colon, milliseconds (§8.1).
                labels.append(f"{label}: {at_ms}")
    attributes: dict[str, Any] = {"ni": device.node_id}
    if labels:
        attributes["lbl"] = labels
    attributes |= {
        "rn": device.name,
        "ty": NOD,
        "ri": device_id(device),
        "pi": device.tenant,
        "ct": timestamp(device.created_ms),
        "lt": timestamp(modified_ms),
    }
    return Resource("m2m:nod", NOD, attributes)
