"""What the tests against real processes and other people's programs share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import Served


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Makes servers that end with the test: ``serve(auto_provision="load-*")``; not started yet."""
    made: list[Served] = []

    def make(**settings: str) -> Served:
        folder = tmp_path / f"server-{len(made)}"
        folder.mkdir()
        made.append(Served(folder, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
