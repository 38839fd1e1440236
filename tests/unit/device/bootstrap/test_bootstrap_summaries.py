"""What people are shown of bootstrap payloads: everything they need, and no secret in any spelling."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.device.bootstrap.summaries import MAX_CHARACTERS, heard, secrets_in, summarize
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path

KEY = bytes.fromhex("00112233445566778899aabbccddeeff")


def security(mode: int, identity: bytes, secret: bytes = KEY, **more: object) -> Content:
    entries = {0: "coaps://dm.example:5684", 1: False, 2: mode, 3: identity, 5: secret, 10: 123}
    return Content(tuple(Entry(Path(0, 1, each), value) for each, value in entries.items()))


@pytest.mark.spec("B-16")
def test_a_psk_account_is_shown_with_its_identity_and_without_its_key():
    assert summarize(security(0, b"dev1-7f"), Path(0, 1)) == (
        "0 LWM2M Server URI: coaps://dm.example:5684; 1 Bootstrap-Server: false; 2 Security Mode: 0; "
        "3 Public Key or Identity: dev1-7f; 5 Secret Key: 16 bytes, not shown; 10 Short Server ID: 123"
    )


def test_public_keys_and_certificates_are_shown_by_their_length():
    text = summarize(security(2, bytes(300)), Path(0, 1))
    assert "3 Public Key or Identity: 300 bytes;" in text
    assert "identity" not in summarize(Content((Entry(Path(0, 1, 3), b"identity"),)), Path(0, 1))


def test_an_oscore_context_is_shown_by_its_identifiers_alone():
    content = Content(
        (
            Entry(Path(21, 2, 0), KEY),
            Entry(Path(21, 2, 1), b"\x01\x02"),
            Entry(Path(21, 2, 2), b""),
            Entry(Path(21, 2, 3), 10),
            Entry(Path(21, 2, 5), b"saltsalt"),
        )
    )
    assert summarize(content, Path(21, 2)) == (
        "0 OSCORE Master Secret: 16 bytes, not shown; 1 OSCORE Sender ID: 0102; 2 OSCORE Recipient ID: empty; "
        "3 OSCORE AEAD Algorithm: 10; 5 OSCORE Master Salt: 8 bytes, not shown"
    )


def test_values_of_objects_that_nobody_here_knows_are_not_shown():
    content = Content((Entry(Path(12, 0, 9), "wlan password"), Entry(Path(24, 0, 8), b"password")), (Path(9, 1),))
    assert summarize(content, Path()) == ("12/0/9 Channel: not shown; 24/0/8 Password: 8 bytes, not shown; /9/1 empty")


def test_a_long_payload_is_cut_and_says_so():
    content = Content(tuple(Entry(Path(1, each, 7), "U" * 90) for each in range(50)))
    text = summarize(content, Path(1))
    assert len(text) < MAX_CHARACTERS + 20
    assert text.endswith(" more")


@pytest.mark.parametrize(
    "said",
    [
        b"bad value " + KEY,
        f"bad value {KEY.hex()}".encode(),
        f"bad value {KEY.hex(':').upper()}".encode(),
        b"bad value " + base64.b64encode(KEY),
        b"bad value " + base64.b64encode(KEY + b"more"),
    ],
)
def test_a_device_that_repeats_a_secret_is_not_quoted(said: bytes):
    text = heard(said, secrets_in(security(0, b"dev1")))
    assert text == f"{len(said)} bytes that repeat a secret, not shown"


def test_what_a_device_says_becomes_one_short_line():
    assert heard(b"no\nsuch\x00 object \xff") == "no such  object \ufffd"
    assert len(heard(b"x" * 100_000)) == 500


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 21, 23, 24, 12]),
            st.integers(0, 30),
            st.one_of(st.just(KEY), st.booleans(), st.integers(), st.text(max_size=200)),
        )
    )
)
def test_no_key_is_ever_in_a_summary_and_every_summary_is_short(found: list[tuple[int, int, object]]):
    entries = tuple(Entry(Path(each, 0, resource), value) for each, resource, value in found)  # type: ignore[arg-type]
    text = summarize(Content((Entry(Path(0, 0, 2), 0), *entries)), Path())
    assert len(text) < MAX_CHARACTERS + 20
    shown = [each for each in found if each[0] == 0 and each[1] == 3] + [each for each in found if each[0] == 21]
    if not any(each[2] == KEY for each in shown):
        assert KEY.hex() not in text
        assert KEY.decode(errors="replace") not in text
