import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.link_format import (
    MAX_LINKS,
    Link,
    LinkFormatError,
    ListedObject,
    ObjectList,
    decode_links,
    decode_object_list,
    encode_links,
    encode_object_list,
)
from stellwerk.lwm2m.path import Path


@pytest.mark.spec("RFC 6690 2")
@pytest.mark.parametrize(
    ("body", "links"),
    [
        (b"", ()),
        (b"  ", ()),
        (b"</1/0>", (Link("/1/0"),)),
        (b"</1/0>,</3/0>", (Link("/1/0"), Link("/3/0"))),
        (b" </1/0> ,\r\n </3/0> ", (Link("/1/0"), Link("/3/0"))),
        (b"</3>;ver=1.1;ct=110;obs", (Link("/3", (("ver", "1.1"), ("ct", "110"), ("obs", None))),)),
        (b'</3>;ver="1.1";title="a,b;c=\\"d\\""', (Link("/3", (("ver", "1.1"), ("title", 'a,b;c="d"'))),)),
        (b'</3> ; ver = "1.1" ,</4>', (Link("/3", (("ver", "1.1"),)), Link("/4"))),
        (b"</3/0/9>;pmin=5;gt=-4.5;lt", (Link("/3/0/9", (("pmin", "5"), ("gt", "-4.5"), ("lt", None))),)),
        ('</>;title="Zähler"'.encode(), (Link("/", (("title", "Zähler"),)),)),
        (b"</3>;empty=,</4>", (Link("/3", (("empty", ""),)), Link("/4"))),
        (b"<>", (Link(""),)),
    ],
)
def test_links_are_read_with_white_space_quotes_and_bare_values(body: bytes, links: tuple[Link, ...]) -> None:
    assert decode_links(body) == links


@pytest.mark.spec("RFC 6690 2", "LwM2M-contract 4")
@pytest.mark.parametrize(
    ("body", "position"),
    [
        (b"1/0", 0),
        (b"</1/0", 0),
        (b"</1/0>,", 7),
        (b"</1/0>,,</3/0>", 7),
        (b"</1/0></3/0>", 6),
        (b'</1>;ver="1.1', 9),
        (b'</1>;ver="1.1\\"', 9),
        (b"</1>;=1", 4),
        (b"</1>;", 4),
        (b"</1>;;a", 4),
        (b"</1>;a=b c", 9),
        (b"</1\x00>", 0),
        (b"</1>,\xff", 5),
    ],
)
def test_what_is_no_list_of_links_is_refused_where_it_ends_to_be_one(body: bytes, position: int) -> None:
    with pytest.raises(LinkFormatError) as caught:
        decode_links(body)
    assert caught.value.position == position


@pytest.mark.spec("LwM2M-contract 15")
def test_the_number_of_links_and_the_length_are_bounded() -> None:
    assert len(decode_links(b",".join([b"</1/0>"] * MAX_LINKS))) == MAX_LINKS
    with pytest.raises(LinkFormatError):
        decode_links(b",".join([b"</1/0>"] * (MAX_LINKS + 1)))
    with pytest.raises(LinkFormatError):
        decode_links(b"<" + b"/" * 70000 + b">")


@pytest.mark.parametrize(
    "body",
    [
        b"<" * 60000,
        b"</1>" + b";a" * 30000,
        b"</1>;a=" + b'"' * 60000,
        b" " * 60000 + b"x",
        b'</1>;a="' + b"\\" * 60000,
    ],
)
def test_long_nonsense_takes_no_time(body: bytes) -> None:
    with contextlib.suppress(LinkFormatError):
        decode_links(body)


@pytest.mark.spec("R-10", "R-11")
def test_an_object_list_has_versions_instances_and_what_the_root_says() -> None:
    body = b'</>;rt="oma.lwm2m";ct="60 110 112",</1/0>,</3>;ver="1.2",</3/0>,</5>,</3303>;ver=1.1,</3303/1>,</3303/0>'
    objects = decode_object_list(body)
    assert objects == ObjectList(
        {
            1: ListedObject(None, (0,)),
            3: ListedObject("1.2", (0,)),
            5: ListedObject(None, ()),
            3303: ListedObject("1.1", (0, 1)),
        },
        "",
        (60, 110, 112),
    )
    assert objects.has_instance(3303, 1)
    assert not objects.has_instance(3303, 2)
    assert not objects.has_instance(7, 0)
    assert (objects.version(3303), objects.version(1), objects.version(7)) == ("1.1", None, None)
    assert objects.paths() == (Path(1, 0), Path(3, 0), Path(5), Path(3303, 0), Path(3303, 1))


@pytest.mark.spec("R-10", "T-2")
@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b"</3>;ver=1.1,</3/0>", "1.1"),
        (b'</3>;ver="1.1",</3/0>', "1.1"),
        (b"</3/0>;ver=1.1", "1.1"),
        (b"</3/0>;ver=1.0,</3>;ver=1.1", "1.1"),
        (b"</3>;ver=1.1,</3/0>;ver=1.0", "1.1"),
        (b"</3>;ver=one,</3/0>", "one"),
        (b"</3>;ver=one,</3/0>;ver=1.2", "1.2"),
        (b"</3/0>;ver=1.2,</3>;ver=1.2.3", "1.2"),
        (b'</3>;ver="' + b"9" * 500 + b'",</3/0>', "9" * 16),
        (b'</3>;ver="",</3/0>', None),
        (b"</3>;ver,</3/0>", None),
        (b"</3/0>;foo=1.1", None),
    ],
)
def test_a_version_is_on_the_object_or_its_instance_quoted_or_not(body: bytes, version: str | None) -> None:
    assert decode_object_list(body).objects == {3: ListedObject(version, (0,))}


@pytest.mark.spec("R-11", "T-2")
@pytest.mark.parametrize("ct", [b"ct=112", b'ct="112"', b'ct="112 x"'])
def test_content_formats_are_one_or_a_list(ct: bytes) -> None:
    assert decode_object_list(b'</>;rt="oma.lwm2m";' + ct).content_formats == (112,)
    assert decode_object_list(b"</>;" + ct).content_formats == (112,)


@pytest.mark.spec("R-13", "T-2")
def test_no_content_formats_are_not_the_same_as_none_stated() -> None:
    assert decode_object_list(b"</1/0>").content_formats is None
    assert decode_object_list(b'</>;rt="oma.lwm2m",</1/0>').content_formats is None


@pytest.mark.spec("R-11")
@pytest.mark.parametrize(
    "body",
    [
        b'</lwm2m>;rt="oma.lwm2m",</lwm2m/1/0>,</3/0>',
        b"</lwm2m/1/0>,</lwm2m/>;rt=oma.lwm2m,</other>",
        b'</lwm2m>;rt="x oma.lwm2m",</lwm2m/1/0>',
    ],
)
def test_an_alternate_root_prefixes_all_objects(body: bytes) -> None:
    objects = decode_object_list(body)
    assert objects.root == "/lwm2m"
    assert objects.objects == {1: ListedObject(None, (0,))}


@pytest.mark.spec("R-11")
@pytest.mark.parametrize("root", [b"/7", b"/a/7", b"/7/a", b"lwm2m"])
def test_a_root_that_could_be_an_object_is_refused(root: bytes) -> None:
    with pytest.raises(LinkFormatError):
        decode_object_list(b"<" + root + b'>;rt="oma.lwm2m"')


@pytest.mark.spec("R-12")
def test_what_must_not_be_listed_is_dropped_and_what_is_no_object_ignored() -> None:
    body = b"</0/0>,</21/0>,</23>,</24/1>,</.well-known/core>,</3/0/9>,<coap://h/1>,</d01/3/0>,</42768/0/>,</3/>"
    assert decode_object_list(body).objects == {3: ListedObject(), 42768: ListedObject(None, (0,))}


@pytest.mark.spec("MOD-1")
@pytest.mark.parametrize("target", [b"/65535/0", b"/3/65535", b"/99999", b"/3/123456"])
def test_an_identifier_out_of_range_is_refused(target: bytes) -> None:
    with pytest.raises(LinkFormatError):
        decode_object_list(b"<" + target + b">")


def test_equal_bodies_share_one_object_list() -> None:
    body = b"</1/0>,</3/0>,</4242/0>"
    assert decode_object_list(body) is decode_object_list(bytes(bytearray(body)))
    assert hash(decode_object_list(body)) == hash(decode_object_list(body + b" "))


NAMES = st.text("abcdefghijklmnopqrstuvwxyz-_.*", min_size=1, max_size=6)
TARGETS = st.text(st.characters(codec="utf-8", exclude_characters="<>", min_codepoint=32), max_size=12)
ATTRIBUTES = st.tuples(NAMES, st.none() | st.text(st.characters(codec="utf-8"), max_size=10))


@settings(max_examples=80, deadline=None)
@given(links=st.lists(st.builds(Link, TARGETS, st.lists(ATTRIBUTES, max_size=3).map(tuple)), max_size=5))
def test_written_links_are_read_back(links: list[Link]) -> None:
    assert decode_links(encode_links(links)) == tuple(links)


IDS = st.integers(0, 65534)
LISTED = st.builds(
    ListedObject,
    st.none() | st.sampled_from(("1.0", "1.1", "10.22")),
    st.lists(IDS, max_size=4, unique=True).map(lambda ids: tuple(sorted(ids))),
)


@settings(max_examples=80, deadline=None)
@given(
    objects=st.dictionaries(IDS.filter(lambda each: each not in (0, 21, 23, 24)), LISTED, max_size=5),
    root=st.sampled_from(("", "/lwm2m", "/a/b")),
    content_formats=st.none() | st.lists(IDS, min_size=1, max_size=3).map(tuple),
)
def test_a_written_object_list_is_read_back(
    objects: dict[int, ListedObject], root: str, content_formats: tuple[int, ...] | None
) -> None:
    wanted = ObjectList(objects, root, content_formats)
    assert decode_object_list(encode_object_list(wanted)) == wanted


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=40) | st.text('</13>,;"=ver.1\\ rtoma', max_size=40).map(str.encode))
def test_any_bytes_are_links_or_refused(body: bytes) -> None:
    with contextlib.suppress(LinkFormatError):
        decode_links(body)
    with contextlib.suppress(LinkFormatError):
        decode_object_list(body)
