"""Static bearer tokens."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.northbound.auth import Access, SignedTokens, Tokens, Unauthorized

EVERYWHERE = Access(frozenset({"acme"}))
HERE = Access(frozenset({"acme"}), "r", loopback_only=True)
TOKENS = Tokens({"key": EVERYWHERE, "demo": HERE})


@pytest.mark.spec("D2C 5")
@pytest.mark.parametrize("header", ["Bearer key", "bearer key", "BEARER   key "])
def test_a_known_token_opens_its_tenants(header: str):
    assert TOKENS.access(header, "192.0.2.7") == EVERYWHERE


@pytest.mark.spec("D2C 5")
@pytest.mark.parametrize(
    "header", [None, "", "key", "Bearer", "Bearer ", "Bearer ke", "Bearer key2", "Basic key", "Bearer \xff"]
)
def test_anything_else_opens_nothing(header: str | None):
    with pytest.raises(Unauthorized):
        TOKENS.access(header, "127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_token_works_on_this_machine(host: str):
    assert TOKENS.access("Bearer demo", host) == HERE


@pytest.mark.parametrize("host", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "localhost", "", None])
def test_a_loopback_token_works_nowhere_else(host: str | None):
    with pytest.raises(Unauthorized, match="own machine"):
        TOKENS.access("Bearer demo", host)


def test_a_loopback_token_does_not_work_through_a_proxy():
    with pytest.raises(Unauthorized, match="own machine"):
        TOKENS.access("Bearer demo", "127.0.0.1", forwarded=True)


def test_tokens_do_not_show_themselves():
    assert "key" not in repr(vars(TOKENS))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["alg", "crit", "b64", "kid", "jwk", "jku", "typ", "cty", "zip", "enc", "x5c", "x5u"])


HEADERS = st.dictionaries(NAMES, JSON | st.sampled_from(["HS256", "none", ["b64"], ["exp"], 5]), max_size=5)


@given(HEADERS, JSON, st.binary())
def test_a_token_that_anybody_made_up_is_unknown_whatever_it_says(header: object, claims: object, signature: bytes):
    signed = Tokens({}, SignedTokens(bytes(32), lambda: 0))
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    token = ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)
    with pytest.raises(Unauthorized):
        signed.access(f"Bearer {token}", "192.0.2.7")


def test_a_token_whose_header_is_wrong_in_kind_is_unknown():
    signed = Tokens({}, SignedTokens(bytes(32), lambda: 0))
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","crit":5}').rstrip(b"=").decode()
    with pytest.raises(Unauthorized):
        signed.access(f"Bearer {header}.e30.AA", "192.0.2.7")
