"""Datagrams with somebody else's address on them: what they move, and what they make us send."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message, encode_message
from stellwerk.coap.options import ECHO
from stellwerk.core.ids import PeerId
from tests.scenario.stack import HOME, Stack, ack, after, con
from tests.scenario.test_commands import read, write
from tests.scenario.test_registration import LINKS, REGISTER, register
from tests.scenario.test_storms import answer, responses

VICTIM = PeerId("udp", "198.51.100.7", 53, "192.0.2.100", 5683)


@pytest.fixture
def careful() -> Iterator[Stack]:
    """A server that wants proof of an address before it believes a move."""
    made = Stack(prove_moves=True)
    yield made
    made.close()


def echo_of(message: Message) -> bytes:
    return next(value for number, value in message.options if number == ECHO)


def spent(stack: Stack, peer: PeerId) -> int:
    """Bytes that went to ``peer`` and nobody took yet."""
    return sum(len(encode_message(message)) for to, message in stack.out if to == peer)


@pytest.mark.spec("LwM2M-contract 15", "Design 7")
def test_a_forged_update_makes_us_send_its_victim_at_most_three_times_its_bytes(stack: Stack) -> None:
    """The attacker knows the location. A large Write is out when it writes the victim's address on an Update."""
    device = stack.provision("dev1")
    location = register(stack)
    stack.post(device, write("/3/0/15", "x" * 700), *(read(f"/3/0/{each}") for each in range(5)))
    stack.out.clear()
    forged = con(codes.POST, location, mid=900, token=b"1234", peer=VICTIM)
    stack << forged << after(300)
    assert spent(stack, VICTIM) <= 3 * len(encode_message(forged.message))


@pytest.mark.spec("R-14", "T-4")
def test_a_device_gets_its_registration_back_with_its_next_update(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack << con(codes.POST, location, mid=900, peer=VICTIM)
    stack << con(codes.POST, location, mid=2)
    stack.out.clear()
    stack.post(device, read("/3/0/0"))
    peer, request = stack.out.pop(0)
    assert peer == HOME
    answer(stack, request)
    assert responses(stack, device) == [(200, "ok")]


@pytest.mark.spec("RFC 9175 2.3", "LwM2M-contract 1.7", "R-14")
def test_where_proof_is_wanted_a_forged_update_moves_nothing(careful: Stack) -> None:
    device = careful.provision("dev1")
    location = register(careful)
    forged = con(codes.POST, location, mid=900, token=b"1234", peer=VICTIM)
    careful << forged
    to, refused = careful.out.pop(0)
    assert (to, refused.code) == (VICTIM, codes.UNAUTHORIZED)
    assert len(encode_message(refused)) <= 3 * len(encode_message(forged.message))
    # The attacker did not receive the victim's Echo, and its own is no good there.
    careful << con(codes.POST, location, mid=901, token=b"1234", peer=VICTIM, extra=[(ECHO, b"guessed!")])
    assert careful.take().code == codes.UNAUTHORIZED
    careful.post(device, read("/3/0/0"))
    peer, request = careful.out.pop(0)
    assert peer == HOME
    answer(careful, request)
    assert responses(careful, device) == [(200, "ok")]


@pytest.mark.spec("RFC 9175 2.3", "LwM2M-contract 1.7", "R-14")
def test_where_proof_is_wanted_a_device_that_repeats_the_echo_moves(careful: Stack) -> None:
    device = careful.provision("dev1")
    location = register(careful)
    careful << con(codes.POST, location + "?lt=600", mid=2, peer=VICTIM)
    echo = echo_of(careful.take())
    careful << con(codes.POST, location + "?lt=600", mid=3, peer=VICTIM, extra=[(ECHO, echo)])
    careful >> ack(codes.CHANGED, mid=3, peer=VICTIM)
    registration = careful.registry.of(device.device_id).registration  # type: ignore[union-attr]
    assert (registration.peer, registration.lifetime_s, registration.proven) == (VICTIM, 600, True)
    careful.post(device, read("/3/0/0"))
    assert careful.out.pop(0)[0] == VICTIM
    # At its own address it needs no proof.
    careful << con(codes.POST, location, mid=4, peer=VICTIM) >> ack(codes.CHANGED, mid=4, peer=VICTIM)


@pytest.mark.spec("RFC 9175 2.3", "LwM2M-contract 1.7")
def test_where_proof_is_wanted_a_forged_deregister_ends_nothing(careful: Stack) -> None:
    careful.provision("dev1")
    location = register(careful)
    careful << con(codes.DELETE, location, mid=2, peer=VICTIM)
    echo = echo_of(careful.take())
    careful << con(codes.DELETE, location, mid=3, peer=VICTIM, extra=[(ECHO, b"guessed!")])
    assert careful.take().code == codes.UNAUTHORIZED
    careful << con(codes.POST, location, mid=4) >> ack(codes.CHANGED, mid=4)
    careful << con(codes.DELETE, location, mid=5, peer=VICTIM, extra=[(ECHO, echo)])
    careful >> ack(codes.DELETED, mid=5, peer=VICTIM)
    assert careful.registrations() == []


@pytest.mark.spec("RFC 9175 2.3", "R-9")
def test_where_proof_is_wanted_nobody_registers_over_a_live_registration_from_an_unproven_address(
    careful: Stack,
) -> None:
    careful.provision("dev1")
    location = register(careful)
    careful << con(codes.POST, REGISTER, mid=900, payload=LINKS, content_format=40, peer=VICTIM)
    refused = careful.take()
    assert refused.code == codes.UNAUTHORIZED
    careful << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    proof: list[Any] = [(ECHO, echo_of(refused))]
    careful << con(codes.POST, REGISTER, mid=901, payload=LINKS, content_format=40, peer=VICTIM, extra=proof)
    assert careful.take().code == codes.CREATED
    # From its own address it may at any time.
    register(careful, mid=902, peer=VICTIM)


@pytest.mark.spec("RFC 9175 2.3")
def test_where_proof_is_wanted_it_is_also_wanted_of_who_is_only_in_the_store(careful: Stack) -> None:
    careful.provision("dev1")
    location = register(careful)
    again = Stack(store=careful.store, clock=careful.clock, seed=1, prove_moves=True)
    again << con(codes.POST, REGISTER, mid=900, payload=LINKS, content_format=40, peer=VICTIM)
    assert again.take().code == codes.UNAUTHORIZED
    again << con(codes.POST, location, mid=901, peer=VICTIM)
    assert again.take().code == codes.UNAUTHORIZED
    again << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    again.close()


@pytest.mark.spec("LwM2M-contract 13")
def test_clients_without_echo_may_move_unless_proof_is_wanted(stack: Stack) -> None:
    stack.provision("dev1")
    location = register(stack)
    stack << con(codes.POST, location, mid=2, peer=VICTIM) >> ack(codes.CHANGED, mid=2, peer=VICTIM)
