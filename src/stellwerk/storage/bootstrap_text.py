"""What is stored of bootstrapping as JSON text: configurations of profiles, steps of sessions."""

from collections.abc import Sequence

import msgspec

from stellwerk.device.bootstrap.configuration import NO_BOOTSTRAP, BootstrapConfiguration
from stellwerk.device.bootstrap.history import StepRecord

_encode = msgspec.json.Encoder().encode
_decode_configuration = msgspec.json.Decoder(BootstrapConfiguration).decode
_decode_steps = msgspec.json.Decoder(tuple[StepRecord, ...]).decode


def encode_bootstrap(configuration: BootstrapConfiguration) -> str:
    """Empty for one that says nothing."""
    return "" if configuration == NO_BOOTSTRAP else _encode(configuration).decode()


def decode_bootstrap(text: str) -> BootstrapConfiguration:
    """The inverse of `encode_bootstrap`."""
    return _decode_configuration(text) if text else NO_BOOTSTRAP


def encode_steps(steps: Sequence[StepRecord]) -> str:
    return _encode(steps).decode()


def decode_steps(text: str) -> tuple[StepRecord, ...]:
    """The inverse of `encode_steps`."""
    return _decode_steps(text)
