"""Real sockets on loopback: who sent, where it was sent to, and answers from there."""

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from stellwerk.core.ids import PeerId
from stellwerk.net.udp import CannotBind, UdpSocket


def has_address(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_address("::1"), reason="no IPv6 on this host")
needs_second_address = pytest.mark.skipif(not has_address("127.0.0.2"), reason="127.0.0.2 cannot be bound here")


@contextlib.contextmanager
def client(host: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.bind((host, 0))
        made.settimeout(5)
        yield made


@contextlib.contextmanager
def bound(host: str, port: int = 0) -> Iterator[UdpSocket]:
    made = UdpSocket(host, port)
    try:
        yield made
    finally:
        made.close()


def received(server: UdpSocket) -> tuple[bytes, PeerId]:
    assert select.select([server.raw], [], [], 5)[0], "nothing came"
    found = server.receive()
    assert found is not None
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_a_datagram_comes_with_both_addresses_and_its_answer_goes_back(host: str) -> None:
    with bound(host) as server, client(host) as device:
        assert server.receive() is None
        device.sendto(b"hello", (host, server.port))
        datagram, peer = received(server)
        assert datagram == b"hello"
        assert peer == PeerId("udp", host, device.getsockname()[1], host, server.port)
        assert server.send(b"welcome", peer)
        answer, source = device.recvfrom(100)
        assert (answer, source[:2]) == (b"welcome", (host, server.port))
        assert server.receive() is None


@pytest.mark.spec("MSG-11", "Design 7")
@needs_second_address
@pytest.mark.parametrize("wildcard", ["0.0.0.0", "0"])
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2"])
def test_a_wildcard_answers_from_the_address_that_was_asked(wildcard: str, asked: str) -> None:
    with bound(wildcard) as server, client("127.0.0.1") as device:
        assert server.wildcard
        assert server.host == "0.0.0.0"
        device.sendto(b"hello", (asked, server.port))
        _, peer = received(server)
        assert (peer.local_host, peer.local_port) == (asked, server.port)
        assert server.send(b"welcome", peer)
        assert device.recvfrom(100) == (b"welcome", (asked, server.port))


@pytest.mark.spec("MSG-11")
@needs_ipv6
@pytest.mark.parametrize("wildcard", ["::", "::0"])
def test_an_ipv6_wildcard_answers_from_the_address_that_was_asked(wildcard: str) -> None:
    with bound(wildcard) as server, client("::1") as device:
        device.sendto(b"hello", ("::1", server.port))
        _, peer = received(server)
        assert peer.local_host == "::1"
        assert server.send(b"welcome", peer)
        assert device.recvfrom(100)[0] == b"welcome"


@needs_ipv6
def test_both_families_can_have_the_same_port() -> None:
    with bound("0.0.0.0") as four, bound("::", four.port) as six:
        assert four.port == six.port
        with client("127.0.0.1") as device:
            device.sendto(b"4", ("127.0.0.1", four.port))
            assert received(four)[0] == b"4"
        assert six.receive() is None


def test_an_empty_and_a_large_datagram_arrive_whole() -> None:
    with bound("127.0.0.1") as server, client("127.0.0.1") as device:
        for payload in (b"", b"x" * 60_000):
            device.sendto(payload, ("127.0.0.1", server.port))
            assert received(server)[0] == payload


def test_sockets_that_share_a_buffer_keep_their_datagrams_apart() -> None:
    buffer = bytearray(65_536)
    one, two = UdpSocket("127.0.0.1", 0, buffer), UdpSocket("127.0.0.1", 0, buffer)
    with client("127.0.0.1") as device:
        device.sendto(b"first", ("127.0.0.1", one.port))
        device.sendto(b"2", ("127.0.0.1", two.port))
        first, second = received(one), received(two)
        assert (first[0], second[0]) == (b"first", b"2")
    one.close()
    two.close()


def test_a_datagram_the_kernel_does_not_take_is_said_to_be_lost() -> None:
    with bound("127.0.0.1") as server:
        peer = PeerId("udp", "127.0.0.1", server.port, "127.0.0.1", server.port)
        assert not server.send(b"x" * 70_000, peer)
        assert not server.send(b"x", peer._replace(remote_port=0))


def test_a_port_that_is_taken_or_an_address_that_is_not_ours_says_so() -> None:
    with bound("127.0.0.1") as server:
        with pytest.raises(CannotBind) as caught:
            UdpSocket("127.0.0.1", server.port)
        assert (caught.value.host, caught.value.port) == ("127.0.0.1", server.port)
        assert "choose another address or port" in str(caught.value)
    for host in ("192.0.2.1", "no..such..host"):
        with pytest.raises(CannotBind):
            UdpSocket(host, 0)


def test_an_error_of_an_earlier_send_does_not_end_the_reading() -> None:
    with client("127.0.0.1") as gone:
        dead = gone.getsockname()[1]
    with bound("127.0.0.1") as server, client("127.0.0.1") as device:
        server.send(b"x", PeerId("udp", "127.0.0.1", dead, "127.0.0.1", server.port))
        device.sendto(b"hello", ("127.0.0.1", server.port))
        found = received(server)
        if not found[1].remote_port:
            found = received(server)
        assert found[0] == b"hello"
