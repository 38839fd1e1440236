"""Alerts that are made here: in the clear, and as the first record under a traffic secret."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.failures import REASONS
from stellwerk.net.tls_alerts import REASON_ALERTS, alert_about, plain_alert, sealed_alert

SECRET = bytes.fromhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
KEY, IV = bytes.fromhex("9f02283b6c9c07efc26bb9f2ac92e356"), bytes.fromhex("cf782b88dd83549aadf1e984")
"""RFC 8448 3: the server's application traffic secret, and what it writes with."""
GIVES_UP = {42, 43, 44, 45, 46, 48, 49, 112, 113, 114, 115}


@pytest.mark.spec("RFC 8446 7.3", "RFC 8446 5.2", "RFC 8448 3")
def test_a_sealed_alert_is_opened_with_the_keys_of_the_standards_example() -> None:
    record = sealed_alert(48, "TLS_AES_128_GCM_SHA256", SECRET)
    assert record[:5] == bytes.fromhex("1703030013")
    assert AESGCM(KEY).decrypt(IV, record[5:], record[:5]) == bytes.fromhex("023015")


@pytest.mark.spec("RFC 5246 7.2")
def test_a_plain_alert_is_a_record_of_two_bytes() -> None:
    assert plain_alert(48) == bytes.fromhex("15030300020230")


@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_client_gives_up_only_where_another_certificate_is_needed() -> None:
    assert REASON_ALERTS.keys() <= REASONS.keys()
    gives_up = {each for each in REASONS if alert_about(each) in GIVES_UP}
    assert gives_up == {each for each in REASON_ALERTS if each.endswith("-certificate")}
    assert alert_about("unknown-identity") is AlertDescription.DECRYPT_ERROR
