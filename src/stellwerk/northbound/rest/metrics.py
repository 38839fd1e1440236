"""``GET /metrics``: what the server counts of itself, as Prometheus reads it.

Figures live with whoever counts them (`app.meters` and others); here they get names, when somebody asks. The registry
is our own, so nothing that another library counts appears by accident. `docs/metrics.md` lists every name, and a test
compares.
"""

import platform
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, TypeAlias

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from stellwerk import __version__
from stellwerk.app.histogram import Histogram
from stellwerk.app.meters import Meters, Transport
from stellwerk.app.monitoring import Monitor
from stellwerk.app.ports import StoreCondition
from stellwerk.northbound.auth import Unauthorized, is_loopback
from stellwerk.northbound.rest.errors import error_body
from stellwerk.northbound.services import Services

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

AsgiScope: TypeAlias = MutableMapping[str, Any]
Asgi: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Key: TypeAlias = tuple[str, ...]

_FACES: Final = (
    ("/device-management-orchestrator", "device-to-cloud"),
    ("/onem2m", "onem2m"),
    ("/oauth", "oauth"),
    ("/api", "api"),
    ("/health", "health"),
    ("/metrics", "metrics"),
)
_CONSOLE: Final = "console"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures are. ``commands``: how many wait and how many are on their way; ``registrations``: how many
    are in memory; ``projector``: its process ID if it runs, its restarts, entries it could not interpret."""

    meters: Meters
    monitor: Monitor
    condition: Callable[[], StoreCondition]
    transport: Callable[[], Transport]
    registrations: Callable[[], int]
    commands: Callable[[], tuple[int, int]]
    projector: Callable[[], tuple[int | None, int, int]]


class StellwerkCollector(Collector):
    """Reads everything anew each time."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        yield from self._devices()
        yield from self._transport()
        yield from self._secure()
        yield from self._tls()
        yield from self._bootstrap()
        yield from self._store()
        yield from self._projector()
        yield from self._brake()
        yield from self._people()
        yield _gauge(
            "stellwerk_build_info",
            "Always 1; the labels say what runs",
            ("version", "python"),
            {(__version__, platform.python_version()): 1},
        )

    def _devices(self) -> Iterator[Metric]:
        meters = self._sources.meters
        yield _counter(
            "stellwerk_uplinks",
            "Requests of devices that were answered, by what they meant and the answer's CoAP code",
            ("kind", "code"),
            {
                (kind, f"{status // 100}.{status % 100:02d}"): count
                for kind, meter in meters.uplinks.items()
                for status, count in meter.answers.items()
            },
        )
        yield _histogram(
            "stellwerk_answer_seconds",
            "From the reception of a request to its answer, where that is a success: what is stored by then",
            ("kind",),
            {(kind,): meter.seconds for kind, meter in meters.uplinks.items()},
        )
        yield _counter(
            "stellwerk_notifications",
            "Notifications of wanted observations: stored, or left without a word since nothing could store them",
            ("type", "outcome"),
            meters.notifications,
        )
        yield _counter(
            "stellwerk_registers_refused",
            "Registers that were refused for what they were, by reason",
            ("reason",),
            _by_word(meters.registers_refused),
        )
        yield _counter(
            "stellwerk_identities_refused",
            "What was said in the name of a device by a peer that has not proven to be it",
            ("what",),
            _by_word(meters.identities_refused),
        )
        yield _gauge(
            "stellwerk_registrations",
            "Registrations in memory: of devices that were heard, or asked for, since the start",
            (),
            {(): self._sources.registrations()},
        )
        waiting, in_flight = self._sources.commands()
        yield _gauge(
            "stellwerk_commands_open",
            "Commands in memory that have not ended: they wait for their device, or for its answer",
            ("state",),
            {("queued",): waiting, ("in-flight",): in_flight},
        )
        yield _histogram(
            "stellwerk_command_seconds",
            "From the post of a command to its end, by how it ended",
            ("outcome",),
            {(step.replace(" ", "-"),): found for step, found in meters.commands.items()},
        )

    def _transport(self) -> Iterator[Metric]:
        transport = self._sources.transport()
        yield _counter("stellwerk_datagrams_received", "Datagrams read", (), {(): transport.received})
        yield _counter("stellwerk_datagrams_sent", "Datagrams that the system took", (), {(): transport.sent})
        yield _counter(
            "stellwerk_datagrams_dropped",
            "Datagrams that the system dropped: on their way out, or because they came faster than they were read",
            ("direction",),
            {("in",): transport.overflowed, ("out",): transport.lost},
        )
        yield _counter(
            "stellwerk_coap_refused",
            "What came by CoAP and led to nothing, by reason: a response code, or the engine's word",
            ("reason",),
            _by_word(transport.refused),
        )
        yield _counter(
            "stellwerk_coap_duplicates",
            "Messages that had come before: answered from memory, or swallowed",
            (),
            {(): transport.duplicates},
        )
        yield _counter(
            "stellwerk_coap_retransmissions",
            "Confirmable messages of ours that were sent again",
            (),
            {(): transport.retransmissions},
        )
        yield _gauge(
            "stellwerk_coap_peers", "Addresses of which the engine remembers something", (), {(): transport.peers}
        )
        yield _gauge(
            "stellwerk_coap_connections", "Connections of CoAP over TCP that stand", (), {(): transport.connections}
        )
        yield _counter(
            "stellwerk_coap_connections_opened",
            "Connections of CoAP over TCP that were taken",
            (),
            {(): transport.connections_opened},
        )
        yield _counter(
            "stellwerk_coap_connections_ended",
            "Connections of CoAP over TCP that ended, by reason",
            ("reason",),
            _by_word(transport.connections_ended),
        )
        yield _counter(
            "stellwerk_coap_stream_bytes",
            "Bytes of CoAP over TCP, read and sent",
            ("direction",),
            {(direction,): count for direction, count in transport.stream_bytes.items()},
        )

    def _secure(self) -> Iterator[Metric]:
        secure, transport = self._sources.meters.secure, self._sources.transport()
        yield _counter(
            "stellwerk_dtls_handshakes",
            "Handshakes that ended: full, resumed or failed, and why they failed",
            ("result", "reason"),
            secure.handshakes,
        )
        yield _gauge("stellwerk_dtls_handshakes_open", "Handshakes under way", (), {(): transport.handshakes})
        yield _gauge("stellwerk_dtls_sessions", "Secure sessions in memory", (), {(): transport.sessions})
        yield _counter(
            "stellwerk_dtls_sessions_ended",
            "Secure sessions that left memory, by reason",
            ("reason",),
            _by_word(secure.ended),
        )
        yield _counter(
            "stellwerk_dtls_sessions_restored",
            "Secure sessions that were loaded from the store and went on without a handshake",
            (),
            {(): secure.restored},
        )
        yield _counter(
            "stellwerk_dtls_sessions_moved",
            "Times that a secure session was heard from another address",
            (),
            {(): secure.moved},
        )
        yield _counter(
            "stellwerk_dtls_limited",
            "What was refused since there was too much of it, by whose bound that is",
            ("by",),
            _by_word(secure.limited),
        )
        yield _counter(
            "stellwerk_dtls_dropped",
            "Records of DTLS that led to nothing, by reason",
            ("reason",),
            _by_word(transport.records_dropped),
        )

    def _tls(self) -> Iterator[Metric]:
        secure, transport = self._sources.meters.tls, self._sources.transport()
        yield _counter(
            "stellwerk_tls_handshakes",
            "Handshakes of TLS that ended: full or failed, and why they failed",
            ("result", "reason"),
            secure.handshakes,
        )
        yield _gauge("stellwerk_tls_handshakes_open", "Handshakes of TLS under way", (), {(): transport.tls_handshakes})
        yield _counter(
            "stellwerk_tls_limited",
            "What was refused since there was too much of it, by whose bound that is",
            ("by",),
            _by_word(secure.limited),
        )
        yield _counter(
            "stellwerk_tls_dropped",
            "Connections that led to no handshake, by reason",
            ("reason",),
            _by_word(transport.tls_dropped),
        )
        yield _gauge(
            "stellwerk_tls_connections", "Connections behind TLS that stand", (), {(): transport.tls_connections}
        )
        yield _counter(
            "stellwerk_tls_connections_opened",
            "Connections behind TLS whose handshake was complete",
            (),
            {(): transport.tls_opened},
        )
        yield _counter(
            "stellwerk_tls_connections_ended",
            "Connections behind TLS that ended, by reason",
            ("reason",),
            _by_word(transport.tls_ended),
        )
        yield _counter(
            "stellwerk_tls_bytes",
            "Bytes of TLS, read and sent",
            ("direction",),
            {(direction,): count for direction, count in transport.tls_bytes.items()},
        )

    def _bootstrap(self) -> Iterator[Metric]:
        bootstrap = self._sources.meters.bootstrap
        yield _gauge(
            "stellwerk_bootstrap_sessions_running", "Bootstrap sessions under way", (), {(): bootstrap.running()}
        )
        yield _counter(
            "stellwerk_bootstrap_sessions",
            "Bootstrap sessions that ended, by how they did",
            ("state",),
            {(state.replace(" ", "-"),): count for state, count in bootstrap.sessions.items()},
        )
        yield _counter(
            "stellwerk_bootstrap_steps",
            "Steps of bootstrap sessions, by operation and the device's answer",
            ("operation", "outcome"),
            bootstrap.steps,
        )
        yield _counter(
            "stellwerk_bootstrap_refused",
            "Bootstrap-Requests and Bootstrap-Pack-Requests that led to nothing, by reason",
            ("reason",),
            _by_word(bootstrap.refused),
        )
        yield _counter(
            "stellwerk_oscore_contexts",
            "What happened to OSCORE contexts",
            ("event",),
            _by_word(self._sources.meters.oscore.contexts),
        )

    def _store(self) -> Iterator[Metric]:
        meters, condition = self._sources.meters, self._sources.condition()
        yield _counter(
            "stellwerk_journal_entries",
            "Entries of the journal since it was made: a restart does not set it back",
            (),
            {(): condition.last_seq},
        )
        yield _counter(
            "stellwerk_journal_payload_bytes", "Payload that was stored in the journal", (), {(): meters.journal_bytes}
        )
        yield _histogram(
            "stellwerk_commit_group_size",
            "Decisions in one transaction of the journal",
            (),
            {(): meters.groups},
        )
        yield _histogram(
            "stellwerk_commit_seconds",
            "How long a transaction of the journal took, until it was on disk",
            (),
            {(): meters.group_seconds},
        )
        yield _counter("stellwerk_writes", "What people and applications wrote", (), {(): meters.writes})
        yield _gauge("stellwerk_queue_length", "Decisions that wait for the disk", (), {(): condition.queue})
        yield _gauge("stellwerk_queue_bytes", "Payload that waits for the disk", (), {(): condition.queue_bytes})
        yield _gauge(
            "stellwerk_store_failing",
            "1 while nothing can be stored: the disk is full or broken",
            (),
            {(): int(bool(condition.failing))},
        )
        yield _counter(
            "stellwerk_store_failures", "Times in which nothing could be stored", (), {(): meters.store_failures}
        )

    def _projector(self) -> Iterator[Metric]:
        monitor = self._sources.monitor
        pid, restarts, failures = self._sources.projector()
        yield _gauge(
            "stellwerk_projection_lag_entries", "Entries that are not projected", (), {(): monitor.lag.entries}
        )
        yield _gauge("stellwerk_projection_lag_bytes", "Payload that is not projected", (), {(): monitor.lag.bytes})
        yield _gauge(
            "stellwerk_projection_lag_seconds",
            "Age of the oldest entry that is not projected",
            (),
            {(): round(monitor.lag.age_s, 3)},
        )
        yield _counter(
            "stellwerk_projection_failures", "Entries that could not be interpreted, ever", (), {(): failures}
        )
        yield _counter("stellwerk_projector_restarts", "How often the projector was started again", (), {(): restarts})
        yield _gauge("stellwerk_projector_up", "1 while the projector runs", (), {(): int(pid is not None)})
        yield _gauge(
            "stellwerk_projector_stuck",
            "1 while entries wait and the projector takes none",
            (),
            {(): int(monitor.stuck)},
        )

    def _brake(self) -> Iterator[Metric]:
        brake = self._sources.monitor.brake
        yield _gauge(
            "stellwerk_brake_level",
            "What devices are refused: 0 nothing, 1 Sends, 2 Registers too, 3 Updates too",
            (),
            {(): int(brake.level)},
        )
        yield _counter(
            "stellwerk_brake_refused",
            "What was refused or left because the server could not take it, and why",
            ("what", "why"),
            brake.refused,
        )

    def _people(self) -> Iterator[Metric]:
        meters = self._sources.meters
        yield _counter(
            "stellwerk_http_requests",
            "HTTP requests that were answered, by face and status",
            ("face", "status"),
            {(face, str(status)): count for (face, status), count in meters.http.items()},
        )
        yield _histogram(
            "stellwerk_http_seconds",
            "From an HTTP request to the first byte of its answer",
            ("face",),
            _by_word(meters.http_seconds),
        )


def build_registry(sources: Sources) -> CollectorRegistry:
    """Everything that ``/metrics`` shows, on a registry of its own: our figures, and those of the two processes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StellwerkCollector(sources))
    ProcessCollector(registry=registry)
    ProcessCollector(namespace="stellwerk_projector", pid=lambda: sources.projector()[0] or 0, registry=registry)
    return registry


def metrics_routes(services: Services, sources: Sources | None) -> APIRouter:
    """``/metrics`` for callers on this machine, and for others with any bearer token that is good here; 401 without.
    Nothing where there are no ``sources``."""
    router = APIRouter(tags=["Health"])
    if sources is None:
        return router
    registry = build_registry(sources)

    @router.get("/metrics", summary="Figures for Prometheus", responses={401: {"description": "A token is missing"}})
    async def metrics(request: Request) -> Response:
        headers = request.headers
        host = request.client.host if request.client is not None else None
        forwarded = "forwarded" in headers or "x-forwarded-for" in headers
        if forwarded or not is_loopback(host):
            try:
                services.tokens.access(headers.get("authorization"), host, forwarded)
            except Unauthorized as error:
                body = error_body(401, str(error), services.clock.wall_ms())
                return JSONResponse(body, 401, {"www-authenticate": "Bearer"})
        return Response(generate_latest(registry), media_type=CONTENT_TYPE)

    return router


def counted(app: Asgi, meters: Meters) -> Asgi:
    """``app``, with its answers counted by face and status, and timed."""

    async def counting(scope: AsgiScope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started = perf_counter()
        face = _face_of(scope["path"])

        async def watched(message: AsgiScope) -> None:
            if message["type"] == "http.response.start":
                meters.http[face, message["status"]] += 1
                meters.http_seconds[face].observe(perf_counter() - started)
            await send(message)

        await app(scope, receive, watched)

    return counting


def _face_of(path: str) -> str:
    for prefix, face in _FACES:
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            return face
    return _CONSOLE


def _by_word(found: Mapping[str, Any]) -> dict[Key, Any]:
    return {(word,): value for word, value in found.items()}


def _counter(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, labels: Sequence[str], values: Mapping[Any, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, found in values.items():
        buckets = [
            ("+Inf" if bound == float("inf") else str(bound), float(count)) for bound, count in found.cumulative()
        ]
        family.add_metric(key, buckets, found.sum)
    return family
