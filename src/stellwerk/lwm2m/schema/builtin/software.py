"""Updates: Firmware Update (Core 1.2.2 App. E.6) and Software Management (OMA LWM2M_SwMgmt 1.0)."""

from stellwerk.lwm2m.schema.builtin.table import (
    BOOLEAN,
    INTEGER,
    NONE,
    OBJLNK,
    OPAQUE,
    STRING,
    TIME,
    UNSIGNED,
    revise,
    row,
    versions_of,
)

_FIRMWARE_UPDATE_1_0 = (
    row(0, "Package", "W", "1", OPAQUE),
    row(1, "Package URI", "RW", "1", STRING, "0..255"),
    row(2, "Update", "E", "1", NONE),
    row(3, "State", "R", "1", INTEGER, "0..3"),
    row(5, "Update Result", "R", "1", INTEGER, "0..9"),
    row(6, "PkgName", "R", "0..1", STRING, "0..255"),
    row(7, "PkgVersion", "R", "0..1", STRING, "0..255"),
    row(8, "Firmware Update Protocol Support", "R", "0..n", INTEGER, "0..5"),
    row(9, "Firmware Update Delivery Method", "R", "1", INTEGER, "0..2"),
)
_FIRMWARE_UPDATE_1_1 = revise(
    _FIRMWARE_UPDATE_1_0,
    row(5, "Update Result", "R", "1", INTEGER, "0..11"),
    row(10, "Cancel", "E", "0..1", NONE),
    row(11, "Severity", "RW", "0..1", INTEGER, "0..2"),
    row(12, "Last State Change Time", "R", "0..1", TIME),
    row(13, "Maximum Defer Period", "RW", "0..1", UNSIGNED, "", "s"),
)
_FIRMWARE_UPDATE_1_2 = revise(
    _FIRMWARE_UPDATE_1_1,
    row(14, "Automatic Upgrade at Download", "RW", "0..1", BOOLEAN),
)
FIRMWARE_UPDATE = versions_of(
    5,
    "Firmware Update",
    multiple=False,
    v1_0=_FIRMWARE_UPDATE_1_0,
    v1_1=_FIRMWARE_UPDATE_1_1,
    v1_2=_FIRMWARE_UPDATE_1_2,
)

_SOFTWARE_MANAGEMENT_1_0 = (
    row(0, "PkgName", "R", "1", STRING, "0..255 bytes"),
    row(1, "PkgVersion", "R", "1", STRING, "0..255 bytes"),
    row(2, "Package", "W", "0..1", OPAQUE),
    row(3, "Package URI", "W", "0..1", STRING, "0..255 bytes"),
    row(4, "Install", "E", "1", NONE),
    row(5, "Checkpoint", "R", "0..1", OBJLNK),
    row(6, "Uninstall", "E", "1", NONE),
    row(7, "Update State", "R", "1", INTEGER, "0..4"),
    row(8, "Update Supported Objects", "RW", "0..1", BOOLEAN),
    row(9, "Update Result", "R", "1", INTEGER, "0..200"),
    row(10, "Activate", "E", "1", NONE),
    row(11, "Deactivate", "E", "1", NONE),
    row(12, "Activation State", "R", "1", BOOLEAN),
    row(13, "Package Settings", "RW", "0..1", OBJLNK),
    row(14, "User Name", "W", "0..1", STRING, "0..255 bytes"),
    row(15, "Password", "W", "0..1", STRING, "0..255 bytes"),
    row(16, "Status Reason", "R", "0..1", STRING),
    row(17, "Software Component Link", "R", "0..n", OBJLNK),
    row(18, "Software Component tree length", "R", "0..1", INTEGER, "0..255"),
)
SOFTWARE_MANAGEMENT = versions_of(9, "LWM2M Software Management", multiple=True, v1_0=_SOFTWARE_MANAGEMENT_1_0)

MODELS = (*FIRMWARE_UPDATE, *SOFTWARE_MANAGEMENT)
