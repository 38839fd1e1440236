"""Which Content-Format number leads to which codec."""

import pytest
from typed_content import OBJECT, OneOfEach

from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import (
    ContentFormat,
    DecodeError,
    EncodeError,
    UnsupportedFormat,
    decode_content,
    decode_paths,
    encode_content,
    encode_paths,
)
from stellwerk.lwm2m.path import Path

MODEL = OneOfEach()
RESOURCE = Path(OBJECT, 0, 1)
CONTENT = Content((Entry(RESOURCE, 100),))


@pytest.mark.spec("D-1", "T-11")
def test_without_a_content_format_one_resource_is_text_and_more_is_tlv() -> None:
    assert decode_content(None, b"100", RESOURCE, MODEL) == CONTENT
    assert decode_content(None, b"\xc1\x01\x64", RESOURCE.parent, MODEL) == CONTENT


@pytest.mark.spec("LwM2M-contract 13", "T-10", "T-11")
@pytest.mark.parametrize(
    ("number", "payload"),
    [
        (1541, b"100"),
        (1542, b"\xc1\x01\x64"),
        (50, b'[{"n":"/33000/0/1","v":100}]'),
        (320, b'[{"n":"/33000/0/1","v":100}]'),
    ],
)
def test_old_and_mistaken_numbers_are_understood(number: int, payload: bytes) -> None:
    assert decode_content(number, payload, RESOURCE, MODEL) == CONTENT


@pytest.mark.spec("T-11")
@pytest.mark.parametrize("number", [1541, 1542, 50, 40, 9999])
def test_old_mistaken_and_unknown_numbers_are_never_sent(number: int) -> None:
    with pytest.raises(EncodeError) as caught:
        encode_content(number, CONTENT, RESOURCE, MODEL)
    assert caught.value.content_format == number


@pytest.mark.parametrize("number", [40, 9999, -1])
def test_a_number_without_codec_is_named(number: int) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        decode_content(number, b"", RESOURCE, MODEL)
    assert caught.value.content_format == number
    assert isinstance(caught.value, DecodeError)


def test_lists_of_paths_are_senml() -> None:
    paths = (Path(3, 0), Path(1))
    for number in (110, 112, 320, 322):
        assert decode_paths(number, encode_paths(number, paths)) == paths
    with pytest.raises(EncodeError):
        encode_paths(ContentFormat.TLV, paths)
    for none in (None, ContentFormat.TLV):
        with pytest.raises(UnsupportedFormat):
            decode_paths(none, b"")
