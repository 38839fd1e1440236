"""Short and full names."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.northbound.onem2m.names import (
    ATTRIBUTES,
    ENVELOPES,
    STRUCTURED,
    NamedTwice,
    envelope_name,
    envelope_of,
    to_form,
    to_short,
)


@pytest.mark.spec("D2C 4.1")
def test_no_name_in_the_table_means_two_things():
    assert len(set(ATTRIBUTES.values())) == len(ATTRIBUTES)
    ambiguous = {short for short, full in ATTRIBUTES.items() if short in ATTRIBUTES.values() and full != short}
    assert ambiguous == set()
    fulls = [full for _, full in ENVELOPES.values()]
    assert len(set(fulls)) == len(fulls)
    assert not set(fulls) & set(ATTRIBUTES.values()) - {"firmware", "software", "memory", "battery", "reboot"}


@pytest.mark.spec("D2C 4.1")
@pytest.mark.parametrize("envelope", sorted(ENVELOPES))
def test_an_envelope_is_known_in_both_forms(envelope: str):
    assert envelope_of(envelope_name(envelope, "full")) == envelope
    assert envelope_of(envelope_name(envelope, "short")) == envelope


DATA = st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2), max_leaves=3)
PLAIN = sorted(set(ATTRIBUTES) - STRUCTURED)


@given(
    st.dictionaries(st.sampled_from(PLAIN), DATA, max_size=4),
    st.dictionaries(
        st.sampled_from(sorted(STRUCTURED)),
        st.lists(st.dictionaries(st.sampled_from(PLAIN), DATA, max_size=2), max_size=2),
        max_size=2,
    ),
)
@settings(max_examples=80, deadline=None)
def test_names_translated_there_and_back_are_the_same(plain: dict[str, Any], structured: dict[str, Any]):
    resource = plain | structured
    assert to_short(to_form(resource, "full")) == resource
    assert to_form(resource, "short") == resource


@pytest.mark.spec("D2C 4.1")
def test_data_is_never_renamed():
    content = {"con": {"status": 1, "ty": 2}, "uds": {"sus": 1}}
    assert to_form(content, "full") == {"content": {"status": 1, "ty": 2}, "updateStatus": {"status": 1}}


@pytest.mark.spec("D2C 4.1")
@pytest.mark.parametrize("name", ["fwv", "fwVersion", "firmwareVersion"])
def test_every_printed_spelling_of_the_firmware_version_is_understood(name: str):
    assert to_short({name: "1.0"}) == {"fwv": "1.0"}


def test_a_name_given_in_two_forms_is_an_error():
    with pytest.raises(NamedTwice, match="labels"):
        to_short({"lbl": [], "labels": []})
