"""`tools/conformance.py`: markers become a page."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def conformance(project_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", project_root / "tools" / "conformance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = module
    spec.loader.exec_module(module)
    return module


ROWS: dict[str, Any] = {
    "group": [
        {
            "title": "Messages",
            "rows": [{"id": "MSG-1", "title": "repeats"}, {"id": "MSG-2", "title": "once", "open": "comes later"}],
        }
    ],
    "standard": [{"prefix": "RFC 7252", "title": "CoAP"}],
}

MODULE = """
import pytest
from pytest import mark

pytestmark = [pytest.mark.spec("RFC 7252 4")]

@pytest.mark.spec("MSG-1", "RFC 7252 4.10")
def test_one(): ...

@mark.spec("MSG-2")
class TestMany:
    @pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.spec("RFC 7252 4.9"))])
    async def test_two(self, x): ...

@pytest.mark.spec("MSG-1")
def helper(): ...
"""


def test_markers_of_functions_classes_parameters_and_modules_are_found(conformance: ModuleType) -> None:
    found = {(shown.clause, shown.test) for shown in conformance.shown_in(MODULE, "tests/test_x.py")}
    assert found == {
        ("RFC 7252 4", "tests/test_x.py::test_one"),
        ("MSG-1", "tests/test_x.py::test_one"),
        ("RFC 7252 4.10", "tests/test_x.py::test_one"),
        ("RFC 7252 4", "tests/test_x.py::TestMany::test_two"),
        ("MSG-2", "tests/test_x.py::TestMany::test_two"),
        ("RFC 7252 4.9", "tests/test_x.py::TestMany::test_two"),
    }


def test_a_marker_that_cannot_be_read_is_an_error(conformance: ModuleType) -> None:
    source = "import pytest\n@pytest.mark.spec(CLAUSE)\ndef test_one(): ...\n"
    with pytest.raises(conformance.UnreadableMarker, match=r"tests/test_x\.py:2"):
        list(conformance.shown_in(source, "tests/test_x.py"))


def test_a_row_names_its_tests_or_why_it_is_open(conformance: ModuleType) -> None:
    shown = [conformance.Shown("MSG-1", "tests/test_x.py::test_one")]
    page = conformance.render(shown, ROWS, "# Deviations\n\nNone.\n")
    assert "| MSG-1 | repeats | `test_x.py::test_one` |" in page
    assert "| MSG-2 | once | open: comes later |" in page
    assert "1 of 2 rows" in page
    assert page.endswith("## Deviations\n\nNone.\n")


def test_clauses_are_ordered_as_numbers(conformance: ModuleType) -> None:
    shown = [conformance.Shown(f"RFC 7252 4.{n}", "tests/test_x.py::test_one") for n in (10, 9)]
    page = conformance.render(shown, ROWS, "# Deviations\n")
    assert page.index("RFC 7252 4.9") < page.index("RFC 7252 4.10")


def test_a_marker_that_names_nothing_known_is_told(conformance: ModuleType) -> None:
    shown = [
        conformance.Shown(clause, "tests/test_x.py::test_one")
        for clause in ("MSG-1", "MSG-99", "RFC 7252 4.2", "RFC 1")
    ]
    assert [each.clause for each in conformance.unknown_clauses(shown, ROWS)] == ["MSG-99", "RFC 1"]


@pytest.mark.slow
def test_every_marker_of_this_project_names_a_row_or_a_clause(conformance: ModuleType, project_root: Path) -> None:
    found = conformance.collect(project_root / "tests")
    assert found
    assert conformance.unknown_clauses(found, conformance.load_rows()) == []
