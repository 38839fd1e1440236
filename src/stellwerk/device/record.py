"""A provisioned device: what people wrote about it (= a oneM2M node; contract Device to Cloud §6)."""

from dataclasses import dataclass
from typing import Final

from stellwerk.core.ids import DeviceId, TenantId

UPLINK_PROPERTY_PREFIXES: Final = ("d2c-uplink-property_", "UplinkProperty_")
"""Node labels ``<prefix><key>:<value>`` are copied to received messages as ``<key>:<value>`` (§8)."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """``name`` is the node's resource name, ``node_id`` its oneM2M nodeID, ``labels`` as provisioned, in order."""

    device_id: DeviceId
    tenant_id: TenantId
    tenant: str
    name: str
    node_id: str
    labels: tuple[str, ...]
    profile: str
    created_ms: int
    modified_ms: int
    security: str = "nosec"
    device_info: tuple[tuple[str, str], ...] = ()
    """Provisioned device-info attributes by oneM2M short name."""

    @property
    def uplink_labels(self) -> tuple[str, ...]:
        """The labels every received message of this device carries."""
        return uplink_labels(self.labels)


def uplink_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Uplink properties among node labels, prefix removed (contract Device to Cloud §8)."""
    found = []
    for label in labels:
        for prefix in UPLINK_PROPERTY_PREFIXES:
            if label.startswith(prefix):
                found.append(label[len(prefix) :])
    return tuple(found)


def endpoint_aliases(node_id: str, name: str) -> tuple[tuple[str, int], ...]:
    """Endpoint names that mean this node, each with its rank; the lowest rank wins (contract Device to Cloud §6.6)."""
    ranked: dict[str, int] = {}
    candidates = [(node_id, 2), (node_id.removeprefix("urn:"), 3), (node_id.rpartition(":")[2], 4), (name, 5)]
    for alias, rank in candidates:
        if alias and alias not in ranked:
            ranked[alias] = rank
    return tuple(ranked.items())
