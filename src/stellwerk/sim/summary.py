"""A fleet in numbers."""

from dataclasses import dataclass
from typing import Final

from stellwerk.coap import codes
from stellwerk.sim.happenings import (
    Deregistered,
    Happening,
    Notified,
    Rebooted,
    Registered,
    RegistrationLost,
    RegistrationRefused,
    SendEnded,
    Served,
    Updated,
)

_COUNTED: Final = {
    Registered: "registrations",
    Updated: "updates",
    Notified: "notifications",
    Deregistered: "deregistrations",
    Rebooted: "reboots",
    RegistrationLost: "lost_registrations",
    RegistrationRefused: "refusals",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """The state of a fleet now, and rates per second since the summary before. ``served``: requests of the server that
    were answered; ``refusals``: registration requests refused or unanswered, ``failed_sends`` likewise. ``faults``:
    misdeeds of misbehaving devices; ``lost``: datagrams lost on purpose or by the system."""

    elapsed_s: float
    devices: int
    started: int
    registered: int
    asleep: int
    faults: int
    lost: int
    registrations_per_s: float
    updates_per_s: float
    sends_per_s: float
    notifications_per_s: float
    served_per_s: float
    registrations_total: int
    updates_total: int
    sends_total: int
    failed_sends_total: int
    notifications_total: int
    served_total: int
    refusals_total: int
    lost_registrations_total: int

    def __str__(self) -> str:
        """A line for people: how it stands, and what was since the start."""
        happened = (
            f"{self.registrations_total} registrations, {self.updates_total} updates, {self.sends_total} Sends, "
            f"{self.notifications_total} notifications, {self.served_total} requests served"
        )
        troubles = {
            "registrations or updates refused or unanswered": self.refusals_total,
            "registrations lost": self.lost_registrations_total,
            "Sends failed": self.failed_sends_total,
            "datagrams lost": self.lost,
            "faults": self.faults,
        }
        bad = "".join(f", {number} {what}" for what, number in troubles.items() if number)
        silent = "; no answer from the server yet" if self.started and not self._ended else ""
        return f"{self.registered} of {self.devices} registered: {happened}{bad}{silent}"

    @property
    def _ended(self) -> int:
        return self.registrations_total + self.refusals_total


class Tally:
    """Counts what happens."""

    __slots__ = ("_before", "_since", "counts", "started")

    def __init__(self) -> None:
        self.started = 0
        self.counts: dict[str, int] = dict.fromkeys([*_COUNTED.values(), "sends", "failed_sends", "served"], 0)
        self._before = dict(self.counts)
        self._since: float | None = None

    def count(self, happening: Happening) -> None:
        """One more."""
        if isinstance(happening, Served):
            self.counts["served"] += 1
        elif isinstance(happening, SendEnded):
            accepted = happening.code is not None and codes.is_success(happening.code)
            self.counts["sends" if accepted else "failed_sends"] += 1
        else:
            name = _COUNTED.get(type(happening))
            if name is not None:
                self.counts[name] += 1

    def summarize(self, now: float, *, devices: int, registered: int, asleep: int, faults: int, lost: int) -> Summary:
        """The numbers at ``now`` (monotonic seconds)."""
        elapsed = now - self._since if self._since is not None else 0.0
        counts, before = self.counts, self._before

        def rate(name: str) -> float:
            return (counts[name] - before[name]) / elapsed if elapsed > 0 else 0.0

        summary = Summary(
            elapsed_s=elapsed,
            devices=devices,
            started=self.started,
            registered=registered,
            asleep=asleep,
            faults=faults,
            lost=lost,
            registrations_per_s=rate("registrations"),
            updates_per_s=rate("updates"),
            sends_per_s=rate("sends"),
            notifications_per_s=rate("notifications"),
            served_per_s=rate("served"),
            registrations_total=counts["registrations"],
            updates_total=counts["updates"],
            sends_total=counts["sends"],
            failed_sends_total=counts["failed_sends"],
            notifications_total=counts["notifications"],
            served_total=counts["served"],
            refusals_total=counts["refusals"],
            lost_registrations_total=counts["lost_registrations"],
        )
        self._since, self._before = now, dict(counts)
        return summary
