"""Writes docs/conformance.md: every row of docs/conformance_rows.toml with the tests that show it.

The tests say what they show by `@pytest.mark.spec("MSG-1", "RFC 7252 4.5")`. The markers are read from the source text,
not by running pytest: the page is then the same on every machine, whatever a test needs that is not installed there.

    python tools/conformance.py            write the page
    python tools/conformance.py --check    exit 1 when the page is not what would be written
"""

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "conformance.md"
ROWS = ROOT / "docs" / "conformance_rows.toml"
DEVIATIONS = ROOT / "docs" / "deviations.md"
SHOWN_PER_ROW = 6


@dataclass(frozen=True, slots=True)
class Shown:
    """``clause``: one argument of a marker. ``test``: ``tests/unit/test_x.py::test_name``."""

    clause: str
    test: str


class UnreadableMarker(Exception):
    """A marker whose arguments are not literal strings: the page could not name them."""


def clauses_of(node: ast.expr, where: str) -> Iterator[str]:
    """The clauses of ``pytest.mark.spec(...)``, ``mark.spec(...)`` or ``spec(...)`` anywhere in the expression.

    Raises `UnreadableMarker`.
    """
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name != "spec":
            continue
        for argument in call.args:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise UnreadableMarker(f"{where}:{call.lineno}: arguments of spec must be literal strings")
            yield argument.value


def shown_in(source: str, where: str) -> Iterator[Shown]:
    """Every clause that a test module shows; a marker on a class or module counts for each test in it.

    Raises `UnreadableMarker`.
    """

    def visit(body: list[ast.stmt], prefix: str, outer: list[str]) -> Iterator[Shown]:
        for statement in body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name.startswith("test"):
                own = [clause for decorator in statement.decorator_list for clause in clauses_of(decorator, where)]
                for clause in dict.fromkeys(outer + own):
                    yield Shown(clause, f"{prefix}::{statement.name}")
            elif isinstance(statement, ast.ClassDef):
                own = [clause for decorator in statement.decorator_list for clause in clauses_of(decorator, where)]
                yield from visit(statement.body, f"{prefix}::{statement.name}", outer + own)

    tree = ast.parse(source, where)
    of_module = [
        clause
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets)
        for clause in clauses_of(statement.value, where)
    ]
    yield from visit(tree.body, where, of_module)


def collect(tests: Path) -> list[Shown]:
    """What all test modules below ``tests`` show, in the order of their paths. Raises `UnreadableMarker`."""
    found: list[Shown] = []
    for file in sorted(tests.rglob("test_*.py")):
        found += shown_in(file.read_text(encoding="utf-8"), file.relative_to(tests.parent).as_posix())
    return found


def load_rows() -> dict[str, Any]:
    return tomllib.loads(ROWS.read_text(encoding="utf-8"))


def is_of(clause: str, prefix: str) -> bool:
    """Whether ``clause`` is the standard ``prefix`` as a whole, or its prefix, a blank and a clause."""
    return clause == prefix or clause.startswith(prefix + " ")


def unknown_clauses(found: list[Shown], rows: dict[str, Any]) -> list[Shown]:
    """Markers that name neither a row nor a known standard."""
    known = {row["id"] for group in rows["group"] for row in group["rows"]}
    prefixes = [standard["prefix"] for standard in rows["standard"]]
    return [
        shown
        for shown in found
        if shown.clause not in known and not any(is_of(shown.clause, prefix) for prefix in prefixes)
    ]


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts clause 4.10 behind 4.9."""
    parts = "".join(c if c.isdigit() else f" {c} " for c in text).split()
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def cell(tests: list[str]) -> str:
    links = [f"`{test.removeprefix('tests/')}`" for test in tests[:SHOWN_PER_ROW]]
    if len(tests) > SHOWN_PER_ROW:
        links.append(f"and {len(tests) - SHOWN_PER_ROW} more")
    return "<br>".join(links)


def render(found: list[Shown], rows: dict[str, Any], deviations: str) -> str:
    """The page's text."""
    tests_of: dict[str, list[str]] = defaultdict(list)
    for shown in found:
        if shown.test not in tests_of[shown.clause]:
            tests_of[shown.clause].append(shown.test)
    for tests in tests_of.values():
        tests.sort()

    all_rows = [row for group in rows["group"] for row in group["rows"]]
    count = sum(1 for row in all_rows if tests_of.get(row["id"]))
    lines = [
        "# Conformance",
        "",
        "Made by `make docs` from the `spec` markers of the tests and from `conformance_rows.toml`; do not edit.",
        "A row names an item of the LwM2M contract; beside it stand the tests that show it, or why it is open.",
        "",
        f"{count} of {len(all_rows)} rows are shown by tests.",
    ]
    for group in rows["group"]:
        lines += ["", f"## {group['title']}", "", "| row | what is asked | shown by |", "|---|---|---|"]
        for row in group["rows"]:
            tests = tests_of.get(row["id"], [])
            shown_by = cell(tests) if tests else f"open: {row.get('open', 'no test shows it yet')}"
            lines.append(f"| {row['id']} | {row['title']} | {shown_by} |")

    lines += ["", "## Clauses of standards", "", "| clause | shown by |", "|---|---|"]
    for standard in rows["standard"]:
        prefix = standard["prefix"]
        clauses = sorted((clause for clause in tests_of if is_of(clause, prefix)), key=natural)
        state = "" if clauses else f"open: {standard.get('open', 'no test names a clause of it yet')}"
        lines.append(f"| **{prefix}** {standard['title']} | {state} |")
        lines += [f"| {clause} | {cell(tests_of[clause])} |" for clause in clauses]

    lines += ["", deviations.strip().replace("# Deviations", "## Deviations", 1), ""]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    try:
        found = collect(ROOT / "tests")
    except UnreadableMarker as error:
        print(error, file=sys.stderr)
        return 1
    rows = load_rows()
    unknown = unknown_clauses(found, rows)
    if unknown:
        for shown in unknown:
            print(f"{shown.test}: {shown.clause!r} is neither a row nor a clause of {ROWS.name}", file=sys.stderr)
        return 1
    page = render(found, rows, DEVIATIONS.read_text(encoding="utf-8"))
    if arguments == ["--check"]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
            print("docs/conformance.md is not what the tests say; run: make docs", file=sys.stderr)
            return 1
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
