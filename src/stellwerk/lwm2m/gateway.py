"""The Gateway object (25) and what it means for payloads: end devices, their prefixes and objects (LwM2M Gateway 1.1;
contract §10, §12).

Version 2.0 of the object says of each end device its identifier, its prefix and its objects. Version 1.0 has a link
into the routing object (26) in the place of the objects. Which of them an instance is shows in what it holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import cbor2
import msgspec

from stellwerk.core.errors import PeerError
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import senml_json
from stellwerk.lwm2m.formats.cbor_items import load as load_cbor
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import BadName, Malformed
from stellwerk.lwm2m.formats.senml import CBOR_LABELS, JSON_LABELS, Labels
from stellwerk.lwm2m.link_format import (
    Link,
    ListedObject,
    ObjectList,
    decode_links,
    decode_object_list,
    encode_links,
    encode_object_list,
)
from stellwerk.lwm2m.value import ObjectLink, Value

GATEWAY: Final = 25
ROUTING: Final = 26
LONGEST_DEVICE_ID: Final = 255
"""Characters."""
LONGEST_PREFIX: Final = 255
"""Bytes: it is one segment of a path (RFC 7252 5.10)."""

_DEVICE_ID, _PREFIX, _ROUTE, _OBJECTS = 0, 1, 2, 3
_OBJECT_ID, _MAPPING = 0, 1


class BadEndDevice(PeerError):
    """Instance ``instance`` of the Gateway object describes no device that could be reached; ``reason`` says why."""

    def __init__(self, instance: int, reason: str) -> None:
        self.instance, self.reason = instance, reason
        super().__init__(f"/{GATEWAY}/{instance}: {reason}")


class UnknownPrefix(PeerError):
    """A payload speaks of ``prefix``, which is no end device's."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        super().__init__(f"no end device has the prefix {prefix[:60]!r}")


@dataclass(frozen=True, slots=True)
class EndDevice:
    """One instance of the Gateway object. ``objects`` is None where it does not say them; ``trouble`` tells where they
    make no sense. ``route``: the instance of the routing object that it links to."""

    instance: int
    device_id: str
    prefix: str
    objects: ObjectList | None = None
    route: int | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class EndDevices:
    """What a gateway lists: by instance; ``flaws`` are sentences about what is not usable of it."""

    devices: tuple[EndDevice, ...] = ()
    flaws: tuple[str, ...] = ()


def read_end_devices(content: Content, root: str = "") -> EndDevices:
    """The end devices in a decoded ``/25``. ``root``: the gateway's alternate path. Of instances that share a prefix or
    a device ID the first counts: two devices cannot be told apart."""
    instances: dict[int, dict[int, Value]] = {}
    for path, value in content.latest().items():
        if len(path) == 3 and path[0] == GATEWAY:
            instances.setdefault(path[1], {})[path[2]] = value
    devices: list[EndDevice] = []
    flaws: list[str] = []
    prefixes: dict[str, int] = {}
    names: dict[str, int] = {}
    for instance, resources in sorted(instances.items()):
        try:
            device = _read_instance(instance, resources, root)
            _first_of(instance, "prefix", device.prefix, prefixes)
            _first_of(instance, "device ID", device.device_id, names)
        except BadEndDevice as error:
            flaws.append(str(error))
            continue
        prefixes[device.prefix] = names[device.device_id] = instance
        devices.append(device)
        if device.trouble:
            flaws.append(f"/{GATEWAY}/{instance}: {device.trouble}")
    return EndDevices(tuple(devices), tuple(flaws))


def read_routes(content: Content) -> dict[int, ObjectList]:
    """The objects that each instance of a decoded ``/26`` leads to: those its mapping names, else the one it maps."""
    instances: dict[int, dict[int, Value]] = {}
    for path, value in content.latest().items():
        if len(path) == 3 and path[0] == ROUTING:
            instances.setdefault(path[1], {})[path[2]] = value
    routes = {}
    for instance, resources in instances.items():
        try:
            mapped = decode_device_objects(_text(resources.get(_MAPPING, "")), "")
        except PeerError:
            mapped = ObjectList()
        source = resources.get(_OBJECT_ID)
        if not mapped.objects and isinstance(source, int) and 0 < source < 65535:
            # Core 1.2.2 E.13: an empty mapping is the identity.
            mapped = ObjectList({source: ListedObject()})
        routes[instance] = mapped
    return routes


def decode_device_objects(text: str, prefix: str, root: str = "") -> ObjectList:
    """The objects in a list of links as a Register has it, without root. Some gateways write the prefix, or their own
    root, before the paths: that is understood. Raises `LinkFormatError`."""
    links = []
    for link in decode_links(text.encode("utf-8", "replace")):
        if "oma.lwm2m" in (link.get("rt") or "").split():
            continue
        target = link.target
        for before in (f"{root}/{prefix}/", f"/{prefix}/", f"{root}/"):
            if target.startswith(before):
                target = target[len(before) - 1 :]
                break
        links.append(Link(target, link.attributes))
    return ObjectList(decode_object_list(encode_links(links)).objects)


def encode_device_objects(objects: ObjectList) -> bytes:
    """The same list in one spelling, whatever the gateway's was."""
    return encode_object_list(ObjectList(dict(sorted(objects.objects.items()))))


def _read_instance(instance: int, resources: Mapping[int, Value], root: str) -> EndDevice:
    device_id = _text(resources.get(_DEVICE_ID, "")).strip()
    if not device_id:
        raise BadEndDevice(instance, "it has no device ID (resource 0)")
    if len(device_id) > LONGEST_DEVICE_ID or not device_id.isprintable():
        raise BadEndDevice(instance, f"a device ID is 1 to {LONGEST_DEVICE_ID} printable characters")
    prefix = check_prefix(instance, _text(resources.get(_PREFIX, "")))
    device = EndDevice(instance, device_id, prefix, route=_route(resources.get(_ROUTE)))
    if _OBJECTS not in resources:
        return device
    try:
        return replace(device, objects=decode_device_objects(_text(resources[_OBJECTS]), prefix, root))
    except PeerError as error:
        return replace(device, trouble=f"its objects (resource 3) do not decode: {error}")


def check_prefix(instance: int, text: str) -> str:
    """A prefix without slashes around it. Raises `BadEndDevice` for one that no path can begin with."""
    prefix = text.strip("/")
    if not prefix:
        raise BadEndDevice(instance, "it has no prefix (resource 1)")
    if len(prefix.encode("utf-8", "replace")) > LONGEST_PREFIX:
        raise BadEndDevice(instance, f"its prefix is longer than {LONGEST_PREFIX} bytes")
    if "/" in prefix or not prefix.isprintable() or prefix in (".", ".."):
        raise BadEndDevice(instance, f"its prefix {prefix[:60]!r} is not one segment of a path")
    if prefix.isascii() and prefix.isdigit():
        # As with a root of digits (Transport 6.4.1): it could not be told from an object.
        raise BadEndDevice(instance, f"its prefix {prefix[:60]!r} has only digits, as an object has")
    return prefix


def _first_of(instance: int, what: str, value: str, seen: Mapping[str, int]) -> None:
    if value in seen:
        raise BadEndDevice(instance, f"its {what} {value[:60]!r} is that of /{GATEWAY}/{seen[value]} too")


def _route(value: Value | None) -> int | None:
    return value.instance_id if isinstance(value, ObjectLink) and value.object_id == ROUTING else None


def _text(value: Value) -> str:
    """Without a model, formats without types give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# -- payloads that speak of several devices --


@dataclass(slots=True)
class _Part:
    records: list[dict[Any, Any]] = field(default_factory=list)
    tree: dict[Any, Any] = field(default_factory=dict)


_encode_json: Final = msgspec.json.Encoder(decimal_format="number").encode


def split_payload(content_format: int | None, payload: bytes, root: str = "") -> dict[str, bytes]:
    """A payload about a gateway and its end devices as one payload for each, by prefix; the gateway's own is under
    ``""``. Names of SenML stay as they are, keys of LwM2M CBOR lose the prefix. What belongs to nobody goes to the
    gateway, whose decoder says what is wrong with it. A payload of the gateway alone, or in a format without names, is
    given back as it is.

    Raises `Malformed`, `BadName`, `LimitExceeded`.
    """
    if content_format in (ContentFormat.SENML_JSON, ContentFormat.SENML_ETCH_JSON):
        parts = _split_pack(senml_json.load(payload), JSON_LABELS, root)
        return _written(payload, {each: part.records for each, part in parts.items()}, _encode_json)
    if content_format in (ContentFormat.SENML_CBOR, ContentFormat.SENML_ETCH_CBOR):
        parts = _split_pack(load_cbor(payload), CBOR_LABELS, root)
        return _written(payload, {each: part.records for each, part in parts.items()}, cbor2.dumps)
    if content_format == ContentFormat.LWM2M_CBOR:
        parts = _split_tree(load_cbor(payload, array_keys=True))
        return _written(payload, {each: part.tree for each, part in parts.items()}, cbor2.dumps)
    return {"": payload}


def _written(payload: bytes, parts: Mapping[str, Any], write: Any) -> dict[str, bytes]:
    if parts.keys() <= {""}:
        return {"": payload}
    try:
        return {prefix: write(part) for prefix, part in parts.items()}
    except (ValueError, TypeError, OverflowError, cbor2.CBOREncodeError) as error:
        raise Malformed("payload", str(error)[:200]) from None


def _split_pack(pack: object, labels: Labels, root: str) -> dict[str, _Part]:
    """Each record with its full name and with the base fields that hold for it (RFC 8428 4.6), so that it means the
    same in another pack."""
    if type(pack) is not list:
        raise Malformed("SenML", "a pack is an array of records")
    parts: dict[str, _Part] = {}
    base_name: Any = ""
    bases: dict[Any, Any] = {}
    carried = (labels.bver, labels.bt, labels.bv)
    base_labels = labels.ignored | {labels.bn, *carried}
    for record in pack:
        if type(record) is not dict:
            raise Malformed("SenML", "a record is a map")
        base_name = record.get(labels.bn, base_name)
        bases.update({label: record[label] for label in carried if label in record})
        name = record.get(labels.n, "")
        if type(name) is not str or type(base_name) is not str:
            raise Malformed("SenML", "a name is text")
        if not name and labels.bv not in bases and labels.values.isdisjoint(record) and base_labels & record.keys():
            # It only sets base fields.
            continue
        full_name = base_name + name
        moved = {label: value for label, value in record.items() if label != labels.bn}
        moved.update(bases)
        moved[labels.n] = full_name
        parts.setdefault(prefix_of(full_name, root), _Part()).records.append(moved)
    return parts


def prefix_of(name: str, root: str = "") -> str:
    """The prefix in the full name of a SenML record, empty where it has none. Raises `BadName` outside of ``root``."""
    if not name.startswith(root):
        raise BadName(name[:200], f"it does not begin with {root}")
    first, _, rest = name[len(root) :].removeprefix("/").partition("/")
    if not rest or (first.isascii() and first.isdigit()):
        return ""
    return first


def _split_tree(tree: object) -> dict[str, _Part]:
    """By the text that the keys of the outermost map begin with (contract §8.5), which the parts do not repeat."""
    if type(tree) is not dict:
        raise Malformed("LwM2M CBOR", "the outermost item is a map")
    parts: dict[str, _Part] = {}
    for key, item in tree.items():
        if type(key) is str:
            # Everything of a device below one key.
            if type(item) is not dict or not item:
                raise Malformed("LwM2M CBOR", f"below the prefix {key[:60]!r} is no map with anything in it")
            prefix, found = key, item
        elif type(key) is tuple and key and type(key[0]) is str:
            prefix, found = key[0], {key[1:]: item}
            if len(key) == 1:
                # An array of the prefix alone says what the prefix alone does.
                if type(item) is not dict or not item:
                    raise Malformed("LwM2M CBOR", f"below the prefix {prefix[:60]!r} is no map with anything in it")
                found = item
        else:
            prefix, found = "", {key: item}
        mine = parts.setdefault(prefix, _Part()).tree
        if not mine.keys().isdisjoint(found):
            raise Malformed("LwM2M CBOR", f"a key below the prefix {prefix[:60]!r} occurs twice")
        mine.update(found)
    return parts


def join_flaws(flaws: Iterable[str], most: int) -> tuple[str, ...]:
    """At most ``most`` lines: a gateway may have thousands of instances that are wrong."""
    lines = tuple(flaws)
    return lines if len(lines) <= most else (*lines[:most], f"and {len(lines) - most} more")
