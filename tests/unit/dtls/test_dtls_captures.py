"""What programs of others said to our engine, said again (captures/README.md)."""

from pathlib import Path

import pytest
from tests.dtls_story import Conversation, Story

CAPTURE_FOLDER = Path(__file__).parents[3] / "captures"
CAPTURES = sorted(CAPTURE_FOLDER.glob("*.json"))
each_capture = pytest.mark.parametrize("path", CAPTURES, ids=[path.stem for path in CAPTURES])


def events(conversation: Conversation, *kinds: str) -> list[str]:
    return [what for kind, _, what in conversation.steps if kind == "=" and what.startswith(kinds)]


@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_finished_that_comes_in_two_records_is_among_them() -> None:
    story = Story.read(CAPTURE_FOLDER / "openssl-client-x509-CCM_8-split-finished-mtu295.json")
    established = next(at for at, step in enumerate(story.steps) if "SessionEstablished" in str(step[2]))
    came = b"".join(bytes.fromhex(what[1]) for kind, _, what in story.steps[:established] if kind == "<")
    # Type handshake, version, epoch 1.
    assert came.count(b"\x16\xfe\xfd\x00\x01") == 2


@pytest.mark.spec("LwM2M-contract 2.2")
@each_capture
def test_the_engine_says_to_a_recorded_peer_what_it_said_then(path: Path) -> None:
    story = Story.read(path)
    assert story.replay().steps == story.steps


@pytest.mark.spec("LwM2M-contract 2.2")
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


@pytest.mark.spec("LwM2M-contract 2.2")
@each_capture
def test_a_recorded_peer_whose_datagrams_all_come_twice_gets_as_far(path: Path) -> None:
    story = Story.read(path)
    twice = Story(story.peer, story.told, [each for step in story.steps for each in (step, *[step] * (step[0] == "<"))])
    kinds = ("SessionEstablished", "DataReceived", "SessionEnded", "HandshakeFailed")
    assert events(twice.replay(), *kinds) == events(story.replay(), *kinds)
