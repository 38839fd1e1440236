import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.link_format import (
    LinkFormatError,
    ListedObject,
    ObjectList,
    decode_object_list,
    encode_object_list,
)
from stellwerk.lwm2m.profile_ids import KNOWN_BODIES, UnknownProfile, join_bodies, join_lists

LISTS = st.dictionaries(
    st.integers(1, 20), st.builds(ListedObject, st.sampled_from((None, "1.0", "1.1")), st.just((0,)) | st.just((1, 2)))
).map(ObjectList)


@pytest.mark.spec("ETS 110", "LwM2M-contract 4")
def test_the_list_of_the_enabler_test_is_known() -> None:
    assert decode_object_list(KNOWN_BODIES["6:27354b9a"]).objects == {1: ListedObject(None, (0,)), 3: (None, (0,))}


@pytest.mark.spec("LwM2M-contract 4")
def test_joined_lists_have_everything_and_the_last_word_counts() -> None:
    joined = join_bodies(
        [b"</1/0>,</3/0>;ver=1.0", b'</a>;rt="oma.lwm2m";ct=112,</a/3/1>;ver=1.2,</a/5>', b"", b"</1/1>"]
    )
    objects = decode_object_list(joined)
    assert objects.objects == {1: (None, (0, 1)), 3: ("1.2", (0, 1)), 5: (None, ())}
    assert (objects.root, objects.content_formats) == ("/a", (112,))


@given(lists=st.lists(LISTS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_every_object_and_instance_of_every_list_is_in_the_joined_one(lists: list[ObjectList]) -> None:
    joined = join_lists(lists)
    wanted = {(number, each) for one in lists for number, listed in one.objects.items() for each in listed.instances}
    assert {(number, each) for number, listed in joined.objects.items() for each in listed.instances} == wanted
    assert decode_object_list(encode_object_list(joined)).objects == joined.objects
    assert join_lists([joined, joined]) == joined


def test_lists_that_are_broken_or_together_too_long_are_refused() -> None:
    half = [b",".join(b"</%d>" % each for each in range(start, start + 1001)) for start in (1000, 3000)]
    for bodies in ([b"</1", b"</3/0>"], half):
        with pytest.raises(LinkFormatError):
            join_bodies(bodies)


def test_what_is_missing_is_said() -> None:
    assert "6:ffffffff" in str(UnknownProfile(("6:ffffffff",)))
    assert "complete object list" in str(UnknownProfile(()))
