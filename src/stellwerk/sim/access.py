"""What a device answers to a server that reads, writes, executes, creates, deletes or discovers (Core 1.2.2 §6.3;
contract §6)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
from stellwerk.coap.options import OBSERVE, decode_uint
from stellwerk.lwm2m.attributes import NotificationAttributes
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import (
    ContentFormat,
    DecodeError,
    EncodeError,
    UnsupportedFormat,
    decode_content,
    encode_content,
)
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.value import ResourceType
from stellwerk.sim import objects
from stellwerk.sim.reactions import Effect, Reaction, Reactions
from stellwerk.sim.release import SEVERAL, Release
from stellwerk.sim.reporting import NO_ATTRIBUTES, Reporting
from stellwerk.sim.tree import Denied, Listing, ObjectTree

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
    """Serves one device's tree. Never raises for anything a server asks."""

    __slots__ = ("_reactions", "_release", "_reporting", "_tree")

    def __init__(self, tree: ObjectTree, reporting: Reporting, reactions: Reactions, release: Release) -> None:
        self._tree = tree
        self._reporting = reporting
        self._reactions = reactions
        self._release = release

    def answer(self, request: RequestReceived, utc_s: float) -> Answer:
        """The answer to ``request``; its observation, if it asks for one, is the caller's business."""
        try:
            path = path_of(request)
            if request.code == codes.GET:
                return self._get(request, path, utc_s)
            if request.code == codes.PUT:
                return self._put(request, path, utc_s)
            if request.code == codes.POST:
                return self._post(request, path, utc_s)
            if request.code == codes.DELETE:
                return self._delete(path)
            # The composites are optional for a client.
            raise Denied(codes.METHOD_NOT_ALLOWED, f"no {codes.dotted(request.code)} on {path}")
        except Denied as denied:
            return Answer(denied.code, why=denied.why)

    def read(self, path: Path, accept: int | None, utc_s: float) -> tuple[Content, ContentFormat, bytes]:
        """What ``path`` holds, in a format the server accepts. Raises `Denied`."""
        entries, empty = self._tree.read(path, utc_s)
        content_format = self._choose(path, accept)
        content = Content(entries, empty)
        try:
            return content, content_format, encode_content(content_format, content, path, self._tree.types)
        except EncodeError as error:
            raise Denied(codes.NOT_ACCEPTABLE, str(error)) from None

    def read_otherwise(self, path: Path, content_format: int | None, utc_s: float) -> tuple[int, bytes]:
        """What ``path`` holds, in another format than ``content_format``. Raises `Denied` where there is none."""
        entries, empty = self._tree.read(path, utc_s)
        for each in (ContentFormat.TLV, ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR):
            if each != content_format:
                try:
                    return each, encode_content(each, Content(entries, empty), path, self._tree.types)
                except EncodeError:
                    continue
        raise Denied(codes.NOT_ACCEPTABLE, f"no other format for {path}")

    def own_attributes(self, path: Path, query: tuple[str, ...]) -> NotificationAttributes:
        """The attributes that the query of an Observe states for it alone (Core 1.2.2 §6.4.1). Raises `Denied`."""
        return self._reporting.parse(path, self._tree.types.resource_type(path), query) if query else NO_ATTRIBUTES

    def discover(self, path: Path, depth: int | None = None) -> str:
        """The link-format text of ``path`` (Core 1.2.2 §6.3.2): itself with the attributes that it has or inherits, and
        ``depth`` levels below it with those attached to each. Raises `Denied`.

        Without ``depth``: an object with its instances and their resources, an instance with its resources, a resource
        alone (from 1.2 on, with its instances)."""
        if not path:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the root is discovered by a bootstrap server alone")
        if len(path) > 3:
            raise Denied(codes.BAD_REQUEST, "a resource instance is not discovered")
        self._tree.require(path)
        if depth is None:
            depth = 3 - len(path) if len(path) < 3 else int(self._release.name == "1.2")
        links = [self._link(path, inherited=True)]
        self._discover_below(path, depth, links)
        return ",".join(links)

    # -- the methods --

    def _get(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if request.accept == ContentFormat.LINK_FORMAT:
            text = self.discover(path, self._depth_of(request.query))
            return Answer(codes.CONTENT, ContentFormat.LINK_FORMAT, text.encode())
        if request.query and not (self._release.name == "1.2" and observe_of(request) == 0):
            raise Denied(codes.BAD_REQUEST, "a query is for an Observe of LwM2M 1.2")
        if not path:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the root is not read")
        _, content_format, payload = self.read(path, request.accept, utc_s)
        self.own_attributes(path, request.query)
        return Answer(codes.CONTENT, content_format, payload)

    def _put(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if request.query and not request.payload and request.content_format is None:
            if not path:
                raise Denied(codes.METHOD_NOT_ALLOWED, "the root has no attributes")
            if len(path) == 4 and self._release.name == "1.0":
                raise Denied(codes.METHOD_NOT_ALLOWED, "resource instances have attributes from LwM2M 1.1 on")
            self._tree.require(path)
            self._reporting.write_attributes(path, self._tree.types.resource_type(path), request.query)
            return Answer(codes.CHANGED)
        return self._write(request, path, utc_s, replace=True)

    def _post(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if len(path) == 1:
            return self._create(request, path, utc_s)
        if len(path) == 2:
            return self._write(request, path, utc_s, replace=False)
        if len(path) != 3:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"nothing is created at {path}")
        self._tree.require(path)
        model = self._tree.types.resource(path)
        if model is not None and not model.executable and model.multiple:
            return self._write(request, path, utc_s, replace=False)
        self._tree.require_executable(path)
        if request.content_format not in (None, ContentFormat.TEXT):
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, "arguments are text")
        arguments = request.payload.decode("latin-1")
        return Answer(codes.CHANGED, reaction=self._reactions.executed(path, arguments, utc_s))

    def _write(self, request: RequestReceived, path: Path, utc_s: float, *, replace: bool) -> Answer:
        self._tree.require(path if len(path) < 4 else path.parent)
        content = self._decode(request, path, utc_s, one_value=len(path) >= 3 and replace)
        self._reactions.check(content.entries)
        changed = self._tree.write(path, content.entries, replace=replace)
        return Answer(codes.CHANGED, reaction=self._reactions.written(changed, utc_s))

    def _create(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        self._tree.require(path)
        template = objects.template_of(path[0])
        if template is None:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} has one instance for ever")
        content = self._decode(request, path, utc_s, one_value=False)
        created = path.child(self._tree.create(path[0], content.entries, content.empty, template))
        given = {Path(*created, *entry.path[2:3]) for entry in content.entries}
        reaction = self._reactions.written(tuple(sorted(given)), utc_s)
        # Core 1.2.2 6.2.2: other instances than were registered are told by an Update.
        reaction.effect = Effect.UPDATE
        return Answer(codes.CREATED, location=tuple(map(str, created)), reaction=reaction)

    def _delete(self, path: Path) -> Answer:
        self._tree.require(path)
        if len(path) == 4 and self._release.name != "1.0":
            model = self._tree.types.resource(path)
            if model is None or not model.writable:
                raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be deleted")
            self._tree.delete(path)
            self._reporting.forget_below(path)
            return Answer(codes.DELETED, reaction=Reaction((path.parent,)))
        if len(path) != 2 or objects.template_of(path[0]) is None:
            raise Denied(codes.METHOD_NOT_ALLOWED, f"{path} cannot be deleted")
        self._tree.delete(path)
        self._reporting.forget_below(path)
        return Answer(codes.DELETED, reaction=Reaction((path,), Effect.UPDATE))

    # -- the details --

    def _decode(self, request: RequestReceived, path: Path, utc_s: float, *, one_value: bool) -> Content:
        content_format = request.content_format
        if content_format is None or content_format not in self._release.formats:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"no format {content_format}")
        if content_format not in SEVERAL and not one_value:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"format {content_format} holds one value")
        try:
            creating = len(path) == 1
            return decode_content(content_format, request.payload, path, self._tree.types, utc_s, creating=creating)
        except UnsupportedFormat as error:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, str(error)) from None
        except DecodeError as error:
            raise Denied(codes.BAD_REQUEST, str(error)) from None

    def _choose(self, path: Path, accept: int | None) -> ContentFormat:
        if accept is None:
            return self._release.default_format
        if accept not in self._release.formats:
            raise Denied(codes.NOT_ACCEPTABLE, f"no format {accept}")
        chosen = ContentFormat(accept)
        if chosen in SEVERAL:
            return chosen
        # One value fits text, CBOR and opaque; several resource instances do not.
        if len(path) < 3 or (len(path) == 3 and self._tree.types.is_multiple(path)):
            raise Denied(codes.NOT_ACCEPTABLE, f"format {accept} holds one value")
        if chosen is ContentFormat.OPAQUE and self._tree.types.resource_type(path) is not ResourceType.OPAQUE:
            raise Denied(codes.NOT_ACCEPTABLE, f"{path} is not opaque")
        return chosen

    def _depth_of(self, query: tuple[str, ...]) -> int | None:
        if not query:
            return None
        name, _, text = query[0].partition("=")
        if self._release.name != "1.2" or len(query) > 1 or name != "depth" or text not in ("0", "1", "2", "3"):
            raise Denied(codes.BAD_REQUEST, "a Discover has no query, or from LwM2M 1.2 on depth=0 to depth=3")
        return int(text)

    def _discover_below(self, path: Path, depth: int, links: list[str]) -> None:
        if depth == 0 or len(path) == _DEEPEST:
            return
        for child in self._tree.below(path):
            links.append(self._link(child))
            self._discover_below(child, depth - 1, links)

    def _link(self, path: Path, *, inherited: bool = False) -> str:
        parts = [f"<{path}>"]
        if len(path) == 1 and (version := self._release.versions.get(path[0])):
            parts.append(f"ver={version}")
        if len(path) == 3 and self._tree.types.is_multiple(path):
            parts.append(f"dim={len(self._tree.below(path))}")
        find = self._reporting.inherited_at if inherited else self._reporting.attributes_at
        parts.extend(f"{name}={value}" for name, value in find(path).to_query())
        return ";".join(parts)


def observe_of(request: RequestReceived) -> int | None:
    """The Observe option of ``request``: 0 to observe, 1 to cancel, None without."""
    return next((decode_uint(value) for number, value in request.options if number == OBSERVE), None)


def path_of(request: RequestReceived) -> Path:
    """The LwM2M path that ``request`` names. Raises `Denied`."""
    try:
        return Path.parse("/" + "/".join(request.path))
    except PathError as error:
        raise Denied(codes.NOT_FOUND, str(error)) from None


@lru_cache(maxsize=1024)
def registration_links(listings: tuple[Listing, ...], stated_formats: str | None) -> bytes:
    """The object list of a Register or Update (Core 1.1.1 §6.2.1, Transport §6.4.1), one for all devices alike."""
    root = '</>;rt="oma.lwm2m"'
    links = [root if stated_formats is None else f"{root};ct={stated_formats}"]
    for each in listings:
        if each.version is not None:
            links.append(f"</{each.object_id}>;ver={each.version}")
        elif not each.instances:
            links.append(f"</{each.object_id}>")
        links.extend(f"</{each.object_id}/{instance}>" for instance in each.instances)
    return ",".join(links).encode()
