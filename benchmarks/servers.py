"""The servers a benchmark starts, and what the kernel says of their processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "benchmark"
TENANT = "default"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. ``http_port`` and ``data_dir`` belong to Stellwerk alone; ``secure_port`` 0: it has
    none."""

    name: str
    port: int
    pid: int
    http_port: int = 0
    data_dir: Path = Path()
    secure_port: int = 0

    def port_for(self, security: str) -> int:
        """Where devices with this ``security`` of the load go."""
        return self.port if security in ("nosec", "oscore", "tcp") else self.secure_port


@contextmanager
def stellwerk(
    data_dir: Path,
    *,
    keep: bool = False,
    port: int = 0,
    secure_port: int = 0,
    profile: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """``stellwerk serve`` on ``data_dir``, which goes afterwards unless ``keep``. ``port``, ``secure_port``: for
    devices, 0: any. ``profile``: a file for py-spy's record. ``settings``: as of `start`."""
    port, http_port = port or free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    secure_port = secure_port or free_port(socket.SOCK_DGRAM)
    with start(data_dir, port, http_port, secure_port, settings) as process:
        recorder = None
        try:
            wait_ready(http_port, process)
            if profile:
                record = ["py-spy", "record", "-f", "raw", "-r", "200", "-o", profile, "-p", str(process.pid)]
                recorder = subprocess.Popen(record, stdout=subprocess.DEVNULL)
            yield Running("stellwerk", port, process.pid, http_port, data_dir, secure_port)
        finally:
            if recorder is not None:
                recorder.send_signal(signal.SIGINT)
                recorder.wait(30)
            process.terminate()
            process.wait(30)
    if not keep:
        shutil.rmtree(data_dir, ignore_errors=True)


def start(
    data_dir: Path, port: int, http_port: int, secure_port: int = 0, settings: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """The process of a server that admits the load's devices. Nothing of our own settings leaks in. ``secure_port`` 0:
    it has none. ``settings``: more variables of the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
    environment |= {
        "STELLWERK_DATA_DIR": str(data_dir),
        "STELLWERK_HTTP_PORT": str(http_port),
        "STELLWERK_COAP_HOST": "127.0.0.1",
        "STELLWERK_COAP_PORT": str(port),
        "STELLWERK_COAPS_PORT": str(secure_port) if secure_port else "off",
        "STELLWERK_BOOTSTRAP_COAP_PORT": "off",
        "STELLWERK_BOOTSTRAP_COAPS_PORT": "off",
        # The whole fleet is one address and one tenant here.
        "STELLWERK_DTLS_HANDSHAKES_PER_ADDRESS": "0",
        "STELLWERK_DTLS_HANDSHAKES_PER_TENANT": "0",
        "STELLWERK_DTLS_HANDSHAKES_WITH_CERTIFICATES": "0",
        "STELLWERK_AUTO_PROVISION": "load-*",
        "STELLWERK_API_TOKEN": TOKEN,
        "STELLWERK_ADMIN_PASSWORD": TOKEN,
        "STELLWERK_LOG_LEVEL": "error",
        **(settings or {}),
    }
    command = (sys.executable, "-m", "stellwerk", "serve")
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_ready(http_port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the server says that it is. Ends the program where that takes a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"bench: the server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/health/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise SystemExit("bench: the server was not ready within 60 s")


@contextmanager
def aiocoap(observe: str | None = None, contexts: int = 0) -> Iterator[Running]:
    """aiocoap's minimal server. ``observe``: a path it observes on every device that registers; ``contexts``: how many
    devices have OSCORE contexts there."""
    port = free_port(socket.SOCK_DGRAM)
    command = [sys.executable, str(Path(__file__).with_name("aiocoap_server.py")), str(port)]
    if observe:
        command.append(observe)
    if contexts:
        command += ["--oscore", str(contexts)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_ping(port)
            yield Running("aiocoap", port, process.pid)
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def californium(devices: int, threads: int = 1) -> Iterator[Running]:
    """Californium with Scandium (benchmarks/scandium): answers, stores nothing. ``devices`` have keys there."""
    port, secure_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    with _java("RdServer", port, secure_port, devices, threads) as process:
        yield Running("californium", port, process.pid, secure_port=secure_port)


@contextmanager
def californium_oscore(devices: int) -> Iterator[Running]:
    """The same with its OSCORE; it has the contexts of ``devices`` of them."""
    port = free_port(socket.SOCK_DGRAM)
    with _java("OscoreServer", port, devices) as process:
        yield Running("californium", port, process.pid)


@contextmanager
def californium_tls(folder: Path) -> Iterator[Running]:
    """The same over TCP and TLS, with the certificates in ``folder`` (`fleet.Certified`)."""
    port, secure_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    with _java("TlsServer", port, secure_port, folder) as process:
        yield Running("californium", port, process.pid, secure_port=secure_port)


@contextmanager
def aiocoap_tls(folder: Path) -> Iterator[Running]:
    """aiocoap over TLS alone, with the certificates in ``folder``."""
    port = _free_pair()
    command = [sys.executable, str(Path(__file__).with_name("aiocoap_server.py")), str(port), "--tls", str(folder)]
    with _listening("aiocoap", command, port) as running:
        yield running


@contextmanager
def libcoap_tls(folder: Path, key: str) -> Iterator[Running]:
    """libcoap's example server on OpenSSL, with the certificates in ``folder`` and one pre-shared ``key`` for
    everybody. It has no resources of ours."""
    program = shutil.which("coap-server-openssl")
    if program is None:
        raise SystemExit(
            "bench: no coap-server-openssl on this machine (Debian: libcoap3-bin); leave it out with --only"
        )
    port = _free_pair()
    server = str(folder / "server.pem")
    command = [program, "-A", "127.0.0.1", "-p", str(port), "-v", "2", "-k", key, "-h", ""]
    command += ["-c", server, "-j", server, "-C", str(folder / "authority.pem")]
    with _listening("libcoap", command, port) as running:
        yield running


@contextmanager
def _listening(name: str, command: list[str], port: int) -> Iterator[Running]:
    """``command``, once it takes connections at the port above ``port``."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port + 1), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise SystemExit(f"bench: {name} takes no connections") from None
                    time.sleep(0.05)
            yield Running(name, port, process.pid, secure_port=port + 1)
        finally:
            process.kill()
            process.wait(10)


def _free_pair() -> int:
    """A port of which the next is free, too: some servers have TLS there."""
    while True:
        port = free_port(socket.SOCK_STREAM)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@contextmanager
def _java(program: str, *words: int | Path) -> Iterator[subprocess.Popen[str]]:
    """One of the servers in benchmarks/scandium, once it is ready."""
    script = Path(__file__).with_name("scandium") / "fetch.sh"
    fetched = subprocess.run(["sh", str(script), program], capture_output=True, text=True, check=False)
    said = fetched.stdout.strip().rpartition("\n")[2]
    if fetched.returncode != 0:
        raise SystemExit(f"bench: californium: {said}; leave it out with --only stellwerk")
    command = ["java", "-cp", said, program, *map(str, words)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise SystemExit("bench: californium did not start")
            yield process
        finally:
            process.kill()
            process.wait(10)


def _wait_ping(port: int) -> None:
    """Until a CoAP ping (an empty confirmable message) is answered."""
    deadline = time.monotonic() + 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        probe.connect(("127.0.0.1", port))
        while time.monotonic() < deadline:
            try:
                probe.send(b"\x40\x00\x00\x01")
                probe.recv(64)
                return
            except OSError:
                time.sleep(0.05)
    raise SystemExit("bench: aiocoap did not answer within 20 s")


def free_port(kind: socket.SocketKind) -> int:
    """A port of this machine that nobody has just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- what the kernel says --


def processes(pid: int) -> dict[str, int]:
    """The server's process and its projector's, by name."""
    found = {"server": pid}
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    if children:
        found["projector"] = int(children[0])
    return found


def cpu_seconds(pid: int) -> dict[str, float]:
    """CPU time since they started, by process."""
    found = {}
    for name, each in processes(pid).items():
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[name] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are resident: all of them, and what is no file's (programs and libraries come and go with others that
    use them)."""

    resident: int
    anonymous: int


def memory(pid: int) -> Memory:
    """Of one process."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount = line.split()[:2]
        found[name.rstrip(":")] = int(amount) * 1024
    return Memory(found["Rss"], found["Anonymous"])


# -- how far the projector is --


class Progress:
    """Reads the ends of journal and projection. Belongs to the thread that made it."""

    def __init__(self, data_dir: Path) -> None:
        import sqlite3

        self._open = [
            sqlite3.connect(f"file:{data_dir / name}?mode=ro", uri=True, timeout=10, check_same_thread=False)
            for name in ("stellwerk.db", "projected.db")
        ]

    def close(self) -> None:
        """Give the files back."""
        for each in self._open:
            each.close()

    def read(self) -> tuple[int, int]:
        """The last sequence number of the journal and that of the projection."""
        journal = self._open[0].execute("SELECT last FROM journal ORDER BY first DESC LIMIT 1").fetchone()
        projected = self._open[1].execute("SELECT seq FROM projection").fetchone()
        return (journal[0] if journal else 0), (projected[0] if projected else 0)


def catch_up_s(data_dir: Path) -> float:
    """How long the projector takes from now on to reach the journal's end."""
    progress = Progress(data_dir)
    started = time.monotonic()
    try:
        while time.monotonic() - started < 300:
            last, projected = progress.read()
            if projected >= last:
                return time.monotonic() - started
            time.sleep(0.02)
    finally:
        progress.close()
    return float("inf")
