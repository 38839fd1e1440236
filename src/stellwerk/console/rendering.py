"""What the stores hold as rows of tables: pure."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.records import MessageRecord
from stellwerk.app.security_facts import NOTHING, SecurityFacts
from stellwerk.app.views import DeviceDetail
from stellwerk.console.live_table import Row
from stellwerk.device.command import UNANSWERED, Command, Step
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.device.record import DeviceRecord

LONGEST_VALUE: Final = 300
LONGEST_BRIEF: Final = 140
LONGEST_FULL: Final = 8_000
"""Of a message; the rest is in received-msg."""


def facts(record: DeviceRecord, detail: DeviceDetail | None) -> str:
    """One line about who the device is and how it registered."""
    parts = [record.node_id]
    if isinstance(record, EndDeviceRecord):
        parts.append(f"behind gateway {record.gateway}, prefix {record.prefix}")
    if detail is not None and (registration := detail.registration) is not None:
        parts += [
            f"LwM2M {registration.version}",
            registration.address,
            f"lifetime {registration.lifetime_s} s" if registration.lifetime_s else "lifetime without end",
            f"binding {registration.binding}" if registration.binding else "",
            "queue mode" if registration.queue_mode else "",
            "objects " + " ".join(registration.objects),
        ]
    return " · ".join(each for each in parts if each)


def standing_rows(detail: DeviceDetail | None) -> list[Row]:
    if detail is None:
        return []
    return [{"id": 0, "state": detail.line.standing, "seen": detail.line.last_seen_ms}]


def security_rows(record: DeviceRecord, detail: DeviceDetail | None) -> list[Row]:
    """How the device proves who it is, and whether it has; never a secret."""
    facts = _proof(record, NOTHING if detail is None else detail.security)
    registration = None if detail is None else detail.registration
    if registration is not None and not isinstance(record, EndDeviceRecord):
        within = "secure session" if registration.secure else ""
        if registration.oscore:
            facts.append(("Speaks now", f"with OSCORE{within and f' within a {within}'}"))
        else:
            facts.append(("Speaks now", f"over a {within}" if within else "without security"))
    return [{"id": name, "what": name, "says": says} for name, says in facts if says]


def _proof(record: DeviceRecord, security: SecurityFacts) -> list[tuple[str, str]]:
    if isinstance(record, EndDeviceRecord):
        return [("Proves itself by", f"gateway {record.gateway}, which it is reached through")]
    if security.trouble:
        return [("Proves itself by", "not known"), ("Why", security.trouble)]
    endpoint = security.endpoint or "any that means this device"
    match security.kind:
        case "psk":
            facts = [("Proves itself by", "a pre-shared key"), ("PSK identity", security.identity)]
        case "rpk":
            facts = [("Proves itself by", "a raw public key"), ("Public key, SHA-256", security.fingerprint)]
        case "x509" if security.fingerprint:
            until = f", until {_time(str(security.until_ms))[:10]}" if security.until_ms else ""
            facts = [
                ("Proves itself by", "this very certificate"),
                ("Certificate", security.subject + until),
                ("Certificate, SHA-256", security.fingerprint),
            ]
        case "x509":
            facts = [("Proves itself by", "a certificate of a trusted authority")]
            endpoint = f"{security.identity}, which the certificate names"
        case "oscore":
            facts = [("Proves itself by", "OSCORE, with nothing below it")]
        case _:
            return [("Proves itself by", "nothing: it comes without security (NoSec)")]
    changed = _time(str(security.changed_ms)) if security.changed_ms else ""
    return [*facts, ("OSCORE sender ID", security.oscore), ("Endpoint name", endpoint), ("Set", changed)]


def value_rows(detail: DeviceDetail | None) -> list[Row]:
    """Grouped by object instance."""
    rows: list[Row] = []
    before = ""
    for each in () if detail is None else detail.values:
        instance = "/".join(each.path.split("/")[:3])
        row: Row = {
            "id": each.path,
            "path": each.path,
            "name": each.name,
            "value": _cut(_time(each.value) if each.is_time else _plain(each.value), LONGEST_VALUE),
            "units": each.units,
            "time": each.time_ms,
        }
        if instance != before:
            row["group"] = f"{each.object_name} {instance}".strip()
        rows.append(row)
        before = instance
    return rows


def command_rows(detail: DeviceDetail | None) -> list[Row]:
    if detail is None:
        return []
    rows: list[Row] = []
    for each in detail.commands:
        content = _cut(_plain(each.content), LONGEST_BRIEF)
        rows.append(
            {
                "id": each.command_id,
                "content": content,
                "about": content,
                "step": step_of(each, detail),
                "made": each.created_ms,
                "cancel": "Cancel" if each.step is Step.QUEUED else "",
            }
        )
    return rows


def step_of(command: Command, detail: DeviceDetail) -> str:
    """How far a command has come; of one that waits, where it stands and what for."""
    if command.step is Step.QUEUED and command.command_id in detail.queue:
        place = detail.queue.index(command.command_id) + 1
        until = {"asleep": ", until it wakes", "registered": ""}.get(detail.line.standing, ", until it registers")
        return f"{command.step.value}, {place} of {len(detail.queue)}{until}"
    if command.step is Step.SENT and command.reason == UNANSWERED:
        return f"{command.step.value}, no answer; again when it is heard"
    return command.step.value


def message_rows(detail: DeviceDetail | None) -> list[Row]:
    return [_message_row(each) for each in (() if detail is None else detail.messages)]


def log_rows(detail: DeviceDetail | None) -> list[Row]:
    lines = () if detail is None else detail.log
    return [{"id": each.seq, "time": each.time_ms, "event": each.event, "detail": each.detail} for each in lines]


def flaws(requests: Sequence[CommandRequest | RefusedRequest]) -> str:
    """Why commands of a text cannot be sent, in the words their application reads too; empty where all can."""
    return "; ".join(each.detail for each in requests if isinstance(each, RefusedRequest))


def _message_row(message: MessageRecord) -> Row:
    content = _loads(message.content)
    kind = "message"
    if isinstance(content, dict):
        kind = str(content.get("messageType") or kind)
        brief = _brief(content)
        full = json.dumps(content, ensure_ascii=False, indent=2)
    else:
        brief = full = _plain(message.content)
    if message.labels:
        full += "\n\nlabels: " + ", ".join(message.labels)
    return {
        "id": message.resource_id,
        "time": message.created_ms,
        "kind": kind,
        # Of a status message the kind says it all.
        "brief": _cut(brief, LONGEST_BRIEF) or kind,
        "full": _cut(full, LONGEST_FULL),
    }


def _brief(content: dict[str, Any]) -> str:
    """The point of a message in a line: ``read 3/0/0: success, 3/0/0 = Stellwerk``."""
    parts = []
    asked = " ".join(str(content[each]) for each in ("method", "resourcePath") if content.get(each))
    status = content.get("status")
    if isinstance(status, dict):
        result = str(status.get("message", ""))
        detail = status.get("detail")
        parts.append(f"{asked}: {result}" + (f" ({detail})" if detail else "") if asked else result)
    elif asked:
        parts.append(asked)
    data = content.get("data")
    if isinstance(data, dict):
        parts += [f"{name} = {_text(each)}" for name, each in data.items()]
    elif "dataValue" in content:
        parts[-1:] = [f"{asked} = {_text(content['dataValue'])}"]
    if parts:
        return ", ".join(parts)
    rest = {name: each for name, each in content.items() if name not in _KNOWN_ALREADY}
    return json.dumps(rest, ensure_ascii=False) if rest else ""


_KNOWN_ALREADY: Final = frozenset({"nodeResourceName", "time", "messageType", "messageTypeName"})
"""What the page and the other columns say."""


def _plain(text: str) -> str:
    """JSON text for people: a string without quotes."""
    value = _loads(text)
    return value if isinstance(value, str) else text


def _time(text: str) -> str:
    """Milliseconds as a date; what is none stays as it is."""
    value = _loads(text)
    if not isinstance(value, int) or isinstance(value, bool):
        return _plain(text)
    try:
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
