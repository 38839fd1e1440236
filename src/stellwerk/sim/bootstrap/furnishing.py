"""What a device has in objects 0, 1, 2, 21 and 23 before any server gave it something, or since one did."""

from collections.abc import Mapping

from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.body import Body
from stellwerk.sim.bootstrap.accounts import (
    FIRST_SHORT_ID,
    IS_BOOTSTRAP,
    MODE,
    NOSEC,
    OSCORE,
    SHORT_ID,
    URI,
    bootstrap_instance,
    oscore_instance,
)
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.bootstrap.serving import GIVEN, server_cells
from stellwerk.sim.tree import SECURITY, Instance


def furnish(body: Body, bootstrap: BootstrapOptions) -> None:
    """It has what it left the factory with."""
    _clear(body)
    tree = body.tree
    tree.add(Path(SECURITY, bootstrap.instance), bootstrap_instance(bootstrap))
    if bootstrap.oscore is not None:
        tree.add(Path(OSCORE, bootstrap.instance), oscore_instance(bootstrap.oscore))
    if bootstrap.factory_uri:
        number = next(each for each in (0, 1) if each != bootstrap.instance)
        given: Instance = {URI: bootstrap.factory_uri, IS_BOOTSTRAP: False, MODE: NOSEC, SHORT_ID: FIRST_SHORT_ID}
        tree.add(Path(SECURITY, number), given)
    if bootstrap.factory_uri or not bootstrap.is_bootstrap:
        cells = server_cells(body.release, muted=body.options.muted)
        cells |= {objects.SHORT_SERVER_ID: FIRST_SHORT_ID, objects.LIFETIME: body.options.lifetime_s}
        tree.add(Path(objects.SERVER, 0), cells)


def refurnish(body: Body, instances: Mapping[Path, Instance]) -> None:
    """It has what it was given in an earlier life."""
    _clear(body)
    executables = server_cells(body.release, muted=body.options.muted)
    for path, cells in instances.items():
        body.tree.add(path, {**executables, **cells} if path[0] == objects.SERVER else cells)


def _clear(body: Body) -> None:
    for object_id in GIVEN:
        for number in [*body.tree.instances(object_id)]:
            body.tree.remove(Path(object_id, number))
