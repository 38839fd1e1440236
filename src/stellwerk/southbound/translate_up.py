"""A CoAP request of a device becomes an LwM2M operation, or the code that refuses it (contract §4, §6); what `app`
says of it becomes the answer."""

from typing import Final

from stellwerk.app.device_ports import Acknowledgement
from stellwerk.coap import actions, codes
from stellwerk.coap.events import RequestReceived
from stellwerk.coap.options import MAX_AGE, encode_uint
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


def respond(exchange: int, acknowledgement: Acknowledgement) -> actions.Respond:
    """The answer. A refusal says why in its payload, a success has what was asked for."""
    code = coap_code(acknowledgement.status)
    if codes.is_success(code):
        return actions.Respond(
            exchange,
            code,
            (RD, acknowledgement.location) if acknowledgement.location else (),
            None if acknowledgement.content_format < 0 else acknowledgement.content_format,
            payload=acknowledgement.payload,
        )
    return actions.Respond(
        exchange,
        code,
        options=((MAX_AGE, encode_uint(acknowledgement.max_age_s)),) if acknowledgement.max_age_s else (),
        payload=acknowledgement.detail.encode(),
        ask_echo=acknowledgement.prove,
    )


def coap_code(status: int) -> int:
    """``204`` becomes 2.04 on the wire."""
    return (status // 100) << 5 | status % 100


def status_of(code: int) -> int:
    """2.04 on the wire becomes ``204``."""
    return (code >> 5) * 100 + (code & 31)
