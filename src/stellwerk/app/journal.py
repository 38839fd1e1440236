"""The journal's entry: one thing that happened to one device, as it is stored (design §3)."""

from enum import IntEnum

import msgspec


class Kind(IntEnum):
    """What happened. Numbers are stored; never reuse one."""

    REGISTER = 1
    UPDATE = 2
    DEREGISTER = 3
    EXPIRE = 4
    SEND = 5
    NOTIFY = 6
    ANSWER = 7
    """The device answered a command, or the command ended without an answer; ``reason`` says how."""
    LOG = 8
    """Nothing but a line for the device's log."""
    INJECTED = 9
    """An application posted into received-msg."""
    READING = 10
    """What the device answered to a Read of ours after it registered: values, and no message (contract Device to Cloud
    §9)."""
    MESSAGE_REMOVED = 11
    """An application deleted a received message; ``location`` is its resource ID."""
    MODELS = 12
    """The imported object models changed; of no device (``device_id`` is 0). What was received before it was understood
    by the models of that time."""
    OUTCOME = 13
    """As ANSWER, of a command that came in no message: values and log, and nothing in received-msg."""


class JournalEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Stored as a MessagePack array in this order; add fields at the end, with defaults.

    ``receipt``: the 8 bytes that recognise a retransmission after a restart, empty where there was no message.
    ``status``: our answer to the device, or for ANSWER, OUTCOME and NOTIFY the device's code (``205``); 0 where there
    is none.
    ``path``: the path asked, observed or registered under; ``/`` forms of `lwm2m.path`.
    ``payload`` and ``content_format`` (-1: none) as received; LOG has how far a bootstrap session is as ``payload``
    (`app.bootstrap_progress`), or none. ``labels``: frozen when it happened.
    ``location``: of REGISTER, the new registration, whose endpoint name is ``method``. ``method`` and ``reason``: of
    ANSWER and OUTCOME, the word of the operation and the key of the status table (contract Device to Cloud §12).
    ``detail``: for people; of REGISTER, the query.
    INJECTED has the content's JSON text as ``payload``, the resource name as ``location``, contentInfo as ``method``
    and the creator as ``detail``.
    ``command_id``: of ANSWER and OUTCOME. ``root``: the alternate path that SenML names in the payload carry (contract
    R-11).
    """

    kind: int
    device_id: int
    time_ms: int
    receipt: bytes = b""
    status: int = 0
    path: str = ""
    content_format: int = -1
    payload: bytes = b""
    labels: tuple[str, ...] = ()
    location: str = ""
    method: str = ""
    reason: str = ""
    detail: str = ""
    command_id: int = 0
    root: str = ""

    @property
    def answers_request(self) -> bool:
        """Whether ``status`` is what we answered to a request (a notification is only acknowledged)."""
        return self.kind in (Kind.REGISTER, Kind.UPDATE, Kind.DEREGISTER, Kind.SEND)
