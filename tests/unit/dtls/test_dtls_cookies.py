"""A cookie is good for who got it, for the same hello, for a while."""

from dataclasses import replace

import pytest
from dtls_values import CountedEntropy

from stellwerk.core.ids import PeerId
from stellwerk.dtls.cookies import SECRET_LIFETIME_S, Cookies
from stellwerk.dtls.extensions import Extensions
from stellwerk.dtls.messages import ClientHello, encode_client_hello, outline_client_hello

ADDRESS = PeerId("udp", "192.0.2.1", 5000, "198.51.100.1", 5684)
HELLO = ClientHello(0xFEFD, b"r" * 32, b"session", b"", (0xC0A8, 0x00FF), b"\0", Extensions(connection_id=b""))


def cookie_for(cookies: Cookies, hello: ClientHello) -> bytes:
    body = encode_client_hello(hello)
    return cookies.cookie_for(ADDRESS, body, outline_client_hello(body))


def is_valid(cookies: Cookies, address: PeerId, hello: ClientHello) -> bool:
    body = encode_client_hello(hello)
    return cookies.is_valid(address, body, outline_client_hello(body))


def made(now: float = 0.0) -> tuple[Cookies, ClientHello]:
    cookies = Cookies(CountedEntropy())
    cookies.rotate(now)
    return cookies, replace(HELLO, cookie=cookie_for(cookies, HELLO))


@pytest.mark.spec("RFC 6347 4.2.1")
@pytest.mark.parametrize(
    ("address", "changes"),
    [
        (ADDRESS._replace(remote_host="192.0.2.2"), {}),
        (ADDRESS._replace(remote_port=5001), {}),
        (ADDRESS._replace(local_port=5685), {}),
        (ADDRESS, {"version": 0xFEFF}),
        (ADDRESS, {"random": b"R" * 32}),
        (ADDRESS, {"session_id": b""}),
        (ADDRESS, {"suites": (0xC0A8,)}),
        (ADDRESS, {"compression": b"\0\1"}),
        (ADDRESS, {"cookie": b""}),
        (ADDRESS, {"cookie": b"c" * 16}),
    ],
)
def test_a_cookie_is_good_for_one_address_and_one_hello(address: PeerId, changes: dict[str, object]) -> None:
    cookies, hello = made()
    assert is_valid(cookies, ADDRESS, hello)
    assert not is_valid(cookies, address, replace(hello, **changes))


def test_a_cookie_outlives_one_secret_but_not_two() -> None:
    cookies, hello = made()
    cookies.rotate(SECRET_LIFETIME_S - 1)
    assert cookie_for(cookies, HELLO) == hello.cookie
    cookies.rotate(SECRET_LIFETIME_S)
    assert cookie_for(cookies, HELLO) != hello.cookie
    assert is_valid(cookies, ADDRESS, hello)
    cookies.rotate(2 * SECRET_LIFETIME_S)
    assert not is_valid(cookies, ADDRESS, hello)


def test_a_cookie_from_before_a_long_silence_is_not_good() -> None:
    cookies, hello = made()
    cookies.rotate(2 * SECRET_LIFETIME_S)
    assert not is_valid(cookies, ADDRESS, hello)


def test_fields_cannot_be_shifted_into_each_other() -> None:
    cookies, _ = made()
    one = replace(HELLO, session_id=b"s", suites=(0x0002, 0xC0A8))
    other = replace(HELLO, session_id=b"s\0\4", suites=(0xC0A8,))
    assert cookie_for(cookies, one) != cookie_for(cookies, other)


def test_no_cookie_comes_without_a_secret() -> None:
    cookies = Cookies(CountedEntropy())
    assert not is_valid(cookies, ADDRESS, replace(HELLO, cookie=b"c" * 16))
    with pytest.raises(ValueError, match="rotate"):
        cookie_for(cookies, HELLO)
