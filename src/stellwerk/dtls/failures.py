"""Why handshakes fail and records are dropped: a closed list, so that it can be counted and looked up."""

from typing import Final

REASONS: Final = {
    "unknown-identity": "no device has this PSK identity, raw public key or certificate",
    "wrong-key": "the peer's Finished does not verify: its pre-shared key is another one than ours",
    "no-common-suite": "the peer offers no cipher suite that we have",
    "no-common-group": "the peer offers neither secp256r1 nor anything else that we have",
    "no-common-certificate-type": "the peer offers neither raw public keys nor X.509 as we have them",
    "no-client-certificate": "the peer sent no certificate although one is needed",
    "bad-certificate": "the peer's certificate or raw public key cannot be read, or its key is none that we take",
    "expired-certificate": "a certificate of the peer's chain is expired",
    "not-yet-valid-certificate": "a certificate of the peer's chain is not valid yet",
    "untrusted-certificate": "the peer's chain leads to no certificate authority that we trust",
    "bad-signature": "the peer's signature does not verify",
    "bad-finished": "the peer's Finished does not verify although keys agree: the handshake was tampered with",
    "bad-message": "a handshake message is malformed",
    "unexpected-message": "a handshake message came out of order",
    "version": "the peer does not speak DTLS 1.2, or over TCP neither TLS 1.2 nor 1.3",
    "no-common-protocol": "the peer offers application protocols by ALPN, and coap is none of them",
    "alert": "the peer sent a fatal alert",
    "closed": "the peer closed its connection in the middle of the handshake",
    "timeout": "the peer fell silent in the middle of the handshake",
    "rate": "too many handshakes of this address or tenant",
    "room": "too many handshakes are under way",
    "not-answered": "our own side could not say who the peer is, or not in time",
    "credentials-changed": "the device's credentials changed during the handshake",
}

DROPS: Final = {
    "format": "no DTLS record",
    "version": "record of another version",
    "cookie": "ClientHello with a wrong or old cookie (answered with a new one)",
    "fragmented": "fragment of a ClientHello: without state it cannot meet its cookie; send it in one datagram",
    "size": "not sent: longer than one record that the peer takes",
    "no-session": "record of a session that we do not have",
    "replayed": "record number seen already, or older than the window",
    "mac": "record that does not verify",
    "epoch": "record of an epoch that is not",
    "plaintext": "unprotected record after the handshake",
    "type": "content type that does not belong there",
    "rate": "ClientHello or connection of an address that begins too many handshakes",
    "silent": "connection for TLS that ended without a byte",
    "room": "no room for what it would need",
    "moved-amplification": "not sent: more than three times what came from an unproven new address",
    "held": "not sent: no stored sequence numbers left, or too much waits for them",
}
