"""Signatures verify under their key, scheme and data, and under no others."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, SECP384R1, derive_private_key
from cryptography.hazmat.primitives.hashes import SHA384, SHA512
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.signatures import ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512, SCHEMES, sign, verify

KEY = derive_private_key(4711, SECP256R1())
OTHER = derive_private_key(4712, SECP256R1()).public_key()
LONG_KEY = derive_private_key(4713, SECP384R1())


@pytest.mark.spec("RFC 5246 4.7", "RFC 6979 3.2")
def test_a_signature_verifies_and_repeats() -> None:
    signature = sign(KEY, ECDSA_SHA256, b"data")
    assert signature == sign(KEY, ECDSA_SHA256, b"data")
    assert verify(KEY.public_key(), ECDSA_SHA256, signature, b"data")
    assert not verify(KEY.public_key(), ECDSA_SHA256, signature, b"date")
    assert not verify(KEY.public_key(), ECDSA_SHA384, signature, b"data")
    assert not verify(OTHER, ECDSA_SHA256, signature, b"data")


@pytest.mark.parametrize(("scheme", "hash"), [(ECDSA_SHA384, SHA384()), (ECDSA_SHA512, SHA512())])
def test_longer_hashes_and_curves_verify(scheme: int, hash: SHA384 | SHA512) -> None:
    signature = LONG_KEY.sign(b"data", ECDSA(hash))
    assert verify(LONG_KEY.public_key(), scheme, signature, b"data")


@given(st.sampled_from((*SCHEMES, 0x0203, 0x0401, 0x0807, 0)), st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_bytes_under_any_scheme_are_no_signature(scheme: int, signature: bytes) -> None:
    assert not verify(KEY.public_key(), scheme, signature, b"data")


@pytest.mark.parametrize("scheme", [0x0203, 0x0503, 0x0401])
def test_we_sign_with_one_scheme_alone(scheme: int) -> None:
    with pytest.raises(ValueError, match="no signatures"):
        sign(KEY, scheme, b"data")
