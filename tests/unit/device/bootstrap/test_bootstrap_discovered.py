"""Every form of an answer to Bootstrap-Discover."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.device.bootstrap.discovered import Discovered, DiscoveredInstance, decode_discovered
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.link_format import LinkFormatError
from stellwerk.lwm2m.path import Path

NEW = b'</>;lwm2m=1.1,</0/0>,</0/1>;ssid=1;uri="coaps://dm",</1/0>;ssid=1,</3/0>'


def ids(discovered: Discovered, object_id: int) -> dict[int, int | None]:
    return {each.instance_id: each.short_id for each in discovered.of(object_id)}


@pytest.mark.spec("LwM2M-contract B-14")
@pytest.mark.parametrize(
    ("body", "version"),
    [
        (NEW, "1.1"),
        (NEW.replace(b"</>;lwm2m=1.1,", b'</>;lwm2m="1.2",'), "1.2"),
        (NEW.replace(b"</>;lwm2m=1.1,", b'lwm2m="1.0",'), "1.0"),
        (NEW.replace(b"</>;lwm2m=1.1,", b"lwm2m=1.0,"), "1.0"),
        (NEW.replace(b"</>;lwm2m=1.1,", b""), None),
        (NEW.replace(b"</>;lwm2m=1.1,", b"</>;lwm2m=x,"), None),
        (NEW.replace(b"ssid=1", b'ssid="1"').replace(b"</0/0>", b"</0/0/>"), "1.1"),
        (NEW.replace(b",", b" , "), "1.1"),
        (NEW.replace(b"</0/0>", b"</0/0>;ssid=0"), "1.1"),
        (NEW.replace(b"</0/0>", b"</0/0>;ssid=65535"), "1.1"),
        (NEW.replace(b"</0/0>", b'</0/0>;uri="coaps://bs"'), "1.1"),
        (b"</rd>,</0/0/1>,</65535/0>," + NEW, "1.1"),
    ],
)
def test_forms_of_the_answer(body: bytes, version: str | None) -> None:
    discovered = decode_discovered(body)
    assert discovered.lwm2m_version == version
    assert (ids(discovered, 0), ids(discovered, 1), ids(discovered, 3)) == ({0: None, 1: 1}, {0: 1}, {0: None})
    assert discovered.of(0)[1] == DiscoveredInstance(1, 1, "coaps://dm")
    assert discovered.bootstrap_instance == 0


@pytest.mark.spec("LwM2M-contract B-14", "Platform 12.1")
def test_versions_of_objects_are_those_stated_or_the_defaults() -> None:
    discovered = decode_discovered(b'</>;lwm2m=1.2,</0>;ver=1.2,</0/0>,</1>;ver="1.0",</1/0>;ver=1.1;ssid=5,</5>;ver=x')
    assert [discovered.version(each) for each in (0, 1, 2, 21, 5)] == ["1.2", "1.0", "1.0", "2.0", "1.0"]
    nothing = decode_discovered(b"")
    assert [nothing.version(each) for each in (0, 1, 2, 21)] == ["1.1", "1.1", "1.0", "2.0"]


@pytest.mark.spec("LwM2M-contract B-6")
def test_the_bootstrap_account_is_the_instance_without_a_short_id_and_uri() -> None:
    assert decode_discovered(b"</0/3>,</0/0>;ssid=7").bootstrap_instance == 3
    one_with_uri = decode_discovered(b'</0/0>;uri="coap://dm",</0/1>')
    assert one_with_uri.bootstrap_instance == 1
    unclear = decode_discovered(b"</0/0>,</0/1>")
    assert (unclear.bootstrap_instance, unclear.bootstrap_candidates) == (None, (0, 1))
    assert decode_discovered(b"</0/0>;ssid=7").bootstrap_candidates == ()


def test_instances_of_object_1_without_short_ids_are_read() -> None:
    discovered = decode_discovered(b"</0/0>,</1/0>,</1/4>")
    assert discovered.wants_read
    told = discovered.with_servers(
        Content((Entry(Path(1, 4, 0), 9), Entry(Path(1, 4, 1), 60), Entry(Path(1, 0, 1), 60)), (Path(1, 7),))
    )
    assert ids(told, 1) == {0: None, 4: 9, 7: None}
    assert not decode_discovered(NEW).wants_read


@pytest.mark.parametrize("body", [b"<", b"\xff", b'</0/0>;ssid="1', b"x", b"lwm2m=1.0 </0>", b"a" * 70_000])
def test_what_is_no_list_of_links_is_refused(body: bytes) -> None:
    with pytest.raises(LinkFormatError):
        decode_discovered(body)


PIECES = st.sampled_from([b"</0/0>", b",", b";ssid=", b"1", b'"', b"lwm2m=1.0", b"</1>"])


@given(st.binary(max_size=60) | st.lists(PIECES, max_size=12).map(b"".join))
def test_any_bytes_are_understood_or_refused(body: bytes) -> None:
    with suppress(LinkFormatError):
        decode_discovered(body)
