"""A device has used its fresh credential: that is the one that holds, and what came in with the former ends (contract
device platform §12).

Until a handshake with it is complete, or a message under its OSCORE context was verified, both are taken, for the
device may not have understood what it was given.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from stellwerk.app.oscore import ContextName, read_oscore
from stellwerk.app.security_ports import SecurityStore
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId, session_of
from stellwerk.device.key_material import certificate_key_id, raw_key_id
from stellwerk.device.record import PSK, Credential, DeviceRecord

log = structlog.get_logger(__name__)

End = Callable[[DeviceRecord, PeerId], Awaitable[object]]


class Promoting:
    """One for all ways in which a device proves who it is."""

    def __init__(self, store: SecurityStore, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks
        self.hearers: list[End] = []
        """Told, in order, of a device that has used its fresh credential, with the peer as which it did: whatever came
        in otherwise ends."""
        self._waiting: dict[DeviceId, list[asyncio.Future[None]]] = {}

    def used(self, peer: PeerId, identity: SecureIdentity | ContextName, device_id: DeviceId) -> None:
        """A handshake in which ``identity`` was that of the fresh credential is complete, or the context that it names
        was heard."""
        if device_id in self._waiting:
            return
        waiting = self._waiting[device_id] = []
        if not self._tasks.start("fresh credential", self._promote(peer, identity, device_id, waiting)):
            # The next handshake tells it again.
            del self._waiting[device_id]

    async def settled(self, device_id: DeviceId) -> None:
        """Return when the fresh credential that the device has just shown is the one that holds."""
        waiting = self._waiting.get(device_id)
        if waiting is not None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting.append(done)
            await done

    async def _promote(
        self,
        peer: PeerId,
        identity: SecureIdentity | ContextName,
        device_id: DeviceId,
        waiting: list[asyncio.Future[None]],
    ) -> None:
        try:
            fresh = await self._store.fresh_credential(device_id)
            # Another one may have taken its place since.
            if fresh is not None and is_shown(fresh, identity):
                record = await self._store.promote_fresh_credential(
                    device_id, fresh, session=session_of(peer) if peer.is_session else b""
                )
                if record is not None:
                    log.info("credential.promoted", tenant=record.tenant, device=record.name, security=record.security)
                    for tell in self.hearers:
                        try:
                            await tell(record, peer)
                        except Exception:
                            # What the others end has to end all the same.
                            log.exception("credential.promotion_not_heard", device=record.name)
        finally:
            del self._waiting[device_id]
            for each in waiting:
                if not each.done():
                    each.set_result(None)


def is_shown(credential: Credential, identity: SecureIdentity | ContextName) -> bool:
    """Whether a handshake with ``identity``, or a context of that name, has shown that credential."""
    match identity:
        case PskIdentity():
            return credential.kind == PSK and credential.identity.encode() == identity.identity
        case RawKeyIdentity():
            return credential.key_id == raw_key_id(identity.spki)
        case CertificateIdentity():
            return credential.key_id == certificate_key_id(identity.chain[0])
        case ContextName():
            known = credential.oscore and read_oscore(credential.oscore, DeviceId(0)).sender_id
            return known == identity.kid
