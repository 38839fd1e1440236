"""Which Content-Formats to try with a device, in which order (contract D-1 to D-3, §0.1)."""

from collections import OrderedDict
from typing import Final

from stellwerk.device.registration import Registration
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.operations import (
    CancelObservation,
    Create,
    Observe,
    ObserveComposite,
    Operation,
    Read,
    ReadComposite,
    Write,
    WriteComposite,
)
from stellwerk.lwm2m.path import RESERVED_ID
from stellwerk.lwm2m.value import ResourceType

_OURS: Final = {
    "1.0": (ContentFormat.TLV, ContentFormat.LWM2M_JSON),
    "1.1": (ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.TLV),
    "1.2": (ContentFormat.LWM2M_CBOR, ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.TLV),
}
"""Hierarchical formats that a device of a version may list and we speak, best first."""
_UNLISTED: Final = {
    "1.0": (ContentFormat.TLV,),
    "1.1": (ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.TLV),
    "1.2": (ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR, ContentFormat.SENML_JSON, ContentFormat.TLV),
}
"""What to try with a device that lists nothing of these: what its version makes mandatory first."""
_LISTS: Final = (ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON)
"""Formats in which a list of paths can be said."""
_ETCH: Final = (ContentFormat.SENML_ETCH_CBOR, ContentFormat.SENML_ETCH_JSON)
"""Formats in which a value can be taken away."""

_OPEN_INSTANCE: Final = {
    "1.0": (ContentFormat.TLV,),
    "1.1": (ContentFormat.TLV,),
    "1.2": (ContentFormat.LWM2M_CBOR, ContentFormat.TLV),
}
"""Formats in which a Create can leave the instance's identifier to the device: a name in SenML always has one."""

REMEMBERED: Final = 65_536
"""Registrations of which something is remembered."""


class Learned:
    """What one registration taught: which format it took, what it cannot do."""

    __slots__ = ("attributes_apart", "composites", "formats")

    def __init__(self) -> None:
        self.formats: dict[str, int] = {}
        """The format that worked after another was refused, by `kind_of` operation."""
        self.composites: bool | None = None
        """Whether the device does composites; None while that is not known."""
        self.attributes_apart = False
        """It takes no attributes within an Observe."""


class Memory:
    """What registrations taught, by location; so a new registration begins anew. Most teach nothing and have no entry;
    when there are too many, the one that taught first is forgotten, which costs it one more refused request."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._learned: OrderedDict[str, Learned] = OrderedDict()

    def __len__(self) -> int:
        return len(self._learned)

    def of(self, location: str) -> Learned | None:
        return self._learned.get(location)

    def note(self, location: str) -> Learned:
        """What is known of the registration, to write into."""
        learned = self._learned.get(location)
        if learned is None:
            if len(self._learned) >= self._remembered:
                self._learned.popitem(last=False)
            learned = self._learned[location] = Learned()
        return learned


def kind_of(operation: Operation) -> str:
    """Operations of one kind get by with the same format: an answer, a body, of one resource or of more."""
    match operation:
        case Read(path=path) | Observe(path=path) | CancelObservation(path=path):
            return "answer of one" if len(path) >= 3 else "answer"
        case Write(path=path):
            return "body of one" if len(path) >= 3 else "body"
        case Create():
            return "body"
        case WriteComposite(content=content):
            return "removing composite" if content.removed else "written composite"
        case _:
            return "composite"


def formats_for(operation: Operation, registration: Registration, learned: Learned | None = None) -> tuple[int, ...]:
    """The formats to try for ``operation`` where it names none, best first; one that worked before comes first."""
    formats = _formats_for(operation, registration)
    if learned is not None and len(formats) > 1:
        known = learned.formats.get(kind_of(operation))
        if known in formats:
            return (known, *(each for each in formats if each != known))
    return formats


def _formats_for(operation: Operation, registration: Registration) -> tuple[int, ...]:
    version = registration.version
    listed = registration.objects.content_formats or ()
    if isinstance(operation, WriteComposite):
        if operation.content.removed:
            return _ETCH
        return _common(_OURS[version][:-1], listed) or _LISTS
    if not isinstance(operation, Read | Observe | CancelObservation | Write | Create):
        return _common(_LISTS, listed) or _LISTS
    if isinstance(operation, Create) and _leaves_instance_open(operation):
        # The others only after these, for a device that takes 65535 in SenML for the same.
        ours = _OPEN_INSTANCE[version]
        best = _common(ours, listed) or ours
        return best + tuple(each for each in _OURS[version] if each not in best)
    singles = _singles(operation, registration)
    hierarchical = _common(_OURS[version], listed)
    if version == "1.0" and hierarchical and ContentFormat.TLV not in hierarchical:
        # Mandatory for all of these, listed or not.
        hierarchical += (ContentFormat.TLV,)
    return hierarchical + _common(singles, listed) or _UNLISTED[version] + singles


def _leaves_instance_open(operation: Create) -> bool:
    content = operation.content
    paths = [*(each.path for each in content.entries), *content.empty]
    return any(len(each) > 1 and each[1] == RESERVED_ID for each in paths)


def _common(ours: tuple[int, ...], listed: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(each for each in ours if each in listed)


def _singles(
    operation: Read | Observe | CancelObservation | Write | Create, registration: Registration
) -> tuple[int, ...]:
    """The formats without paths that can carry what the operation is about: the value of one resource."""
    path = operation.path
    if len(path) < 3 or (len(path) == 3 and registration.types.is_multiple(path)):
        return ()
    if isinstance(operation, Write) and [entry.path for entry in operation.content.entries] != [path]:
        return ()
    opaque = registration.types.resource_type(path) is ResourceType.OPAQUE
    first = (ContentFormat.OPAQUE,) if opaque else ()
    # Plain CBOR is of 1.1.
    last = () if registration.version == "1.0" else (ContentFormat.CBOR,)
    return (*first, ContentFormat.TEXT, *last)


def has_open_format(operation: Operation) -> bool:
    """Whether the format of ``operation`` is ours to choose, so that another may be tried (D-2)."""
    match operation:
        case Read(accept=None) | Observe(accept=None) | CancelObservation(accept=None):
            return True
        case Write(content_format=None) | Create(content_format=None) | WriteComposite(content_format=None):
            return True
        case ReadComposite(content_format=None) | ObserveComposite(content_format=None):
            return True
        case _:
            return False
