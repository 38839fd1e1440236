"""What a path below the tenant means (contract §2). Pure: whether a device, a message or what people wrote exists is
asked in ``addressing``."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

AES: Final = ("NI-IPE", "device-provisioning", "device-group")
"""Application entities that come with every tenant."""

COMMUNICATION: Final = "device-communication"
BINS: Final = ("device-provisioning/request", "device-provisioning/response")
"""Containers of flexContainers, by the names under which the store keeps their children."""

DEVICE_GROUP: Final = "device-group"
DEVICE_INFO: Final = "device-info"
CREDENTIALS: Final = "credentials"
ADAPTER_SUBSCRIPTION: Final = "protocol-adapter-subscription"
UPDATE_SUBSCRIPTION: Final = "device-update-subscription"
FIXED_PATHS: Final = (*AES, *BINS, COMMUNICATION)
"""Paths of the containers and applications that come with every tenant."""
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
    """A flexContainer in a bin or, a group of devices, below ``device-group``: ``parent`` is the path of either."""

    parent: str
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


@dataclass(frozen=True, slots=True)
class Credentials:
    device: str


@dataclass(frozen=True, slots=True)
class FixedSubscription:
    """A subscription of the system itself, ``protocol-adapter-subscription`` or ``device-update-subscription``."""

    device: str
    name: str


@dataclass(frozen=True, slots=True)
class Application:
    """An AE that registered itself; the store keeps it below the tenant's name."""

    name: str


@dataclass(frozen=True, slots=True)
class Stored:
    """Anything else that people wrote: ``parent`` as the store names it (a resource ID or a fixed path), ``path`` from
    the tenant on."""

    parent: str
    path: tuple[str, ...]

    @property
    def name(self) -> str:
        """The resource name."""
        return self.path[-1]


Target: TypeAlias = (
    Base
    | SystemAe
    | Bin
    | Flex
    | Communication
    | DeviceContainer
    | Messages
    | Message
    | Node
    | DeviceInfo
    | Credentials
    | FixedSubscription
    | Application
    | Stored
)


def resolve(segments: tuple[str, ...]) -> Target | None:
    """The target of a path, or None where only what people wrote can be. A first segment that is no fixed name means a
    node; whether it is an application instead, the store knows."""
    match segments:
        case ():
            return Base()
        case (name,) if name in AES:
            return SystemAe(name)
        case ("device-provisioning", "request" | "response" as name):
            return Bin(f"device-provisioning/{name}")
        case ("device-provisioning", "request" | "response" as name, child):
            return Flex(f"device-provisioning/{name}", child)
        case ("device-group", child):
            return Flex(DEVICE_GROUP, child)
        case ("device-communication",):
            return Communication()
        case ("device-communication", device):
            return DeviceContainer(device)
        case ("device-communication", device, "outgoing-msg" | "sent-msg" | "received-msg" as container):
            return Messages(device, container)
        case ("device-communication", device, "outgoing-msg", "protocol-adapter-subscription"):
            return FixedSubscription(device, ADAPTER_SUBSCRIPTION)
        case ("device-communication", device, "outgoing-msg" | "sent-msg" | "received-msg" as container, name):
            return Message(device, container, name)
        case (device,):
            return Node(device)
        case (device, "device-info") if device not in AES:
            return DeviceInfo(device)
        case (device, "credentials") if device not in AES:
            return Credentials(device)
        case (device, "device-update-subscription") if device not in AES:
            return FixedSubscription(device, UPDATE_SUBSCRIPTION)
    return None


def path_of(target: Target) -> tuple[str, ...]:
    """The structured path from the tenant on; the inverse of `resolve`."""
    match target:
        case Base():
            return ()
        case SystemAe(name) | Application(name) | Node(name):
            return (name,)
        case Bin(path):
            return tuple(path.split("/"))
        case Flex(parent, name):
            return (*parent.split("/"), name)
        case Communication():
            return (COMMUNICATION,)
        case DeviceContainer(device):
            return (COMMUNICATION, device)
        case Messages(device, container):
            return (COMMUNICATION, device, container)
        case Message(device, container, name):
            return (COMMUNICATION, device, container, name)
        case DeviceInfo(device):
            return (device, DEVICE_INFO)
        case Credentials(device):
            return (device, CREDENTIALS)
        case FixedSubscription(device, name):
            return (device, name) if name == UPDATE_SUBSCRIPTION else (COMMUNICATION, device, "outgoing-msg", name)
        case Stored(_, path):
            return path
        case _:
            assert_never(target)
