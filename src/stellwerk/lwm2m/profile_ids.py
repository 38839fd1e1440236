"""Profile IDs: short names that stand for a list of objects in a Register or Update (Core 1.2.2 §6.2.1; contract §4).

How the input of the hash in an ID is made is not published, so an ID says nothing by itself: it stands for what a
device said it stands for.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from stellwerk.core.errors import PeerError
from stellwerk.lwm2m.link_format import ListedObject, ObjectList, decode_object_list, encode_object_list

KNOWN_BODIES: Final[Mapping[str, bytes]] = {"6:27354b9a": b"</1/0>,</3/0>"}
"""IDs whose list is printed in a standard: that of ETS 110 and 111."""


class UnknownProfile(PeerError):
    """What the device has cannot be told: of ``profile_ids`` nothing is known, or it named none and no object either.
    Deserves 4.09 Conflict, upon which a device sends its complete list."""

    def __init__(self, profile_ids: tuple[str, ...]) -> None:
        self.profile_ids = profile_ids
        named = ", ".join(each[:40] for each in profile_ids)
        super().__init__(
            f"profile ID {named} is not known; send the complete object list"
            if profile_ids
            else "neither an object list nor a profile ID; send the complete object list"
        )


def join_lists(lists: Iterable[ObjectList]) -> ObjectList:
    """Everything that any of ``lists`` has. What a later one says of versions, formats or the root counts."""
    instances: dict[int, set[int]] = {}
    versions: dict[int, str] = {}
    root, content_formats = "", None
    for each in lists:
        root = each.root or root
        content_formats = content_formats if each.content_formats is None else each.content_formats
        for object_id, listed in each.objects.items():
            instances.setdefault(object_id, set()).update(listed.instances)
            if listed.version is not None:
                versions[object_id] = listed.version
    return ObjectList(
        {each: ListedObject(versions.get(each), tuple(sorted(found))) for each, found in sorted(instances.items())},
        root,
        content_formats,
    )


def join_bodies(bodies: Iterable[bytes]) -> bytes:
    """The link format of everything that any of ``bodies`` lists. Raises `LinkFormatError`, also where together they
    have more links than one list may."""
    joined = encode_object_list(join_lists(decode_object_list(each) for each in bodies))
    decode_object_list(joined)
    return joined
