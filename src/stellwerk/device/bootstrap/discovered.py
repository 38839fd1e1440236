"""What a device holds already, from its answer to Bootstrap-Discover (contract B-14, BS-5; device platform §12.1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Discovered:
    """See `decode_discovered`."""


def decode_discovered(body: bytes) -> Discovered:
    """Raises `LinkFormatError`."""
    raise NotImplementedError
