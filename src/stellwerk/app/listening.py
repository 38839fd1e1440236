"""Who is told when a device registers, is heard or is lost: observations, commands, and the reads of what it is."""

from collections.abc import Collection

import structlog

from stellwerk.app.device_ports import DeviceAnswer
from stellwerk.app.handlers.commands import Commands
from stellwerk.app.handlers.connections import Connections
from stellwerk.app.handlers.delivery import Delivery
from stellwerk.app.handlers.gateways import Gateways
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.prolonging import Prolonging
from stellwerk.app.handlers.reading import Reading
from stellwerk.app.handlers.turns import Turns
from stellwerk.app.registry import Known, KnownGateway
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.link_format import ObjectList

log = structlog.get_logger(__name__)


class Listening:
    """Implements `listener.Listener`; `connect` closes the circle."""

    def __init__(self, tasks: Tasks, prolonging: Prolonging | None = None) -> None:
        self._tasks = tasks
        self._prolonging = prolonging
        self._commands: Commands
        self._delivery: Delivery
        self._observations: Observations
        self._owed: Collection[DeviceId]
        self._reading: Reading
        self._connections: Connections
        self._gateways: Gateways | None = None
        self._turns: Turns

    def connect(
        self,
        commands: Commands,
        observations: Observations,
        reading: Reading,
        turns: Turns,
        connections: Connections,
        gateways: Gateways | None = None,
    ) -> None:
        """``gateways``: None treats them as devices like all others."""
        self._commands = commands
        self._delivery = commands.delivery
        self._observations = observations
        self._owed = observations.owed
        self._reading = reading
        self._turns = turns
        self._connections = connections
        self._gateways = gateways
        turns.on_answer = self.finished
        observations.on_heard = self.device_heard
        if gateways is not None:
            observations.on_gateway = gateways.notified

    def device_registered(self, known: Known, at: Instant) -> None:
        if self._gateways is not None:
            self._gateways.device_registered(known, at)
        name = f"observe {known.registration.endpoint_name}"
        if not self._tasks.start(name, self._observations.restore(known)):
            log.warning("observations.not_restored", endpoint_name=known.registration.endpoint_name)
            self._observations.owe(known)
        self._commands.device_registered(known, at)
        self._turns.registered(known)
        self._commands.device_heard(known)
        self._reading.device_registered(known, at)
        self._connections.settled(known, at)

    def connection_changed(self, known: Known, at: Instant) -> None:
        self._observations.owe(known)
        if isinstance(known, KnownGateway) and self._gateways is not None:
            self._gateways.connection_changed(known)
        self._connections.settled(known, at)

    def objects_changed(self, before: ObjectList, known: Known, at: Instant) -> None:
        if self._gateways is not None:
            self._gateways.objects_changed(before, known, at)

    def device_heard(self, known: Known, at: Instant) -> None:
        if self._prolonging is not None:
            self._prolonging.device_heard(known)
        if type(known) is Known:
            # Hot: nearly every device stands for itself, and nothing waits for it.
            if known.registration.device_id in self._owed or self._turns.busy(known):
                self._heard(known)
            else:
                self._delivery.device_heard(known)
            return
        self._heard(known)
        if (house := known.household) is not None and self._gateways is not None:
            for each in self._gateways.heard(house, known, at):
                self._heard(each)

    def _heard(self, known: Known) -> None:
        device_id = known.registration.device_id
        owed = device_id in self._owed
        if owed or self._turns.busy(known):
            self._turns.heard(known)
        if owed:
            self._tasks.spawn(f"observe {known.registration.endpoint_name}", self._observations.resume(known))
        self._delivery.device_heard(known)

    def device_lost(self, device_id: DeviceId, at: Instant) -> None:
        if self._prolonging is not None:
            self._prolonging.device_lost(device_id)
        self._commands.device_lost(device_id, at)
        self._turns.device_lost(device_id)
        self._observations.forget_device(device_id)
        if self._gateways is not None:
            self._gateways.device_lost(device_id, at)

    def finished(self, answer: DeviceAnswer, at: Instant) -> None:
        """What came of an operation: a command's, or an Observe or a Read of ours."""
        self._turns.answered(answer, at)
        takers = [self._commands.finished, self._observations.finished, self._reading.finished]
        if self._gateways is not None:
            takers.append(self._gateways.finished)
        if not any(take(answer, at) for take in takers):
            log.debug("answer.unclaimed", handle=answer.handle)
        self._turns.done(answer.handle)

    def reacted(self, handle: int, at: Instant, *, delivered: bool, heard: bool = True) -> None:
        """The device took a request of ours, or a part of it; the answer is still to come. Not ``heard``: it said
        nothing, and is asked otherwise."""
        self._turns.reacted(handle, at, delivered=delivered, heard=heard)
        self._commands.delivery.reacted(handle, delivered=delivered)
