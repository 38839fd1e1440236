"""Device Description Files: object definitions as XML (Core 1.2.2 App. D, schema LWM2M-v1_1.xsd; contract §9).

People upload these files, so the parser has no document type, hence no entities and nothing external, and bounds the
size and depth of what it reads. It tolerates what registered files are known to contain: a byte order mark, blanks
before the XML declaration, HTML's named characters, several objects in a file, and ranges in free text.
Descriptions are not kept.
"""

import re
from dataclasses import dataclass, field
from html import escape
from html.entities import name2codepoint
from typing import Final, NoReturn
from xml.parsers import expat

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.path import MAX_ID
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel, parse_version
from stellwerk.lwm2m.value import ResourceType

MAX_OCTETS: Final = 1 << 20
"""Largest file; the largest one of the public registry has 34 KB."""

_MAX_DEPTH: Final = 16
_MAX_ELEMENTS: Final = 50_000
_MAX_WORD: Final = 512

_XML_ENTITIES: Final = frozenset({b"amp", b"lt", b"gt", b"quot", b"apos"})
_NAMED_CHARACTER: Final = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,31});")
_VERSION: Final = re.compile(r"\d{1,5}\.\d{1,5}", re.ASCII)
_TYPES: Final = {each.value.lower(): each for each in ResourceType}
_UNREAD: Final = frozenset({"Description", "Description1", "Description2"})
_BESIDE_DEFINITIONS: Final = {"DDFList": "the index of a registry", "units": "a table of units"}
_REUSABLE: Final = "CommonResources"


class DdfError(UserError):
    """The file is no definition: ``rule`` says which rule ``element`` (its path, with identifiers) breaks.

    ``line`` counts from 1, ``column`` from 0; both are those of the element's start tag, or where reading stopped.
    """

    def __init__(self, line: int, column: int, element: str, rule: str) -> None:
        self.line, self.column, self.element, self.rule = line, column, element, rule
        where = f"line {line}, column {column}" + (f", {element}" if element else "")
        super().__init__(f"{where}: {rule}")


class NoDefinition(DdfError):
    """A file as registries have them beside definitions: an index, a table of units, resources for use in objects to
    come. Nothing is wrong with it, and there is nothing in it to take."""


def load_ddf(data: bytes) -> list[ObjectModel]:
    """The object definitions in a DDF file, in its order. Raises `DdfError`, or `NoDefinition` of its kind; a file
    counts as a whole or not at all."""
    root = _parse(data)
    if root.tag != "LWM2M":
        rule = f"the outermost element of a definition is LWM2M, here it is {root.tag[:64]}"
        if root.tag in _BESIDE_DEFINITIONS:
            raise NoDefinition(root.line, root.column, root.place, f"{rule}, {_BESIDE_DEFINITIONS[root.tag]}")
        root.refuse(rule)
    objects = [each for each in root.children if each.tag == "Object"]
    if not objects:
        root.refuse("a definition has at least one Object")
    models: dict[tuple[int, str], ObjectModel] = {}
    for element in objects:
        model = _object(element)
        if models.setdefault((model.id, model.version), model) is not model:
            element.refuse(f"object {model.id} version {model.version} is defined twice")
    return list(models.values())


def encode_ddf(model: ObjectModel) -> bytes:
    """A DDF file with the facts of ``model``, which `load_ddf` reads back. Descriptions are empty."""
    items = "".join(_ITEM.format(**_facts_of(each)) for each in model.resources.values())
    return _OBJECT.format(
        name=escape(model.name),
        id=model.id,
        urn=escape(model.urn),
        version=model.version,
        multiple="Multiple" if model.multiple else "Single",
        mandatory="Mandatory" if model.mandatory else "Optional",
        items=items,
    ).encode()


_OBJECT: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<LWM2M>
  <Object ObjectType="MODefinition">
    <Name>{name}</Name>
    <Description1></Description1>
    <ObjectID>{id}</ObjectID>
    <ObjectURN>{urn}</ObjectURN>
    <ObjectVersion>{version}</ObjectVersion>
    <MultipleInstances>{multiple}</MultipleInstances>
    <Mandatory>{mandatory}</Mandatory>
    <Resources>
{items}    </Resources>
    <Description2></Description2>
  </Object>
</LWM2M>
"""
_ITEM: Final = """\
      <Item ID="{id}">
        <Name>{name}</Name>
        <Operations>{operations}</Operations>
        <MultipleInstances>{multiple}</MultipleInstances>
        <Mandatory>{mandatory}</Mandatory>
        <Type>{type}</Type>
        <RangeEnumeration>{range}</RangeEnumeration>
        <Units>{units}</Units>
        <Description></Description>
      </Item>
"""


def _facts_of(resource: ResourceModel) -> dict[str, object]:
    return {
        "id": resource.id,
        "name": escape(resource.name),
        "operations": resource.operations,
        "multiple": "Multiple" if resource.multiple else "Single",
        "mandatory": "Mandatory" if resource.mandatory else "Optional",
        "type": resource.type.value,
        "range": escape(resource.range_text),
        "units": escape(resource.units),
    }


@dataclass(slots=True, eq=False)
class _Element:
    tag: str
    label: str
    attributes: dict[str, str]
    line: int
    column: int
    parent: "_Element | None"
    children: "list[_Element]" = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        label = self.label[:64]
        return label if self.parent is None else f"{self.parent.place}/{label}"

    @property
    def text(self) -> str:
        """The text with every run of blanks as one: files break lines inside names."""
        return " ".join("".join(self.texts).split())

    def child(self, tag: str) -> "_Element":
        """The one child of this name. Raises `DdfError` where it is missing or repeated."""
        found = self.optional(tag)
        if found is None:
            self.refuse(f"{tag} is missing")
        return found

    def optional(self, tag: str) -> "_Element | None":
        found = [each for each in self.children if each.tag == tag]
        if len(found) > 1:
            found[1].refuse(f"{tag} occurs more than once")
        return found[0] if found else None

    def word(self, tag: str) -> str:
        """The text of an optional child, empty without it."""
        found = self.optional(tag)
        if found is None:
            return ""
        if len(found.text) > _MAX_WORD:
            found.refuse(f"{tag} is longer than {_MAX_WORD} characters")
        return found.text

    def refuse(self, rule: str) -> NoReturn:
        raise DdfError(self.line, self.column, self.place, rule)


class _Reader:
    """Builds the elements from expat's events."""

    def __init__(self, first_line: int) -> None:
        self.root: _Element | None = None
        self._lines_before = first_line - 1
        self._open: list[_Element] = []
        self._count = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype

    def read(self, data: bytes) -> _Element:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            rule = f"not well-formed XML: {expat.ErrorString(error.code)}"
            raise DdfError(error.lineno + self._lines_before, error.offset, self._place(), rule) from None
        except (LookupError, ValueError) as error:  # an encoding that neither expat nor Python can read
            raise DdfError(1, 0, "", f"unreadable encoding: {error}") from None
        if self.root is None:
            raise DdfError(1, 0, "", "the file has no element")
        return self.root

    def _place(self) -> str:
        return self._open[-1].place if self._open else ""

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        parser = self._parser
        label = f"Item {attributes['ID']}" if tag == "Item" and "ID" in attributes else tag
        parent = self._open[-1] if self._open else None
        line = parser.CurrentLineNumber + self._lines_before
        element = _Element(tag, label, attributes, line, parser.CurrentColumnNumber, parent)
        self._count += 1
        if self._count > _MAX_ELEMENTS:
            element.refuse(f"more than {_MAX_ELEMENTS} elements")
        if len(self._open) >= _MAX_DEPTH:
            element.refuse(f"elements are nested more than {_MAX_DEPTH} deep")
        if parent is None:
            self.root = element
        else:
            parent.children.append(element)
        self._open.append(element)

    def _end(self, tag: str) -> None:
        closed = self._open.pop()
        if closed.tag in _UNREAD:
            closed.children.clear()

    def _characters(self, text: str) -> None:
        if self._open[-1].tag not in _UNREAD:
            self._open[-1].texts.append(text)

    def _doctype(self, name: str, system_id: str | None, public_id: str | None, internal: bool) -> NoReturn:
        # Without a document type XML has no entities but the five it defines itself: nothing to expand or to fetch.
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber
        raise DdfError(line + self._lines_before, column, "", "a document type (DTD) is not allowed")


def _parse(data: bytes) -> _Element:
    if len(data) > MAX_OCTETS:
        raise DdfError(1, 0, "", f"the file has {len(data)} octets, more than {MAX_OCTETS}")
    mark = b"\xef\xbb\xbf"
    if data.startswith(mark):
        data = data[len(mark) :]
    text = data.lstrip(b" \t\r\n")
    first_line = 1 + data[: len(data) - len(text)].count(b"\n")
    return _Reader(first_line).read(_NAMED_CHARACTER.sub(_as_number, text))


def _as_number(match: re.Match[bytes]) -> bytes:
    name = match[1]
    code = None if name in _XML_ENTITIES else name2codepoint.get(name.decode("ascii"))
    return match[0] if code is None else b"&#%d;" % code


def _object(element: _Element) -> ObjectModel:
    kind = element.attributes.get("ObjectType", "")
    if kind != "MODefinition":
        rule = f"ObjectType is {kind[:64]!r}, a definition has MODefinition"
        if kind == _REUSABLE:
            raise NoDefinition(element.line, element.column, element.place, rule)
        element.refuse(rule)
    identifier = _identifier(element.child("ObjectID"), element.child("ObjectID").text)
    element.label = f"Object {identifier}"
    version = _version(element, "ObjectVersion")
    _version(element, "LWM2MVersion")
    items = [each for each in element.child("Resources").children if each.tag == "Item"]
    resources: dict[int, ResourceModel] = {}
    for item in items:
        resource = _resource(item)
        if resource.id in resources:
            item.refuse(f"resource {resource.id} is defined twice")
        resources[resource.id] = resource
    return ObjectModel.define(
        identifier,
        _name(element),
        version,
        resources.values(),
        multiple=_one_of(element, "MultipleInstances", "Single", "Multiple"),
        mandatory=_one_of(element, "Mandatory", "Optional", "Mandatory"),
        urn=element.word("ObjectURN"),
    )


def _resource(item: _Element) -> ResourceModel:
    if "ID" not in item.attributes:
        item.refuse("a resource has the attribute ID")
    kind = _TYPES.get(item.word("Type").lower())
    if kind is None:
        item.child("Type").refuse(f"{item.word('Type')!r} is not a data type")
    operations = item.word("Operations").upper()
    try:
        return ResourceModel.define(
            _identifier(item, item.attributes["ID"].strip()),
            _name(item),
            operations,
            multiple=_one_of(item, "MultipleInstances", "Single", "Multiple"),
            mandatory=_one_of(item, "Mandatory", "Optional", "Mandatory"),
            type=kind,
            range_text=_range_text(item),
            units=item.word("Units"),
        )
    except ValueError as error:
        item.child("Operations").refuse(str(error))


def _name(element: _Element) -> str:
    name = element.word("Name")
    if not name:
        element.refuse("Name is missing or empty")
    return name


def _range_text(item: _Element) -> str:
    """With its line breaks, which separate the values of labelled enumerations; too long a text is not kept."""
    found = item.optional("RangeEnumeration")
    lines = [] if found is None else [" ".join(each.split()) for each in "".join(found.texts).splitlines()]
    text = "\n".join(each for each in lines if each)
    return text if len(text) <= _MAX_WORD else ""


def _identifier(element: _Element, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_ID):
        element.refuse(f"{text[:64]!r} is not an identifier in 0..{MAX_ID}")
    return int(text)


def _version(element: _Element, tag: str) -> str:
    """As major.minor without leading zeros: one version, one text. Missing or empty is 1.0."""
    text = element.word(tag) or "1.0"
    version = parse_version(text) if _VERSION.fullmatch(text) else None
    if version is None:
        element.child(tag).refuse(f"{text!r} is not major.minor")
    return f"{version[0]}.{version[1]}"


def _one_of(element: _Element, tag: str, no: str, yes: str) -> bool:
    text = element.child(tag).text
    if text not in (no, yes):
        element.child(tag).refuse(f"{text[:64]!r} is neither {no} nor {yes}")
    return text == yes
