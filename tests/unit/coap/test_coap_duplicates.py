"""The packed rings against plain dicts that do the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap.duplicates import Answers, Inbound
from stellwerk.coap.message import CON, Message
from stellwerk.coap.peers import Peer
from stellwerk.core.ids import PeerId

# Few IDs, some of whose bytes stand in the middle of others' records.
MIDS = (0, 1, 256, 257, 0x4142)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "decide", "forget", "expire"]),
        st.integers(0, 2),
        st.sampled_from(MIDS),
        st.sampled_from([b"AAAAAAAA", b"BBBBBBBB", b"\0\0\1\0\0\1\1\1"]),
        st.sampled_from([b"", b"AB\0\1", b"AAAAAAAA", b"\1\0" * 40]),
    ),
    max_size=60,
)


@pytest.mark.spec("RFC 7252 4.5")
@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_copies_get_what_a_dict_would_give_them(steps) -> None:
    answers = Answers(per_peer=100, total=1000)
    peers = [Peer(PeerId("udp", "127.0.0.1", port), 0.0) for port in range(3)]
    model: list[dict[int, Inbound]] = [{}, {}, {}]
    for now, (what, which, mid, receipt, reply) in enumerate(steps):
        peer, expected = peers[which], model[which]
        known = expected.get(mid)
        if what == "admit":
            inbound = Inbound(peer, Message(CON, 2, mid), receipt, now + 20.0, 30)
            pushed_out = answers.admit(inbound)
            assert pushed_out is (known if known is not None and known.message is not None else None)
            expected[mid] = inbound
        elif what == "decide" and known is not None and known.message is not None:
            known.reply = reply
            answers.decided(known, now)
        elif what == "forget" and known is not None and known.message is not None:
            answers.forget(known)
            del expected[mid]
        elif what == "expire":
            late = answers.expire(peer, now)
            gone = [each for each in expected.values() if each.expires <= now]
            assert {each.mid for each in late} == {each.mid for each in gone if each in late or each.message}
            for each in gone:
                del expected[each.mid]
        for peer, expected in zip(peers, model, strict=True):
            waiting = [each for each in expected.values() if each.message is not None]
            assert (peer.pending, peer.decided) == (len(waiting), len(expected) - len(waiting))
            for each in expected.values():
                found = answers.find(peer, each.mid, each.receipt, now)
                assert found == ((each.reply or b"") if now < each.expires else None)
                assert answers.find(peer, each.mid, b"CCCCCCCC", now) is None
            assert all(answers.find(peer, mid, b"AAAAAAAA", now) is None for mid in MIDS if mid not in expected)
        assert answers.total == sum(peer.decided for peer in peers)


def test_the_bound_over_all_holds_and_takes_from_whoever_has_most() -> None:
    answers = Answers(per_peer=8, total=10)
    peers = [Peer(PeerId("udp", "127.0.0.1", port), 0.0) for port in range(4)]
    for mid, which in enumerate((0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 1)):
        inbound = Inbound(peers[which], Message(CON, 2, mid), b"AAAAAAAA", 100.0, 30)
        answers.admit(inbound)
        inbound.reply = b"x"
        answers.decided(inbound, 1.0)
    assert answers.total == 10
    assert [peer.decided for peer in peers] == [3, 3, 1, 3]
    assert answers.find(peers[0], 0, b"AAAAAAAA", 2.0) is None
    assert answers.find(peers[0], 5, b"AAAAAAAA", 2.0) == b"x"
    for peer in peers:
        answers.expire(peer, 200.0)
        assert peer.is_idle() or peer.evicted
    assert answers.total == 0
