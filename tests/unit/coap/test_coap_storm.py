"""Everything at once, at random, against tight bounds: requests end once, and when all is over nothing is left."""

from collections import Counter
from random import Random

import pytest
from coap_wire import DEVICE, MOVED, SERVER, Bench, con, non

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import encode_message
from stellwerk.coap.options import BLOCK1, BLOCK2, OBSERVE, encode_block
from stellwerk.coap.parameters import Limits

PEERS = (DEVICE, MOVED, SERVER)
TOKENS = (b"\x08", b"obs1", b"tok2")
LIMITS = Limits(
    ring_per_peer=3,
    answers_total=8,
    pending_per_peer=5,
    requests_per_peer=3,
    questions_total=4,
    bodies_total_bytes=4000,
    peers_total=3,
)
INCOMING = tuple(
    encode_message(message)
    for token in TOKENS
    for message in (
        con(codes.POST, 0, token, path=("dp",), payload=b"x" * 20),
        non(codes.POST, 1, token, path=("dp",)),
        con(codes.GET, 2, token, path=("3",), options=((OBSERVE, b""),)),
        con(codes.PUT, 3, token, path=("5",), options=((BLOCK1, encode_block(0, True, 0)),), payload=bytes(16)),
        con(codes.PUT, 3, token, path=("5",), options=((BLOCK1, encode_block(1, False, 0)),), payload=b"end"),
        con(codes.GET, 2, token, path=("3",), options=((BLOCK2, encode_block(1, False, 6)),)),
        con(codes.CONTENT, 1, token, options=((OBSERVE, b"\x05"),), payload=b"1"),
        non(codes.CONTENT, 2, token, options=((OBSERVE, b"\x06"),), payload=b"2"),
        con(codes.CONTENT, 3, token, options=((OBSERVE, b"\x07"), (BLOCK2, b"\x0e")), payload=bytes(1024)),
        con(codes.NOT_FOUND, 3, token),
    )
)
ANSWERS = ("", "60", "6101", "d10a06", "6101d1040e", "d10e0e", "d10e04", "d1340b")


class Storm:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.bench = Bench(seed, limits=LIMITS, ask_until=self.random.choice([None, 50.0, 1e9]))
        self.asked = 0
        self.ended: Counter[int] = Counter()

    def step(self) -> None:
        choose, chance, bench = self.random.choice, self.random.random(), self.bench
        peer, token = choose(PEERS), choose(TOKENS)
        if chance < 0.6:
            datagram = bytearray(choose(INCOMING))
            for _ in range(choose([0, 0, 0, 1, 3])):
                datagram[self.random.randrange(min(24, len(datagram)))] = choose([0, 1, 255])
            bench.feed(bytes(datagram), peer=peer)
        elif chance < 0.75:
            self.asked += 1
            observe, payload = choose([None, 0, 1]), bytes(choose([0, 9, 3000]))
            bench.submit(
                actions.SendRequest(
                    self.asked, peer, choose([1, 3, 5]), token, ("3",), observe=observe, payload=payload
                )
            )
        elif chance < 0.93:
            bench.submit(
                choose(
                    [
                        actions.MovePeer(peer, choose(PEERS)),
                        actions.ForgetPeer(peer),
                        actions.AdoptObservation(99, peer, token),
                        actions.ForgetObservation(peer, token),
                        actions.CancelRequest(max(1, self.asked)),
                        actions.SendNotification(5, peer, token, 0x45, 3, 0, bytes(3000), chance < 0.8),
                    ]
                )
            )
        else:
            bench.after(choose([0.1, 2, 60, 300]))
        self.react()

    def react(self) -> None:
        choose, bench = self.random.choice, self.bench
        for peer, datagram in bench.engine.take_datagrams():
            if datagram[0] >> 4 & 3 == 0 and choose([True, False]):
                start = 4 + (datagram[0] & 15)
                head = bytes([0x60 | datagram[0] & 15, choose([0x44, 0x45, 0x5F, 0x81, 0x88, 0x8D])])
                bench.feed(head + datagram[2:start] + bytes.fromhex(choose(ANSWERS)), peer=peer)
        for event in bench.events():
            exchange = getattr(event, "exchange", 0)
            if isinstance(event, events.ResponseReceived | events.RequestFailed):
                self.ended[event.handle] += 1
            elif isinstance(event, events.RequestReceived):
                answer = actions.Respond(exchange, choose([0x44, 0x45, 0x84]), payload=bytes(choose([0, 20, 2500])))
                self.submit_one_of(answer, answer, answer, actions.Drop(exchange), None)
            elif isinstance(event, events.RequestQuestion):
                self.submit_one_of(
                    actions.Proceed(exchange), actions.Recall(exchange, 0x44), actions.Drop(exchange), None
                )
            elif isinstance(event, events.NotificationReceived):
                self.submit_one_of(actions.AcceptNotification(exchange), actions.Drop(exchange), None)
            elif isinstance(event, events.TokenQuestion):
                adopt = actions.AdoptObservation(9, event.peer, event.token, exchange)
                self.submit_one_of(adopt, actions.RejectToken(exchange), actions.Drop(exchange), None)

    def submit_one_of(self, *wishes: actions.Action | None) -> None:
        wish = self.random.choice(wishes)
        if wish is not None:
            self.bench.submit(wish)


@pytest.mark.parametrize("seed", [*range(100), 20_568, 117_646])
def test_after_any_storm_all_requests_have_ended_and_nothing_is_left(seed):
    storm = Storm(seed)
    for _ in range(60):
        storm.step()
    for _ in range(12):
        storm.bench.after(300)
        storm.react()
    assert storm.ended == Counter(range(1, storm.asked + 1))
    engine = storm.bench.engine
    assert (engine._layer.answers.total, engine._bodies._total) == (0, 0)
    waiting = (engine._requests._by_handle, engine._questions._waiting, engine._serving._open, engine._observing._open)
    assert not any(waiting)
    for peer in PEERS:
        known = engine._layer.peers.find(peer)
        if known is not None:
            assert not any((known.ring, known.sent, known.outgoing, known.pending, known.decided))
