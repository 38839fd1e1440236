"""Transactions over plain dicts."""

import pytest

from stellwerk.storage.memory_undo import Undo


def test_what_was_written_stays_when_nothing_goes_wrong():
    undo, table = Undo(), {"kept": 1, "gone": 2}
    with undo:
        undo.write(table, "new", 3)
        undo.delete(table, "gone")
    assert table == {"kept": 1, "new": 3}


def write_and_fail(undo: Undo, table: dict[str, int | None]) -> None:
    with undo:
        undo.write(table, "changed", 2)
        undo.write(table, "changed", 3)
        undo.delete(table, "gone")
        undo.write(table, "gone", 4)
        undo.write(table, "new", 5)
        undo.delete(table, "never there")
        raise ValueError


def test_an_error_takes_back_all_of_its_transaction_newest_first():
    undo, table = Undo(), {"changed": 1, "gone": None}
    with pytest.raises(ValueError):
        write_and_fail(undo, table)
    assert table == {"changed": 1, "gone": None}


def test_an_error_takes_nothing_back_of_the_transaction_before():
    undo, table = Undo(), {}
    with undo:
        undo.write(table, "first", 1)
    with pytest.raises(ValueError):
        write_and_fail(undo, table)
    assert table == {"first": 1}
