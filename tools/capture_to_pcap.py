"""Writes the datagrams of a story in captures/ as a packet capture, for Wireshark and tshark.

    python tools/capture_to_pcap.py captures/STORY.json story.pcap
    tshark -r story.pcap -o dtls.psk:KEY -V

KEY is the pre-shared key in hex, as the story has it.
"""

import json
import struct
import sys
from pathlib import Path

OURS, THEIRS = ("127.0.0.1", 5684), "127.0.0.2"
RAW_IP = 101


def packet(source: tuple[str, int], target: tuple[str, int], datagram: bytes) -> bytes:
    """IPv4 and UDP around ``datagram``; checksums are left out (zero)."""
    udp = struct.pack("!HHHH", source[1], target[1], 8 + len(datagram), 0) + datagram
    hosts = b"".join(bytes(map(int, host.split("."))) for host, _ in (source, target))
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + hosts + udp


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("write: python tools/capture_to_pcap.py captures/STORY.json story.pcap")
    story = json.loads(Path(sys.argv[1]).read_text())
    with Path(sys.argv[2]).open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, RAW_IP))
        for kind, at, what in story["steps"]:
            if kind in "<>":
                peer = (THEIRS, 40_000 + what[0])
                source, target = (peer, OURS) if kind == "<" else (OURS, peer)
                made = packet(source, target, bytes.fromhex(what[1]))
                file.write(struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(made), len(made)) + made)


if __name__ == "__main__":
    main()
