"""Portfolio, BinaryAppDataContainer, and the Gateway with its end devices (their own OMA enablers)."""

from stellwerk.lwm2m.schema.builtin.table import (
    CORELNK,
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

_PORTFOLIO_1_0 = (
    row(0, "Identity", "RW", "1..n", STRING),
    row(1, "GetAuthData", "E", "0..1", NONE),
    row(2, "AuthData", "R", "0..n", OPAQUE),
    row(3, "AuthStatus", "R", "0..1", INTEGER, "0..2"),
)
PORTFOLIO = versions_of(16, "Portfolio", multiple=True, v1_0=_PORTFOLIO_1_0)

_BINARY_APP_DATA_CONTAINER_1_0 = (
    row(0, "Data", "RW", "1..n", OPAQUE),
    row(1, "Data Priority", "RW", "0..1", INTEGER, "1 bytes"),
    row(2, "Data Creation Time", "RW", "0..1", TIME),
    row(3, "Data Description", "RW", "0..1", STRING, "32 bytes"),
    row(4, "Data Format", "RW", "0..1", STRING, "32 bytes"),
    row(5, "App ID", "RW", "0..1", INTEGER, "2 bytes"),
)
BINARY_APP_DATA_CONTAINER = versions_of(
    19, "BinaryAppDataContainer", multiple=True, v1_0=_BINARY_APP_DATA_CONTAINER_1_0
)

_GATEWAY_1_0 = (
    row(0, "Device ID", "R", "1", STRING),
    row(1, "Prefix", "RW", "1", STRING),
    row(2, "Routing Table Entry", "R", "0..1", OBJLNK),
)
_GATEWAY_2_0 = revise(
    _GATEWAY_1_0,
    row(1, "Prefix", "R", "1", STRING),
    row(3, "IoT Device Objects", "R", "1", CORELNK),
    without=(2,),
)
GATEWAY = versions_of(25, "LwM2M Gateway", multiple=True, v1_0=_GATEWAY_1_0, v2_0=_GATEWAY_2_0)

MODELS = (*PORTFOLIO, *BINARY_APP_DATA_CONTAINER, *GATEWAY)
