"""The common IPSO objects: one pool of reusable resources, and per object which of them it has."""

from collections.abc import Iterator
from typing import Final

from stellwerk.lwm2m.schema.builtin.table import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    NONE,
    OPAQUE,
    STRING,
    TIME,
    Rows,
    build_versions,
    row,
)
from stellwerk.lwm2m.schema.model import ObjectModel

# Each is optional here; an object makes some of its own mandatory.
_POOL: Final = {
    each.id: each
    for each in (
        row(5500, "Digital Input State", "R", "0..1", BOOLEAN),
        row(5501, "Digital Input Counter", "R", "0..1", INTEGER),
        row(5502, "Digital Input Polarity", "RW", "0..1", BOOLEAN),
        row(5503, "Digital Input Debounce", "RW", "0..1", INTEGER, "", "ms"),
        row(5504, "Digital Input Edge Selection", "RW", "0..1", INTEGER, "1..3"),
        row(5505, "Digital Input Counter Reset", "E", "0..1", NONE),
        row(5506, "Current Time", "RW", "0..1", TIME),
        row(5507, "Fractional Time", "RW", "0..1", FLOAT, "0..1", "s"),
        row(5508, "Min X Value", "R", "0..1", FLOAT),
        row(5509, "Max X Value", "R", "0..1", FLOAT),
        row(5510, "Min Y Value", "R", "0..1", FLOAT),
        row(5511, "Max Y Value", "R", "0..1", FLOAT),
        row(5512, "Min Z Value", "R", "0..1", FLOAT),
        row(5513, "Max Z Value", "R", "0..1", FLOAT),
        row(5514, "Latitude", "R", "0..1", STRING),
        row(5515, "Longitude", "R", "0..1", STRING),
        row(5516, "Uncertainty", "R", "0..1", STRING),
        row(5517, "Velocity", "R", "0..1", OPAQUE),
        row(5518, "Timestamp", "R", "0..1", TIME),
        row(5519, "Min Limit", "R", "0..1", FLOAT),
        row(5520, "Max Limit", "R", "0..1", FLOAT),
        row(5521, "Delay Duration", "RW", "0..1", FLOAT, "", "s"),
        row(5522, "Clip", "RW", "0..1", OPAQUE),
        row(5523, "Trigger", "E", "0..1", NONE),
        row(5524, "Duration", "RW", "0..1", FLOAT, "", "s"),
        row(5525, "Minimum Off-time", "RW", "0..1", FLOAT, "", "s"),
        row(5526, "Timer Mode", "RW", "0..1", INTEGER, "0..4"),
        row(5527, "Text", "RW", "0..1", STRING),
        row(5528, "X Coordinate", "RW", "0..1", INTEGER),
        row(5529, "Y Coordinate", "RW", "0..1", INTEGER),
        row(5530, "Clear Display", "E", "0..1", NONE),
        row(5531, "Contrast", "RW", "0..1", FLOAT, "0..100", "/100"),
        row(5532, "Increase Input State", "R", "0..1", BOOLEAN),
        row(5533, "Decrease Input State", "R", "0..1", BOOLEAN),
        row(5534, "Counter", "RW", "0..1", INTEGER),
        row(5536, "Current Position", "RW", "0..1", FLOAT, "0..100", "/100"),
        row(5537, "Transition Time", "RW", "0..1", FLOAT, "", "s"),
        row(5538, "Remaining Time", "R", "0..1", FLOAT, "", "s"),
        row(5541, "Up Counter", "RW", "0..1", INTEGER),
        row(5542, "Down Counter", "RW", "0..1", INTEGER),
        row(5543, "Digital State", "R", "0..1", BOOLEAN),
        row(5544, "Cumulative Time", "RW", "0..1", FLOAT, "", "s"),
        row(5545, "Max X Coordinate", "R", "0..1", INTEGER),
        row(5546, "Max Y Coordinate", "R", "0..1", INTEGER),
        row(5548, "Level", "RW", "0..1", FLOAT, "0..100", "/100"),
        row(5550, "Digital Output State", "RW", "0..1", BOOLEAN),
        row(5551, "Digital Output Polarity", "RW", "0..1", BOOLEAN),
        row(5600, "Analog Input Current Value", "R", "0..1", FLOAT),
        row(5601, "Min Measured Value", "R", "0..1", FLOAT),
        row(5602, "Max Measured Value", "R", "0..1", FLOAT),
        row(5603, "Min Range Value", "R", "0..1", FLOAT),
        row(5604, "Max Range Value", "R", "0..1", FLOAT),
        row(5605, "Reset Min and Max Measured Values", "E", "0..1", NONE),
        row(5650, "Analog Output Current Value", "RW", "0..1", FLOAT, "0..1"),
        row(5700, "Sensor Value", "R", "0..1", FLOAT),
        row(5701, "Sensor Units", "R", "0..1", STRING),
        row(5702, "X Value", "R", "0..1", FLOAT),
        row(5703, "Y Value", "R", "0..1", FLOAT),
        row(5704, "Z Value", "R", "0..1", FLOAT),
        row(5705, "Compass Direction", "R", "0..1", FLOAT, "0..360", "deg"),
        row(5706, "Colour", "RW", "0..1", STRING),
        row(5750, "Application Type", "RW", "0..1", STRING),
        row(5751, "Sensor Type", "R", "0..1", STRING),
        row(5800, "Instantaneous active power", "R", "0..1", FLOAT, "", "W"),
        row(5801, "Min Measured active power", "R", "0..1", FLOAT, "", "W"),
        row(5802, "Max Measured active power", "R", "0..1", FLOAT, "", "W"),
        row(5803, "Min Range active power", "R", "0..1", FLOAT, "", "W"),
        row(5804, "Max Range active power", "R", "0..1", FLOAT, "", "W"),
        row(5805, "Cumulative active power", "R", "0..1", FLOAT, "", "Wh"),
        row(5806, "Active Power Calibration", "W", "0..1", FLOAT, "", "W"),
        row(5810, "Instantaneous reactive power", "R", "0..1", FLOAT, "", "var"),
        row(5811, "Min Measured reactive power", "R", "0..1", FLOAT, "", "var"),
        row(5812, "Max Measured reactive power", "R", "0..1", FLOAT, "", "var"),
        row(5813, "Min Range reactive power", "R", "0..1", FLOAT, "", "var"),
        row(5814, "Max Range reactive power", "R", "0..1", FLOAT, "", "var"),
        row(5815, "Cumulative reactive power", "R", "0..1", FLOAT, "", "varh"),
        row(5816, "Reactive Power Calibration", "W", "0..1", FLOAT, "", "var"),
        row(5820, "Power factor", "R", "0..1", FLOAT),
        row(5821, "Current Calibration", "RW", "0..1", FLOAT),
        row(5822, "Reset Cumulative energy", "E", "0..1", NONE),
        row(5850, "On/Off", "RW", "0..1", BOOLEAN),
        row(5851, "Dimmer", "RW", "0..1", INTEGER, "0..100", "/100"),
        row(5852, "On time", "RW", "0..1", INTEGER, "", "s"),
        row(5854, "Off Time", "RW", "0..1", INTEGER, "", "s"),
        row(5900, "Set Point Value", "RW", "0..1", FLOAT),
        row(5903, "Busy to Clear delay", "RW", "0..1", INTEGER, "", "ms"),
        row(5904, "Clear to Busy delay", "RW", "0..1", INTEGER, "", "ms"),
        row(6042, "Measurement Quality Indicator", "R", "0..1", INTEGER, "0..23"),
        row(6049, "Measurement Quality Level", "R", "0..1", INTEGER, "0..100"),
        row(6050, "Fractional Timestamp", "R", "0..1", FLOAT, "0..1", "s"),
        row(6051, "Numeric Latitude", "R", "0..1", FLOAT, "", "lat"),
        row(6052, "Numeric Longitude", "R", "0..1", FLOAT, "", "lon"),
        row(6053, "Numeric Uncertainty", "R", "0..1", FLOAT, "", "m"),
    )
}
_MANDATORY: Final = {
    each.id: row(each.id, each.name, str(each.operations), "1", each.type, each.range_text, each.units)
    for each in _POOL.values()
}

_UNITS: Final = 5701
_APPLICATION: Final = 5750
_EXTREMES: Final = (5601, 5602, 5605)
_SPAN: Final = (5603, 5604)
_MEASURED: Final = (*_EXTREMES, *_SPAN)
_CALIBRATED: Final = (_UNITS, *_MEASURED, 5821, _APPLICATION)

# What version 1.1 brought to most objects: a time, and how far the measurement can be trusted.
_STAMP: Final = (5518, 6050)
_QUALITY: Final = (6042, 6049)
_JUDGED: Final = (*_STAMP, *_QUALITY)

# Object, name, mandatory and optional resources of version 1.0; what version 1.1 adds, where there is one.
_OBJECTS: Final[tuple[tuple[int, str, tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]] = (
    (3200, "Digital Input", (5500,), (5501, 5502, 5503, 5504, 5505, _APPLICATION, 5751), _STAMP),
    (3201, "Digital Output", (5550,), (5551, _APPLICATION), _STAMP),
    (3202, "Analog Input", (5600,), (*_MEASURED, _APPLICATION, 5751), _JUDGED),
    (3203, "Analog Output", (5650,), (*_SPAN, _APPLICATION), _STAMP),
    (3300, "Generic Sensor", (5700,), (_UNITS, *_MEASURED, _APPLICATION, 5751), _JUDGED),
    (3301, "Illuminance", (5700,), (_UNITS, *_MEASURED), (_APPLICATION, *_JUDGED)),
    (3302, "Presence", (5500,), (5501, 5505, 5751, 5903, 5904), (_APPLICATION, *_JUDGED)),
    (3303, "Temperature", (5700,), (_UNITS, *_MEASURED), (_APPLICATION, *_JUDGED)),
    (3304, "Humidity", (5700,), (_UNITS, *_MEASURED), (_APPLICATION, *_JUDGED)),
    (
        3305,
        "Power Measurement",
        (5800,),
        (*range(5801, 5807), *range(5810, 5817), 5820, 5821, 5822, 5605),
        (_APPLICATION, *_JUDGED),
    ),
    (3308, "Set Point", (5900,), (_UNITS, 5706, _APPLICATION), _STAMP),
    (3311, "Light Control", (5850,), (5851, 5852, 5805, 5820, 5706, _UNITS, _APPLICATION), ()),
    (3313, "Accelerometer", (5702,), (5703, 5704, _UNITS, *_SPAN), (_APPLICATION, *_JUDGED)),
    (3315, "Barometer", (5700,), (_UNITS, *_MEASURED), (_APPLICATION, *_JUDGED)),
    (3316, "Voltage", (5700,), _CALIBRATED, _JUDGED),
    (3320, "Percentage", (5700,), _CALIBRATED, _JUDGED),
    (3321, "Altitude", (5700,), _CALIBRATED, _JUDGED),
    (3322, "Load", (5700,), _CALIBRATED, _JUDGED),
    (3323, "Pressure", (5700,), _CALIBRATED, _JUDGED),
    (3324, "Loudness", (5700,), _CALIBRATED, _JUDGED),
    (3325, "Concentration", (5700,), _CALIBRATED, _JUDGED),
    (3326, "Acidity", (5700,), _CALIBRATED, _JUDGED),
    (3327, "Conductivity", (5700,), _CALIBRATED, _JUDGED),
    (3328, "Power", (5700,), _CALIBRATED, _JUDGED),
    (3329, "Power Factor", (5700,), _CALIBRATED, _JUDGED),
    (3330, "Distance", (5700,), _CALIBRATED, _JUDGED),
    (3331, "Energy", (5700,), (_UNITS, 5822, _APPLICATION), _JUDGED),
    (3332, "Direction", (5705,), (*_EXTREMES, _APPLICATION), _JUDGED),
    (3333, "Time", (5506,), (5507, _APPLICATION), _QUALITY),
    (3334, "Gyrometer", (5702,), (5703, 5704, _UNITS, *range(5508, 5514), 5605, *_SPAN, _APPLICATION), _JUDGED),
    (3335, "Colour", (5706,), (_UNITS, _APPLICATION), _JUDGED),
    (3336, "Location", (5514, 5515), (5516, 5705, 5517, 5518, _APPLICATION), (6050, *_QUALITY)),
    (3337, "Positioner", (5536,), (5537, 5538, *_EXTREMES, 5519, 5520, _APPLICATION), _STAMP),
    (3338, "Buzzer", (5850, 5525), (5548, 5521, _APPLICATION), _STAMP),
    (3339, "Audio Clip", (5522,), (5523, 5548, 5524, _APPLICATION), ()),
    (3340, "Timer", (5521,), (5538, 5525, 5523, 5850, 5501, 5544, 5543, 5534, 5526, _APPLICATION), ()),
    (3341, "Addressable Text Display", (5527,), (5528, 5529, 5545, 5546, 5530, 5548, 5531, _APPLICATION), ()),
    (3342, "On/Off switch", (5500,), (5501, 5852, 5854, _APPLICATION), _STAMP),
    (3343, "Dimmer", (5548,), (5852, 5854, _APPLICATION), ()),
    (3344, "Up/Down Control", (5532, 5533), (5541, 5542, _APPLICATION), ()),
    (3345, "Multiple Axis Joystick", (), (5500, 5501, 5702, 5703, 5704, _APPLICATION), ()),
    (3346, "Rate", (5700,), _CALIBRATED, _JUDGED),
    (3347, "Push button", (5500,), (5501, _APPLICATION), _STAMP),
)

# Location 2.0 gives its position as numbers, where 1.x wrote them as text.
_LOCATION_2_0: Final = ((6051, 6052), (6053, 5705, 5517, 5518, _APPLICATION, 6050, *_QUALITY))


def _rows(mandatory: tuple[int, ...], optional: tuple[int, ...]) -> Rows:
    return (*(_MANDATORY[each] for each in mandatory), *(_POOL[each] for each in optional))


def _models() -> Iterator[ObjectModel]:
    for identifier, name, mandatory, optional, added in _OBJECTS:
        versions = {"1.0": _rows(mandatory, optional)}
        if added:
            versions["1.1"] = _rows(mandatory, (*optional, *added))
        if identifier == 3336:
            versions["2.0"] = _rows(*_LOCATION_2_0)
        yield from build_versions(identifier, name, versions, multiple=True)


MODELS: Final = tuple(_models())
