"""What the faces need of the rest of the server, in one bundle."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.handlers.applications import Applications
from stellwerk.app.handlers.commands import Place
from stellwerk.app.handlers.devices import Devices
from stellwerk.app.handlers.injecting import Injecting
from stellwerk.app.handlers.provisioning import Provisioning
from stellwerk.app.ports import Clock, DecidingStore, Limits
from stellwerk.app.reading_ports import ProjectedStore
from stellwerk.app.records import MessageRecord
from stellwerk.core.entropy import Entropy
from stellwerk.device.record import DeviceRecord
from stellwerk.northbound.auth import Tokens

Naming: TypeAlias = Literal["published", "short", "full"]
"""Names of answers where the request says nothing (contract Device to Cloud §4.2 rule 4)."""


class PostsCommands(Protocol):
    """The use case behind outgoing-msg; `app.handlers.commands.Commands` is it."""

    async def post(
        self,
        device: DeviceRecord,
        *,
        name: str | None,
        content: Any,
        content_info: str | None,
        creator: str,
        labels: tuple[str, ...],
        requests: Sequence[CommandRequest | RefusedRequest],
        expires_ms: int | None = None,
        priority: int | None = None,
    ) -> MessageRecord:
        """``expires_ms``: until when (UTC) a command may wait; None: as long as the server is set to. ``priority``: of
        commands that say none; None: as the device's profile says. Raises `AlreadyExists` for a taken name,
        `ContainerFull` and `QueueFull`."""
        ...

    async def places(self, device: DeviceRecord) -> dict[str, Place]:
        """Where messages of the device stand that wait, by resource ID."""
        ...

    async def cancel(self, device: DeviceRecord, message: MessageRecord) -> bool:
        """End what of an outgoing message was not sent yet; False where all of it was."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """``ready`` names the listeners that are not bound yet; the store is asked by the health route itself."""

    deciding: DecidingStore
    projected: ProjectedStore
    commands: PostsCommands
    provisioning: Provisioning
    devices: Devices
    injecting: Injecting
    applications: Applications
    tokens: Tokens
    clock: Clock
    entropy: Entropy
    ready: Callable[[], Awaitable[list[str]]]
    naming: Naming = "published"
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    tenant: str = ""
    """The one that an address without a tenant means, for tokens that open every tenant; empty: none."""
    long_searches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Whose turn it is among searches that look at much."""
