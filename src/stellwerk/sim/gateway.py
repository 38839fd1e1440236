"""End devices behind a simulated gateway: object 25, each device's own tree under its prefix (contract §10, §12)."""

from collections.abc import Mapping
from random import Random
from typing import Final

from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink
from stellwerk.sim import objects
from stellwerk.sim.motion import highest, lowest, wander
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.reactions import Reactions
from stellwerk.sim.release import Release
from stellwerk.sim.tree import EXECUTABLE, Instance, ObjectTree

GATEWAY: Final = 25
ROUTING: Final = 26
HUMIDITY: Final = 3304

PREFIX: Final = 1
"""The resource of object 25 that names an end device in paths; writable in version 1.0."""

VERSIONS: Final = ("1.0", "2.0")
"""Of object 25."""

_VALUE: Final = 5700


class EndDevice:
    """One of them. ``number`` is its instance of object 25; ``prefix`` stands before its paths; ``name`` is its own."""

    __slots__ = ("name", "number", "prefix", "reactions", "tree")

    def __init__(self, number: int, options: DeviceOptions, release: Release) -> None:
        self.number = number
        self.prefix = f"d{number + 1:02d}"
        self.name = f"urn:dev:os:{options.endpoint_name}-{self.prefix}"
        random = Random(options.seed * 1_009 + number + 1)
        warmth = wander(random.getrandbits(32), around=random.uniform(16, 24), by=4.0)
        damp = wander(random.getrandbits(32), around=random.uniform(35, 60), by=10.0)
        self.tree = ObjectTree(
            release.types,
            {
                objects.TEMPERATURE: {
                    0: {
                        _VALUE: warmth,
                        5701: "Cel",
                        5601: lowest(warmth),
                        5602: highest(warmth),
                        5603: -40.0,
                        5604: 85.0,
                        5605: EXECUTABLE,
                    }
                },
                HUMIDITY: {0: {_VALUE: damp, 5701: "%RH", 5601: lowest(damp), 5602: highest(damp)}},
                objects.LIGHT: {0: {objects.IS_ON: False, objects.ON_TIME: 0, 5851: 100}},
            },
        )
        self.reactions = Reactions(self.tree, release, random)

    @property
    def links(self) -> str:
        """Its objects as a Corelnk value."""
        return ",".join(f"<{path}/0>" for path in self.tree.below(Path()))


class Gateway:
    """The end devices of one gateway, and what its own tree says of them. Times are monotonic seconds."""

    __slots__ = ("_away", "_due", "_every_s", "_tree", "_turn", "_version", "present")

    def __init__(self, options: DeviceOptions, release: Release, tree: ObjectTree) -> None:
        self._tree = tree
        self._version = options.gateway_version
        self._every_s = options.end_devices_leave_every_s
        self._away: EndDevice | None = None
        self._turn = 0
        self._due: float | None = None
        self.present: dict[str, EndDevice] = {}
        """Those that are there, by prefix."""
        for number in range(options.end_devices):
            self._join(EndDevice(number, options, release))

    def start(self, now: float) -> None:
        """From now on they come and go."""
        if self._every_s is not None and self.present:
            self._due = now + self._every_s

    def stop(self) -> None:
        """They stay as they are."""
        self._due = None

    def deadline(self) -> float | None:
        """When `take_due` has something."""
        return self._due

    def take_due(self, now: float) -> bool:
        """Let one go, and the one that went before come back, if it is time. Whether anything changed."""
        if self._due is None or self._due > now or self._every_s is None:
            return False
        self._due = now + self._every_s
        goes = sorted(self.present.values(), key=lambda each: each.number)[self._turn % max(1, len(self.present))]
        self._turn += 1
        comes, self._away = self._away, goes
        self._leave(goes)
        if comes is not None:
            self._join(comes)
        return True

    def follow(self) -> None:
        """A server wrote prefixes: devices are where their instances of object 25 say, where these are good and each
        another; else the instance says what it was."""
        for each in list(self.present.values()):
            wanted = self._tree.instance(Path(GATEWAY, each.number)).get(PREFIX)
            if wanted == each.prefix:
                continue
            if isinstance(wanted, str) and _is_prefix(wanted) and wanted not in self.present:
                del self.present[each.prefix]
                each.prefix = wanted
                self.present[wanted] = each
            else:
                self._tree.put(Path(GATEWAY, each.number, PREFIX), each.prefix)

    def _join(self, device: EndDevice) -> None:
        self.present[device.prefix] = device
        told: Instance = {0: device.name, PREFIX: device.prefix}
        if self._version == "1.0":
            self._tree.add(Path(GATEWAY, device.number), {**told, 2: ObjectLink(ROUTING, device.number)})
            self._tree.add(Path(ROUTING, device.number), {0: objects.TEMPERATURE, 1: device.links})
        else:
            self._tree.add(Path(GATEWAY, device.number), {**told, 3: device.links})

    def _leave(self, device: EndDevice) -> None:
        del self.present[device.prefix]
        self._tree.delete(Path(GATEWAY, device.number))
        if self._version == "1.0":
            self._tree.delete(Path(ROUTING, device.number))


def versions_of(options: DeviceOptions) -> Mapping[int, str | None]:
    """The version of object 25 as it is registered; 1.0 is implied."""
    return {GATEWAY: None if options.gateway_version == "1.0" else options.gateway_version}


def _is_prefix(text: str) -> bool:
    # All-numeric segments are objects (contract R-11).
    return 0 < len(text) <= 23 and text.isascii() and text.isalnum() and not text.isdigit()
