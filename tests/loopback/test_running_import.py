"""An import beside a running server: the command writes, the server takes it up, a registered device is retyped."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message, decode_message, encode_message
from stellwerk.coap.options import encode_uint, sort_options
from stellwerk.lwm2m.schema.ddf import encode_ddf
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel
from stellwerk.lwm2m.value import ResourceType

TEXT = b'[{"n":"/30000/0/1","vs":"half"}]'


def line_with(event: str, stream: IO[str]) -> str:
    return next(line for line in stream if event in line)


def ask(device: socket.socket, mid: int, path: str, query: str, body: bytes, content_format: int) -> int:
    options = [(11, path.encode()), (12, encode_uint(content_format))]
    options += [(15, each.encode()) for each in query.split("&") if each]
    device.send(encode_message(Message(CON, codes.POST, mid, b"t", sort_options(options), body)))
    # The server's own reads come in between; nobody answers them.
    while (answer := decode_message(device.recv(2000))).token != b"t":
        pass
    return answer.code


@pytest.mark.slow
@pytest.mark.spec("LwM2M-contract 9")
def test_a_running_server_takes_up_what_the_command_imported(tmp_path: Path) -> None:
    level = ResourceModel.define(1, "Level", "RW", multiple=False, mandatory=True, type=ResourceType.INTEGER)
    model = ObjectModel.define(30000, "Tank", "1.0", [level], multiple=True, mandatory=False)
    (tmp_path / "30000.xml").write_bytes(encode_ddf(model))
    bare = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
    environment = bare | {
        "STELLWERK_DATA_DIR": str(tmp_path / "data"),
        "STELLWERK_HTTP_PORT": "off",
        "STELLWERK_COAP_HOST": "127.0.0.1",
        "STELLWERK_COAP_PORT": "0",
        "STELLWERK_COAPS_PORT": "0",
        "STELLWERK_BOOTSTRAP_COAP_PORT": "0",
        "STELLWERK_BOOTSTRAP_COAPS_PORT": "0",
        "STELLWERK_LOG_FORMAT": "json",
        "STELLWERK_AUTO_PROVISION": "tank",
    }
    stellwerk = [sys.executable, "-m", "stellwerk"]
    server = subprocess.Popen([*stellwerk, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        bound = re.search(r"127\.0\.0\.1:(\d+)", line_with("server.ready", server.stderr))
        assert bound is not None
        with socket.socket(type=socket.SOCK_DGRAM) as device:
            device.settimeout(20)
            device.connect(("127.0.0.1", int(bound[1])))
            assert ask(device, 1, "rd", "ep=tank&lwm2m=1.1", b"</1/0>,</3/0>,</30000/0>", 40) == codes.CREATED
            assert ask(device, 2, "dp", "", TEXT, 110) == codes.CHANGED
            command = [*stellwerk, "models", "import", str(tmp_path / "30000.xml")]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
            assert done.stdout.startswith("imported\t")
            line_with("models.changed", server.stderr)
            assert ask(device, 3, "dp", "", TEXT, 110) == codes.BAD_REQUEST
    finally:
        server.terminate()
        server.communicate(timeout=20)
