"""What a simulated device consists of: objects 0, 1, 3, 6 and 3303, declared compactly."""

from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Final

from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import DeviceTypes, Library
from stellwerk.sim.motion import Motion, clock, drain, highest, lowest, wander
from stellwerk.sim.tree import EXECUTABLE, SECURITY, Cell, ObjectTree

SERVER: Final = 1
DEVICE: Final = 3
LOCATION: Final = 6
TEMPERATURE: Final = 3303

LIFETIME: Final = Path(SERVER, 0, 1)
DEFAULT_PMIN: Final = Path(SERVER, 0, 2)
DEFAULT_PMAX: Final = Path(SERVER, 0, 3)
CLOCKS: Final = frozenset({Path(DEVICE, 0, 13), Path(LOCATION, 0, 5)})
"""Resources whose ticking is no change worth a notification."""

DISABLE: Final = Path(SERVER, 0, 4)
DISABLE_TIMEOUT: Final = Path(SERVER, 0, 5)
UPDATE_TRIGGER: Final = Path(SERVER, 0, 8)
MUTE_SEND: Final = Path(SERVER, 0, 23)
REBOOT: Final = Path(DEVICE, 0, 4)
FACTORY_RESET: Final = Path(DEVICE, 0, 5)
ERROR_CODE: Final = Path(DEVICE, 0, 11)
RESET_ERROR_CODE: Final = Path(DEVICE, 0, 12)
CURRENT_TIME: Final = Path(DEVICE, 0, 13)
SENSOR_VALUE: Final = Path(TEMPERATURE, 0, 5700)
RESET_EXTREMES: Final = Path(TEMPERATURE, 0, 5605)

RELEASE: Final = "1.1"
VERSIONS: Final[Mapping[int, str | None]] = {
    SECURITY: None,
    SERVER: None,
    DEVICE: None,
    LOCATION: None,
    TEMPERATURE: "1.1",
}
"""The versions a simulated device registers; None leaves it to the table of release 1.1."""

# The moment at which the values of a device that does not move stand still: 2026-01-01.
_STILL_S: Final = 1_767_225_600.0


@cache
def device_types() -> DeviceTypes:
    """The models that all simulated devices share."""
    return Library.builtin().for_device(RELEASE, VERSIONS)


def build_tree(
    *, serial: str, seed: int, server_uri: str, lifetime_s: int, binding: str, moving: bool = True
) -> ObjectTree:
    """The objects of one device. ``moving`` False holds every value but the clock still. ``seed`` varies the values."""
    random = Random(seed)
    around = random.uniform(16.0, 24.0)
    warmth = wander(seed, around=around, by=4.0)
    charge = drain(seed, hours=random.uniform(20, 60))
    latitude, longitude = random.uniform(47.4, 54.6), random.uniform(7.0, 14.0)

    def held(motion: Motion) -> Cell:
        return motion if moving else motion(_STILL_S)

    return ObjectTree(
        device_types(),
        {
            SECURITY: {0: {0: server_uri, 1: False, 2: 3, 3: b"", 4: b"", 5: b"", 10: 1}},
            SERVER: {
                0: {
                    0: 1,
                    1: lifetime_s,
                    2: 0,
                    3: 0,
                    4: EXECUTABLE,
                    5: 86400,
                    6: True,
                    7: binding,
                    8: EXECUTABLE,
                    # Core 1.2.2 E.2: a device that is not told otherwise stays mute; ours are told from the start.
                    23: False,
                }
            },
            DEVICE: {
                0: {
                    0: "Stellwerk",
                    1: "Simulated Sensor",
                    2: serial,
                    3: "1.0.0",
                    4: EXECUTABLE,
                    5: EXECUTABLE,
                    6: {0: 1, 1: 5},
                    7: {0: 3800, 1: 5000},
                    8: {0: 125, 1: 900},
                    9: held(charge),
                    10: 112,
                    11: {0: 0},
                    12: EXECUTABLE,
                    13: clock(),
                    14: "+01:00",
                    15: "Europe/Berlin",
                    16: binding,
                    17: "sensor",
                    18: "A",
                    19: "1.0.0",
                    20: 0,
                    21: 256,
                }
            },
            LOCATION: {
                0: {
                    0: held(wander(seed + 1, around=latitude, by=0.01, digits=5)),
                    1: held(wander(seed + 2, around=longitude, by=0.01, digits=5)),
                    2: held(wander(seed + 3, around=120.0, by=5.0, digits=1)),
                    5: held(clock()),
                }
            },
            TEMPERATURE: {
                0: {
                    5700: held(warmth),
                    5701: "Cel",
                    5601: held(lowest(warmth)),
                    5602: held(highest(warmth)),
                    5603: -40.0,
                    5604: 85.0,
                    5605: EXECUTABLE,
                    5750: "",
                }
            },
        },
    )
