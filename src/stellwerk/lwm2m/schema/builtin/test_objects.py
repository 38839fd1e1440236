"""The objects with one resource of every type that conformance tests write to (OMA ETS)."""

from stellwerk.lwm2m.schema.builtin.table import (
    BOOLEAN,
    CORELNK,
    FLOAT,
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

_TEST_OBJECT_1_0 = (
    row(0, "Reset values", "E", "0..1", NONE),
    row(1, "Randomize values", "E", "0..1", NONE),
    row(2, "Clear values", "E", "0..1", NONE),
    row(3, "Exec With Arguments", "E", "0..1", NONE),
    row(4, "Arguments List", "R", "0..n", STRING),
    row(110, "String Value", "RW", "0..1", STRING),
    row(120, "Integer Value", "RW", "0..1", INTEGER),
    row(130, "Float Value", "RW", "0..1", FLOAT),
    row(140, "Boolean Value", "RW", "0..1", BOOLEAN),
    row(150, "Opaque Value", "RW", "0..1", OPAQUE),
    row(160, "Time Value", "RW", "0..1", TIME),
    row(170, "ObjLink Value", "RW", "0..1", OBJLNK),
    row(1110, "Multiple String Value", "RW", "0..n", STRING),
    row(1120, "Multiple Integer Value", "RW", "0..n", INTEGER),
    row(1130, "Multiple Float Value", "RW", "0..n", FLOAT),
    row(1140, "Multiple Boolean Value", "RW", "0..n", BOOLEAN),
    row(1150, "Multiple Opaque Value", "RW", "0..n", OPAQUE),
    row(1160, "Multiple Time Value", "RW", "0..n", TIME),
    row(1170, "Multiple ObjLink Value", "RW", "0..n", OBJLNK),
)
_TEST_OBJECT_1_1 = revise(
    _TEST_OBJECT_1_0,
    row(5, "Send Data", "E", "0..1", NONE),
    row(6, "Resources to Send", "RW", "0..n", STRING),
    row(125, "Unsigned Integer Value", "RW", "0..1", UNSIGNED),
    row(180, "CoreLnk Value", "RW", "0..1", CORELNK),
    row(1125, "Multiple Unsigned Integer Value", "RW", "0..n", UNSIGNED),
    row(1180, "Multiple CoreLnk Value", "RW", "0..n", CORELNK),
)
# Two objects, not two versions of one: 3441 is for LwM2M 1.0 clients and 3442 for those of 1.1.
MODELS = (
    *versions_of(3441, "LwM2M v1.0 Test Object", multiple=True, v1_0=_TEST_OBJECT_1_0),
    *versions_of(3442, "LwM2M v1.1 Test Object", multiple=True, v1_0=_TEST_OBJECT_1_1),
)
