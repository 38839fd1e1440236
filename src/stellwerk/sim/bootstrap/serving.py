"""What a device answers to its bootstrap server (Core 1.2.2 §6.1.7; contract §5).

Nothing is read-only or hidden here. Two things stay whatever the server says: the account of the bootstrap server
itself, with what belongs to it, and `/3/0` (contract B-5). What a device is made of stays as well, since no server can
give it back: instances that servers cannot create are written, and left in place by a Delete.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import ContentFormat, DecodeError, EncodeError, UnsupportedFormat, decode_content
from stellwerk.lwm2m.path import RESERVED_ID, Path
from stellwerk.lwm2m.schema.values import objection_to_value
from stellwerk.lwm2m.value import ObjectLink, Value
from stellwerk.sim import catalogue, objects
from stellwerk.sim.access import path_of
from stellwerk.sim.bodies import Bodies
from stellwerk.sim.bootstrap.accounts import (
    IS_BOOTSTRAP,
    OSCORE,
    OSCORE_LINK,
    SHORT_ID,
    URI,
    Inconsistent,
    ServerAccount,
    server_accounts,
)
from stellwerk.sim.catalogue import ACCESS_CONTROL
from stellwerk.sim.objects import SERVER, known
from stellwerk.sim.release import SEVERAL, Release
from stellwerk.sim.tree import EXECUTABLE, SECURITY, Cell, Denied, Instance, ObjectTree

COSE: Final = 23
GIVEN: Final = frozenset({SECURITY, SERVER, ACCESS_CONTROL, OSCORE, COSE})
"""The objects whose instances are a bootstrap server's to give and to take."""

_READABLE: Final = frozenset({SERVER, ACCESS_CONTROL})
_BS: Final = ("bs",)
_NULL_LINK: Final = ObjectLink(RESERVED_ID, RESERVED_ID)
_SERVER_CELLS: Final[Instance] = {
    objects.DISABLE: EXECUTABLE,
    objects.DISABLE_TIMEOUT: 86_400,
    objects.STORING: False,
    objects.BINDING: "U",
    objects.UPDATE_TRIGGER: EXECUTABLE,
    objects.BOOTSTRAP_TRIGGER: EXECUTABLE,
}
"""What an instance of object 1 has besides what it is given."""


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """``accounts``: what the device is left with, of a Finish that it accepts. ``why``: the reason of a refusal."""

    code: int
    content_format: int | None = None
    payload: bytes = b""
    why: str = ""
    accounts: tuple[ServerAccount, ...] | None = None


def step_of(request: RequestReceived) -> tuple[str, Path]:
    """Which of `faults.STEPS` ``request`` is, and where; an empty text where it is none."""
    if request.path == _BS:
        return ("finish" if request.code == codes.POST else ""), Path()
    try:
        path = path_of(request.path)
    except Denied:
        return "", Path()
    if request.code == codes.GET:
        return ("discover" if request.accept == ContentFormat.LINK_FORMAT else "read"), path
    return {codes.PUT: "write", codes.DELETE: "delete"}.get(request.code, ""), path


class BootstrapServing:
    """The objects in ``tree`` for the bootstrap server. Never raises for anything that it asks. ``muted``: what Mute
    Send of a new account is."""

    __slots__ = ("_bodies", "_muted", "_release", "_tree", "_types")

    def __init__(self, tree: ObjectTree, release: Release, *, muted: bool = False) -> None:
        self._tree = tree
        self._release = release
        self._types = release.types
        # Contract R-11: an alternate path is none of the bootstrap server's business.
        self._bodies = Bodies(release, release.types)
        self._muted = muted

    def answer(self, request: RequestReceived, utc_s: float) -> StepAnswer:
        """The answer to ``request``, with its effect."""
        step, path = step_of(request)
        try:
            if step == "discover":
                return StepAnswer(codes.CONTENT, ContentFormat.LINK_FORMAT, self.discover(path).encode())
            if step == "read":
                return self._read(path, request.accept, utc_s)
            if step == "write":
                self._write(request, path, utc_s)
                return StepAnswer(codes.CHANGED)
            if step == "delete":
                self._delete(path)
                return StepAnswer(codes.DELETED)
            if step == "finish":
                return self._finish()
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{codes.dotted(request.code)} /{'/'.join(request.path)}")
        except Denied as denied:
            return StepAnswer(denied.code, why=denied.why)

    def take_pack(self, content_format: int | None, payload: bytes, utc_s: float) -> tuple[ServerAccount, ...]:
        """Replace all instances of the objects in a Bootstrap-Pack (contract B-9), and of none other. Raises `Denied`,
        `Inconsistent`."""
        content = self._decode(content_format, payload, Path(), utc_s)
        instances: dict[Path, list[Entry]] = {}
        for entry in content.entries:
            instances.setdefault(Path(*entry.path[:2]), []).append(entry)
        for object_id in dict.fromkeys(each[0] for each in instances):
            self._require_object(object_id)
            for number in [*self._tree.instances(object_id)]:
                instance = Path(object_id, number)
                if not self._is_kept(instance) and (object_id in GIVEN or self._can_go(instance)):
                    self._tree.remove(instance)
        for instance, entries in instances.items():
            self._put(instance, entries)
        return tuple(server_accounts(self._tree))

    def account_links(self) -> str:
        """The instances that are the account of the bootstrap server, as links (1.2.1: ``acc``)."""
        paths = [
            Path(object_id, number)
            for object_id in (SECURITY, OSCORE)
            for number in sorted(self._tree.instances(object_id))
        ]
        return ",".join(f"<{each}>" for each in paths if self._is_kept(each))

    # -- Discover and Read --

    def discover(self, path: Path) -> str:
        """The links of the root or an object (contract B-14). Raises `Denied`."""
        if len(path) > 1:
            raise Denied(codes.BAD_REQUEST, "the root or an object is discovered")
        if path:
            self._require_object(path[0])
        name = self._release.name
        links = ['lwm2m="1.0"' if name == "1.0" else f"</>;lwm2m={name}"]
        there = self._tree.snapshot()
        if name != "1.0":
            there.setdefault(OSCORE, {})
        for object_id in [path[0]] if path else sorted(there):
            instances = sorted(there.get(object_id, {}))
            version = self._stated_version(object_id)
            if version is not None:
                links.append(f"</{object_id}>;ver={version}")
            elif not instances:
                links.append(f"</{object_id}>")
            links += [f"<{Path(object_id, each)}>{self._attributes(Path(object_id, each))}" for each in instances]
        return ",".join(links)

    def _stated_version(self, object_id: int) -> str | None:
        if object_id == OSCORE and self._release.name == "1.1":
            # It follows from the release, but bootstrap servers take it for 2.0, which has bytes in the place of texts.
            return "1.0"
        return self._release.versions.get(object_id)

    def _attributes(self, instance: Path) -> str:
        """Of which server an instance of object 0, 1 or 21 is; nothing of the bootstrap server's."""
        cells = self._tree.instance(instance)
        if instance[0] == SERVER:
            return f";ssid={cells.get(objects.SHORT_SERVER_ID, 0)!s}"
        if instance[0] == OSCORE:
            link = ObjectLink(*instance)
            owners = self._tree.instances(SECURITY).values()
            cells = next((each for each in owners if each.get(OSCORE_LINK) == link), {})
        elif instance[0] != SECURITY:
            return ""
        if not cells or cells.get(IS_BOOTSTRAP) is True:
            return ""
        text = f";ssid={cells.get(SHORT_ID, 0)!s}"
        # LwM2M 1.0 has no uri there.
        return text if self._release.name == "1.0" else f'{text};uri="{cells.get(URI, "")!s}"'

    def _read(self, path: Path, accept: int | None, utc_s: float) -> StepAnswer:
        if self._release.name == "1.0":
            raise Denied(codes.METHOD_NOT_ALLOWED, "there is no Bootstrap-Read before LwM2M 1.1")
        if not path or path[0] not in _READABLE or len(path) > 2:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} is not read; objects 1 and 2 and their instances are")
        content = Content(*self._tree.read(path, utc_s))
        content_format = self._bodies.choose(path, accept)
        try:
            return StepAnswer(codes.CONTENT, content_format, self._bodies.encode(content_format, content, path))
        except EncodeError as error:
            raise Denied(codes.NOT_ACCEPTABLE, str(error)) from None

    # -- Write --

    def _write(self, request: RequestReceived, path: Path, utc_s: float) -> None:
        if not 1 <= len(path) <= 3:
            raise Denied(codes.BAD_REQUEST, f"{path} is not written; an object, an instance or a resource is")
        self._require_object(path[0])
        content_format = request.content_format
        if len(path) < 3 and content_format not in SEVERAL:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"format {content_format} holds one value")
        content = self._decode(content_format, request.payload, path, utc_s)
        instances: dict[Path, list[Entry]] = {each: [] for each in content.empty if len(each) == 2}
        for entry in content.entries:
            instances.setdefault(Path(*entry.path[:2]), []).append(entry)
        if not instances:
            raise Denied(codes.BAD_REQUEST, "nothing is written")
        before = self._tree.snapshot()
        try:
            for instance, entries in instances.items():
                self._put(instance, entries, whole=len(path) < 3)
        except Denied:
            self._tree.restore(before)
            raise

    def _put(self, instance: Path, entries: list[Entry], *, whole: bool = True) -> None:
        """One instance has ``entries``; as a ``whole`` it has nothing else that it was given before."""
        object_id = instance[0]
        present = self._tree.instances(object_id)
        if instance[1] == RESERVED_ID:
            instance = Path(object_id, next(each for each in range(RESERVED_ID) if each not in present))
        cells = self._cells(entries)
        if object_id == SECURITY and self._is_account(instance):
            says = cells.get(IS_BOOTSTRAP) if whole else cells.get(IS_BOOTSTRAP, True)
            if says is not True:
                raise Denied(codes.BAD_REQUEST, f"{instance} is the account of the bootstrap server")
        replaced = whole and (object_id in GIVEN or self._can_go(instance))
        kept = {} if replaced else present.get(instance[1], {})
        self._tree.add(instance, {**self._first_cells(object_id), **kept, **cells})

    def _cells(self, entries: list[Entry]) -> Instance:
        cells: dict[int, Cell] = {}
        for entry in entries:
            model = self._types.resource(entry.path)
            if model is None:
                # Core 1.2.2 6.1.7.5: a resource that the device does not have is no reason to refuse the others.
                continue
            if len(entry.path) != (4 if model.multiple else 3):
                raise Denied(codes.BAD_REQUEST, f"{entry.path} does not say one value of {model.name}")
            objection = objection_to_value(model, entry.value)
            if objection is not None:
                raise Denied(codes.BAD_REQUEST, f"{entry.path}: {objection}")
            if model.multiple:
                several = cells.setdefault(entry.path[2], {})
                assert isinstance(several, dict)
                several[entry.path[3]] = entry.value
            else:
                cells[entry.path[2]] = entry.value
        return cells

    def _first_cells(self, object_id: int) -> Instance:
        if object_id == SERVER:
            return server_cells(self._release, muted=self._muted)
        return catalogue.template_of(self._types, object_id) or {}

    def _decode(self, content_format: int | None, payload: bytes, path: Path, utc_s: float) -> Content:
        # Contract B-4: without a format it would be anybody's guess.
        if content_format is None or content_format not in self._release.formats:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"no format {content_format}")
        try:
            return decode_content(content_format, payload, path, self._types, utc_s, creating=len(path) == 1)
        except UnsupportedFormat as error:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, str(error)) from None
        except DecodeError as error:
            raise Denied(codes.BAD_REQUEST, str(error)) from None

    # -- Delete and Finish --

    def _delete(self, path: Path) -> None:
        if len(path) > 2:
            raise Denied(codes.BAD_REQUEST, f"{path} is not deleted; the root, an object or an instance is")
        there = self._tree.snapshot()
        if len(path) == 2:
            if path[1] not in there.get(path[0], {}):
                raise Denied(codes.NOT_FOUND, f"no {path}")
            if self._is_kept(path) or not self._can_go(path):
                raise Denied(codes.BAD_REQUEST, f"{path} stays")
            self._tree.remove(path)
            return
        if path:
            self._require_object(path[0])
        for object_id in [path[0]] if path else sorted(there):
            for number in there.get(object_id, {}):
                instance = Path(object_id, number)
                if not self._is_kept(instance) and self._can_go(instance):
                    self._tree.remove(instance)

    def _finish(self) -> StepAnswer:
        try:
            accounts = server_accounts(self._tree)
        except Inconsistent as error:
            return StepAnswer(codes.NOT_ACCEPTABLE, payload=str(error).encode(), why=str(error))
        return StepAnswer(codes.CHANGED, accounts=tuple(accounts))

    # -- what stays --

    def _require_object(self, object_id: int) -> None:
        """Raises `Denied` for an object that the device has not."""
        there = self._tree.snapshot()
        if object_id not in there and (object_id not in GIVEN or self._types.object(object_id) is None):
            raise Denied(codes.NOT_FOUND, f"there is no object {object_id}")

    def _can_go(self, instance: Path) -> bool:
        """Whether a server could create it."""
        return instance[0] in GIVEN or catalogue.template_of(self._types, instance[0]) is not None

    def _is_account(self, instance: Path) -> bool:
        """Whether it is an instance of object 0 for the bootstrap server."""
        return self._tree.instances(SECURITY).get(instance[1], {}).get(IS_BOOTSTRAP) is True

    def _is_kept(self, instance: Path) -> bool:
        """Whether it belongs to the account of the bootstrap server (contract B-5)."""
        if instance[0] == SECURITY:
            return self._is_account(instance)
        link = ObjectLink(*instance)
        return link != _NULL_LINK and any(
            each.get(IS_BOOTSTRAP) is True and each.get(OSCORE_LINK) == link
            for each in self._tree.instances(SECURITY).values()
        )


def server_cells(release: Release, *, muted: bool) -> Instance:
    """What an instance of object 1 has besides what it is given."""
    return known(release.types, SERVER, {**_SERVER_CELLS, objects.MUTE_SEND: muted})


def given_cells(cells: Mapping[int, Cell]) -> dict[int, Value | dict[int, Value]]:
    """Those of ``cells`` that hold values: what can be kept."""
    return {each: cell for each, cell in cells.items() if not callable(cell) and cell is not EXECUTABLE}  # type: ignore[misc]
