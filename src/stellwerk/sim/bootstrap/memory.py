"""What a simulated device keeps of its accounts, and where: a file for each device in a folder.

The file holds keys. It is readable by its owner alone, and replaced as a whole or not at all.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any, Final

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, Value
from stellwerk.sim.bootstrap.serving import GIVEN, given_cells
from stellwerk.sim.tree import Cell, Instance, ObjectTree

VERSION: Final = 1
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)

Memory = dict[str, Any]
"""As JSON has it: ``{"version": 1, "endpoint": NAME, "objects": {"0": {"1": {"0": "coap://h:1", "3": {"hex": ""}}}}}``,
objects, instances and resources by number."""


class BadMemory(UserError):
    """``where`` holds nothing that a device could go on from; ``reason`` says what would be right. No key is in it."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where}: {reason}")


Ceilings = Sequence[tuple[bytes, bytes, int]]
"""Of OSCORE contexts: sender ID, recipient ID, and the first number that was never used."""


def memory_of(tree: ObjectTree, endpoint_name: str, ceilings: Ceilings = ()) -> Memory:
    """What there is of the objects that a bootstrap server gives, and how far numbers were used."""
    objects: dict[str, Any] = {}
    for object_id in sorted(GIVEN):
        instances = tree.instances(object_id)
        objects[str(object_id)] = {
            str(number): {str(each): _encode(cell) for each, cell in given_cells(cells).items()}
            for number, cells in instances.items()
        }
    used = [
        {"sender": sender.hex(), "recipient": other.hex(), "ceiling": ceiling} for sender, other, ceiling in ceilings
    ]
    return {"version": VERSION, "endpoint": endpoint_name, "objects": objects, "oscore": used}


def remember(memory: Memory, where: str) -> tuple[dict[Path, Instance], Ceilings]:
    """The instances in ``memory``, and how far numbers were used. Raises `BadMemory`."""
    if memory.get("version") != VERSION or not isinstance(memory.get("objects"), dict):
        raise BadMemory(where, "this is no state of a simulated device; delete it, and the device bootstraps anew")
    found: dict[Path, Instance] = {}
    try:
        for object_id, instances in memory["objects"].items():
            for number, cells in instances.items():
                found[Path(int(object_id), int(number))] = {int(each): _decode(cell) for each, cell in cells.items()}
        ceilings = [
            (bytes.fromhex(each["sender"]), bytes.fromhex(each["recipient"]), int(each["ceiling"]))
            for each in memory.get("oscore", ())
        ]
    except (ValueError, TypeError, AttributeError, KeyError):
        raise BadMemory(where, "it is damaged; delete it, and the device bootstraps anew") from None
    if not {path[0] for path in found} <= GIVEN:
        raise BadMemory(where, "it is damaged; delete it, and the device bootstraps anew")
    return found, ceilings


class MemoryFolder:
    """A file for each endpoint name in ``folder``, which is made if need be. Raises `BadMemory`."""

    def __init__(self, folder: FilePath) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BadMemory(str(folder), f"states cannot be kept there: {error.strerror or error}") from None

    def path_of(self, endpoint_name: str) -> FilePath:
        """Where the state of a device is. Names that are no names of files have another there."""
        plain = _PLAIN_NAME.fullmatch(endpoint_name) is not None
        name = endpoint_name if plain else f"=sha256-{sha256(endpoint_name.encode()).hexdigest()[:32]}"
        return self._folder / f"{name}.json"

    def load(self, endpoint_name: str) -> Memory | None:
        """What was kept; None where nothing was. Raises `BadMemory`."""
        path = self.path_of(endpoint_name)
        try:
            memory = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no JSON; delete it, and the device bootstraps anew"
            raise BadMemory(str(path), reason) from None
        if not isinstance(memory, dict) or memory.get("endpoint") != endpoint_name:
            raise BadMemory(str(path), f"this is not the state of {endpoint_name}; delete it or move it away")
        return memory

    def store(self, memory: Memory) -> None:
        """Keep ``memory`` in place of what was kept of the device. Raises `BadMemory`."""
        path = self.path_of(memory["endpoint"])
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(memory, file, indent=1)
            os.replace(beside, path)
        except OSError as error:
            raise BadMemory(str(path), f"the state cannot be kept: {error.strerror or error}") from None


def _encode(cell: Value | dict[int, Value]) -> Any:
    if isinstance(cell, bytes):
        return {"hex": cell.hex()}
    if isinstance(cell, ObjectLink):
        return {"link": [cell.object_id, cell.instance_id]}
    if isinstance(cell, dict):
        return {"several": {str(each): _encode(value) for each, value in cell.items()}}
    return cell


def _decode(stored: Any) -> Cell:
    if isinstance(stored, Mapping):
        ((kind, value),) = stored.items()
        if kind == "hex":
            return bytes.fromhex(value)
        if kind == "link":
            object_id, instance_id = value
            return ObjectLink(int(object_id), int(instance_id))
        if kind == "several":
            several: dict[int, Value] = {int(each): _decode(cell) for each, cell in value.items()}  # type: ignore[misc]
            return several
        raise ValueError(kind)
    if not isinstance(stored, str | int | float | bool):
        raise TypeError("no value")
    return stored
