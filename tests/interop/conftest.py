"""What the tests against real processes and other people's programs share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import Served


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
