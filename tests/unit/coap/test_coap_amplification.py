"""Whatever is forged in the name of an address, in whatever order and over minutes, no more than three times as many
bytes go there (design §7, contract §1.7)."""

from random import Random

import pytest
from coap_wire import DEVICE, Bench, con, non

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import CON, Message, encode_message
from stellwerk.coap.options import OBSERVE
from stellwerk.core.ids import PeerId

VICTIM = PeerId("udp", "198.51.100.1", 5683, "192.0.2.1", 5683)
LOCATION = ("rd", "k7x")


class Forger:
    """Speaks in the name of `VICTIM`, and counts."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.bench = Bench(seed)
        self.paid = self.spent = 0
        self._said: list[bytes] = []
        self._kinds = self.random.sample(range(1, 9), 2)
        """Beside Updates: what gets answers of its own leaves less for what waits."""

    def forge(self) -> None:
        random, mid = self.random, self.random.randrange(65_536)
        made = self._make(random.choice([0, *self._kinds]), mid)
        said = random.choice(self._said or [b""]) if made is None else made
        data = said if isinstance(said, bytes) else encode_message(said)
        self._said.append(data)
        self.paid += len(data)
        self.bench.feed(data, peer=VICTIM)
        for event in self.bench.events():
            self._decide(event)

    def _make(self, kind: int, mid: int) -> Message | bytes | None:
        """None: what was said before, once more."""
        random = self.random
        return (
            con(codes.POST, mid, random.randbytes(random.randrange(3)), path=LOCATION),
            non(codes.POST, mid, path=LOCATION),
            con(codes.POST, mid, path=LOCATION, payload=bytes(random.randrange(300))),
            Message(CON, 0, mid),
            con(codes.CONTENT, mid, b""),
            non(codes.CONTENT, mid, b"", options=((OBSERVE, b"\x01"),)),
            con(codes.GET, mid, b"", options=((9_999, b""),)),
            b"\x40\x01" + mid.to_bytes(2, "big") + b"\xff",
            None,
        )[kind]

    def count(self) -> None:
        self.spent += sum(len(data) for peer, data in self.bench.engine.take_datagrams() if peer == VICTIM)

    def _decide(self, event: events.Event) -> None:
        bench, random = self.bench, self.random
        if isinstance(event, events.TokenQuestion):
            bench.submit(actions.RejectToken(event.exchange))
        elif isinstance(event, events.RequestQuestion):
            bench.submit(actions.Proceed(event.exchange))
        elif isinstance(event, events.RequestReceived):
            if random.random() < 0.8:
                # Others are never decided, and are acknowledged.
                code = random.choice([codes.CHANGED, codes.NOT_FOUND, codes.CONTENT])
                bench.submit(actions.Respond(event.exchange, code, payload=bytes(random.choice([0, 0, 10, 100]))))
            if random.random() < 0.5:
                bench.submit(actions.MovePeer(DEVICE, VICTIM))


@pytest.mark.spec("Design 7", "LwM2M-contract 1.7", "RFC 9175 2.6")
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_whatever_is_forged_no_more_than_three_times_as_much_goes_there(first: int) -> None:
    for seed in range(first, first + 20):
        forger = Forger(seed)
        bench, random = forger.bench, forger.random
        for handle, size in enumerate((200, 20, 900, 0) * 5):
            path, token = ("3", "0"), bytes((handle,))
            bench.submit(actions.SendRequest(handle, DEVICE, codes.PUT, token, path, payload=bytes(size)))
        forger.count()
        for _ in range(40):
            forger.forge()
            bench.after(random.choice([0, 0, 0.5, 3, 30]))
            forger.count()
            assert forger.spent <= 3 * forger.paid, seed
        bench.after(300)
        forger.count()
        assert forger.spent <= 3 * forger.paid, seed
