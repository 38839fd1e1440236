"""What a simulated device consists of: objects 0, 1, 3, 4, 5, 6, 3303, 3311 and the test object of its release.
`catalogue` has what it may consist of besides."""

from random import Random
from typing import Final

from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import DeviceTypes
from stellwerk.lwm2m.value import Value
from stellwerk.sim import test_object
from stellwerk.sim.firmware import PROTOCOLS
from stellwerk.sim.motion import Motion, clock, drain, highest, lowest, wander, whole
from stellwerk.sim.release import RELEASES, Release
from stellwerk.sim.tree import EXECUTABLE, SECURITY, Cell, Instance, ObjectTree

SERVER: Final = 1
DEVICE: Final = 3
CONNECTIVITY: Final = 4
FIRMWARE: Final = 5
LOCATION: Final = 6
TEMPERATURE: Final = 3303
LIGHT: Final = 3311

DEFAULT: Final = frozenset({SECURITY, SERVER, DEVICE, CONNECTIVITY, FIRMWARE, LOCATION, TEMPERATURE, LIGHT})
"""The objects that a device has unless it is told otherwise, besides the test object."""

SHORT_SERVER_ID: Final = 0
LIFETIME: Final = 1
DEFAULT_PMIN: Final = 2
DEFAULT_PMAX: Final = 3
DISABLE: Final = 4
DISABLE_TIMEOUT: Final = 5
STORING: Final = 6
BINDING: Final = 7
UPDATE_TRIGGER: Final = 8
BOOTSTRAP_TRIGGER: Final = 9
MUTE_SEND: Final = 23
"""Resources of object 1, which has an instance for each server account."""

CLOCKS: Final = frozenset({Path(DEVICE, 0, 13), Path(LOCATION, 0, 5)})
"""Resources whose ticking is no change worth a notification."""

FIRMWARE_VERSION: Final = Path(DEVICE, 0, 3)
REBOOT: Final = Path(DEVICE, 0, 4)
FACTORY_RESET: Final = Path(DEVICE, 0, 5)
ERROR_CODE: Final = Path(DEVICE, 0, 11)
RESET_ERROR_CODE: Final = Path(DEVICE, 0, 12)
CURRENT_TIME: Final = Path(DEVICE, 0, 13)
IP_ADDRESSES: Final = Path(CONNECTIVITY, 0, 4)
PACKAGE: Final = Path(FIRMWARE, 0, 0)
PACKAGE_URI: Final = Path(FIRMWARE, 0, 1)
FIRMWARE_UPDATE: Final = Path(FIRMWARE, 0, 2)
FIRMWARE_CANCEL: Final = Path(FIRMWARE, 0, 10)
SENSOR_VALUE: Final = Path(TEMPERATURE, 0, 5700)
RESET_EXTREMES: Final = Path(TEMPERATURE, 0, 5605)

IS_ON: Final = 5850
ON_TIME: Final = 5852

# The moment at which the values of a device that does not move stand still: 2026-01-01.
_STILL_S: Final = 1_767_225_600.0

_NARROWBAND: Final = 7

# What is the same in all devices until somebody writes to it: resource instances, and whole instances.
_POWER_SOURCES: Final[dict[int, Value]] = {0: 1, 1: 5}
_VOLTAGES: Final[dict[int, Value]] = {0: 3800, 1: 5000}
_CURRENTS: Final[dict[int, Value]] = {0: 125, 1: 900}
_NO_ERROR: Final[dict[int, Value]] = {0: 0}
_BEARERS: Final[dict[int, Value]] = {0: _NARROWBAND}
_ROUTERS: Final[dict[int, Value]] = {0: "192.0.2.1"}
_ACCESS_POINTS: Final[dict[int, Value]] = {0: "iot.example"}
_FIRMWARE: Final[Instance] = {
    0: b"",
    1: "",
    2: EXECUTABLE,
    3: 0,
    5: 0,
    6: "",
    7: "",
    8: dict(enumerate(PROTOCOLS.values())),
    9: 2,
    10: EXECUTABLE,
    11: 1,
    12: 0,
    13: 0,
}
# Object version 1.0, which releases before 1.2 imply.
_FIRMWARE_1_0: Final[Instance] = {each: cell for each, cell in _FIRMWARE.items() if each < 10}
_LIGHT: Final[Instance] = {
    IS_ON: False,
    5851: 100,
    ON_TIME: 0,
    5805: 0.0,
    5820: 0.95,
    5706: "#ffd8a8",
    5701: "hex",
    5750: "",
}
_TESTS: Final = {each.test_object: test_object.initial_instance(each.test_object) for each in RELEASES.values()}


def device_types(release: str = "1.1") -> DeviceTypes:
    """The models that all simulated devices of a release share."""
    return RELEASES[release].types


def template_of(object_id: int) -> Instance | None:
    """What a new instance of an object has before a server gives values; None where a server creates none."""
    return _LIGHT if object_id == LIGHT else _TESTS.get(object_id)


def known(types: DeviceTypes, object_id: int, cells: Instance) -> Instance:
    """Those of ``cells`` that the object has: the same object has fewer resources in an earlier release."""
    model = types.object(object_id)
    assert model is not None
    return {each: cell for each, cell in cells.items() if each in model.resources}


def build_tree(
    *,
    serial: str,
    seed: int,
    server_uri: str,
    lifetime_s: int,
    binding: str,
    moving: bool = True,
    release: Release = RELEASES["1.1"],
    address: str = "192.0.2.2",
) -> ObjectTree:
    """The default objects of one device, see `build_objects`."""
    return ObjectTree(
        release.types,
        build_objects(
            serial=serial,
            seed=seed,
            server_uris=(server_uri,),
            lifetime_s=lifetime_s,
            binding=binding,
            moving=moving,
            muted=False,
            release=release,
            address=address,
        ),
    )


def build_objects(
    *,
    serial: str,
    seed: int,
    server_uris: tuple[str, ...],
    lifetime_s: int,
    binding: str,
    moving: bool,
    muted: bool,
    release: Release,
    address: str,
) -> dict[int, dict[int, Instance]]:
    """The default objects of one device at the IP ``address``, with an account for each of ``server_uris``. ``moving``
    False holds every value but the clock still. ``seed`` varies the values."""
    random = Random(seed)
    around = random.uniform(16.0, 24.0)
    warmth = wander(seed, around=around, by=4.0)
    charge = drain(seed, hours=random.uniform(20, 60))
    latitude, longitude = random.uniform(47.4, 54.6), random.uniform(7.0, 14.0)
    strength = wander(seed + 4, around=random.uniform(-105.0, -80.0), by=8.0)
    types = release.types

    def held(motion: Motion) -> Cell:
        return motion if moving else motion(_STILL_S)

    return {
        SECURITY: {
            each: {0: uri, 1: False, 2: 3, 3: b"", 4: b"", 5: b"", 10: each + 1} for each, uri in enumerate(server_uris)
        },
        SERVER: {
            each: known(
                types,
                SERVER,
                {
                    0: each + 1,
                    1: lifetime_s,
                    2: 0,
                    3: 0,
                    4: EXECUTABLE,
                    5: 86400,
                    6: True,
                    7: binding,
                    8: EXECUTABLE,
                    # Core 1.2.2 E.2: a device that is not told otherwise stays mute; ours are told from the start.
                    23: muted,
                },
            )
            for each in range(len(server_uris))
        },
        DEVICE: {
            0: {
                0: "Stellwerk",
                1: "Simulated Sensor",
                2: serial,
                3: "1.0.0",
                4: EXECUTABLE,
                5: EXECUTABLE,
                6: _POWER_SOURCES,
                7: _VOLTAGES,
                8: _CURRENTS,
                9: held(charge),
                10: 112,
                11: _NO_ERROR,
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
        CONNECTIVITY: {
            0: known(
                types,
                CONNECTIVITY,
                {
                    0: _NARROWBAND,
                    1: _BEARERS,
                    2: held(whole(strength)),
                    3: held(lambda utc_s: round(strength(utc_s) / 8)),
                    4: {0: address},
                    5: _ROUTERS,
                    6: held(lambda utc_s: round(abs(strength(utc_s)) % 10)),
                    7: _ACCESS_POINTS,
                    8: 1_000_000 + seed % 1_000_000,
                    9: 1,
                    10: 262,
                    11: held(lambda utc_s: round((strength(utc_s) + 120) / 2)),
                    12: 4711,
                    13: 0,
                },
            )
        },
        FIRMWARE: {0: _FIRMWARE if release.name == "1.2" else _FIRMWARE_1_0},
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
        LIGHT: {0: _LIGHT},
        release.test_object: {0: _TESTS[release.test_object]},
    }
