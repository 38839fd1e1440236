"""A device's values as a tree of objects, instances and resources; the models of `lwm2m.schema` say the rest.

What is given is never changed but replaced: devices alike share the instances that nobody has written to.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import RESERVED_ID, Path
from stellwerk.lwm2m.schema.checks import Ground, check_create
from stellwerk.lwm2m.schema.library import DeviceTypes
from stellwerk.lwm2m.schema.model import ResourceModel
from stellwerk.lwm2m.schema.values import objection_to_value
from stellwerk.lwm2m.value import Value
from stellwerk.sim.motion import Motion

SECURITY: Final = 0

HIDDEN: Final = frozenset({SECURITY, 21, 23})
"""Objects that are never registered nor shown to a server (Core 1.2.2 §6.2.1, §7.3)."""

Sees: TypeAlias = Callable[[Path], bool]
"""Whether whoever reads may see an instance."""


class _Executable:
    """Marks a resource that is only executed."""


EXECUTABLE: Final = _Executable()

Cell: TypeAlias = Value | Motion | dict[int, Value] | _Executable
"""What a resource holds: a value, a function of time, resource instances, or nothing but an action."""

Instance: TypeAlias = dict[int, Cell]

_MOST_INSTANCES: Final = 32


class Denied(Exception):
    """The device refuses a request with ``code``; ``why`` is for people."""

    def __init__(self, code: int, why: str) -> None:
        self.code, self.why = code, why
        super().__init__(f"{codes.dotted(code)}: {why}")


@dataclass(frozen=True, slots=True)
class Listing:
    """One object as it is registered or discovered. ``version`` None: implied by the release."""

    object_id: int
    version: str | None
    instances: tuple[int, ...]


class ObjectTree:
    """Objects by identifier, their instances, their resources. What exists is declared; the models say the rest."""

    __slots__ = ("_initial", "_objects", "types")

    def __init__(self, types: DeviceTypes, objects: Mapping[int, Mapping[int, Instance]]) -> None:
        """Raises `ValueError` for a resource that no model of ``types`` knows."""
        self.types = types
        self._objects = {each: dict(instances) for each, instances in objects.items()}
        # Given, and never changed: what a factory reset comes back to.
        self._initial = objects
        for object_id, instances in self._objects.items():
            model = types.object(object_id)
            known = model.resources.keys() if model is not None else ()
            for instance_id, resources in instances.items():
                for unknown in resources.keys() - known:
                    raise ValueError(f"no model knows {Path(object_id, instance_id, unknown)}")

    # -- what is there --

    def listings(self, versions: Mapping[int, str | None]) -> tuple[Listing, ...]:
        """The objects to register, in order."""
        return tuple(
            Listing(each, versions.get(each), tuple(sorted(instances)))
            for each, instances in sorted(self._objects.items())
            if each not in HIDDEN
        )

    def below(self, path: Path) -> tuple[Path, ...]:
        """The existing paths one level below ``path``, in order. Raises `Denied` when ``path`` does not exist."""
        self.require(path)
        if len(path) == 0:
            return tuple(Path(each) for each in sorted(self._objects) if each not in HIDDEN)
        if len(path) == 1:
            return tuple(path.child(each) for each in sorted(self._objects[path[0]]))
        if len(path) == 2:
            return tuple(path.child(each) for each in sorted(self._objects[path[0]][path[1]]))
        cell = self._objects[path[0]][path[1]][path[2]]
        if len(path) == 3 and isinstance(cell, dict):
            return tuple(path.child(each) for each in sorted(cell))
        return ()

    def require(self, path: Path) -> None:
        """Raises `Denied`: 4.01 for what a server may not see, 4.04 for what is not there."""
        if path and path[0] in HIDDEN:
            raise Denied(codes.UNAUTHORIZED, f"object {path[0]} is for a bootstrap server alone")
        level: object = self._objects
        for identifier in path:
            if not isinstance(level, dict) or identifier not in level:
                raise Denied(codes.NOT_FOUND, f"no {path}")
            level = level[identifier]

    # -- values --

    def value(self, path: Path, utc_s: float) -> Value | None:
        """The value of a single resource for the device's own use; None where there is none."""
        cell = self._objects.get(path[0], {}).get(path[1], {}).get(path[2])
        if cell is None or isinstance(cell, dict | _Executable):
            return None
        return cell(utc_s) if callable(cell) else cell

    def read(self, path: Path, utc_s: float, sees: Sees | None = None) -> tuple[tuple[Entry, ...], tuple[Path, ...]]:
        """The readable values at and below ``path``, and the existing paths there that hold none. Instances that
        ``sees`` says no to are left out.

        Raises `Denied`: 4.04, 4.01, or 4.05 when ``path`` names a resource that cannot be read.
        """
        self.require(path)
        if len(path) >= 3 and not self._model(path).readable:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be read")
        entries: list[Entry] = []
        empty: list[Path] = []
        self._collect(path, utc_s, entries, empty, sees)
        return tuple(entries), tuple(empty)

    def write(self, path: Path, entries: tuple[Entry, ...], *, replace: bool) -> tuple[Path, ...]:
        """Put ``entries`` at ``path`` (an instance, a resource or a resource instance), all or nothing.

        ``replace`` clears what ``path`` names first: the resource instances of a multiple resource, and in an instance
        the optional writable resources. Gives the resources that changed. Raises `Denied`: 4.04 for an unknown
        resource, 4.05 for one that is not writable, 4.00 for a value that does not fit.
        """
        self.require(path if len(path) < 4 else path.parent)
        if len(path) < 2:
            raise Denied(codes.METHOD_NOT_ALLOWED, "an object is not written, its instances are")
        if len(path) >= 3 and not self._model(path).writable:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be written")
        fresh: Instance = {}
        for entry in entries:
            self._place(fresh, path, entry)
        if len(path) >= 3 and not fresh and not self._model(path).multiple:
            raise Denied(codes.BAD_REQUEST, f"no value for {path}")
        resources = dict(self._objects[path[0]][path[1]])
        if replace and len(path) == 2:
            for resource_id in list(resources):
                model = self._model(path.child(resource_id))
                if resource_id not in fresh and model.writable and not model.mandatory:
                    del resources[resource_id]
        emptied: tuple[int, ...] = ()
        if replace and len(path) == 3 and self._model(path).multiple:
            resources[path[2]] = {}
            emptied = (path[2],)
        for resource_id, cell in fresh.items():
            present = resources.get(resource_id)
            # Core 1.2.2 6.3.3: replacing an instance replaces its multiple resources, a partial write adds to them.
            adds = isinstance(present, dict) and not (replace and len(path) == 2)
            if adds and isinstance(cell, dict) and isinstance(present, dict):
                resources[resource_id] = {**present, **cell}
            else:
                resources[resource_id] = cell
        self._objects[path[0]][path[1]] = resources
        return tuple(Path(path[0], path[1], resource_id) for resource_id in fresh or emptied)

    def write_all(self, entries: Iterable[Entry], deleted: Iterable[Path] = ()) -> tuple[Path, ...]:
        """Put each of ``entries`` where it says and take away the resource instances ``deleted``, all or nothing
        (Core 1.2.2 §6.3.9, RFC 8790 §3.2). Gives the resources that changed. Raises `Denied` as `write` and
        `delete`."""
        before = self._snapshot()
        changed: dict[Path, None] = {}
        try:
            for entry in entries:
                instance = entry.path if len(entry.path) < 2 else Path(*entry.path[:2])
                changed.update(dict.fromkeys(self.write(instance, (entry,), replace=False)))
            for path in deleted:
                model = self.types.resource(path)
                self.require(path)
                if len(path) != 4 or model is None or not model.writable:
                    raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be deleted")
                self.delete(path)
                changed[path.parent] = None
        except Denied:
            self._objects = before
            raise
        return tuple(changed)

    def create(self, object_id: int, entries: tuple[Entry, ...], empty: tuple[Path, ...], template: Instance) -> int:
        """Add an instance: ``template`` with what ``entries`` give. Its identifier is theirs, or the lowest free one
        where they (or ``empty``, for an instance without any) say 65535 or nothing. Gives the identifier.

        Raises `Denied`: 4.00 for more than one instance, an identifier that is taken, a missing mandatory resource or
        a value that does not fit, 4.05 for a value of what is executed, 5.00 when there is no room.
        """
        base, instances = Path(object_id), self._objects[object_id]
        named = {each.path[1] for each in entries if len(each.path) > 1} | {each[1] for each in empty if len(each) > 1}
        if len(named) > 1:
            raise Denied(codes.BAD_REQUEST, "one instance is created at a time")
        wanted = named.pop() if named else RESERVED_ID
        if wanted in instances:
            raise Denied(codes.BAD_REQUEST, f"{base.child(wanted)} exists already")
        if len(instances) >= _MOST_INSTANCES:
            raise Denied(codes.INTERNAL_SERVER_ERROR, f"no room for more than {_MOST_INSTANCES} instances")
        objection = check_create(self.types, base, entries)
        if objection is not None:
            code = codes.METHOD_NOT_ALLOWED if objection.ground is Ground.OPERATION else codes.BAD_REQUEST
            raise Denied(code, objection.text)
        fresh: Instance = {}
        for entry in entries:
            self._place(fresh, base, entry, created=True)
        if wanted == RESERVED_ID:
            wanted = next(each for each in range(len(instances) + 1) if each not in instances)
        self._objects[object_id] = {**instances, wanted: {**template, **fresh}}
        return wanted

    def delete(self, path: Path) -> None:
        """Take away an instance, or an instance of a multiple resource. Raises `Denied`: 4.01, 4.04."""
        self.require(path)
        if len(path) == 2:
            del self._objects[path[0]][path[1]]
            return
        cell = self._objects[path[0]][path[1]][path[2]]
        assert isinstance(cell, dict)
        self.put(Path(*path[:3]), {each: value for each, value in cell.items() if each != path[3]})

    def reset(self) -> None:
        """Everything is as it was at first."""
        self._objects = {each: dict(instances) for each, instances in self._initial.items()}

    def add(self, path: Path, instance: Instance) -> None:
        """An instance comes from inside the device, with its object if need be."""
        self._objects[path[0]] = {**self._objects.get(path[0], {}), path[1]: instance}

    def remove(self, path: Path) -> None:
        """Take away an instance from inside the device, whoever may see it; its object stays."""
        self._objects[path[0]] = {each: cells for each, cells in self.instances(path[0]).items() if each != path[1]}

    def snapshot(self) -> dict[int, dict[int, Instance]]:
        """All there is, for `restore`."""
        return self._snapshot()

    def restore(self, snapshot: dict[int, dict[int, Instance]]) -> None:
        """Everything is as it was when ``snapshot`` was taken."""
        self._objects = snapshot

    def put(self, path: Path, cell: Cell) -> None:
        """Set a resource from inside the device, whatever a server may do with it."""
        self.put_all(Path(*path[:2]), {path[2]: cell})

    def put_all(self, path: Path, cells: Instance) -> None:
        """Set resources of an instance from inside the device."""
        self._objects[path[0]][path[1]] = {**self._objects[path[0]][path[1]], **cells}

    def instances(self, object_id: int) -> Mapping[int, Instance]:
        """What is at an object, to look at; nothing where there is none."""
        return self._objects.get(object_id, {})

    def instance(self, path: Path) -> Instance:
        """What is at an instance, to look at."""
        return self._objects[path[0]][path[1]]

    def require_executable(self, path: Path) -> None:
        """Raises `Denied`: 4.04 for what is not there, 4.05 for what cannot be executed."""
        self.require(path)
        if len(path) != 3 or not self._model(path).executable:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be executed")

    def _place(self, fresh: Instance, base: Path, entry: Entry, *, created: bool = False) -> None:
        path = entry.path
        if not base.covers(path) or len(path) < 3:
            raise Denied(codes.BAD_REQUEST, f"{path} is outside of {base}")
        model = self.types.resource(path)
        if model is None:
            raise Denied(codes.NOT_FOUND, f"no {path}")
        # A new instance needs the first values of what is only read from somewhere.
        if not (model.writable or created):
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be written")
        if model.multiple is not (len(path) == 4):
            raise Denied(codes.BAD_REQUEST, f"{path} does not say one value of {model.name}")
        objection = objection_to_value(model, entry.value)
        if objection is not None:
            raise Denied(codes.BAD_REQUEST, f"{path}: {objection}")
        if len(path) == 4:
            several = fresh.setdefault(path[2], {})
            assert isinstance(several, dict)
            several[path[3]] = entry.value
        else:
            fresh[path[2]] = entry.value

    def _snapshot(self) -> dict[int, dict[int, Instance]]:
        # Two levels are enough: instances are replaced, never changed.
        return {each: dict(instances) for each, instances in self._objects.items()}

    def _collect(
        self, path: Path, utc_s: float, entries: list[Entry], empty: list[Path], sees: Sees | None = None
    ) -> None:
        if len(path) < 3:
            if len(path) == 2 and sees is not None and not sees(path):
                return
            before = len(entries) + len(empty)
            for child in self.below(path):
                if len(child) < 3 or self._model(child).readable:
                    self._collect(child, utc_s, entries, empty, sees)
            if len(path) == 2 and len(entries) + len(empty) == before:
                empty.append(path)
            return
        cell = self._objects[path[0]][path[1]][path[2]]
        if isinstance(cell, dict):
            chosen = [path[3]] if len(path) == 4 else sorted(cell)
            resource = Path(*path[:3])
            entries.extend(Entry(resource.child(each), cell[each]) for each in chosen)
            if not chosen:
                empty.append(path)
        elif callable(cell):
            entries.append(Entry(path, cell(utc_s)))
        elif not isinstance(cell, _Executable):
            entries.append(Entry(path, cell))

    def _model(self, path: Path) -> ResourceModel:
        model = self.types.resource(path)
        if model is None:
            raise ValueError(f"no model knows {path}")
        return model
