"""What the tests against real processes and other people's programs share."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from raw_coap import RawDevice
from served import Served

if TYPE_CHECKING:
    from bootstrapped import Bootstrapped

_FIRST = [
    f"test_{name}.py"
    for name in (
        "lossy", "crash", "queue_mode", "leshan_secure", "dtls_matrix", "brake", "leshan_bootstrap", "vendor_client",
        "tls_peers", "oscore_bootstrap",
    )
]  # fmt: skip
"""Those that take longest, in this order: files run beside each other, and none of them shall be the last alone."""
SILENT = "silent-1"
"""A device that never answers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _FIRST.index(item.path.name) if item.path.name in _FIRST else len(_FIRST))


def _servers(make_folder: Callable[[], Path]) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def make(**settings: str) -> Served:
        made.append(Served(make_folder(), **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Makes servers that end with the test: ``serve(auto_provision="load-*")``; not started yet."""
    yield from _servers(lambda: tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """The same for servers that tests of one module share."""
    yield from _servers(lambda: tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """A server and the name of a command to `SILENT`, which takes a minute and a half to time out."""
    server = Served(tmp_path_factory.mktemp("silent"), auto_provision=SILENT)
    device: RawDevice | None = None
    try:
        server.start()
        device = RawDevice(SILENT, server.coap_port, lambda message: None)
        device.register()
        yield server, server.api.command(SILENT, "READ /3303/0/5700")
    finally:
        if device is not None:
            device.close()
        server.close()


@pytest.fixture(scope="session")
def silent_bootstraps(
    silent: tuple[Served, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Bootstrapped"]]:
    """Devices that say nothing any more from one step of their bootstrapping on, by that step; it takes a minute and a
    half until that is certain."""
    from silent_devices import silent_devices

    with silent_devices(silent[0], tmp_path_factory.mktemp("silent-bootstraps")) as devices:
        yield devices


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-captures", action="store_true", help="write captures/ anew from test_dtls_matrix.py")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the DTLS matrix has shown, program by program."""
    shown: dict[str, dict[str, list[str]]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "matrix" and (report.when == "call" or outcome == "failed"):
                    peer, case, missing = value
                    row = shown.setdefault(peer, {}).setdefault(f"not shown: {missing}" if missing else outcome, [])
                    row.append(case)
    if shown:
        terminalreporter.section("DTLS with programs of others")
    for peer, rows in shown.items():
        for outcome, cases in rows.items():
            terminalreporter.write_line(f"{peer}, {outcome}: {', '.join(cases)}")


@pytest.fixture(scope="session", autouse=True)
def _silent_from_the_start(request: pytest.FixtureRequest) -> None:
    """Their time runs while the other tests do."""
    for name in ("silent", "silent_bootstraps"):
        if any(name in getattr(each, "fixturenames", ()) for each in request.session.items):
            # What fails here fails again, in the tests that ask for it and in no others.
            with contextlib.suppress(AssertionError, OSError):
                request.getfixturevalue(name)
