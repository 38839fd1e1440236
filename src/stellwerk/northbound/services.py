"""What the faces need of the rest of the server, in one bundle."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.handlers.provisioning import Provisioning
from stellwerk.app.ports import Clock, DecidingStore, Limits, MessageRecord, ProjectedStore
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
    ) -> MessageRecord:
        """Raises `AlreadyExists` for a taken name and `ContainerFull`."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """``ready`` names the listeners that are not bound yet; the store is asked by the health route itself."""

    deciding: DecidingStore
    projected: ProjectedStore
    commands: PostsCommands
    provisioning: Provisioning
    tokens: Tokens
    clock: Clock
    entropy: Entropy
    ready: Callable[[], Awaitable[list[str]]]
    naming: Naming = "published"
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    tenant: str = ""
    """The one that an address without a tenant means, for tokens that open every tenant; empty: none."""
