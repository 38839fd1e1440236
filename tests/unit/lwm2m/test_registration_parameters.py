import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.registration_parameters import (
    MAX_EXTRA,
    DuplicateParameter,
    InvalidParameter,
    MissingParameter,
    ParameterError,
    RegistrationParameters,
    UpdateParameters,
    VersionUnsupported,
    check_endpoint_name,
    decode_registration,
    decode_update,
    merge_extra,
)


def register(*query: str, version: str = "1.1") -> RegistrationParameters:
    return decode_registration(("ep=dev1", f"lwm2m={version}", *query))


@pytest.mark.spec("R-3", "R-4")
def test_a_registration_says_who_for_how_long_and_over_what() -> None:
    query = ("b=UN", "lt=300", "Q", "ep=urn:imei:1", "sms=491234", "lwm2m=1.2", "pid=6:27354b9a")
    wanted = RegistrationParameters("urn:imei:1", "1.2", 300, "UN", True, "491234", ("6:27354b9a",))
    assert decode_registration(query) == wanted
    assert decode_registration(tuple(reversed(query))) == wanted


@pytest.mark.spec("R-5", "BIN-2")
def test_what_is_not_said_has_its_default_or_stays_open() -> None:
    assert decode_registration(("lwm2m=1.1",)) == RegistrationParameters(None, "1.1", None, "U", False, None, (), ())


@pytest.mark.spec("R-3")
def test_unknown_parameters_are_kept_in_order() -> None:
    assert register("z=1", "a", "m=x=y").extra == (("z", "1"), ("a", None), ("m", "x=y"))


@pytest.mark.spec("R-3")
@pytest.mark.parametrize("query", [("lt=1", "lt=1"), ("ep=x",), ("Q", "Q="), ("a=1", "a=2"), ("lwm2m=1.1",)])
def test_a_parameter_twice_is_refused(query: tuple[str, ...]) -> None:
    with pytest.raises(DuplicateParameter) as caught:
        register(*query)
    assert caught.value.name == query[0].partition("=")[0]


@pytest.mark.spec("R-3")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("urn%3Aimei%3a1", "urn:imei:1"),
        ("Z%C3%A4hler", "Zähler"),
        ("100%", "100%"),
        ("%zz%20x", "%zz x"),
        ("%FFx", "%FFx"),
        ("a+b", "a+b"),
    ],
)
def test_only_valid_escapes_are_decoded(text: str, name: str) -> None:
    assert decode_registration((f"ep={text}", "lwm2m=1.1")).endpoint_name == name


@pytest.mark.spec("R-4")
@pytest.mark.parametrize("version", ["1.3", "2.0", "", "1", "1.0.2", "one"])
def test_an_unknown_version_asks_the_device_to_step_down(version: str) -> None:
    with pytest.raises(VersionUnsupported) as caught:
        register("lt=never", version=version)
    assert caught.value.version == version


@pytest.mark.spec("R-4")
def test_a_missing_version_is_refused_unless_leniency_is_asked_for() -> None:
    with pytest.raises(MissingParameter) as caught:
        decode_registration(("ep=dev1",))
    assert caught.value.name == "lwm2m"
    assert decode_registration(("ep=dev1",), lenient_version=True).version == "1.0"


@pytest.mark.spec("LwM2M-contract 0.1")
def test_the_endpoint_name_may_be_left_out_from_1_1_on() -> None:
    assert decode_registration(("lwm2m=1.2",)).endpoint_name is None
    with pytest.raises(MissingParameter):
        decode_registration(("lwm2m=1.0",))


@pytest.mark.spec("R-5")
@pytest.mark.parametrize(("text", "lifetime_s"), [("0", 0), ("1", 1), ("86400", 86400), ("4294967295", 2**32 - 1)])
def test_a_lifetime_is_seconds_and_zero_is_for_ever(text: str, lifetime_s: int) -> None:
    assert register(f"lt={text}").lifetime_s == lifetime_s


@pytest.mark.spec("R-5")
@pytest.mark.parametrize(
    "query", ["lt=4294967296", "lt=-1", "lt=", "lt", "lt=1.5", "lt=1e3", "lt= 1", "lt=٣", "lt=" + "9" * 5000]
)
def test_a_lifetime_out_of_range_is_refused_and_not_clamped(query: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        register(query)
    assert caught.value.name == "lt"


@pytest.mark.spec("BIN-1", "T-1")
@pytest.mark.parametrize(
    ("version", "text", "binding", "queue_mode"),
    [
        ("1.0", "U", "U", False),
        ("1.0", "UQ", "U", True),
        ("1.0", "SQ", "S", True),
        ("1.0", "UQS", "US", True),
        ("1.1", "UT", "UT", False),
        ("1.1", "NSTU", "NSTU", False),
        ("1.1", "UQ", "U", True),
        ("1.2", "UMH", "UMH", False),
    ],
)
def test_bindings_follow_the_version(version: str, text: str, binding: str, queue_mode: bool) -> None:
    parameters = register(f"b={text}", version=version)
    assert (parameters.binding, parameters.queue_mode) == (binding, queue_mode)


@pytest.mark.spec("BIN-1")
@pytest.mark.parametrize(
    ("version", "query"),
    [
        ("1.0", "b=T"),
        ("1.0", "b=SU"),
        ("1.0", "b=UU"),
        ("1.0", "b=Q"),
        ("1.1", "b=UU"),
        ("1.1", "b=UM"),
        ("1.1", "b=u"),
        ("1.1", "b=Q"),
        ("1.1", "b=UQQ"),
        ("1.2", "b=X"),
        ("1.2", "b="),
        ("1.1", "b"),
    ],
)
def test_bindings_of_other_versions_are_refused(version: str, query: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        register(query, version=version)
    assert caught.value.name == "b"


@pytest.mark.spec("BIN-1")
def test_by_the_book_the_binding_has_no_queue_mode_from_1_1_on() -> None:
    with pytest.raises(InvalidParameter):
        decode_registration(("ep=x", "lwm2m=1.1", "b=UQ"), lenient_queue=False)
    assert decode_registration(("ep=x", "lwm2m=1.0", "b=UQ"), lenient_queue=False).queue_mode


@pytest.mark.spec("BIN-3", "T-1")
def test_queue_mode_is_a_flag() -> None:
    assert register("Q").queue_mode
    assert register("Q=").queue_mode
    assert not register().queue_mode
    with pytest.raises(InvalidParameter):
        register("Q=1")


@pytest.mark.spec("R-16")
def test_the_number_for_sms_has_no_plus() -> None:
    assert register("sms=+4912345").sms == "4912345"
    for query in ("sms=", "sms", "sms=49-12", "sms=++49"):
        with pytest.raises(InvalidParameter):
            register(query)


@pytest.mark.spec("LwM2M-contract 4")
def test_profile_ids_are_a_list_of_1_2_each_once() -> None:
    assert register('pid="6:27354b9a, oma:x,6:27354b9a"', version="1.2").profile_ids == ("6:27354b9a", "oma:x")
    assert register("pid=oma:x").extra == (("pid", "oma:x"),)
    for query in ("pid=", "pid", "pid=a,,b", "pid=ä", "pid=" + "x" * 129, "pid=" + ",".join(map(str, range(17)))):
        with pytest.raises(InvalidParameter):
            register(query, version="1.2")


@pytest.mark.spec("R-3")
def test_unknown_parameters_are_merged_and_bounded() -> None:
    assert merge_extra((("a", "1"), ("b", "2")), (("b", None), ("c", "3"))) == (("a", "1"), ("b", ""), ("c", "3"))
    many = tuple((str(each), "") for each in range(100))
    assert len(merge_extra(many[:20], many)) == MAX_EXTRA
    assert len(register(*(f"x{each}" for each in range(100))).extra) == MAX_EXTRA


@pytest.mark.spec("LwM2M-contract 9", "MOD-10")
@pytest.mark.parametrize("name", ["x", "urn:uuid:1", "Zähler 7", "x" * 255, "ä" * 127, "'; DROP TABLE"])
def test_endpoint_names_are_any_text(name: str) -> None:
    assert check_endpoint_name(name) == name


@pytest.mark.spec("MOD-10")
@pytest.mark.parametrize("name", ["", "x" * 256, "ä" * 128, "a\x00b", "a\nb", "\x7f", "\x85", "\ud800"])
def test_endpoint_names_are_neither_empty_nor_long_nor_control_characters(name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_endpoint_name(name)
    assert caught.value.name == "ep"


@pytest.mark.spec("R-7")
def test_an_update_may_say_nothing() -> None:
    assert decode_update(()) == UpdateParameters()


@pytest.mark.spec("READ-3")
def test_an_update_changes_what_it_says() -> None:
    assert decode_update(("lt=60", "b=U", "Q", "sms=49", "pid=x", "y")) == UpdateParameters(
        60, "U", True, "49", ("x",), (("y", None),)
    )
    assert decode_update(("b=U",), "1.0").queue_mode is False
    assert decode_update(("b=UQ",), "1.0").queue_mode is True
    assert decode_update(("b=U",), "1.1").queue_mode is None
    for query in (("lt=x",), ("b=M",), ("lt=1", "lt=2")):
        with pytest.raises(ParameterError):
            decode_update(query, "1.1")


QUERIES = st.lists(
    st.text(max_size=12)
    | st.builds(
        "{}={}".format, st.sampled_from(("ep", "lt", "lwm2m", "b", "Q", "sms", "pid", "x")), st.text(max_size=8)
    )
    | st.sampled_from(("lwm2m=1.0", "lwm2m=1.1", "lwm2m=1.2", "b=UQ", "Q", "lt=5")),
    max_size=6,
).map(tuple)


@settings(max_examples=150, deadline=None)
@given(query=QUERIES)
def test_any_query_is_understood_or_refused(query: tuple[str, ...]) -> None:
    with contextlib.suppress(ParameterError):
        parameters = decode_registration(query)
        assert parameters.version in ("1.0", "1.1", "1.2")
    with contextlib.suppress(ParameterError):
        decode_update(query)


@pytest.mark.spec("T-1")
@settings(max_examples=60, deadline=None)
@given(
    name=st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc",), exclude_characters="%"), min_size=1, max_size=60
    ),
    lifetime_s=st.none() | st.integers(0, 2**32 - 1),
    queue_mode=st.booleans(),
    order=st.randoms(),
)
def test_the_order_of_parameters_means_nothing(
    name: str, lifetime_s: int | None, queue_mode: bool, order: object
) -> None:
    query = [f"ep={name}", "lwm2m=1.2", "b=U"] + ([f"lt={lifetime_s}"] if lifetime_s is not None else [])
    query += ["Q"] if queue_mode else []
    order.shuffle(query)  # type: ignore[attr-defined]
    assert decode_registration(tuple(query)) == RegistrationParameters(name, "1.2", lifetime_s, "U", queue_mode)
