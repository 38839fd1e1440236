"""What has to be deleted and written so that a device has what its profile says (contract B-2, B-4 to B-7; device
platform §12.1).

- First the Deletes: of each account that is written anew its instances of objects 0, 1 and 21. Then the Writes, one
  instance each: the bootstrap server's account, then object 0 and 1 of each server, then object 21, then object 2.
- An account keeps its instances where its short server ID is found; others get identifiers above all that are used.
  Accounts of other servers stay as they are.
- The bootstrap account is never deleted, and written only where the profile has one and allows it, and only where it is
  certain which instance it is.
- Without a Discover instance 0 is taken for the bootstrap account, servers are written from 1 on in all objects, and
  nothing is deleted. A device that has had these before has them at the same places.
- Object 2 is written only with more than one server (device platform §13), and then as a whole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from stellwerk.device.bootstrap.account import (
    Account,
    access_content,
    check_account,
    check_versions,
    left_out,
    oscore_content,
    security_content,
    server_content,
)
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration
from stellwerk.device.bootstrap.discovered import Discovered, DiscoveredInstance, read_servers
from stellwerk.lwm2m.bootstrap import (
    ACCESS_CONTROL,
    OSCORE,
    SECURITY,
    SERVER,
    BootstrapDelete,
    BootstrapWrite,
    write_format,
)
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import MAX_ID, Path
from stellwerk.lwm2m.schema.model import parse_version

Step: TypeAlias = BootstrapDelete | BootstrapWrite


@dataclass(frozen=True, slots=True)
class Plan:
    """``deletes``, then ``writes``, in order. ``warnings``: what a person should know, without secrets."""

    deletes: tuple[BootstrapDelete, ...] = ()
    writes: tuple[BootstrapWrite, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.deletes or self.writes)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them in the order in which they are sent."""
        return self.deletes + self.writes


def make_plan(
    configuration: BootstrapConfiguration,
    accounts: Sequence[Account],
    discovered: Discovered | None,
    *,
    pct: int | None = None,
    version: str | None = None,
) -> Plan:
    """``accounts``: one for each of `BootstrapConfiguration.given`, in any order; those of a bootstrap server that may
    not be updated are overlooked. ``discovered`` None: the device could not be asked. ``version``: the LwM2M version of
    the device where it is known. The plan is empty where the profile gives nothing. Raises `BadAccount`,
    `PctUnsupported`."""
    layout = _Layout(configuration, accounts, discovered, version)
    return Plan(tuple(map(BootstrapDelete, layout.replaced())), layout.writes(write_format(pct)), layout.warnings())


def make_correction(
    configuration: BootstrapConfiguration,
    accounts: Sequence[Account],
    discovered: Discovered | None,
    held: Content | None,
    *,
    pct: int | None = None,
    version: str | None = None,
) -> Plan:
    """After Finish was refused with 4.06: every account of the profile anew, and nothing beside them but whole accounts
    of other servers. ``discovered`` as it was before the first plan; ``held``: what Bootstrap-Read of /1 and /2 said
    after it, None where that of /1 said nothing. Where it is not certain which instance the bootstrap account is,
    objects 0 and 1 are deleted as a whole, which leaves it alone (B-5). Empty where the profile has no server: nothing
    would become better. Raises as `make_plan`."""
    layout = _Layout(configuration, accounts, discovered, version)
    if not any(each.server is not None for each in layout.places):
        return Plan(warnings=("the profile gives the device no server, so that it stays without one",))
    deletes, dropped = layout.leftovers(held)
    return Plan(tuple(map(BootstrapDelete, deletes)), layout.writes(write_format(pct)), (*layout.warnings(), *dropped))


@dataclass(frozen=True, slots=True)
class _Place:
    """The instances of an account: of object 0, of object 1 (None of a bootstrap server), of object 21."""

    account: Account
    security: int
    server: int | None = None
    oscore: int | None = None


class _Layout:
    """Which instances the accounts of the profile get on one device. Raises `BadAccount`."""

    def __init__(
        self,
        configuration: BootstrapConfiguration,
        accounts: Sequence[Account],
        discovered: Discovered | None,
        version: str | None,
    ) -> None:
        self._discovered = discovered
        known = discovered if discovered is not None else _unseen(version)
        self._security_version = known.version(SECURITY)
        self._oscore_version = known.version(OSCORE)
        self._states_oscore = OSCORE in known.versions
        self._release = version or known.lwm2m_version
        self._warnings: list[str] = []
        # The bootstrap account's may be there unseen, most likely as the first.
        self._free_oscore = _Free(known.of(OSCORE), 1)
        given = [each for each in accounts if configuration.updates_bootstrap_server or not each.entry.is_bootstrap]
        for each in given:
            check_account(each)
            check_versions(each, self._security_version)
        servers = [each for each in given if not each.entry.is_bootstrap]
        self.places = [
            *(place for each in given if each.entry.is_bootstrap for place in self._bootstrap_place(each)),
            *(self._seen_places(servers, discovered) if discovered is not None else _unseen_places(servers)),
        ]
        self._acls = configuration.acls if len(servers) > 1 else ()
        if configuration.acls and servers and not self._acls:
            self._warnings.append("the acls of the profile are left out: with one server it may do everything")

    # -- where? --

    def _bootstrap_place(self, account: Account) -> list[_Place]:
        """None where it is not certain which instance it is."""
        discovered = self._discovered
        if discovered is None:
            return [_Place(account, 0, oscore=0 if account.entry.oscore else None)]
        instance = discovered.bootstrap_instance
        if instance is None:
            listed = discovered.bootstrap_candidates
            reason = (
                f"instances {', '.join(map(str, listed))} of object 0 may all be its account"
                if listed
                else "the device lists no account of one"
            )
            self._warnings.append(f"the bootstrap server is left out: {reason}")
            return []
        unnamed = [each.instance_id for each in discovered.of(OSCORE) if each.short_id is None]
        oscore = None
        if account.entry.oscore:
            oscore = unnamed[0] if len(unnamed) == 1 else self._free_oscore.take()
        return [_Place(account, instance, oscore=oscore)]

    def _seen_places(self, accounts: Iterable[Account], discovered: Discovered) -> list[_Place]:
        # The bootstrap account may be there unseen, most likely as the first of object 0.
        free = {
            SECURITY: _Free(discovered.of(SECURITY), 1),
            SERVER: _Free(discovered.of(SERVER), 0),
            OSCORE: self._free_oscore,
        }

        def place(object_id: int, short_id: int | None) -> int:
            known = _having(discovered.of(object_id), short_id)
            return known[0] if known else free[object_id].take()

        return [
            _Place(
                each,
                place(SECURITY, each.entry.short_id),
                place(SERVER, each.entry.short_id),
                place(OSCORE, each.entry.short_id) if each.entry.oscore else None,
            )
            for each in accounts
        ]

    # -- what goes away? --

    def replaced(self) -> list[Path]:
        """What the device has of the accounts that are written."""
        if self._discovered is None:
            return []
        paths = [
            Path(object_id, each)
            for object_id in (SECURITY, SERVER, OSCORE)
            for place in self.places
            for each in _having(self._discovered.of(object_id), place.account.entry.short_id)
        ]
        return paths + self._acl_deletes()

    def _acl_deletes(self, now: Content | None = None) -> list[Path]:
        discovered = self._discovered
        is_there = discovered is not None and bool(discovered.of(ACCESS_CONTROL))
        if now is not None:
            is_there = is_there or any(each.path[0] == ACCESS_CONTROL for each in now.entries)
        return [Path(ACCESS_CONTROL)] if self._acls and is_there else []

    def leftovers(self, now: Content | None) -> tuple[list[Path], list[str]]:
        """After the first plan: all there may be but the bootstrap account and whole accounts of other servers; and
        what to say of it. ``now``: of objects 1 and 2, as they are now."""
        read = None if now is None else read_servers(now)
        discovered = self._discovered
        if discovered is None or discovered.bootstrap_instance is None:
            warning = "every account but that of the bootstrap server is deleted: the device does not tell them apart"
            return [Path(SECURITY), Path(SERVER), *self._acl_deletes(now)], [warning]
        ours = {each.account.entry.short_id for each in self.places}
        security = {each.instance_id: each.short_id for each in discovered.of(SECURITY)}
        security |= {each.security: each.account.entry.short_id for each in self.places}
        del security[discovered.bootstrap_instance]
        servers: dict[int, int | None] = {each.instance_id: each.short_id for each in discovered.of(SERVER)}
        servers |= {each.server: each.account.entry.short_id for each in self.places if each.server is not None}
        if read is not None:
            servers = dict(read)
        written = {each.server for each in self.places}
        whole = {
            short_id
            for instance, short_id in servers.items()
            if short_id is not None
            and short_id not in ours
            and instance not in written
            and list(servers.values()).count(short_id) == list(security.values()).count(short_id) == 1
        }
        paths, dropped = [], []
        for object_id, held in ((SECURITY, security), (SERVER, servers)):
            for instance, short_id in sorted(held.items()):
                if short_id in whole:
                    continue
                paths.append(Path(object_id, instance))
                if short_id not in ours:
                    whose = "no short server ID" if short_id is None else f"short server ID {short_id}"
                    dropped.append(f"/{object_id}/{instance} ({whose}) is deleted: it is of no whole account")
        oscore = {each.instance_id: each.short_id for each in discovered.of(OSCORE)}
        oscore |= {each.oscore: each.account.entry.short_id for each in self.places if each.oscore is not None}
        paths += [
            Path(OSCORE, each) for each, short_id in sorted(oscore.items()) if short_id is not None and short_id in ours
        ]
        return paths + self._acl_deletes(now), dropped

    # -- what comes? --

    def writes(self, content_format: int) -> tuple[BootstrapWrite, ...]:
        contents: list[tuple[Path, Content]] = []
        for each in self.places:
            contents.append(
                (
                    Path(SECURITY, each.security),
                    security_content(each.account, each.security, self._security_version, each.oscore),
                )
            )
            if each.server is not None:
                contents.append((Path(SERVER, each.server), server_content(each.account, each.server)))
        for each in self.places:
            keys = each.account.keys.oscore
            if each.oscore is not None and keys is not None:
                contents.append((Path(OSCORE, each.oscore), oscore_content(keys, each.oscore, self._oscore_version)))
        for at, acl in enumerate(self._acls):
            contents.append((Path(ACCESS_CONTROL, at), access_content(acl, at)))
        return tuple(BootstrapWrite(path, content, content_format) for path, content in contents)

    def warnings(self) -> tuple[str, ...]:
        found = list(self._warnings)
        if self._discovered is None and self.places:
            found.append("the device does not say what it has: /0/0 is taken for the account of its bootstrap server")
        for each in self.places:
            missing = left_out(each.account, self._security_version, self._oscore_version)
            if missing:
                found.append(f"{each.account}: the device's objects are too old to hold {', '.join(missing)}")
        if any(each.oscore is not None for each in self.places):
            parsed = parse_version(self._oscore_version)
            if parsed is not None and parsed < (2, 0):
                found.append(f"object 21 of version {self._oscore_version} holds texts; bytes are written in hex")
            elif not self._states_oscore and self._release == _RELEASE_OF_TEXTS:
                found.append(
                    "the device states no version of object 21: bytes are written, as "
                    f"{self._oscore_version} has them; LwM2M {self._release} by itself had texts"
                )
        return tuple(found)


_RELEASE_OF_TEXTS: Final = "1.1"
_RELEASE_1_0: Final = {SECURITY: "1.0", SERVER: "1.0", ACCESS_CONTROL: "1.0"}


def _unseen(version: str | None) -> Discovered:
    return Discovered(versions=_RELEASE_1_0 if version == "1.0" else {})


def _unseen_places(accounts: Iterable[Account]) -> list[_Place]:
    return [_Place(each, at, at, at if each.entry.oscore else None) for at, each in enumerate(accounts, start=1)]


def _having(instances: Iterable[DiscoveredInstance], short_id: int | None) -> list[int]:
    return [each.instance_id for each in instances if short_id is not None and each.short_id == short_id]


class _Free:
    """Identifiers that no instance has: above the highest, or the lowest where there is none above."""

    def __init__(self, instances: Iterable[DiscoveredInstance], least: int) -> None:
        self._used = {each.instance_id for each in instances}
        self._least = least

    def take(self) -> int:
        chosen = max(self._least, max(self._used, default=-1) + 1)
        if chosen > MAX_ID:
            chosen = next(each for each in range(self._least, MAX_ID + 1) if each not in self._used)
        self._used.add(chosen)
        return chosen
