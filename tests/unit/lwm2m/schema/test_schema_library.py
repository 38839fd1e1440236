"""Which model applies to an object of a device."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.content import Types
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library, Rule
from stellwerk.lwm2m.schema.model import ObjectModel, Operations, ResourceModel, object_urn, parse_version
from stellwerk.lwm2m.value import ResourceType


def model_of(object_id: int, version: str, *resource_ids: int) -> ObjectModel:
    resources = [
        ResourceModel.define(each, f"R{each}", "RW", multiple=False, mandatory=False, type=ResourceType.INTEGER)
        for each in resource_ids
    ]
    return ObjectModel.define(object_id, f"O{object_id}", version, resources, multiple=True, mandatory=False)


@pytest.mark.spec("Core 1.2.2 7.2.2", "MOD-3")
def test_a_stated_version_is_taken_exactly() -> None:
    choice = Library.builtin().choose(5, "1.0", "1.2")
    assert choice.model is not None
    assert (choice.model.version, choice.rule, choice.warning) == ("1.0", Rule.EXACT, None)


@pytest.mark.parametrize(
    ("release", "versions"),
    [
        ("1.0", {0: "1.0", 1: "1.0", 2: "1.0", 3: "1.0", 4: "1.0", 5: "1.0", 6: "1.0", 7: "1.0"}),
        ("1.1", {0: "1.1", 1: "1.1", 2: "1.0", 3: "1.1", 4: "1.2", 5: "1.0", 6: "1.0", 7: "1.0", 21: "1.0"}),
        ("1.2", {0: "1.2", 1: "1.2", 2: "1.1", 3: "1.2", 4: "1.3", 5: "1.1", 6: "1.0", 7: "1.0", 21: "2.0"}),
        ("1.2.2", {23: "1.0", 24: "1.0", 26: "1.0", 27: "1.0"}),
    ],
)
@pytest.mark.spec("Core 1.2.2 App. E", "MOD-4")
def test_without_a_version_the_clients_release_decides(release: str, versions: dict[int, str]) -> None:
    library = Library.builtin()
    chosen = {each: library.choose(each, None, release) for each in versions}
    assert {each: choice.model.version for each, choice in chosen.items() if choice.model} == versions
    assert {choice.rule for choice in chosen.values()} == {Rule.RELEASE}
    assert not [choice.warning for choice in chosen.values() if choice.warning]


@pytest.mark.parametrize(
    ("release", "device"), [("1.2.2", "1.2"), ("1.7", "1.2"), ("2.0", "1.2"), ("", "1.0"), ("x", "1.0")]
)
def test_an_unknown_release_counts_as_the_newest_one_before_it(release: str, device: str) -> None:
    model = Library.builtin().choose(3, None, release).model
    assert model is not None
    assert model.version == device


@pytest.mark.spec("MOD-5")
def test_an_object_outside_the_release_is_version_1_0() -> None:
    choice = Library.builtin().choose(3303, None, "1.2")
    assert choice.model is not None
    assert (choice.model.version, choice.rule) == ("1.0", Rule.DEFAULT)


@pytest.mark.spec("MOD-6")
@pytest.mark.parametrize(
    ("wanted", "used"), [("1.5", "1.3"), ("1.2", "1.1"), ("1.0", "1.1"), ("2.9", "2.0"), ("3.0", None), ("0.9", None)]
)
def test_an_unknown_version_falls_back_to_the_nearest_minor_of_its_major(wanted: str, used: str | None) -> None:
    library = Library([model_of(900, "1.1"), model_of(900, "1.3"), model_of(900, "2.0")])
    choice = library.choose(900, wanted, "1.1")
    assert (choice.model.version if choice.model else None) == used
    if used is None:
        assert choice.rule is Rule.NONE
        assert choice.warning == f"object 900: no model of version {wanted}, values keep their format's types"
    else:
        assert choice.rule is Rule.NEAREST
        assert choice.warning == f"object 900: wanted {wanted}, using {used}"


def test_a_version_that_is_none_counts_as_not_stated_and_is_reported() -> None:
    choice = Library.builtin().choose(3, "one", "1.1")
    assert choice.model is not None
    assert choice.model.version == "1.1"
    assert choice.warning == "object 3: version 'one' is not major.minor; wanted 1.1, using 1.1"


def test_added_models_replace_and_extend_without_changing_the_library_they_came_from() -> None:
    library = Library.builtin()
    extended = library.with_models([model_of(3, "1.1", 7), model_of(30000, "1.0", 1)])
    assert library.get(30000, "1.0") is None
    added, replaced = extended.get(30000, "1.0"), extended.get(3, "1.1")
    assert added is not None
    assert replaced is not None
    assert list(replaced.resources) == [7]
    assert extended.get(3, "1.0") is library.get(3, "1.0")
    assert len(extended.models()) == len(library.models()) + 1


def test_a_model_needs_a_version() -> None:
    with pytest.raises(ValueError, match=r"version '1' is not major\.minor"):
        Library([model_of(3, "1")])


def test_the_built_in_library_is_the_same_each_time() -> None:
    assert Library.builtin() is Library.builtin()


def test_devices_with_equal_objects_share_their_types() -> None:
    library = Library.builtin()
    first = library.for_device("1.1", {1: None, 3: "1.1"})
    assert library.for_device("1.1", {3: "1.1", 1: None}) is first
    assert library.for_device("1.0", {3: "1.1", 1: None}) is not first


def test_the_types_of_a_device_follow_its_versions() -> None:
    old = Library.builtin().for_device("1.0", {21: "1.1", 4711: None, 5: "1.9"})
    new = Library.builtin().for_device("1.2", {21: "2.0"})
    assert old.resource_type(Path(21, 0, 0)) is ResourceType.STRING
    assert new.resource_type(Path(21, 0, 0)) is ResourceType.OPAQUE
    assert old.warnings == (
        "object 5: wanted 1.9, using 1.2",
        "object 4711: no model of version 1.0, values keep their format's types",
    )
    assert new.warnings == ()


def test_types_answer_for_resources_and_their_instances_alone() -> None:
    types: Types = Library.builtin().for_device("1.1", {3: None})
    assert types.resource_type(Path(3, 0, 9)) is ResourceType.INTEGER
    assert types.resource_type(Path(3, 0, 7, 1)) is ResourceType.INTEGER
    assert types.is_multiple(Path(3, 0, 7)) is True
    assert types.is_multiple(Path(3, 0, 9)) is False
    for unknown in (Path(3, 0, 999), Path(9999, 0, 0), Path(3, 0), Path(3), Path()):
        assert types.resource_type(unknown) is None
        assert types.is_multiple(unknown) is None


def test_an_executable_has_no_type() -> None:
    types = Library.builtin().for_device("1.1", {3: None})
    assert types.resource_type(Path(3, 0, 4)) is None
    resource = types.resource(Path(3, 0, 4))
    assert resource is not None
    assert resource.type is ResourceType.NONE


def test_an_object_that_was_not_registered_is_described_by_the_release() -> None:
    types = Library.builtin().for_device("1.1", {3: None})
    assert types.resource_type(Path(1, 0, 23)) is ResourceType.BOOLEAN
    model = types.object(1)
    assert model is not None
    assert model.version == "1.1"
    assert types.object(9999) is None


def test_resources_of_unknown_objects_leave_nothing_behind() -> None:
    types = Library.builtin().for_device("1.1", {})
    size = len(types._models)
    for object_id in range(20000, 20100):
        assert types.resource_type(Path(object_id, 0, 0)) is None
    assert len(types._models) == size


def test_only_lists_of_usual_length_are_remembered() -> None:
    library = Library(Library.builtin().models())
    usual = dict.fromkeys(range(3300, 3330))
    bomb = dict.fromkeys(range(1000, 3000))
    assert library.for_device("1.1", usual) is library.for_device("1.1", usual)
    assert library.for_device("1.1", bomb) is not library.for_device("1.1", bomb)
    assert library.for_device("1.1", bomb).object(1303) is None


def test_operations_are_written_in_letters() -> None:
    assert str(Operations.parse("WR")) == "RW"
    assert Operations.parse("") is Operations.NONE
    for wrong in ("RR", "X", "rw"):
        with pytest.raises(ValueError, match="is not made of R, W and E"):
            Operations.parse(wrong)


@pytest.mark.spec("MOD-2")
def test_a_urn_follows_from_the_identifiers_class() -> None:
    assert object_urn(3, "1.0") == "urn:oma:lwm2m:oma:3"
    assert object_urn(3303, "1.1") == "urn:oma:lwm2m:ext:3303:1.1"
    assert object_urn(10241, "1.0") == "urn:oma:lwm2m:x:10241"


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=12) | st.from_regex(r"\d{1,6}\.\d{1,6}(\.\d)?", fullmatch=True))
def test_any_version_gets_an_answer(text: str) -> None:
    choice = Library.builtin().choose(5, text, text)
    if parse_version(text) is None:
        assert choice.malformed == text
    if choice.model is not None:
        assert choice.model.id == 5
    else:
        assert choice.warning
