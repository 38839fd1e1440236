"""What all server accounts of one simulated device share: its objects, its radio, its randomness."""

import math
from collections.abc import Iterator
from random import Random

from stellwerk.sim import catalogue
from stellwerk.sim.faults import Faults
from stellwerk.sim.gateway import Gateway, versions_of
from stellwerk.sim.happenings import Happening
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.reactions import Reactions
from stellwerk.sim.release import RELEASES, Release


class Body:
    """One device without its servers. ``utc_offset_s`` turns monotonic seconds into UTC seconds since 1970; ``handles``
    gives numbers that are unique within the engine it runs on; ``address`` is its IP address. Raises `InvalidFormats`,
    `UnknownObject`."""

    __slots__ = (
        "awake_until",
        "faults",
        "gateway",
        "handles",
        "happenings",
        "history_s",
        "options",
        "random",
        "reactions",
        "release",
        "sample_s",
        "tree",
        "utc_offset_s",
    )

    def __init__(self, options: DeviceOptions, address: str, utc_offset_s: float, handles: Iterator[int]) -> None:
        self.options = options
        self.release = release_of(options)
        self.tree = catalogue.tree_of(options, self.release, address)
        self.random = Random(options.seed)
        self.reactions = Reactions(self.tree, self.release, self.random)
        self.gateway = Gateway(options, self.release, self.tree) if options.end_devices else None
        self.faults = Faults(options.faults, options.seed) if options.faults else None
        self.utc_offset_s = utc_offset_s
        self.handles = handles
        self.happenings: list[Happening] = []
        self.awake_until = 0.0
        # A sleeper looks at what is observed when it is awake, and in between at what is to be kept.
        self.sample_s = math.inf if options.queue_mode else options.sample_every_s
        self.history_s = options.sample_every_s

    def utc_s(self, now: float) -> float:
        """UTC seconds at the monotonic time ``now``."""
        return now + self.utc_offset_s

    def stay_awake(self, now: float) -> None:
        """Something was said or heard: the radio stays on for a while."""
        self.awake_until = now + self.options.awake_s

    def is_awake(self, now: float) -> bool:
        """Whether the radio is on by itself, whatever is waited for."""
        return not self.options.queue_mode or now < self.awake_until

    def tell(self, happening: Happening) -> None:
        """For whoever counts or logs it."""
        self.happenings.append(happening)


def release_of(options: DeviceOptions) -> Release:
    """The release as ``options`` bend it. Raises `InvalidFormats`."""
    release = RELEASES[options.lwm2m_version]
    if options.end_devices and options.gateway_version != "2.0":
        release = release.with_versions(versions_of(options))
    return release.restricted(options.formats) if options.formats else release
