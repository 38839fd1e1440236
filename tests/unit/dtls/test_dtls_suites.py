"""The suite is the one we like best among those that both have."""

import pytest

from stellwerk.dtls.suites import SUITES, choose, suite_name


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize(
    ("offered", "psk", "ecdhe", "cbc", "chosen"),
    [
        ((0x00A8, 0xC0A4, 0xC0A8), True, True, True, 0xC0A8),
        ((0x00A8, 0xC0A4), True, True, True, 0xC0A4),
        ((0xC02B, 0xC0AE, 0x00FF), True, True, False, 0xC0AE),
        ((0xC0AE, 0xC0A8), True, True, False, 0xC0A8),
        ((0xC0AE, 0xC0A8), False, True, False, 0xC0AE),
        ((0xC0AE, 0xC0A8), True, False, False, 0xC0A8),
        ((0x00AE, 0xC023), True, True, False, None),
        ((0x00AE, 0xC023), True, True, True, 0x00AE),
        ((0xC023,), True, True, True, 0xC023),
        ((0x1301, 0xC0A9), True, True, True, None),
        ((), True, True, True, None),
    ],
)
def test_the_preferred_of_the_offered_is_chosen(
    offered: tuple[int, ...], psk: bool, ecdhe: bool, cbc: bool, chosen: int | None
) -> None:
    suite = choose(offered, psk=psk, ecdhe=ecdhe, cbc=cbc)
    assert (suite.number if suite else None) == chosen


def test_suites_are_named_and_unknown_ones_numbered() -> None:
    assert suite_name(0xC0A8) == "TLS_PSK_WITH_AES_128_CCM_8"
    assert suite_name(0xC0A9) == "0xc0a9"
    assert all(SUITES[number].number == number for number in SUITES)
