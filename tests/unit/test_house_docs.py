"""What the words around the code promise: commands exist, settings are documented, links lead somewhere."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import typer

from stellwerk.config import LATER, Settings
from stellwerk.dtls.failures import DROPS, REASONS

# Pieces, so that this file does not name what it looks for.
MACHINE_FOLDERS = ("home", "root", "work", "Users")
ABSOLUTE_PATH = re.compile(r"(?<![\w}.:/-])/(?:" + "|".join(MACHINE_FOLDERS) + r")/\w")
REGISTRIES = ("py" + "pi.org", "pythonhosted" + ".org", "maven" + ".org", "maven" + ".apache.org/repo", "npm" + "js")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".sh", ".c", ".xml", ".json", ".cfg", ".mako", ".ini", ""}


def text_files(root: Path) -> list[Path]:
    folders = ("src", "tests", "docs", "examples", "tools", "benchmarks", "changes", "captures", ".ci")
    found = [file for file in root.iterdir() if file.is_file() and not file.name.startswith(".git")]
    found += [file for folder in folders for file in (root / folder).rglob("*") if file.is_file()]
    return [
        file
        for file in found
        if file.suffix in TEXT_SUFFIXES and not {"__pycache__", "stellwerk.egg-info"} & set(file.parts)
    ]


def code_blocks(markdown: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)


def shell_commands(root: Path) -> list[tuple[str, list[str]]]:
    """(page, words) of every command in the sh blocks of the README and the docs, variables before it left out."""
    commands = []
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        for block in code_blocks(page.read_text(encoding="utf-8"), "sh"):
            for line in block.replace("\\\n", " ").replace("&&", "\n").splitlines():
                if line.startswith(("make", ".venv", "STELLWERK")):
                    words = shlex.split(line)
                    while "=" in words[0]:
                        words.pop(0)
                    commands.append((page.name, words))
    return commands


def test_every_make_target_in_the_docs_exists(project_root: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (project_root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[1] for _, words in shell_commands(project_root) if words[0] == "make" and len(words) > 1}
    assert {"demo", "bench"} <= named
    assert named <= targets
    assert {"setup", "demo", "test", "check", "interop", "bench", "fuzz", "docs"} <= targets


def test_every_stellwerk_command_and_option_in_the_docs_exists(project_root: Path) -> None:
    from stellwerk.cli import app  # the rest of this module should not depend on every part of the program

    every = typer.main.get_group(app)
    ours = [words for _, words in shell_commands(project_root) if words[0] == ".venv/bin/stellwerk"]
    assert ours
    for _, *arguments in ours:
        command: Any = every
        # A group of commands is followed to the one that is meant.
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= options, command.name


def setting_names() -> dict[str, str]:
    """Every setting that does something, with its default as the page prints it."""
    defaults = {}
    for field in dataclasses.fields(Settings):
        default = field.default
        if default in ("", (), None):
            shown = "unset"
        elif isinstance(default, bool):
            shown = "`on`" if default else "`off`"
        elif isinstance(default, tuple):
            shown = f"`{','.join(map(str, default))}`"
        else:
            shown = f"`{default}`"
        defaults[f"STELLWERK_{field.name.upper()}"] = shown
    return defaults


def test_every_setting_is_documented_with_its_default_and_no_other(project_root: Path) -> None:
    page = (project_root / "docs" / "settings.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(STELLWERK_[A-Z_]+)` \| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE)
    assert dict(documented) == setting_names()
    reserved = re.findall(r"^\| `(STELLWERK_[A-Z_]+)` \| [^|]+ \|$", page, re.MULTILINE)
    assert set(reserved) == LATER


def test_no_page_names_a_setting_that_does_not_exist(project_root: Path) -> None:
    known = setting_names().keys() | LATER
    for page in [project_root / "README.md", *(project_root / "docs").glob("*.md")]:
        named = set(re.findall(r"STELLWERK_[A-Z]+(?:_[A-Z]+)*", page.read_text(encoding="utf-8")))
        assert named <= known, page.name


def test_the_tree_names_no_folder_of_a_machine_and_no_registry(project_root: Path) -> None:
    found = []
    for file in text_files(project_root):
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if ABSOLUTE_PATH.search(line) or any(registry in line for registry in REGISTRIES):
                found.append(f"{file.relative_to(project_root)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_constraints_are_names_and_exact_versions_only(project_root: Path) -> None:
    lines = (project_root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    assert len({pin.partition("==")[0].lower() for pin in pins}) == len(pins) > 40


def test_every_link_between_pages_leads_somewhere(project_root: Path) -> None:
    pages = [
        project_root / "README.md",
        *(project_root / "docs").rglob("*.md"),
        *(project_root / "changes").glob("*.md"),
    ]
    broken = [
        f"{page.relative_to(project_root)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_stands_in_the_index(project_root: Path) -> None:
    index = (project_root / "docs" / "index.md").read_text(encoding="utf-8")
    included = {"index.md", "deviations.md"}
    pages = {page.name for page in (project_root / "docs").glob("*.md")} - included
    assert {page for page in pages if f"({page})" not in index} == set()


def test_every_decision_says_question_choice_price_and_when_to_look_again(project_root: Path) -> None:
    records = sorted((project_root / "docs" / "decisions").glob("0*.md"))
    listed = (project_root / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    assert len(records) >= 4
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert text.startswith(f"# {record.name[:4]}: ")
        assert record.name in listed
        for part in ("**Question.**", "**Choice.**", "**Given up.**", "**Look again**"):
            assert part in text, f"{record.name} lacks {part}"


def test_every_module_says_what_it_is(project_root: Path) -> None:
    source = project_root / "src" / "stellwerk"
    silent = [
        str(module.relative_to(source))
        for module in sorted(source.rglob("*.py"))
        if not re.match(r'"""\s*[^\s"]', module.read_text(encoding="utf-8"))
    ]
    assert silent == []


def test_every_package_opens_with_a_few_lines(project_root: Path) -> None:
    source = project_root / "src" / "stellwerk"
    for folder in sorted(source.iterdir()):
        if folder.is_dir() and folder.name != "__pycache__":
            opening = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
            assert opening is not None
            assert len(opening.splitlines()) >= 3, folder.name


def test_every_reason_why_a_handshake_fails_or_a_record_is_dropped_is_explained(project_root: Path) -> None:
    page = (project_root / "docs" / "security.md").read_text(encoding="utf-8")
    for part, reasons in zip(page.split("Single datagrams that lead to nothing"), (REASONS, DROPS), strict=True):
        cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
        assert reasons.keys() <= {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
