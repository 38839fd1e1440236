"""What a bootstrap payload says, for people: names and values, and of whatever must stay secret its length alone."""

import base64
from collections.abc import Iterable
from itertools import chain
from typing import Final

from stellwerk.lwm2m.bootstrap import ACCESS_CONTROL, OSCORE, SECURITY, SERVER
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.value import Value

MAX_CHARACTERS: Final = 1000
"""Of one summary."""
_MAX_VALUE: Final = 100
_MAX_HEARD: Final = 500
_SHORTEST_SECRET: Final = 4
"""What is shorter stands in any text by chance."""

_MODE: Final = 2
_IDENTITY: Final = 3
_PSK: Final = 0

SECRETS: Final = frozenset({(SECURITY, 5), (SECURITY, 8), (OSCORE, 0), (OSCORE, 5), (23, 2), (24, 8)})
"""Object and resource: keys of devices and of SMS, secret and salt of an OSCORE context, COSE keys, MQTT passwords."""
_OPEN: Final = frozenset({SECURITY, SERVER, ACCESS_CONTROL, OSCORE})
"""Objects whose other values are no secrets; what stands in the rest nobody here knows."""
_SHORT_IDS: Final = frozenset({(OSCORE, 1), (OSCORE, 2), (OSCORE, 6)})

_TYPES: Final = Library.builtin().for_device("1.2", {})


def summarize(content: Content, base: Path) -> str:
    """``content`` in at most `MAX_CHARACTERS`, with paths below ``base``: ``0 LWM2M Server URI: coaps://h:5684; ...``.
    Of secrets, and of keys and certificates, no more than the length."""
    psk = {entry.path[:2] for entry in content.entries if _is_mode(entry.path) and entry.value == _PSK}
    texts = (f"{_named(path, base)}: {_shown(path, value, path[:2] in psk)}" for path, value, _ in content.entries)
    parts: list[str] = []
    room = MAX_CHARACTERS
    for part in chain(texts, (f"{path} empty" for path in content.empty)):
        room -= len(part) + 2
        if room < 0:
            break
        parts.append(part)
    left = len(content.entries) + len(content.empty) - len(parts)
    return "; ".join([*parts, f"{left} more"] if left else parts)


def secrets_in(content: Content) -> set[bytes]:
    """The secrets that ``content`` carries."""
    found = {_bytes_of(each.value) for each in content.entries if (each.path[0], _resource(each.path)) in SECRETS}
    return {each for each in found if len(each) >= _SHORTEST_SECRET}


def heard(payload: bytes, secrets: Iterable[bytes] = ()) -> str:
    """What a device said as text, for people: one line of at most a few hundred characters. Where it repeats one of
    ``secrets``, in whatever spelling, nothing of it is shown."""
    if repeats(payload, secrets):
        return f"{len(payload)} bytes that repeat a secret, not shown"
    text = payload.decode(errors="replace")
    return _cut("".join(each if each.isprintable() else " " for each in text[: _MAX_HEARD + 1]), _MAX_HEARD)


def repeats(payload: bytes, secrets: Iterable[bytes]) -> bool:
    """Whether one of ``secrets`` stands in ``payload``, as it is, in hex or in base64."""
    text = payload.decode(errors="replace")
    bare = text.replace(" ", "").replace(":", "").replace("-", "").lower()
    return any(_is_spelled(each, payload, text, bare) for each in secrets)


def _is_spelled(secret: bytes, payload: bytes, text: str, bare: str) -> bool:
    # The last group of base64 depends on what follows.
    whole = secret[: len(secret) // 3 * 3]
    return (
        secret in payload
        or secret.hex() in bare
        or base64.b64encode(whole).decode() in text
        or base64.urlsafe_b64encode(whole).decode() in text
    )


def _named(path: Path, base: Path) -> str:
    resource = _TYPES.resource(path)
    key = "/".join(map(str, path[len(base) :])) or str(path[-1])
    return f"{key} {resource.name}" if resource is not None else key


def _shown(path: Path, value: Value, psk: bool) -> str:
    resource = (path[0], _resource(path))
    if resource in SECRETS:
        length = len(_bytes_of(value))
        return f"{length} bytes, not shown" if length else "empty"
    if path[0] not in _OPEN:
        return "not shown"
    if isinstance(value, bytes):
        if not value:
            return "empty"
        if resource == (SECURITY, _IDENTITY) and psk:
            return _cut(heard(value), _MAX_VALUE)
        if resource in _SHORT_IDS and len(value) <= _MAX_VALUE // 2:
            return value.hex()
        return f"{len(value)} bytes"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _cut(heard(str(value).encode()), _MAX_VALUE)


def _is_mode(path: Path) -> bool:
    return path[0] == SECURITY and _resource(path) == _MODE


def _resource(path: Path) -> int:
    return path[2] if len(path) > 2 else -1


def _bytes_of(value: Value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
