"""What a server chooses of what a ClientHello offers (RFC 5246 §7.4.1, RFC 7250 §4, RFC 8422 §5.1), or why there is
nothing to choose."""

from typing import Final, NamedTuple

from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.extensions import RAW_PUBLIC_KEY_TYPE, SECP256R1, UNCOMPRESSED, X509_TYPE, Extensions
from stellwerk.dtls.machine import HandshakeFault
from stellwerk.dtls.messages import ClientHello
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.dtls.records import DTLS_1_2
from stellwerk.dtls.signatures import ECDSA_SHA256
from stellwerk.dtls.suites import EMPTY_RENEGOTIATION_INFO, Suite, choose, suite_name

LEAST_RECORD_SIZE: Final = 64
"""Of a record_size_limit (RFC 8449 §4)."""
MAX_FRAGMENT_LENGTHS: Final = {1: 512, 2: 1024, 3: 2048, 4: 4096}
"""Bytes by code (RFC 6066 §4)."""


class Choice(NamedTuple):
    """``reply``: the extensions that go with the suite; the certificate types mean nothing with PSK."""

    suite: Suite
    client_type: int
    server_type: int
    reply: Extensions


def choose_full(hello: ClientHello, parameters: ServerParameters, *, has_chain: bool) -> Choice:
    """What a full handshake uses. Raises `HandshakeFault` with the reason that helps: which side lacks what."""
    suite = choose(hello.suites, psk=True, ecdhe=False, cbc=False)
    if suite is not None:
        # We like it best, whatever else is offered (`suites`).
        return Choice(suite, X509_TYPE, X509_TYPE, Extensions())
    offered = hello.extensions
    types = _certificate_types(offered, parameters, has_chain)
    obstacle = _obstacle(offered, parameters, types)
    suite = choose(hello.suites, psk=True, ecdhe=obstacle is None, cbc=parameters.cbc)
    if suite is None:
        if obstacle is not None and choose(hello.suites, psk=False, ecdhe=True, cbc=parameters.cbc) is not None:
            raise HandshakeFault(*obstacle, AlertDescription.HANDSHAKE_FAILURE)
        names = ", ".join(suite_name(each) for each in hello.suites[:16] if each != EMPTY_RENEGOTIATION_INFO)
        raise HandshakeFault(
            "no-common-suite",
            f"the client offers {names}; we have AES-128-CCM-8, -CCM and -GCM with PSK or ECDHE-ECDSA"
            + ("" if parameters.cbc else ", and CBC only if it is switched on"),
            AlertDescription.HANDSHAKE_FAILURE,
        )
    client_type, server_type = (X509_TYPE if type is None else type for type in types)
    reply = Extensions()
    if suite.exchange != "psk":
        if offered.client_certificate_types is not None:
            reply.client_certificate_types = (client_type,)
        if offered.server_certificate_types is not None:
            reply.server_certificate_types = (server_type,)
        if offered.point_formats is not None:
            reply.point_formats = (UNCOMPRESSED,)
    return Choice(suite, client_type, server_type, reply)


def _certificate_types(
    offered: Extensions, parameters: ServerParameters, has_chain: bool
) -> tuple[int | None, int | None]:
    """The client's and ours; None: none in common. The client's order counts."""
    ours = ([RAW_PUBLIC_KEY_TYPE] if parameters.rpk else []) + ([X509_TYPE] if parameters.x509 else [])
    # RFC 7250 4.1: without the extension it is X.509.
    client = _first_common(offered.client_certificate_types or (X509_TYPE,), ours)
    if not has_chain and X509_TYPE in ours:
        ours.remove(X509_TYPE)
    return client, _first_common(offered.server_certificate_types or (X509_TYPE,), ours)


def _obstacle(
    offered: Extensions, parameters: ServerParameters, types: tuple[int | None, int | None]
) -> tuple[str, str] | None:
    """Why there cannot be an ECDHE suite: reason and detail."""
    if parameters.identity is None:
        return "no-common-suite", "the client offers ECDHE-ECDSA, and this server has no key of its own"
    groups, formats, schemes = offered.supported_groups, offered.point_formats, offered.signature_algorithms
    if groups is not None and SECP256R1 not in groups:
        return "no-common-group", "the client's supported_groups are without secp256r1 (P-256); switch it on there"
    if formats is not None and UNCOMPRESSED not in formats:
        return "no-common-group", "the client takes no uncompressed points; switch them on there"
    if schemes is not None and ECDSA_SHA256 not in schemes:
        return (
            "no-common-group",
            "the client's signature_algorithms are without ecdsa_secp256r1_sha256; switch it on there",
        )
    for whose, type, names in (
        ("its own", types[0], offered.client_certificate_types),
        ("the server's", types[1], offered.server_certificate_types),
    ):
        if type is None:
            return "no-common-certificate-type", f"for {whose} key the client offers {_names(names)}, not had here"
    return None


def check_hello(hello: ClientHello) -> None:
    """Raises `HandshakeFault` for what no server could answer."""
    offered = hello.extensions
    # DTLS versions count down.
    if hello.version >> 8 != DTLS_1_2 >> 8 or hello.version > DTLS_1_2:
        raise HandshakeFault(
            "version",
            f"the client's newest version is {hello.version:#06x}; give it DTLS 1.2, which is {DTLS_1_2:#06x}",
            AlertDescription.PROTOCOL_VERSION,
        )
    fault: tuple[str, int] | None = None
    if 0 not in hello.compression:
        fault = "a ClientHello without null compression", AlertDescription.ILLEGAL_PARAMETER
    elif offered.renegotiation_info:
        fault = "a ClientHello that renegotiates what is not there", AlertDescription.HANDSHAKE_FAILURE
    elif offered.record_size_limit is not None and offered.record_size_limit < LEAST_RECORD_SIZE:
        fault = f"a record_size_limit below {LEAST_RECORD_SIZE}", AlertDescription.ILLEGAL_PARAMETER
    elif offered.max_fragment_length is not None and offered.max_fragment_length not in MAX_FRAGMENT_LENGTHS:
        fault = f"a max_fragment_length of {offered.max_fragment_length}", AlertDescription.ILLEGAL_PARAMETER
    if fault is not None:
        raise HandshakeFault("bad-message", *fault)


def _first_common(offered: tuple[int, ...], ours: list[int]) -> int | None:
    return next((type for type in offered if type in ours), None)


def _names(types: tuple[int, ...] | None) -> str:
    names = {X509_TYPE: "X.509", RAW_PUBLIC_KEY_TYPE: "raw public key"}
    return " or ".join(names.get(type, f"type {type}") for type in (types or (X509_TYPE,))[:4])
