"""Requests, bodies and observations over streams, between two engines of ours and by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_wire import CSM, DEVICE, PLAIN_CSM, SERVER, Line, SeededEntropy, StreamBench, frame

from stellwerk.coap import actions, codes, events
from stellwerk.coap.options import BLOCK1, BLOCK2, OBSERVE, SIZE1, encode_block, encode_uint, read_stream_options
from stellwerk.coap.parameters import Limits
from stellwerk.coap.tcp.connection import StreamLimits, cut_stream
from stellwerk.coap.tcp.endpoint import StreamEndpoint
from stellwerk.coap.tcp.signalling import Capabilities

TOKEN = b"\x0b\xad\xca\xfe"


def csm(size, block_wise=True):
    from stellwerk.coap.tcp.signalling import encode_csm

    return encode_csm(Capabilities(size, block_wise))


def pair(client_size=65_536, server_size=65_536, seed=1, piece=1500, body=200_000):
    client = StreamEndpoint(SeededEntropy(1), streams=StreamLimits(message_bytes=client_size))
    server = StreamEndpoint(
        SeededEntropy(2), streams=StreamLimits(message_bytes=server_size), body_bytes_by_path={("up",): body}
    )
    return Line(client, server, seed, piece)


# -- requests --


@pytest.mark.spec("RFC 8323 3.3")
def test_a_request_leaves_as_one_frame_and_its_answer_comes_back():
    bench = StreamBench()
    bench.connect()
    bench.submit(actions.SendRequest(5, DEVICE, codes.GET, TOKEN, ("3", "0", "9"), accept=112))
    sent = bench.one()
    assert (sent.code, sent.token) == (codes.GET, TOKEN)
    assert read_stream_options(sent.options).path == ("3", "0", "9")
    bench.feed(frame(codes.CONTENT, TOKEN, content_format=112, payload=b"\x80"))
    response = bench.event(events.ResponseReceived)
    assert (response.handle, response.code, response.content_format, response.payload) == (5, 0x45, 112, b"\x80")
    bench.after(300)
    assert bench.events() == []


def test_a_request_that_nobody_answers_times_out_and_is_never_repeated():
    bench = StreamBench()
    bench.connect()
    bench.feed(frame(codes.POST, path=("dp",)))
    bench.events()
    bench.submit(actions.SendRequest(5, DEVICE, codes.GET, TOKEN, ("3",)))
    bench.after(92)
    assert len(bench.sent()) == 1
    assert bench.events() == []
    bench.after(2)
    failed = bench.event(events.RequestFailed)
    assert (failed.reason, failed.detail) == ("timeout", "no answer")
    assert bench.sent() == []
    # An answer that comes too late belongs to nobody.
    bench.feed(frame(codes.CONTENT, TOKEN))
    assert isinstance(bench.event(events.TokenQuestion), events.TokenQuestion)


def test_a_lost_connection_fails_what_is_on_its_way_and_what_waits():
    bench = StreamBench()
    bench.connect()
    for handle in (1, 2, 3):
        bench.submit(actions.SendRequest(handle, DEVICE, codes.GET, bytes((handle,)) * 4, ("3",)))
    bench.feed(b"")
    *failed, lost = bench.events()
    assert {each.handle: each.reason for each in failed} == {1: "lost", 2: "unconnected", 3: "unconnected"}
    assert isinstance(lost, events.ConnectionLost)
    assert bench.engine.deadline() is None


def test_requests_of_a_client_wait_for_the_csm_of_its_server():
    bench = StreamBench()
    from stellwerk.coap.tcp.connection import Role
    from stellwerk.coap.tcp.endpoint import AdoptConnection

    bench.submit(AdoptConnection(SERVER, Role.INITIATED))
    bench.submit(actions.SendRequest(1, SERVER, codes.POST, TOKEN, ("rd",), payload=b"p" * 40_000))
    assert len(bench.sent(SERVER)) == 1
    bench.feed(CSM, peer=SERVER)
    assert len(bench.one(SERVER).payload) == 40_000
    bench.submit(AdoptConnection(SERVER, Role.INITIATED))
    bench.submit(actions.SendRequest(2, SERVER, codes.POST, TOKEN, ("rd",)))
    bench.feed(b"", peer=SERVER)
    reasons = [each.reason for each in bench.events() if isinstance(each, events.RequestFailed)]
    assert reasons == ["lost", "unconnected"]


@pytest.mark.spec("MSG-1")
def test_the_same_bytes_twice_are_two_requests():
    bench = StreamBench()
    bench.connect()
    send = frame(codes.POST, b"", ("dp",), payload=b"\x80")
    bench.feed(send + send)
    first, second = bench.events()
    assert first.exchange != second.exchange
    assert (first.receipt, second.receipt) == (b"", b"")
    for each in (first, second):
        bench.submit(actions.Respond(each.exchange, codes.CHANGED))
    assert [each.code for each in bench.sent()] == [codes.CHANGED] * 2


def test_a_request_with_an_unknown_critical_option_is_answered():
    bench = StreamBench()
    bench.connect()
    bench.feed(frame(codes.POST, options=((4001, b"x"),)))
    assert bench.one().code == codes.BAD_OPTION


def test_a_request_larger_than_the_peer_takes_is_refused_before_it_leaves():
    bench = StreamBench()
    bench.connect(csm=csm(300))
    query = tuple("x" * 200 for _ in range(3))
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, TOKEN, ("3",), query))
    bench.after(0.001)
    failed = bench.event(events.RequestFailed)
    assert (failed.reason, failed.detail) == ("refused", "the peer's Max-Message-Size")
    assert bench.sent() == []


# -- bodies --


@pytest.mark.spec("RFC 8323 6")
def test_how_bodies_are_cut_follows_the_csm():
    assert cut_stream(Capabilities()) == (6, 1024, 1024, None)
    assert cut_stream(Capabilities(1152, True)) == (6, 1024, 1024, None)
    assert cut_stream(Capabilities(1153, True)) == (7, 1024, 1025, None)
    assert cut_stream(Capabilities(65_536, True)) == (7, 64_512, 64_512, None)
    assert cut_stream(Capabilities(65_536, False)) == (6, 1024, 64_512, None)
    assert cut_stream(Capabilities(4_294_967_295, True)) == cut_stream(Capabilities(65_536, True))
    assert cut_stream(Capabilities(256, True)) == (3, 128, 128, None)


@pytest.mark.spec("RFC 8323 6")
def test_blocks_of_a_bert_upload_carry_many_thousand_bytes():
    bench = StreamBench()
    bench.connect(csm=csm(8192 + 1024))
    body = bytes(range(256)) * 80
    bench.submit(actions.SendRequest(1, DEVICE, codes.PUT, TOKEN, ("5", "0", "0"), payload=body))
    got = b""
    for number in (0, 8, 16):
        part = bench.one()
        block = read_stream_options(part.options).block1
        assert block == (number, number < 16, 7)
        assert len(got) == number * 1024
        got += part.payload
        if block.more:
            value = encode_block(block.number, True, 7)
            bench.feed(frame(codes.CONTINUE, TOKEN, options=((BLOCK1, value),)))
    assert got == body
    bench.feed(frame(codes.CHANGED, TOKEN, options=((BLOCK1, encode_block(16, False, 7)),)))
    assert bench.event(events.ResponseReceived).code == codes.CHANGED


@pytest.mark.spec("RFC 8323 6", "BLK-4")
def test_a_bert_upload_goes_on_in_smaller_blocks_when_the_peer_wants_them():
    bench = StreamBench()
    bench.connect(csm=csm(4096 + 1024))
    body = bytes(range(256)) * 40
    bench.submit(actions.SendRequest(1, DEVICE, codes.PUT, TOKEN, ("5", "0", "0"), payload=body))
    first = bench.one()
    assert len(first.payload) == 4096
    value = encode_block(0, True, 5)
    bench.feed(frame(codes.CONTINUE, TOKEN, options=((BLOCK1, value),)))
    following = bench.one()
    assert read_stream_options(following.options).block1 == (8, True, 5)
    assert following.payload == body[4096:4608]


@pytest.mark.spec("RFC 8323 6")
def test_bert_blocks_that_arrive_are_put_together_and_a_ragged_one_is_refused():
    bench = StreamBench()
    bench.connect()

    def part(number, more, payload):
        options = ((BLOCK1, encode_block(number, more, 7)),)
        return frame(codes.POST, b"t", ("dp",), options=options, payload=payload)

    bench.feed(part(0, True, b"a" * 3072))
    answer = bench.one()
    assert (answer.code, read_stream_options(answer.options).block1) == (codes.CONTINUE, (0, True, 7))
    bench.feed(part(3, True, b"b" * 1024))
    bench.sent()
    bench.feed(part(4, False, b"c" * 10))
    request = bench.event(events.RequestReceived)
    assert request.payload == b"a" * 3072 + b"b" * 1024 + b"c" * 10
    bench.feed(part(0, True, b"a" * 1500))
    assert bench.one().code == codes.BAD_REQUEST
    bench.feed(part(0, True, b""))
    assert bench.one().code == codes.BAD_REQUEST


@pytest.mark.spec("RFC 8323 6", "BLK-2")
def test_a_bert_download_asks_for_what_follows_the_bytes_it_has():
    bench = StreamBench()
    bench.connect()
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, TOKEN, ("3",)))
    bench.sent()
    etag = (4, b"e")
    bench.feed(frame(codes.CONTENT, TOKEN, options=(etag, (BLOCK2, encode_block(0, True, 7))), payload=b"a" * 5120))
    following = bench.one()
    assert read_stream_options(following.options).block2 == (5, False, 7)
    end = frame(codes.CONTENT, following.token, options=(etag, (BLOCK2, encode_block(5, False, 7))), payload=b"b" * 7)
    bench.feed(end)
    assert bench.event(events.ResponseReceived).payload == b"a" * 5120 + b"b" * 7


def test_without_block_wise_transfers_of_the_peer_no_block_is_a_bert_block():
    bench = StreamBench()
    bench.connect(csm=PLAIN_CSM)
    bench.submit(actions.SendRequest(1, DEVICE, codes.PUT, TOKEN, ("5", "0", "0"), payload=b"x" * 3000))
    assert read_stream_options(bench.one().options).block1 == (0, True, 6)
    bench.feed(frame(codes.GET, b"g", options=((BLOCK2, encode_block(0, False, 7)),)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=b"y" * 3000))
    answer = bench.one()
    assert read_stream_options(answer.options).block2 == (0, True, 6)
    assert len(answer.payload) == 1024


@pytest.mark.spec("RFC 8323 6", "BLK-1")
def test_a_large_answer_is_fetched_in_bert_blocks():
    bench = StreamBench()
    bench.connect(csm=csm(4096))
    body = bytes(range(256)) * 40
    bench.feed(frame(codes.GET, b"g", ("big",)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=body))
    first = bench.one()
    view = read_stream_options(first.options)
    assert view.block2 == (0, True, 7)
    assert len(first.payload) == 3072
    bench.feed(frame(codes.GET, b"h", ("big",), options=((BLOCK2, encode_block(3, False, 7)),)))
    second = bench.one()
    assert (read_stream_options(second.options).block2, second.payload) == ((3, True, 7), body[3072:6144])
    bench.feed(frame(codes.GET, b"i", ("big",), options=((BLOCK2, encode_block(9, False, 7)),)))
    last = bench.one()
    assert (read_stream_options(last.options).block2, last.payload) == ((9, False, 7), body[9216:])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 150_000),
    st.integers(0, 150_000),
    st.sampled_from([256, 300, 1152, 1153, 2000, 5000, 65_536]),
    st.sampled_from([256, 1152, 1153, 3000, 65_536]),
    st.integers(1, 2**32),
    st.sampled_from([1, 7, 1500, 70_000]),
)
def test_bodies_of_any_size_pass_between_ends_of_any_size_in_pieces_of_any_size(
    up_size, down_size, client_size, server_size, seed, piece
):
    if piece < 100:
        up_size, down_size = up_size % 3000, down_size % 3000
    line = pair(client_size, server_size, seed, piece)
    up, down = (bytes((size * 7 + each) & 255 for each in range(size)) for size in (up_size, down_size))
    answers, requests = [], []

    def on_server(event):
        if isinstance(event, events.RequestReceived):
            requests.append(event.payload)
            line.server.submit(actions.Respond(event.exchange, codes.CONTENT, payload=down), line.now)

    def on_client(event):
        if not isinstance(event, events.PeerReacted):
            answers.append(event)

    line.client.submit(actions.SendRequest(1, SERVER, codes.POST, TOKEN, ("up",), payload=up), 0.0)
    line.run(on_client, on_server)
    assert requests == [up]
    (answer,) = answers
    assert isinstance(answer, events.ResponseReceived), answer
    assert answer.payload == down
    # No message was larger than its receiver takes, else there would be no connection.
    assert (line.client.peers, line.server.peers) == (1, 1)


def test_a_body_that_fits_the_peer_goes_whole():
    line = pair()
    seen = []

    def on_server(event):
        seen.append(event)
        line.server.submit(actions.Respond(event.exchange, codes.CONTENT, payload=b"d" * 60_000), 0.0)

    answers = []
    line.client.submit(actions.SendRequest(1, SERVER, codes.POST, TOKEN, ("up",), payload=b"u" * 60_000), 0.0)
    line.run(answers.append, on_server)
    assert not any(number in (BLOCK1, BLOCK2, SIZE1) for number, _ in (*seen[0].options, *answers[0].options))
    assert (len(seen[0].payload), len(answers[0].payload)) == (60_000, 60_000)


# -- observations --


def observing(bench, first=b"1"):
    bench.submit(actions.SendRequest(9, DEVICE, codes.GET, TOKEN, ("3", "0", "9"), accept=112, observe=0))
    bench.sent()
    bench.feed(frame(codes.CONTENT, TOKEN, options=((OBSERVE, b"\x05"),), payload=first))
    assert bench.event(events.ResponseReceived).observe == 5


@pytest.mark.spec("OB-2", "RFC 8323 7.1")
def test_the_order_of_notifications_is_that_of_the_stream_whatever_their_numbers():
    bench = StreamBench()
    bench.connect()
    observing(bench)
    for number, value in ((5, b"2"), (2, b"3"), (0, b"4")):
        bench.feed(frame(codes.CONTENT, TOKEN, options=((OBSERVE, encode_uint(number)),), payload=value))
        notification = bench.event(events.NotificationReceived)
        assert (notification.payload, notification.confirmable, notification.receipt) == (value, False, b"")
        bench.submit(actions.AcceptNotification(notification.exchange))
    assert bench.sent() == []


@pytest.mark.spec("OB-5", "RFC 8323 7.4", "ETS 303")
def test_a_forgotten_observation_is_cancelled_by_a_request_since_there_is_no_reset():
    bench = StreamBench()
    bench.connect()
    observing(bench)
    bench.submit(actions.ForgetObservation(DEVICE, TOKEN))
    cancel = bench.one()
    view = read_stream_options(cancel.options)
    assert (cancel.code, cancel.token, view.observe, view.path, view.accept) == (
        codes.GET,
        TOKEN,
        1,
        ("3", "0", "9"),
        112,
    )
    # What was under way, and the answer to the cancellation, mean nothing; what comes later is asked about.
    bench.feed(frame(codes.CONTENT, TOKEN, options=((OBSERVE, b"\x06"),)), frame(codes.CONTENT, TOKEN))
    assert bench.events() == []
    bench.feed(frame(codes.CONTENT, TOKEN, options=((OBSERVE, b"\x07"),)))
    question = bench.event(events.TokenQuestion)
    bench.submit(actions.RejectToken(question.exchange))
    assert bench.sent() == []
    assert bench.engine.is_connected(DEVICE)


@pytest.mark.spec("OB-5")
def test_a_cancellation_from_outside_is_answered_like_every_request():
    bench = StreamBench()
    bench.connect()
    observing(bench)
    bench.submit(actions.SendRequest(10, DEVICE, codes.GET, TOKEN, ("3", "0", "9"), observe=1))
    assert read_stream_options(bench.one().options).observe == 1
    bench.feed(frame(codes.CONTENT, TOKEN, options=((OBSERVE, b"\x06"),), payload=b"last"))
    assert bench.event(events.NotificationReceived).payload == b"last"
    bench.feed(frame(codes.CONTENT, TOKEN, payload=b"plain"))
    assert bench.event(events.ResponseReceived).handle == 10


@pytest.mark.spec("OB-7")
def test_observations_end_with_their_connection():
    bench = StreamBench()
    bench.connect()
    observing(bench)
    bench.feed(b"")
    assert isinstance(bench.event(events.ConnectionLost), events.ConnectionLost)
    bench.connect()
    bench.feed(frame(codes.CONTENT, TOKEN, options=((OBSERVE, b"\x06"),)))
    question = bench.event(events.TokenQuestion)
    # The store's answer may come when the connection is gone.
    bench.feed(b"")
    bench.submit(actions.AdoptObservation(9, DEVICE, TOKEN, question.exchange))
    assert [type(each) for each in bench.events()] == [events.ConnectionLost, events.Refused]


@pytest.mark.spec("BLK-11")
def test_what_a_lost_connection_held_is_free_again():
    bench = StreamBench(limits=Limits(questions_total=1, bodies_total_bytes=5000))
    for _ in range(3):
        bench.connect()
        bench.feed(frame(codes.CONTENT, b"unknown", options=((OBSERVE, b"\x06"),)))
        assert isinstance(bench.event(events.TokenQuestion), events.TokenQuestion)
        bench.feed(frame(codes.POST, b"t", ("dp",), options=((BLOCK1, encode_block(0, True, 7)),), payload=b"a" * 4096))
        assert bench.one().code == codes.CONTINUE
        bench.feed(b"")
        bench.events()


def test_the_observed_side_says_everything_once_and_takes_it_for_received():
    bench = StreamBench()
    bench.connect()
    bench.feed(frame(codes.GET, TOKEN, ("3", "0", "9"), options=((OBSERVE, b""),)))
    request = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(request.exchange, codes.CONTENT, options=((OBSERVE, b""),), payload=b"1"))
    bench.submit(
        actions.SendNotification(1, DEVICE, TOKEN, codes.CONTENT, 1, 0, b"2", confirmable=True),
        actions.SendNotification(2, DEVICE, TOKEN, codes.CONTENT, 2, 0, b"3"),
    )
    assert [each.payload for each in bench.sent()] == [b"1", b"2", b"3"]
    assert bench.event(events.NotificationAcked).handle == 1


@pytest.mark.spec("BLK-10")
def test_the_rest_of_a_large_notification_is_fetched():
    bench = StreamBench()
    bench.connect()
    observing(bench)
    etag, block = (4, b"e"), (BLOCK2, encode_block(0, True, 7))
    bench.feed(frame(codes.CONTENT, TOKEN, options=((OBSERVE, b"\x06"), etag, block), payload=b"a" * 2048))
    fetch = bench.one()
    assert read_stream_options(fetch.options).block2 == (2, False, 7)
    assert read_stream_options(fetch.options).observe is None
    bench.feed(frame(codes.CONTENT, fetch.token, options=(etag, (BLOCK2, encode_block(2, False, 7))), payload=b"b"))
    assert bench.event(events.NotificationReceived).payload == b"a" * 2048 + b"b"
