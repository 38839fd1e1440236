"""What a device holds already, from its answer to Bootstrap-Discover (Core 1.2.2 §6.1.7.3; contract B-14; device
platform §12.1).

Forms that are understood: with ``</>;lwm2m=1.1`` in front, with ``lwm2m="1.0"`` alone, with neither; versions and
numbers quoted or not. ``ssid`` stands at the instances of objects 0, 1 and 21 that are an account's, at those of the
bootstrap account it does not; some write 0 or 65535 there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from stellwerk.device.bootstrap.account import DEFAULT_VERSIONS
from stellwerk.device.bootstrap.configuration import SHORT_IDS
from stellwerk.lwm2m.bootstrap import SECURITY, SERVER
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.link_format import MAX_BODY, LinkFormatError, decode_links
from stellwerk.lwm2m.path import RESERVED_ID
from stellwerk.lwm2m.schema.model import parse_version


@dataclass(frozen=True, slots=True)
class DiscoveredInstance:
    """``short_id`` None: none is stated, or one that is nobody's. ``uri``: of object 0."""

    instance_id: int
    short_id: int | None = None
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Discovered:
    """``instances``: by object, in order of their identifiers. ``versions``: of objects, as stated. ``lwm2m_version``:
    a hint only, since some devices say 1.0 whatever they speak (contract B-14)."""

    instances: Mapping[int, tuple[DiscoveredInstance, ...]] = field(default_factory=dict, hash=False)
    versions: Mapping[int, str] = field(default_factory=dict, hash=False)
    lwm2m_version: str | None = None

    def of(self, object_id: int) -> tuple[DiscoveredInstance, ...]:
        """The instances of an object."""
        return self.instances.get(object_id, ())

    def version(self, object_id: int) -> str:
        """As stated, else the default (device platform §12.1)."""
        return self.versions.get(object_id) or DEFAULT_VERSIONS.get(object_id, "1.0")

    @property
    def bootstrap_candidates(self) -> tuple[int, ...]:
        """Instances of object 0 that may be the bootstrap account: those without a short server ID, of several of these
        the ones without a URI too (B-6). Where none is listed there may still be one, unseen."""
        unnamed = [each for each in self.of(SECURITY) if each.short_id is None]
        without_uri = [each for each in unnamed if not each.uri]
        return tuple(each.instance_id for each in (without_uri or unnamed))

    @property
    def bootstrap_instance(self) -> int | None:
        """The bootstrap account's instance of object 0, None where it cannot be told."""
        candidates = self.bootstrap_candidates
        return candidates[0] if len(candidates) == 1 else None

    @property
    def wants_read(self) -> bool:
        """Whether instances of object 1 are listed without their short server IDs, so that Bootstrap-Read of /1 would
        tell more."""
        return any(each.short_id is None for each in self.of(SERVER))

    def with_servers(self, content: Content) -> "Discovered":
        """With what Bootstrap-Read of /1 said in the place of what Discover said of object 1."""
        short_ids = read_servers(content)
        servers = tuple(DiscoveredInstance(each, short_ids[each]) for each in sorted(short_ids))
        return replace(self, instances={**self.instances, SERVER: servers})


def read_servers(content: Content) -> dict[int, int | None]:
    """The instances of object 1 that ``content`` speaks of, each with its short server ID, None where it is no good."""
    found: dict[int, int | None] = {}
    for entry in content.entries:
        if entry.path[0] == SERVER and len(entry.path) == 3:
            found.setdefault(entry.path[1], None)
            if entry.path[2] == 0 and isinstance(entry.value, int):
                found[entry.path[1]] = _short_id(str(entry.value))
    for path in content.empty:
        if path[0] == SERVER:
            found.setdefault(path[1], None)
    return found


def decode_discovered(body: bytes) -> Discovered:
    """What ``body`` (link format) lists; links to anything but objects and instances are overlooked.

    Raises `LinkFormatError`.
    """
    if len(body) > MAX_BODY:
        raise LinkFormatError(f"more than {MAX_BODY} bytes", MAX_BODY)
    version = None
    bare = _BARE_VERSION.match(body)
    if bare is not None:
        version, body = bare[1].decode(), body[bare.end() :]
    instances: dict[int, dict[int, DiscoveredInstance]] = {}
    versions: dict[int, str] = {}
    for link in decode_links(body):
        ids = _ids(link.target)
        if ids is None:
            continue
        if not ids:
            version = _version(link.get("lwm2m")) or version
            continue
        stated = _version(link.get("ver"))
        if stated is not None and (len(ids) == 1 or ids[0] not in versions):
            versions[ids[0]] = stated
        known = instances.setdefault(ids[0], {})
        if len(ids) == 2:
            uri = (link.get("uri") or "")[:_LONGEST_URI]
            known.setdefault(ids[1], DiscoveredInstance(ids[1], _short_id(link.get("ssid")), uri))
    return Discovered(
        {each: tuple(known[at] for at in sorted(known)) for each, known in sorted(instances.items())}, versions, version
    )


_LONGEST_URI: Final = 255
_BARE_VERSION: Final = re.compile(
    rb'[ \t\r\n]*lwm2m[ \t]*=[ \t]*"?([0-9]{1,3}\.[0-9]{1,3}(?:\.[0-9]{1,3})?)"?[ \t\r\n]*(?:,|$)'
)
_TARGET: Final = re.compile(r"/([0-9]{1,5})(?:/([0-9]{1,5}))?/?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,5}", re.ASCII)


def _ids(target: str) -> tuple[int, ...] | None:
    """None of what is neither root, object nor instance."""
    if target in ("/", ""):
        return ()
    match = _TARGET.fullmatch(target)
    if match is None:
        return None
    ids = tuple(int(each) for each in match.groups() if each is not None)
    return ids if max(ids) < RESERVED_ID else None


def _short_id(text: str | None) -> int | None:
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    number = int(text)
    return number if number in SHORT_IDS else None


def _version(text: str | None) -> str | None:
    parsed = parse_version((text or "").strip())
    return None if parsed is None else f"{parsed[0]}.{parsed[1]}"
