"""tinydtls through its Python binding, as client or as a server that echoes; runs in an environment of its own.

Arguments are NAME=VALUE: role (client, server), port (of the server), identity and key (hex). Says "port N",
"handshake" and "got TEXT". Takes lines of text, which it sends.
"""

# ruff: noqa: T201 - lines on stdout are what it is for
import select
import socket
import sys

from DTLSSocket import dtls

CONNECTED = 0x1DE
HOST = "::ffff:127.0.0.1"
told = dict(each.split("=", 1) for each in sys.argv[1:])
identity, key = told["identity"].encode(), bytes.fromhex(told["key"])
plain = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
plain.bind((HOST, 0))
peers: list[int] = []
connected: list[int] = []


def say(line: str) -> None:
    print(line, flush=True)


def read(address: tuple[str, int], data: bytes) -> int:
    say(f"got {data.decode(errors='replace')}")
    if told["role"] == "server":
        engine.write(dtls.Session(HOST, peers[-1]), data)
    return len(data)


def write(address: tuple[str, int], data: bytes) -> int:
    return plain.sendto(data, (HOST, peers[-1]))


def event(level: int, code: int) -> None:
    if code == CONNECTED:
        connected.append(code)
        say("handshake")


engine = dtls.DTLS(read=read, write=write, event=event, pskId=identity, pskStore={identity: key})
say(f"port {plain.getsockname()[1]}")
if told["role"] == "client":
    peers.append(int(told["port"]))
    # With the object that it returns the connection ends.
    server = engine.connect(HOST, peers[-1], 0, 0)
while True:
    # Whoever writes before the handshake is over begins another one.
    ready, _, _ = select.select([plain, sys.stdin] if connected else [plain], [], [], 30)
    if not ready:
        break
    if sys.stdin in ready:
        line = sys.stdin.readline()
        if not line:
            break
        engine.write(dtls.Session(HOST, peers[-1]), line.strip().encode())
    if plain in ready:
        data, address = plain.recvfrom(4096)
        peers.append(address[1])
        engine.handleMessageAddr(HOST, address[1], data)
