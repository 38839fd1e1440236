"""Tickets open under the keys that are known, and only as they were sealed."""

import pytest
from dtls_values import CountedEntropy
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.tickets import TicketKey, Tickets

OLD = TicketKey(b"o" * 16, b"1" * 16)
NEW = TicketKey(b"n" * 16, b"2" * 32)


def tickets(*keys: TicketKey) -> Tickets:
    return Tickets(keys, CountedEntropy())


@pytest.mark.spec("RFC 5077 4")
@given(st.binary(max_size=100))
@settings(max_examples=40, deadline=None)
def test_what_is_sealed_opens_also_for_another_instance(state: bytes) -> None:
    ticket = tickets(NEW).seal(state)
    assert tickets(NEW).open(ticket) == state
    assert state not in ticket or len(state) < 4


def test_a_ticket_of_an_earlier_key_opens_until_that_key_is_gone() -> None:
    ticket = tickets(OLD).seal(b"state")
    assert tickets(NEW, OLD).open(ticket) == b"state"
    assert tickets(NEW).open(ticket) is None
    assert tickets(NEW, OLD).seal(b"state").startswith(NEW.name)


def test_a_changed_ticket_does_not_open() -> None:
    known = tickets(NEW, OLD)
    ticket = known.seal(b"state")
    for place in range(len(ticket)):
        changed = bytearray(ticket)
        changed[place] ^= 1
        assert known.open(bytes(changed)) is None
    assert known.open(OLD.name + ticket[16:]) is None


@given(st.binary(max_size=80), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_no_ticket(data: bytes, named: bool) -> None:
    assert tickets(NEW).open(NEW.name + data if named else data) is None


def test_no_two_tickets_are_the_same() -> None:
    known = tickets(NEW)
    assert known.seal(b"state") != known.seal(b"state")


def test_keys_do_not_show_and_have_their_lengths() -> None:
    assert "2222" not in repr(NEW)
    with pytest.raises(ValueError, match="16 or 32 bytes"):
        TicketKey(b"n" * 16, b"short")
    with pytest.raises(ValueError, match="need a key"):
        tickets()
