"""Who may speak for whom: the one rule behind SEC-3 to SEC-6 and Device to Cloud §6.6.

A device with credentials speaks over secure sessions that it has proven its identity for, and over nothing else; one
without speaks over none. One with an OSCORE context protects its messages with that, within a secure session where it
has the keys for one too. What a message names (an endpoint, a location, a token) has to be of that very device.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from stellwerk.app.ports import DecidingStore
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.device.record import NOSEC, RPK, DeviceRecord, transport_security, wants_oscore
from stellwerk.lwm2m.status import Status

DeviceOf: TypeAlias = Callable[[PeerId], DeviceId | None]


@dataclass(slots=True)
class Refusal:
    """``reason``: a word for counting; ``detail``: a sentence for people, which the device learns too. ``record``: whom
    it concerns. ``right``: what would be right, which is for whoever looks at the server only."""

    reason: str
    status: Status
    detail: str
    record: DeviceRecord | None = None
    right: str = ""

    @property
    def noted(self) -> str:
        """What logs and histories say."""
        return f"{self.detail}: {self.right}" if self.right else self.detail


class Speaking:
    """``sessions``: whose each secure session is, as the handshake has shown, and each OSCORE context."""

    def __init__(self, store: DecidingStore, sessions: Mapping[PeerId, DeviceId] | None = None) -> None:
        self._store = store
        self._sessions: Mapping[PeerId, DeviceId] = {} if sessions is None else sessions
        self.settled: Callable[[DeviceId], Awaitable[None]] = _at_once
        """Returns when a fresh credential that the device has just shown is the one that holds."""

    def device_of(self, peer: PeerId) -> DeviceId | None:
        """The device that ``peer`` has proven to be; None for an address without security."""
        return self._sessions.get(peer) if peer.is_proven else None

    def may_speak(self, peer: PeerId, record: DeviceRecord) -> bool:
        """Whether what comes from ``peer`` may be about the registration of ``record`` (SEC-5, SEC-6)."""
        if peer.is_proven:
            return self._sessions.get(peer) == record.device_id and not missing_layers(peer, record)
        return record.security == NOSEC

    async def registrant(self, name: str | None, peer: PeerId) -> tuple[DeviceRecord | None, str] | Refusal:
        """The device that may register from ``peer`` as ``name``, and the endpoint name that it then has; None where
        the name means nobody. Over a session ``name`` may be missing (SEC-4)."""
        if peer.is_proven:
            return await self._over_session(name, peer)
        if name is None:
            text = "ep is missing and no secure identity stands in for it"
            return Refusal("no-name", Status.BAD_REQUEST, text)
        record = await self._store.device_by_endpoint(name)
        if record is None:
            return None, name
        if isinstance(record, EndDeviceRecord):
            text = f"device {record.name!r} is reached through gateway {record.gateway!r} and does not register itself"
            return Refusal("end-device", Status.FORBIDDEN, text)
        if record.security != NOSEC:
            text = f"device {record.name!r} has credentials and must use them"
            return Refusal("has-credentials", Status.FORBIDDEN, text, record, right_way(record.security))
        return record, name

    async def _over_session(self, name: str | None, peer: PeerId) -> tuple[DeviceRecord | None, str] | Refusal:
        device_id = self._sessions.get(peer)
        if device_id is not None:
            await self.settled(device_id)
        own = None if device_id is None else await self._store.device(device_id)
        if own is None:
            return Refusal("no-device", Status.FORBIDDEN, "the device of this secure session is gone")
        if own.security == NOSEC:
            text = f"device {own.name!r} has no credentials any more and comes without security"
            return Refusal("no-credentials", Status.FORBIDDEN, text, own)
        missing = missing_layers(peer, own)
        if missing:
            return Refusal("wrong-layers", Status.FORBIDDEN, missing, own)
        if name is not None:
            named = await self._store.device_by_endpoint(name)
            if named is not None and named.device_id == own.device_id:
                return own, name
        credential = await self._store.credential_of(own.device_id)
        endpoint = "" if credential is None else credential.endpoint
        if name is None:
            return own, endpoint or own.node_id
        if name == endpoint:
            return own, name
        text = f"endpoint {name!r} is not that of device {own.name!r}, whose identity this session has proven"
        return Refusal("other-identity", Status.BAD_REQUEST, text, own)


def right_way(security: str, prefix: str = "STELLWERK_") -> str:
    """How a device of that ``security`` has to come, for people: the layers, the schemes, and the setting of the port,
    which begins with ``prefix``."""
    transport = transport_security(security)
    if transport == NOSEC:
        schemes, port = "coap:// or coap+tcp://", "COAP_PORT"
    else:
        # TLS here has no raw public keys.
        schemes, port = "coaps://" if transport == RPK else "coaps:// or coaps+tcp://", "COAPS_PORT"
    within = "" if not wants_oscore(security) else "OSCORE over " if transport == NOSEC else "OSCORE within "
    return f"{within}{schemes}, at the port that {prefix}{port} names"


def missing_layers(peer: PeerId, record: DeviceRecord) -> str:
    """Why ``peer``, which is proven to be the device, does not have the layers of security that the device has to come
    with; empty where it does."""
    if wants_oscore(record.security) != peer.is_context:
        if peer.is_context:
            return f"device {record.name!r} has no OSCORE context any more"
        return f"device {record.name!r} has an OSCORE context and must use it too"
    within = peer.carrier in ("dtls", "tls")
    if peer.is_context and within != (transport_security(record.security) != NOSEC):
        if within:
            return f"device {record.name!r} has an OSCORE context and nothing for the {peer.carrier} below it"
        return f"device {record.name!r} must speak OSCORE within DTLS or TLS"
    return ""


async def _at_once(device_id: DeviceId) -> None:
    pass
