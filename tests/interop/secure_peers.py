"""DTLS programs of others, each as a client of ours and as a server of our client.

An option a program does not know is an AssertionError, never silence. Keys and files are those of `tests.dtls_keys`.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from fetched import fetch
from leshan_client import class_path
from programs import Program
from served import free_port
from tests import dtls_keys

HERE = Path(__file__).parent
PSK_CCM_8, PSK_CCM, PSK_GCM, PSK_CBC = 0xC0A8, 0xC0A4, 0x00A8, 0x00AE
ECDHE_CCM_8, ECDHE_CCM, ECDHE_GCM, ECDHE_CBC = 0xC0AE, 0xC0AC, 0xC02B, 0xC023
SUITES = {
    PSK_CCM_8: "PSK-CCM_8", PSK_CCM: "PSK-CCM", PSK_GCM: "PSK-GCM", PSK_CBC: "PSK-CBC",
    ECDHE_CCM_8: "ECDHE-CCM_8", ECDHE_CCM: "ECDHE-CCM", ECDHE_GCM: "ECDHE-GCM", ECDHE_CBC: "ECDHE-CBC",
}  # fmt: skip
IDENTITY = dtls_keys.PSK_IDENTITY.decode()


@dataclass
class Wish:
    """What a program shall do. ``mode``: psk, rpk or x509; ``folder``: of `dtls_keys.write_files`; ``options``: words
    that the program's class explains."""

    mode: str
    suite: int
    folder: Path
    psk: bytes = dtls_keys.PSK
    identity: str = IDENTITY
    own: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, default: str = "") -> str:
        return self.options.pop(name, default)

    def done(self) -> None:
        assert not self.options, f"not understood: {self.options}"


class Talker(Protocol):
    """``application``: "lines" (say a line, hear a line) or "coap". ``echoes``: as a server, by itself. ``verb``: the
    word before a line that shall be sent."""

    name: str
    application: str
    echoes: bool
    verb: str

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        ...

    def version(self) -> str: ...

    def client(self, port: int, wish: Wish) -> Program: ...

    def server(self, wish: Wish) -> tuple[Program, int]: ...


@cache
def first_line(*words: str) -> str:
    said = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def not_installed(program: str, package: str) -> str:
    return "" if shutil.which(program) else f"no {program} on this machine (Debian: {package})"


class OpenSsl:
    """Options: ``session_out``, ``session_in`` (files), ``ticket`` (no), ``mtu``, ``etm`` (no), ``cookie`` (yes: the
    server sends HelloVerifyRequest), ``root`` (yes: the client's chain ends with it)."""

    name, application, echoes, verb = "openssl", "lines", False, ""
    names = {
        PSK_CCM_8: "PSK-AES128-CCM8", PSK_CCM: "PSK-AES128-CCM", PSK_GCM: "PSK-AES128-GCM-SHA256",
        PSK_CBC: "PSK-AES128-CBC-SHA256", ECDHE_CCM_8: "ECDHE-ECDSA-AES128-CCM8", ECDHE_CCM: "ECDHE-ECDSA-AES128-CCM",
        ECDHE_GCM: "ECDHE-ECDSA-AES128-GCM-SHA256", ECDHE_CBC: "ECDHE-ECDSA-AES128-SHA256",
    }  # fmt: skip

    def missing(self) -> str:
        return not_installed("openssl", "openssl")

    def version(self) -> str:
        return " ".join(first_line("openssl", "version").split()[:2])

    def _words(self, wish: Wish) -> list[str]:
        words = ["-dtls1_2", "-timeout", "-cipher", f"{self.names[wish.suite]}:@SECLEVEL=0"]
        if wish.mode == "psk":
            words += ["-psk", wish.psk.hex(), "-psk_identity", wish.identity]
        if wish.take("ticket") == "no":
            words.append("-no_ticket")
        if wish.take("etm") == "no":
            words.append("-no_etm")
        if mtu := wish.take("mtu"):
            words += ["-mtu", mtu]
        return words

    def client(self, port: int, wish: Wish) -> Program:
        words = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *self._words(wish)]
        if wish.mode == "x509":
            own = wish.own or "client"
            # From what it trusts by -CAfile it builds its own chain, too.
            trust = "-CAfile" if wish.take("root") == "yes" else "-verifyCAfile"
            words += ["-cert", f"{own}.pem", "-key", f"{own}-key.pem", trust, "ca.pem"]
            words.append("-verify_return_error")
        for option, word in (("session_out", "-sess_out"), ("session_in", "-sess_in")):
            if file := wish.take(option):
                words += [word, file]
        wish.done()
        return Program(words, wish.folder)

    def server(self, wish: Wish) -> tuple[Program, int]:
        port = free_port()
        words = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", *self._words(wish)]
        if wish.mode == "x509":
            words += ["-cert", "server.pem", "-key", "server-key.pem", "-CAfile", "ca.pem", "-Verify", "2"]
            words.append("-verify_return_error")
        else:
            words.append("-nocert")
        if wish.take("cookie") == "yes":
            words.append("-listen")
        wish.done()
        program = Program(words, wish.folder)
        program.wait_said("ACCEPT")
        return program, port


class GnuTls:
    """Options: ``resume`` (yes: a second handshake after the first), ``ticket`` (no), ``mtu``, ``etm`` (no), ``ems``
    (no)."""

    name, application, echoes, verb = "gnutls", "lines", True, ""
    names = {
        PSK_CCM_8: "AES-128-CCM-8", PSK_CCM: "AES-128-CCM", PSK_GCM: "AES-128-GCM", PSK_CBC: "AES-128-CBC",
        ECDHE_CCM_8: "AES-128-CCM-8", ECDHE_CCM: "AES-128-CCM", ECDHE_GCM: "AES-128-GCM", ECDHE_CBC: "AES-128-CBC",
    }  # fmt: skip

    def missing(self) -> str:
        return not_installed("gnutls-cli", "gnutls-bin")

    def version(self) -> str:
        return "GnuTLS " + first_line("gnutls-cli", "--version").split()[-1]

    def _words(self, wish: Wish) -> list[str]:
        mac = "SHA256" if wish.suite in (PSK_CBC, ECDHE_CBC) else "AEAD"
        priority = ["NONE", "+VERS-DTLS1.2", f"+{self.names[wish.suite]}", f"+{mac}", "+COMP-NULL"]
        if wish.mode == "psk":
            priority += ["+PSK", "+CTYPE-X509", "+SIGN-ALL", "+GROUP-ALL"]
        else:
            # Other curves and signatures stay out, as in a device.
            priority += ["+ECDHE-ECDSA", "+GROUP-SECP256R1", "+SIGN-ECDSA-SHA256"]
            kind = "RAWPK" if wish.mode == "rpk" else "X509"
            priority += [f"+CTYPE-CLI-{kind}", f"+CTYPE-SRV-{kind}"]
        if wish.take("etm") == "no":
            priority.append("%NO_ETM")
        if wish.take("ems") == "no":
            priority.append("%NO_SESSION_HASH")
        words = ["--udp", "--priority", ":".join(priority)]
        if mtu := wish.take("mtu"):
            words += ["--mtu", mtu]
        if wish.take("ticket") == "no":
            words.append("--noticket")
        return words

    def _files(self, wish: Wish, own: str) -> list[str]:
        if wish.mode == "rpk":
            return ["--rawpkkeyfile", f"{own}-key.pem", "--rawpkfile", f"{own}-public.pem"]
        return ["--x509keyfile", f"{own}-key.pem", "--x509certfile", f"{own}.pem", "--x509cafile", "ca.pem"]

    def client(self, port: int, wish: Wish) -> Program:
        words = ["gnutls-cli", *self._words(wish), "--port", str(port)]
        if wish.mode == "psk":
            words += ["--pskusername", wish.identity, "--pskkey", wish.psk.hex()]
        else:
            words += self._files(wish, wish.own or "client")
            # It cannot verify raw public keys by itself; their possession is proven all the same.
            words += ["--insecure"] if wish.mode == "rpk" else ["--verify-hostname", dtls_keys.SERVER]
        if wish.take("resume") == "yes":
            words.append("--resume")
        wish.done()
        return Program([*words, "127.0.0.1"], wish.folder)

    def server(self, wish: Wish) -> tuple[Program, int]:
        port = free_port()
        words = ["gnutls-serv", *self._words(wish), "--port", str(port), "--echo"]
        if wish.mode == "psk":
            file = wish.folder / f"psk-{port}.txt"
            file.write_text(f"#{wish.identity.encode().hex()}:{wish.psk.hex()}\n")
            words += ["--pskpasswd", str(file)]
        else:
            words += [*self._files(wish, "server"), "--require-client-cert"]
        wish.done()
        program = Program(words, wish.folder)
        program.wait_said("done")
        return program, port


class MbedTls:
    """Options: ``fragment`` (max fragment length, 1 to 4)."""

    name, application, echoes, verb = "mbedtls", "lines", True, ""

    @staticmethod
    @cache
    def _folder() -> tuple[str, str]:
        return fetch(HERE / "mbedtls" / "fetch.sh", sys.executable)

    def missing(self) -> str:
        return self._folder()[1]

    def _python(self) -> str:
        return str(Path(self._folder()[0]) / "bin" / "python")

    def version(self) -> str:
        return first_line(self._python(), "-c", "from mbedtls import version; print(version.version)")

    def _words(self, role: str, wish: Wish) -> list[str]:
        first = "PSK" if wish.mode == "psk" else "ECDHE-ECDSA"
        last = {"CCM_8": "CCM-8", "CCM": "CCM", "GCM": "GCM-SHA256", "CBC": "CBC-SHA256"}
        suite = f"TLS-{first}-WITH-AES-128-{last[SUITES[wish.suite].partition('-')[2]]}"
        words = [self._python(), str(HERE / "mbedtls" / "peer.py"), f"role={role}", f"mode={wish.mode}"]
        words += [f"suite={suite}", f"identity={wish.identity}", f"key={wish.psk.hex()}", f"folder={wish.folder}"]
        if fragment := wish.take("fragment"):
            words.append(f"fragment={fragment}")
        if wish.own:
            words.append(f"own={wish.own}")
        wish.done()
        return words

    def client(self, port: int, wish: Wish) -> Program:
        return Program([*self._words("client", wish), f"port={port}"])

    def server(self, wish: Wish) -> tuple[Program, int]:
        program = Program(self._words("server", wish))
        program.wait_said("port ")
        return program, int(program.said.partition("port ")[2].split()[0])


class TinyDtls:
    """Has one suite, and pre-shared keys alone in its Python binding. No options."""

    name, application, echoes, verb = "tinydtls", "lines", True, ""

    @staticmethod
    @cache
    def _folder() -> tuple[str, str]:
        return fetch(HERE / "tinydtls" / "fetch.sh", sys.executable)

    def missing(self) -> str:
        return self._folder()[1]

    def version(self) -> str:
        return f"tinydtls of DTLSSocket {Path(self._folder()[0]).name.partition('-')[2]}"

    def _words(self, role: str, wish: Wish) -> list[str]:
        wish.done()
        python = str(Path(self._folder()[0]) / "bin" / "python")
        peer = str(HERE / "tinydtls" / "peer.py")
        return [python, peer, f"role={role}", f"identity={wish.identity}", f"key={wish.psk.hex()}"]

    def client(self, port: int, wish: Wish) -> Program:
        return Program([*self._words("client", wish), f"port={port}"])

    def server(self, wish: Wish) -> tuple[Program, int]:
        program = Program(self._words("server", wish))
        program.wait_said("port ")
        return program, int(program.said.partition("port ")[2].split()[0])


class Libcoap:
    """``library``: openssl or gnutls. It offers what it likes: no suite can be chosen. A client sends one request."""

    application, echoes, verb = "coap", False, ""

    def __init__(self, library: str) -> None:
        self._library = library
        self.name = f"libcoap-{library}"

    def missing(self) -> str:
        return not_installed(f"coap-client-{self._library}", "libcoap3-bin")

    def version(self) -> str:
        said = subprocess.run(
            [f"coap-client-{self._library}", "-?"], capture_output=True, text=True, check=False
        ).stderr
        found = re.search(r" v([\d.]+) .*?TLS Library: (\w+) - runtime ([\d.]+)", said, re.DOTALL)
        return f"libcoap {found[1]} over {found[2]} {found[3]}" if found else "libcoap"

    def _words(self, wish: Wish, own: str) -> list[str]:
        if wish.mode == "psk":
            return ["-k", wish.psk.decode()]
        if wish.mode == "rpk":
            return ["-M", f"{own}-both.pem", "-n"]
        return ["-c", f"{own}.pem", "-j", f"{own}-key.pem", "-C", "ca.pem"]

    def client(self, port: int, wish: Wish) -> Program:
        words = [f"coap-client-{self._library}", "-B", "8", "-v", "6", *self._words(wish, wish.own or "client")]
        if wish.mode == "psk":
            words += ["-u", wish.identity]
        # A certificate is checked against the name in the URI.
        host = dtls_keys.SERVER if wish.mode == "x509" else "127.0.0.1"
        wish.done()
        return Program([*words, "-a", "127.0.0.1", f"coaps://{host}:{port}/"], wish.folder)

    def server(self, wish: Wish) -> tuple[Program, int]:
        # DTLS is one port above the one it is told.
        port = free_port()
        words = [f"coap-server-{self._library}", "-A", "127.0.0.1", "-p", str(port - 1), "-v", "7"]
        wish.done()
        program = Program([*words, *self._words(wish, "server")], wish.folder)
        program.wait_said("created DTLS endpoint")
        return program, port


class Scandium:
    """Options: ``cid`` (bytes, or -1: does not offer any), ``limit`` (record size limit)."""

    name, application, echoes, verb = "scandium", "lines", True, "send "

    def missing(self) -> str:
        return class_path()[1]

    def version(self) -> str:
        jar = next(Path(class_path()[0].partition("/*")[0]).glob("scandium-*.jar"))
        return "Scandium " + jar.stem.partition("-")[2]

    def _words(self, role: str, wish: Wish) -> list[str]:
        first = "PSK" if wish.mode == "psk" else "ECDHE_ECDSA"
        last = {"CCM_8": "CCM_8", "CCM": "CCM", "GCM": "GCM_SHA256", "CBC": "CBC_SHA256"}
        suite = f"TLS_{first}_WITH_AES_128_{last[SUITES[wish.suite].partition('-')[2]]}"
        words = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", class_path()[0], "ScandiumPeer"]
        words += [f"role={role}", f"mode={wish.mode}", f"suite={suite}", f"folder={wish.folder}"]
        words += [f"identity={wish.identity}", f"key={wish.psk.hex()}", f"cid={wish.take('cid', '-1')}"]
        if limit := wish.take("limit"):
            words.append(f"limit={limit}")
        if wish.own:
            words.append(f"own={wish.own}")
        wish.done()
        return words

    def client(self, port: int, wish: Wish) -> Program:
        program = Program([*self._words("client", wish), f"port={port}"])
        program.wait_said("port ")
        # Nothing to say, no handshake.
        program.say("send first word")
        return program

    def server(self, wish: Wish) -> tuple[Program, int]:
        program = Program(self._words("server", wish))
        program.wait_said("port ")
        return program, int(program.said.partition("port ")[2].split()[0])


PEERS: dict[str, Talker] = {
    each.name: each
    for each in (OpenSsl(), GnuTls(), MbedTls(), TinyDtls(), Libcoap("openssl"), Libcoap("gnutls"), Scandium())
}
