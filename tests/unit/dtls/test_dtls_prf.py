"""Secrets become keys as RFC 5246, 4279 and 7627 say."""

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.prf import Prf, extended_master_secret, key_block, master_secret, prf, psk_premaster, verify_data
from stellwerk.dtls.suites import SUITES


def plain_prf(secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """RFC 5246 5, written down once more."""
    seed = label + seed
    chained, result = seed, b""
    while len(result) < length:
        chained = hmac.digest(secret, chained, "sha256")
        result += hmac.digest(secret, chained + seed, "sha256")
    return result[:length]


@pytest.mark.spec("RFC 5246 5")
@given(st.binary(max_size=100), st.binary(max_size=20), st.binary(max_size=64), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_the_prf_is_chained_hmacs(secret: bytes, label: bytes, seed: bytes, length: int) -> None:
    assert Prf(secret).hmac(seed) == hmac.digest(secret, seed, "sha256")
    assert prf(secret, label, seed, length) == plain_prf(secret, label, seed, length)


@pytest.mark.parametrize("length", [0, 63, 64, 65, 132])
def test_secrets_around_a_hash_block_are_keys_as_any(length: int) -> None:
    assert Prf(b"k" * length).hmac(b"data") == hmac.digest(b"k" * length, b"data", "sha256")


@pytest.mark.spec("RFC 4279 2")
def test_the_premaster_of_a_psk_is_zeros_and_the_key() -> None:
    assert psk_premaster(b"secret") == b"\0\6" + bytes(6) + b"\0\6secret"


@pytest.mark.spec("RFC 5246 8.1", "RFC 7627 4")
def test_master_secrets_have_their_labels_and_order() -> None:
    assert master_secret(b"p", b"c" * 32, b"s" * 32) == plain_prf(b"p", b"master secret", b"c" * 32 + b"s" * 32, 48)
    assert extended_master_secret(b"p", b"h" * 32) == plain_prf(b"p", b"extended master secret", b"h" * 32, 48)


@pytest.mark.spec("RFC 5246 6.3")
@pytest.mark.parametrize("number", SUITES)
def test_the_key_block_is_cut_in_the_standards_order(number: int) -> None:
    suite = SUITES[number]
    mac, key, iv = suite.mac_key_length, suite.key_length, suite.fixed_iv_length
    keys = key_block(suite, Prf(b"m" * 48), b"s" * 32, b"c" * 32)
    parts = (
        keys.client_write_mac_key,
        keys.server_write_mac_key,
        keys.client_write_key,
        keys.server_write_key,
        keys.client_write_iv,
        keys.server_write_iv,
    )
    assert [len(part) for part in parts] == [mac, mac, key, key, iv, iv]
    whole = plain_prf(b"m" * 48, b"key expansion", b"s" * 32 + b"c" * 32, 2 * (mac + key + iv))
    assert b"".join(parts) == whole
    assert "write_key=" not in repr(keys)


@pytest.mark.spec("RFC 5246 7.4.9")
def test_verify_data_is_twelve_bytes_under_its_label() -> None:
    assert verify_data(Prf(b"m" * 48), b"client finished", b"h" * 32) == plain_prf(
        b"m" * 48, b"client finished", b"h" * 32, 12
    )
