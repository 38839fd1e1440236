"""What a device answers to a server that reads, writes, executes, creates, deletes or discovers (Core 1.2.2 §6.3;
contract §6)."""

from dataclasses import dataclass
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
from stellwerk.coap.options import OBSERVE, decode_uint
from stellwerk.lwm2m.attributes import NotificationAttributes
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import ContentFormat, EncodeError
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.sim import catalogue
from stellwerk.sim.bodies import Bodies
from stellwerk.sim.reactions import Effect, Reaction, Reactions
from stellwerk.sim.reporting import NO_ATTRIBUTES, Reporting
from stellwerk.sim.rights import Right, Rights
from stellwerk.sim.tree import Denied, ObjectTree

_DEEPEST: Final = 4


@dataclass(slots=True)
class Answer:
    """``location``: the identifiers of what was created; ``reaction``: what follows; ``why``: the reason of a refusal,
    for the trace."""

    code: int
    content_format: int | None = None
    payload: bytes = b""
    location: tuple[str, ...] = ()
    reaction: Reaction | None = None
    why: str = ""


class Access:
    """Serves one tree of a device to one server. Never raises for anything the server asks."""

    __slots__ = ("_reactions", "_rights", "bodies", "reporting", "tree")

    def __init__(
        self, tree: ObjectTree, reporting: Reporting, reactions: Reactions, bodies: Bodies, rights: Rights
    ) -> None:
        self.tree = tree
        self.reporting = reporting
        self.bodies = bodies
        self._reactions = reactions
        self._rights = rights

    def answer(self, request: RequestReceived, segments: tuple[str, ...], utc_s: float) -> Answer:
        """The answer to ``request`` for the path that ``segments`` write; its observation, if it asks for one, is the
        caller's business."""
        try:
            path = path_of(segments)
            if request.code == codes.GET:
                return self._get(request, path, utc_s)
            if request.code == codes.PUT:
                return self._put(request, path, utc_s)
            if request.code == codes.POST:
                return self._post(request, path, utc_s)
            if request.code == codes.DELETE:
                return self._delete(path)
            if path or request.code == codes.PATCH:
                raise Denied(codes.METHOD_NOT_ALLOWED, f"no {codes.dotted(request.code)} on {path}")
            if request.code == codes.FETCH:
                return self._fetch(request, utc_s)
            return self._patch(request, utc_s)
        except Denied as denied:
            return Answer(denied.code, why=denied.why)

    def read(self, path: Path, accept: int | None, utc_s: float) -> tuple[Content, ContentFormat, bytes]:
        """What ``path`` holds, in a format the server accepts. Raises `Denied`."""
        content = self.content_of(path, utc_s)
        content_format = self.bodies.choose(path, accept)
        return content, content_format, self._encode(content_format, content, path)

    def read_several(
        self, paths: tuple[Path, ...], accept: int | None, utc_s: float
    ) -> tuple[Content, ContentFormat, bytes]:
        """What those of ``paths`` hold that can be read, each value once (D-11). Raises `Denied` 4.06."""
        content_format = self.bodies.choose_for_several(None, accept)
        content = self.content_of_several(paths, utc_s)
        return content, content_format, self._encode(content_format, content, Path())

    def content_of(self, path: Path, utc_s: float) -> Content:
        """What ``path`` holds and the server may see. Raises `Denied`."""
        self.tree.require(path)
        self._rights.require(path, Right.READ)
        return Content(*self.tree.read(path, utc_s, self._rights.may_read))

    def content_of_several(self, paths: tuple[Path, ...], utc_s: float) -> Content:
        """What those of ``paths`` hold that can be read."""
        found = {}
        for path in paths:
            try:
                found.update({entry.path: entry for entry in self.content_of(path, utc_s).entries})
            except Denied:
                continue
        return Content(tuple(found.values()))

    def encode(self, content_format: int, content: Content, path: Path) -> bytes:
        """``content`` once more, as it is told. Raises `Denied`."""
        return self._encode(content_format, content, path)

    def read_otherwise(self, path: Path, content_format: int | None, utc_s: float) -> tuple[int, bytes]:
        """What ``path`` holds, in another format than ``content_format``. Raises `Denied` where there is none."""
        content = self.content_of(path, utc_s)
        for each in (ContentFormat.TLV, ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR):
            if each != content_format:
                try:
                    return each, self.bodies.encode(each, content, path)
                except EncodeError:
                    continue
        raise Denied(codes.NOT_ACCEPTABLE, f"no other format for {path}")

    def own_attributes(self, path: Path, query: tuple[str, ...]) -> NotificationAttributes:
        """The attributes that the query of an Observe states for it alone (Core 1.2.2 §6.4.1). Raises `Denied`."""
        return self.reporting.parse(path, self.tree.types.resource_type(path), query) if query else NO_ATTRIBUTES

    def own_attributes_of_several(self, query: tuple[str, ...]) -> NotificationAttributes:
        """The same for an Observe-Composite, which has periods and ``con`` alone. Raises `Denied`."""
        if not query:
            return NO_ATTRIBUTES
        own = self.reporting.parse(Path(0), None, query)
        if others := own.names() - {"pmin", "pmax", "epmin", "epmax", "con"}:
            raise Denied(codes.BAD_REQUEST, f"{min(others)} is not for several paths")
        return own

    def discover(self, path: Path, depth: int | None = None) -> str:
        """The link-format text of ``path`` (Core 1.2.2 §6.3.2): itself with the attributes that it has or inherits, and
        ``depth`` levels below it with those attached to each. Raises `Denied`.

        Without ``depth``: an object with its instances and their resources, an instance with its resources, a resource
        alone (from 1.2 on, with its instances)."""
        if not path:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the root is discovered by a bootstrap server alone")
        if len(path) > 3:
            raise Denied(codes.BAD_REQUEST, "a resource instance is not discovered")
        self.tree.require(path)
        if depth is None:
            depth = 3 - len(path) if len(path) < 3 else int(self.bodies.release.name == "1.2")
        links = [self._link(path, inherited=True)]
        self._discover_below(path, depth, links)
        return ",".join(links)

    # -- the methods --

    def _get(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if request.accept == ContentFormat.LINK_FORMAT:
            text = self.discover(path, self._depth_of(request.query))
            return Answer(codes.CONTENT, ContentFormat.LINK_FORMAT, text.encode())
        self._require_query_of_observe(request)
        if not path:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the root is not read")
        _, content_format, payload = self.read(path, request.accept, utc_s)
        self.own_attributes(path, request.query)
        return Answer(codes.CONTENT, content_format, payload)

    def _put(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if request.query and not request.payload and request.content_format is None:
            if not path:
                raise Denied(codes.METHOD_NOT_ALLOWED, "the root has no attributes")
            if len(path) == 4 and self.bodies.release.name == "1.0":
                raise Denied(codes.METHOD_NOT_ALLOWED, "resource instances have attributes from LwM2M 1.1 on")
            self.tree.require(path)
            self._rights.require(path, Right.READ)
            self.reporting.write_attributes(path, self.tree.types.resource_type(path), request.query)
            return Answer(codes.CHANGED)
        return self._write(request, path, utc_s, replace=True)

    def _post(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if len(path) == 1:
            return self._create(request, path, utc_s)
        if len(path) == 2:
            return self._write(request, path, utc_s, replace=False)
        if len(path) != 3:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"nothing is created at {path}")
        self.tree.require(path)
        model = self.tree.types.resource(path)
        if model is not None and not model.executable and model.multiple:
            return self._write(request, path, utc_s, replace=False)
        self._rights.require(path, Right.EXECUTE)
        self.tree.require_executable(path)
        if request.content_format not in (None, ContentFormat.TEXT):
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, "arguments are text")
        arguments = request.payload.decode("latin-1")
        return Answer(codes.CHANGED, reaction=self._reactions.executed(path, arguments, utc_s))

    def _write(self, request: RequestReceived, path: Path, utc_s: float, *, replace: bool) -> Answer:
        self.tree.require(path if len(path) < 4 else path.parent)
        self._rights.require(path, Right.WRITE)
        content = self.bodies.decode(request, path, utc_s, one_value=len(path) >= 3 and replace)
        self._reactions.check(content.entries)
        changed = self.tree.write(path, content.entries, replace=replace)
        return Answer(codes.CHANGED, reaction=self._reactions.written(changed, utc_s))

    def _create(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        self.tree.require(path)
        self._rights.require(path, Right.CREATE)
        template = catalogue.template_of(self.tree.types, path[0])
        model = self.tree.types.object(path[0])
        if template is None or (model is not None and not model.multiple and self.tree.below(path)):
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} has one instance for ever")
        content = self.bodies.decode(request, path, utc_s, one_value=False)
        created = path.child(self.tree.create(path[0], content.entries, content.empty, template))
        given = {Path(*created, *entry.path[2:3]) for entry in content.entries}
        reaction = self._reactions.written(tuple(sorted(given)), utc_s)
        # Core 1.2.2 6.2.2: other instances than were registered are told by an Update.
        reaction.effect = reaction.effect or Effect.UPDATE
        return Answer(codes.CREATED, location=tuple(map(str, created)), reaction=reaction)

    def _delete(self, path: Path) -> Answer:
        self.tree.require(path)
        self._rights.require(path, Right.WRITE if len(path) == 4 else Right.DELETE)
        if len(path) == 4 and self.bodies.release.name != "1.0":
            model = self.tree.types.resource(path)
            if model is None or not model.writable:
                raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be deleted")
            self.tree.delete(path)
            self.reporting.forget_below(path)
            return Answer(codes.DELETED, reaction=Reaction((path.parent,)))
        if len(path) != 2 or catalogue.template_of(self.tree.types, path[0]) is None:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be deleted")
        self.tree.delete(path)
        self.reporting.forget_below(path)
        return Answer(codes.DELETED, reaction=Reaction((path,), Effect.UPDATE))

    # -- several paths at once --

    def _fetch(self, request: RequestReceived, utc_s: float) -> Answer:
        self._require_query_of_observe(request)
        paths = self.bodies.decode_paths(request)
        self.own_attributes_of_several(request.query)
        accept = self.bodies.choose_for_several(request.content_format, request.accept)
        _, content_format, payload = self.read_several(paths, accept, utc_s)
        return Answer(codes.CONTENT, content_format, payload)

    def _patch(self, request: RequestReceived, utc_s: float) -> Answer:
        entries, deleted = self.bodies.decode_changes(request, utc_s)
        for path in (*(entry.path for entry in entries), *deleted):
            self.tree.require(Path(*path[:2]))
            self._rights.require(path, Right.WRITE)
        self._reactions.check(entries)
        changed = self.tree.write_all(entries, deleted)
        for path in deleted:
            self.reporting.forget_below(path)
        return Answer(codes.CHANGED, reaction=self._reactions.written(changed, utc_s))

    # -- the details --

    def _require_query_of_observe(self, request: RequestReceived) -> None:
        # An Observe is cancelled with the query that it was asked with.
        if request.query and not (self.bodies.release.name == "1.2" and observe_of(request) is not None):
            raise Denied(codes.BAD_REQUEST, "a query is for an Observe of LwM2M 1.2")

    def _encode(self, content_format: int, content: Content, path: Path) -> bytes:
        try:
            return self.bodies.encode(content_format, content, path)
        except EncodeError as error:
            raise Denied(codes.NOT_ACCEPTABLE, str(error)) from None

    def _depth_of(self, query: tuple[str, ...]) -> int | None:
        if not query:
            return None
        name, _, text = query[0].partition("=")
        depths = ("0", "1", "2", "3")
        if self.bodies.release.name != "1.2" or len(query) > 1 or name != "depth" or text not in depths:
            raise Denied(codes.BAD_REQUEST, "a Discover has no query, or from LwM2M 1.2 on depth=0 to depth=3")
        return int(text)

    def _discover_below(self, path: Path, depth: int, links: list[str]) -> None:
        if depth == 0 or len(path) == _DEEPEST:
            return
        for child in self.tree.below(path):
            links.append(self._link(child))
            self._discover_below(child, depth - 1, links)

    def _link(self, path: Path, *, inherited: bool = False) -> str:
        parts = [f"<{self.bodies.link_root}{path}>"]
        if len(path) == 1 and (version := self.bodies.release.versions.get(path[0])):
            parts.append(f"ver={version}")
        if len(path) == 3 and self.tree.types.is_multiple(path):
            parts.append(f"dim={len(self.tree.below(path))}")
        find = self.reporting.discovered_at if inherited else self.reporting.attributes_at
        parts.extend(f"{name}={value}" for name, value in find(path).to_query())
        return ";".join(parts)


def observe_of(request: RequestReceived) -> int | None:
    """The Observe option of ``request``: 0 to observe, 1 to cancel, None without."""
    return next((decode_uint(value) for number, value in request.options if number == OBSERVE), None)


def path_of(segments: tuple[str, ...]) -> Path:
    """The LwM2M path that ``segments`` write. Raises `Denied`."""
    try:
        return Path.parse("/" + "/".join(segments))
    except PathError as error:
        raise Denied(codes.NOT_FOUND, str(error)) from None
