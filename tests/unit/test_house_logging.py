"""The watch over log calls, `tests/conftest.py`."""

import logging
from typing import Any

import structlog

log = structlog.get_logger()


def test_a_log_call_with_a_name_and_fields_passes(every_log_call_formats: Any) -> None:
    log.info("registration.expired", endpoint_name="dev1", lifetime_s=86400)
    assert every_log_call_formats.complaints == []


def test_a_log_call_without_an_event_name_is_complained_about(every_log_call_formats: Any) -> None:
    log.info("The device has gone")
    (complaint,) = every_log_call_formats.complaints
    every_log_call_formats.complaints.clear()
    assert "'The device has gone' is no event name" in complaint


def test_a_field_that_json_cannot_carry_is_complained_about(every_log_call_formats: Any) -> None:
    log.debug("message.received", payload=b"\x00")
    (complaint,) = every_log_call_formats.complaints
    every_log_call_formats.complaints.clear()
    assert "message.received" in complaint
    assert "bytes" in complaint


def test_arguments_that_do_not_fit_a_logging_text_are_complained_about(every_log_call_formats: Any) -> None:
    logger = logging.getLogger("stellwerk.test")
    logger.propagate = False
    logger.addHandler(every_log_call_formats)
    logger.warning("%d devices", "many")
    logger.removeHandler(every_log_call_formats)
    (complaint,) = every_log_call_formats.complaints
    every_log_call_formats.complaints.clear()
    assert "'%d devices'" in complaint
