"""Object security: OSCORE and COSE contexts (Core 1.2.2 App. E)."""

from stellwerk.lwm2m.schema.builtin.table import INTEGER, OPAQUE, STRING, revise, row, versions_of

_OSCORE_1_0 = (
    row(0, "OSCORE Master Secret", "", "1", STRING),
    row(1, "OSCORE Sender ID", "", "1", STRING),
    row(2, "OSCORE Recipient ID", "", "1", STRING),
    row(3, "OSCORE AEAD Algorithm", "", "0..1", INTEGER),
    row(4, "OSCORE HMAC Algorithm", "", "0..1", INTEGER),
    row(5, "OSCORE Master Salt", "", "0..1", STRING),
)
_OSCORE_1_1 = revise(
    _OSCORE_1_0,
    row(6, "OSCORE ID Context", "", "0..1", STRING),
)
_OSCORE_2_0 = revise(
    _OSCORE_1_1,
    row(0, "OSCORE Master Secret", "", "1", OPAQUE),
    row(1, "OSCORE Sender ID", "", "1", OPAQUE),
    row(2, "OSCORE Recipient ID", "", "1", OPAQUE),
    row(5, "OSCORE Master Salt", "", "0..1", OPAQUE),
    row(6, "OSCORE ID Context", "", "0..1", OPAQUE),
)
OSCORE = versions_of(21, "LWM2M OSCORE", multiple=True, v1_0=_OSCORE_1_0, v1_1=_OSCORE_1_1, v2_0=_OSCORE_2_0)

_COSE_1_0 = (
    row(0, "KID", "", "1", STRING),
    row(1, "AEAD Algorithm", "", "1", INTEGER),
    row(2, "Key", "", "1", STRING),
)
COSE = versions_of(23, "LwM2M COSE", multiple=True, v1_0=_COSE_1_0)

MODELS = (*OSCORE, *COSE)
