"""Connections: how they begin, what keeps them, what ends them, and how many there may be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_wire import CSM, DEVICE, OTHER, PLAIN_CSM, StreamBench, frame

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import encode_options
from stellwerk.coap.tcp import signalling
from stellwerk.coap.tcp.connection import StreamLimits
from stellwerk.coap.tcp.endpoint import AdoptConnection, ReleaseConnections
from stellwerk.coap.tcp.frames import encode_frame

REGISTER = frame(codes.POST, path=("rd",), query=("ep=dev1",), content_format=40, payload=b"</3/0>")


def signal(code, *options, token=b"", payload=b""):
    return encode_frame(code, token, encode_options(tuple(options)), payload)


def aborted(bench, why):
    """The last that was said is an Abort with ``why``, then the connection is closed."""
    out, closed = bench.ended()
    assert closed
    assert out[-1].code == signalling.ABORT
    assert why in signalling.decode_abort(out[-1])
    assert bench.event(events.ConnectionLost).peer == DEVICE
    assert not bench.engine.is_connected(DEVICE)
    return out[-1]


@pytest.mark.spec("RFC 8323 5.3", "LwM2M-contract 1.8")
def test_our_csm_leaves_at_once_and_theirs_makes_the_connection_ready():
    bench = StreamBench()
    bench.submit(AdoptConnection(DEVICE))
    assert bench.engine.take_datagrams() == [(DEVICE, CSM)]
    assert not bench.engine.is_connected(DEVICE)
    bench.feed(CSM)
    assert bench.engine.is_connected(DEVICE)
    assert bench.sent() == []


@pytest.mark.spec("RFC 8323 5.3", "LwM2M-contract 1.8")
@pytest.mark.parametrize("first", [REGISTER, signal(signalling.PING), signal(signalling.RELEASE)])
def test_whatever_comes_before_the_csm_ends_the_connection(first):
    bench = StreamBench()
    bench.submit(AdoptConnection(DEVICE))
    bench.feed(first + CSM)
    aborted(bench, "the first message has to be a CSM")


@pytest.mark.spec("RFC 8323 5.3")
def test_without_a_csm_in_time_the_connection_ends():
    bench = StreamBench()
    bench.submit(AdoptConnection(DEVICE))
    bench.after(9.9)
    assert bench.engine.peers == 1
    bench.after(0.2)
    aborted(bench, "no CSM within 10 s")


@pytest.mark.spec("RFC 8323 5.6", "LwM2M-contract 1.8")
def test_a_critical_option_that_a_csm_must_not_have_is_named_in_the_abort():
    bench = StreamBench()
    bench.submit(AdoptConnection(DEVICE))
    bench.feed(signal(signalling.CSM, (5, b"x")))
    abort = aborted(bench, "critical option 5 is unknown in a CSM")
    assert abort.options == ((2, b"\x05"),)


@pytest.mark.spec("RFC 8323 5.2")
@pytest.mark.parametrize("code", [signalling.PING, signalling.PONG, signalling.RELEASE, 0xFF])
def test_a_signal_that_is_not_understood_ends_the_connection(code):
    bench = StreamBench()
    bench.connect()
    bench.feed(signal(code, (9, b"")))
    assert aborted(bench, "unknown").options == ()


@pytest.mark.spec("RFC 8323 3.4")
def test_empty_messages_mean_nothing_at_any_time():
    bench = StreamBench()
    bench.submit(AdoptConnection(DEVICE))
    bench.feed(b"\x00\x00" * 3 + CSM + b"\x00\x00")
    assert [each.code for each in bench.sent()] == [signalling.CSM]
    assert bench.engine.is_connected(DEVICE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x09\x01", "a token longer than 8 bytes"),
        (b"\x10\x02\xff", "a payload marker without payload"),
        (b"\x10\x02\xf0", "an option delta of 15"),
        (b"\xf0\x00\xff\xff\xff", "of at most 65536"),
    ],
)
def test_bytes_that_are_no_message_end_the_connection_and_what_came_before_counts(data, why):
    bench = StreamBench()
    bench.connect()
    bench.feed(REGISTER + data + REGISTER)
    request, lost = bench.events()
    assert isinstance(request, events.RequestReceived)
    assert isinstance(lost, events.ConnectionLost)
    assert lost.reason == "format"
    out, closed = bench.ended()
    assert closed
    assert why in signalling.decode_abort(out[-1])
    # The answer that is being made comes to nothing, without complaint.
    bench.submit(actions.Respond(request.exchange, codes.CREATED))
    assert bench.engine.take_datagrams() == []


def test_a_reserved_code_is_passed_over():
    bench = StreamBench()
    bench.connect()
    bench.feed(frame(0x21), frame(0xC1))
    assert [each.reason for each in bench.events()] == ["code", "code"]
    assert bench.engine.is_connected(DEVICE)


# -- ping --


@pytest.mark.spec("RFC 8323 5.4")
def test_a_ping_gets_its_pong_at_once_and_without_custody():
    bench = StreamBench()
    bench.connect()
    bench.feed(REGISTER, signal(signalling.PING, token=b"abc"))
    pong = bench.one()
    assert (pong.code, pong.token, pong.options) == (signalling.PONG, b"abc", ())


@pytest.mark.spec("RFC 8323 5.4.1")
def test_a_ping_with_custody_gets_its_pong_when_all_before_it_is_dealt_with():
    bench = StreamBench()
    bench.connect()
    bench.feed(REGISTER, frame(codes.POST, b"2", ("dp",)), signal(signalling.PING, (2, b""), token=b"abc"))
    first, second = (each.exchange for each in bench.events())
    bench.submit(actions.Respond(second, codes.CHANGED))
    assert [each.code for each in bench.sent()] == [codes.CHANGED]
    bench.feed(frame(codes.POST, b"3", ("dp",)))
    bench.submit(actions.Respond(first, codes.CREATED))
    answer, pong = bench.sent()
    assert (answer.code, pong.code, pong.token, pong.options) == (
        codes.CREATED,
        signalling.PONG,
        b"abc",
        ((2, b""),),
    )
    # With nothing open it is Custody at once.
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    bench.sent()
    bench.feed(signal(signalling.PING, (2, b""), token=b"d"))
    assert bench.one().options == ((2, b""),)


def test_pongs_that_wait_are_bounded():
    bench = StreamBench(streams=StreamLimits(pending_pongs=2))
    bench.connect()
    bench.feed(REGISTER, *(signal(signalling.PING, (2, b""), token=bytes((each,))) for each in range(5)))
    assert [(each.token, each.options) for each in bench.sent()] == [(b"\x02", ()), (b"\x03", ()), (b"\x04", ())]


@pytest.mark.spec("RFC 8323 5.4")
def test_a_silent_peer_is_asked_and_then_given_up():
    bench = StreamBench(streams=StreamLimits(ping_after_s=300, pong_within_s=30))
    bench.connect()
    bench.feed(REGISTER)
    bench.events()
    bench.after(299)
    assert bench.sent() == []
    bench.after(1)
    ping = bench.one()
    assert ping.code == signalling.PING
    bench.after(29)
    bench.feed(signal(signalling.PONG, token=ping.token))
    bench.after(299)
    assert bench.sent() == []
    bench.after(1)
    assert bench.one().code == signalling.PING
    bench.after(30)
    _, closed = bench.ended()
    assert closed
    assert bench.event(events.ConnectionLost).reason == "silent"
    assert bench.engine.deadline() is None


def test_whoever_speaks_is_not_asked():
    bench = StreamBench(streams=StreamLimits(ping_after_s=300))
    bench.connect()
    for _ in range(10):
        bench.feed(frame(codes.POST, path=("dp",)))
        bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
        bench.after(250)
    assert {each.code for each in bench.sent()} == {codes.CHANGED}


def test_without_pings_a_silent_connection_stays():
    bench = StreamBench(streams=StreamLimits(ping_after_s=None))
    bench.connect()
    bench.feed(REGISTER)
    bench.after(1_000_000)
    assert bench.engine.is_connected(DEVICE)
    assert bench.engine.deadline() is None


# -- release and abort --


@pytest.mark.spec("RFC 8323 5.5")
def test_after_a_release_what_is_outstanding_ends_and_nothing_new_begins():
    bench = StreamBench()
    bench.connect()
    bench.feed(REGISTER)
    request = bench.event(events.RequestReceived)
    read = actions.SendRequest(1, DEVICE, codes.GET, b"aaaa", ("3", "0"))
    waiting = actions.SendRequest(2, DEVICE, codes.GET, b"bbbb", ("3", "0"))
    bench.submit(read, waiting)
    bench.feed(signal(signalling.RELEASE, (2, b"b.example:5683"), (4, b"\x0a")))
    failed = bench.event(events.RequestFailed)
    assert (failed.handle, failed.reason) == (2, "unconnected")
    assert not bench.engine.is_connected(DEVICE)
    bench.submit(actions.SendRequest(3, DEVICE, codes.GET, b"cccc", ("3", "0")))
    assert bench.event(events.RequestFailed).reason == "unconnected"
    bench.submit(actions.Respond(request.exchange, codes.CREATED))
    bench.feed(frame(codes.CONTENT, b"aaaa", payload=b"x"))
    assert bench.event(events.ResponseReceived).payload == b"x"
    bench.after(0.001)
    out, closed = bench.ended()
    assert closed
    assert [each.code for each in out] == [codes.GET, codes.CREATED]
    lost = bench.event(events.ConnectionLost)
    assert (lost.reason, lost.alternatives, lost.hold_off_s) == ("released", ("b.example:5683",), 10)


def test_a_released_connection_does_not_wait_for_ever():
    bench = StreamBench()
    bench.connect()
    bench.feed(REGISTER, signal(signalling.RELEASE))
    bench.events()
    bench.after(92)
    assert bench.engine.peers == 1
    bench.after(2)
    assert bench.engine.peers == 0


def test_we_take_leave_of_everybody():
    bench = StreamBench()
    bench.connect()
    bench.connect(OTHER)
    bench.submit(ReleaseConnections(hold_off_s=5))
    for peer in (DEVICE, OTHER):
        out = [each for each in bench.engine.take_datagrams() if each[0] == peer] if peer is DEVICE else None
        if out is not None:
            assert [data for _, data in out] == [signal(signalling.RELEASE, (4, b"\x05")), b""]
    assert bench.engine.peers == 0
    assert [each.reason for each in bench.events()] == ["released", "released"]


@pytest.mark.spec("RFC 8323 5.6")
def test_an_abort_ends_all_with_the_peers_words():
    bench = StreamBench()
    bench.connect()
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, b"aaaa", ("3", "0")))
    bench.feed(signal(signalling.ABORT, payload=b"out of memory"))
    failed, lost = bench.events()
    assert (failed.reason, failed.detail) == ("lost", "out of memory")
    assert (lost.reason, lost.detail) == ("aborted", "out of memory")
    assert bench.engine.take_datagrams()[-1] == (DEVICE, b"")


# -- bounds --


def test_a_connection_too_many_is_closed_at_once():
    bench = StreamBench(streams=StreamLimits(connections_total=1))
    bench.connect()
    bench.submit(AdoptConnection(OTHER))
    assert bench.engine.take_datagrams() == [(OTHER, b"")]
    assert bench.event(events.Refused).reason == "connections_total"
    bench.feed(b"")
    bench.submit(AdoptConnection(OTHER))
    assert bench.engine.take_datagrams() == [(OTHER, CSM)]


def test_one_address_cannot_have_them_all():
    bench = StreamBench(streams=StreamLimits(connections_per_address=2))
    for port in (1, 2, 3):
        bench.submit(AdoptConnection(DEVICE._replace(remote_port=port)))
    assert bench.engine.peers == 2
    assert bench.event(events.Refused).reason == "connections_per_address"
    bench.submit(AdoptConnection(OTHER))
    assert bench.engine.peers == 3
    bench.feed(b"", peer=DEVICE._replace(remote_port=1))
    bench.submit(AdoptConnection(DEVICE._replace(remote_port=4)))
    assert bench.engine.peers == 3


def test_of_ipv6_a_network_counts_as_one_address():
    bench = StreamBench(streams=StreamLimits(connections_per_address=1))
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fe80::1%eth0"):
        bench.submit(AdoptConnection(DEVICE._replace(remote_host=host)))
    assert bench.engine.peers == 3
    assert bench.event(events.Refused).peer.remote_host == "2001:db8::2"


def test_of_connections_that_say_nothing_the_oldest_makes_room():
    bench = StreamBench(streams=StreamLimits(half_open=2))
    first, second, third = (DEVICE._replace(remote_port=each) for each in (1, 2, 3))
    for peer in (first, second, third):
        bench.submit(AdoptConnection(peer))
    assert bench.event(events.ConnectionLost).peer == first
    # Who has said what it takes does not count any more.
    bench.feed(CSM, peer=second)
    bench.submit(AdoptConnection(DEVICE))
    assert bench.events() == []
    assert bench.engine.peers == 3


def test_a_connection_is_there_to_say_something():
    bench = StreamBench()
    bench.connect()
    bench.after(59)
    assert bench.engine.peers == 1
    bench.after(2)
    aborted(bench, "nothing said within 60 s")


def test_a_message_has_a_minute_to_arrive():
    bench = StreamBench()
    bench.connect()
    bench.feed(REGISTER)
    bench.events()
    bench.after(50)
    for at in range(20):
        bench.feed(REGISTER[at : at + 1])
        bench.after(3.2)
        if not bench.engine.peers:
            break
    assert at >= 18
    aborted(bench, "took longer than 60 s")


def test_the_largest_of_the_unfinished_messages_gives_way_when_there_are_too_many_bytes():
    bench = StreamBench(streams=StreamLimits(buffered_total_bytes=50_000))
    peers = [DEVICE._replace(remote_port=each) for each in (1, 2, 3)]
    large = frame(codes.POST, path=("dp",), payload=b"p" * 60_000)
    for peer, size in zip(peers, (10_000, 30_000, 9_000), strict=True):
        bench.connect(peer)
        bench.feed(large[:size], peer=peer)
    assert bench.events() == []
    bench.feed(large[9_000:11_000], peer=peers[2])
    assert bench.event(events.ConnectionLost).peer == peers[1]
    bench.feed(large[10_000:], peer=peers[0])
    assert bench.event(events.RequestReceived).payload == b"p" * 60_000


def test_requests_that_nobody_has_answered_yet_are_bounded_and_the_next_is_told_to_come_again():
    from stellwerk.coap.parameters import Limits

    bench = StreamBench(limits=Limits(pending_per_peer=3))
    bench.connect()
    bench.feed(*(frame(codes.POST, bytes((each,)), ("dp",)) for each in range(5)))
    assert [(each.token, each.code) for each in bench.sent()] == [(b"\x03", 0xA3), (b"\x04", 0xA3)]
    found = bench.events()
    assert [type(each).__name__ for each in found].count("RequestReceived") == 3


def test_another_connection_between_the_same_ends_means_that_the_old_one_is_gone():
    bench = StreamBench()
    bench.connect()
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, b"aaaa", ("3", "0")))
    bench.submit(AdoptConnection(DEVICE))
    failed, lost = bench.events()
    assert (failed.reason, lost.reason) == ("lost", "replaced")
    assert bench.engine.peers == 1
    bench.feed(CSM)
    assert bench.engine.is_connected(DEVICE)


def test_what_comes_from_nowhere_is_passed_over():
    bench = StreamBench()
    bench.feed(CSM, b"", REGISTER)
    bench.submit(actions.Respond(7, codes.CREATED), actions.VerifyPeer(DEVICE), actions.ForgetPeer(DEVICE))
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, b"aaaa", ("3", "0")))
    assert bench.engine.take_datagrams() == []
    assert [type(each) for each in bench.events()] == [events.Refused, events.RequestFailed]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from(
                [CSM, PLAIN_CSM, REGISTER, signal(signalling.PING), signal(signalling.RELEASE), b"\x00\x00"]
            ),
            st.builds(
                lambda code, token, number, value, payload: encode_frame(
                    code, token, encode_options(((number, value),)), payload
                ),
                st.integers(0, 255),
                st.binary(max_size=8),
                st.integers(0, 300),
                st.binary(max_size=4),
                st.binary(max_size=20),
            ),
        ),
        max_size=20,
    )
)
def test_any_bytes_leave_the_engine_sound(parts):
    bench = StreamBench()
    bench.submit(AdoptConnection(DEVICE))
    bench.feed(CSM)
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, b"\x0b\xad\xca\xfe", ("3", "0", "9"), observe=0))
    answered = []
    for part in parts:
        bench.feed(part or b"\x00")
        for event in bench.events():
            if isinstance(event, events.RequestReceived):
                bench.submit(actions.Respond(event.exchange, codes.CHANGED))
            elif isinstance(event, events.TokenQuestion):
                bench.submit(actions.RejectToken(event.exchange))
            elif isinstance(event, events.NotificationReceived):
                bench.submit(actions.AcceptNotification(event.exchange))
            elif isinstance(event, events.RequestFailed | events.ResponseReceived):
                answered.append(event.handle)
        bench.after(1)
    bench.feed(b"")
    answered += [each.handle for each in bench.events() if isinstance(each, events.RequestFailed)]
    # However it ended, it ended once, and nothing is left.
    assert answered == [1]
    assert bench.engine.peers == 0
    assert bench.engine.deadline() is None
