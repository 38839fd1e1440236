"""The whole engine: any bytes, any order, loss and repetition; and what a peer costs."""

import sys
from random import Random

import pytest
from coap_wire import DEVICE, SERVER, Bench, SeededEntropy, Wire, ack, con
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import encode_message
from stellwerk.coap.options import OBSERVE, encode_uint
from stellwerk.coap.parameters import Parameters
from stellwerk.core.ids import PeerId

# Bytes that get past the header more often than chance allows, with options that matter to the engine.
almost_messages = st.builds(
    lambda first, code, mid, tail: bytes([0x40 | first, code]) + mid.to_bytes(2, "big") + tail,
    first=st.integers(0, 0x3F),
    code=st.sampled_from([0, 1, 2, 3, 5, 7, 9, 0x41, 0x44, 0x45, 0x5F, 0x81, 0x84, 0x88, 0x8D, 0xE1, 0x22]),
    mid=st.integers(0, 3),
    tail=st.one_of(
        st.binary(max_size=24),
        st.lists(
            st.sampled_from(
                ["01", "aa", "60", "6101", "b26470", "b26e", "51ff", "d10e0e", "d10a06", "d10a0e", "c10e", "ff00", "ff"]
            ),
            max_size=6,
        ).map(lambda parts: bytes.fromhex("".join(parts))),
    ),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.one_of(almost_messages, st.binary(max_size=20)), max_size=12), st.booleans())
def test_any_bytes_are_survived_and_never_amplified(datagrams, asks):
    bench = Bench(ask_until=1000.0 if asks else None)
    fed = sent = 0
    for datagram in datagrams:
        bench.feed(datagram)
        fed += len(datagram)
        for event in bench.events():
            if isinstance(event, events.RequestReceived):
                bench.submit(actions.Respond(event.exchange, codes.CONTENT, ("a",), 0, payload=bytes(2000)))
            elif isinstance(event, events.RequestQuestion):
                bench.submit(actions.Proceed(event.exchange))
            elif isinstance(event, events.TokenQuestion):
                bench.submit(actions.RejectToken(event.exchange))
        sent += sum(len(data) for _, data in bench.engine.take_datagrams())
        assert sent <= 3 * fed
    bench.after(1000)
    assert bench.engine.deadline() is None


@settings(max_examples=80, deadline=None)
@given(st.lists(almost_messages, max_size=10), st.integers(0, 1000))
def test_any_bytes_in_the_middle_of_our_own_exchanges_are_survived(datagrams, seed):
    bench = Bench(seed)
    bench.submit(actions.AdoptObservation(3, DEVICE, b"\x01"))
    bench.submit(actions.SendRequest(1, DEVICE, codes.PUT, b"\xaa", ("3",), payload=bytes(1500), observe=0))
    mine = bench.sent()[0].mid
    ended = []
    for datagram in datagrams:
        # Every other one hits our message ID and token.
        if len(datagram) % 2:
            datagram = bytes([datagram[0] & 0xF0 | 1, datagram[1]]) + mine.to_bytes(2, "big") + b"\xaa" + datagram[4:]
        bench.feed(datagram)
        for event in bench.events():
            if isinstance(event, events.RequestReceived):
                bench.submit(actions.Respond(event.exchange, codes.CHANGED))
            elif isinstance(event, events.NotificationReceived):
                bench.submit(actions.AcceptNotification(event.exchange))
            elif isinstance(event, events.TokenQuestion):
                bench.submit(actions.RejectToken(event.exchange))
            elif isinstance(event, events.ResponseReceived | events.RequestFailed):
                ended.append(event)
    bench.after(1000)
    ended += [e for e in bench.events() if isinstance(e, events.ResponseReceived | events.RequestFailed)]
    assert len(ended) == 1


@pytest.mark.spec("MSG-1", "MSG-4", "MSG-5", "BLK-2", "BLK-3", "RFC 7252 4.5")
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    double=st.sampled_from([0.0, 0.3]),
    delay=st.sampled_from([0.01, 1.0, 8.0]),
    slow=st.booleans(),
)
def test_over_any_network_requests_end_once_and_are_served_once(seed, loss, double, delay, slow):
    client = Endpoint(SeededEntropy(seed))
    server = Endpoint(SeededEntropy(seed + 1))
    wire = Wire(client, server, seed, loss, double, delay)
    chance = Random(seed)
    served: dict[bytes, int] = {}
    ended: dict[int, object] = {}
    waiting: list[actions.Respond] = []
    bodies = {handle: bytes([handle]) * chance.choice([0, 10, 1024, 1500, 3000]) for handle in range(1, 6)}

    def on_server(event):
        if isinstance(event, events.RequestReceived):
            served[event.query[0]] = served.get(event.query[0], 0) + 1
            assert event.payload == bodies[int(event.query[0])]
            answer = actions.Respond(event.exchange, codes.CONTENT, payload=event.payload)
            if slow:
                waiting.append(answer)
            else:
                server.submit(answer, wire.now)

    def on_client(event):
        assert not isinstance(event, events.RequestReceived)
        if isinstance(event, events.ResponseReceived | events.RequestFailed):
            assert event.handle not in ended
            ended[event.handle] = event
        elif isinstance(event, events.TokenQuestion):
            client.submit(actions.RejectToken(event.exchange), wire.now)

    server.submit(actions.VerifyPeer(DEVICE), 0.0)
    for handle, body in bodies.items():
        token = handle.to_bytes(4, "big")
        client.submit(
            actions.SendRequest(handle, SERVER, codes.POST, token, ("dp",), (str(handle),), payload=body), 0.0
        )
    for step in range(1, 300):
        wire.run(step * 3.0, on_client, on_server)
        for answer in waiting:
            server.submit(answer, wire.now)
        waiting.clear()
    assert sorted(ended) == sorted(bodies)
    for handle, event in ended.items():
        times = served.get(str(handle), 0)
        if isinstance(event, events.ResponseReceived):
            assert times == 1 or event.code != codes.CONTENT
            if event.code == codes.CONTENT:
                assert event.payload == bodies[handle]
        else:
            assert loss
            assert times <= 1


@pytest.mark.spec("OB-2", "OB-3")
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), loss=st.sampled_from([0.0, 0.3]), delay=st.sampled_from([0.01, 3.0]))
def test_over_any_network_notifications_are_told_in_order_and_once(seed, loss, delay):
    device = Endpoint(SeededEntropy(seed), parameters=Parameters(ack_timeout_s=2))
    server = Endpoint(SeededEntropy(seed + 1))
    wire = Wire(device, server, seed, loss, 0.2, delay)
    heard: list[int] = []
    outcomes: list[int] = []
    server.submit(actions.AdoptObservation(1, DEVICE, b"obs1"), 0.0)

    def on_server(event):
        if isinstance(event, events.NotificationReceived):
            heard.append(event.observe)
            server.submit(actions.AcceptNotification(event.exchange), wire.now)

    def on_device(event):
        if isinstance(event, events.NotificationAcked | events.NotificationRejected):
            outcomes.append(event.handle)

    for number in range(1, 8):
        device.submit(actions.SendNotification(number, SERVER, b"obs1", codes.CONTENT, number, 0, b"x", True), wire.now)
        wire.run(wire.now + 2.0, on_device, on_server)
    wire.run(wire.now + 300.0, on_device, on_server)
    assert heard == sorted(set(heard))
    assert sorted(outcomes) == list(range(1, 8))
    if not loss and delay < 1:
        assert heard == list(range(1, 8))


def test_an_idle_registered_peer_is_small():
    bench = Bench()
    peers = [PeerId("udp", "192.0.2.7", port, "192.0.2.1", 5683) for port in range(1000, 1200)]
    for peer in peers:
        bench.feed(con(codes.POST, 1, b"t", path=("rd",)), peer=peer)
        bench.submit(actions.AdoptObservation(1, peer, b"obs1"))
        bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CREATED))
    bench.sent()
    bench.after(600)
    table = bench.engine._layer.peers
    assert len(table) == 200
    for peer in peers:
        known = table.find(peer)
        assert known.ring is None
        relation = known.relations[b"obs1"]
        # The record, its one relation, and a share of the tables they hang in.
        cost = sys.getsizeof(known) + sys.getsizeof(known.relations) + sys.getsizeof(relation)
        cost += (sys.getsizeof(table._by_id) + sys.getsizeof(table._checks)) // len(table)
        assert cost < 600


@pytest.mark.spec("MSG-6", "T-9")
@pytest.mark.parametrize("length", range(9))
def test_tokens_of_every_length_are_repeated(length):
    bench = Bench()
    bench.feed(con(codes.POST, 1, bytes(length), path=("dp",)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    assert bench.sent() == [ack(codes.CHANGED, 1, bytes(length))]


def test_two_engines_with_the_same_seed_do_the_same():
    def run():
        wire = Wire(Endpoint(SeededEntropy(5)), Endpoint(SeededEntropy(6)), 7, 0.2, 0.2, 1.0)
        seen = []
        for handle in range(5):
            token = encode_uint(handle + 1000)
            wire.client.submit(actions.SendRequest(handle, SERVER, codes.GET, token, ("x",), observe=0), 0.0)

        def on_server(event):
            seen.append(repr(event))
            if isinstance(event, events.RequestReceived):
                wire.server.submit(
                    actions.Respond(event.exchange, codes.CONTENT, options=((OBSERVE, b"\x01"),)), wire.now
                )

        wire.run(500.0, lambda event: seen.append(repr(event)), on_server)
        return seen

    assert run() == run()


def test_a_message_of_its_own_kind_is_never_answered_endlessly():
    # Two engines that each think the other began: resets and acknowledgements are never answered.
    bench = Bench()
    for kind in (0x60, 0x70):
        for code in (0, 1, 0x45, 0xE1):
            bench.feed(bytes([kind, code, 0, 1]))
            bench.feed(encode_message(ack(code, 9, b"t")) if code else bytes([kind, 0, 0, 9]))
    assert bench.sent() == []
