"""Options of devices as people write them on a command line."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.sim.release import Release

_ROOT: Final = re.compile(r"(?:/[A-Za-z0-9._~-]{1,64}){1,4}", re.ASCII)
_PROFILE: Final = re.compile(r"(?:[1-9]\d{0,2}:[0-9a-f]{1,64}|(?:oma|v):[A-Za-z0-9-]{1,64})", re.ASCII)
_BINDING_1_0: Final = re.compile(r"U|S|US", re.ASCII)
_BINDING: Final = re.compile(r"(?!.*(.).*\1)[UTSNMH]{1,6}", re.ASCII)
_RIGHTS: Final = range(32)
_SENDABLE: Final = (ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR)


class InvalidOption(UserError):
    """``text`` is no ``what``; ``rule`` says what would be right."""

    def __init__(self, what: str, text: str, rule: str) -> None:
        self.what, self.text, self.rule = what, text, rule
        super().__init__(f"{what} {text[:60]!r}: {rule}")


class Lonely(UserError):
    """``options`` say something about what the devices do not do; ``with_`` is what they go with."""

    def __init__(self, options: Iterable[str], with_: str) -> None:
        self.options, self.with_ = tuple(options), with_
        text = " and ".join(self.options)
        super().__init__(f"{text} {'goes' if len(self.options) == 1 else 'go'} with {with_}; say that, or leave it out")


def require(said: Mapping[str, object], with_: str) -> None:
    """Raises `Lonely` for the options in ``said`` that say something."""
    lonely = [option for option, value in said.items() if value]
    if lonely:
        raise Lonely(lonely, with_)


def parse_formats(text: str, release: Release) -> tuple[int, ...]:
    """``110,112`` as content formats that a device of ``release`` can be left with; nothing is none. Raises
    `InvalidOption`, `InvalidFormats`."""
    if not text:
        return ()
    words = [each.strip() for each in text.split(",")]
    if not all(re.fullmatch(r"\d{1,5}", each, re.ASCII) for each in words):
        raise InvalidOption("formats", text, "write numbers with commas between them, like 110,112")
    formats = tuple(dict.fromkeys(map(int, words)))
    release.restricted(formats)
    return formats


def parse_send_format(number: int, release: Release) -> int:
    """A content format for Sends. Raises `InvalidOption`."""
    allowed = [each for each in _SENDABLE if each in release.formats]
    if number not in allowed:
        known = ", ".join(str(int(each)) for each in allowed) or "none"
        raise InvalidOption("send-format", str(number), f"LwM2M {release.name} sends in one of {known}")
    return number


def parse_root(text: str) -> str:
    """``/lwm2m`` as an alternate path (contract R-11). Raises `InvalidOption`."""
    if text in ("", "/"):
        return ""
    if not _ROOT.fullmatch(text) or any(each.isdigit() for each in text.split("/")):
        raise InvalidOption("root", text, "write a path like /lwm2m, without a segment of digits alone")
    return text


def parse_binding(text: str, release: Release) -> str:
    """``UT`` as a binding without queue mode (BIN-1). Raises `InvalidOption`."""
    if release.name == "1.0":
        if not _BINDING_1_0.fullmatch(text):
            raise InvalidOption("binding", text, "LwM2M 1.0 has U, S and US; --queue-mode adds the Q")
    elif not _BINDING.fullmatch(text):
        raise InvalidOption("binding", text, "write some of U, T, S, N, M and H, each once; --queue-mode is apart")
    return text


def parse_profile(text: str) -> tuple[str, tuple[Path, ...]]:
    """``6:27354b9a`` or ``6:27354b9a=/1/0,/3/0``: a profile and the objects and instances that it covers, none where
    it covers all. Raises `InvalidOption`."""
    profile, _, listed = text.partition("=")
    if profile and not _PROFILE.fullmatch(profile):
        raise InvalidOption("pid", text, "write SUITE:HEX, oma:NAME or v:NAME, like 6:27354b9a or 6:27354b9a=/1/0,/3/0")
    return profile, tuple(_path("pid", each, (1, 2)) for each in listed.split(",") if each)


def parse_rights(texts: Iterable[str]) -> tuple[tuple[Path, int], ...]:
    """``/3/0:1`` each: what the server may do there, as bits. Raises `InvalidOption`."""
    rights: dict[Path, int] = {}
    for text in texts:
        where, _, bits = text.partition(":")
        if not re.fullmatch(r"\d{1,2}", bits, re.ASCII) or int(bits) not in _RIGHTS:
            raise InvalidOption(
                "acl", text, "write PATH:BITS like /3/0:1; 1 read, 2 write, 4 execute, 8 delete, 16 create"
            )
        rights[_path("acl", where, (1, 2))] = int(bits)
    return tuple(rights.items())


def _path(what: str, text: str, lengths: tuple[int, ...]) -> Path:
    try:
        path = Path.parse(text)
    except PathError as error:
        raise InvalidOption(what, text, str(error)) from None
    if len(path) not in lengths:
        raise InvalidOption(what, text, "name an object or an instance, like /3 or /3/0")
    return path
