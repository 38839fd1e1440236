"""Waiting until what was committed can be read."""

import asyncio
from typing import Any, cast

import pytest

from stellwerk.app.projected import NotReadableYet, Projected
from stellwerk.app.reading_ports import ProjectedStore


class Behind:
    """A projector that passes one more entry each time it is asked."""

    def __init__(self, seq: int = 0, step: int = 1) -> None:
        self.seq, self.step, self.asked = seq, step, 0

    async def projected_seq(self) -> int:
        self.asked += 1
        self.seq += self.step
        return self.seq


def waiting(behind: Behind, within_s: float = 5.0) -> Projected:
    return Projected(cast(ProjectedStore, behind), within_s)


def test_a_wait_ends_when_the_projector_has_passed() -> None:
    behind = Behind()
    asyncio.run(waiting(behind).reached(3, "it is stored"))
    assert behind.seq == 3


def test_what_was_passed_already_is_not_asked_again() -> None:
    async def work() -> int:
        behind = Behind(seq=10)
        projected = waiting(behind)
        await projected.reached(5, "it is stored")
        await projected.reached(11, "it is stored")
        return behind.asked

    assert asyncio.run(work()) == 1


def test_many_who_wait_ask_as_often_as_one() -> None:
    async def work() -> int:
        behind = Behind()
        projected = waiting(behind)
        await asyncio.gather(*(projected.reached(4, "it is stored") for _ in range(50)))
        return behind.asked

    assert asyncio.run(work()) == 4


def test_a_projector_that_stands_still_is_told_after_a_while() -> None:
    with pytest.raises(NotReadableYet, match=r"it is stored, but .* do not repeat it"):
        asyncio.run(waiting(Behind(step=0), 0.01).reached(1, "it is stored"))


def test_who_gives_up_leaves_the_others_their_answer() -> None:
    async def work() -> list[Any]:
        projected = waiting(Behind())
        tasks = [asyncio.ensure_future(projected.reached(3, "it is stored")) for _ in range(3)]
        await asyncio.sleep(0)
        # The one who asks, and one who waits for the answer.
        tasks[0].cancel()
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(work())
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, asyncio.CancelledError)
    assert third is None
