"""Which formats are tried with a device: its own list, the rules of its version, what worked before."""

from dataclasses import replace

import pytest
from tests.unit.southbound.test_translate_down import LIFETIME, RESOURCE, registration

from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.operations import (
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    ObserveComposite,
    Operation,
    Read,
    ReadComposite,
    Write,
    WriteAttributes,
    WriteComposite,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths
from stellwerk.lwm2m.schema.library import Library
from stellwerk.southbound.format_choice import Learned, Memory, formats_for, has_open_format

TEXT, OPAQUE, CBOR, JSON, SENML, TLV, OMA_JSON, LWM2M_CBOR = 0, 42, 60, 110, 112, 11542, 11543, 11544
LIST = Paths([RESOURCE])


def links(ct: str) -> bytes:
    return f'</>;rt="oma.lwm2m";ct="{ct}",</1/0>,</3/0>,</5/0>'.encode() if ct else b"</1/0>,</3/0>,</5/0>"


@pytest.mark.spec("D-9")
@pytest.mark.parametrize(
    ("version", "ct", "formats"),
    [
        ("1.0", "", (TLV, OMA_JSON)),
        ("1.1", "", (TLV, SENML, JSON)),
        ("1.1", "112 11542", (TLV, SENML, JSON)),
        ("1.1", "112", (TLV, SENML, JSON)),
        ("1.2", "", (LWM2M_CBOR, TLV, SENML, JSON)),
        ("1.2", "112 11542", (TLV, LWM2M_CBOR, SENML, JSON)),
    ],
)
def test_a_create_that_leaves_the_identifier_open_goes_in_what_can_say_so(
    version: str, ct: str, formats: tuple[int, ...]
) -> None:
    open_instance, filled = Path(16, 65535), Content((Entry(Path(16, 65535, 0, 0), "host"),))
    for content in (filled, Content((), (open_instance,))):
        assert formats_for(Create(Path(16), content), registration(links(ct), version)) == formats
    named = Content((Entry(Path(16, 3, 0, 0), "host"),))
    assert formats_for(Create(Path(16), named), registration(links("112 11542"), "1.1")) == (SENML, TLV)


@pytest.mark.spec("D-2", "LwM2M-contract 0.1")
@pytest.mark.parametrize(
    ("version", "ct", "formats"),
    [
        ("1.0", "", (TLV,)),
        ("1.0", "110 112 11542", (TLV,)),
        ("1.0", "11543", (OMA_JSON, TLV)),
        ("1.0", "11542 11543", (TLV, OMA_JSON)),
        ("1.1", "", (SENML, JSON, TLV)),
        ("1.1", "110", (JSON,)),
        ("1.1", "60 110 112", (SENML, JSON)),
        ("1.1", "11542 11543 11544", (TLV,)),
        ("1.1", "0", (SENML, JSON, TLV)),
        ("1.2", "", (SENML, LWM2M_CBOR, JSON, TLV)),
        ("1.2", "112 11544", (LWM2M_CBOR, SENML)),
        ("1.2", "11542 11543", (TLV,)),
    ],
)
def test_an_object_goes_in_what_both_speak_else_in_what_the_version_makes_mandatory(
    version: str, ct: str, formats: tuple[int, ...]
) -> None:
    assert formats_for(Read(Path(3)), registration(links(ct), version)) == formats
    assert formats_for(Write(Path(1, 0), LIFETIME), registration(links(ct), version)) == formats


@pytest.mark.spec("D-2")
@pytest.mark.parametrize(
    ("version", "ct", "path", "formats"),
    [
        ("1.1", "0", RESOURCE, (TEXT,)),
        ("1.1", "60 0", RESOURCE, (TEXT, CBOR)),
        ("1.1", "0 42 112", Path(5, 0, 0), (SENML, OPAQUE, TEXT)),
        ("1.1", "42", RESOURCE, (SENML, JSON, TLV, TEXT, CBOR)),
        ("1.1", "", RESOURCE, (SENML, JSON, TLV, TEXT, CBOR)),
        ("1.0", "", RESOURCE, (TLV, TEXT)),
        ("1.0", "0", RESOURCE, (TEXT,)),
        # A multiple resource has no format without paths.
        ("1.1", "0", Path(3, 0, 7), (SENML, JSON, TLV)),
        ("1.1", "0", Path(3, 0, 7, 1), (TEXT,)),
    ],
)
def test_one_value_may_go_without_a_path(version: str, ct: str, path: Path, formats: tuple[int, ...]) -> None:
    about = registration(links(ct), version)
    about.types = Library.builtin().for_device(version, {1: None, 3: None, 5: None})
    assert formats_for(Read(path), about) == formats
    assert formats_for(Observe(path), about) == formats


@pytest.mark.spec("D-6")
def test_a_write_of_several_values_never_goes_without_paths() -> None:
    several = Content((Entry(Path(3, 0, 7, 0), 1), Entry(Path(3, 0, 7, 1), 2)))
    assert formats_for(Write(Path(3, 0, 7), several), registration(links("0"))) == (SENML, JSON, TLV)


@pytest.mark.spec("D-3", "LwM2M-contract 0.1")
@pytest.mark.parametrize(
    ("version", "ct", "lists", "written"),
    [
        ("1.1", "", (SENML, JSON), (SENML, JSON)),
        ("1.1", "110 11542", (JSON,), (JSON,)),
        ("1.2", "112 11544", (SENML,), (LWM2M_CBOR, SENML)),
        ("1.2", "11544", (SENML, JSON), (LWM2M_CBOR,)),
        ("1.1", "0", (SENML, JSON), (SENML, JSON)),
    ],
)
def test_lists_go_in_senml_and_maps_in_what_a_composite_may_have(
    version: str, ct: str, lists: tuple[int, ...], written: tuple[int, ...]
) -> None:
    about = registration(links(ct), version)
    assert formats_for(ReadComposite(LIST), about) == formats_for(ObserveComposite(LIST), about) == lists
    assert formats_for(WriteComposite(LIFETIME), about) == written
    assert formats_for(WriteComposite(replace(LIFETIME, removed=(Path(3, 0, 7, 1),))), about) == (322, 320)


@pytest.mark.spec("D-2")
def test_what_worked_comes_first_for_its_kind_and_is_no_format_that_is_none_of_the_devices() -> None:
    learned = Learned()
    learned.formats = {"answer of one": TLV, "body": 12345}
    assert formats_for(Read(RESOURCE), registration(), learned) == (TLV, SENML, JSON, TEXT, CBOR)
    assert formats_for(Read(Path(3)), registration(), learned) == (SENML, JSON, TLV)
    assert formats_for(Write(Path(1, 0), LIFETIME), registration(), learned) == (SENML, JSON, TLV)


def test_a_new_object_list_changes_what_is_tried() -> None:
    before = registration(links("110"))
    after = replace(before, objects=decode_object_list(links("11542")))
    assert (formats_for(Read(Path(3)), before), formats_for(Read(Path(3)), after)) == ((JSON,), (TLV,))


def test_memory_is_bounded_and_forgets_who_taught_first() -> None:
    memory = Memory(remembered=2)
    for location in ("a", "b", "c"):
        memory.note(location).composites = False
    assert len(memory) == 2
    assert memory.of("a") is None
    assert memory.note("c") is memory.of("c")


@pytest.mark.spec("D-2")
@pytest.mark.parametrize(
    ("operation", "is_open"),
    [
        (Read(RESOURCE), True),
        (Observe(RESOURCE), True),
        (CancelObservation(RESOURCE), True),
        (Write(RESOURCE, LIFETIME), True),
        (Create(Path(1), LIFETIME), True),
        (ReadComposite(LIST), True),
        (ObserveComposite(LIST), True),
        (WriteComposite(LIFETIME), True),
        (ReadComposite(LIST, 112, 112), False),
        (WriteComposite(LIFETIME, 110), False),
        (Read(RESOURCE, 110), False),
        (Write(RESOURCE, LIFETIME, content_format=0), False),
        (Execute(RESOURCE), False),
        (Execute(RESOURCE, "1"), False),
        (Delete(Path(1, 0)), False),
        (Discover(Path(1)), False),
        (WriteAttributes(RESOURCE, ()), False),
    ],
)
def test_another_format_is_tried_only_where_it_was_ours_to_choose(operation: Operation, is_open: bool) -> None:
    assert has_open_format(operation) is is_open
