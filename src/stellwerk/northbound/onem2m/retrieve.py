"""GET: a resource, what is below it, or references to that (contract §4.3, §4.4)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from stellwerk.northbound.onem2m.addressing import locate
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.query import (
    ATTRIBUTES_AND_CHILDREN,
    ATTRIBUTES_AND_REFERENCES,
    ATTRIBUTES_ONLY,
    CHILDREN_ONLY,
    DISCOVERED,
    NOTHING,
    REFERENCES,
    Query,
)
from stellwerk.northbound.onem2m.reading import Item, Source, may_hold, read, sources
from stellwerk.northbound.onem2m.request import Request
from stellwerk.northbound.onem2m.resources import Resource
from stellwerk.northbound.onem2m.scope import Scope as Scope
from stellwerk.northbound.onem2m.tree import Message, Target, path_of

MOST_LOOKED_AT: Final = 100_000
"""Resources that one request may look at to find those it wants."""

_PAGE: Final = 100
"""Resources that are read in one go."""
_TURN: Final = 8
"""Resources that are looked at in one go, a few milliseconds: the loop that answers devices is the same, and stores
read without giving way."""

LONG: Final = 1000
"""A search that looked at so many goes on when no other long one does: many that give way take all the turns too."""
LARGEST_ANSWER: Final = 16_000_000
"""Bytes of what is found, roughly, after which a list is partial."""
_OF_AN_ENTRY: Final = 100
"""Bytes that an entry of a listed attribute may have, as a guess."""

_OF_RETRIEVE: Final = frozenset(
    {ATTRIBUTES_ONLY, ATTRIBUTES_AND_CHILDREN, ATTRIBUTES_AND_REFERENCES, REFERENCES, CHILDREN_ONLY}
)
_OF_DISCOVERY: Final = frozenset({REFERENCES, DISCOVERED})
_ANY_LEVEL: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Found:
    """``document``: the JSON answer. ``next_offset``: where the rest of a partial list of children starts."""

    document: dict[str, Any]
    next_offset: int | None = None


async def retrieve(scope: Scope, target: Target, request: Request) -> Found:
    """Raises `Refusal` where there is nothing, or where the request wants what is not there."""
    query = request.query
    rcn = _result_content(query, request.strict)
    resource = await read(scope, target, request.strict)
    form = request.form(resource.resource_type)
    if rcn == ATTRIBUTES_ONLY or (rcn == ATTRIBUTES_AND_CHILDREN and isinstance(target, Message)):
        shown = resource.shown_to(request.strict)
        return Found((shown.only(query.attributes) if query.attributes else shown).document(form))
    root = Item(target, resource)
    found, next_offset = await _Search(scope, query, request.strict).below(root)
    if rcn in (ATTRIBUTES_AND_CHILDREN, CHILDREN_ONLY):
        return Found(_nested(root, found, rcn == CHILDREN_ONLY, request.strict).document(form), next_offset)
    if rcn == DISCOVERED:
        return Found({"m2m:uril": [_reference(scope, each, query) for each in found]}, next_offset)
    references = [
        {"nm": each.name, "typ": each.resource.resource_type, "val": _reference(scope, each, query)} for each in found
    ]
    if rcn == REFERENCES:
        return Found({"m2m:rrl": {"rrf": references}}, next_offset)
    shown = resource.shown_to(request.strict)
    return Found(shown._replace(attributes={**shown.attributes, "ch": references}).document(form), next_offset)


def _result_content(query: Query, strict: bool) -> int:
    rcn = query.rcn
    if rcn is None:
        rcn = DISCOVERED if query.discovery else ATTRIBUTES_ONLY
    # TS-0004 6.3.4.2.7 says what goes with which operation; only standards clients are held to it.
    if query.discovery:
        allowed = _OF_DISCOVERY if strict else _OF_DISCOVERY | (_OF_RETRIEVE - {ATTRIBUTES_ONLY})
    else:
        allowed = _OF_RETRIEVE if strict else _OF_RETRIEVE | {DISCOVERED}
    if rcn not in allowed:
        use = ", ".join(str(each) for each in sorted(allowed))
        what = "makes no sense" if rcn == NOTHING else "is not possible"
        raise Refusal(
            Rsc.BAD_REQUEST, f"rcn={rcn} {what} for a {'discovery' if query.discovery else 'retrieve'}; use {use}"
        )
    if query.attributes and rcn != ATTRIBUTES_ONLY:
        raise Refusal(Rsc.BAD_REQUEST, "atrl goes with rcn=1 alone")
    return rcn


# -- what is below --


class _Search:
    """Walks the tree below a resource, depth first, until a page is full."""

    def __init__(self, scope: Scope, query: Query, strict: bool) -> None:
        self._scope, self._query, self._strict = scope, query, strict
        self._skip = query.offset
        self._found: list[Item] = []
        self._room = query.limit + 1
        """One more than is shown, to see whether the list goes on."""
        self._bytes = 0
        self._is_cut = False
        self._looked_at = 0
        self._is_long = False
        self._wanted = query.filter.needed_types
        # A standards client means the whole tree unless it says otherwise; so does everybody who discovers (TS-0004).
        default = _ANY_LEVEL if strict or query.discovery or query.rcn == DISCOVERED else 1
        self._deepest = default if query.level is None else query.level

    async def below(self, root: Item) -> tuple[list[Item], int | None]:
        """The resources that are wanted, and the offset of the next page if there is one."""
        try:
            return await self._below(root)
        finally:
            if self._is_long:
                self._scope.services.long_searches.release()

    async def _below(self, root: Item) -> tuple[list[Item], int | None]:
        await self._descend(root, 1)
        limit = self._query.limit
        found, goes_on = self._found[:limit], self._is_cut or len(self._found) > limit
        next_offset = self._query.offset + len(found) if goes_on else None
        if self._query.relative:
            found = [each for item in found if (each := await self._relative(item)) is not None]
        return found, next_offset

    async def _descend(self, parent: Item, level: int) -> None:
        every = await sources(self._scope, parent, self._strict)
        for source in every:
            if len(self._found) >= self._room:
                return
            one_kind = source.types and (not self._wanted or source.types <= self._wanted)
            if one_kind and level == self._deepest and self._query.filter.by_type_alone:
                if source.count is not None or source is every[-1]:
                    await self._take(source)
                    continue
            elif level == self._deepest and self._wanted and source.types and source.types.isdisjoint(self._wanted):
                continue
            await self._look_through(parent, source, level)

    async def _take(self, source: Source) -> None:
        """All of this kind are wanted: what is skipped need not be read."""
        if source.count is not None and self._skip >= source.count:
            self._skip -= source.count
            return
        # Messages come newest first: between two pages a new one would show another twice.
        most = self._room if source.count is not None else _PAGE
        while (wanted := min(self._room - len(self._found), most)) > 0:
            page = await source.page(wanted, self._skip)
            self._add(page)
            self._skip += len(page)
            if len(page) < wanted or self._is_cut:
                break
            await asyncio.sleep(0)
        self._skip = 0

    async def _look_through(self, parent: Item, source: Source, level: int) -> None:
        offset = 0
        while True:
            page = await source.page(_PAGE, offset)
            for item in page:
                await self._give_way()
                if self._query.filter.matches(item.resource, parent.resource):
                    if self._skip:
                        self._skip -= 1
                    else:
                        self._add([item])
                if len(self._found) < self._room and level < self._deepest and may_hold(item.target, self._wanted):
                    await self._descend(item, level + 1)
                if len(self._found) >= self._room:
                    return
            if len(page) < _PAGE:
                return
            offset += _PAGE

    def _add(self, items: Sequence[Item]) -> None:
        """As many of ``items`` as an answer holds."""
        for item in items:
            self._found.append(item)
            self._bytes += _size(item.resource)
            if self._bytes > LARGEST_ANSWER:
                self._is_cut, self._room = True, len(self._found)
                return

    async def _give_way(self) -> None:
        self._looked_at += 1
        if self._looked_at == LONG:
            await self._scope.services.long_searches.acquire()
            self._is_long = True
        if self._looked_at > MOST_LOOKED_AT:
            text = f"more than {MOST_LOOKED_AT} resources would have to be looked at; ask below one resource"
            raise Refusal(Rsc.NOT_ACCEPTABLE, f"{text}, or for a type with ty")
        if self._looked_at % _TURN == 0:
            await asyncio.sleep(0)

    async def _relative(self, item: Item) -> Item | None:
        """What ``arp`` means below ``item``, if it is there."""
        await self._give_way()
        try:
            target = await locate(self._scope, (*path_of(item.target), *self._query.relative))
            return Item(target, await read(self._scope, target, self._strict))
        except Refusal:
            return None


def _size(resource: Resource) -> int:
    size = resource.attributes.get("cs")
    if isinstance(size, int):
        return size
    return sum(_OF_AN_ENTRY * len(each) for each in resource.attributes.values() if isinstance(each, list))


def _nested(root: Item, found: list[Item], children_only: bool, strict: bool) -> Resource:
    """Children as lists under their envelopes (§4.3), each below the nearest resource above it that is shown too."""
    shown = root.resource.shown_to(strict)
    top: dict[str, Any] = {} if children_only else dict(shown.attributes)
    inside = {id(root): top}
    for item in found:
        attributes = dict(item.resource.shown_to(strict).attributes)
        inside[id(item)] = attributes
        above = item.parent
        while above is not None and id(above) not in inside:
            above = above.parent
        holder = top if above is None else inside[id(above)]
        holder.setdefault(item.resource.envelope, []).append(attributes)
    return shown._replace(attributes=top)


def _reference(scope: Scope, item: Item, query: Query) -> str:
    """The address of a resource from the CSEBase on, or its ID (``drt``)."""
    if query.unstructured:
        identifier: str = item.resource.attributes["ri"]
        return identifier
    return "/".join((scope.tenant, *path_of(item.target)))
