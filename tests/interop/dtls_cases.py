"""The table of the DTLS matrix: which program, in which role, by which mode and suite, shows what; or why not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from secure_peers import (
    ECDHE_CBC,
    ECDHE_CCM,
    ECDHE_CCM_8,
    ECDHE_GCM,
    PSK_CBC,
    PSK_CCM,
    PSK_CCM_8,
    PSK_GCM,
    SUITES,
)

AS_CLIENT, AS_SERVER = "client", "server"
WORDS = {"yes": "{}", "no": "no-{}"}
OURS_NAMED = {"tickets", "record_size_limit", "max_fragment_length", "cid", "extended_master_secret"}


@dataclass(frozen=True)
class Case:
    """``role``: the other program's. ``extra``: what is shown beside a talk (`test_dtls_matrix.EXTRAS`). ``theirs``:
    options of the other program. ``ours``: parameters of our engine that are not the usual ones. ``cannot``: why there
    is nothing to show."""

    peer: str
    role: str
    mode: str
    suite: int
    extra: str = "talk"
    theirs: tuple[tuple[str, str], ...] = ()
    ours: tuple[tuple[str, Any], ...] = ()
    kept: bool = False
    cannot: str = ""

    @property
    def name(self) -> str:
        suite = SUITES.get(self.suite, "its-suites").partition("-")[2] if self.suite else ""
        extra = self.extra if self.extra != "talk" else ""
        words = [WORDS.get(value, "{}" + value).format(name) for name, value in self.theirs if name != "session_out"]
        words += [f"our-{name}{_short(value)}" for name, value in self.ours if name in OURS_NAMED]
        return "-".join(filter(None, (self.peer, self.role, self.mode, suite, extra, *words)))

    @property
    def shows(self) -> str:
        """As a line of the summary: everything but the peer."""
        return self.name.removeprefix(self.peer + "-")


def _short(value: Any) -> str:
    return "" if value is True else str(len(value) if isinstance(value, bytes) else value)


PSK_SUITES = (PSK_CCM_8, PSK_CCM, PSK_GCM)
ECDHE_SUITES = (ECDHE_CCM_8, ECDHE_CCM, ECDHE_GCM)
CBC = (("cbc", True),)
SMALL = (("mtu", 256),)


def options(**named: str) -> tuple[tuple[str, str], ...]:
    return tuple(named.items())


def openssl_cases() -> Iterator[Case]:
    for role in (AS_CLIENT, AS_SERVER):
        for suite in PSK_SUITES:
            yield Case("openssl", role, "psk", suite, kept=suite == PSK_CCM_8)
        for suite in ECDHE_SUITES:
            yield Case("openssl", role, "x509", suite, kept=suite == ECDHE_CCM_8)
        yield Case("openssl", role, "x509", ECDHE_GCM, theirs=options(mtu="256"), ours=SMALL)
        yield Case("openssl", role, "rpk", 0, cannot="OpenSSL 3.0 has no raw public keys (they came with 3.2)")
        for mode, suite in (("psk", PSK_CBC), ("x509", ECDHE_CBC)):
            ours = CBC if role == AS_CLIENT else ()
            yield Case("openssl", role, mode, suite, ours=ours)
            yield Case("openssl", role, mode, suite, theirs=options(etm="no"), ours=ours)
    yield Case("openssl", AS_CLIENT, "x509", ECDHE_CCM_8, "split-finished", options(mtu="295"), SMALL, kept=True)
    yield Case("openssl", AS_SERVER, "psk", PSK_CCM_8, theirs=options(cookie="yes"))
    kept_session = {"session_out": "session.pem"}
    yield Case("openssl", AS_CLIENT, "psk", PSK_CCM_8, "resumed", options(**kept_session, ticket="no"), kept=True)
    yield Case("openssl", AS_CLIENT, "psk", PSK_GCM, "resumed", options(**kept_session))
    yield Case("openssl", AS_CLIENT, "x509", ECDHE_CCM_8, "resumed", options(**kept_session, ticket="no"))
    yield Case("openssl", AS_CLIENT, "x509", ECDHE_CCM_8, "resumed", options(**kept_session))
    # Its whole chain is too long for a ticket.
    yield Case("openssl", AS_CLIENT, "x509", ECDHE_CCM_8, "resumed", options(**kept_session, root="yes"))
    yield Case("openssl", AS_CLIENT, "psk", PSK_CCM_8, "resumption-refused", options(**kept_session))
    yield Case("openssl", AS_SERVER, "psk", PSK_CCM_8, "resumed", options(ticket="no"), kept=True)
    yield Case("openssl", AS_SERVER, "psk", PSK_CCM_8, "resumed", ours=(("tickets", True),))
    yield Case("openssl", AS_SERVER, "x509", ECDHE_CCM_8, "resumed", options(ticket="no"))
    yield Case("openssl", AS_SERVER, "x509", ECDHE_CCM_8, ours=(("max_fragment_length", 1),))
    yield Case("openssl", AS_SERVER, "psk", PSK_CCM_8, ours=(("extended_master_secret", False),))
    yield Case("openssl", AS_CLIENT, "psk", PSK_CCM_8, "wrong-key", kept=True)
    yield Case("openssl", AS_CLIENT, "psk", PSK_CCM_8, "unknown-identity")
    # It says nothing about a Finished that it cannot read.
    impatient = (("first_timeout_s", 0.3), ("repetitions", 2))
    yield Case("openssl", AS_SERVER, "psk", PSK_CCM_8, "wrong-key", ours=impatient)
    yield Case("openssl", AS_CLIENT, "x509", ECDHE_CCM_8, "stranger")
    yield Case("openssl", AS_CLIENT, "psk", PSK_CCM_8, "renegotiates")
    yield Case("openssl", AS_CLIENT, "psk", PSK_CCM_8, "leaves")
    yield Case("openssl", AS_CLIENT, "psk", PSK_CCM_8, "moves", cannot="OpenSSL has no connection IDs")


def gnutls_cases() -> Iterator[Case]:
    for role in (AS_CLIENT, AS_SERVER):
        for suite in PSK_SUITES:
            yield Case("gnutls", role, "psk", suite, kept=suite == PSK_CCM_8)
        for mode in ("rpk", "x509"):
            for suite in ECDHE_SUITES:
                yield Case("gnutls", role, mode, suite, kept=suite == ECDHE_CCM_8)
        ours = CBC if role == AS_CLIENT else ()
        yield Case("gnutls", role, "psk", PSK_CBC, ours=ours)
        yield Case("gnutls", role, "rpk", ECDHE_CBC, theirs=options(etm="no"), ours=ours)
    yield Case("gnutls", AS_CLIENT, "x509", ECDHE_CCM_8, theirs=options(mtu="300"), ours=SMALL)
    yield Case("gnutls", AS_CLIENT, "psk", PSK_CCM_8, "resumed", options(resume="yes", ticket="no"))
    yield Case("gnutls", AS_CLIENT, "psk", PSK_CCM_8, "resumed", options(resume="yes"))
    yield Case("gnutls", AS_CLIENT, "rpk", ECDHE_CCM_8, "resumed", options(resume="yes"))
    yield Case("gnutls", AS_SERVER, "psk", PSK_CCM_8, "resumed", options(ticket="no"))
    yield Case("gnutls", AS_SERVER, "rpk", ECDHE_CCM_8, "resumed", ours=(("tickets", True),))
    yield Case("gnutls", AS_SERVER, "x509", ECDHE_CCM_8, ours=(("record_size_limit", 600),))
    yield Case("gnutls", AS_SERVER, "x509", ECDHE_CCM_8, ours=(("max_fragment_length", 1),))
    yield Case("gnutls", AS_CLIENT, "psk", PSK_CCM_8, theirs=options(ems="no"))
    yield Case("gnutls", AS_CLIENT, "psk", PSK_CCM_8, "wrong-key")
    yield Case("gnutls", AS_CLIENT, "rpk", ECDHE_CCM_8, "stranger")
    yield Case("gnutls", AS_CLIENT, "psk", PSK_CCM_8, "moves", cannot="GnuTLS 3.7 has no connection IDs")


def mbedtls_cases() -> Iterator[Case]:
    for role in (AS_CLIENT, AS_SERVER):
        for suite in PSK_SUITES:
            yield Case("mbedtls", role, "psk", suite, kept=suite == PSK_CCM_8)
        for suite in ECDHE_SUITES:
            yield Case("mbedtls", role, "x509", suite, kept=suite == ECDHE_CCM_8)
    yield Case("mbedtls", AS_CLIENT, "psk", PSK_CBC, ours=CBC)
    yield Case("mbedtls", AS_CLIENT, "x509", ECDHE_CCM_8, theirs=options(fragment="1"))
    yield Case("mbedtls", AS_CLIENT, "psk", PSK_CCM_8, "wrong-key")
    yield Case("mbedtls", AS_CLIENT, "x509", ECDHE_CCM_8, "stranger")
    yield Case("mbedtls", AS_CLIENT, "rpk", 0, cannot="Mbed TLS 2.28 has no raw public keys")
    yield Case("mbedtls", AS_CLIENT, "psk", PSK_CCM_8, "moves", cannot="this Mbed TLS is built without connection IDs")
    yield Case("mbedtls", AS_CLIENT, "psk", PSK_CCM_8, "resumed", cannot="its Python binding keeps no session")


def libcoap_cases() -> Iterator[Case]:
    for library in ("openssl", "gnutls"):
        peer = f"libcoap-{library}"
        for role in (AS_CLIENT, AS_SERVER):
            yield Case(peer, role, "psk", 0, kept=True)
            yield Case(peer, role, "x509", 0, kept=True)
            no_rpk = "" if library == "gnutls" else "libcoap over OpenSSL has no raw public keys"
            yield Case(peer, role, "rpk", 0, kept=not no_rpk, cannot=no_rpk)
        yield Case(peer, AS_CLIENT, "psk", 0, "wrong-key")
        yield Case(peer, AS_CLIENT, "psk", 0, "moves", cannot="libcoap 4.3.1 has no connection IDs")


def scandium_cases() -> Iterator[Case]:
    for role in (AS_CLIENT, AS_SERVER):
        for suite in PSK_SUITES:
            yield Case("scandium", role, "psk", suite, kept=suite == PSK_CCM_8)
        for mode in ("rpk", "x509"):
            for suite in ECDHE_SUITES:
                yield Case("scandium", role, mode, suite, kept=suite == ECDHE_CCM_8)
        # 0: takes one, needs none.
        for length in ("0", "6") if role == AS_CLIENT else ("6",):
            ours = () if role == AS_CLIENT else (("cid", b""),)
            cid = options(cid=length)
            yield Case("scandium", role, "psk", PSK_CCM_8, "moves", cid, ours, kept=length == "6")
        yield Case("scandium", role, "psk", PSK_CCM_8, "resumed")
    yield Case("scandium", AS_CLIENT, "rpk", ECDHE_CCM_8, "moves", options(cid="0"))
    yield Case("scandium", AS_CLIENT, "x509", ECDHE_CCM_8, "moves", options(cid="8"))
    yield Case("scandium", AS_SERVER, "psk", PSK_CCM_8, "moves", options(cid="6"), (("cid", b"ours"),))
    yield Case("scandium", AS_CLIENT, "psk", PSK_CCM_8, "resumed", options(cid="6"), kept=True)
    yield Case("scandium", AS_CLIENT, "rpk", ECDHE_CCM_8, "resumed", options(cid="0"))
    yield Case("scandium", AS_CLIENT, "psk", PSK_CCM_8, "resumption-refused", options(cid="0"))
    yield Case("scandium", AS_CLIENT, "psk", PSK_CBC, ours=CBC)
    yield Case("scandium", AS_CLIENT, "x509", ECDHE_CBC, ours=CBC)
    yield Case("scandium", AS_CLIENT, "x509", ECDHE_CCM_8, theirs=options(limit="200"))
    yield Case("scandium", AS_SERVER, "x509", ECDHE_CCM_8, ours=(("record_size_limit", 300),))
    yield Case("scandium", AS_CLIENT, "psk", PSK_CCM_8, "wrong-key")
    yield Case("scandium", AS_CLIENT, "psk", PSK_CCM_8, "unknown-identity")
    yield Case("scandium", AS_CLIENT, "rpk", ECDHE_CCM_8, "stranger")
    yield Case("scandium", AS_CLIENT, "x509", ECDHE_CCM_8, "stranger")


def tinydtls_cases() -> Iterator[Case]:
    yield Case("tinydtls", AS_CLIENT, "psk", PSK_CCM_8, kept=True)
    yield Case("tinydtls", AS_SERVER, "psk", PSK_CCM_8, kept=True)
    yield Case("tinydtls", AS_CLIENT, "psk", PSK_CCM_8, "wrong-key")
    yield Case("tinydtls", AS_CLIENT, "rpk", 0, cannot="the Python binding of tinydtls has pre-shared keys alone")
    yield Case("tinydtls", AS_CLIENT, "x509", 0, cannot="tinydtls has no X.509")
    yield Case("tinydtls", AS_CLIENT, "psk", PSK_CCM_8, "moves", cannot="tinydtls has no connection IDs here")


def lossy_cases() -> Iterator[Case]:
    quick = (("first_timeout_s", 0.5),)
    for peer in ("openssl", "gnutls", "scandium"):
        yield Case(peer, AS_CLIENT, "psk", PSK_CCM_8, "lossy")
        yield Case(peer, AS_SERVER, "psk", PSK_CCM_8, "lossy", ours=quick)
    yield Case("libcoap-openssl", AS_CLIENT, "psk", 0, "lossy")
    yield Case("libcoap-gnutls", AS_CLIENT, "psk", 0, "lossy")
    for peer in ("mbedtls", "tinydtls"):
        yield Case(peer, AS_CLIENT, "psk", PSK_CCM_8, "lossy", cannot="its Python binding runs no timers")


CASES = [
    *openssl_cases(), *gnutls_cases(), *mbedtls_cases(), *tinydtls_cases(), *libcoap_cases(), *scandium_cases(),
    *lossy_cases(),
]  # fmt: skip
