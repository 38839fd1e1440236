"""What one server may do: object 2 as a device reads it (Core 1.2.2 §8; contract §10)."""

from enum import IntEnum
from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.path import Path
from stellwerk.sim.tree import Denied, ObjectTree

_CONTROL: Final = 2
_WHOLE_OBJECT: Final = 65535


class Right(IntEnum):
    """A bit of an access control list."""

    READ = 1
    WRITE = 2
    EXECUTE = 4
    DELETE = 8
    CREATE = 16


class Rights:
    """The rights of the server ``short_server_id`` over ``tree``. Without any instance of object 2 it has all."""

    __slots__ = ("_server", "_tree")

    def __init__(self, tree: ObjectTree, short_server_id: int) -> None:
        self._tree = tree
        self._server = short_server_id

    def require(self, path: Path, right: Right) -> None:
        """Raises `Denied` 4.01 where the server has no ``right`` over the instance, or for `Right.CREATE` the object,
        of ``path``."""
        if not self.has(path, right):
            raise Denied(codes.UNAUTHORIZED, f"server {self._server} has no right to {right.name.lower()} {path}")

    def has(self, path: Path, right: Right) -> bool:
        """Whether the server has ``right`` over ``path``. An object as a whole is granted to be read, and its instances
        one by one; so is the root."""
        instances = self._tree.instances(_CONTROL)
        if not instances:
            return True
        if right is Right.CREATE:
            return self._granted(path[0], _WHOLE_OBJECT, right)
        if len(path) < 2:
            return True
        if path[0] == _CONTROL:
            # Core 1.2.2 8.2: an access control list is its owner's alone to change.
            return right is Right.READ or instances.get(path[1], {}).get(3) == self._server
        return self._granted(path[0], path[1], right)

    def may_read(self, path: Path) -> bool:
        """Whether the instance at ``path`` is shown."""
        return self.has(path, Right.READ)

    def _granted(self, object_id: int, instance_id: int, right: Right) -> bool:
        for cells in self._tree.instances(_CONTROL).values():
            if cells.get(0) != object_id or cells.get(1) != instance_id:
                continue
            acl = cells.get(2)
            stated = acl if isinstance(acl, dict) else {}
            if self._server in stated:
                bits = stated[self._server]
            elif cells.get(3) == self._server:
                return True
            else:
                bits = stated.get(0, 0)
            return isinstance(bits, int) and bool(bits & right)
        # What no list speaks of is everybody's.
        return True
