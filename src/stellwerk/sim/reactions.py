"""What objects do when they are written, created or executed (Core 1.2.2 App. E; their definitions)."""

from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.value import ObjectLink, Value
from stellwerk.sim import catalogue, objects, test_object
from stellwerk.sim.firmware import Firmware, next_version
from stellwerk.sim.motion import Motion, clock, highest, lowest, running
from stellwerk.sim.release import Release
from stellwerk.sim.tree import Denied, Instance, ObjectTree

_LIFETIMES: Final = range(2**32)
"""What ``lt`` of an Update can say; the object's type, Integer, can hold more."""

_PACKAGES: Final = (objects.PACKAGE, objects.PACKAGE_URI)


# Resources of objects 7, 11 and 20.
_START: Final = 6
_ENABLED: Final = 3
_LOG_START: Final = 4011

_WLAN_BEARERS: Final = (21, 22)
"""Values of a preferred bearer that are WLAN."""


class Effect(Enum):
    """What a device does after it has answered."""

    UPDATE = auto()
    REBOOT = auto()
    FACTORY_RESET = auto()
    """Everything is as it was at first, and then as `REBOOT`."""
    DISABLE = auto()
    BOOTSTRAP = auto()
    """It asks its bootstrap server for its accounts, where it has one."""
    MOVE = auto()
    """It speaks over another bearer, so from another address, and tells it by an Update."""


@dataclass(slots=True)
class Reaction:
    """``changed``: resources with another value; ``send``: paths whose values are told by a Send. ``account``: the
    instance of object 1 whose server the effect concerns, None: all."""

    changed: tuple[Path, ...] = ()
    effect: Effect | None = None
    account: int | None = None
    send: tuple[Path, ...] = ()


class Reactions:
    """One device's objects, beyond holding values. Times are UTC seconds."""

    __slots__ = ("_collecting_since", "_firmware", "_random", "_release", "_tree")

    def __init__(self, tree: ObjectTree, release: Release, random: Random) -> None:
        self._tree = tree
        self._release = release
        self._random = random
        self._firmware: Firmware | None = None
        self._collecting_since: float | None = None

    def check(self, entries: tuple[Entry, ...]) -> None:
        """Raises `Denied` for values that fit their model and yet cannot be taken now."""
        for entry in entries:
            if _is_of_server(entry.path, objects.LIFETIME) and entry.value not in _LIFETIMES:
                raise Denied(codes.BAD_REQUEST, f"a lifetime of {entry.value!r} s cannot be told to a server")
            if entry.path in _PACKAGES and self._firmware is not None:
                self._firmware.require_writable()

    def written(self, changed: tuple[Path, ...], utc_s: float) -> Reaction:
        """``changed`` resources have been written, or have come with a new instance."""
        reaction = Reaction(changed)
        for path in changed:
            if _is_of_server(path, objects.LIFETIME):
                # Core 1.1.1 6.2.2: a changed lifetime is told by an Update.
                reaction.effect, reaction.account = Effect.UPDATE, path[1]
            elif path == objects.CURRENT_TIME:
                self._set_clock(utc_s)
            elif path in _PACKAGES:
                reaction.changed += self._take_package(path, utc_s)
            elif path[0] == objects.LIGHT and path[2] in (objects.IS_ON, objects.ON_TIME):
                reaction.changed += self._switch_light(path, utc_s)
            elif path[0] == catalogue.APN_PROFILE and path[2] == _ENABLED:
                reaction.changed += self._switch_profile(path)
            elif path == catalogue.BEARERS:
                reaction.changed += self._choose_bearer()
                reaction.effect = Effect.MOVE
        return reaction

    def executed(self, path: Path, arguments: str, utc_s: float) -> Reaction:
        """``path`` is executed. Raises `Denied`: 4.00 for arguments that are none, 4.05 where the state forbids it."""
        parsed = test_object.parse_arguments(arguments)
        if _is_of_server(path, objects.UPDATE_TRIGGER):
            return Reaction(effect=Effect.UPDATE, account=path[1])
        if _is_of_server(path, objects.BOOTSTRAP_TRIGGER):
            return Reaction(effect=Effect.BOOTSTRAP, account=path[1])
        if _is_of_server(path, objects.DISABLE):
            return Reaction(effect=Effect.DISABLE, account=path[1])
        if path == objects.REBOOT:
            return Reaction(effect=Effect.REBOOT)
        if path == objects.FACTORY_RESET:
            return Reaction(effect=Effect.FACTORY_RESET)
        if path == objects.RESET_ERROR_CODE:
            self._tree.put(objects.ERROR_CODE, {0: 0})
            return Reaction((objects.ERROR_CODE,))
        if path == objects.RESET_EXTREMES:
            return self._reset_extremes(utc_s)
        if path in (objects.FIRMWARE_UPDATE, objects.FIRMWARE_CANCEL):
            firmware = self._firmware or Firmware()
            (firmware.update if path == objects.FIRMWARE_UPDATE else firmware.cancel)(utc_s)
            return Reaction(self._show_firmware(firmware))
        if path[0] == self._release.test_object:
            return self._test(path, parsed)
        if path[0] == catalogue.STATISTICS:
            return self._collect(path, utc_s)
        if path[0] == catalogue.EVENT_LOG:
            return self._log(path)
        return Reaction()

    def forget(self) -> None:
        """Everything is as it was at first."""
        self._firmware = self._collecting_since = None

    def deadline(self) -> float | None:
        """When `advance` has something to do."""
        return None if self._firmware is None else self._firmware.deadline()

    def advance(self, utc_s: float) -> Reaction:
        """What takes time has come to its end."""
        firmware = self._firmware
        if firmware is None:
            return Reaction()
        before = firmware.state, firmware.result
        restarted = firmware.advance(utc_s)
        if (firmware.state, firmware.result) == before:
            return Reaction()
        changed = self._show_firmware(firmware)
        if not restarted:
            return Reaction(changed)
        version = self._tree.value(objects.FIRMWARE_VERSION, utc_s)
        assert isinstance(version, str)
        fresh = next_version(version)
        self._tree.put(objects.FIRMWARE_VERSION, fresh)
        self._tree.put_all(objects.FIRMWARE_UPDATE.parent, {6: "stellwerk-sim", 7: fresh})
        return Reaction(changed, Effect.REBOOT)

    # -- objects 3 and 3303 --

    def _set_clock(self, utc_s: float) -> None:
        written = self._tree.value(objects.CURRENT_TIME, utc_s)
        if isinstance(written, int | float):
            self._tree.put(objects.CURRENT_TIME, clock(written - utc_s))

    def _reset_extremes(self, utc_s: float) -> Reaction:
        sensor = objects.SENSOR_VALUE.parent
        warmth = self._tree.instance(sensor)[5700]
        if callable(warmth):
            self._tree.put_all(sensor, {5601: lowest(warmth, utc_s), 5602: highest(warmth, utc_s)})  # type: ignore[arg-type]
        else:
            self._tree.put_all(sensor, {5601: warmth, 5602: warmth})
        return Reaction((sensor.child(5601), sensor.child(5602)))

    # -- object 5 --

    def _take_package(self, path: Path, utc_s: float) -> tuple[Path, ...]:
        firmware = self._firmware = self._firmware or Firmware()
        value = self._tree.value(path, utc_s)
        if path == objects.PACKAGE:
            assert isinstance(value, bytes)
            firmware.take_package(value, utc_s)
            # It can be large, and nobody reads it back.
            self._tree.put(path, b"")
        else:
            firmware.take_uri(str(value), utc_s)
        return self._show_firmware(firmware)

    def _show_firmware(self, firmware: Firmware) -> tuple[Path, ...]:
        instance = objects.FIRMWARE_UPDATE.parent
        cells: Instance = {3: firmware.state.value, 5: firmware.result.value}
        if 12 in self._tree.instance(instance):
            cells[12] = int(firmware.changed_at)
        self._tree.put_all(instance, cells)
        return tuple(instance.child(each) for each in cells)

    # -- object 3311 --

    def _switch_light(self, path: Path, utc_s: float) -> tuple[Path, ...]:
        instance, on_time = path.parent, path.parent.child(objects.ON_TIME)
        already = self._tree.value(on_time, utc_s)
        already_s = already if isinstance(already, int) else 0
        is_on = self._tree.value(instance.child(objects.IS_ON), utc_s)
        self._tree.put(on_time, running(utc_s, already_s) if is_on else already_s)
        return (on_time,)

    # -- objects 7, 10 to 13, and 20 --

    def _collect(self, path: Path, utc_s: float) -> Reaction:
        instance, since = path.parent, self._collecting_since
        if path[2] == _START:
            # The definition of object 7: Start sets all counters to zero.
            self._collecting_since = utc_s
            counted: Instance = {2: _counter(utc_s, 8.0), 3: _counter(utc_s, 32.0), 4: 512, 5: 96}
            self._tree.put_all(instance, {0: 0, 1: 0, **counted})
        elif since is not None:
            self._collecting_since = None
            held = {each: self._tree.value(instance.child(each), utc_s) for each in (2, 3)}
            self._tree.put_all(instance, {each: value for each, value in held.items() if value is not None})
        return Reaction(tuple(instance.child(each) for each in range(6)))

    def _log(self, path: Path) -> Reaction:
        instance, starts = path.parent, path[2] == _LOG_START
        # The definition of object 20: bit 0 of the status says that data is there, bit 1 that logging is on.
        self._tree.put_all(instance, {4013: 3 if starts else 1, 4014: b"started" if starts else b"started, stopped"})
        return Reaction((instance.child(4013), instance.child(4014)))

    def _switch_profile(self, path: Path) -> tuple[Path, ...]:
        links: dict[int, Value] = {}
        for number, cells in sorted(self._tree.instances(catalogue.APN_PROFILE).items()):
            if cells.get(_ENABLED) is True:
                links[len(links)] = ObjectLink(path[0], number)
        if not self._tree.instances(catalogue.CELLULAR):
            return ()
        self._tree.put(catalogue.ACTIVE_PROFILES, links)
        return (catalogue.ACTIVE_PROFILES,)

    def _choose_bearer(self) -> tuple[Path, ...]:
        preferred = self._tree.instance(catalogue.BEARERS.parent).get(0)
        is_wlan = isinstance(preferred, dict) and preferred.get(min(preferred, default=0)) in _WLAN_BEARERS
        if not self._tree.instances(catalogue.WLAN):
            return ()
        wlan = Path(catalogue.WLAN, 0)
        self._tree.put_all(wlan, {1: is_wlan, 3: int(is_wlan)})
        return (wlan.child(1), wlan.child(3))

    # -- the test object --

    def _test(self, path: Path, arguments: dict[int, Value]) -> Reaction:
        object_id, instance, resource_id = path[0], path.parent, path[2]
        if resource_id == test_object.SEND:
            return Reaction(send=self._paths_to_send(instance.child(test_object.PATHS_TO_SEND)))
        if resource_id == test_object.RESET:
            cells = test_object.initial_values(object_id)
        elif resource_id == test_object.RANDOMIZE:
            cells = test_object.random_values(object_id, self._random)
        elif resource_id == test_object.CLEAR:
            cells = test_object.cleared_values(object_id)
        else:
            cells = {test_object.ARGUMENTS: arguments}
        self._tree.put_all(instance, cells)
        return Reaction(tuple(instance.child(each) for each in cells))

    def _paths_to_send(self, listed: Path) -> tuple[Path, ...]:
        paths = []
        for entry in self._tree.read(listed, 0.0)[0]:
            try:
                path = Path.parse(str(entry.value))
            except PathError as error:
                raise Denied(codes.BAD_REQUEST, f"{entry.path}: {error}") from None
            self._tree.read(path, 0.0)
            paths.append(path)
        return tuple(paths)


def _is_of_server(path: Path, resource_id: int) -> bool:
    return path[0] == objects.SERVER and path[2] == resource_id


def _counter(since_s: float, per_s: float) -> Motion:
    """Whole kilobytes since a time."""
    return lambda utc_s: max(0, int((utc_s - since_s) / per_s))
