"""Who waits for the end of a command, and how little is kept for it."""

import asyncio
import gc

from stellwerk.app.handlers.awaiting import Awaited, Ended
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Step

ONE, TWO = DeviceId(1), DeviceId(2)


def ended(step: Step = Step.SUCCEEDED) -> Ended:
    return Ended(step, JournalEntry(Kind.OUTCOME, 1, 0))


def test_all_who_wait_for_the_same_hear_of_its_first_end() -> None:
    async def story() -> None:
        awaited = Awaited()
        wait = awaited.wait("a", ONE)
        assert awaited.wait("a", ONE) is wait
        waiting = [asyncio.ensure_future(wait.for_end(60)) for _ in range(2)]
        await asyncio.sleep(0)
        first = ended()
        awaited.ended("a", first)
        wait.end(ended(Step.CANCELLED))
        assert await asyncio.gather(*waiting) == [first, first]
        assert await wait.for_end(0) is first
        assert len(awaited) == 0

    asyncio.run(story())


def test_who_waits_too_short_hears_nothing_and_may_wait_again() -> None:
    async def story() -> None:
        awaited = Awaited()
        wait = awaited.wait("a", ONE)
        assert await wait.for_end(0) is None
        assert await wait.for_end(0.001) is None
        awaited.ended("a", ended())
        assert await wait.for_end(60) is not None

    asyncio.run(story())


def test_nothing_is_kept_that_nobody_holds() -> None:
    async def story() -> None:
        awaited = Awaited()
        kept = [awaited.wait(str(each), ONE if each % 2 else TWO) for each in range(10)]
        assert sorted(awaited.of_device(ONE)) == ["1", "3", "5", "7", "9"]
        del kept[1:]
        gc.collect()
        assert (len(awaited), awaited.of_device(ONE), awaited.of_device(TWO)) == (1, [], ["0"])
        awaited.ended("nobody waits", ended())

    asyncio.run(story())


def test_who_waits_when_the_server_ends_waits_no_longer() -> None:
    async def story() -> None:
        awaited = Awaited()
        before = awaited.wait("a", ONE)
        waiting = asyncio.ensure_future(before.for_end(60))
        await asyncio.sleep(0)
        awaited.close()
        late = awaited.wait("b", ONE)
        assert await asyncio.wait_for(asyncio.gather(waiting, late.for_end(60)), 5) == [None, None]

    asyncio.run(story())
