"""A fleet in numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from stellwerk.coap import codes
from stellwerk.sim.happenings import (
    BootstrapFailed,
    Bootstrapped,
    Deregistered,
    Enrolled,
    EnrolmentFailed,
    HandshakeDone,
    HandshakeFailed,
    Happening,
    Notified,
    Rebooted,
    Registered,
    RegistrationLost,
    RegistrationRefused,
    Resumed,
    SendEnded,
    Served,
    SessionLost,
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
    HandshakeDone: "handshakes",
    Resumed: "resumptions",
    SessionLost: "lost_sessions",
    Bootstrapped: "bootstraps",
    Enrolled: "enrolments",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """The state of a fleet now, and rates per second since the summary before. ``served``: requests of the server that
    were answered; ``refusals``: registration requests refused or unanswered, ``failed_sends`` likewise. ``faults``:
    misdeeds of misbehaving devices; ``lost``: datagrams lost on purpose or by the system. ``handshakes``: full ones of
    secure devices; ``failed_handshakes`` and so on: how many failed for which reason."""

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
    handshakes_total: int = 0
    resumptions_total: int = 0
    lost_sessions_total: int = 0
    failed_handshakes: Mapping[str, int] = field(default_factory=dict)
    bootstraps_total: int = 0
    failed_bootstraps: Mapping[str, int] = field(default_factory=dict)
    enrolments_total: int = 0
    failed_enrolments: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """A line for people: how it stands, and what was since the start."""
        happened = (
            f"{self.registrations_total} registrations, {self.updates_total} updates, {self.sends_total} Sends, "
            f"{self.notifications_total} notifications, {self.served_total} requests served"
        )
        if self.handshakes_total or self.resumptions_total:
            happened += f", {self.handshakes_total} handshakes, {self.resumptions_total} sessions resumed"
        if self.enrolments_total:
            happened = f"{self.enrolments_total} enrolments, {happened}"
        if self.bootstraps_total:
            happened = f"{self.bootstraps_total} bootstraps, {happened}"
        troubles = {
            "registrations or updates refused or unanswered": self.refusals_total,
            "registrations lost": self.lost_registrations_total,
            "Sends failed": self.failed_sends_total,
            "sessions lost": self.lost_sessions_total,
            "datagrams lost": self.lost,
            "faults": self.faults,
        }
        bad = "".join(f", {number} {what}" for what, number in troubles.items() if number)
        for what, failed in (
            ("handshakes", self.failed_handshakes),
            ("bootstraps", self.failed_bootstraps),
            ("enrolments", self.failed_enrolments),
        ):
            if failed:
                reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(failed.items()))
                bad += f", {sum(failed.values())} {what} failed ({reasons})"
        silent = "; no answer from the server yet" if self.started and not self._heard else ""
        return f"{self.registered} of {self.devices} registered: {happened}{bad}{silent}"

    @property
    def _heard(self) -> int:
        """What was heard of the server, or given up: a bootstrap may take minutes and has requests meanwhile."""
        failed = sum(self.failed_handshakes.values()) + sum(self.failed_bootstraps.values())
        heard = self.registrations_total + self.bootstraps_total + self.served_total + self.handshakes_total
        return heard + self.refusals_total + failed


class Tally:
    """Counts what happens."""

    __slots__ = (
        "_before",
        "_since",
        "counts",
        "failed_bootstraps",
        "failed_enrolments",
        "failed_handshakes",
        "started",
    )

    def __init__(self) -> None:
        self.started = 0
        self.counts: dict[str, int] = dict.fromkeys([*_COUNTED.values(), "sends", "failed_sends", "served"], 0)
        self.failed_handshakes: Counter[str] = Counter()
        self.failed_bootstraps: Counter[str] = Counter()
        self.failed_enrolments: Counter[str] = Counter()
        self._before = dict(self.counts)
        self._since: float | None = None

    def count(self, happening: Happening) -> None:
        """One more."""
        if isinstance(happening, Served):
            self.counts["served"] += 1
        elif isinstance(happening, SendEnded):
            accepted = happening.code is not None and codes.is_success(happening.code)
            self.counts["sends" if accepted else "failed_sends"] += 1
        elif isinstance(happening, HandshakeFailed):
            self.failed_handshakes[happening.reason] += 1
        elif isinstance(happening, BootstrapFailed):
            self.failed_bootstraps[happening.reason] += 1
        elif isinstance(happening, EnrolmentFailed):
            self.failed_enrolments[happening.reason] += 1
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
            handshakes_total=counts["handshakes"],
            resumptions_total=counts["resumptions"],
            lost_sessions_total=counts["lost_sessions"],
            failed_handshakes=dict(self.failed_handshakes),
            bootstraps_total=counts["bootstraps"],
            failed_bootstraps=dict(self.failed_bootstraps),
            enrolments_total=counts["enrolments"],
            failed_enrolments=dict(self.failed_enrolments),
        )
        self._since, self._before = now, dict(counts)
        return summary
