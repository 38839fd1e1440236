"""UUIDs out of given octets agree with the standard library's."""

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.uuid_text import random_uuid, uuid_text


@given(st.binary(min_size=16, max_size=16), st.sampled_from([3, 4, 5]))
@settings(max_examples=100, deadline=None)
def test_version_and_variant_are_set_and_the_rest_is_kept(octets: bytes, version: int) -> None:
    assert uuid_text(octets, version=version) == str(uuid.UUID(bytes=octets, version=version))


def test_a_random_one_takes_its_octets_from_the_given_source() -> None:
    class Counting:
        def take(self, count: int) -> bytes:
            return bytes(range(count))

    assert random_uuid(Counting()) == "00010203-0405-4607-8809-0a0b0c0d0e0f"
