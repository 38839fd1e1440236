"""CoAP over TCP, byte for byte, in both directions (contract §1.9)."""

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import encode_options
from stellwerk.coap.tcp import signalling
from stellwerk.coap.tcp.frames import FrameDecoder, decode_frame, encode_frame

# name: (bytes, code, token, options, payload)
VECTORS = {
    "csm 65536 with blocks": ("50e1 23010000 20", signalling.CSM, "", ((2, b"\x01\x00\x00"), (4, b"")), b""),
    "ping": ("00e2", signalling.PING, "", (), b""),
    "register": (
        "d123 02 71 b27264 1128 3765703d64657631 066c743d333030 096c776d326d3d312e31 03623d54"
        "ff3c2f312f303e2c3c2f332f303e",
        codes.POST,
        "71",
        ((11, b"rd"), (12, b"\x28"), (15, b"ep=dev1"), (15, b"lt=300"), (15, b"lwm2m=1.1"), (15, b"b=T")),
        b"</1/0>,</3/0>",
    ),
}


@pytest.mark.spec("RFC 8323 3.2", "RFC 8323 5", "LwM2M-contract 1.9")
@pytest.mark.parametrize("name", VECTORS)
def test_vector(name):
    text, code, token, options, payload = VECTORS[name]
    data = bytes.fromhex(text)
    decoder = FrameDecoder(1152)
    decoder.append(data)
    frame = decoder.next()
    assert frame == data
    message = decode_frame(frame)
    assert (message.code, message.token.hex(), message.options, message.payload) == (code, token, options, payload)
    assert encode_frame(code, message.token, encode_options(options), payload) == data


def test_what_we_announce_is_the_vector():
    capabilities = signalling.decode_csm(decode_frame(bytes.fromhex("50e12301000020")), signalling.Capabilities())
    assert signalling.encode_csm(capabilities).hex() == "50e12301000020"
    assert signalling.encode_ping(b"").hex() == "00e2"
