"""Who asks to be bootstrapped (contract SEC-3, SEC-4, SEC-6, B-15; device platform §5 and §12.1).

A device whose record gives it keys for the bootstrap server comes over a secure session that has proven them, and over
nothing else; one that has none comes over none. One with an OSCORE context for the bootstrap server protects its
messages with that, within a secure session where it has the keys for one too. The name may then be any that is the
device's: an alias of it, the endpoint of its credential, the name that its record gives for the bootstrap server, or
what it has proven itself. Another name is a mismatch, 4.00: whose it is, is decided by the identity alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stellwerk.app.bootstrap_blocks import BootstrapBlocks, read_blocks, shown_id
from stellwerk.app.ports import DecidingStore
from stellwerk.app.speaking import Refusal, missing_layers, right_way
from stellwerk.core.identity import CertificateIdentity, PskIdentity, SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId, context_of
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.device.key_material import der_of, read_certificate, read_public_key
from stellwerk.device.record import NOSEC, RPK, X509, Credential, DeviceRecord
from stellwerk.lwm2m.status import Status

NOT_ADMITTED: Status = Status.BAD_REQUEST
"""Of whoever may not be bootstrapped (contract SEC-3, §5)."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """``endpoint``: the name under which it came."""

    record: DeviceRecord
    credential: Credential | None
    blocks: BootstrapBlocks
    endpoint: str


class BootstrapAdmission:
    """``devices``: whose each secure session with the bootstrap server is, and each OSCORE context there;
    ``identities``: what a session has proven (`app.handlers.bootstrap_sessions`)."""

    def __init__(
        self,
        store: DecidingStore,
        devices: Mapping[PeerId, DeviceId] | None = None,
        identities: Mapping[PeerId, SecureIdentity] | None = None,
    ) -> None:
        self._store = store
        self._devices: Mapping[PeerId, DeviceId] = {} if devices is None else devices
        self._identities: Mapping[PeerId, SecureIdentity] = {} if identities is None else identities

    async def admit(self, name: str | None, peer: PeerId) -> Admitted | Refusal:
        """Raises `StoreTrouble`, and `UserError` for a credential that does not open with this master key."""
        return _unspent(await (self._proven(name, peer) if peer.is_proven else self._in_the_open(name)))

    async def admit_by_us(self, record: DeviceRecord, peer: PeerId) -> Admitted | Refusal:
        """The same of a device that did not ask. Raises as `admit`."""
        return await self.admit(None if peer.is_proven else record.node_id, peer)

    def session_of(self, device_id: DeviceId) -> PeerId | None:
        """The newest secure session of the device with the bootstrap server. A device of OSCORE begins itself: LwM2M
        1.0 has none."""
        found = [peer for peer, owner in self._devices.items() if owner == device_id and not peer.is_context]
        return found[-1] if found else None

    async def _in_the_open(self, name: str | None) -> Admitted | Refusal:
        if name is None:
            return Refusal("no-name", NOT_ADMITTED, "ep is missing and no secure identity stands in for it")
        record = await self._store.device_by_endpoint(name)
        if record is None:
            return Refusal("unknown-endpoint", NOT_ADMITTED, f"no device has the endpoint name {name!r}")
        if isinstance(record, EndDeviceRecord):
            text = f"device {record.name!r} is reached through gateway {record.gateway!r} and is not bootstrapped"
            return Refusal("end-device", NOT_ADMITTED, text)
        credential = await self._store.credential_of(record.device_id)
        blocks = read_blocks(credential)
        if blocks.bootstrap_server.security != NOSEC:
            text = f"device {record.name!r} has credentials for the bootstrap server and must use them"
            way = right_way(blocks.bootstrap_server.security, "STELLWERK_BOOTSTRAP_")
            return Refusal("has-credentials", NOT_ADMITTED, text, record, way)
        return Admitted(record, credential, blocks, name)

    async def _proven(self, name: str | None, peer: PeerId) -> Admitted | Refusal:
        device_id = self._devices.get(peer)
        record = None if device_id is None else await self._store.device(device_id)
        if record is None:
            what = "OSCORE context" if peer.is_context else "secure session"
            return Refusal("no-device", NOT_ADMITTED, f"the device of this {what} is gone")
        credential = await self._store.credential_of(record.device_id)
        blocks = read_blocks(credential)
        names = await self._still_shown(record, blocks, peer)
        if names is None:
            text = f"the credential of device {record.name!r} has changed; it has to connect with what it is now"
            return Refusal("wrong-identity", NOT_ADMITTED, text, record)
        missing = missing_layers(peer, replace(record, security=blocks.bootstrap_server.security))
        if missing:
            return Refusal("wrong-layers", NOT_ADMITTED, missing, record)
        aliases = names | {blocks.endpoint, "" if credential is None else credential.endpoint}
        if name is None:
            # SEC-4. Of several names the one that people wrote is the best for a history.
            endpoint = blocks.endpoint or ("" if credential is None else credential.endpoint) or record.node_id
            return Admitted(record, credential, blocks, endpoint)
        if name not in aliases:
            named = await self._store.device_by_endpoint(name)
            if named is None or named.device_id != record.device_id:
                text = (
                    f"endpoint {name!r} is not that of device {record.name!r}, whose identity this session has proven; "
                    "where it has another name here, bootstrap.endpoint of its credential record says it"
                )
                return Refusal("wrong-identity", NOT_ADMITTED, text, record)
        return Admitted(record, credential, blocks, name)

    async def _still_shown(self, record: DeviceRecord, blocks: BootstrapBlocks, peer: PeerId) -> set[str] | None:
        """The names that ``peer`` has proven; None where that is not what the record says now."""
        if peer.is_context:
            context = await self._store.oscore_context_of(record.device_id, is_bootstrap=True)
            if context is None or context.number != context_of(peer):
                return None
            return {context.sender_id.decode("utf-8", "replace")} - {""}
        identity = self._identities.get(peer)
        return _names(identity) if identity is not None and _still_shows(blocks, identity) else None


def _unspent(found: Admitted | Refusal) -> Admitted | Refusal:
    if isinstance(found, Admitted) and found.blocks.one_time and found.credential and found.credential.spent_ms:
        text = f"the bootstrap credential of device {found.record.name!r} was for one time and was used up"
        return Refusal("spent", NOT_ADMITTED, f"{text}; give it another one", found.record)
    return found


def _still_shows(blocks: BootstrapBlocks, identity: SecureIdentity) -> bool:
    """Whether ``identity`` is what the record says now: it may have been changed since the handshake."""
    block = blocks.bootstrap_server
    if isinstance(identity, PskIdentity):
        return block.kind == "psk" and shown_id(identity) == f"psk:{block.public}"
    if isinstance(identity, CertificateIdentity):
        return block.kind == X509 and (not block.public or der_of(read_certificate(block.public)) == identity.chain[0])
    return block.kind == RPK and read_public_key(block.public) == identity.spki


def _names(identity: SecureIdentity) -> set[str]:
    if isinstance(identity, PskIdentity):
        return {identity.identity.decode("utf-8", "replace")}
    if isinstance(identity, CertificateIdentity):
        return {each for each in (identity.common_name, *identity.names) if each}
    return set()
