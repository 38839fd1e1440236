"""Values that a fleet repeats."""

from stellwerk.core.sharing import share


def test_equal_texts_become_one() -> None:
    first, second = share("".join(["1", ".1"])), share("".join(["1.", "1"]))
    assert first is second


def test_what_is_equal_but_of_another_type_stays_apart() -> None:
    assert isinstance(share(1), int)
    assert share(True) is True
    assert share(1) is not True


def test_a_long_value_is_not_kept() -> None:
    long = b"</1/0>," * 1000
    assert share(long) is long
    assert share(bytes(bytearray(long))) is not long
