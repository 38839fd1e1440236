"""What a device answers to a server that reads, writes, executes or discovers (Core 1.1.1 §6.3; contract §6)."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
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
from stellwerk.sim.motion import clock
from stellwerk.sim.reporting import Reporting, write_number
from stellwerk.sim.tree import Denied, Listing, ObjectTree

_LIFETIMES: Final = range(2**32)
"""What ``lt`` of an Update can say; the object's type, Integer, can hold more."""

READABLE: Final = frozenset(
    {
        ContentFormat.TEXT,
        ContentFormat.OPAQUE,
        ContentFormat.CBOR,
        ContentFormat.TLV,
        ContentFormat.SENML_JSON,
        ContentFormat.SENML_CBOR,
    }
)
"""The formats a simulated device reads and writes: those of LwM2M 1.1 without the legacy JSON."""

_SEVERAL: Final = frozenset({ContentFormat.TLV, ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR})

DEFAULT_FORMAT: Final = ContentFormat.SENML_CBOR
"""What is sent to a server that does not say what it accepts (contract §0.1)."""

SUPPORTED: Final = '"60 110 112 11542"'
"""The formats named at registration; text and opaque go without saying."""


class Effect(Enum):
    """What a device does after it has answered."""

    UPDATE = auto()
    REBOOT = auto()
    DISABLE = auto()


@dataclass(slots=True)
class Answer:
    """``changed``: resources with a new value; ``why``: the reason of a refusal, for the trace."""

    code: int
    content_format: int | None = None
    payload: bytes = b""
    effect: Effect | None = None
    changed: tuple[Path, ...] = ()
    why: str = ""


class Access:
    """Serves one device's tree. Never raises for anything a server asks."""

    __slots__ = ("_reporting", "_tree")

    def __init__(self, tree: ObjectTree, reporting: Reporting) -> None:
        self._tree = tree
        self._reporting = reporting

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
            # Create, Delete and the composites: nothing here is multiple, and composites are optional for a client.
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

    def discover(self, path: Path) -> str:
        """The link-format text of ``path`` (Core 1.1.1 §6.3.2): an object with its instances and their resources, an
        instance with its resources, a resource alone; with the attributes written there. Raises `Denied`."""
        if not path:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the root is discovered by a bootstrap server alone")
        if len(path) > 3:
            raise Denied(codes.BAD_REQUEST, "a resource instance is not discovered")
        links = [self._link(path)]
        for child in self._tree.below(path) if len(path) < 3 else ():
            links.append(self._link(child))
            if len(child) == 2:
                links.extend(self._link(each) for each in self._tree.below(child))
        self._tree.require(path)
        return ",".join(links)

    # -- the methods --

    def _get(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if request.accept == ContentFormat.LINK_FORMAT:
            if request.query:
                raise Denied(codes.BAD_REQUEST, "a query is for LwM2M 1.2")
            return Answer(codes.CONTENT, ContentFormat.LINK_FORMAT, self.discover(path).encode())
        if request.query:
            raise Denied(codes.BAD_REQUEST, "a query is for LwM2M 1.2")
        if not path:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the root is not read")
        _, content_format, payload = self.read(path, request.accept, utc_s)
        return Answer(codes.CONTENT, content_format, payload)

    def _put(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
        if request.query and not request.payload and request.content_format is None:
            self._tree.require(path)
            self._reporting.write_attributes(path, request.query)
            return Answer(codes.CHANGED)
        return self._write(request, path, utc_s, replace=True)

    def _post(self, request: RequestReceived, path: Path, utc_s: float) -> Answer:
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
        return self._execute(path)

    def _write(self, request: RequestReceived, path: Path, utc_s: float, *, replace: bool) -> Answer:
        self._tree.require(path if len(path) < 4 else path.parent)
        content_format = request.content_format
        if content_format not in READABLE:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"no format {content_format}")
        if content_format not in _SEVERAL and (len(path) < 3 or not replace):
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"format {content_format} holds one value")
        try:
            content = decode_content(content_format, request.payload, path, self._tree.types, utc_s)
        except UnsupportedFormat as error:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, str(error)) from None
        except DecodeError as error:
            raise Denied(codes.BAD_REQUEST, str(error)) from None
        for entry in content.entries:
            if entry.path == objects.LIFETIME and isinstance(entry.value, int) and entry.value not in _LIFETIMES:
                raise Denied(codes.BAD_REQUEST, f"a lifetime of {entry.value} s cannot be told to a server")
        changed = self._tree.write(path, content.entries, replace=replace)
        # Core 1.1.1 6.2.2: a changed lifetime is told by an Update.
        effect = Effect.UPDATE if objects.LIFETIME in changed else None
        if objects.CURRENT_TIME in changed:
            self._set_clock(utc_s)
        return Answer(codes.CHANGED, effect=effect, changed=changed)

    def _execute(self, path: Path) -> Answer:
        if path == objects.UPDATE_TRIGGER:
            return Answer(codes.CHANGED, effect=Effect.UPDATE)
        if path == objects.DISABLE:
            return Answer(codes.CHANGED, effect=Effect.DISABLE)
        if path in (objects.REBOOT, objects.FACTORY_RESET):
            return Answer(codes.CHANGED, effect=Effect.REBOOT)
        if path == objects.RESET_ERROR_CODE:
            self._tree.put(objects.ERROR_CODE, {0: 0})
            return Answer(codes.CHANGED, changed=(objects.ERROR_CODE,))
        return Answer(codes.CHANGED)

    # -- the details --

    def _set_clock(self, utc_s: float) -> None:
        written = self._tree.value(objects.CURRENT_TIME, utc_s)
        if isinstance(written, int | float):
            self._tree.put(objects.CURRENT_TIME, clock(written - utc_s))

    def _choose(self, path: Path, accept: int | None) -> ContentFormat:
        if accept is None:
            return DEFAULT_FORMAT
        if accept not in READABLE:
            raise Denied(codes.NOT_ACCEPTABLE, f"no format {accept}")
        chosen = ContentFormat(accept)
        if chosen in _SEVERAL:
            return chosen
        # One value fits text, CBOR and opaque; several resource instances do not.
        if len(path) < 3 or (len(path) == 3 and self._tree.types.is_multiple(path)):
            raise Denied(codes.NOT_ACCEPTABLE, f"format {accept} holds one value")
        if chosen is ContentFormat.OPAQUE and self._tree.types.resource_type(path) is not ResourceType.OPAQUE:
            raise Denied(codes.NOT_ACCEPTABLE, f"{path} is not opaque")
        return chosen

    def _link(self, path: Path) -> str:
        parts = [f"<{path}>"]
        if len(path) == 1 and (version := objects.VERSIONS.get(path[0])):
            parts.append(f"ver={version}")
        if len(path) == 3 and self._tree.types.is_multiple(path):
            parts.append(f"dim={len(self._tree.below(path))}")
        parts.extend(f"{name}={write_number(value)}" for name, value in self._reporting.attributes_at(path).items())
        return ";".join(parts)


def path_of(request: RequestReceived) -> Path:
    """The LwM2M path that ``request`` names. Raises `Denied`."""
    try:
        return Path.parse("/" + "/".join(request.path))
    except PathError as error:
        raise Denied(codes.NOT_FOUND, str(error)) from None


def registration_links(listings: tuple[Listing, ...]) -> str:
    """The object list of a Register or Update (Core 1.1.1 §6.2.1, Transport §6.4.1)."""
    links = [f'</>;rt="oma.lwm2m";ct={SUPPORTED}']
    for each in listings:
        if each.version is not None:
            links.append(f"</{each.object_id}>;ver={each.version}")
        elif not each.instances:
            links.append(f"</{each.object_id}>")
        links.extend(f"</{each.object_id}/{instance}>" for instance in each.instances)
    return ",".join(links)
