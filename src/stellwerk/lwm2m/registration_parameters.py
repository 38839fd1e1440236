"""The query of Register and Update: who registers, for how long, over what (contract §4 R-3 to R-5, R-16, §3 BIN)."""

import re
from dataclasses import dataclass
from typing import Final

from stellwerk.core.errors import PeerError

DEFAULT_LIFETIME_S: Final = 86400
"""Lifetime of a registration that states none (LwM2M 1.0 §5.3.1)."""

INFINITE_LIFETIME: Final = 0
"""``lt=0``: the registration never expires (Core 1.2.2, /1/x/1)."""

MAX_LIFETIME_S: Final = 2**32 - 1
MAX_ENDPOINT_NAME: Final = 255
"""Longest endpoint name in bytes of UTF-8."""

VERSIONS: Final = ("1.0", "1.1", "1.2")
"""The enabler versions we speak, as the parameter ``lwm2m`` names them."""

MAX_EXTRA: Final = 32
"""Parameters we do not know that are kept of one device."""

_BINDINGS_1_0: Final = ("U", "UQ", "S", "SQ", "US", "UQS")
_TRANSPORTS: Final = {"1.1": "UTSN", "1.2": "UTSNMH"}
_WITHOUT_PROFILES: Final = ("1.0", "1.1")
_MAX_PROFILE_IDS: Final = 16
_MAX_PROFILE_ID: Final = 128
_MSISDN = re.compile(r"\+?([0-9]{1,20})")
_NUMBER = re.compile(r"[0-9]{1,10}")
_PROFILE_ID = re.compile(rf"[!#-+\--\[\]-~]{{1,{_MAX_PROFILE_ID}}}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What is taken from devices although the standard forbids it."""

    missing_version: bool = False
    """A Register without ``lwm2m`` is one of 1.0 (R-4)."""
    queue_in_binding: bool = True
    """``b=UQ`` means queue mode from 1.1 on, too (BIN-1)."""


DEFAULT_TOLERANCES: Final = Tolerances()


class ParameterError(PeerError):
    """The query breaks the rules. All kinds but `VersionUnsupported` deserve 4.00 Bad Request.
    ``name`` is the parameter."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"parameter {name[:60]!r}: {reason}")


class DuplicateParameter(ParameterError):
    """A parameter occurs twice (R-3)."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "occurs twice")


class MissingParameter(ParameterError):
    """A required parameter is absent (R-4)."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "is required")


class InvalidParameter(ParameterError):
    """A parameter has a ``value`` outside of what it may have."""

    def __init__(self, name: str, value: str | None, reason: str) -> None:
        self.value = value
        super().__init__(name, reason)


class VersionUnsupported(ParameterError):
    """The device speaks a ``version`` that we do not; deserves 4.12 Precondition Failed and never 4.00,
    since devices step down to an older version on 4.12 only (R-4)."""

    def __init__(self, version: str | None) -> None:
        self.version = version
        super().__init__("lwm2m", f"version {(version or '')[:20]!r} is not supported, only {', '.join(VERSIONS)}")


@dataclass(frozen=True, slots=True)
class RegistrationParameters:
    """What a Register says in its query.

    ``endpoint_name`` None: the security identity has to give it. ``lifetime_s`` None: not stated, 0: infinite.
    ``binding``: the transports' letters without ``Q``. ``sms``: the number's digits. ``profile_ids``: each once, in
    order; before 1.2 there are none, and ``pid`` is a parameter like any that we do not know. ``extra``: those, the
    first `MAX_EXTRA` in their order, value None where they have none.
    """

    endpoint_name: str | None
    version: str
    lifetime_s: int | None = None
    binding: str = "U"
    queue_mode: bool = False
    sms: str | None = None
    profile_ids: tuple[str, ...] = ()
    extra: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateParameters:
    """What an Update changes; None where it says nothing. ``lifetime_s`` 0 is infinite."""

    lifetime_s: int | None = None
    binding: str | None = None
    queue_mode: bool | None = None
    sms: str | None = None
    profile_ids: tuple[str, ...] = ()
    extra: tuple[tuple[str, str | None], ...] = ()


def decode_registration(
    query: tuple[str, ...], *, lenient_version: bool = False, lenient_queue: bool = True
) -> RegistrationParameters:
    """The parameters of a Register, from the Uri-Query options in any order.

    ``lenient_version``: a missing ``lwm2m`` means 1.0. ``lenient_queue``: a ``Q`` inside ``b`` means queue mode
    from 1.1 on, too, where by the book it is an error (BIN-1).

    Raises `VersionUnsupported` (4.12), `DuplicateParameter`, `MissingParameter`, `InvalidParameter` (4.00).
    """
    given = split_query(query)
    if "lwm2m" in given:
        version = given.pop("lwm2m")
        if version not in VERSIONS:
            raise VersionUnsupported(version)
    elif lenient_version:
        version = "1.0"
    else:
        raise MissingParameter("lwm2m")
    endpoint_name = None
    if "ep" in given:
        endpoint_name = check_endpoint_name(given.pop("ep"))
    elif version == "1.0":
        raise MissingParameter("ep")
    lifetime_s = _lifetime(given.pop("lt")) if "lt" in given else None
    binding, queue_mode = "U", False
    if "b" in given:
        binding, queue_mode = _binding(given.pop("b"), version, lenient_queue)
    if "Q" in given:
        queue_mode = _flag(given.pop("Q"))
    sms = _msisdn(given.pop("sms")) if "sms" in given else None
    profile_ids = _profile_ids(given, version) if "pid" in given else ()
    extra = tuple(given.items())[:MAX_EXTRA]
    return RegistrationParameters(endpoint_name, version, lifetime_s, binding, queue_mode, sms, profile_ids, extra)


def decode_update(query: tuple[str, ...], version: str = "1.2", *, lenient_queue: bool = True) -> UpdateParameters:
    """The parameters of an Update under a registration of ``version``.

    Raises `DuplicateParameter`, `InvalidParameter` (4.00).
    """
    if not query:
        return _NOTHING
    given = split_query(query)
    lifetime_s = _lifetime(given.pop("lt")) if "lt" in given else None
    binding: str | None = None
    queue_mode: bool | None = None
    if "b" in given:
        binding, queued = _binding(given.pop("b"), version, lenient_queue)
        # In 1.0 the binding says all of it; from 1.1 on its silence about queue mode changes nothing.
        queue_mode = queued if queued or version == "1.0" else None
    if "Q" in given:
        queue_mode = _flag(given.pop("Q"))
    sms = _msisdn(given.pop("sms")) if "sms" in given else None
    profile_ids = _profile_ids(given, version) if "pid" in given else ()
    extra = tuple(given.items())[:MAX_EXTRA]
    return UpdateParameters(lifetime_s, binding, queue_mode, sms, profile_ids, extra)


_NOTHING: Final = UpdateParameters()


def merge_extra(
    kept: tuple[tuple[str, str], ...], sent: tuple[tuple[str, str | None], ...]
) -> tuple[tuple[str, str], ...]:
    """The unknown parameters of a device after an Update with ``sent``: later values replace earlier ones, and those
    beyond `MAX_EXTRA` are overlooked."""
    if not sent:
        return kept
    merged = dict(kept)
    merged.update((name, value or "") for name, value in sent)
    return tuple(merged.items())[:MAX_EXTRA]


def check_endpoint_name(name: str | None) -> str:
    """``name``, if a device may be called so: text of 1 to 255 bytes without control characters.

    Raises `InvalidParameter`.
    """
    if not name:
        raise InvalidParameter("ep", name, "is empty")
    try:
        length = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        raise InvalidParameter("ep", None, "is no Unicode text") from None
    if length > MAX_ENDPOINT_NAME:
        raise InvalidParameter("ep", name[:MAX_ENDPOINT_NAME], f"is longer than {MAX_ENDPOINT_NAME} bytes")
    if _CONTROL.search(name):
        raise InvalidParameter("ep", name, "has control characters")
    return name


def split_query(query: tuple[str, ...]) -> dict[str, str | None]:
    """The parameters by name, value None where there is no ``=``; valid ``%XX`` are decoded. Raises
    `DuplicateParameter`."""
    given: dict[str, str | None] = {}
    for each in query:
        if not each:
            continue
        name, equals, value = each.partition("=")
        if "%" in each:
            name, value = _decode_percent(name), _decode_percent(value)
        if name in given:
            raise DuplicateParameter(name)
        given[name] = value if equals else None
    return given


def _decode_percent(text: str) -> str:
    """``text`` with its valid ``%XX`` decoded, as it stands where that gives no UTF-8 (R-3)."""
    try:
        data = text.encode()
        decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes((int(match[1], 16),)), data)
        return decoded.decode()
    except UnicodeError:
        return text


def _lifetime(text: str | None) -> int:
    if text is None or not _NUMBER.fullmatch(text) or int(text) > MAX_LIFETIME_S:
        raise InvalidParameter("lt", text, f"is no number of seconds in 0..{MAX_LIFETIME_S}")
    return int(text)


def _binding(text: str | None, version: str, lenient_queue: bool) -> tuple[str, bool]:
    """The transports' letters, and whether a ``Q`` was among them."""
    if text is not None and version == "1.0":
        if text in _BINDINGS_1_0:
            return text.replace("Q", ""), "Q" in text
    elif text:
        letters = text.replace("Q", "", 1) if lenient_queue else text
        if letters and len(set(letters)) == len(letters) and set(_TRANSPORTS[version]).issuperset(letters):
            return letters, len(letters) < len(text)
    if version == "1.0":
        right = f"one of {', '.join(_BINDINGS_1_0)}"
    else:
        right = f"letters of {_TRANSPORTS[version]}, each once" + ("" if lenient_queue else "; queue mode is Q")
    raise InvalidParameter("b", text, f"{(text or '')[:20]!r} is no binding of LwM2M {version}: {right}")


def _flag(text: str | None) -> bool:
    if text:
        raise InvalidParameter("Q", text, "has no value")
    return True


def _msisdn(text: str | None) -> str:
    match = _MSISDN.fullmatch(text or "")
    if match is None:
        raise InvalidParameter("sms", text, "is no MSISDN")
    return match[1]


def _profile_ids(given: dict[str, str | None], version: str) -> tuple[str, ...]:
    if version in _WITHOUT_PROFILES:
        return ()
    text = given.pop("pid") or ""
    ids = dict.fromkeys(each.strip() for each in text.strip('"').split(","))
    if len(ids) > _MAX_PROFILE_IDS or not all(map(_PROFILE_ID.fullmatch, ids)):
        raise InvalidParameter("pid", text, f"is no list of 1 to {_MAX_PROFILE_IDS} profile IDs like 6:27354b9a")
    return tuple(ids)
