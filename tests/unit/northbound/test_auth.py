"""Static bearer tokens."""

import pytest

from stellwerk.northbound.auth import Access, Tokens, Unauthorized

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
