"""Objects of simulated devices that the built-in library does not describe, as far as they hold them (contract §10).

Connectivity management (10 to 13), the Event Log (20) and the gateway's routing table (26), by their public
definitions; a definition that the library has counts instead.
"""

from functools import cache
from typing import Final

from stellwerk.lwm2m.schema.builtin.table import (
    BOOLEAN,
    CORELNK,
    INTEGER,
    NONE,
    OBJLNK,
    OPAQUE,
    STRING,
    UNSIGNED,
    Rows,
    row,
    versions_of,
)
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.model import ObjectModel

_CELLULAR: Final[Rows] = (
    row(0, "SMSC address", "RW", "0..1", STRING),
    row(1, "Disable radio period", "RW", "0..1", INTEGER, "0..65535", "min"),
    row(2, "Module activation code", "RW", "0..1", STRING),
    row(3, "Vendor specific extensions", "R", "0..1", OBJLNK),
    row(4, "PSM Timer", "RW", "0..1", INTEGER, "", "s"),
    row(5, "Active Timer", "RW", "0..1", INTEGER, "", "s"),
    row(6, "Serving PLMN Rate control", "R", "0..1", INTEGER),
    row(7, "eDRX parameters for Iu mode", "RW", "0..1", OPAQUE),
    row(8, "eDRX parameters for WB-S1 mode", "RW", "0..1", OPAQUE),
    row(9, "eDRX parameters for NB-S1 mode", "RW", "0..1", OPAQUE),
    row(10, "eDRX parameters for A/Gb mode", "RW", "0..1", OPAQUE),
    row(11, "Activated Profile Names", "R", "1..n", OBJLNK),
    row(12, "Supported Power Saving Modes", "R", "0..1", UNSIGNED, "0..255"),
    row(13, "Active Power Saving Modes", "RW", "0..1", UNSIGNED, "0..255"),
    row(14, "Release Assistance Indication Usage", "RW", "0..1", UNSIGNED, "0..255"),
)

_APN: Final[Rows] = (
    row(0, "Profile name", "RW", "1", STRING),
    row(1, "APN", "RW", "0..1", STRING),
    row(2, "Auto select APN by device", "RW", "0..1", BOOLEAN),
    row(3, "Enable status", "RW", "0..1", BOOLEAN),
    row(4, "Authentication Type", "RW", "1", INTEGER),
    row(5, "User Name", "RW", "0..1", STRING),
    row(6, "Secret", "RW", "0..1", STRING),
)

_WLAN: Final[Rows] = (
    row(0, "Interface name", "RW", "1", STRING),
    row(1, "Enable", "RW", "1", BOOLEAN),
    row(2, "Radio Enabled", "RW", "0..1", INTEGER),
    row(3, "Status", "R", "1", INTEGER),
    row(4, "BSSID", "R", "1", STRING),
    row(5, "SSID", "RW", "1", STRING),
    row(8, "Mode", "RW", "1", INTEGER),
    row(9, "Channel", "RW", "1", INTEGER, "0..255"),
    row(14, "Standard", "RW", "1", INTEGER),
    row(15, "Authentication Mode", "RW", "1", INTEGER),
)

_BEARER: Final[Rows] = (
    row(0, "Preferred Communications Bearer", "RW", "0..n", INTEGER, "0..100"),
    row(5, "Cell lock list", "RW", "0..1", STRING),
    row(6, "Operator list", "RW", "0..1", STRING),
    row(7, "Operator list mode", "RW", "0..1", BOOLEAN),
    row(8, "List of available PLMNs", "R", "0..1", STRING),
)

_EVENT_LOG: Final[Rows] = (
    row(4010, "LogClass", "RW", "0..1", INTEGER, "0..255"),
    row(4011, "LogStart", "E", "0..1", NONE),
    row(4012, "LogStop", "E", "0..1", NONE),
    row(4013, "LogStatus", "R", "0..1", INTEGER),
    row(4014, "LogData", "R", "1", OPAQUE),
    row(4015, "LogDataFormat", "RW", "0..1", INTEGER, "0..255"),
)

_ROUTING: Final[Rows] = (
    row(0, "LwM2M Object ID", "R", "1", UNSIGNED),
    row(1, "Mapping Info", "R", "1", CORELNK),
)

MODELS: Final[tuple[ObjectModel, ...]] = (
    *versions_of(10, "LWM2M Cellular Connectivity", multiple=False, v1_1=_CELLULAR),
    *versions_of(11, "LWM2M APN Connection Profile", multiple=True, v1_0=_APN),
    *versions_of(12, "LWM2M WLAN connectivity", multiple=True, v1_0=_WLAN),
    *versions_of(13, "LWM2M Bearer Selection", multiple=False, v1_0=_BEARER),
    *versions_of(20, "Event Log", multiple=True, v1_0=_EVENT_LOG),
    *versions_of(26, "LwM2M Gateway Routing", multiple=True, v1_0=_ROUTING),
)


@cache
def library() -> Library:
    """What simulated devices know of objects."""
    builtin = Library.builtin()
    return builtin.with_models(each for each in MODELS if builtin.get(each.id, each.version) is None)
