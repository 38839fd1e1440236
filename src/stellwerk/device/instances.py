"""What a device has after it created or deleted an instance: it may not say so in an Update (contract D-9, D-10)."""

from dataclasses import replace

from stellwerk.lwm2m.link_format import ListedObject, ObjectList
from stellwerk.lwm2m.operations import Create, Delete, Operation
from stellwerk.lwm2m.path import RESERVED_ID, Path, PathError


def objects_after(
    operation: Operation, objects: ObjectList, location: str = "", instances: tuple[int, ...] | None = None
) -> ObjectList | None:
    """The object list once the device did ``operation``; None where that changes nothing in it. ``location``: the path
    of what a Create made, where that is known; ``instances``: all that the object has since, where that was asked."""
    if not isinstance(operation, Create | Delete):
        return None
    object_id = operation.path[0]
    before = objects.objects.get(object_id, ListedObject())
    known = set(before.instances)
    if isinstance(operation, Delete):
        if len(operation.path) != 2:
            return None
        known.discard(operation.path[1])
    elif instances is not None:
        known = set(instances)
    else:
        try:
            made = Path.parse(location) if location else Path()
        except PathError:
            # A device may say anything.
            return None
        if len(made) != 2 or made[0] != object_id or made[1] == RESERVED_ID:
            return None
        known.add(made[1])
    after = before._replace(instances=tuple(sorted(known)))
    if after == before and object_id in objects.objects:
        return None
    return replace(objects, objects=dict(sorted({**objects.objects, object_id: after}.items())))
