"""Whole bootstrap sessions between two CoAP engines: the conversation above the link, and a client that answers by
hand, over a network that loses, doubles and reorders."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.scenario.stack import SeededEntropy
from tests.unit.coap.coap_wire import SERVER, Wire

from stellwerk.app.device_ports import Acknowledgement, DeviceAnswer
from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.bootstrap.account import Account, ClientKeys
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.bootstrap.conversation import About, Conversation, Outcome, converse, stop
from stellwerk.device.bootstrap.history import BootstrapState
from stellwerk.device.bootstrap.plan import make_correction, make_plan
from stellwerk.device.record import PSK
from stellwerk.lwm2m.status import Status
from stellwerk.southbound.bootstrap_link import BootstrapLink

KEY = bytes.fromhex("8f3a11c29b04d7e65a7719ce20f4b8d3")
ENTRIES = tuple(ServerEntry(PSK, short_id=each, host=f"dm{each}.example", port=5684) for each in (123, 124))
CONFIGURATION = BootstrapConfiguration(ENTRIES)
ACCOUNTS = [Account(each, ClientKeys(PSK, b"dev1-7f", KEY)) for each in ENTRIES]


class WireClock:
    """The time of the wire."""

    def __init__(self, wall: list[float]) -> None:
        self._wall = wall

    def now(self) -> float:
        return self._wall[0]

    def wall_ms(self) -> int:
        return int(self._wall[0] * 1000)

    lifetime_ms = wall_ms


class Bootstraps:
    """The least that stands between link and conversation: one session, replaced by another request."""

    def __init__(self, now: list[float]) -> None:
        self.link: BootstrapLink
        self.outcomes: list[Outcome] = []
        self.about: About | None = None
        self._now = now
        self._talk: Conversation | None = None
        self._handle = 0
        self._peer: PeerId | None = None

    def requested(self, uplink: Any, peer: PeerId, at: Instant, answer: Any, fresh: bool) -> None:
        if self._talk is not None:
            self.outcomes.append(stop(self._talk, Outcome(BootstrapState.REPLACED)))
            self.link.cancel(self._handle)
        answer(Acknowledgement(Status.CHANGED))
        self.about = About(
            lambda found: make_plan(CONFIGURATION, ACCOUNTS, found, pct=112),
            lambda found, servers: make_correction(CONFIGURATION, ACCOUNTS, found, servers, pct=112),
            lambda: int(self._now[0] * 1000),
        )
        self._talk, self._peer = converse(self.about), peer
        self._go_on(None)

    def _go_on(self, answer: DeviceAnswer | None) -> None:
        assert self._talk is not None
        assert self._peer is not None
        try:
            operation = next(self._talk) if answer is None else self._talk.send(answer)
        except StopIteration as end:
            self.outcomes.append(end.value)
            self._talk = None
            return
        self._handle += 1
        self.link.send(self._handle, self._peer, operation)

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        if self._talk is not None and answer.handle == self._handle:
            self._go_on(answer)

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        raise AssertionError("an address is never lost")


class Client:
    """Holds what it is given. ``finishes``: its answers to Finish. ``slow``: it answers a second and a half later."""

    def __init__(self, finishes: Iterator[int], slow: bool) -> None:
        self.given: dict[tuple[str, ...], bytes] = {}
        self.runs: list[tuple[int, tuple[str, ...]]] = []
        self.answers: list[int] = []
        self._finishes = finishes
        self.slow = slow

    def react(self, event: events.RequestReceived) -> actions.Respond:
        self.runs.append((event.code, event.path))
        exchange = event.exchange
        if event.code == codes.GET and not event.path:
            links = b'</>;lwm2m=1.1,</0/0>,</0/3>;ssid=123;uri="coaps://old",</1/3>;ssid=123,</3/0>'
            return actions.Respond(exchange, codes.CONTENT, content_format=40, payload=links)
        if event.code == codes.DELETE:
            return actions.Respond(exchange, codes.DELETED)
        if event.code == codes.PUT:
            self.given[event.path] = event.payload
            return actions.Respond(exchange, codes.CHANGED)
        if event.path == ("bs",):
            code = next(self._finishes)
            return actions.Respond(exchange, code, payload=b"" if code == codes.CHANGED else b"no account of mine")
        return actions.Respond(exchange, codes.METHOD_NOT_ALLOWED)


def bootstrap(
    seed: int, finishes: list[int], *, slow: bool = False, loss: float = 0.0, double: float = 0.0
) -> tuple[Bootstraps, Client]:
    now = [0.0]
    # A client that would have a bootstrap server prove its address is one of its own kind.
    client_engine = Endpoint(SeededEntropy(seed), verified=True)
    server_engine = Endpoint(SeededEntropy(seed + 1000))
    wire = Wire(client_engine, server_engine, seed, loss=loss, double=double, delay=0.4 if loss else 0.0)
    client, uses = Client(iter([*finishes, *[codes.CHANGED] * 9]), slow), Bootstraps(now)
    uses.link = BootstrapLink(
        submit=lambda action: server_engine.submit(action, wire.now),
        entropy=SeededEntropy(seed + 2000),
        clock=WireClock(now),
    )
    uses.link.connect(uses)
    late: list[tuple[float, actions.Respond]] = []

    def on_client(event: events.Event) -> None:
        if isinstance(event, events.RequestReceived):
            answer = client.react(event)
            if client.slow:
                late.append((wire.now + 1.5, answer))
            else:
                client_engine.submit(answer, wire.now)
        elif isinstance(event, events.ResponseReceived):
            client.answers.append(event.code)

    def on_server(event: events.Event) -> None:
        now[0] = wire.now
        uses.link.handle([event], Instant(wire.now, int(wire.now * 1000)))

    request = actions.SendRequest(1, SERVER, codes.POST, b"ask1", ("bs",), ("ep=dev1", "pct=112"))
    client_engine.submit(request, 0.0)
    end = 240.0
    while wire.now < end:
        wire.run(wire.now + 0.5, on_client, on_server)
        for answer in [each for at, each in late if at <= wire.now]:
            client_engine.submit(answer, wire.now)
        late[:] = [each for each in late if each[0] > wire.now]
    return uses, client


WHOLE = [
    (codes.GET, ()),
    (codes.DELETE, ("0", "3")),
    (codes.DELETE, ("1", "3")),
    *((codes.PUT, (each, "3")) for each in "01"),
    *((codes.PUT, (each, "4")) for each in "01"),
    (codes.POST, ("bs",)),
]


@pytest.mark.spec("B-1", "B-2", "B-5", "ETS 0", "ETS 1")
@pytest.mark.parametrize("slow", [False, True])
def test_a_client_is_configured_whether_it_answers_at_once_or_separately(slow: bool):
    uses, client = bootstrap(1, [], slow=slow)
    assert uses.outcomes == [Outcome(BootstrapState.CONFIGURED)]
    assert client.answers == [codes.CHANGED]
    assert client.runs == WHOLE
    assert KEY in client.given["0", "3"]
    assert ("0", "0") not in client.given


@pytest.mark.spec("B-7", "B-13", "ETS 9")
def test_a_finish_refused_in_a_separate_answer_is_corrected():
    uses, client = bootstrap(1, [codes.NOT_ACCEPTABLE], slow=True)
    assert uses.outcomes == [Outcome(BootstrapState.CONFIGURED, detail="after a correction")]
    finishes = [each for each in client.runs if each == (codes.POST, ("bs",))]
    assert len(finishes) == 2
    assert uses.about is not None
    (refused, taken) = [each for each in uses.about.steps if each.operation == "Bootstrap-Finish"]
    assert (refused.status, refused.detail, taken.status) == (406, "no account of mine", 204)


@pytest.mark.spec("B-1", "B-3", "Design 7")
@pytest.mark.parametrize("seed", range(12))
def test_over_a_bad_network_a_session_ends_configured_or_silent_and_each_step_runs_once(seed: int):
    uses, client = bootstrap(seed, [], slow=seed % 2 == 1, loss=0.1, double=0.1)
    (outcome,) = uses.outcomes or [None]
    if outcome is None:
        # The request itself, or all of its answers, never came through.
        assert client.answers == []
        return
    assert outcome.state in (BootstrapState.CONFIGURED, BootstrapState.SILENT)
    assert client.runs == WHOLE[: len(client.runs)]
    if outcome.state is BootstrapState.CONFIGURED:
        assert client.runs == WHOLE
    else:
        assert uses.about is not None
        assert uses.about.steps[-1].failure == "timeout"
