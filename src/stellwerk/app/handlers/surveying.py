"""What a gateway says of the devices behind it: the Gateway object that lists them, the routes it refers to, and where
neither tells which objects a device has (version 1.0), the answer to a Discover below its prefix (LwM2M Gateway 1.1;
contract §12)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from stellwerk.app.device_ports import DeviceAnswer, DeviceLink
from stellwerk.app.registry import Known, Registry
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.gateway import (
    GATEWAY,
    ROUTING,
    EndDevices,
    decode_device_objects,
    read_end_devices,
    read_routes,
)
from stellwerk.lwm2m.link_format import ObjectList
from stellwerk.lwm2m.operations import Discover
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import is_success

FIRST_HANDLE: Final = 1 << 50
"""Handles of Discovers of end devices start here."""

_ROOT: Final = Path()

Listed = Callable[[Known, EndDevices], None]
"""Told of a gateway with all that it lists."""


class _Survey:
    """The end devices of a gateway whose objects it does not say, each asked in turn (version 1.0)."""

    __slots__ = ("devices", "flaws", "left", "location", "routes")

    def __init__(self, location: str, listed: EndDevices, routes: dict[int, ObjectList], most: int) -> None:
        self.location = location
        self.devices = list(listed.devices)
        self.flaws = list(listed.flaws)
        self.routes = routes
        unknown = [place for place, each in enumerate(self.devices) if each.objects is None and not each.trouble]
        self.left = unknown[:most][::-1]


class Surveying:
    """``most``: how many end devices of one gateway are asked for their objects, one after the other. ``listed``: hears
    of each survey once it is whole."""

    def __init__(self, *, registry: Registry, link: DeviceLink, most: int, listed: Listed) -> None:
        self._registry = registry
        self._link = link
        self._most = most
        self._listed = listed
        self._next_handle = FIRST_HANDLE
        self._surveys: dict[DeviceId, _Survey] = {}
        self._out: dict[int, tuple[DeviceId, int]] = {}
        """Discovers that are out: gateway, and place in its survey."""
        self._routes: dict[DeviceId, dict[int, ObjectList]] = {}
        """Of gateways whose routes were read and whose end devices were not yet."""

    def forget(self, gateway_id: DeviceId) -> None:
        """It is not registered, or no gateway, any more."""
        self._surveys.pop(gateway_id, None)
        self._routes.pop(gateway_id, None)

    def take_read(self, known: Known, object_id: int, content: Content, at: Instant) -> None:
        """A gateway answered to a Read of ours, of whatever object."""
        if known.household is not known:
            return
        registration = known.registration
        if object_id == ROUTING:
            self._routes[registration.device_id] = read_routes(content)
            return
        if object_id != GATEWAY:
            return
        listed = read_end_devices(content, registration.objects.root)
        routes = self._routes.pop(registration.device_id, {})
        survey = self._surveys[registration.device_id] = _Survey(registration.location, listed, routes, self._most)
        self._go_on(known, survey)

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a Discover; False when ``answer.handle`` is not one of ours."""
        out = self._out.pop(answer.handle, None)
        if out is None:
            return False
        gateway_id, place = out
        known = self._registry.of(gateway_id)
        survey = self._surveys.get(gateway_id)
        if known is None or survey is None or survey.location != known.registration.location:
            return True
        if answer.failure:
            # It does not answer; what is known of the others stays as it is until it is read again.
            survey.left.clear()
            survey.flaws.append(f"its end devices could not be asked for their objects: {answer.failure}")
        else:
            known.heard(at.now, self._link)
            self._take(survey, place, known, answer)
        self._go_on(known, survey)
        return True

    def _go_on(self, known: Known, survey: _Survey) -> None:
        registration = known.registration
        if not survey.left:
            self._surveys.pop(registration.device_id, None)
            self._listed(known, EndDevices(tuple(survey.devices), tuple(survey.flaws)))
            return
        place = survey.left.pop()
        objects = registration.objects
        behind = replace(registration, objects=replace(objects, root=f"{objects.root}/{survey.devices[place].prefix}"))
        self._next_handle += 1
        self._out[self._next_handle] = (registration.device_id, place)
        self._link.send(self._next_handle, behind, Discover(_ROOT))

    def _take(self, survey: _Survey, place: int, known: Known, answer: DeviceAnswer) -> None:
        device = survey.devices[place]
        objects: ObjectList | None = None
        if is_success(answer.status):
            try:
                text = answer.payload.decode("utf-8", "replace")
                objects = decode_device_objects(text, device.prefix, known.registration.objects.root)
            except PeerError as error:
                survey.flaws.append(f"/{GATEWAY}/{device.instance}: the answer to a Discover does not decode: {error}")
        elif device.route is not None:
            objects = survey.routes.get(device.route)
        survey.devices[place] = replace(device, objects=objects)
