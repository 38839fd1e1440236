"""What is stored of a profile's bootstrap configuration: JSON as people write it (`render_bootstrap`)."""

import json

import structlog

from stellwerk.device.bootstrap.configuration import (
    NO_BOOTSTRAP,
    BadBootstrap,
    BootstrapConfiguration,
    parse_bootstrap,
    render_bootstrap,
)

log = structlog.get_logger(__name__)


def encode_bootstrap(configuration: BootstrapConfiguration) -> str:
    """Empty for one that says nothing."""
    return "" if configuration == NO_BOOTSTRAP else json.dumps(render_bootstrap(configuration))


def decode_bootstrap(text: str) -> BootstrapConfiguration:
    """The inverse of `encode_bootstrap`. What another version wrote, and this one does not take, gives nobody anything:
    the rest of the profile stays of use."""
    if not text:
        return NO_BOOTSTRAP
    try:
        return parse_bootstrap(json.loads(text))
    except (BadBootstrap, ValueError) as error:
        log.error("profile.bootstrap_unusable", detail=str(error), meaning="its devices are not bootstrapped")
        return NO_BOOTSTRAP
