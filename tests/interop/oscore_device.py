"""A device on aiocoap that speaks OSCORE: one context in both roles, kept in a folder as aiocoap does (RFC 8613)."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiocoap
from aiocoap import interfaces
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore import FilesystemSecurityContext
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from aiocoap.transports.oscore import OSCOREAddress
from aiocoap_device import AiocoapDevice
from served import TENANT, Served, wait_until

from stellwerk.access import open_store
from stellwerk.app.oscore import OscoreContext, render_oscore
from stellwerk.config import load_settings
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import OSCORE, PSK, Credential


@dataclass(frozen=True)
class Keys:
    """A context as the device sees it: it sends as ``sender_id``."""

    master_secret: bytes
    sender_id: bytes
    recipient_id: bytes
    master_salt: bytes = b""
    id_context: bytes | None = None

    def mirrored(self) -> "Keys":
        """The same context as the other end sees it."""
        return Keys(self.master_secret, self.recipient_id, self.sender_id, self.master_salt, self.id_context)

    def write(self, folder: Path) -> Path:
        """To where aiocoap finds it; the numbers that were used with it before stay there."""
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "secret_hex": self.master_secret.hex(),
            "salt_hex": self.master_salt.hex(),
            "sender-id_hex": self.sender_id.hex(),
            "recipient-id_hex": self.recipient_id.hex(),
        }
        if self.id_context is not None:
            settings["id-context_hex"] = self.id_context.hex()
        (folder / "settings.json").write_text(json.dumps(settings))
        return folder


class OnlyProtected(interfaces.Resource):
    """Serves ``site`` to whoever has the context, and to nobody else."""

    def __init__(self, site: Any) -> None:
        self._site = site
        self.unprotected = 0
        """Requests that came without."""

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        raise NotImplementedError

    async def needs_blockwise_assembly(self, request: aiocoap.Message) -> bool:
        raise NotImplementedError

    async def render_to_pipe(self, pipe: Any) -> None:
        if isinstance(pipe.request.remote, OSCOREAddress):
            await self._site.render_to_pipe(pipe)
        else:
            self.unprotected += 1
            pipe.add_response(aiocoap.Message(code=aiocoap.UNAUTHORIZED), is_last=True)


class OscoreDevice(AiocoapDevice):
    """Its requests leave protected by the context in ``folder``, and so does what it serves."""

    def __init__(self, server_port: int, folder: Path) -> None:
        self.security = FilesystemSecurityContext(str(folder))
        super().__init__(server_port)

    def _site(self) -> Any:
        credentials = CredentialsMap()
        credentials[":server"] = self.security
        self.guard = OnlyProtected(super()._site())
        return OscoreSiteWrapper(self.guard, credentials)

    async def _start(self) -> aiocoap.Context:
        context = await super()._start()
        context.client_credentials[f"{self.server}/*"] = self.security
        return context

    def ask_unprotected(self, code: aiocoap.Code, path: str, payload: bytes = b"", content_format: int = 40) -> Any:
        """The response to a request that leaves as it is."""
        mine = self._context.client_credentials
        del mine[f"{self.server}/*"]
        try:
            return self.ask(code, path, payload, content_format)
        finally:
            mine[f"{self.server}/*"] = self.security

    def forget(self) -> None:
        """End without a word, as with a battery that was taken out: what was not written down is lost."""
        # aiocoap writes its numbers down when the context ends.
        lock, self.security.lockfile = self.security.lockfile, None
        self.close()
        lock.release()


class OscoreStreamDevice(OscoreDevice):
    """The same over one TCP connection of its own."""

    async def _start(self) -> aiocoap.Context:
        self.server = self.server.replace("coap://", "coap+tcp://")
        context = await aiocoap.Context.create_server_context(self._site(), transports=["oscore", "tcpclient"])
        context.client_credentials[f"{self.server}/*"] = self.security
        return context


def give_context(server: Served, name: str, keys: Keys, kind: str = OSCORE) -> None:
    """Says on the running ``server`` that the device ``name`` protects its messages with ``keys``, beside a secure
    session with its pre-shared key where ``kind`` is `PSK`."""
    context = OscoreContext(
        0,
        DeviceId(0),
        keys.sender_id,
        keys.recipient_id,
        keys.master_secret,
        keys.master_salt,
        keys.id_context or b"",
    )
    secret = f"psk-hex:{keys.master_secret.hex()}" if kind == PSK else ""

    async def give() -> None:
        async with open_store(load_settings(environment=server.environment()), may_make=True) as store:
            tenant_id = await store.tenant(TENANT)
            assert tenant_id is not None
            device = await store.device_by_name(tenant_id, name)
            assert device is not None
            wanted = Credential(name, secret, kind=kind, endpoint=name, oscore=render_oscore(context))
            await store.set_credential(device.device_id, wanted)

    asyncio.run(give())
    # The server ends what came in with the former one, and it looks every second.
    changes = "SELECT count(*) FROM credential_change"
    wait_until(
        lambda: server.query("stellwerk.db", changes) == [(0,)], within_s=10, what="the change is taken notice of"
    )
