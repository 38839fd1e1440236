"""The built-in definitions agree with the public registry, resource by resource."""

from pathlib import Path

import pytest

from stellwerk.lwm2m.schema.builtin import builtin_models
from stellwerk.lwm2m.schema.ddf import load_ddf
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel

CORE = {0: "1.2", 1: "1.2", 2: "1.1", 3: "1.2", 4: "1.3", 5: "1.2", 6: "1.0", 7: "1.0"}
OTHERS = {
    9: "1.0",
    10: "1.1",
    11: "1.1",
    12: "1.1",
    13: "1.1",
    16: "1.0",
    19: "1.0",
    20: "2.1",
    21: "2.0",
    22: "1.1",
    23: "1.0",
    24: "1.0",
    25: "2.0",
    26: "1.0",
    27: "1.0",
    28: "1.0",
}
IPSO = {*range(3200, 3204), *range(3300, 3306), 3308, 3311, 3313, 3315, 3316, *range(3320, 3348), 3441, 3442}


@pytest.fixture
def registry(shared_dir: Path) -> Path:
    folder = shared_dir / "data" / "oma-registry"
    if not folder.is_dir():
        pytest.skip("the registry's files are not there")
    return folder


def facts(resource: ResourceModel) -> tuple[object, ...]:
    # Two registered "ranges" are sentences that point to the specification; what they say is not a range.
    is_sentence = resource.range_text.startswith("The possible values")
    return (
        resource.id,
        resource.name,
        resource.operations,
        resource.multiple,
        resource.mandatory,
        resource.type,
        "" if is_sentence else resource.range_text,
        resource.units,
    )


def facts_of_object(model: ObjectModel) -> tuple[object, ...]:
    resources = tuple(facts(each) for each in model.resources.values())
    return model.id, model.name, model.version, model.urn, model.multiple, model.mandatory, resources


def test_the_objects_promised_are_there_in_their_newest_version() -> None:
    versions: dict[int, list[str]] = {}
    for model in builtin_models():
        versions.setdefault(model.id, []).append(model.version)
    assert set(versions) == {*CORE, *OTHERS, *IPSO}
    assert {each: max(versions[each]) for each in {**CORE, **OTHERS}} == CORE | OTHERS


def test_no_object_version_is_stated_twice() -> None:
    keys = [(each.id, each.version) for each in builtin_models()]
    assert len(keys) == len(set(keys))


@pytest.mark.spec("Core 1.2.2 App. E")
def test_every_built_in_model_equals_the_registered_one(registry: Path) -> None:
    for model in builtin_models():
        name = f"{model.id}-{model.version.replace('.', '_')}.xml"
        (registered,) = load_ddf((registry / "version_history" / name).read_bytes())
        assert facts_of_object(model) == facts_of_object(registered), name


def test_every_registered_version_of_a_built_in_object_is_built_in(registry: Path) -> None:
    ours = {(each.id, each.version) for each in builtin_models()}
    identifiers = {identifier for identifier, _ in ours}
    for file in sorted(registry.glob("version_history/*.xml")) + sorted(registry.glob("[0-9]*.xml")):
        identifier = int(file.stem.split("-")[0])
        if identifier in identifiers:
            (registered,) = load_ddf(file.read_bytes())
            assert (registered.id, registered.version) in ours, file.name


@pytest.mark.spec("Core 1.2.2 6.1.7")
def test_what_only_a_bootstrap_server_touches_has_no_operations() -> None:
    for model in builtin_models():
        if model.id in {0, 21, 23}:
            assert not any(each.operations for each in model.resources.values()), (model.id, model.version)
