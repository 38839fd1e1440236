"""The yardstick: a minimal aiocoap server that stores nothing. Register gets 2.01 with a fixed Location, all else 2.04.

Run with a port: python benchmarks/aiocoap_server.py 5700
With a path behind it (``/3303/0``), it observes that on every device that registers, and throws the values away. With
``--oscore N`` it has the contexts of the load's first N devices, with ``--tls FOLDER`` it speaks CoAP over TLS.
"""

import argparse
import asyncio
import logging
import ssl
import warnings
from pathlib import Path
from typing import Any

import aiocoap
import aiocoap.resource
import uvloop
from aiocoap import oscore
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from fleet import SERVER_ID, name_of, oscore_id, oscore_secret


class _Answering(aiocoap.resource.Resource):
    def __init__(self, code: aiocoap.Code, location: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._code, self._location = code, location

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        answer = aiocoap.Message(code=self._code)
        if self._location:
            answer.opt.location_path = self._location
        return answer


class _Observing(_Answering):
    """Answers a Register, then observes the device."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(aiocoap.CREATED, ("rd", "x"))
        self._path = path
        self._context: aiocoap.Context | None = None
        self._observed: dict[object, object] = {}
        """By address; keeps the observations alive."""

    def connect(self, context: aiocoap.Context) -> None:
        """Who sends the requests."""
        self._context = context

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        asyncio.get_running_loop().call_soon(self._observe, request.remote)
        return await super().render_post(request)

    def _observe(self, remote: object) -> None:
        if self._context is None or remote in self._observed:
            return
        request = aiocoap.Message(code=aiocoap.GET, observe=0)
        request.remote = remote
        request.opt.uri_path = self._path
        sent = self._observed[remote] = self._context.request(request)
        sent.observation.register_callback(lambda _: None)


class _Held(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """The context of one device, in memory alone. Its first request is fresh, as the server has just begun."""

    alg_aead = oscore.algorithms[oscore.DEFAULT_ALGORITHM]
    hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]
    id_context = None
    echo_recovery = None

    def __init__(self, number: int) -> None:
        self.sender_id, self.recipient_id = SERVER_ID, oscore_id(number)
        self.sender_sequence_number = 0
        self.recipient_replay_window = oscore.ReplayWindow(oscore.DEFAULT_WINDOWSIZE, lambda: None)
        self.recipient_replay_window.initialize_empty()
        self.derive_keys(b"", oscore_secret(name_of(number)))

    def post_seqnoincrease(self) -> None:
        """Nothing is stored."""


class _Contexts(CredentialsMap):  # type: ignore[misc]
    """Found by name: the map of its own looks at all of them for each message."""

    def __init__(self, devices: int) -> None:
        super().__init__()
        self._by_id = {oscore_id(number): _Held(number) for number in range(devices)}

    def find_oscore(self, unprotected: dict[Any, Any]) -> _Held:
        return self._by_id[unprotected[oscore.COSE_KID]]


async def serve(port: int, path: str | None, contexts: int, tls: Path | None) -> None:
    observing = _Observing(tuple(path.strip("/").split("/"))) if path else None
    site = aiocoap.resource.Site()
    site.add_resource(["rd"], observing or _Answering(aiocoap.CREATED, ("rd", "x")))
    site.add_resource(["rd", "x"], _Answering(aiocoap.CHANGED))
    site.add_resource(["dp"], _Answering(aiocoap.CHANGED))
    served = OscoreSiteWrapper(site, _Contexts(contexts)) if contexts else site
    more: dict[str, Any] = {}
    if tls:
        # It listens one above, as 5684 is to 5683.
        more = {"transports": ["tlsserver"], "_ssl_context": _tls_context(tls)}
    context = await aiocoap.Context.create_server_context(served, bind=("127.0.0.1", port), **more)
    if observing:
        observing.connect(context)
    await asyncio.get_running_loop().create_future()


def _tls_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "authority.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["coap"])
    return context


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--oscore", type=int, default=0)
    parser.add_argument("--tls", type=Path)
    words = parser.parse_args()
    logging.disable(logging.CRITICAL)
    # A callback costs it less than the task that replaces it.
    warnings.simplefilter("ignore", DeprecationWarning)
    uvloop.run(serve(words.port, words.path, words.oscore, words.tls))
