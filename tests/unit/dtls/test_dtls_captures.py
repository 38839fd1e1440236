"""What programs of others said to our engine, said again (captures/README.md)."""

from pathlib import Path

import pytest
from tests.dtls_story import Conversation, Story

CAPTURES = sorted((Path(__file__).parents[3] / "captures").glob("*.json"))
each_capture = pytest.mark.parametrize("path", CAPTURES, ids=[path.stem for path in CAPTURES])


def events(conversation: Conversation, *kinds: str) -> list[str]:
    return [what for kind, _, what in conversation.steps if kind == "=" and what.startswith(kinds)]


@each_capture
def test_the_engine_says_to_a_recorded_peer_what_it_said_then(path: Path) -> None:
    story = Story.read(path)
    assert story.replay().steps == story.steps


@each_capture
def test_a_recorded_peer_whose_datagrams_come_backwards_is_understood_when_it_repeats_them(path: Path) -> None:
    story = Story.read(path)
    told, run = [], []
    for step in story.steps:
        if step[0] == "<":
            run.append(step)
        elif step[0] in ">!~":
            told += [*reversed(run), *run, step]
            run = []
    told += [*reversed(run), *run]
    kinds = ("SessionEstablished", "HandshakeFailed")
    assert events(Story(story.peer, story.told, told).replay(), *kinds) == events(story.replay(), *kinds)


@each_capture
def test_a_recorded_peer_whose_datagrams_all_come_twice_gets_as_far(path: Path) -> None:
    story = Story.read(path)
    twice = Story(story.peer, story.told, [each for step in story.steps for each in (step, *[step] * (step[0] == "<"))])
    kinds = ("SessionEstablished", "DataReceived", "SessionEnded", "HandshakeFailed")
    assert events(twice.replay(), *kinds) == events(story.replay(), *kinds)
