"""The packed rings against plain dicts that do the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap.duplicates import Answers, Inbound
from stellwerk.coap.message import CON, Message
from stellwerk.coap.peers import Peer
from stellwerk.core.ids import PeerId

MIDS = (0, 1, 256, 257, 0x4142)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "decide", "forget", "expire"]),
        st.integers(0, 1),
        st.sampled_from(MIDS),
        st.sampled_from([b"AAAAAA", b"BBBBBB", b"\0\1\0\0\1\1"]),
        # Replies that look like parts of records.
        st.sampled_from([b"", b"AB\0\1", b"\0\0AAAAAA", b"\1\0" * 40]),
    ),
    max_size=60,
)


@pytest.mark.spec("RFC 7252 4.5")
@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_copies_get_what_dicts_would_give_them(steps) -> None:
    answers = Answers(per_peer=100, total=1000)
    peers = [Peer(PeerId("udp", "127.0.0.1", port), 0.0) for port in range(2)]
    undecided: list[dict[int, Inbound]] = [{}, {}]
    decided: list[list[Inbound]] = [[], []]
    seen = {bytes(8)}
    for now, (what, which, mid, variant, reply) in enumerate(steps):
        peer, receipt = peers[which], mid.to_bytes(2, "big") + variant
        known = undecided[which].get(mid)
        if what == "admit" and answers.find(peer, receipt, now) is None:
            inbound = Inbound(peer, Message(CON, 2, mid), receipt, now + 20.0, 30)
            assert answers.admit(inbound) is known
            undecided[which].pop(mid, None)
            undecided[which][mid] = inbound
            seen.add(receipt)
        elif what == "decide" and known is not None:
            known.reply = reply
            answers.decided(known, now)
            decided[which].append(undecided[which].pop(mid))
        elif what == "forget" and known is not None:
            answers.forget(known)
            del undecided[which][mid]
        elif what == "expire":
            late = [each for each in undecided[which].values() if each.expires <= now]
            assert answers.expire(peer, now) == late
            for each in late:
                del undecided[which][each.mid]
            decided[which] = [each for each in decided[which] if each.expires > now]
        for peer, waiting, done in zip(peers, undecided, decided, strict=True):
            assert (peer.pending, peer.decided) == (len(waiting), len(done))
            live = {each.receipt: each.reply or b"" for each in (*done, *waiting.values()) if each.expires > now}
            assert {each: answers.find(peer, each, now) for each in seen} == {each: live.get(each) for each in seen}
        assert answers.total == sum(map(len, decided))


def test_the_bound_over_all_holds_and_takes_from_whoever_has_most() -> None:
    answers = Answers(per_peer=8, total=10)
    peers = [Peer(PeerId("udp", "127.0.0.1", port), 0.0) for port in range(4)]
    for mid, which in enumerate((0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 1)):
        inbound = Inbound(peers[which], Message(CON, 2, mid), bytes([mid] * 8), 100.0, 30)
        answers.admit(inbound)
        inbound.reply = b"x"
        answers.decided(inbound, 1.0)
    assert answers.total == 10
    assert [peer.decided for peer in peers] == [3, 3, 1, 3]
    assert answers.find(peers[0], bytes(8), 2.0) is None
    assert answers.find(peers[0], bytes([5] * 8), 2.0) == b"x"
    for peer in peers:
        answers.expire(peer, 200.0)
        assert peer.is_idle() or peer.evicted
    assert answers.total == 0
