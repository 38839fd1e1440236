"""`tools/readme_check.py`: the README's lines are run as they stand there."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def readme_check(project_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_check", project_root / "tools" / "readme_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["readme_check"] = module
    spec.loader.exec_module(module)
    return module


def test_only_marked_blocks_are_run(readme_check: ModuleType, tmp_path: Path) -> None:
    marked, unmarked = tmp_path / "marked", tmp_path / "unmarked"
    markdown = f"```sh run\ntouch {marked}\n```\n```sh\ntouch {unmarked}\n```\n"
    assert readme_check.check(markdown) == []
    assert marked.exists()
    assert not unmarked.exists()


def test_a_missing_text_is_told_with_the_output(readme_check: ModuleType) -> None:
    markdown = '```sh run\necho \'{"code": 404}\'\n```\n<!-- expect: "code":200 -->\n'
    (complaint,) = readme_check.check(markdown)
    assert 'lacks "code":200' in complaint
    assert '{"code": 404}' in complaint


def test_blanks_do_not_count(readme_check: ModuleType) -> None:
    assert readme_check.check('```sh run\necho \'{"code": 200}\'\n```\n<!-- expect: "code":200 -->\n') == []


def test_a_failing_command_is_told(readme_check: ModuleType) -> None:
    (complaint,) = readme_check.check("```sh run\nfalse\ntrue\n```\n")
    assert "status 1" in complaint


def test_a_block_is_repeated_until_its_text_comes(readme_check: ModuleType, tmp_path: Path) -> None:
    count = tmp_path / "count"
    markdown = f"```sh run\necho x >> {count}\nwc -l < {count}\n```\n<!-- expect within 10 s: 2 -->\n"
    assert readme_check.check(markdown) == []


def test_addresses_are_replaced_and_nothing_else(readme_check: ModuleType) -> None:
    markdown = (
        "```sh run\necho http://127.0.0.1:8080/x coap://127.0.0.1:5683 127.0.0.1\n```\n<!-- expect: {} -->\n".format(
            "http://127.0.0.1:1/x coap://[::1]:2 127.0.0.1"
        )
    )
    assert readme_check.check(markdown, "127.0.0.1:1", "[::1]:2") == []


def test_a_background_block_is_ended_in_the_end(readme_check: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho number $$ > {file}\nexec sleep 100\n", encoding="utf-8")
    script.chmod(0o700)
    markdown = f"```sh run background\n{script}\n```\n```sh run\ncat {file}\n```\n<!-- expect within 10 s: number -->\n"
    assert readme_check.check(markdown) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text(encoding="utf-8").split()[1]), 0)


def test_the_readme_has_lines_to_run_and_expects_something_of_each(
    readme_check: ModuleType, project_root: Path
) -> None:
    blocks = readme_check.read_blocks((project_root / "README.md").read_text(encoding="utf-8"))
    run = [block for block in blocks if block.runs]
    assert len(run) >= 5
    assert all(block.expected or block.in_background for block in run)
