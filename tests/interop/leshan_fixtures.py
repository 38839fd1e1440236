"""A server and a device on Leshan's client for each test; modules import these fixtures by name."""

import itertools
from collections.abc import Callable, Iterator

import pytest
from leshan_client import LeshanClient, class_path
from served import Served

REASON = class_path()[1]
needs_leshan = pytest.mark.skipif(bool(REASON), reason=f"Leshan: {REASON}")

ROOM = "d2c-uplink-property_Room:room123"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module(expiry_grace_s="0").start()


@pytest.fixture
def name(server: Served) -> str:
    """The resource name of a device of its own, provisioned for one test."""
    chosen = f"leshan{next(_numbers):02d}"
    server.api.provision(chosen, f"urn:dev:os:{chosen}", ["d2c:1.0", ROOM])
    return chosen


@pytest.fixture
def leshan(server: Served, name: str) -> Iterator[Callable[..., LeshanClient]]:
    made: list[LeshanClient] = []

    def connect(port: int | None = None, **options: object) -> LeshanClient:
        made.append(LeshanClient(port or server.coap_port, f"urn:dev:os:{name}", **options))  # type: ignore[arg-type]
        assert made[-1].wait_said("register").startswith("registered /rd/")
        server.api.wait_type(name, "registration")
        return made[-1]

    yield connect
    for each in made:
        each.kill()
