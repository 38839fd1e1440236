"""What objects do when they are written, created or executed (Core 1.2.2 App. E; their definitions)."""

from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.value import Value
from stellwerk.sim import objects, test_object
from stellwerk.sim.firmware import Firmware, next_version
from stellwerk.sim.motion import clock, highest, lowest, running
from stellwerk.sim.release import Release
from stellwerk.sim.tree import Denied, Instance, ObjectTree

_LIFETIMES: Final = range(2**32)
"""What ``lt`` of an Update can say; the object's type, Integer, can hold more."""

_PACKAGES: Final = (objects.PACKAGE, objects.PACKAGE_URI)


class Effect(Enum):
    """What a device does after it has answered."""

    UPDATE = auto()
    REBOOT = auto()
    DISABLE = auto()


@dataclass(slots=True)
class Reaction:
    """``changed``: resources with another value; ``send``: paths whose values are told by a Send."""

    changed: tuple[Path, ...] = ()
    effect: Effect | None = None
    send: tuple[Path, ...] = ()


class Reactions:
    """One device's objects, beyond holding values. Times are UTC seconds."""

    __slots__ = ("_firmware", "_random", "_release", "_tree")

    def __init__(self, tree: ObjectTree, release: Release, random: Random) -> None:
        self._tree = tree
        self._release = release
        self._random = random
        self._firmware: Firmware | None = None

    def check(self, entries: tuple[Entry, ...]) -> None:
        """Raises `Denied` for values that fit their model and yet cannot be taken now."""
        for entry in entries:
            if entry.path == objects.LIFETIME and isinstance(entry.value, int) and entry.value not in _LIFETIMES:
                raise Denied(codes.BAD_REQUEST, f"a lifetime of {entry.value} s cannot be told to a server")
            if entry.path in _PACKAGES and self._firmware is not None:
                self._firmware.require_writable()

    def written(self, changed: tuple[Path, ...], utc_s: float) -> Reaction:
        """``changed`` resources have been written, or have come with a new instance."""
        reaction = Reaction(changed)
        for path in changed:
            if path == objects.LIFETIME:
                # Core 1.1.1 6.2.2: a changed lifetime is told by an Update.
                reaction.effect = Effect.UPDATE
            elif path == objects.CURRENT_TIME:
                self._set_clock(utc_s)
            elif path in _PACKAGES:
                reaction.changed += self._take_package(path, utc_s)
            elif path[0] == objects.LIGHT and path[2] in (objects.IS_ON, objects.ON_TIME):
                reaction.changed += self._switch_light(path, utc_s)
        return reaction

    def executed(self, path: Path, arguments: str, utc_s: float) -> Reaction:
        """``path`` is executed. Raises `Denied`: 4.00 for arguments that are none, 4.05 where the state forbids it."""
        parsed = test_object.parse_arguments(arguments)
        if path == objects.UPDATE_TRIGGER:
            return Reaction(effect=Effect.UPDATE)
        if path == objects.DISABLE:
            return Reaction(effect=Effect.DISABLE)
        if path in (objects.REBOOT, objects.FACTORY_RESET):
            return Reaction(effect=Effect.REBOOT)
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
        return Reaction()

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
