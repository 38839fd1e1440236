"""Styles, scripts and pictures of the console, served from memory under names that change with their content."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".html": "text/html",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, read once."""

    content: bytes
    media_type: str


@cache
def _assets() -> dict[str, Asset]:
    return {
        file.name: Asset(file.read_bytes(), _MEDIA_TYPES[file.suffix])
        for file in _FOLDER.iterdir()
        if file.suffix in _MEDIA_TYPES
    }


def asset(name: str) -> Asset | None:
    """The file of that name, None where there is none."""
    return _assets().get(name)


def asset_path(name: str) -> str:
    """Where the browser finds it; another content gets another address, so that it may be kept for ever."""
    return f"/console/{name}?{sha256(_assets()[name].content).hexdigest()[:12]}"
