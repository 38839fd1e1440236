"""Registrations and the peers that speak for them: who may, and what follows when another one does (contract SEC-5,
SEC-6; decision 0011)."""

from dataclasses import replace

import structlog

from stellwerk.app.changes import ChangeRegistration
from stellwerk.app.committing import commit
from stellwerk.app.device_ports import Acknowledgement, DeviceLink
from stellwerk.app.handlers.observations import MovedWithoutUpdate
from stellwerk.app.handlers.registering import UNPROVEN, Answer, Registering, may_be_forged
from stellwerk.app.listener import Listener
from stellwerk.app.ports import DecidingStore
from stellwerk.app.registry import Known, KnownEndDevice, Registry
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)


class Moving:
    """``grace_s``: what a registration stays beyond its lifetime."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        registering: Registering,
        link: DeviceLink,
        listener: Listener,
        grace_s: float,
    ) -> None:
        self._store = store
        self._registry = registry
        self._registering = registering
        self._link = link
        self._listener = listener
        self._grace_s = grace_s

    def refuses(self, what: str, known: Known, peer: PeerId, at: Instant, answer: Answer, fresh: bool) -> bool:
        """Whether ``peer`` may not do ``what`` to a registration that is not its own (SEC-5), or has to prove its
        address first; then it has its answer, 4.00 or 4.01. ``what``: a word for counting and logs."""
        registration = known.pending or known.registration
        if peer == registration.peer:
            return False
        record = known.record
        if not self._registering.speaking.may_speak(peer, record):
            text = f"the registration is another device's; only {record.name!r} itself may change or end it"
            self._registering.refuse_other(what, peer, record, text, at)
            answer(Acknowledgement(Status.BAD_REQUEST, detail="the registration is not yours"))
            return True
        if self._registering.prove_moves and not fresh and may_be_forged(peer):
            log.info(f"{what}.unproven", endpoint_name=registration.endpoint_name, peer=str(peer))
            answer(Acknowledgement(Status.UNAUTHORIZED, detail=UNPROVEN, prove=True))
            return True
        return False

    def apply(self, changed: Registration, known: Known, at: Instant, *, followed: bool = False) -> Known:
        """``changed``, which is stored, takes the place of the registration of ``known``, in memory and at its peer.
        ``followed``: what was asked at the old peer goes on at the new one already."""
        old = known.registration.peer
        following = self._registry.put(changed, known.record, at.now)
        following.pending, following.leaving = known.pending, known.leaving
        if changed.objects is not known.registration.objects:
            self._listener.objects_changed(known.registration.objects, following, at)
        if old != changed.peer:
            log.info("registration.moved", endpoint_name=changed.endpoint_name, old=str(old), new=str(changed.peer))
            if not followed:
                self._link.move_peer(old, changed.peer)
                if old.is_channel or changed.peer.is_channel:
                    self._listener.connection_changed(following, at)
            self._registering.superseded(old)
        elif not known.registration.proven:
            self._link.prove_peer(changed.peer)
        return following

    async def take_over(self, peer: PeerId, at: Instant, *, followed: bool = False) -> Known | None:
        """The device whose session ``peer`` is speaks over it from now on, wherever it registered (contract SEC-5);
        its registration then, None where it has none. ``followed`` as in `apply`: it has been heard with that,
        and no uplink follows. Raises what the store raised."""
        device_id = self._registering.speaking.device_of(peer)
        known = None if device_id is None else await self._registry.load_of(device_id)
        if known is None or isinstance(known, KnownEndDevice):
            return None
        if not self._registering.speaking.may_speak(peer, known.record):
            # It is the device, but not with all the layers of security that it has to come with.
            return None
        registration = known.pending or known.registration
        if registration.peer == peer:
            return known
        changed = replace(registration, peer=peer, proven=True)
        known.pending = changed
        known.updating += 1

        def done(error: Exception | None) -> None:
            known.updating -= 1
            current = self._registry.at(changed.location)
            if current is None:
                return
            if current.pending is changed:
                current.pending = None
            if error is None:
                following = self.apply(changed, current, at, followed=followed)
                if followed:
                    # Nobody resumes a session and does not listen.
                    following.last_heard = at.now
                    self._listener.device_heard(following, at)

        await commit(self._store, (), (ChangeRegistration(changed, changed.deadline_ms(self._grace_s)),), done)
        return self._registry.of(changed.device_id)

    async def notified_from_elsewhere(self, known: Known, peer: PeerId, at: Instant) -> bool:
        """``known`` notifies from a peer that it is not registered at. True: it may, and is registered there now;
        False: that is somebody else. Raises `MovedWithoutUpdate`, and what the store raised."""
        client = known.household or known
        if not self._registering.speaking.may_speak(peer, client.record):
            text = f"a notification with a token that only {client.record.name!r} was given"
            self._registering.refuse_other("notify", peer, client.record, text, at)
            return False
        if not peer.is_proven:
            raise MovedWithoutUpdate(known.registration.endpoint_name, known.registration.peer, peer)
        return await self.take_over(peer, at) is not None
