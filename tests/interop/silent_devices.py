"""Devices that fall silent in the middle of their bootstrapping."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aiocoap_device import SILENCE, ScriptedDevice
from bootstrapped import Bootstrapped, dm, set_profile
from raw_coap import (
    CHANGED,
    CON,
    CONTENT,
    CONTENT_FORMAT,
    DELETE,
    DELETED,
    GET,
    LINK_FORMAT,
    POST,
    PUT,
    Message,
    RawDevice,
    Reply,
    path_options,
    query_options,
    uint,
)
from served import Served

STEPS = ("GET /", "DELETE /0/1", "PUT /0/1", "POST /bs")
ACKNOWLEDGED = "acknowledged PUT /0/1"
"""The step was heard, and its answer never comes."""
_NAMES = {GET: "GET", POST: "POST", PUT: "PUT", DELETE: "DELETE"}
_HOLDS = b'</>;lwm2m=1.1,</0/0>,</0/1>;ssid=123;uri="coap://old:5683",</1/0>;ssid=123,</3/0>'


def _mute(known: Bootstrapped, step: str) -> RawDevice:
    def answering(message: Message) -> Reply | None:
        if f"{_NAMES[message.code]} {message.path}" == step:
            return None
        if message.code == GET:
            return Reply(CONTENT, _HOLDS, ((CONTENT_FORMAT, uint(LINK_FORMAT)),))
        return Reply(DELETED if message.code == DELETE else CHANGED)

    device = RawDevice(known.endpoint, known.server.bootstrap_coap_port, answering)
    query = query_options([f"ep={known.endpoint}"])
    answer = device.ask(Message(CON, POST, 1, b"bs", (*path_options("/bs"), *query)), within_s=20)
    assert answer.code == CHANGED, answer.dotted
    return device


@contextmanager
def silent_devices(server: Served, folder: Path) -> Iterator[dict[str, Bootstrapped]]:
    """By the step that they do not answer."""
    set_profile(server, "one", dm(server))
    found = {step: Bootstrapped(server, "none", "one", folder) for step in (*STEPS, ACKNOWLEDGED)}
    with ExitStack() as open_devices:
        for step in STEPS:
            open_devices.callback(_mute(found[step], step).close)
        heard = ScriptedDevice(server.bootstrap_coap_port, {"PUT /0/1": SILENCE})
        open_devices.callback(heard.close)
        heard.request(found[ACKNOWLEDGED].endpoint)
        yield found
