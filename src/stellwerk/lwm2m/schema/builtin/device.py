"""What a device is and where: Device, Connectivity Monitoring, Location, Statistics (Core 1.2.2 App. E)."""

from stellwerk.lwm2m.schema.builtin.table import (
    FLOAT,
    INTEGER,
    NONE,
    OBJLNK,
    OPAQUE,
    STRING,
    TIME,
    revise,
    row,
    versions_of,
)

_DEVICE_1_0 = (
    row(0, "Manufacturer", "R", "0..1", STRING),
    row(1, "Model Number", "R", "0..1", STRING),
    row(2, "Serial Number", "R", "0..1", STRING),
    row(3, "Firmware Version", "R", "0..1", STRING),
    row(4, "Reboot", "E", "1", NONE),
    row(5, "Factory Reset", "E", "0..1", NONE),
    row(6, "Available Power Sources", "R", "0..n", INTEGER, "0-7"),
    row(7, "Power Source Voltage", "R", "0..n", INTEGER, "", "mV"),
    row(8, "Power Source Current", "R", "0..n", INTEGER, "", "mA"),
    row(9, "Battery Level", "R", "0..1", INTEGER, "0-100", "%"),
    row(10, "Memory Free", "R", "0..1", INTEGER, "", "KB"),
    row(11, "Error Code", "R", "1..n", INTEGER, "0-8"),
    row(12, "Reset Error Code", "E", "0..1", NONE),
    row(13, "Current Time", "RW", "0..1", TIME),
    row(14, "UTC Offset", "RW", "0..1", STRING),
    row(15, "Timezone", "RW", "0..1", STRING),
    row(16, "Supported Binding and Modes", "R", "1", STRING),
    row(17, "Device Type", "R", "0..1", STRING),
    row(18, "Hardware Version", "R", "0..1", STRING),
    row(19, "Software Version", "R", "0..1", STRING),
    row(20, "Battery Status", "R", "0..1", INTEGER, "0-6"),
    row(21, "Memory Total", "R", "0..1", INTEGER),
    row(22, "ExtDevInfo", "R", "0..n", OBJLNK),
)
_DEVICE_1_1 = revise(
    _DEVICE_1_0,
    row(6, "Available Power Sources", "R", "0..n", INTEGER, "0..7"),
    row(7, "Power Source Voltage", "R", "0..n", INTEGER),
    row(8, "Power Source Current", "R", "0..n", INTEGER),
    row(9, "Battery Level", "R", "0..1", INTEGER, "0..100", "%"),
    row(10, "Memory Free", "R", "0..1", INTEGER),
    row(11, "Error Code", "R", "1..n", INTEGER, "0..8"),
    row(20, "Battery Status", "R", "0..1", INTEGER, "0..6"),
)
_DEVICE_1_2 = revise(
    _DEVICE_1_1,
    row(9, "Battery Level", "R", "0..1", INTEGER, "0..100", "/100"),
    row(11, "Error Code", "R", "1..n", INTEGER, "0..32"),
)
DEVICE = versions_of(3, "Device", multiple=False, mandatory=True, v1_0=_DEVICE_1_0, v1_1=_DEVICE_1_1, v1_2=_DEVICE_1_2)

_CONNECTIVITY_MONITORING_1_0 = (
    row(0, "Network Bearer", "R", "1", INTEGER, "0-50"),
    row(1, "Available Network Bearer", "R", "1..n", INTEGER, "0-50"),
    row(2, "Radio Signal Strength", "R", "1", INTEGER, "", "dBm"),
    row(3, "Link Quality", "R", "0..1", INTEGER),
    row(4, "IP Addresses", "R", "1..n", STRING),
    row(5, "Router IP Addresses", "R", "0..n", STRING),
    row(6, "Link Utilization", "R", "0..1", INTEGER, "0-100", "%"),
    row(7, "APN", "R", "0..n", STRING),
    row(8, "Cell ID", "R", "0..1", INTEGER),
    row(9, "SMNC", "R", "0..1", INTEGER, "0-999", "%"),
    row(10, "SMCC", "R", "0..1", INTEGER, "0-999"),
)
_CONNECTIVITY_MONITORING_1_1 = revise(
    _CONNECTIVITY_MONITORING_1_0,
    row(11, "SignalSNR", "R", "0..1", INTEGER, "", "dB"),
)
_CONNECTIVITY_MONITORING_1_2 = revise(
    _CONNECTIVITY_MONITORING_1_1,
    row(0, "Network Bearer", "R", "1", INTEGER, "0..50"),
    row(1, "Available Network Bearer", "R", "1..n", INTEGER, "0..50"),
    row(2, "Radio Signal Strength", "R", "1", INTEGER),
    row(6, "Link Utilization", "R", "0..1", INTEGER, "0..100", "%"),
    row(9, "SMNC", "R", "0..1", INTEGER, "0..999"),
    row(10, "SMCC", "R", "0..1", INTEGER, "0..999"),
    row(12, "LAC", "R", "0..1", INTEGER),
)
_CONNECTIVITY_MONITORING_1_3 = revise(
    _CONNECTIVITY_MONITORING_1_2,
    row(2, "Radio Signal Strength", "R", "1", INTEGER, "", "dBm"),
    row(6, "Link Utilization", "R", "0..1", INTEGER, "0..100", "/100"),
    row(13, "Coverage Enhancement Level", "R", "0..1", INTEGER, "0..4"),
)
CONNECTIVITY_MONITORING = versions_of(
    4,
    "Connectivity Monitoring",
    multiple=False,
    v1_0=_CONNECTIVITY_MONITORING_1_0,
    v1_1=_CONNECTIVITY_MONITORING_1_1,
    v1_2=_CONNECTIVITY_MONITORING_1_2,
    v1_3=_CONNECTIVITY_MONITORING_1_3,
)

_LOCATION_1_0 = (
    row(0, "Latitude", "R", "1", FLOAT, "", "lat"),
    row(1, "Longitude", "R", "1", FLOAT, "", "lon"),
    row(2, "Altitude", "R", "0..1", FLOAT, "", "m"),
    row(3, "Radius", "R", "0..1", FLOAT, "", "m"),
    row(4, "Velocity", "R", "0..1", OPAQUE),
    row(5, "Timestamp", "R", "1", TIME),
    row(6, "Speed", "R", "0..1", FLOAT, "", "m/s"),
)
LOCATION = versions_of(6, "Location", multiple=False, v1_0=_LOCATION_1_0)

_CONNECTIVITY_STATISTICS_1_0 = (
    row(0, "SMS Tx Counter", "R", "0..1", INTEGER),
    row(1, "SMS Rx Counter", "R", "0..1", INTEGER),
    row(2, "Tx Data", "R", "0..1", INTEGER),
    row(3, "Rx Data", "R", "0..1", INTEGER),
    row(4, "Max Message Size", "R", "0..1", INTEGER, "", "B"),
    row(5, "Average Message Size", "R", "0..1", INTEGER, "", "B"),
    row(6, "Start", "E", "1", NONE),
    row(7, "Stop", "E", "1", NONE),
    row(8, "Collection Period", "RW", "0..1", INTEGER, "", "s"),
)
CONNECTIVITY_STATISTICS = versions_of(7, "Connectivity Statistics", multiple=False, v1_0=_CONNECTIVITY_STATISTICS_1_0)

MODELS = (*DEVICE, *CONNECTIVITY_MONITORING, *LOCATION, *CONNECTIVITY_STATISTICS)
