"""The command line: what it answers, and that mistakes are one line and exit status 2."""

import sys

import pytest
from typer.testing import CliRunner

from stellwerk import __version__
from stellwerk.cli import app, main

run = CliRunner()


def test_the_version_is_told():
    found = run.invoke(app, ["--version"])
    assert (found.exit_code, found.stdout) == (0, f"stellwerk {__version__}\n")


@pytest.mark.parametrize("command", [[], ["serve"], ["demo"], ["sim"]])
def test_every_command_has_help(command: list[str]):
    found = run.invoke(app, [*command, "--help"])
    assert found.exit_code == 0
    assert "Usage" in found.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["sim", "--count", "0"],
        ["sim", "--loss", "200%"],
        ["sim", "--loss", "nan"],
        ["sim", "--lifetime", "99999999999"],
        ["demo", "--http-port", "65536"],
        ["demo", "--coap-port", "-1"],
    ],
)
def test_a_word_that_makes_no_sense_is_refused(words: list[str]):
    assert run.invoke(app, words).exit_code == 2


@pytest.mark.parametrize("tenant", ["[/red]", "[bold]x", "x" * 200 + " y"])
def test_a_mistake_is_one_line_that_repeats_what_was_written(monkeypatch, capsys, tenant: str):
    monkeypatch.setenv("STELLWERK_TENANT", tenant)
    monkeypatch.setattr(sys, "argv", ["stellwerk", "serve"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert repr(tenant) in said
