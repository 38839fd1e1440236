"""What a simulated device tells one server about what that observes (RFC 7641; contract §7)."""

from collections.abc import Callable
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.actions import Action, SendNotification
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.access import Access
from stellwerk.sim.body import Body
from stellwerk.sim.happenings import Notified
from stellwerk.sim.places import Places
from stellwerk.sim.reporting import Observation
from stellwerk.sim.tree import Denied

TIMED: Final = frozenset({ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR})
"""Formats that say when a value was measured."""
_CONFIRM_AFTER_S: Final = 86_400.0


class Notifying:
    """Of the ``server`` whose instance of object 1 is ``number``, and which reaches ``places``. ``emit`` takes what is
    to be sent."""

    __slots__ = ("_body", "_emit", "_number", "_places", "server")

    def __init__(self, body: Body, places: Places, server: PeerId, number: int, emit: Callable[[Action], None]) -> None:
        self._body = body
        self._places = places
        self.server = server
        self._number = number
        self._emit = emit

    def report(self, now: float) -> None:
        """Look at what is observed, and tell what is due."""
        for access in self._places.all():
            for each in access.reporting.watched() if access.reporting else ():
                if access.reporting.due_at(each) <= now:
                    self._report_one(access, each, now)

    def tell_kept(self, now: float) -> None:
        """Look soon at what is observed, and tell what was kept of it meanwhile."""
        for access in self._places.all():
            access.reporting.touch()
            for each in access.reporting.watched():
                if each.history:
                    self._tell_history(access, each, now)

    def _report_one(self, access: Access, each: Observation, now: float) -> None:
        utc_s = self._body.utc_s(now)
        try:
            content, content_format, payload = _read(access, each, utc_s)
        except Denied as denied:
            access.reporting.cancel(each.token)
            self._emit(SendNotification(each.handle, self.server, each.token, denied.code))
            self._body.stay_awake(now)
            return
        if not access.reporting.is_due(each, content, now):
            return
        if each.attributes.hqmax and not self._body.is_awake(now) and self._stores(now):
            access.reporting.keep(each, content, now, utc_s, each.attributes.hqmax)
            return
        self._notify(access, each, content, content_format, payload, now)

    def _tell_history(self, access: Access, each: Observation, now: float) -> None:
        """What was kept, oldest first, and what is now; a format without times says what is now alone."""
        kept, each.history = each.history, ()
        utc_s = self._body.utc_s(now)
        try:
            content, content_format, payload = _read(access, each, utc_s)
            if content_format in TIMED:
                latest = (entry._replace(time_s=round(utc_s, 3)) for entry in content.entries)
                told = Content((*(entry for _, entries in kept for entry in entries), *latest))
                payload = access.encode(content_format, told, each.path)
        except Denied:
            return
        self._notify(access, each, content, content_format, payload, now)

    def _notify(
        self, access: Access, each: Observation, content: Content, content_format: int, payload: bytes, now: float
    ) -> None:
        sequence = access.reporting.told(each, content, now)
        con = each.attributes.con
        # RFC 7641 4.5: at least once a day a notification asks whether the observer is still there.
        confirmable = now - each.confirmed_at >= _CONFIRM_AFTER_S or (
            each.notified % self._body.options.confirm_every == 0 if con is None else con == 1
        )
        if confirmable:
            each.confirmed_at = now
        if self._body.faults is not None:
            payload = self._body.faults.spoil(payload, each.path)
        self._emit(
            SendNotification(
                each.handle, self.server, each.token, codes.CONTENT, sequence, content_format, payload, confirmable
            )
        )
        self._body.stay_awake(now)
        self._body.tell(Notified(self._body.options.endpoint_name, str(each.path)))

    def _stores(self, now: float) -> bool:
        value = self._body.tree.value(Path(objects.SERVER, self._number, objects.STORING), self._body.utc_s(now))
        return value is True


def _read(access: Access, each: Observation, utc_s: float) -> tuple[Content, ContentFormat, bytes]:
    """What is observed, as it is told. Raises `Denied`."""
    if each.composite:
        return access.read_several(each.paths, each.accept, utc_s)
    return access.read(each.path, each.accept, utc_s)
