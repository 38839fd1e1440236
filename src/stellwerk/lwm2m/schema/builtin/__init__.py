"""Object definitions that come with Stellwerk: their facts as tables, written here, in every published version.

One line of `table.row` is one resource; a later version of an object states only what it changes (`table.revise`).
The IPSO objects share one pool of reusable resources (`ipso`). What a registry adds later is loaded with `schema.ddf`.
"""

from stellwerk.lwm2m.schema.builtin import (
    connectivity,
    containers,
    device,
    ipso,
    keys,
    reporting,
    server,
    software,
    test_objects,
)
from stellwerk.lwm2m.schema.model import ObjectModel


def builtin_models() -> tuple[ObjectModel, ...]:
    """Every built-in model, all versions of all objects."""
    return (
        *server.MODELS,
        *device.MODELS,
        *software.MODELS,
        *connectivity.MODELS,
        *containers.MODELS,
        *reporting.MODELS,
        *keys.MODELS,
        *ipso.MODELS,
        *test_objects.MODELS,
    )
