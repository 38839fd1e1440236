"""Event log, virtual observation, an MQTT server's account, a gateway's routing (their own OMA enablers)."""

from stellwerk.lwm2m.schema.builtin.table import (
    BOOLEAN,
    CORELNK,
    INTEGER,
    NONE,
    OPAQUE,
    STRING,
    UNSIGNED,
    revise,
    row,
    versions_of,
)

_EVENT_LOG_1_0 = (
    row(4010, "LogClass", "RW", "0..1", INTEGER, "255"),
    row(4011, "LogStart", "E", "0..1", NONE),
    row(4012, "LogStop", "E", "0..1", NONE),
    row(4013, "LogStatus", "R", "0..1", INTEGER, "8-Bits"),
    row(4014, "LogData", "R", "1", OPAQUE),
    row(4015, "LogDataFormat", "RW", "0..1", INTEGER, "255"),
)
_EVENT_LOG_2_1 = revise(
    _EVENT_LOG_1_0,
    row(4016, "LogDataIncremental", "", "0..1", OPAQUE),
    row(4017, "LogDataIncrementalMinimumSendInterval", "RW", "0..1", UNSIGNED),
)
EVENT_LOG = (
    *versions_of(20, "Event Log", multiple=False, v1_0=_EVENT_LOG_1_0),
    *versions_of(20, "Event Log", multiple=True, v2_0=_EVENT_LOG_1_0, v2_1=_EVENT_LOG_2_1),
)

_VIRTUAL_OBSERVE_NOTIFY_1_0 = (
    row(0, "ObserveLinks", "RW", "1..n", CORELNK),
    row(1, "Report", "R", "1", STRING),
    row(2, "ResourceFilter", "RW", "0..1", BOOLEAN),
    row(3, "ReportLinks", "RW", "0..n", CORELNK),
    row(4, "ObserveRelation", "RW", "0..1", INTEGER),
)
_VIRTUAL_OBSERVE_NOTIFY_1_1 = revise(
    _VIRTUAL_OBSERVE_NOTIFY_1_0,
    row(5, "Virtual Observe Report Format", "RW", "0..1", INTEGER),
    row(6, "Virtual Observe Report", "R", "0..1", OPAQUE),
)
VIRTUAL_OBSERVE_NOTIFY = versions_of(
    22, "Virtual Observe Notify", multiple=True, v1_0=_VIRTUAL_OBSERVE_NOTIFY_1_0, v1_1=_VIRTUAL_OBSERVE_NOTIFY_1_1
)

_MQTT_SERVER_1_0 = (
    row(0, "Will Retain", "RW", "0..1", BOOLEAN),
    row(1, "Will Topic", "RW", "0..1", STRING),
    row(2, "Will Message", "RW", "0..1", STRING),
    row(3, "Clean Session", "RW", "0..1", BOOLEAN),
    row(4, "Will QoS", "RW", "0..1", UNSIGNED, "0..3"),
    row(5, "Keep Alive", "RW", "0..1", UNSIGNED, "0..65535"),
    row(6, "Client Identifier", "RW", "1", STRING),
    row(7, "User Name", "RW", "0..1", STRING),
    row(8, "Password", "RW", "0..1", OPAQUE),
)
MQTT_SERVER = versions_of(24, "MQTT Server", multiple=True, v1_0=_MQTT_SERVER_1_0)

_GATEWAY_ROUTING_1_0 = (
    row(0, "LwM2M Object ID", "R", "1", UNSIGNED),
    row(1, "Mapping Info", "R", "1", CORELNK),
)
GATEWAY_ROUTING = versions_of(26, "LwM2M Gateway Routing", multiple=True, v1_0=_GATEWAY_ROUTING_1_0)

MODELS = (*EVENT_LOG, *VIRTUAL_OBSERVE_NOTIFY, *MQTT_SERVER, *GATEWAY_ROUTING)
