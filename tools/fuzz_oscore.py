"""The targets of `fuzz` that read what is protected with OSCORE: the option, and two ends that speak with each other
over a network that changes, doubles, forgets and sends again what it likes, while either end loses its state."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "unit" / "coap" / "oscore"))

Target = Callable[[bytes], None]

_STEPS = 14
_MOST_MESSAGES = 400


def _option() -> Target:
    from stellwerk.coap.oscore.option import BrokenOption, decode_option, encode_option

    def take(data: bytes) -> None:
        try:
            option = decode_option(data)
        except BrokenOption:
            return
        assert encode_option(option) == data

    return take


class _Nonces:
    """Every message that either end protects: no key may ever see one nonce twice, unless nothing else was said."""

    def __init__(self) -> None:
        self.seen: dict[tuple[bytes, bytes, bytes], tuple[bytes, bytes]] = {}

    def watch(self, kind: Any) -> None:
        """Look at all that ``kind`` seals from now on."""
        seal = kind.seal

        def checked(keys: Any, nonce: bytes, plain: bytes, associated_data: bytes) -> bytes:
            said = plain, associated_data
            assert self.seen.setdefault((keys.sender_id, keys.id_context, nonce), said) == said, "a nonce came twice"
            sealed: bytes = seal(keys, nonce, plain, associated_data)
            return sealed

        kind.seal = checked


class _Story:
    """``served``: what had an effect at the server, each of which may happen once; ``open``: what the device has said
    without hearing what came of it, which it may say again to a server that has lost its state (App. B.1.2)."""

    def __init__(self) -> None:
        # Not before: what is imported inside the fuzzer is what it sees.
        import oscore_wire

        self.wire: Any = oscore_wire
        self.talk = oscore_wire.Talk()
        self.said: set[bytes] = set()
        self.served: set[bytes] = set()
        self.open: dict[int, bytes] = {}
        self.noticed: set[bytes] = set()
        self.last = 0
        self.lives = 0
        self.to_server: list[bytes] = []
        self.to_device: list[bytes] = []

    def settle(self) -> None:
        """Let both applications react; what is sent waits until a step delivers it."""
        from stellwerk.coap import events

        talk = self.talk
        for _ in range(50):
            told = [(end, event) for end in (talk.device, talk.server) for event in end.engine.take_events()]
            if not told:
                break
            for end, event in told:
                end.handle(event, talk.now)
                if end is talk.device and isinstance(event, events.ResponseReceived | events.RequestFailed):
                    self.open.pop(event.handle, None)
                # What `_say_inside` made up may say the same twice.
                if end is talk.server and isinstance(event, events.RequestReceived) and event.payload in self.said:
                    assert event.payload not in self.served, "a request was served twice"
                    self.served.add(event.payload)
                if isinstance(event, events.NotificationReceived) and event.peer.is_context:
                    assert event.payload not in self.noticed, "a notification was taken twice"
                    self.noticed.add(event.payload)
                end.events.clear()
        else:
            raise AssertionError("they never come to rest")
        self.to_server += [data for _, data in talk.device.engine.take_datagrams()]
        self.to_device += [data for _, data in talk.server.engine.take_datagrams()]

    def step(self, what: int, where: int, how: int) -> None:
        """One thing that the network, an application or a power cut does."""
        from stellwerk.coap import actions, codes
        from stellwerk.coap.options import OBSERVE
        from stellwerk.coap.oscore.context import Keys
        from stellwerk.core.ids import context_peer

        talk = self.talk
        self.last += 1
        word = b"w%d" % self.last
        feed = talk.feed
        if what == 0:
            self.open[self.last] = word + b"x" * (how * 8)
            self.said.add(self.open[self.last])
            self._ask(talk.device, talk.to_server, self.open[self.last])
        elif what == 1:
            answer = actions.Respond(0, codes.CONTENT, options=((OBSERVE, b"\1"),), payload=word + b"y" * (where * 4))
            talk.device.on_request = lambda event: [
                actions.Respond(event.exchange, answer.code, options=answer.options, payload=answer.payload)
            ]
            observe = None if how & 1 else how >> 1 & 1
            self._ask(talk.server, talk.to_device, b"", b"observed" if observe is not None else word, observe)
        elif what == 2:
            notification = actions.SendNotification(
                self.last,
                talk.to_server,
                b"observed",
                codes.CONTENT,
                self.last,
                payload=word,
                confirmable=bool(how & 1),
            )
            talk.device.engine.submit(notification, talk.now)
        elif what == 3 and self.to_server:
            feed(True, _chosen(self.to_server, where), self.wire.MOVED if how & 1 else None)
        elif what == 4 and self.to_device:
            feed(False, _chosen(self.to_device, where))
        elif what == 5 and self.to_server:
            feed(True, _changed(self.to_server[-1], where, how), self.wire.MOVED if how & 0x10 else None)
        elif what == 6 and self.to_device:
            feed(False, _changed(self.to_device[-1], where, how))
        elif what == 7:
            talk.now += where + how * 4.0
            talk.device.engine.tick(talk.now)
            talk.server.engine.tick(talk.now)
        elif what == 8:
            self.lives += 1
            self.served -= set(self.open.values())
            talk.restart_server(1000 + self.lives)
            self.settle()
        elif what == 9:
            self.lives += 1
            # It never lost anything, or everything.
            talk.restart_device(2000 + self.lives, rederive=True)
        elif what == 10:
            self._say_inside(Keys(self.wire.device_material()), bytes((where, how)) * 8, where)
        elif what == 11:
            self.served -= set(self.open.values())
            talk.server.engine.submit(actions.DropContext(self.wire.NUMBER), talk.now)
            stored = talk.server.ceiling
            talk.server.material = self.wire.server_material(stored, stored + 256)
            talk.server.ceiling = stored + 256
        elif what == 12:
            talk.server.engine.submit(
                actions.ForgetObservation(context_peer(self.wire.NUMBER, "udp"), b"observed"), talk.now
            )
        elif what == 13 and self.to_server:
            # What comes twice is said once more as another message.
            data = _chosen(self.to_server, where)
            feed(True, data[:2] + bytes((how, self.last & 0xFF)) + data[4:], self.wire.MOVED)
        self.settle()
        del self.to_server[:-_MOST_MESSAGES], self.to_device[:-_MOST_MESSAGES]

    def _ask(self, end: Any, peer: Any, payload: bytes, token: bytes | None = None, observe: int | None = None) -> None:
        from stellwerk.coap import actions, codes

        code = codes.GET if not payload else codes.POST
        token = token or b"t%d" % self.last
        wanted = actions.SendRequest(self.last, peer, code, token, ("a",), payload=payload, observe=observe)
        end.engine.submit(wanted, self.talk.now)

    def _say_inside(self, keys: Any, plain: bytes, number: int) -> None:
        """Whatever a device may protect."""
        from stellwerk.coap import codes
        from stellwerk.coap.message import CON, Message, encode_message
        from stellwerk.coap.options import OSCORE
        from stellwerk.coap.oscore.option import OscoreOption, encode_number, encode_option

        piv = encode_number(100_000 + self.last)
        sealed = _SEAL[0](keys, keys.nonce(b"dev1", piv), plain[number & 7 :], keys.associated_data(b"dev1", piv))
        options = ((OSCORE, encode_option(OscoreOption(piv, b"dev1"))),)
        self.talk.feed(True, encode_message(Message(CON, codes.POST, 40_000 + self.last, b"in", options, sealed)))


_SEAL: list[Any] = []
_NEWEST = 255


def _chosen(sent: list[bytes], where: int) -> bytes:
    return sent[-1] if where >= 128 else sent[where % len(sent)]


def _changed(data: bytes, where: int, how: int) -> bytes:
    changed = bytearray(data)
    changed[where % len(changed)] ^= how or 1
    return bytes(changed[: len(changed) - (how >> 6)])


def _pair() -> Target:
    import oscore_wire  # noqa: F401

    from stellwerk.coap.oscore.context import Keys

    _SEAL[:] = [Keys.seal]
    nonces = _Nonces()
    nonces.watch(Keys)

    def take(data: bytes) -> None:
        nonces.seen.clear()
        story = _Story()
        for at in range(0, len(data) - 2, 3):
            story.step(data[at] % _STEPS, data[at + 1], data[at + 2])

    return take


def _honest(*steps: tuple[int, int, int]) -> bytes:
    return bytes(each for step in steps for each in step)


_UP, _DOWN = (3, _NEWEST, 0), (4, _NEWEST, 0)
_FIRST = ((0, 0, 1), _UP, _DOWN, _UP, _DOWN)
_OBSERVED = ((1, 0, 0), _DOWN, _UP, _DOWN, _UP, (2, 0, 1), _UP, _DOWN, (2, 0, 0), _UP)
_ANEW = ((9, 0, 0), (0, 0, 1), _UP, _DOWN, _UP, _DOWN)
TARGETS: dict[str, tuple[Callable[[], Target], tuple[bytes, ...]]] = {
    "oscore-option": (_option, (b"\x09\x14", b"\x19\x00\x08\x37\xcb\xf3\x21\x00\x17\xa2\xd3\x01", b"")),
    "oscore": (
        _pair,
        (
            _honest(*_FIRST),
            _honest(*_FIRST, *_OBSERVED, (12, 0, 0), (2, 0, 1), _UP, _DOWN),
            _honest(*_FIRST, *_ANEW, *_OBSERVED),
            _honest(*_FIRST, (8, 0, 0), (13, 1, 7), _DOWN, (3, 1, 0), (0, 0, 9), _UP, _DOWN, _UP, _DOWN),
            _honest(*_FIRST, (10, 3, 9), (11, 0, 0), (0, 0, 1), (7, 2, 0), (3, 2, 1), (5, 9, 1), (6, 9, 1)),
            _honest(*_FIRST, *_ANEW, (8, 0, 0), (0, 0, 1), _UP, _DOWN, _UP, _DOWN, (1, 90, 0), _DOWN, _UP, _DOWN),
        ),
    ),
}
"""By name: what makes the target, and good inputs to begin with."""
