"""Coverage-guided fuzzing of everything that reads foreign bytes: whatever comes in is understood or refused by name.

    make fuzz                                   every target, a minute each
    make fuzz ARGS="--seconds 600"              as before a release: ten minutes each, four hours in all
    make fuzz ARGS="--list"
    make fuzz ARGS="tlv senml-cbor --seconds 3600"

Needs atheris, which is no dependency of the project: .venv/bin/pip install atheris
Findings and the growing corpus stay under build/fuzz/<target>; a finding is replayed with
    make fuzz ARGS="tlv --replay build/fuzz/tlv/crash-..."
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import fuzz_dtls
import fuzz_dtls_keys
import fuzz_oscore

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "fuzz"

Target = Callable[[bytes], None]

_PROGRESS = re.compile(r"#(\d+)\s+\w+\s+(?:cov: (\d+) )")


@dataclass(frozen=True, slots=True)
class Harness:
    """``make`` imports the decoder and returns what takes bytes; ``seeds`` are good inputs to begin with."""

    make: Callable[[], Target]
    seeds: tuple[bytes, ...]


def _check_text(error: Exception) -> None:
    """Errors end in log lines and messages: what a peer sent does not make them long."""
    assert len(str(error)) < 500, str(error)


def _message() -> Target:
    from stellwerk.coap.message import MessageFormatError, decode_message, encode_message

    def take(data: bytes) -> None:
        try:
            message = decode_message(data)
        except MessageFormatError:
            return
        # What is understood survives the way back; its bytes may differ, since lengths can be written in two ways.
        assert decode_message(encode_message(message)) == message

    return take


def _endpoint() -> Target:
    from stellwerk.coap.actions import Respond, SendRequest
    from stellwerk.coap.endpoint import Endpoint
    from stellwerk.coap.events import RequestReceived
    from stellwerk.core.ids import PeerId

    class Numbers:
        """Entropy that counts, so that every finding replays."""

        def __init__(self) -> None:
            self._numbers = count(1)

        def take(self, size: int) -> bytes:
            return next(self._numbers).to_bytes(16, "big")[-size:].rjust(size, b"\x00")

    peers = [PeerId("udp", "192.0.2.1", port, "198.51.100.1", 5683) for port in (40001, 40002)]

    def take(data: bytes) -> None:
        engine = Endpoint(Numbers(), body_bytes_by_path={("rd",): 4096})
        engine.submit(SendRequest(1, peers[0], 1, b"\x0b\xad\xca\xfe", ("3", "0", "9"), observe=0), 0.0)
        now, at = 0.0, 0
        # A story: a byte with length and peer, the datagram, and half a second between two of them.
        while at < len(data):
            size, peer = data[at] & 0x7F, peers[data[at] >> 7]
            engine.feed(data[at + 1 : at + 1 + size], peer=peer, now=now)
            for event in engine.take_events():
                if isinstance(event, RequestReceived):
                    engine.submit(Respond(event.exchange, 0x44), now)
            for _, datagram in engine.take_datagrams():
                assert len(datagram) <= 1280
            at, now = at + 1 + size, now + 0.5
            due = engine.deadline()
            if due is not None and due <= now:
                engine.tick(now)
        engine.tick(now + 400)

    return take


def _tcp() -> Target:
    from stellwerk.coap.actions import AcceptNotification, RejectToken, Respond, SendRequest
    from stellwerk.coap.events import NotificationReceived, RequestReceived, TokenQuestion
    from stellwerk.coap.tcp.endpoint import AdoptConnection, StreamEndpoint
    from stellwerk.core.ids import PeerId

    class Numbers:
        """Entropy that counts, so that every finding replays."""

        def __init__(self) -> None:
            self._numbers = count(1)

        def take(self, size: int) -> bytes:
            return next(self._numbers).to_bytes(16, "big")[-size:].rjust(size, b"\x00")

    peers = [PeerId("tcp", "192.0.2.1", port, "198.51.100.1", 5683) for port in (40001, 40002)]

    def take(data: bytes) -> None:
        engine = StreamEndpoint(Numbers(), body_bytes_by_path={("rd",): 4096})
        now, at = 0.0, 0
        for peer in peers:
            engine.submit(AdoptConnection(peer), now)
        engine.feed(_CSM, peer=peers[0], now=now)
        engine.submit(SendRequest(1, peers[0], 1, b"\x0b\xad\xca\xfe", ("3", "0", "9"), observe=0), now)
        # A story: a byte with length and peer, what the stream goes on with, and half a second between two of them.
        while at < len(data):
            size, peer = data[at] & 0x7F, peers[data[at] >> 7]
            engine.feed(data[at + 1 : at + 1 + size], peer=peer, now=now)
            for event in engine.take_events():
                if isinstance(event, RequestReceived):
                    engine.submit(Respond(event.exchange, 0x45, payload=bytes(5000)), now)
                elif isinstance(event, TokenQuestion):
                    engine.submit(RejectToken(event.exchange), now)
                elif isinstance(event, NotificationReceived):
                    engine.submit(AcceptNotification(event.exchange), now)
            engine.take_datagrams()
            at, now = at + 1 + size, now + 0.5
            due = engine.deadline()
            if due is not None and due <= now:
                engine.tick(now)
        for peer in peers:
            engine.feed(b"", peer=peer, now=now)
        assert engine.peers == 0
        assert engine.deadline() is None

    return take


def _links() -> Target:
    from stellwerk.lwm2m.attributes import NotificationAttributes
    from stellwerk.lwm2m.link_format import (
        LinkFormatError,
        decode_links,
        decode_object_list,
        encode_links,
        encode_object_list,
    )

    def take(data: bytes) -> None:
        try:
            links = decode_links(data)
        except LinkFormatError:
            return
        assert decode_links(encode_links(links)) == links
        # A Discover's answer is read with the attributes in it; what is none of ours is overlooked.
        for link in links:
            NotificationAttributes.from_discovery(link.attributes)
        try:
            found = decode_object_list(data)
        except LinkFormatError:
            return
        assert decode_object_list(encode_object_list(found)) is not None

    return take


def _content(number: int) -> Callable[[], Target]:
    """``number`` as an answer, a Send and a request's body; what is understood is written and understood again."""

    def make() -> Target:
        from stellwerk.lwm2m.content import Content, Entry, Untyped
        from stellwerk.lwm2m.formats import DecodeError, EncodeError, decode_content, encode_content
        from stellwerk.lwm2m.path import Path as ResourcePath
        from stellwerk.lwm2m.schema.library import Library

        known = Library.builtin().for_device("1.1", {3: None, 6: None, 3303: None, 3442: None})
        bases = [ResourcePath.parse(each) for each in _BASES]

        def take(data: bytes) -> None:
            first = data[0] if data else 0
            base, types = bases[first % len(bases)], (known, Untyped())[first >> 7]
            prefix, creating = ("", "d01")[first >> 6 & 1], bool(first & 0x20)
            for now_s in (None, 1.8e9):
                try:
                    content = decode_content(number, data[1:], base, types, now_s, prefix=prefix, creating=creating)
                except DecodeError as error:
                    _check_text(error)
                    continue
                for entry in content.entries:
                    assert base.covers(entry.path)
                entries = tuple(Entry(path, value) for path, value in content.latest().items())
                plain = Content(entries, content.empty if not entries else (), content.removed)
                try:
                    written = encode_content(number, plain, base, types, prefix=prefix)
                except EncodeError:
                    continue
                again = decode_content(number, written, base, types, now_s, prefix=prefix, creating=creating)
                # As text: not a number is not equal to itself.
                assert repr(again.latest()) == repr(plain.latest()) or sorted(again.latest()) == sorted(plain.latest())
                assert again.removed == plain.removed

        return take

    return make


_BASES = ("/3", "/3/0", "/3/0/9", "/3/0/11/0", "/3303/0/5700", "/3442", "/3442/0", "/3442/0/125", "/3442/0/1160", "/")


def _paths(number: int) -> Callable[[], Target]:
    def make() -> Target:
        from stellwerk.lwm2m.formats import DecodeError, decode_paths, encode_paths

        def take(data: bytes) -> None:
            prefix = ("", "d01")[data[0] & 1] if data else ""
            try:
                paths = decode_paths(number, data[1:], prefix=prefix)
            except DecodeError as error:
                _check_text(error)
                return
            assert decode_paths(number, encode_paths(number, paths, prefix=prefix), prefix=prefix) == paths

        return take

    return make


def _values() -> Target:
    """The texts of commands, link texts among them, for a resource of every type."""
    from stellwerk.lwm2m.formats.errors import WrongType
    from stellwerk.lwm2m.formats.fit import parse_base64, parse_object_link
    from stellwerk.lwm2m.path import Path as ResourcePath
    from stellwerk.lwm2m.path import PathError
    from stellwerk.lwm2m.schema.library import Library
    from stellwerk.lwm2m.schema.values import ValueRefused, parse_text_value

    types = Library.builtin().for_device("1.1", {3442: None})
    paths = [ResourcePath(3442, 0, each) for each in (110, 120, 125, 130, 140, 150, 160, 170, 180, 9999)]

    def take(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        for path in paths:
            try:
                parse_text_value(types, path, text)
            except ValueRefused:
                continue
        for parse in (parse_object_link, parse_base64):
            try:
                parse(text, paths[0])
            except WrongType:
                continue
        try:
            assert str(ResourcePath.parse(text)) == text
        except PathError:
            return

    return take


def _attributes() -> Target:
    from stellwerk.lwm2m.attributes import InvalidAttribute, NotificationAttributes
    from stellwerk.lwm2m.path import Path as ResourcePath
    from stellwerk.lwm2m.value import ResourceType

    def take(data: bytes) -> None:
        pairs = []
        for each in data.decode("utf-8", "surrogateescape").split("&"):
            name, equals, value = each.partition("=")
            pairs.append((name, value if equals else None))
        NotificationAttributes.from_discovery(pairs)
        try:
            found = NotificationAttributes.parse(pairs)
            assert NotificationAttributes.parse(found.to_query()) == found
            found.check(ResourcePath(3303, 0, 5700), ResourceType.FLOAT)
        except InvalidAttribute:
            return

    return take


def _gateway() -> Target:
    from stellwerk.core.errors import PeerError
    from stellwerk.lwm2m.formats import decode_content
    from stellwerk.lwm2m.gateway import decode_device_objects, split_payload
    from stellwerk.lwm2m.path import Path as ResourcePath
    from stellwerk.lwm2m.schema.library import Library

    types = Library.builtin().for_device("1.2", {3: None, 25: "2.0", 3303: None})
    formats = (110, 112, 11544)

    def take(data: bytes) -> None:
        number = formats[data[0] % len(formats)] if data else formats[0]
        try:
            # What belongs to an end device decodes below its prefix or is refused by name.
            for prefix, part in split_payload(number, data[1:]).items():
                decode_content(number, part, ResourcePath(), types, 1.8e9, f"/{prefix}" if prefix else "")
        except PeerError:
            pass
        try:
            decode_device_objects(data[1:].decode("utf-8", "replace"), "d01", "/alt")
        except PeerError:
            return

    return take


def _arguments() -> Target:
    from stellwerk.sim.test_object import parse_arguments
    from stellwerk.sim.tree import Denied

    def take(data: bytes) -> None:
        try:
            found = parse_arguments(data.decode("utf-8", "replace"))
        except Denied:
            return
        assert all(0 <= each <= 9 for each in found)

    return take


def _parameters() -> Target:
    from stellwerk.lwm2m.registration_parameters import ParameterError, decode_registration, decode_update

    def take(data: bytes) -> None:
        query = tuple(data.decode("utf-8", "replace").split("&"))
        for decode in (decode_registration, decode_update):
            try:
                decode(query)
            except ParameterError:
                continue

    return take


def _ddf() -> Target:
    from stellwerk.lwm2m.schema.ddf import DdfError, load_ddf

    def take(data: bytes) -> None:
        try:
            load_ddf(data)
        except DdfError:
            return

    return take


def _commands() -> Target:
    from stellwerk.northbound.onem2m.commands import parse_commands

    def take(data: bytes) -> None:
        # It never raises: what cannot be understood becomes a refusal for the application.
        parse_commands(data.decode("utf-8", "replace"), None)

    return take


_REGISTER = bytes.fromhex(
    "44021234a1b2c3d4b2726411283765703d64657631066c743d333030096c776d326d3d312e3103623d550151"
    "ff3c2f3e3b63743d3131322c3c2f312f303e2c3c2f332f303e"
)
_CSM = bytes.fromhex("50e12301000020")
_TCP_REGISTER = bytes.fromhex(
    "d1230271b2726411283765703d64657631066c743d333030096c776d326d3d312e3103623d54ff3c2f312f303e2c3c2f332f303e"
)
_NOTIFY = bytes.fromhex("544570010badcafe610c6170ff81a200662f332f302f39021863")
_DDF = (
    b"<LWM2M><Object ObjectType='MODefinition'><Name>x</Name><ObjectID>3303</ObjectID><ObjectURN>urn:x</ObjectURN>"
    b"<MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory><Resources><Item ID='5700'>"
    b"<Name>v</Name><Operations>R</Operations><MultipleInstances>Single</MultipleInstances><Mandatory>Mandatory"
    b"</Mandatory><Type>Float</Type><RangeEnumeration/><Units/><Description/></Item></Resources></Object></LWM2M>"
)

_PACK = bytes.fromhex("82a3216c2f333330332f302f35373030221a6553f10002f94d60a206383b02f94d50")
_PACK_OF_ALL = (
    b'[{"bn":"/3442/0/","bt":1.7e9,"n":"110","vs":"x"},{"n":"120","v":-9},{"n":"125","v":18446744073709551615},'
    b'{"n":"130","v":1e3},{"n":"140","vb":true},{"n":"150","vd":"yv4"},{"n":"160","t":-5,"v":1},{"n":"1170/0","vlo":"1:2"}]'
)
_TREE_OF_ALL = bytes.fromhex(
    "a18219 0d72 00 a6 18 6e 6178 18 78 38 63 18 7d 1b ffffffffffffffff 18 82 f9 4d60 18 8c f5 18 96 42 cafe"
)

HARNESSES = {
    "message": Harness(_message, (_REGISTER, _NOTIFY)),
    "endpoint": Harness(_endpoint, (bytes([len(_REGISTER)]) + _REGISTER + bytes([len(_NOTIFY) | 0x80]) + _NOTIFY,)),
    "tcp": Harness(
        _tcp, (bytes([len(_TCP_REGISTER)]) + _TCP_REGISTER + bytes([len(_CSM) | 0x80]) + _CSM + b"\x82\x00\xe2",)
    ),
    "links": Harness(
        _links,
        (
            b'</>;rt="oma.lwm2m";ct="60 110 112",</1/0>,</3/0>;ver=1.1,</3303>',
            b"</3/0>;pmin=10;ver=1.1,</3/0/6>;dim=8,</3/0/7>;gt=-50.5;lt=42.2;st=1e1;con=1",
        ),
    ),
    "text": Harness(_content(0), (b"\x02" + b"42", b"\x04" + b"20.5")),
    "opaque": Harness(_content(42), (b"\x02" + b"42",)),
    "cbor": Harness(
        _content(60), (b"\x02\x18\x2a", b"\x04\xf9\x4d\x20", b"\x08\xc1\x1a\x65\x53\xf1\x00", b"\x02\xc4\x82\x20\x01")
    ),
    "tlv": Harness(
        _content(11542),
        (
            b"\x01\xc8\x00\x14" + b"A" * 20 + bytes.fromhex("8606410001410105"),
            b"\x00" + bytes.fromhex("08000f c10001 c40100015180 c10601 c10755".replace(" ", "")),
        ),
    ),
    "senml-json": Harness(
        _content(110),
        (b'\x09[{"bn":"/3/0/","n":"9","v":88},{"n":"0","vs":"x","t":-5}]', b"\x06" + _PACK_OF_ALL),
    ),
    "senml-cbor": Harness(
        _content(112), (b"\x04" + _PACK, b"\x09\x82\xa3\x21\x68/3303/0/\x00\x645700\x02\xf9\x4d\x20\xa1\x06\x01")
    ),
    "etch-json": Harness(_content(320), (b'\x09[{"n":"/3/0/11/1","v":null},{"n":"/3/0/11/0","v":5}]',)),
    "etch-cbor": Harness(_content(322), (b"\x09" + bytes.fromhex("81a200682f332f302f362f3102f6"),)),
    "plain-json": Harness(_content(50), (b'\x01{"bn":"/3/0/","e":[{"n":"9","v":88}]}', b"\x06" + _PACK_OF_ALL)),
    "json": Harness(
        _content(11543),
        (
            b'\x01{"bn":"/3/0/","e":[{"n":"9","v":88}]}',
            b'\x01{"bt":1.7e9,"e":[{"n":"6/0","v":1,"t":-5},{"n":"0","sv":"x"}]}',
        ),
    ),
    "lwm2m-cbor": Harness(
        _content(11544),
        (
            b"\x09\xa1\x03\xa1\x00\xa1\x09\x18\x58",
            b"\x06" + _TREE_OF_ALL,
            b"\x49" + bytes.fromhex("a18463643031190ce700191644f94d60"),
            b"\x20" + bytes.fromhex("a18203 19ffff a1 09 01".replace(" ", "")),
        ),
    ),
    "paths-json": Harness(_paths(110), (b'\x00[{"bn":"/3/0/","n":"9"},{"n":"1"}]',)),
    "paths-cbor": Harness(_paths(112), (b"\x00" + bytes.fromhex("82a100662f332f302f39a100662f312f302f31"),)),
    "fetch-json": Harness(_paths(320), (b'\x01[{"n":"/d01/3/0/9","t":5,"u":"V"}]',)),
    "fetch-cbor": Harness(_paths(322), (b"\x00" + bytes.fromhex("82a100662f332f302f39a100662f312f302f31"),)),
    "values": Harness(_values, (b"10:3", b"hex:cafe", b"2030-01-31T12:00:00Z", b"-1e5", b"</3/0>;ver=1.1", b"/3/0/9")),
    "attributes": Harness(_attributes, (b"pmin=10&pmax=60&gt=25.5&st=1e1&edge", b"epmin=1&epmax=2&con=1&hqmax=9")),
    "gateway": Harness(
        _gateway,
        (
            b'\x00[{"bn":"/d01/3303/0/","n":"5700","v":21.5},{"bn":"/3/0/","n":"9","v":88}]',
            bytes.fromhex("02a18463643031190ce700191644f94d60"),
            b"\x00</3303/0>,</3304/0>;ver=1.1",
        ),
    ),
    "arguments": Harness(_arguments, (b"0='a',1,2='x'", b"5")),
    "parameters": Harness(
        _parameters, (b"ep=dev1&lt=300&lwm2m=1.1&b=U&Q", b"lt=60&sms=49170", b"ep=%41&lwm2m=1.2&pid=6:27354b9a")
    ),
    "ddf": Harness(_ddf, (_DDF,)),
    "commands": Harness(
        _commands,
        (
            b"READ /3; WRITE /3/0/15 'a;b'; OBSERVE /3303/0/5700?pmin=10&pmax=60",
            b'CREATE /3442/5 {"110":"x"}; EXECUTE /3442/0/3 0=\'a\',1; DISCOVER /3?depth=2; DELETE /3442/5',
        ),
    ),
}
_BESIDE = fuzz_dtls.TARGETS | fuzz_dtls_keys.TARGETS | fuzz_oscore.TARGETS
HARNESSES |= {name: Harness(*target) for name, target in _BESIDE.items()}


def main() -> int:
    options = _options()
    if options.list:
        print("\n".join(HARNESSES))
        return 0
    if options.replay:
        HARNESSES[options.targets[0]].make()(options.replay.read_bytes())
        print("no complaint")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: atheris is not installed here; get it with: .venv/bin/pip install atheris", file=sys.stderr)
        return 1
    if options.inside:
        return _run_inside(options.targets[0], options.seconds)
    failed = [name for name in options.targets if _run(name, options.seconds) != 0]
    print(f"fuzz: {len(options.targets) - len(failed)} targets without a finding, {len(failed)} with: {failed}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="one or more of --list; all when none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="give one file to the one target named")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    unknown = set(chosen.targets) - set(HARNESSES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(HARNESSES)}")
    if chosen.replay and len(chosen.targets) != 1:
        parser.error("--replay goes with exactly one target")
    chosen.targets = chosen.targets or list(HARNESSES)
    return chosen


def _run(name: str, seconds: int) -> int:
    """One target in a process of its own: the fuzzer never returns to its caller."""
    print(f"fuzz: {name} for {seconds} s", flush=True)
    started = time.monotonic()
    command = [sys.executable, __file__, "--inside", "--seconds", str(seconds), name]
    inputs, covered = "no", "0"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            # The fuzzer's progress is thousands of lines; only where it got to is worth one.
            if found := _PROGRESS.match(line):
                inputs, covered = found.groups()
            elif line.strip() and not line.startswith(('"', "#")):
                print(line, end="", flush=True)
    ended = f"{'nothing found' if process.returncode == 0 else 'FOUND something'} in {time.monotonic() - started:.0f} s"
    print(f"fuzz: {name}: {ended}: {inputs} inputs, coverage {covered}", flush=True)
    return process.returncode


def _run_inside(name: str, seconds: int) -> int:
    import atheris

    folder = FOLDER / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    harness = HARNESSES[name]
    for index, seed in enumerate(harness.seeds):
        (corpus / f"seed-{index}").write_bytes(seed)
    with atheris.instrument_imports(include=["stellwerk"]):
        take = harness.make()
    words = [sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"]
    words += [f"-artifact_prefix={folder}/", "-verbosity=1", str(corpus)]
    atheris.Setup(words, take)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
