"""A gateway in memory, with end devices: answers what the server asks, in SenML JSON, one datagram at a time."""

import json
from dataclasses import dataclass, field
from typing import Any

from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message
from stellwerk.core.ids import PeerId
from tests.scenario.stack import HOME, Stack, ack, con

OBSERVE = 6


@dataclass
class Behind:
    """An end device: what /25 says of it, and its values by path."""

    device_id: str
    prefix: str
    objects: str | None = "</3/0>,</3303/0>"
    values: dict[str, Any] = field(default_factory=lambda: {"/3/0/0": "ACME", "/3303/0/5700": 21.5})


@dataclass
class Gateway:
    """``version`` of the Gateway object. ``root``: its alternate path. ``asked``: paths of requests, in order."""

    stack: Stack
    name: str = "gw1"
    peer: PeerId = HOME
    root: str = ""
    version: str = "2.0"
    queue: str = ""
    behind: list[Behind] = field(default_factory=list)
    asked: list[tuple[int, str]] = field(default_factory=list)
    location: str = ""
    mid: int = 100
    tokens: dict[str, bytes] = field(default_factory=dict)
    """Of observations, by path."""
    silent: bool = False
    discovers: bool = True

    def register(self, *, with_gateway: bool = True) -> None:
        self.mid += 1
        links = self._links(with_gateway)
        target = f"/rd?ep={self.name}&lt=300&lwm2m=1.1{self.queue}"
        self.stack << con(
            codes.POST, target, mid=self.mid, token=b"t", payload=links, content_format=40, peer=self.peer
        )
        answer = self.next()
        assert answer.code == codes.CREATED, answer
        self.location = "/" + "/".join(value.decode() for number, value in answer.options if number == 8)
        self.pump()

    def update(self, *, with_list: bool = False, with_gateway: bool = True, peer: PeerId | None = None) -> None:
        self.mid += 1
        self.peer = peer or self.peer
        links = self._links(with_gateway) if with_list else b""
        form = 40 if links else None
        self.stack << con(
            codes.POST, self.location, mid=self.mid, token=b"u", payload=links, content_format=form, peer=self.peer
        )
        assert self.next().code == codes.CHANGED
        self.pump()

    def deregister(self) -> None:
        self.mid += 1
        self.stack << con(codes.DELETE, self.location, mid=self.mid, token=b"d", peer=self.peer)
        assert self.next().code == codes.DELETED
        self.pump()

    def send(self, records: list[dict[str, Any]] | bytes, content_format: int = 110) -> int:
        """Send; gives the code of the answer."""
        self.mid += 1
        body = records if isinstance(records, bytes) else json.dumps(records).encode()
        self.stack << con(
            codes.POST, "/dp", mid=self.mid, token=b"s", payload=body, content_format=content_format, peer=self.peer
        )
        code = self.next().code
        self.pump()
        return code

    def notify(self, path: str, payload: bytes) -> None:
        self.mid += 1
        self.stack << con(
            codes.CONTENT,
            mid=self.mid,
            token=self.tokens[path],
            payload=payload,
            content_format=110,
            observe=self.mid,
            peer=self.peer,
        )
        acknowledged = self.next()
        assert acknowledged.code == 0
        self.pump()

    def next(self) -> Message:
        """The next datagram to it."""
        for place, (peer, message) in enumerate(self.stack.out):
            if peer == self.peer:
                del self.stack.out[place]
                return message
        raise AssertionError("nothing was sent to the gateway")

    def pump(self) -> None:
        """Answer until nothing is asked any more."""
        while not self.silent and any(peer == self.peer for peer, _ in self.stack.out):
            message = self.next()
            if message.type == CON and 0 < message.code < 32:
                self.answer(message)

    def answer(self, request: Message) -> None:
        path = "/" + "/".join(value.decode() for number, value in request.options if number == 11)
        self.asked.append((request.code, path))
        code, payload, form = self._respond(request, path.removeprefix(self.root))
        observe = next((value for number, value in request.options if number == OBSERVE), None)
        if observe == b"" and code == codes.CONTENT:
            self.tokens[path] = request.token
        self.stack << ack(
            code,
            mid=request.mid,
            token=request.token,
            payload=payload,
            content_format=form,
            observe=1 if observe == b"" and code == codes.CONTENT else None,
            peer=self.peer,
        )

    def listing(self) -> bytes:
        """What /25 says."""
        records = []
        for place, each in enumerate(self.behind):
            stem = f"{self.root}/25/{place}"
            records += [{"n": f"{stem}/0", "vs": each.device_id}, {"n": f"{stem}/1", "vs": each.prefix}]
            if self.version == "1.0":
                records.append({"n": f"{stem}/2", "vlo": f"26:{place}"})
            elif each.objects is not None:
                records.append({"n": f"{stem}/3", "vs": each.objects})
        return json.dumps(records).encode()

    def _links(self, with_gateway: bool) -> bytes:
        root = f'<{self.root or "/"}>;rt="oma.lwm2m";ct=110'
        links = [root, f"<{self.root}/1/0>", f"<{self.root}/3/0>"]
        if with_gateway:
            links.append(f'<{self.root}/25>;ver="{self.version}"')
            links += [f"<{self.root}/25/{place}>" for place in range(len(self.behind))]
            if self.version == "1.0":
                links += [f"<{self.root}/26/{place}>" for place in range(len(self.behind))]
        return ",".join(links).encode()

    def _respond(self, request: Message, path: str) -> tuple[int, bytes, int | None]:
        if path == "/25":
            return codes.CONTENT, self.listing(), 110
        if path == "/26":
            routes = [{"n": f"{self.root}/26/{place}/0", "v": 3300} for place in range(len(self.behind))]
            return codes.CONTENT, json.dumps(routes).encode(), 110
        prefix, _, rest = path.removeprefix("/").partition("/")
        device = next((each for each in self.behind if each.prefix == prefix), None)
        if device is None:
            return codes.NOT_FOUND, b"", None
        accept = next((value for number, value in request.options if number == 17), b"")
        if accept == b"\x28":
            if not rest and not self.discovers:
                return codes.METHOD_NOT_ALLOWED, b"", None
            return codes.CONTENT, b"</3/0>,</3303/0>,</3303/0/5700>;pmin=5", 40
        if request.code != codes.GET:
            return codes.CHANGED, b"", None
        found = {
            name: value for name, value in device.values.items() if name == f"/{rest}" or name.startswith(f"/{rest}/")
        }
        if not found:
            return codes.NOT_FOUND, b"", None
        records = [
            {"n": f"{self.root}/{prefix}{name}", "vs" if isinstance(value, str) else "v": value}
            for name, value in found.items()
        ]
        return codes.CONTENT, json.dumps(records).encode(), 110
