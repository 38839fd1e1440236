"""What a path below the tenant means (contract §2). Pure: whether a device or message exists is asked elsewhere."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

AES: Final = ("NI-IPE", "device-provisioning", "device-group")
"""Application entities that come with every tenant."""

COMMUNICATION: Final = "device-communication"
BINS: Final = ("device-provisioning/request", "device-provisioning/response")
"""Containers of flexContainers, by the names under which the store keeps their children."""

DEVICE_INFO: Final = "device-info"
MessageContainerName: TypeAlias = Literal["outgoing-msg", "sent-msg", "received-msg"]
MESSAGE_CONTAINERS: Final[tuple[MessageContainerName, ...]] = ("outgoing-msg", "sent-msg", "received-msg")


@dataclass(frozen=True, slots=True)
class Base:
    """The tenant itself, a CSEBase."""


@dataclass(frozen=True, slots=True)
class SystemAe:
    name: str


@dataclass(frozen=True, slots=True)
class Bin:
    """``path``: one of `BINS`."""

    path: str


@dataclass(frozen=True, slots=True)
class Flex:
    """A flexContainer in a bin."""

    bin: str
    name: str


@dataclass(frozen=True, slots=True)
class Communication:
    """The container of all devices' containers."""


@dataclass(frozen=True, slots=True)
class DeviceContainer:
    device: str


@dataclass(frozen=True, slots=True)
class Messages:
    device: str
    container: MessageContainerName


@dataclass(frozen=True, slots=True)
class Message:
    """``name`` is a resource name, or ``la`` and ``ol`` for the newest and the oldest."""

    device: str
    container: MessageContainerName
    name: str


@dataclass(frozen=True, slots=True)
class Node:
    device: str


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    device: str


Target: TypeAlias = (
    Base | SystemAe | Bin | Flex | Communication | DeviceContainer | Messages | Message | Node | DeviceInfo
)


def resolve(segments: tuple[str, ...]) -> Target | None:
    """The target of a path, or None where nothing can be."""
    match segments:
        case ():
            return Base()
        case (name,) if name in AES:
            return SystemAe(name)
        case ("device-provisioning", "request" | "response" as name):
            return Bin(f"device-provisioning/{name}")
        case ("device-provisioning", "request" | "response" as name, child):
            return Flex(f"device-provisioning/{name}", child)
        case ("device-communication",):
            return Communication()
        case ("device-communication", device):
            return DeviceContainer(device)
        case ("device-communication", device, "outgoing-msg" | "sent-msg" | "received-msg" as container):
            return Messages(device, container)
        case ("device-communication", device, "outgoing-msg" | "sent-msg" | "received-msg" as container, name):
            return Message(device, container, name)
        case (device,):
            return Node(device)
        case (device, "device-info") if device not in AES:
            return DeviceInfo(device)
    return None
