"""What is refused before it is sent, and what is not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.checks import (
    Ground,
    Objection,
    check_create,
    check_delete,
    check_execute,
    check_read,
    check_write,
)
from stellwerk.lwm2m.schema.library import DeviceTypes, Library

TYPES = Library.builtin().for_device("1.1", {3: None, 5: None, 3311: None})


def ground(objection: Objection | None) -> Ground | None:
    return None if objection is None else objection.ground


@pytest.mark.spec("D-5")
def test_an_executable_cannot_be_read() -> None:
    objection = check_read(TYPES, Path(3, 0, 4))
    assert objection is not None
    assert objection.ground is Ground.OPERATION
    assert str(objection) == "resource /3/0/4 Reboot cannot be read: its operations are E"


@pytest.mark.spec("D-5")
def test_what_is_only_written_cannot_be_read() -> None:
    assert ground(check_read(TYPES, Path(5, 0, 0))) is Ground.OPERATION


@pytest.mark.spec("D-5")
def test_objects_instances_and_readable_resources_can_be_read() -> None:
    for path in (Path(3), Path(3, 0), Path(3, 0, 0), Path(3, 0, 6), Path(3, 0, 6, 1)):
        assert check_read(TYPES, path) is None


@pytest.mark.spec("D-5")
def test_a_single_resource_has_no_instances() -> None:
    objection = check_read(TYPES, Path(3, 0, 0, 0))
    assert objection is not None
    assert objection.ground is Ground.INSTANCES
    assert objection.text == "resource /3/0/0 Manufacturer has no resource instances; use /3/0/0"


@pytest.mark.spec("D-5")
@pytest.mark.parametrize("object_id", [0, 21, 23])
def test_objects_of_keys_are_blocked_unless_overridden(object_id: int) -> None:
    path = Path(object_id, 0, 0)
    assert ground(check_read(TYPES, Path(object_id))) is Ground.PROTECTED
    assert ground(check_write(TYPES, path)) is Ground.PROTECTED
    assert ground(check_execute(TYPES, path)) is Ground.PROTECTED
    assert ground(check_create(TYPES, Path(object_id))) is Ground.PROTECTED
    assert ground(check_delete(TYPES, Path(object_id, 0))) is Ground.PROTECTED
    assert check_read(TYPES, path, allow_protected=True) is None
    assert check_write(TYPES, path, allow_protected=True) is None


@pytest.mark.spec("D-5")
def test_a_resource_without_operations_is_for_bootstrap_servers() -> None:
    objection = check_read(TYPES, Path(1, 0, 13))
    assert objection is not None
    assert objection.text.endswith("cannot be read: only a bootstrap server may access it")
    assert check_write(TYPES, Path(1, 0, 13), allow_protected=True) is None


@pytest.mark.spec("D-7")
def test_an_object_is_not_written() -> None:
    objection = check_write(TYPES, Path(3))
    assert objection is not None
    assert objection.ground is Ground.PATH
    assert "an object instance or a resource" in objection.text


@pytest.mark.spec("D-5")
def test_a_written_value_fits_its_resource() -> None:
    path = Path(3311, 0, 5851)
    assert check_write(TYPES, path, [Entry(path, 50)]) is None
    for wrong in (101, -1, "50", 50.5, True):
        objection = check_write(TYPES, path, [Entry(path, wrong)])
        assert objection is not None, wrong
        assert objection.ground is Ground.VALUE
        assert objection.text.startswith("/3311/0/5851 Dimmer: ")


@pytest.mark.spec("D-5")
def test_each_entry_of_an_instance_is_checked() -> None:
    instance = Path(3311, 0)
    good = Entry(Path(3311, 0, 5850), True)
    assert check_write(TYPES, instance, [good]) is None
    assert ground(check_write(TYPES, instance, [good, Entry(Path(3311, 0, 5805), 1.5)])) is Ground.OPERATION
    assert ground(check_write(TYPES, instance, [Entry(Path(3311, 1, 5850), True)])) is Ground.PATH


@pytest.mark.spec("D-6")
def test_a_multiple_resource_is_written_by_instances() -> None:
    path = Path(3442, 0, 1120)
    assert check_write(TYPES, path, [Entry(path.child(0), 1), Entry(path.child(7), 2)]) is None
    assert ground(check_write(TYPES, path, [Entry(path, 1)])) is Ground.INSTANCES


@pytest.mark.spec("D-5")
def test_only_an_executable_is_executed() -> None:
    assert check_execute(TYPES, Path(3, 0, 4)) is None
    assert ground(check_execute(TYPES, Path(3, 0, 0))) is Ground.OPERATION
    assert ground(check_execute(TYPES, Path(3, 0))) is Ground.PATH


@pytest.mark.spec("D-5")
def test_a_new_instance_needs_the_mandatory_resources_that_can_be_written() -> None:
    instance = Path(1, 65535)
    values = [
        Entry(instance.child(0), 101),
        Entry(instance.child(1), 60),
        Entry(instance.child(6), True),
        Entry(instance.child(7), "U"),
    ]
    assert check_create(TYPES, Path(1), values) is None
    objection = check_create(TYPES, Path(1), values[:2])
    assert objection is not None
    assert objection.ground is Ground.MANDATORY
    assert "6 Notification Storing When Disabled or Offline, 7 Binding" in objection.text
    assert ground(check_create(TYPES, Path(1), [*values, Entry(instance.child(4), 1)])) is Ground.OPERATION
    assert ground(check_create(TYPES, Path(1), [Entry(instance.child(1), "long")])) is Ground.VALUE


@pytest.mark.spec("D-10")
def test_the_device_instance_is_never_deleted() -> None:
    assert ground(check_delete(TYPES, Path(3, 0))) is Ground.OPERATION
    assert check_delete(TYPES, Path(3311, 0)) is None
    assert check_delete(TYPES, Path(3442, 0, 1120, 3)) is None
    assert ground(check_delete(TYPES, Path(3442, 0, 1120))) is Ground.PATH


@pytest.mark.spec("MOD-7")
@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 65535), min_size=0, max_size=4), value=st.integers() | st.text() | st.binary())
def test_what_no_model_knows_is_never_blocked(ids: list[int], value: int | str | bytes) -> None:
    nothing = DeviceTypes(Library(), "1.1", {})
    path = Path(*ids)
    checked = (
        check_read(nothing, path),
        check_write(nothing, path, [Entry(path, value)]),
        check_execute(nothing, path),
        check_create(nothing, path),
        check_delete(nothing, path),
    )
    for objection in checked:
        if objection is not None:
            assert objection.ground in (Ground.PATH, Ground.PROTECTED) or ids == [3, 0]
