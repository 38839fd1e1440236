"""What a client is bound to refuse, said before anything is sent (contract D-5, D-7, D-10).

Each check answers None or an `Objection`. A model that is not known never objects: devices have objects of their own,
and resources beyond the ones defined (contract D-4). ``allow_protected`` lets through what is for bootstrap servers:
the objects of keys, and resources without any operation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import DeviceTypes
from stellwerk.lwm2m.schema.model import ResourceModel
from stellwerk.lwm2m.schema.values import objection_to_value

PROTECTED_OBJECTS: Final = frozenset({0, 21, 23})
"""Security, OSCORE and COSE: keys, for bootstrap servers alone; a client answers 4.01."""

_LEVELS: Final = ("the root", "an object", "an object instance", "a resource", "a resource instance")


class Ground(Enum):
    """Why an operation is objected to."""

    PATH = "the operation has no such target"
    PROTECTED = "the object belongs to bootstrap servers"
    OPERATION = "the model does not allow the operation"
    INSTANCES = "the resource has, or has not, resource instances"
    MANDATORY = "a mandatory resource is missing"
    VALUE = "the value has another type or is out of range"


@dataclass(frozen=True, slots=True)
class Objection:
    """Why ``path`` should not be sent; ``text`` is a sentence for people that says what would be right."""

    path: Path
    ground: Ground
    text: str

    def __str__(self) -> str:
        return self.text


def check_read(types: DeviceTypes, path: Path, *, allow_protected: bool = False) -> Objection | None:
    """Read and Observe: an object, or anything below, that can be read."""
    if objection := _check_target(types, "Read", path, (1, 2, 3, 4), allow_protected):
        return objection
    resource = types.resource(path)
    if resource is None:
        return None
    if not (resource.readable or (allow_protected and not resource.operations)):
        return _operation_refused(path, resource, "read")
    return _check_instances(path, resource)


def check_write(
    types: DeviceTypes, path: Path, entries: Sequence[Entry] = (), *, allow_protected: bool = False
) -> Objection | None:
    """Write to an instance, resource or resource instance. ``entries``: the values to be written, at or below
    ``path``; each has to be writable and to fit its model."""
    if objection := _check_target(types, "Write", path, (2, 3, 4), allow_protected):
        return objection
    if objection := _check_writable(types, path, allow_protected):
        return objection
    for entry in entries:
        if not path.covers(entry.path):
            return Objection(entry.path, Ground.PATH, f"{entry.path} is not at or below {path}, which is written to")
        if objection := _check_writable(types, entry.path, allow_protected) or _check_value(types, entry):
            return objection
    return None


def check_execute(types: DeviceTypes, path: Path, *, allow_protected: bool = False) -> Objection | None:
    """Execute: a resource that can be executed."""
    if objection := _check_target(types, "Execute", path, (3,), allow_protected):
        return objection
    resource = types.resource(path)
    if resource is None or resource.executable:
        return None
    return _operation_refused(path, resource, "executed")


def check_create(
    types: DeviceTypes, path: Path, entries: Sequence[Entry] = (), *, allow_protected: bool = False
) -> Objection | None:
    """Create in an object that may have several instances: every mandatory resource that can be written is there.

    Resources that are only read may be given: a new instance needs their first value from somewhere.
    """
    if objection := _check_target(types, "Create", path, (1,), allow_protected):
        return objection
    for entry in entries:
        resource = types.resource(entry.path)
        if resource is not None and resource.executable:
            return _operation_refused(entry.path, resource, "given a value")
        if objection := _check_value(types, entry):
            return objection
    model = types.object(path[0])
    if model is None:
        return None
    given = {entry.path[2] for entry in entries if len(entry.path) >= 3}
    missing = [each for each in model.resources.values() if each.mandatory and each.writable and each.id not in given]
    if missing:
        names = ", ".join(f"{each.id} {each.name}" for each in missing)
        return Objection(path, Ground.MANDATORY, f"a new instance of {path} {model.name} needs a value for {names}")
    return None


def check_delete(types: DeviceTypes, path: Path, *, allow_protected: bool = False) -> Objection | None:
    """Delete: an object instance other than ``/3/0``, or (1.1) one instance of a multiple resource."""
    if objection := _check_target(types, "Delete", path, (2, 4), allow_protected):
        return objection
    if tuple(path) == (3, 0):
        return Objection(path, Ground.OPERATION, "the Device instance /3/0 cannot be deleted")
    return _check_writable(types, path, allow_protected)


def check_discover(types: DeviceTypes, path: Path, *, allow_protected: bool = False) -> Objection | None:
    """Discover: an object, an instance or a resource."""
    return _check_target(types, "Discover", path, (1, 2, 3), allow_protected)


def check_attributes(types: DeviceTypes, path: Path, *, allow_protected: bool = False) -> Objection | None:
    """Write-Attributes: whatever can be observed; what the attributes may be is `NotificationAttributes.check`'s."""
    return _check_target(types, "Write-Attributes", path, (1, 2, 3, 4), allow_protected)


# Core 6.3.5. Nothing behind the first mismatch can match, so a long string is refused at once.
_ARGUMENT: Final = re.compile(r"([0-9])(?:='([!#-&(-\[\]-~]*)')?")


def objection_to_arguments(text: str) -> str | None:
    """Why ``text`` is no argument list of an Execute (contract D-8), or None: digits, each once, parted by commas, each
    perhaps with a value in single quotes, which has printable characters of ASCII without blank, quotes, backslash."""
    if not text:
        return None
    right = "arguments are digits, each perhaps with a value: 5 or 0='x',1"
    position, seen = 0, set()
    while True:
        match = _ARGUMENT.match(text, position)
        if match is None:
            return f"{text[position : position + 20]!r} is no argument; {right}"
        if match[1] in seen:
            return f"argument {match[1]} is given twice; {right}"
        seen.add(match[1])
        position = match.end()
        if position == len(text):
            return None
        if text[position] != ",":
            shown = text[position : position + 20]
            return f"{shown!r} comes where a comma should; {right}, without blanks in it"
        position += 1


def _check_target(
    types: DeviceTypes, operation: str, path: Path, levels: tuple[int, ...], allow_protected: bool
) -> Objection | None:
    if len(path) not in levels:
        right = " or ".join(_LEVELS[each] for each in levels)
        return Objection(path, Ground.PATH, f"{operation} needs {right}, and {path} is {_LEVELS[len(path)]}")
    if path[0] in PROTECTED_OBJECTS and not allow_protected:
        return Objection(path, Ground.PROTECTED, f"object {path[0]} holds keys; only a bootstrap server may access it")
    if len(path) == 4 and types.lwm2m_version == "1.0":
        text = f"a device of LwM2M 1.0 has no paths to resource instances; use {path.parent}"
        return Objection(path, Ground.PATH, text)
    return None


def _check_writable(types: DeviceTypes, path: Path, allow_protected: bool) -> Objection | None:
    resource = types.resource(path)
    if resource is None:
        return None
    if not (resource.writable or (allow_protected and not resource.operations)):
        return _operation_refused(path, resource, "written")
    return _check_instances(path, resource)


def _check_instances(path: Path, resource: ResourceModel) -> Objection | None:
    if len(path) == 4 and not resource.multiple:
        text = f"resource {path.parent} {resource.name} has no resource instances; use {path.parent}"
        return Objection(path, Ground.INSTANCES, text)
    return None


def _check_value(types: DeviceTypes, entry: Entry) -> Objection | None:
    resource = types.resource(entry.path)
    if resource is None:
        return None
    if objection := _check_instances(entry.path, resource):
        return objection
    if len(entry.path) == 3 and resource.multiple:
        text = f"resource {entry.path} {resource.name} has resource instances; write {entry.path}/0 for one"
        return Objection(entry.path, Ground.INSTANCES, text)
    reason = objection_to_value(resource, entry.value)
    return Objection(entry.path, Ground.VALUE, f"{entry.path} {resource.name}: {reason}") if reason else None


def _operation_refused(path: Path, resource: ResourceModel, done: str) -> Objection:
    letters = str(resource.operations)
    reason = f"its operations are {letters}" if letters else "only a bootstrap server may access it"
    return Objection(path, Ground.OPERATION, f"resource {path} {resource.name} cannot be {done}: {reason}")
