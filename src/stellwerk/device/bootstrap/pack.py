"""The same in one answer: a Bootstrap-Pack (1.2; contract §5, B-6, B-9)."""

from collections.abc import Sequence
from dataclasses import dataclass

from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.account import Account
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path


class PackRefused(UserError):
    """This device cannot be given a pack; deserves 4.05, and the device comes to /bs instead."""


@dataclass(frozen=True, slots=True)
class Pack:
    """``content`` for `lwm2m.bootstrap.encode_pack`."""

    content: Content
    warnings: tuple[str, ...] = ()


def make_pack(
    configuration: BootstrapConfiguration, accounts: Sequence[Account], bootstrap_account: tuple[Path, ...] | None
) -> Pack:
    """``bootstrap_account``: `PackParameters.accounts`. Raises `PackRefused`, `BadAccount`."""
    raise NotImplementedError
