"""One fresh stack a test."""

from collections.abc import Iterator

import pytest

from tests.scenario.lab import Lab
from tests.scenario.stack import Stack


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack()
    yield made
    made.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()
