"""Options as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.path import Path
from stellwerk.sim import written
from stellwerk.sim.release import RELEASES

OLD, NEW = RELEASES["1.0"], RELEASES["1.2"]


def test_what_is_written_is_understood():
    assert written.parse_formats("110, 112,110", NEW) == (110, 112)
    assert written.parse_root("/lwm2m/a1") == "/lwm2m/a1"
    assert written.parse_root("/") == ""
    assert written.parse_binding("UT", NEW) == "UT"
    assert written.parse_binding("US", OLD) == "US"
    assert written.parse_profile("6:27354b9a") == ("6:27354b9a", ())
    assert written.parse_profile("v:acme-1=/1/0,/3") == ("v:acme-1", (Path(1, 0), Path(3)))
    assert written.parse_rights(["/3/0:1", "/3311:16"]) == ((Path(3, 0), 1), (Path(3311), 16))
    assert written.parse_send_format(11544, NEW) == 11544


@pytest.mark.parametrize(
    ("parse", "advice"),
    [
        (lambda: written.parse_formats("tlv", NEW), "110,112"),
        (lambda: written.parse_formats("112", OLD), "LwM2M 1.0 can have some of 0, 42, 11542, 11543"),
        (lambda: written.parse_root("lwm2m"), "/lwm2m"),
        (lambda: written.parse_root("/3"), "digits alone"),
        (lambda: written.parse_binding("UU", NEW), "each once"),
        (lambda: written.parse_binding("UQ", NEW), "--queue-mode"),
        (lambda: written.parse_binding("T", OLD), "LwM2M 1.0 has U, S and US"),
        (lambda: written.parse_profile("27354B9A"), "6:27354b9a"),
        (lambda: written.parse_profile("6:27=3"), "starts with '/'"),
        (lambda: written.parse_profile("6:27=/3/0/1"), "an object or an instance"),
        (lambda: written.parse_rights(["/3/0"]), "1 read, 2 write"),
        (lambda: written.parse_rights(["/3/0:32"]), "1 read, 2 write"),
        (lambda: written.parse_rights(["/:1"]), "an object or an instance"),
        (lambda: written.parse_send_format(11542, NEW), "110, 112, 11544"),
        (lambda: written.parse_send_format(112, OLD), "one of none"),
    ],
)
def test_what_is_wrong_is_answered_with_what_would_be_right(parse, advice):
    with pytest.raises(UserError) as error:
        parse()
    assert advice in str(error.value)


@given(st.text(max_size=20))
def test_any_text_is_understood_or_refused(text):
    for parse in (
        lambda: written.parse_formats(text, NEW),
        lambda: written.parse_root(text),
        lambda: written.parse_binding(text, NEW),
        lambda: written.parse_profile(text),
        lambda: written.parse_rights([text]),
    ):
        try:
            parse()
        except UserError:
            continue
