"""Alerts are two bytes with a meaning, or refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.alerts import AlertDescription, AlertFormatError, AlertLevel, decode_alert, encode_alert


@pytest.mark.spec("RFC 5246 7.2")
def test_alerts_are_read_as_written() -> None:
    for level in AlertLevel:
        for description in AlertDescription:
            alert = decode_alert(encode_alert(level, description))
            assert (alert.level, alert.description) == (level, description)
            assert alert.is_fatal == (level == 2)


@given(st.binary(max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_an_alert_or_an_error(data: bytes) -> None:
    try:
        alert = decode_alert(data)
    except AlertFormatError:
        assert len(data) != 2 or data[0] not in (1, 2)
    else:
        assert encode_alert(alert.level, alert.description) == data


def test_alerts_have_the_standards_names_and_unknown_ones_their_number() -> None:
    assert str(decode_alert(b"\2\x73")) == "unknown_psk_identity (115)"
    assert str(decode_alert(b"\1\xc8")) == "unknown alert (200)"
