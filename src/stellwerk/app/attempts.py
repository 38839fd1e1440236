"""Who fails too often waits: a bound on how fast passwords and secrets can be guessed."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from stellwerk.core.errors import UserError

REMEMBERED: Final = 10_000


def subscriber(host: str) -> str:
    """Whose failures count together: an address, of IPv6 the network of 64 bits that one subscriber has."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address.packed[:8] + bytes(8), 64)))


class TooManyAttempts(UserError):
    """Try again after ``wait_s`` seconds."""

    def __init__(self, wait_s: int) -> None:
        self.wait_s = wait_s
        super().__init__(f"too many failed attempts; try again in {wait_s} s")


class FailedAttempts:
    """Counts failures by key, ``limit`` within ``window_s`` seconds of the first. Remembers so many keys; a further one
    pushes out the oldest, so that an attacker with many addresses costs no memory."""

    def __init__(self, limit: int, window_s: float, remembered: int = REMEMBERED) -> None:
        self._limit = limit
        self._window_s = window_s
        self._remembered = remembered
        # In the order in which windows end, since all are equally long.
        self._windows: dict[str, tuple[int, float]] = {}

    def check(self, key: str, now: float) -> None:
        """``now``: monotonic seconds. Raises `TooManyAttempts`."""
        count, end = self._windows.get(key, (0, now))
        if count >= self._limit and now < end:
            raise TooManyAttempts(int(end - now) + 1)

    def note(self, key: str, now: float) -> None:
        """One more failure."""
        windows = self._windows
        count, end = windows.get(key, (0, now))
        if now < end:
            windows[key] = (count + 1, end)
            return
        windows.pop(key, None)
        if len(windows) >= self._remembered:
            del windows[next(iter(windows))]
        windows[key] = (1, now + self._window_s)

    def forget(self, key: str) -> None:
        """Whoever that was succeeded."""
        self._windows.pop(key, None)
