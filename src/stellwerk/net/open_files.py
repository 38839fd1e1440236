"""How many sockets this process may open."""

import resource
from typing import Final

SPARE_FILES: Final = 64
"""For everything that is no socket of a device."""


def raise_open_files(sockets: int) -> int:
    """Let this process open so many ``sockets``, as far as the system allows; how many it allows."""
    wanted = sockets + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return sockets
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(0, wanted - SPARE_FILES)
