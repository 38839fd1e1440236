"""A CoAP request of a device becomes an LwM2M operation, or the code that refuses it (contract §4, §6)."""

from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
from stellwerk.lwm2m.operations import Deregister, Register, Send, Update, Uplink

RD: Final = "rd"
DP: Final = "dp"


def translate_up(request: RequestReceived) -> Uplink | int:
    """The operation, or the CoAP code to answer with: 4.04 for a path that is not ours, 4.05 for a method that the path
    does not have. There is no resource listing: it would amplify (contract §15)."""
    path = request.path
    if path == (DP,):
        if request.code == codes.POST:
            return Send(request.content_format, request.payload)
        return codes.METHOD_NOT_ALLOWED
    if path == (RD,):
        if request.code == codes.POST:
            return Register(request.query, request.content_format, request.payload)
        return codes.METHOD_NOT_ALLOWED
    if len(path) == 2 and path[0] == RD:
        if request.code == codes.POST:
            return Update(path[1], request.query, request.content_format, request.payload)
        if request.code == codes.DELETE:
            return Deregister(path[1])
        return codes.METHOD_NOT_ALLOWED
    return codes.NOT_FOUND


def coap_code(status: int) -> int:
    """``204`` becomes 2.04 on the wire."""
    return (status // 100) << 5 | status % 100


def status_of(code: int) -> int:
    """2.04 on the wire becomes ``204``."""
    return (code >> 5) * 100 + (code & 31)
