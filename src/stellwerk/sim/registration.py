"""What a device says of itself in a Register or an Update (Core 1.2.2 §6.2; contract §4)."""

from functools import lru_cache

from stellwerk.lwm2m.path import Path
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.release import Release
from stellwerk.sim.tree import Listing


def register_query(options: DeviceOptions, release: Release, lifetime_s: int, carrier: str = "udp") -> tuple[str, ...]:
    """The parameters of a Register. ``carrier``: the transport that it leaves over, which a device that says nothing of
    its binding speaks."""
    binding = "T" if options.binding == "U" and carrier in ("tcp", "tls") else options.binding
    return (
        f"ep={options.endpoint_name}",
        f"lt={lifetime_s}",
        f"lwm2m={release.name}",
        *release.binding(binding, queue_mode=options.queue_mode),
        *((f"pid={options.profile_id}",) if options.profile_id else ()),
    )


def object_list(options: DeviceOptions, release: Release, listings: tuple[Listing, ...]) -> bytes:
    """The whole object list."""
    return registration_links(listings, release.stated_formats, options.root)


def list_beside_profile(options: DeviceOptions, release: Release, listings: tuple[Listing, ...]) -> bytes:
    """What the profile leaves to be listed; nothing where it stands for all."""
    rest = _without(listings, options.profile_covers) if options.profile_covers else ()
    return object_list(options, release, rest) if rest else b""


@lru_cache(maxsize=1024)
def registration_links(listings: tuple[Listing, ...], stated_formats: str | None, root: str = "") -> bytes:
    """The links of ``listings`` behind a root link (Transport §6.4.1), the same bytes for all devices alike."""
    link = f'<{root or "/"}>;rt="oma.lwm2m"'
    links = [link if stated_formats is None else f"{link};ct={stated_formats}"]
    for each in listings:
        if each.version is not None:
            links.append(f"<{root}/{each.object_id}>;ver={each.version}")
        elif not each.instances:
            links.append(f"<{root}/{each.object_id}>")
        links.extend(f"<{root}/{each.object_id}/{instance}>" for instance in each.instances)
    return ",".join(links).encode()


def _without(listings: tuple[Listing, ...], covered: tuple[Path, ...]) -> tuple[Listing, ...]:
    left = []
    for each in listings:
        instances = tuple(number for number in each.instances if Path(each.object_id, number) not in covered)
        if Path(each.object_id) not in covered and (instances or not each.instances):
            left.append(Listing(each.object_id, each.version, instances))
    return tuple(left)
