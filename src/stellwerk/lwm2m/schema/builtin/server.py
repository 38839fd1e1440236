"""Which servers a device talks to, and who may do what: Security, Server, Access Control (Core 1.2.2 App. E)."""

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

_SECURITY_1_0 = (
    row(0, "LWM2M Server URI", "", "1", STRING, "0-255 bytes"),
    row(1, "Bootstrap-Server", "", "1", BOOLEAN),
    row(2, "Security Mode", "", "1", INTEGER, "0-4"),
    row(3, "Public Key or Identity", "", "1", OPAQUE),
    row(4, "Server Public Key", "", "1", OPAQUE),
    row(5, "Secret Key", "", "1", OPAQUE),
    row(6, "SMS Security Mode", "", "0..1", INTEGER, "0-255"),
    row(7, "SMS Binding Key Parameters", "", "0..1", OPAQUE, "6 bytes"),
    row(8, "SMS Binding Secret Key(s)", "", "0..1", OPAQUE, "16-32-48 bytes"),
    row(9, "LwM2M Server SMS Number", "", "0..1", STRING),
    row(10, "Short Server ID", "", "0..1", INTEGER, "1-65534"),
    row(11, "Client Hold Off Time", "", "0..1", INTEGER, "", "s"),
    row(12, "Bootstrap-Server Account Timeout", "", "0..1", INTEGER, "", "s"),
)
_SECURITY_1_1 = revise(
    _SECURITY_1_0,
    row(0, "LWM2M Server URI", "", "1", STRING, "0..255 bytes"),
    row(2, "Security Mode", "", "1", INTEGER, "0..4"),
    row(6, "SMS Security Mode", "", "0..1", INTEGER, "0..255"),
    row(7, "SMS Binding Key Parameters", "", "0..1", OPAQUE, "6"),
    row(8, "SMS Binding Secret Key(s)", "", "0..1", OPAQUE, "16,32,48"),
    row(10, "Short Server ID", "", "0..1", INTEGER, "1..65534"),
    row(13, "Matching Type", "", "0..1", UNSIGNED, "0..3", "s"),
    row(14, "SNI", "", "0..1", STRING),
    row(15, "Certificate Usage", "", "0..1", UNSIGNED, "0..3", "s"),
    row(16, "DTLS/TLS Ciphersuite", "", "0..n", UNSIGNED),
    row(17, "OSCORE Security Mode", "", "0..1", OBJLNK),
)
_SECURITY_1_2 = revise(
    _SECURITY_1_1,
    row(0, "LWM2M Server URI", "", "1", STRING, "0..255"),
    row(13, "Matching Type", "", "0..1", UNSIGNED, "0..3"),
    row(15, "Certificate Usage", "", "0..1", UNSIGNED, "0..3"),
    row(18, "Groups To Use by Client", "", "0..n", UNSIGNED, "0..65535"),
    row(19, "Signature Algorithms Supported by Server", "", "0..n", UNSIGNED, "0..65535"),
    row(20, "Signature Algorithms To Use by Client", "", "0..n", UNSIGNED, "0..65535"),
    row(21, "Signature Algorithm Certs Supported by Server", "", "0..n", UNSIGNED, "0..65535"),
    row(22, "TLS 1.3 Features To Use by Client", "", "0..1", UNSIGNED, "0..65535"),
    row(23, "TLS Extensions Supported by Server", "", "0..1", UNSIGNED, "0..65535"),
    row(24, "TLS Extensions To Use by Client", "", "0..1", UNSIGNED, "0..65535"),
    row(25, "Secondary LwM2M Server URI", "", "0..n", STRING, "0..255"),
    row(26, "MQTT Server", "", "0..1", OBJLNK),
    row(27, "LwM2M COSE Security", "", "0..n", OBJLNK),
    row(28, "RDS Destination Port", "", "0..1", INTEGER, "0..15"),
    row(29, "RDS Source Port", "", "0..1", INTEGER, "0..15"),
    row(30, "RDS Application ID", "", "0..1", STRING),
)
SECURITY = versions_of(
    0, "LWM2M Security", multiple=True, mandatory=True, v1_0=_SECURITY_1_0, v1_1=_SECURITY_1_1, v1_2=_SECURITY_1_2
)

_SERVER_1_0 = (
    row(0, "Short Server ID", "R", "1", INTEGER, "1-65535"),
    row(1, "Lifetime", "RW", "1", INTEGER, "", "s"),
    row(2, "Default Minimum Period", "RW", "0..1", INTEGER, "", "s"),
    row(3, "Default Maximum Period", "RW", "0..1", INTEGER, "", "s"),
    row(4, "Disable", "E", "0..1", NONE),
    row(5, "Disable Timeout", "RW", "0..1", INTEGER, "", "s"),
    row(6, "Notification Storing When Disabled or Offline", "RW", "1", BOOLEAN),
    row(7, "Binding", "RW", "1", STRING),
    row(8, "Registration Update Trigger", "E", "1", NONE),
)
_SERVER_1_1 = revise(
    _SERVER_1_0,
    row(0, "Short Server ID", "R", "1", INTEGER, "1..65534"),
    row(9, "Bootstrap-Request Trigger", "E", "0..1", NONE),
    row(10, "APN Link", "RW", "0..1", OBJLNK),
    row(11, "TLS-DTLS Alert Code", "R", "0..1", UNSIGNED, "0..255"),
    row(12, "Last Bootstrapped", "R", "0..1", TIME),
    row(13, "Registration Priority Order", "", "0..1", UNSIGNED),
    row(14, "Initial Registration Delay Timer", "", "0..1", UNSIGNED, "", "s"),
    row(15, "Registration Failure Block", "", "0..1", BOOLEAN),
    row(16, "Bootstrap on Registration Failure", "", "0..1", BOOLEAN),
    row(17, "Communication Retry Count", "", "0..1", UNSIGNED),
    row(18, "Communication Retry Timer", "", "0..1", UNSIGNED, "", "s"),
    row(19, "Communication Sequence Delay Timer", "", "0..1", UNSIGNED),
    row(20, "Communication Sequence Retry Count", "", "0..1", UNSIGNED),
    row(21, "Trigger", "RW", "0..1", BOOLEAN),
    row(22, "Preferred Transport", "RW", "0..1", STRING),
    row(23, "Mute Send", "RW", "0..1", BOOLEAN),
)
_SERVER_1_2 = revise(
    _SERVER_1_1,
    row(13, "Registration Priority Order", "R", "0..1", UNSIGNED),
    row(14, "Initial Registration Delay Timer", "RW", "0..1", UNSIGNED, "", "s"),
    row(15, "Registration Failure Block", "R", "0..1", BOOLEAN),
    row(16, "Bootstrap on Registration Failure", "R", "0..1", BOOLEAN),
    row(17, "Communication Retry Count", "RW", "0..1", UNSIGNED),
    row(18, "Communication Retry Timer", "RW", "0..1", UNSIGNED, "", "s"),
    row(19, "Communication Sequence Delay Timer", "RW", "0..1", UNSIGNED, "", "s"),
    row(20, "Communication Sequence Retry Count", "RW", "0..1", UNSIGNED),
    row(24, "Alternate APN Links", "RW", "0..n", OBJLNK),
    row(25, "Supported Server Versions", "RW", "0..n", STRING),
    row(26, "Default Notification Mode", "RW", "0..1", INTEGER, "0..1"),
    row(27, "Profile ID Hash Algorithm", "RW", "0..1", UNSIGNED, "0..255"),
)
SERVER = versions_of(
    1, "LwM2M Server", multiple=True, mandatory=True, v1_0=_SERVER_1_0, v1_1=_SERVER_1_1, v1_2=_SERVER_1_2
)

_ACCESS_CONTROL_1_0 = (
    row(0, "Object ID", "R", "1", INTEGER, "1..65534"),
    row(1, "Object Instance ID", "R", "1", INTEGER, "0..65535"),
    row(2, "ACL", "RW", "0..n", INTEGER, "16-bit"),
    row(3, "Access Control Owner", "RW", "1", INTEGER, "0..65535"),
)
_ACCESS_CONTROL_1_1 = revise(
    _ACCESS_CONTROL_1_0,
    row(2, "ACL", "RW", "0..n", INTEGER, "0..31"),
)
ACCESS_CONTROL = versions_of(
    2, "LwM2M Access Control", multiple=True, v1_0=_ACCESS_CONTROL_1_0, v1_1=_ACCESS_CONTROL_1_1
)

MODELS = (*SECURITY, *SERVER, *ACCESS_CONTROL)
