"""Send of a gateway: what it says of itself and of each device behind it becomes theirs, in one commit (Core 1.2.2
§6.4.6; LwM2M Gateway 1.1 §9; contract §6, §12)."""

from collections.abc import Callable, Mapping

import structlog

from stellwerk.app.brake import Brake
from stellwerk.app.changes import Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import Acknowledgement
from stellwerk.app.handlers.gateways import Gateways
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.listener import Listener
from stellwerk.app.ports import DecidingStore
from stellwerk.app.registry import Known, KnownGateway
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import PeerError
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import ContentFormat, UnsupportedFormat, decode_content
from stellwerk.lwm2m.gateway import UnknownPrefix, split_payload
from stellwerk.lwm2m.link_format import ObjectList
from stellwerk.lwm2m.operations import Send
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

_ROOT = Path()
_EMPTY_PACK = b"\x80"

Answer = Callable[[Acknowledgement], None]


class NotListed(PeerError):
    """The gateway sends of object ``object_id`` of its own and did not register it."""

    def __init__(self, object_id: int) -> None:
        self.object_id = object_id
        super().__init__(f"object {object_id} is not in the registration")


class GatewaySends:
    """Implements `uplinks.SendsOfGateways`."""

    def __init__(
        self, *, store: DecidingStore, gateways: Gateways, tasks: Tasks, listener: Listener, brake: Brake
    ) -> None:
        self._store = store
        self._gateways = gateways
        self._tasks = tasks
        self._listener = listener
        self._brake = brake

    def send(self, uplink: Send, known: KnownGateway, receipt: bytes, at: Instant, answer: Answer) -> None:
        """Store the Send, all of it or nothing; answers 2.04, or 4.00, 4.04, 4.15, 5.03. Objects of end devices need
        not be listed (contract §6). A prefix that is not known yet is answered 5.03 and the Gateway object read; one
        that the gateway does not list even then, 4.04."""
        if known.loaded:
            self._send(uplink, known, receipt, at, answer)
        elif not self._tasks.spawn("send", self._load_and_send(uplink, known, receipt, at, answer)):
            answer(self._brake.come_again("too many requests are being looked up"))

    async def _load_and_send(
        self, uplink: Send, known: KnownGateway, receipt: bytes, at: Instant, answer: Answer
    ) -> None:
        try:
            await self._gateways.load(known)
        except Exception as error:
            answer(self._not_stored(error))
            raise
        self._send(uplink, known, receipt, at, answer)

    def _send(self, uplink: Send, known: KnownGateway, receipt: bytes, at: Instant, answer: Answer) -> None:
        try:
            rows = self._rows(uplink, known, receipt, at)
        except UnknownPrefix as error:
            if self._gateways.read_since(known, at.now):
                self._refuse(known, at, Status.NOT_FOUND, f"{error}; list it in /25 first", answer)
            else:
                # Perhaps it was attached just now: nothing is lost when the same comes again.
                answer(self._brake.come_again(f"{error} yet; /25 is being read"))
                self._gateways.look(known, at)
            return
        except NotListed as error:
            self._refuse(known, at, Status.NOT_FOUND, str(error), answer)
            return
        except UnsupportedFormat as error:
            self._refuse(known, at, Status.UNSUPPORTED_CONTENT_FORMAT, str(error), answer)
            return
        except PeerError as error:
            self._refuse(known, at, Status.BAD_REQUEST, str(error), answer)
            return

        def done(error: Exception | None) -> None:
            if error is not None:
                answer(self._not_stored(error))
                return
            answer(Acknowledgement(Status.CHANGED))
            known.last_heard = at.now
            self._listener.device_heard(known, at)

        self._store.submit(Commit(rows, (), done))

    def _rows(self, uplink: Send, gateway: KnownGateway, receipt: bytes, at: Instant) -> list[JournalEntry]:
        """The gateway's first; the first that answers the request has the receipt. Raises PeerErrors."""
        parts: Mapping[str, bytes] = split_payload(
            uplink.content_format, uplink.body, gateway.registration.objects.root
        )
        rows: list[JournalEntry] = []
        for prefix, payload in sorted(parts.items()):
            known: Known | None = gateway.with_prefix(prefix) if prefix else gateway
            if known is None:
                raise UnknownPrefix(prefix)
            rows.append(self._row(uplink, known, payload, b"" if rows else receipt, at))
        if "" not in parts:
            rows.append(_heard_of(gateway, at))
        return rows

    def _row(self, uplink: Send, known: Known, payload: bytes, receipt: bytes, at: Instant) -> JournalEntry:
        registration = known.registration
        root = registration.objects.root
        content = decode_content(
            uplink.content_format, payload, _ROOT, registration.types, now_s=at.wall_ms / 1000, root=root
        )
        if known.household is known:
            _check_listed(content, registration.objects)
        return JournalEntry(
            Kind.SEND,
            registration.device_id,
            at.wall_ms,
            receipt,
            Status.CHANGED,
            "/",
            -1 if uplink.content_format is None else uplink.content_format,
            payload,
            known.uplink_labels,
            root=root,
        )

    def _refuse(self, known: Known, at: Instant, status: Status, detail: str, answer: Answer) -> None:
        log.info("uplink.refused", endpoint_name=known.registration.endpoint_name, reason="send-refused", detail=detail)
        answer(Acknowledgement(status, detail=detail))
        row = JournalEntry(Kind.LOG, known.registration.device_id, at.wall_ms, reason="send-refused", detail=detail)
        self._store.submit(Commit((row,), (), _ignore))

    def _not_stored(self, error: Exception) -> Acknowledgement:
        log_not_stored(log, "uplink.not_stored", error, kind="send")
        return self._brake.not_stored("send", error)


def _heard_of(gateway: KnownGateway, at: Instant) -> JournalEntry:
    """It said nothing of itself: that it was heard counts all the same, and makes no message."""
    return JournalEntry(
        Kind.READING,
        gateway.registration.device_id,
        at.wall_ms,
        status=Status.CONTENT,
        path="/",
        content_format=ContentFormat.SENML_CBOR,
        payload=_EMPTY_PACK,
    )


def _check_listed(content: Content, objects: ObjectList) -> None:
    for entry in content.entries:
        if entry.path[0] not in objects.objects:
            raise NotListed(entry.path[0])


def _ignore(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "device_log.lost", error)
