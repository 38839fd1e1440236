"""What the monitor sees, does and says; time is the test's."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.scenario.stack import ManualClock, SeededEntropy

from stellwerk.app.brake import Bounds, Brake, Level
from stellwerk.app.monitoring import Monitor
from stellwerk.app.ports import StoreCondition


class Watched:
    """Store and projection, as far as the monitor asks."""

    def __init__(self) -> None:
        self.now = StoreCondition()
        self.seq = 0
        self.broken = False

    def condition(self) -> StoreCondition:
        return self.now

    async def projected_seq(self) -> int:
        if self.broken:
            raise OSError("the disk is gone")
        return self.seq


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watched = Watched()
        self.restarts: list[float] = []
        self.brake = Brake(SeededEntropy(), Bounds(queue=10, lag=1_000_000, lag_s=1e9))
        self.monitor = Monitor(
            store=self.watched,  # type: ignore[arg-type]
            projected=self.watched,  # type: ignore[arg-type]
            brake=self.brake,
            clock=self.clock,
            restart_projector=lambda: self.restarts.append(self.clock.at - 1000.0),
        )

    def look(self, for_s: float = 0.25) -> list[Any]:
        """Look every quarter of a second; what was logged."""

        async def looks() -> None:
            for _ in range(int(for_s * 4)):
                self.clock.at += 0.25
                await self.monitor.look()

        with capture_logs() as lines:
            asyncio.run(looks())
        return lines


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_change_of_the_level_is_said_with_why_and_its_end_with_how_long(scene: Scene) -> None:
    assert scene.look(5) == []
    scene.watched.now = StoreCondition(queue=25)
    (on,) = scene.look(5)
    assert (on["event"], on["log_level"], on["level"], on["why"]) == ("brake.on", "warning", "register", "queue")
    assert on["detail"] == "25 writes wait for the disk"
    assert scene.brake.level is Level.REGISTER
    scene.watched.now = StoreCondition()
    (off,) = scene.look(5)
    assert (off["event"], off["level"], off["after_s"]) == ("brake.off", "register", 5.0)


def test_people_are_told_in_a_sentence(scene: Scene) -> None:
    assert scene.monitor.notice() == ""
    scene.watched.now = StoreCondition(failing="database or disk is full")
    scene.look()
    assert scene.monitor.notice() == (
        "Nothing can be stored (database or disk is full): whatever devices start is refused for now, and devices are "
        "asked to come again."
    )
    scene.watched.now = StoreCondition()
    scene.look(2)
    assert scene.monitor.notice() == ""


def test_a_projector_that_stands_still_is_stuck_and_replaced_and_not_again_at_once(scene: Scene) -> None:
    scene.watched.now = StoreCondition(last_seq=5)
    assert scene.look(10) == []
    assert scene.monitor.missing() == []
    (stuck,) = scene.look(10)
    assert (stuck["event"], stuck["entries_waiting"]) == ("projector.stuck", 5)
    (missing,) = scene.monitor.missing()
    assert missing.startswith("the projector is stuck: 5 entries wait, none was taken for ")
    assert "stuck" in scene.monitor.notice()
    assert scene.restarts == []
    assert [each["event"] for each in scene.look(300)] == ["projector.replaced"] * 3
    assert [round(each) for each in scene.restarts] == [30, 90, 270]
    scene.watched.seq = 3
    assert [each["event"] for each in scene.look()] == ["projector.goes_on"]
    assert scene.monitor.missing() == []
    scene.restarts.clear()
    scene.look(31)
    assert len(scene.restarts) == 1


def test_a_slow_projector_is_not_a_stuck_one(scene: Scene) -> None:
    for step in range(1, 40):
        scene.watched.now = StoreCondition(last_seq=step * 100)
        scene.watched.seq = step
        assert scene.look(5) == []
    assert scene.monitor.lag.entries == 39 * 99
    assert scene.restarts == []


def test_a_projection_that_cannot_be_read_is_said_once(scene: Scene) -> None:
    scene.look()
    scene.watched.broken = True
    assert [each["event"] for each in scene.look(5)] == ["projection.unreadable"]
    scene.watched.broken = False
    assert scene.look(5) == []


def test_a_mistake_with_one_look_does_not_end_the_looking(scene: Scene) -> None:
    looks: list[int] = []

    async def look() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("a bug")
        if len(looks) == 3:
            raise asyncio.CancelledError

    scene.monitor.look = look  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scene.monitor.run(every_s=0))
    assert len(looks) == 3
