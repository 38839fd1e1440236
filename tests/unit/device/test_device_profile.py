"""Profiles are read whole or refused with what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.device.profile import (
    DEFAULT,
    SETTINGS,
    BadProfile,
    PowerMode,
    Profile,
    check_name,
    from_settings,
    parse_priority,
    parse_settings,
    to_settings,
)


def test_settings_are_added_to_what_a_profile_says_and_an_empty_one_takes_it_back() -> None:
    first = parse_settings({"awake_s": "10", "priority": "-5", "coalesce": "off"})
    assert first == Profile(awake_s=10.0, priority=-5, coalesce=False)
    assert parse_settings({"priority": "", "queue_length": "7"}, first) == Profile(
        awake_s=10.0, coalesce=False, queue_length=7
    )


@pytest.mark.parametrize("text", ["PSM", "psm", "E_DRX", "edrx", "e-drx", "DRX"])
def test_power_modes_are_understood_in_the_usual_spellings(text: str) -> None:
    assert parse_settings({"power_mode": text}).power_mode is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"awake": "10"}, "'awake' is no setting of a profile; they are power_mode, awake_s"),
        ({"awake_s": "soon"}, "awake_s='soon': seconds, 0 to"),
        ({"awake_s": "nan"}, "seconds"),
        ({"awake_s": "-1"}, "seconds"),
        ({"ack_timeout_s": "0"}, "ack_timeout_s='0': seconds, 0.1 to 300"),
        ({"power_mode": "deep"}, "one of DRX, PSM, E_DRX"),
        ({"queue_length": "0"}, "a whole number from 1 to 100000"),
        ({"queue_length": "1_0"}, "a whole number"),
        ({"queue_length": "٣"}, "a whole number"),
        ({"priority": "101"}, "priority='101': a whole number from -100 to 100"),
        ({"coalesce": "maybe"}, "on or off"),
        ({"edrx_cycle_s": "80"}, "needs power_mode=E_DRX"),
        ({"power_mode": "PSM", "paging_window_s": "5"}, "needs power_mode=E_DRX; under PSM awake_s"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would_be_right(settings: dict[str, str], words: str) -> None:
    with pytest.raises(BadProfile) as refused:
        parse_settings(settings)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a,b", "ä", "x" * 256])
def test_a_name_that_could_not_be_written_anywhere_is_refused(name: str) -> None:
    with pytest.raises(BadProfile):
        check_name(name)


def test_what_a_later_version_wrote_is_left_out() -> None:
    stored = {"awake_s": 10, "colour": "red", "power_mode": "HIBERNATE", "queue_length": None}
    assert from_settings(stored) == Profile(awake_s=10.0)


_PROFILES = st.builds(
    Profile,
    st.sampled_from([None, *PowerMode]),
    *[st.none() | st.floats(1, 300) for _ in range(6)],
    st.none() | st.integers(1, 1000),
    st.none() | st.integers(-100, 100),
    st.none() | st.booleans(),
)


@given(_PROFILES)
def test_a_profile_is_the_same_after_it_was_stored(profile: Profile) -> None:
    assert from_settings(to_settings(profile)) == profile


@given(st.dictionaries(st.sampled_from(SETTINGS) | st.text(max_size=5), st.text(max_size=12), max_size=4))
def test_any_texts_are_a_profile_or_refused(texts: dict[str, str]) -> None:
    try:
        profile = parse_settings(texts)
    except BadProfile:
        return
    assert isinstance(profile, Profile)


@pytest.mark.spec("QM-2")
@pytest.mark.parametrize(
    ("profile", "queue_mode", "sleeps", "window_s"),
    [
        (DEFAULT, True, True, 93),
        (DEFAULT, False, False, 93),
        (Profile(PowerMode.PSM, 10), False, True, 10),
        (Profile(PowerMode.DRX, 10), True, False, 10),
        (Profile(PowerMode.E_DRX, 10), False, True, 10),
        (Profile(PowerMode.E_DRX, 10, 3), False, True, 3),
    ],
)
def test_a_device_sleeps_by_its_power_mode_and_else_by_its_registration(
    profile: Profile, queue_mode: bool, sleeps: bool, window_s: float
) -> None:
    assert profile.sleeps(queue_mode) is sleeps
    assert profile.window_s(93) == window_s


@pytest.mark.spec("QM-8")
def test_a_page_is_waited_for_a_whole_cycle() -> None:
    profile = Profile(PowerMode.E_DRX, edrx_cycle_s=124.0)
    assert (profile.pages, profile.longest_answer_s, profile.first_timeout_s) == (True, 124.0, 4.0)
    assert Profile(PowerMode.E_DRX, edrx_cycle_s=10.0, ack_timeout_s=8.0).first_timeout_s == 8.0
    assert not Profile(PowerMode.E_DRX).pages


def test_a_priority_alone_is_read_by_the_same_rule() -> None:
    assert parse_priority(" 5 ") == 5
    with pytest.raises(BadProfile, match="from -100 to 100"):
        parse_priority("high")
