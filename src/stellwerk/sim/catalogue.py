"""What a simulated device may consist of besides its default objects, and what the configurations of OMA's test
specification want (ETS, App. C; contract §14)."""

from collections.abc import Mapping
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import DeviceTypes
from stellwerk.lwm2m.value import ObjectLink, Value
from stellwerk.sim import objects
from stellwerk.sim.firmware import PROTOCOLS
from stellwerk.sim.motion import clock
from stellwerk.sim.objects import known
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.release import Release
from stellwerk.sim.tree import EXECUTABLE, Instance, ObjectTree

ACCESS_CONTROL: Final = 2
STATISTICS: Final = 7
CELLULAR: Final = 10
APN_PROFILE: Final = 11
WLAN: Final = 12
BEARER_SELECTION: Final = 13
PORTFOLIO: Final = 16
APP_DATA: Final = 19
EVENT_LOG: Final = 20

BEARERS: Final = Path(BEARER_SELECTION, 0, 0)
ACTIVE_PROFILES: Final = Path(CELLULAR, 0, 11)

NOBODY: Final = 65535
"""The owner of what a bootstrap server made (Core 1.2.2 §8.2)."""

EVERYTHING: Final = 31
"""All rights there are."""

_NONE: Final[dict[int, Value]] = {}
_PROFILES: Final[dict[int, Value]] = {0: ObjectLink(APN_PROFILE, 0)}
_HOST: Final[dict[int, Value]] = {
    0: "Host Device ID #1",
    1: "Host Device Manufacturer #1",
    2: "Host Device Model #1",
    3: "Host Device Software Version #1",
}
_READING: Final[dict[int, Value]] = {0: b'{"meter":"water","m3":17.25}'}
_NO_DATA: Final[dict[int, Value]] = {0: b""}

_TEMPLATES: Final[Mapping[int, Instance]] = {
    APN_PROFILE: {3: False},
    BEARER_SELECTION: {},
    PORTFOLIO: {0: _NONE, 1: EXECUTABLE},
    APP_DATA: {},
}
"""What a new instance has of the objects whose instances a server creates and deletes."""

MORE: Final[Mapping[int, Mapping[int, Instance]]] = {
    STATISTICS: {0: {**dict.fromkeys(range(6), 0), 6: EXECUTABLE, 7: EXECUTABLE, 8: 0}},
    CELLULAR: {
        0: {4: 3600, 5: 600, 8: b"\x02", 9: b"\x05", 11: _PROFILES, 12: 3, 13: 1, 14: 0},
    },
    APN_PROFILE: {0: {0: "internet", 1: "iot.example", 3: True, 4: 3}},
    WLAN: {0: {0: "wlan0", 1: False, 3: 0, 4: "02005E000001", 5: "Stellwerk", 8: 0, 9: 0, 14: 0, 15: 0}},
    BEARER_SELECTION: {},
    PORTFOLIO: {0: {0: _HOST, 1: EXECUTABLE, 2: _NONE, 3: 0}},
    APP_DATA: {0: {0: _READING, 1: 0, 2: 1_367_491_215}, 1: {0: _NO_DATA}},
    EVENT_LOG: {0: {4010: 0, 4011: EXECUTABLE, 4012: EXECUTABLE, 4013: 3, 4014: b"started", 4015: 0}},
}
"""Objects to be had on request, with the instances that there are at first."""

ETS: Final = frozenset({*range(8), *MORE}) - {ACCESS_CONTROL}
"""What a device of the ETS configurations has, all of them at once: a superset is allowed (App. C)."""


class UnknownObject(UserError):
    """No simulated device can have ``object_id``; the text says which objects it can have."""

    def __init__(self, object_id: int, known: frozenset[int]) -> None:
        self.object_id = object_id
        super().__init__(f"object {object_id} is not simulated; one of {', '.join(map(str, sorted(known)))}")


def tree_of(options: DeviceOptions, release: Release, address: str) -> ObjectTree:
    """The objects of a device at the IP ``address``, but for what it is the gateway of. Raises `UnknownObject`."""
    objects_there = objects.build_objects(
        serial=options.endpoint_name,
        seed=options.seed,
        server_uris=(options.server_uri, *options.other_server_uris),
        lifetime_s=options.lifetime_s,
        binding=options.binding + ("Q" if options.queue_mode and release.name == "1.0" else ""),
        moving=options.moving and not options.ets,
        muted=options.muted,
        release=release,
        address=address,
    )
    default = ETS if options.ets else frozenset({*objects.DEFAULT, release.test_object})
    if options.ets:
        _set_ets(objects_there, options, release.types, address)
    available = {**{each: dict(cells) for each, cells in MORE.items()}, **objects_there}
    wanted = default if options.object_ids is None else options.object_ids
    for each in sorted(wanted - available.keys()):
        raise UnknownObject(each, frozenset(available))
    kept = {each: available[each] for each in sorted({0, 1, 3, *wanted})}
    if options.access_rights or options.other_server_uris:
        kept[ACCESS_CONTROL] = _access_control(options)
    return ObjectTree(release.types, {each: _fitting(release.types, each, cells) for each, cells in kept.items()})


def template_of(types: DeviceTypes, object_id: int) -> Instance | None:
    """What a new instance of an object has before a server gives values; None where a server creates none."""
    template = _TEMPLATES.get(object_id)
    return objects.template_of(object_id) if template is None else known(types, object_id, template)


def _fitting(types: DeviceTypes, object_id: int, instances: Mapping[int, Instance]) -> dict[int, Instance]:
    if object_id not in MORE and object_id != ACCESS_CONTROL:
        return dict(instances)
    return {each: known(types, object_id, cells) for each, cells in instances.items()}


def _access_control(options: DeviceOptions) -> dict[int, Instance]:
    """C.14 for several servers: each owns its own instance of object 1, object 3 is everybody's; what is not named is
    free. And the rights that the options give the first server."""
    servers = range(1, 2 + len(options.other_server_uris))
    rights: dict[Path, dict[int, Value]] = {Path(objects.SERVER, each - 1): {each: 15} for each in servers}
    rights[Path(objects.DEVICE, 0)] = dict.fromkeys(servers, 15)
    rights.update({path: {1: bits} for path, bits in options.access_rights})
    instances: dict[int, Instance] = {}
    for number, (path, acl) in enumerate(sorted(rights.items())):
        owner = path[1] + 1 if path[0] == objects.SERVER else NOBODY
        instances[number] = {0: path[0], 1: path[1] if len(path) > 1 else NOBODY, 2: acl, 3: owner}
    return instances


def _set_ets(there: dict[int, dict[int, Instance]], options: DeviceOptions, types: DeviceTypes, address: str) -> None:
    """The values of C.3 to C.8."""
    server: Instance = {1: options.lifetime_s, 2: 1, 3: 10, 5: 86_400, 6: False}
    there[objects.SERVER] = {each: {**cells, **server} for each, cells in there[objects.SERVER].items()}
    device: Instance = {
        **there[objects.DEVICE][0],
        6: {0: 1, 1: 2},
        7: {0: 0, 1: 0},
        8: {0: 0, 1: 0},
        9: 0,
        10: 15,
        13: clock(),
        22: {0: ObjectLink(objects.CONNECTIVITY, 0)},
    }
    there[objects.DEVICE] = {0: known(types, objects.DEVICE, device)}
    connectivity: Instance = {
        **there[objects.CONNECTIVITY][0],
        1: {0: 7, 1: 21},
        4: {0: address, 1: "2001:db8::2"},
        5: {0: "192.0.2.1", 1: "2001:db8::1"},
        7: {0: "iot.example", 1: "internet"},
    }
    there[objects.CONNECTIVITY] = {0: connectivity}
    there[objects.FIRMWARE] = {0: {**there[objects.FIRMWARE][0], 8: dict(enumerate(PROTOCOLS.values())), 9: 2}}
    there[objects.LOCATION] = {0: {0: 43.5723, 1: 153.2176, 2: 140.0, 3: 100.0, 4: b"\x00", 5: 1_367_491_215, 6: 3.0}}
