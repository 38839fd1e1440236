"""Stellwerk inside another program: all that such a program needs, by name (docs/embedding.md).

``Server(Settings(...))`` is a whole server; ``server.operations`` asks its devices.
"""

from stellwerk.app.device_operations import DeviceOperations, Writable
from stellwerk.app.outcome import Outcome
from stellwerk.app.ports import StoreTrouble
from stellwerk.app.posting import BadArgument, Call, Pending, ServerStopped, State, UnknownCommand, UnknownDevice
from stellwerk.app.records import ContainerFull, DeviceGone, NewDevice, QueueFull
from stellwerk.app.reports import Report
from stellwerk.config import Settings
from stellwerk.core.errors import StellwerkError, UserError
from stellwerk.device.command import Step
from stellwerk.device.record import Credential, DeviceRecord
from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, Value
from stellwerk.wiring import NotStarted, Server

__all__ = [
    "BadArgument",
    "Call",
    "ContainerFull",
    "Credential",
    "DeviceGone",
    "DeviceOperations",
    "DeviceRecord",
    "Entry",
    "NewDevice",
    "NotStarted",
    "ObjectLink",
    "Outcome",
    "Path",
    "Pending",
    "QueueFull",
    "Report",
    "Server",
    "ServerStopped",
    "Settings",
    "State",
    "StellwerkError",
    "Step",
    "StoreTrouble",
    "UnknownCommand",
    "UnknownDevice",
    "UserError",
    "Value",
    "Writable",
]
