"""Devices that are to be bootstrapped: what people give them beforehand, by the commands that people have for it, and
what is told of their sessions."""

import itertools
import json
import os
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from served import Json, Served, wait_until
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import dtls_keys

from stellwerk.cli import app

_numbers = itertools.count(1)
NO_SEC: Json = {"securityMode": "NO_SEC"}


def stellwerk(server: Served, *words: str, given: str | None = None) -> str:
    """What the command prints. In this process: to start an interpreter for each takes longer than all they do."""
    bare: dict[str, str | None] = {each: None for each in os.environ if each.startswith("STELLWERK_")}
    environment = bare | server.environment()
    done = CliRunner().invoke(app, words, input=given, env=environment)
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.stdout


def key_of(words: str) -> bytes:
    """A pre-shared key made out of ``words``: characters, since libcoap's programs take nothing else."""
    return b64encode(sha256(words.encode()).digest())[:16]


def dm(server: Served, mode: str = "NO_SEC", **more: Any) -> Json:
    """The entry of a profile for ``server``'s device management."""
    port = server.coap_port if mode == "NO_SEC" else server.coaps_port
    return {
        "securityMode": mode,
        "shortServerId": 123,
        "host": "127.0.0.1",
        "port": port,
        "clientHoldOffTime": 0,
    } | more


def bs(server: Served, mode: str = "NO_SEC", **more: Any) -> Json:
    """The entry of a profile for its bootstrap server."""
    port = server.bootstrap_coap_port if mode == "NO_SEC" else server.bootstrap_coaps_port
    return {
        "securityMode": mode, "bootstrapServerIs": True, "host": "127.0.0.1", "port": port, "clientHoldOffTime": 0,
    } | more  # fmt: skip


def set_profile(server: Served, name: str, *entries: Json, **more: Any) -> str:
    """Make the profile ``name`` with that bootstrap list; ``more``: what stands beside it."""
    said = json.dumps({"bootstrap": entries, **more})
    stellwerk(server, "profile", "bootstrap", name, "--file", "-", given=said)
    return name


class Bootstrapped:
    """A device with what ``mode`` (none, psk, rpk, x509) needs at the bootstrap server, and keys of that kind for
    every server of device management. Its identities are not those that it registers with."""

    def __init__(self, server: Served, mode: str, profile: str, folder: Path, **bootstrap: Any) -> None:
        """``bootstrap``: more of that part of its credential record."""
        self.server, self.mode = server, mode
        self.name = f"boot{next(_numbers):02d}"
        self.endpoint = f"urn:dev:os:{self.name}"
        self.psk = {each: key_of(f"{self.name} {each}") for each in ("bs", "dm")}
        self.folder = folder / self.name
        self.folder.mkdir()
        server.api.provision(self.name, self.endpoint, profe=profile)
        if mode != "none" or bootstrap:
            self.set_record(**bootstrap)
            # A running server ends what it has of the device, within a second.
            wait_until(self._is_taken_up, within_s=10, what=f"the record of {self.name} is taken up")

    def identity(self, where: str) -> str:
        """Its PSK identity at ``bs`` or ``dm``."""
        return f"{where}-{self.name}"

    def set_record(self, **bootstrap: Any) -> None:
        """Arms a one-time credential again, too."""
        blocks = {"bootstrapServer": self.block("bs"), "lwm2mServer": self.block("dm")}
        blocks |= bootstrap
        client = self._client()
        if "oscore" in blocks["lwm2mServer"]:
            client["oscore"] = blocks["lwm2mServer"]["oscore"]
        record = {"client": client, "bootstrap": blocks}
        stellwerk(self.server, "credentials", "set", self.name, "--record", "-", given=json.dumps(record))

    def _is_taken_up(self) -> bool:
        return any(
            (line.get("event"), line.get("device")) == ("device.credentials_revoked", self.name)
            for line in self.server.log_lines()
        )

    def record(self) -> Json:
        """Its credential record, secrets and all."""
        found: Json = json.loads(stellwerk(self.server, "credentials", "show", self.name, "--reveal"))
        return found

    def _client(self) -> Json:
        client: Json = {"securityConfigClientMode": _MODES[self.mode], "endpoint": self.endpoint}
        own = self._certificate("dm")
        match self.mode:
            case "psk":
                client |= {"identity": self.identity("dm"), "key": self.psk["dm"].hex()}
            case "rpk":
                client |= {"key": own.public_pem}
            case "x509":
                client |= {"cert": own.pem}
        return client

    def block(self, where: str) -> Json:
        """What the record says for ``bs`` or ``dm``."""
        own = self._certificate(where)
        match self.mode:
            case "psk":
                public, secret = self.identity(where), self.psk[where].hex()
            case "rpk":
                public, secret = own.public_pem, own.key_pem
            case "x509":
                public, secret = own.pem, own.key_pem
            case _:
                return NO_SEC
        return {"securityMode": _MODES[self.mode], "clientPublicKeyOrId": public, "clientSecretKey": secret}

    def _certificate(self, where: str) -> dtls_keys.Certificate:
        # Two keys for the same name.
        name = self.endpoint if where == "dm" else f"{self.name}.at-the-bootstrap-server"
        return dtls_keys.certificate(name, dtls_keys.authority())

    def security(self, **instead: str) -> tuple[str, ...]:
        """As `BootstrapClient` takes it; ``identity`` and ``key`` (hex) in the place of its own."""
        if self.mode == "none":
            return ()
        if self.mode == "psk":
            return "psk", instead.get("identity", self.identity("bs")), instead.get("key", self.psk["bs"].hex())
        return self.mode, self._files("bs", "bootstrap")

    def former(self) -> tuple[str, ...]:
        """As `LeshanClient` takes it: the keys of its record for device management, as `set_record` puts them."""
        if self.mode == "psk":
            return "psk", self.identity("dm"), self.psk["dm"].hex()
        return self.mode, self._files("dm", "server")

    def _files(self, where: str, server: str) -> str:
        own = self._certificate(where)
        files = {
            "client": own.pem,
            "client-key": own.key_pem,
            "client-public": own.public_pem,
            "server": (self.server.data_dir / "keys" / f"{server}.pem").read_text(),
        }
        shown = x509.load_pem_x509_certificates(files["server"].encode())[0]
        files["server-public"] = (
            shown.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        )
        for file, text in files.items():
            (self.folder / f"{file}.pem").write_text(text)
        return str(self.folder)

    # -- what is told --

    def history(self) -> list[Json]:
        """Its sessions, oldest first, as the store has them."""
        rows = self.server.query(
            "stellwerk.db",
            "SELECT state, reason, detail, started_by, steps FROM bootstrap_session WHERE device_id = ? ORDER BY id",
            (self.server.device_id(self.name),),
        )
        names = ("state", "reason", "detail", "trigger")
        return [dict(zip(names, row, strict=False)) | {"steps": json.loads(row[4])} for row in rows]

    def wait_ended(self, count: int = 1, *, within_s: float = 10.0) -> Json:
        """The newest of ``count`` sessions once that has ended."""

        def ended() -> Json | None:
            found = self.history()
            return found[-1] if len(found) >= count and found[-1]["state"] != "running" else None

        told: Json = wait_until(ended, within_s=within_s, what=f"bootstrap session {count} of {self.name} has ended")
        assert len(self.history()) == count, self.history()
        return told

    def told(self) -> str:
        """What people read of its sessions."""
        return stellwerk(self.server, "bootstrap", "history", self.name, "--steps")

    def wait_logged(self, *events: str) -> None:
        """Until its log is that."""
        wait_until(
            lambda: [event for event, _ in self.log()] == [*events],
            within_s=10,
            what=f"the log of {self.name}: {events}",
        )

    def log(self) -> list[tuple[str, str]]:
        """Event and detail of each line of its log that is about bootstrapping or a handshake, oldest first."""
        self.server.wait_projected()
        rows = self.server.query(
            "projected.db",
            "SELECT event, detail FROM device_log WHERE device_id = ? ORDER BY seq",
            (self.server.device_id(self.name),),
        )
        return [(event, detail) for event, detail in rows if event.startswith(("bootstrap", "handshake"))]


_MODES = {"none": "NO_SEC", "psk": "PSK", "rpk": "RPK", "x509": "X509"}
