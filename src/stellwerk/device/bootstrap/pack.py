"""The same in one answer: a Bootstrap-Pack (LwM2M 1.2; Core 1.2.2 §6.1.7.7; contract §5, B-6, B-9).

A pack replaces every instance of the objects it holds, but for the device's bootstrap account and what belongs to it;
objects that it does not hold stay. So

- what it says of objects 0 and 1 is all the servers that the device has afterwards: accounts of other servers go;
- its instances must not be those of the bootstrap account, which only the device knows: it says them in ``acc``
  (1.2.1). Without it no pack is made;
- it cannot write the bootstrap account itself. A profile that wants to is carried out by /bs, as is one that gives no
  server: a device needs one after a pack.

Whatever is refused is answered with 4.05, and the device asks /bs (contract §5).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.account import (
    Account,
    access_content,
    check_account,
    oscore_content,
    security_content,
    server_content,
)
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration
from stellwerk.lwm2m.bootstrap import OSCORE, SECURITY
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path

SECURITY_VERSION: Final = "1.2"
OSCORE_VERSION: Final = "2.0"
"""Of a device that asks for a pack: those of LwM2M 1.2 (contract §9)."""


class PackRefused(UserError):
    """This device cannot be given a pack; deserves 4.05, and the device comes to /bs instead."""


@dataclass(frozen=True, slots=True)
class Pack:
    """``content`` for `lwm2m.bootstrap.encode_pack`."""

    content: Content
    warnings: tuple[str, ...] = ()


def make_pack(
    configuration: BootstrapConfiguration, accounts: Sequence[Account], bootstrap_account: tuple[Path, ...] | None
) -> Pack:
    """``accounts`` as of `make_plan`; ``bootstrap_account``: `PackParameters.accounts`. Raises `PackRefused`,
    `BadAccount`."""
    if bootstrap_account is None or not any(each[0] == SECURITY for each in bootstrap_account):
        raise PackRefused("the device does not say which instance of object 0 its bootstrap account is (acc=</0/0>)")
    servers = [each for each in accounts if not each.entry.is_bootstrap]
    if configuration.updates_bootstrap_server and len(servers) < len(accounts):
        raise PackRefused("the profile rewrites the account of the bootstrap server, which a pack leaves as it is")
    if not servers:
        raise PackRefused("the profile gives the device no server, and after a pack it needs one")
    for each in servers:
        check_account(each)
    taken = {(each[0], each[1]) for each in bootstrap_account}
    security_ids = _free(SECURITY, taken, len(servers))
    oscore_ids = _free(OSCORE, taken, len(servers))
    parts: list[Content] = []
    contexts: list[Content] = []
    for at, each in enumerate(servers):
        keys = each.keys.oscore if each.entry.oscore else None
        oscore_id = None if keys is None else oscore_ids[len(contexts)]
        parts.append(security_content(each, security_ids[at], SECURITY_VERSION, oscore_id))
        if keys is not None and oscore_id is not None:
            contexts.append(oscore_content(keys, oscore_id, OSCORE_VERSION))
    parts += [server_content(each, at) for at, each in enumerate(servers)]
    parts += contexts
    if len(servers) > 1:
        parts += [access_content(each, at) for at, each in enumerate(configuration.acls)]
    return Pack(
        Content(
            tuple(entry for each in parts for entry in each.entries),
            tuple(path for each in parts for path in each.empty),
        ),
        ("a pack replaces all servers of the device, those too that the profile does not name",),
    )


def _free(object_id: int, taken: Iterable[tuple[int, int]], count: int) -> list[int]:
    """The lowest identifiers of instances that are not ``taken``."""
    used = {instance_id for each, instance_id in taken if each == object_id}
    return [each for each in range(count + len(used)) if each not in used][:count]
