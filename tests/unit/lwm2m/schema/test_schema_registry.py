"""The whole public registry of object definitions, current and former files, against the parser."""

from pathlib import Path

import pytest

from stellwerk.lwm2m.path import MAX_ID
from stellwerk.lwm2m.schema.ddf import DdfError, NoDefinition, encode_ddf, load_ddf
from stellwerk.lwm2m.schema.model import ObjectModel, parse_version
from stellwerk.lwm2m.schema.ranges import Measure
from stellwerk.lwm2m.value import ResourceType

Loaded = dict[str, list[ObjectModel]]

LENGTHS = {ResourceType.STRING, ResourceType.CORELNK, ResourceType.OPAQUE}
OUTERMOST = "the outermost element of a definition is LWM2M, here it is "
REFUSED = {
    "Common.xml": "ObjectType is 'CommonResources', a definition has MODefinition",
    "DDF.xml": OUTERMOST + "DDFList, the index of a registry",
    "LWM2M_senml_units.xml": OUTERMOST + "units, a table of units",
}
FREE_TEXT = {
    "'1 bytes'", "'16-bit'", "'2 Instances'", "'2 bytes'", "'255'", "'8 bit'", "'8-Bits'", "'<7 to >12.5'", "'ON;OFF'",
    "'[1:4]'", "'0..65535'", "'The possible values are those listed in the LwM2M Core Specification'",
    "'The possible values of Resource are listed in 5.3.1.1'",
}  # fmt: skip
"""The only range texts of the registry that say nothing a program can check of their resource's type."""


@pytest.fixture(scope="module")
def everything(shared_dir: Path) -> tuple[Loaded, dict[str, DdfError]]:
    """What loads, by the path below the registry's folder, and what is refused."""
    folder = shared_dir / "data" / "oma-registry"
    if not folder.is_dir():
        pytest.skip("the registry's files are not there")
    loaded: Loaded = {}
    refused: dict[str, DdfError] = {}
    for file in sorted(folder.rglob("*.xml")):
        name = str(file.relative_to(folder))
        try:
            loaded[name] = load_ddf(file.read_bytes())
        except DdfError as error:
            refused[name] = error
    return loaded, refused


@pytest.fixture(scope="module")
def loaded(everything: tuple[Loaded, dict[str, DdfError]]) -> Loaded:
    return everything[0]


@pytest.mark.spec("LwM2M-contract 9", "Core 1.2.2 App. D", "MOD-8")
def test_all_definitions_load_and_what_is_none_is_refused_for_its_reason(
    everything: tuple[Loaded, dict[str, DdfError]],
) -> None:
    loaded, refused = everything
    assert {name: error.rule for name, error in refused.items()} == REFUSED
    assert all(isinstance(error, NoDefinition) for error in refused.values())
    assert len(loaded) >= 751


@pytest.mark.spec("LwM2M-contract 9")
def test_files_are_named_by_what_they_define(loaded: Loaded) -> None:
    for name, models in loaded.items():
        stem = Path(name).stem
        for model in models:
            if "-" in stem:
                assert stem == f"{model.id}-{model.version.replace('.', '_')}", name
            else:
                assert stem == str(model.id), name


def test_the_current_file_is_the_newest_version_and_equals_the_one_kept_of_it(loaded: Loaded) -> None:
    history: dict[int, dict[tuple[int, int], ObjectModel]] = {}
    for name, models in loaded.items():
        if name.startswith("version_history/"):
            for model in models:
                version = parse_version(model.version)
                assert version is not None
                history.setdefault(model.id, {})[version] = model
    for name, models in loaded.items():
        for model in models if "/" not in name else ():
            if model.id in history:
                assert model == history[model.id][max(history[model.id])], name


def test_facts_are_within_their_bounds(loaded: Loaded) -> None:
    for name, models in loaded.items():
        for model in models:
            assert 0 <= model.id <= MAX_ID, name
            assert model.name, name
            assert model.urn.startswith("urn:oma:lwm2m:"), name
            assert parse_version(model.version) is not None, name
            assert list(model.resources) == sorted(model.resources), name
            for identifier, resource in model.resources.items():
                assert resource.id == identifier <= MAX_ID, name
                assert resource.name, name
                assert model.types.get(identifier, ResourceType.NONE) is resource.type, name


def test_what_is_written_of_a_model_reads_as_the_same_model(loaded: Loaded) -> None:
    for name, models in loaded.items():
        if "/" not in name:
            assert [load_ddf(encode_ddf(each)) for each in models] == [[each] for each in models], name


@pytest.mark.spec("LwM2M-contract 9")
def test_ranges_admit_their_bounds_and_refuse_what_lies_beyond(loaded: Loaded) -> None:
    free = set()
    for name, models in loaded.items():
        for resource in (each for model in models for each in model.resources.values()):
            if resource.range is None:
                free |= {repr(resource.range_text)} if resource.range_text else set()
                continue
            where = (name, resource.id, resource.range_text)
            spans = resource.range.spans
            assert (resource.range.measure is not Measure.VALUE) == (resource.type in LENGTHS), where
            below, above = min(low for low, _ in spans) - 1, max(high for _, high in spans) + 1
            if resource.range.measure is Measure.VALUE:
                assert all(resource.range.admits(bound) for span in spans for bound in span), where
                assert not resource.range.admits(below), where
                assert not resource.range.admits(above), where
            else:
                assert below >= -1, where
                if above < 100_000:
                    value = b"x" * int(above) if resource.type is ResourceType.OPAQUE else "x" * int(above)
                    assert resource.range.admits(value[:-1]), where
                    assert not resource.range.admits(value), where
    assert free == FREE_TEXT
