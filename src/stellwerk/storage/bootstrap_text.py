"""What is stored of bootstrapping as JSON text: configurations of profiles as people write them (`render_bootstrap`),
steps of sessions."""

import json
from collections.abc import Sequence

import msgspec
import structlog

from stellwerk.device.bootstrap.configuration import (
    NO_BOOTSTRAP,
    BadBootstrap,
    BootstrapConfiguration,
    parse_bootstrap,
    render_bootstrap,
)
from stellwerk.device.bootstrap.history import StepRecord

log = structlog.get_logger(__name__)

_encode_steps = msgspec.json.Encoder().encode
_decode_steps = msgspec.json.Decoder(tuple[StepRecord, ...]).decode


def encode_bootstrap(configuration: BootstrapConfiguration) -> str:
    """Empty for one that says nothing."""
    return "" if configuration == NO_BOOTSTRAP else json.dumps(render_bootstrap(configuration))


def decode_bootstrap(text: str, profile: str) -> BootstrapConfiguration:
    """The inverse of `encode_bootstrap`. What another version wrote, and this one does not take, gives nobody anything:
    the rest of the ``profile`` stays of use."""
    if not text:
        return NO_BOOTSTRAP
    try:
        return parse_bootstrap(json.loads(text))
    except (BadBootstrap, ValueError) as error:
        meaning = "its devices are not bootstrapped"
        log.error("profile.bootstrap_unusable", profile=profile, detail=str(error), meaning=meaning)
        return NO_BOOTSTRAP


def encode_steps(steps: Sequence[StepRecord]) -> str:
    """How many there are, and how long, whoever made them has bounded."""
    return _encode_steps(steps).decode()


def decode_steps(text: str) -> tuple[StepRecord, ...]:
    """The inverse of `encode_steps`."""
    return _decode_steps(text)
