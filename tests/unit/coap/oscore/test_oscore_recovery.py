"""Either end starts anew: with its numbers stored (App. B.1), or with nothing (App. B.2)."""

import pytest
from oscore_wire import NUMBER, SECRET, End, SeededEntropy, Talk, device_material, server_material

from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import decode_message
from stellwerk.coap.options import OSCORE
from stellwerk.coap.oscore.context import LAST_NUMBER, decode_bytes
from stellwerk.coap.oscore.contexts import NUMBERS_AHEAD
from stellwerk.coap.oscore.option import OscoreOption, decode_option
from stellwerk.coap.oscore.recovery import Recovery


def options_of(sent: list[bytes]) -> list[OscoreOption]:
    found = [dict(decode_message(data).options).get(OSCORE) for data in sent]
    return [decode_option(value) for value in found if value is not None]


def numbers_of(sent: list[bytes]) -> list[int]:
    return [int.from_bytes(option.piv, "big") for option in options_of(sent) if option.piv is not None]


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 7.2.1", "LwM2M-contract 2.6", "LwM2M-contract 15")
def test_after_a_restart_no_number_is_used_again():
    talk = Talk()
    talk.ask_server()
    talk.ask_device()
    before = numbers_of(talk.sent_by_server)
    talk.restart_server()
    talk.ask_server(2)
    talk.ask_device(2)
    after = numbers_of(talk.sent_by_server)[len(before) :]
    assert len(before) == len(set(before))
    assert after
    assert min(after) >= NUMBERS_AHEAD > max(before)


@pytest.mark.spec("RFC 8613 B.1.2", "LwM2M-contract 2.6")
def test_after_a_restart_what_was_served_before_is_not_served_again():
    talk = Talk()
    talk.ask_server(code=codes.POST)
    served = list(talk.recorded)
    talk.restart_server()
    for data in served:
        talk.feed(True, data)
    talk.run(1.0)
    assert talk.server.of(events.RequestReceived) == []
    talk.ask_server(2)
    assert len(talk.server.of(events.RequestReceived)) == 1
    assert talk.device.of(events.ResponseReceived)[-1].handle == 2


@pytest.mark.spec("RFC 8613 B.1.2", "RFC 7252 4.5")
def test_after_a_restart_a_repetition_is_recalled_under_another_number_of_ours():
    talk = Talk()
    talk.ask_server(code=codes.POST)
    served = talk.recorded[-1]
    stored = talk.server.ceiling
    engine = Endpoint(SeededEntropy(3), oscore=True, ask_until=300.0)
    talk.server = End(engine, server_material(stored, stored + NUMBERS_AHEAD))
    talk.server.handle = _recalling(talk.server)  # type: ignore[method-assign]
    sent = len(talk.sent_by_server)
    talk.feed(True, served)
    talk.run(1.0)
    assert talk.server.only(events.RequestQuestion).peer == talk.to_device
    assert talk.server.of(events.RequestReceived) == []
    (answer,) = options_of(talk.sent_by_server[sent:])
    assert answer.piv is not None


def _recalling(end: End):  # type: ignore[no-untyped-def]
    handle = end.handle

    def recall(event: events.Event, now: float) -> None:
        if isinstance(event, events.RequestQuestion):
            end.events.append(event)
            end.engine.submit(actions.Recall(event.exchange, codes.CHANGED), now)
        else:
            handle(event, now)

    return recall


@pytest.mark.spec("RFC 8613 B.1.1")
def test_a_device_that_stored_its_numbers_goes_on_without_a_word():
    talk = Talk()
    talk.ask_server()
    talk.restart_device(unused=NUMBERS_AHEAD, ceiling=2 * NUMBERS_AHEAD)
    talk.ask_server(2)
    assert talk.device.only(events.ResponseReceived).handle == 2
    assert talk.server.of(events.Refused) == []
    talk.ask_device(3)
    assert talk.server.only(events.ResponseReceived).payload == b"3/0"


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 7.2.1")
def test_numbers_are_stored_before_they_are_used():
    talk = Talk(ceiling=2)
    asked = talk.device.engine.take_events()
    (first,) = [event for event in asked if isinstance(event, events.ContextState)]
    assert (first.number, first.ceiling) == (1, 2 + NUMBERS_AHEAD)
    talk.ask_server(until=10.0)
    talk.ask_server(2, until=10.0)
    failed = talk.device.only(events.RequestFailed)
    assert (failed.reason, failed.detail) == ("refused", "no sender number is stored as used")
    assert set(numbers_of(talk.recorded)) == {0, 1}
    talk.device.engine.submit(actions.ContextStored(1, first.ceiling), talk.now)
    talk.ask_server(3, until=10.0)
    assert [event.handle for event in talk.device.of(events.ResponseReceived)] == [1, 3]
    assert max(numbers_of(talk.recorded)) == 2


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 7.2")
def test_numbers_that_somebody_else_was_given_are_passed_over():
    talk = Talk(ceiling=2)
    talk.device.engine.take_events()
    talk.device.engine.submit(actions.ContextStored(1, 900, 600), talk.now)
    talk.ask_server(until=10.0)
    assert numbers_of(talk.recorded) == [600, 601]


@pytest.mark.spec("RFC 8613 B.1.1")
def test_numbers_that_could_not_be_stored_are_asked_for_again_when_one_is_wanted():
    talk = Talk(ceiling=2)
    talk.device.engine.take_events()
    talk.device.engine.submit(actions.ContextStored(1, 0), talk.now)
    assert talk.device.engine.take_events() == []
    talk.ask_server(until=10.0)
    assert talk.device.only(events.ContextState).ceiling == 2 + NUMBERS_AHEAD
    assert numbers_of(talk.recorded) == [0, 1]


@pytest.mark.spec("RFC 8613 7.2.1")
def test_the_last_number_is_the_last():
    talk = Talk(unused=LAST_NUMBER - 1, ceiling=LAST_NUMBER + 1)
    talk.ask_server(until=10.0)
    talk.ask_server(2, until=10.0)
    assert talk.device.only(events.RequestFailed).detail == "no number is left"
    assert numbers_of(talk.recorded) == [LAST_NUMBER - 1, LAST_NUMBER]
    assert talk.device.of(events.ContextState) == []


@pytest.mark.spec("RFC 8613 B.2", "LwM2M-contract 2.6")
@pytest.mark.parametrize("stream", [False, True])
def test_a_device_that_lost_everything_agrees_on_another_id_context_with_its_first_request(stream: bool):
    talk = Talk(stream=stream)
    for handle in range(1, 8):
        talk.ask_server(handle, until=20.0)
    talk.server.events.clear()
    old = list(talk.recorded)
    if stream:
        # The connection stands; what was lost is the context.
        talk.device.engine.submit(actions.DropContext(1), talk.now)
        talk.device.events.clear()
        talk.adopt(rederive=True)
    else:
        talk.restart_device(rederive=True)
    since = len(talk.recorded)
    talk.ask_server(2, code=codes.POST, payload=b"anew")
    assert talk.device.only(events.ResponseReceived).handle == 2
    assert [event.payload for event in talk.server.of(events.RequestReceived)] == [b"anew"]
    agreed = talk.server.only(events.ContextRederived)
    assert (agreed.number, agreed.peer) == (NUMBER, talk.to_device)
    assert talk.device.only(events.ContextRederived).id_context == agreed.id_context
    if not stream:
        first, second = (option.kid_context for option in options_of(talk.recorded[since:]))
        assert first is not None
        assert second is not None
        assert decode_bytes(second) == agreed.id_context
        # Nothing of before counts any more.
        for data in old + talk.recorded[since:]:
            talk.feed(True, data)
        talk.run(1.0)
        assert len(talk.server.of(events.RequestReceived)) == 1
    talk.ask_device(3)
    talk.ask_server(4)
    assert talk.server.only(events.ResponseReceived).handle == 3
    assert talk.device.of(events.ResponseReceived)[-1].handle == 4


@pytest.mark.spec("RFC 8613 B.2")
def test_a_device_may_lose_everything_as_often_as_it_likes_and_over_a_bad_network():
    talk = Talk(loss=0.15, double=0.2, seed=4)
    talk.ask_server(until=300.0)
    for life in range(1, 6):
        talk.restart_device(100 + life, rederive=True)
        talk.ask_server(life, until=300.0, payload=b"%d" % life, code=codes.POST)
        assert talk.device.only(events.ResponseReceived).handle == life
    assert [event.payload for event in talk.server.of(events.RequestReceived)][1:] == [
        b"%d" % each for each in range(1, 6)
    ]


@pytest.mark.spec("RFC 8613 B.2", "RFC 8613 B.1.2")
def test_a_server_that_restarts_recognises_the_id_context_that_was_agreed_on():
    talk = Talk()
    talk.ask_server()
    talk.restart_device(rederive=True)
    talk.ask_server(2)
    agreed = talk.device.only(events.ContextRederived).id_context
    used = numbers_of(talk.sent_by_server)
    served = list(talk.recorded)
    talk.restart_server()
    for data in served:
        talk.feed(True, data)
    talk.run(1.0)
    assert talk.server.of(events.RequestReceived) == []
    talk.ask_server(3)
    assert talk.device.of(events.ResponseReceived)[-1].handle == 3
    assert talk.server.only(events.ContextRederived).id_context == agreed
    assert set(numbers_of(talk.sent_by_server)[len(used) :]).isdisjoint(used)
    # Or it was stored: then nothing is to be recognised.
    talk.restart_server(79, id_context=agreed)
    talk.ask_server(4)
    assert talk.device.of(events.ResponseReceived)[-1].handle == 4
    assert talk.server.of(events.ContextRederived) == []


@pytest.mark.spec("RFC 8613 B.2")
def test_with_another_id_context_observations_and_requests_of_before_are_over():
    talk = Talk()
    talk.ask_server()
    talk.device.on_request = lambda event: []
    talk.ask_device(3, until=1.0)
    talk.restart_device(rederive=True)
    talk.ask_server(4)
    assert talk.server.only(events.RequestFailed).reason == "lost"


@pytest.mark.spec("RFC 8613 B.2")
def test_a_server_whose_device_has_a_context_of_its_own_name_is_not_confused_by_names_without_a_wrapping():
    talk = Talk(id_context=b"not agreed")
    talk.ask_server(until=10.0)
    assert talk.device.only(events.RequestFailed).reason == "unprotected"
    assert talk.server.reasons() == ["oscore_context"]


@pytest.mark.spec("RFC 8613 3.2", "RFC 8613 5.1")
def test_a_context_with_an_id_context_names_it():
    talk = Talk(id_context=b"plant 7")
    talk.server.material = server_material(id_context=b"plant 7")
    talk.ask_server()
    assert talk.server.only(events.ContextQuestion).kid_context == b"plant 7"
    assert talk.device.only(events.ResponseReceived).code == codes.CONTENT
    talk.ask_device(2)
    assert talk.server.only(events.ResponseReceived).code == codes.CONTENT
    assert {option.kid_context for option in options_of(talk.sent_by_server)} == {None, b"plant 7"}


@pytest.mark.spec("RFC 8613 B.2")
def test_our_part_of_an_id_context_is_recognised_by_whoever_has_the_secret_alone():
    ours, again, other = (Recovery(each) for each in (server_material(), server_material(), device_material()))
    entropy = SeededEntropy(1)
    r2, second = ours.offer(entropy), ours.offer(entropy)
    assert ours.is_offered(r2 + b"r3")
    assert ours.is_offered(second + b"r3")
    assert again.is_ours(r2 + b"r3")
    assert not again.is_offered(r2 + b"r3")
    assert not other.is_ours(r2 + b"r3")
    assert not ours.is_ours(r2)
    assert not ours.is_ours(b"\\0" * 20)
    assert SECRET not in r2
    # One of them was used: none is news any more, and all are still known.
    ours.use()
    third = ours.offer(entropy)
    assert [ours.is_offered(each + b"r3") for each in (r2, second, third)] == [False, False, True]
    assert ours.is_ours(second + b"r3")


@pytest.mark.spec("RFC 8613 B.2")
def test_no_random_value_of_ours_is_said_twice():
    talk = Talk()
    talk.ask_server()
    talk.restart_device(rederive=True)
    talk.loss = 1.0
    talk.ask_server(2, until=0.1)
    first = talk.recorded[-1]
    sent = len(talk.sent_by_server)
    for mid in range(3):
        # The same first request, as another message.
        talk.feed(True, first[:2] + mid.to_bytes(2, "big") + first[4:])
        talk.run(0.1)
    said = [option.kid_context for option in options_of(talk.sent_by_server[sent:])]
    assert len(said) == len(set(said)) == 3
    assert None not in said


@pytest.mark.spec("RFC 8613 B.2")
def test_what_came_under_an_id_context_of_before_is_a_replay():
    talk = Talk()
    talk.ask_server()
    talk.restart_device(rederive=True)
    talk.ask_server(2)
    under_the_first = talk.recorded[-1]
    talk.restart_device(99, rederive=True)
    talk.ask_server(3)
    talk.now += 300.0
    talk.server.engine.tick(talk.now)
    talk.feed(True, under_the_first)
    talk.run(1.0)
    assert talk.server.reasons() == ["oscore_replay"]
    assert len(talk.server.of(events.RequestReceived)) == 3
