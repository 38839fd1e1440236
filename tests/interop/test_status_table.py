"""The status table (contract Device to Cloud §12), row by row, over real sockets: whoever reads `received-msg` finds
the right code, word and key for every cause, and no data with an error."""

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from raw_coap import (
    CHANGED,
    CONTENT,
    CONTENT_FORMAT,
    GET,
    OBSERVE,
    RESET,
    SENML_CBOR,
    Message,
    RawDevice,
    Reply,
    uint,
)
from served import Json, Served

from conftest import SILENT
from stellwerk.app.status_table import STATUS

BLOCK2 = 23
READING = "READ /3303/0/5700"
LINKS = "</>;ct=112,</1/0>,</3/0>,</3303/0>"

NOT_PROVOKED = {
    "license": "there are no quotas of tenants",
    "adapter-unavailable": "one command of a device is out at a time, so the engine's bound on them is never met",
    "adapter-unauthorized": "faces and devices are served by one process, which asks itself for no permission",
    "unobserve-delete": "an observation is deleted together with storing the answer, which is tried until it succeeds",
    "tenant-data": "the tenant is looked up by HTTP before a command is taken",
}
"""Keys of the table that nothing from outside can lead to, and why."""

SHOWN: set[str] = set()
"""Keys that a test of this file provokes."""

Test = Callable[..., None]


def shows(*keys: str) -> Callable[[Test], Test]:
    """Marks a test with the rows it provokes."""
    SHOWN.update(keys)
    return lambda test: test


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    # Who sleeps does so right after its last word.
    return serve_module(auto_provision="status-*", expiry_grace_s="0", awake_s="0", auto_read="").start()


Connect = Callable[..., RawDevice]


@pytest.fixture
def connect(server: Served) -> Iterator[Connect]:
    """Makes registered devices: ``connect(answering, **how to register)``; they end with the test."""
    made: list[RawDevice] = []

    def make(answering: Callable[[Message], Reply | None], at: Served | None = None, **options: Any) -> RawDevice:
        device = RawDevice(f"status-{next(_numbers)}", (at or server).coap_port, answering)
        made.append(device)
        device.register(**{"links": LINKS, **options})
        return device

    yield make
    for each in made:
        each.close()


def answers(code: int, payload: bytes = b"", *options: tuple[int, bytes]) -> Callable[[Message], Reply]:
    return lambda message: Reply(code, payload, options)


def sensor(message: Message) -> Reply:
    """Takes everything; every resource is the text 20.5 and can be observed."""
    if message.code != GET:
        return Reply(CHANGED)
    observing = ((OBSERVE, uint(1)),) if message.number(OBSERVE) == 0 else ()
    return Reply(CONTENT, b"20.5", (*observing, (CONTENT_FORMAT, b"")))


def check(content: Json, key: str, *words: str) -> None:
    """A response of this row: its detail says something that no other row would, ``words`` among it, and no data."""
    code, message = STATUS[key]
    status = content["status"]
    assert (status["code"], status["message"], status["reason"]) == (code, message, key), status
    assert set(status) == {"code", "message", "detail", "reason"}
    assert isinstance(status["detail"], str)
    assert len(status["detail"].split()) >= 3, status
    for each in words:
        assert each in status["detail"]
    assert content["data"] is None


def ask(server: Served, device: RawDevice, content: Any, *, is_sent: bool = True, **attributes: Any) -> Json:
    """Posts one command and waits for its one answer; ``is_sent`` is whether sent-msg has it."""
    posted = server.api.command(device.endpoint, content, **attributes)
    answer = server.answers(device.endpoint, posted)[0]
    sent = server.api.latest(device.endpoint, "sent-msg")
    assert (sent is not None and f"outgoing_msgRN:{posted}" in sent["labels"]) == is_sent
    assert answer["messageType"] == "response"
    return answer


def fall_asleep() -> None:
    """Let the time pass in which a device in queue mode is taken to listen."""
    time.sleep(0.5)


@pytest.mark.spec("D2C 12")
@shows("ok")
def test_what_succeeds_is_200_without_a_detail(server: Served, connect: Connect) -> None:
    content = ask(server, connect(sensor), READING)
    assert content["status"] == {"code": 200, "message": "success", "detail": None, "reason": "ok"}
    assert content["data"] == {"3303/0/5700": 20.5}


DEVICE_SAYS = {
    "4.00": "device-bad-request",
    "4.01": "device-unauthorized",
    "4.02": "device-bad-request",
    "4.03": "device-forbidden",
    "4.04": "device-not-found",
    "4.05": "device-method",
    "4.06": "device-not-acceptable",
    "4.08": "device-bad-request",
    "4.09": "device-bad-request",
    "4.12": "device-bad-request",
    "4.13": "device-bad-request",
    "4.15": "device-format",
    "4.29": "device-bad-request",
    "5.00": "adapter",
    "5.01": "adapter",
    "5.03": "adapter",
}


@pytest.mark.spec("D2C 12")
@shows(*DEVICE_SAYS.values())
@pytest.mark.parametrize("code", DEVICE_SAYS)
def test_what_the_device_answers_is_told_with_its_code_and_its_words(
    server: Served, connect: Connect, code: str
) -> None:
    major, minor = code.split(".")
    device = connect(answers(int(major) << 5 | int(minor), b"not today"))
    for command in (READING, "WRITE /3/0/15 UTC", "EXECUTE /3303/0/5605"):
        check(ask(server, device, command), DEVICE_SAYS[code], f"answered {code}", "not today")
    # A code can also come to the Write-Attributes before an Observe, and to the Observe itself.
    check(ask(server, device, "OBSERVE /3303/0/5700"), DEVICE_SAYS[code], f"answered {code}")
    check(ask(server, device, "OBSERVE /3303/0/5701?pmin=1"), DEVICE_SAYS[code], f"answered {code}", "attributes")
    # Nothing stays observed of either.
    check(ask(server, device, "UNOBSERVE /3303/0/5700", is_sent=False), "no-observation")
    check(ask(server, device, "UNOBSERVE /3303/0/5701", is_sent=False), "no-observation")


@pytest.mark.spec("D2C 12")
@shows("device-bad-request")
def test_a_device_that_resets_a_command_could_not_process_it(server: Served, connect: Connect) -> None:
    device = connect(lambda message: RESET)
    for command in (READING, "WRITE /3/0/15 UTC", "EXECUTE /3303/0/5605"):
        check(ask(server, device, command), "device-bad-request", "reset")
    assert len(device.handled) == 3


NEVER_SENT: dict[str, tuple[str, Any, Json, str]] = {
    "a path with too many parts": ("path-invalid", "READ /3/0/0/0/0", {}, "/3/0/0/0/0"),
    "a path of words": ("path-invalid", "READ /three", {}, "/three"),
    "no path": ("path-invalid", "READ", {}, "/3/0/0"),
    "the root": ("path-invalid", "READ /", {}, "object"),
    "an object that is not offered": ("path-invalid", "READ /3311/0/5850", {}, "/3303"),
    "keys": ("path-invalid", "READ /0", {}, "/3303"),
    "an execute of an instance": ("path-invalid", "EXECUTE /3/0", {}, "resource"),
    "a path that is a number": ("path-invalid", {"method": "READ", "path": 3}, {}, "path"),
    "a value to read": ("adapter-bad-request", "READ /3/0/0 x", {}, "READ"),
    "text for a number": ("adapter-bad-request", "WRITE /1/0/1 soon", {}, "soon"),
    "an unknown attribute": ("adapter-bad-request", "OBSERVE /3303/0/5700?often=1", {}, "pmin"),
    "pmin above pmax": ("adapter-bad-request", "OBSERVE /3303/0/5700?pmin=9&pmax=5", {}, "pmin"),
    "nothing": ("adapter-bad-request", " ; ; ", {}, "READ /3"),
    "a member that nobody knows": (
        "adapter-bad-request",
        {"method": "READ", "path": "/3", "vlaue": 1},
        {},
        "vlaue",
    ),
    "a quote that is not closed": ("adapter-bad-request", "WRITE /3/0/15 'UTC", {}, "'"),
    "no value": ("value-missing", "WRITE /3/0/15", {}, "WRITE /3442/0/110 Hello"),
    "no member value": ("value-missing", {"method": "WRITE", "path": "/3/0/15"}, {}, "value"),
    "a word that is no method": ("method-unknown", "FETCH /3", {}, "READ"),
    "no method": ("method-unknown", {"path": "/3"}, {}, "method"),
    "reading what is executed": ("not-acceptable", "READ /3/0/4", {}, "/3/0/4"),
    "writing what is read": ("not-acceptable", "WRITE /3/0/0 me", {}, "/3/0/0"),
    "executing what is read": ("not-acceptable", "EXECUTE /3/0/0", {}, "/3/0/0"),
    "an attribute of a later version": ("not-acceptable", "OBSERVE /3303/0/5700?con=1", {}, "con"),
    "an unobserve without an observe": ("no-observation", "UNOBSERVE /3303/0/5700", {}, "/3303/0/5700"),
    "base64": ("format", "UkVBRCAvMw==", {"cnf": "text/plain:1"}, "base64"),
    "an image": ("format", "READ /3", {"cnf": "image/png:0"}, "text/plain"),
    "an object that is said to be text": ("format", {"method": "READ", "path": "/3"}, {"cnf": "text/plain:0"}, "json"),
    "a number": ("format", 3, {}, "READ /3"),
    "a list of words": ("format", ["READ /3"], {}, "method"),
}


@pytest.mark.spec("D2C 12")
@pytest.mark.spec("D-5")
@shows(*(key for key, *_ in NEVER_SENT.values()))
@pytest.mark.parametrize("what", NEVER_SENT)
def test_what_cannot_be_sent_is_answered_at_once_and_the_device_hears_nothing(
    server: Served, connect: Connect, what: str
) -> None:
    key, content, attributes, word = NEVER_SENT[what]
    device = connect(sensor)
    check(ask(server, device, content, is_sent=False, **attributes), key, word)
    # The next one arrives, and it is the first that does.
    assert ask(server, device, READING)["status"]["code"] == 200
    assert [each.path for each in device.handled] == ["/3303/0/5700"]


@pytest.mark.spec("D2C 12")
@shows("conflict")
def test_a_second_observe_of_a_path_is_a_conflict_and_the_first_stays(server: Served, connect: Connect) -> None:
    device = connect(sensor)
    assert ask(server, device, "OBSERVE /3303/0/5700")["status"]["code"] == 200
    check(ask(server, device, "OBSERVE /3303/0/5700?pmin=5", is_sent=False), "conflict", "UNOBSERVE")
    # In one message too: the second is refused before the first is sent.
    posted = server.api.command(device.endpoint, "OBSERVE /3303/0/5701; OBSERVE /3303/0/5701")
    conflict, success = sorted(server.answers(device.endpoint, posted, 2), key=lambda each: -each["status"]["code"])
    check(conflict, "conflict", "UNOBSERVE")
    assert success["status"]["code"] == 200
    token = next(each.message.token for each in device.handled if each.path == "/3303/0/5700")
    assert device.notify(token, 2, b"21.5", 0, within_s=10)


@pytest.mark.spec("D2C 12")
@shows("observe-no-id")
def test_a_device_that_answers_an_observe_with_the_value_alone_gave_no_observation(
    server: Served, connect: Connect
) -> None:
    device = connect(answers(CONTENT, b"20.5", (CONTENT_FORMAT, b"")))
    check(ask(server, device, "OBSERVE /3303/0/5700"), "observe-no-id", "does not observe")
    check(ask(server, device, "UNOBSERVE /3303/0/5700", is_sent=False), "no-observation")


UNDECODABLE = {
    "CBOR that ends in the middle": (SENML_CBOR, b"\x82\xa2\x00"),
    "text that is no number": (0, b"warm"),
    "a format that nobody knows": (65000, b"\x01"),
    "nothing where a number has to be": (0, b""),
    "another resource": (SENML_CBOR, b"\x81\xa2\x00\x67/3/0/15\x03\x61x"),
}


@pytest.mark.spec("D2C 12")
@shows("adapter")
@pytest.mark.parametrize("what", UNDECODABLE)
def test_an_answer_that_does_not_decode_is_an_error_of_the_adapter(server: Served, connect: Connect, what: str) -> None:
    content_format, payload = UNDECODABLE[what]
    device = connect(answers(CONTENT, payload, (CONTENT_FORMAT, uint(content_format))))
    check(ask(server, device, READING), "adapter", "does not decode")
    assert server.values(device=device.endpoint) == []


@pytest.mark.spec("D2C 12")
@shows("adapter")
def test_an_answer_that_does_not_end_is_given_up(server: Served, connect: Connect) -> None:
    def endless(message: Message) -> Reply:
        number = (message.number(BLOCK2) or 0) >> 4
        return Reply(CONTENT, b"7" * 1024, ((CONTENT_FORMAT, b""), (BLOCK2, uint(number << 4 | 1 << 3 | 6))))

    device = connect(endless)
    check(ask(server, device, "READ /3/0/0"), "adapter", "longer than this server takes")
    assert 1000 < len(device.handled) <= 1100


@pytest.mark.spec("D2C 12")
@shows("timeout-binding")
def test_a_device_that_is_not_registered_times_out_at_once(server: Served, connect: Connect) -> None:
    device = connect(sensor)
    device.deregister()
    server.api.wait_type(device.endpoint, "deregistration")
    check(ask(server, device, READING, is_sent=False), "timeout-binding", "not registered")
    assert device.handled == []


@pytest.mark.spec("D2C 12")
@shows("timeout-binding")
def test_a_sleeper_that_is_not_heard_before_its_registration_ends_times_out(server: Served, connect: Connect) -> None:
    device = connect(sensor, lifetime=2, queue_mode=True)
    fall_asleep()
    check(ask(server, device, READING, is_sent=False), "timeout-binding", "registration ended")
    assert device.handled == []


@pytest.mark.spec("D2C 12")
@shows("timeout-binding")
def test_a_sleeper_that_is_not_heard_before_the_message_expires_times_out(server: Served, connect: Connect) -> None:
    device = connect(sensor, queue_mode=True)
    fall_asleep()
    soon = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() + 2))
    check(ask(server, device, READING, is_sent=False, et=soon), "timeout-binding", "not heard")
    # Too late: what it does not get any more does not come later.
    device.update()
    assert ask(server, device, "READ /3303/0/5701")["status"]["code"] == 200
    assert [each.path for each in device.handled] == ["/3303/0/5701"]


@pytest.mark.spec("D2C 12")
@shows("timeout-binding")
def test_a_device_that_is_silent_until_its_registration_ends_times_out(server: Served, connect: Connect) -> None:
    device = connect(lambda message: None, lifetime=3)
    check(ask(server, device, READING), "timeout-binding", "registration ended")
    assert device.handled


@pytest.mark.spec("D2C 12")
@pytest.mark.spec("QM-5")
@shows("cancelled")
def test_a_command_that_is_deleted_while_it_waits_is_cancelled(server: Served, connect: Connect) -> None:
    device = connect(sensor, queue_mode=True)
    fall_asleep()
    first = server.api.command(device.endpoint, "EXECUTE /3303/0/5605; READ /3303/0/5700")
    second = server.api.command(device.endpoint, "READ /3303/0/5701")
    gone = server.api.delete(f"/device-communication/{device.endpoint}/outgoing-msg/{first}")
    assert gone.status_code == 200, gone.text
    for each in server.answers(device.endpoint, first, 2):
        check(each, "cancelled", "cancelled")
    device.update()
    server.answers(device.endpoint, second)
    assert [each.path for each in device.handled] == ["/3303/0/5701"]


@pytest.mark.spec("D2C 12")
@pytest.mark.spec("QM-5")
@shows("superseded")
def test_a_write_that_waits_gives_way_to_a_newer_one_of_its_path(server: Served, connect: Connect) -> None:
    device = connect(sensor, queue_mode=True)
    fall_asleep()
    first = server.api.command(device.endpoint, "WRITE /3303/0/5750 cellar")
    second = server.api.command(device.endpoint, "WRITE /3303/0/5750 attic")
    check(server.answers(device.endpoint, first)[0], "superseded", "newer")
    device.update()
    server.answers(device.endpoint, second)
    assert [(each.path, b"attic" in each.message.payload) for each in device.handled] == [("/3303/0/5750", True)]


@pytest.mark.spec("D2C 12")
@shows("outcome-unknown")
def test_an_execute_that_was_out_when_the_server_was_killed_has_an_unknown_outcome(
    serve: Callable[..., Served], connect: Connect
) -> None:
    own = serve(auto_provision="status-*", auto_read="").start()
    device = connect(lambda message: None, at=own)
    posted = own.api.command(device.endpoint, "EXECUTE /3303/0/5605?0='now'")
    device.wait_handled(lambda each: each.path == "/3303/0/5605")
    own.kill()
    own.start()
    check(own.answers(device.endpoint, posted)[0], "outcome-unknown", "not repeated")
    assert len({each.message.mid for each in device.handled}) == 1


@pytest.mark.spec("D2C 12")
@shows("device-data")
def test_a_device_of_which_nothing_readable_is_stored_is_an_error_that_says_so(
    serve: Callable[..., Served], connect: Connect
) -> None:
    own = serve(auto_provision="status-*", auto_read="").start()
    device, other = connect(sensor, at=own), connect(sensor, at=own)
    own.stop()
    with contextlib.closing(sqlite3.connect(own.data_dir / "stellwerk.db")) as database, database:
        statement = "UPDATE registration SET content_formats = 'no list' WHERE endpoint_name = ?"
        assert database.execute(statement, (device.endpoint,)).rowcount == 1
    own.start()
    check(ask(own, device, READING, is_sent=False), "device-data", "cannot be read")
    # The others are not touched, and a new registration heals it.
    assert ask(own, other, READING)["status"]["code"] == 200
    device.register(links=LINKS)
    assert ask(own, device, READING)["status"]["code"] == 200


@pytest.mark.spec("D2C 12")
@shows("observe-store")
def test_an_observe_that_the_store_does_not_take_is_not_sent_and_told(
    serve: Callable[..., Served], connect: Connect
) -> None:
    own = serve(auto_provision="status-*", auto_read="").start()
    device = connect(sensor, at=own)
    own.stop()
    refusal = "CREATE TRIGGER full BEFORE INSERT ON observation BEGIN SELECT RAISE(ABORT, 'no more'); END"
    with contextlib.closing(sqlite3.connect(own.data_dir / "stellwerk.db")) as database, database:
        database.execute(refusal)
    own.start()
    check(ask(own, device, "OBSERVE /3303/0/5700", is_sent=False), "observe-store", "not sent")
    assert ask(own, device, READING)["status"]["code"] == 200
    assert [each.message.number(OBSERVE) for each in device.handled] == [None]


@pytest.mark.spec("D2C 12")
@shows("timeout")
def test_a_device_that_is_silent_times_out(silent: tuple[Served, str]) -> None:
    """All repetitions of one request take a minute and a half; `conftest` sent it before the first test."""
    server, posted = silent
    check(server.answers(SILENT, posted, within_s=100)[0], "timeout", "no answer")


def test_every_key_of_the_table_is_provoked_here_or_said_to_be_out_of_reach() -> None:
    assert SHOWN | set(NOT_PROVOKED) == set(STATUS)
    assert not SHOWN & set(NOT_PROVOKED)
