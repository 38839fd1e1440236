"""The import rules of pyproject.toml hold, and notice when one is broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Checks the copy in ``folder``; what is installed stays out of it."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-logo",
            "--config",
            "../pyproject.toml",
            "--cache-dir",
            "../cache",
        ],
        cwd=folder / "src",
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture(scope="module")
def clean_copy(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package beside its rules, with a warm cache of the import graph."""
    folder = tmp_path_factory.mktemp("clean")
    shutil.copy(project_root / "pyproject.toml", folder)
    shutil.copytree(
        project_root / "src" / "stellwerk", folder / "src" / "stellwerk", ignore=shutil.ignore_patterns("__pycache__")
    )
    lint_imports(folder)
    return folder


@pytest.fixture
def copy(clean_copy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean_copy, tmp_path / "copy"))


def test_the_import_rules_hold(clean_copy: Path) -> None:
    result = lint_imports(clean_copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "planted", "contract", "chain"),
    [
        (
            "coap/message.py",
            "import asyncio",
            "the inner half does no I/O and owns no clock",
            "stellwerk.coap.message -> asyncio",
        ),
        (
            "device/registration.py",
            "from time import monotonic",
            "the inner half does no I/O and owns no clock",
            "stellwerk.device.registration -> time",
        ),
        (
            "app/ports.py",
            "import stellwerk.coap.message",
            "only southbound, sim and net know datagrams",
            "stellwerk.app.ports -> stellwerk.coap.message",
        ),
        (
            "net/driver.py",
            "from stellwerk.lwm2m import path",
            "the driver knows no devices",
            "stellwerk.net.driver -> stellwerk.lwm2m.path",
        ),
        (
            "app/ports.py",
            "import sqlalchemy",
            "decisions know neither database nor web library",
            "stellwerk.app.ports -> sqlalchemy",
        ),
        (
            "lwm2m/path.py",
            "from stellwerk.app import ports",
            "data flows one way",
            "stellwerk.lwm2m.path -> stellwerk.app.ports",
        ),
        (
            "console/rendering.py",
            "from stellwerk.northbound import onem2m",
            "data flows one way",
            "stellwerk.console.rendering -> stellwerk.northbound",
        ),
        (
            "console/rendering.py",
            "import stellwerk.coap.message",
            "only southbound, sim and net know datagrams",
            "stellwerk.console.rendering -> stellwerk.coap.message",
        ),
        (
            "storage/__init__.py",
            "from stellwerk.northbound import onem2m",
            "data flows one way",
            "stellwerk.storage -> stellwerk.northbound",
        ),
    ],
)
def test_a_planted_import_breaks_the_rule_that_forbids_it(
    copy: Path, module: str, planted: str, contract: str, chain: str
) -> None:
    file = copy / "src" / "stellwerk" / module
    file.write_text(file.read_text(encoding="utf-8") + f"\n{planted}\n", encoding="utf-8")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contract} BROKEN" in result.stdout
    assert chain in result.stdout


def test_a_new_folder_has_to_say_where_it_stands(copy: Path) -> None:
    folder = copy / "src" / "stellwerk" / "gadgets"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Nobody said where this stands."""\n', encoding="utf-8")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "data flows one way" in result.stdout
    assert "gadgets" in result.stdout
