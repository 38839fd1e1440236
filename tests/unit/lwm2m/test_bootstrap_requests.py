"""What a device says in the query of a Bootstrap-Request and of a Bootstrap-Pack-Request."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.lwm2m.bootstrap import (
    BootstrapParameters,
    BootstrapWrite,
    PackFormatUnsupported,
    PackParameters,
    PctUnsupported,
    decode_bootstrap_request,
    decode_pack_request,
    encode_bootstrap_write,
    pack_format,
    write_format,
)
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.registration_parameters import DuplicateParameter, InvalidParameter, ParameterError


@pytest.mark.spec("LwM2M-contract B-4", "SEC-4")
@pytest.mark.parametrize(
    ("query", "said"),
    [
        (("ep=dev1",), BootstrapParameters("dev1", None)),
        (("pct=112", "ep=urn:dev:1"), BootstrapParameters("urn:dev:1", 112)),
        ((), BootstrapParameters(None, None)),
        (("", "ep=a%20b", "x=1", "lwm2m"), BootstrapParameters("a b", None)),
        (("ep=d", "pct=9999"), BootstrapParameters("d", 9999)),
    ],
)
def test_a_request_says_who_asks_and_what_it_can_read(query: tuple[str, ...], said: BootstrapParameters) -> None:
    assert decode_bootstrap_request(query) == said


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (("ep=a", "ep=a"), "parameter 'ep': occurs twice"),
        (("ep=",), "parameter 'ep': is empty"),
        (("ep=a\x00",), "parameter 'ep': has control characters"),
        (("ep=a", "pct="), "parameter 'pct': is no number of a Content-Format"),
        (("ep=a", "pct"), "parameter 'pct': is no number of a Content-Format"),
        (("ep=a", "pct=-1"), "parameter 'pct': is no number of a Content-Format"),
        (("ep=a", "pct=65536"), "parameter 'pct': is no number of a Content-Format"),
    ],
)
def test_a_malformed_request_is_refused_with_the_parameter(query: tuple[str, ...], text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        decode_bootstrap_request(query)
    assert str(caught.value) == text
    assert isinstance(caught.value, DuplicateParameter | InvalidParameter)


@pytest.mark.spec("LwM2M-contract B-4")
def test_the_device_chooses_the_format_and_without_a_word_it_is_tlv() -> None:
    assert [write_format(each) for each in (112, 110, 11544, 11542, None)] == [112, 110, 11544, 11542, 11542]
    with pytest.raises(PctUnsupported, match="Content-Format 60 is not supported, only 112, 110, 11544, 11542"):
        write_format(60)


@pytest.mark.spec("LwM2M-contract 5")
def test_a_pack_is_written_in_what_the_device_accepts() -> None:
    assert [pack_format(each) for each in (112, 110, 11544, None)] == [112, 110, 11544, 112]
    with pytest.raises(PackFormatUnsupported):
        pack_format(11542)


@pytest.mark.spec("LwM2M-contract B-6")
@pytest.mark.parametrize(
    ("acc", "paths"),
    [
        ("</0/0>", (Path(0, 0),)),
        ("</0/2>,</21/0>", (Path(0, 2), Path(21, 0))),
        ("%3C%2F0%2F1%3E", (Path(0, 1),)),
        ("/0/1", (Path(0, 1),)),
        ("3", (Path(0, 3),)),
    ],
)
def test_a_pack_request_says_its_bootstrap_account(acc: str, paths: tuple[Path, ...]) -> None:
    assert decode_pack_request(("ep=d", f"acc={acc}")) == PackParameters("d", paths)


def test_a_pack_request_may_say_nothing_of_it() -> None:
    assert decode_pack_request(("ep=d",)) == PackParameters("d", None)


@pytest.mark.parametrize("acc", ["", "</0>", "</>", "x", "</0/0", "</0/65536>", "<", ",".join(["</0/1>"] * 17), "٣"])
def test_a_malformed_account_is_refused(acc: str) -> None:
    with pytest.raises(InvalidParameter):
        decode_pack_request(("ep=d", f"acc={acc}"))


PARAMETERS = st.builds("{}={}".format, st.sampled_from(["ep", "pct", "acc"]), st.text(max_size=9))


@given(st.lists(st.text(max_size=12) | PARAMETERS, max_size=4))
def test_any_query_is_understood_or_refused(query: list[str]) -> None:
    for decode in (decode_bootstrap_request, decode_pack_request):
        with suppress(ParameterError):
            decode(tuple(query))


@pytest.mark.spec("LwM2M-contract 10")
def test_object_21_is_written_as_bytes_or_as_text_by_its_version() -> None:
    def written(value: str | bytes) -> bytes:
        return encode_bootstrap_write(BootstrapWrite(Path(21, 1), Content((Entry(Path(21, 1, 1), value),)), 112))

    # {-2: "/21/1/", 0: "1", 8: h'cafe'} and {-2: "/21/1/", 0: "1", 3: "cafe"}
    assert written(b"\xca\xfe").hex() == "81a321662f32312f312f0061310842cafe"
    assert written("cafe").hex() == "81a321662f32312f312f006131036463616665"
