"""How one simulated device behaves."""

from dataclasses import dataclass, field
from enum import Enum

from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.enrolment import Patience
from stellwerk.sim.faults import Fault


class Composites(Enum):
    """What a device does with Read-Composite, Write-Composite and Observe-Composite (contract D-12). One of LwM2M 1.0
    knows none of them and answers 4.05."""

    ON = "on"
    METHOD_NOT_ALLOWED = "4.05"
    NOT_IMPLEMENTED = "5.01"
    SILENCE = "silence"
    """An empty acknowledgement, and no answer ever."""


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """How one device behaves. Times in seconds; None switches a timer off."""

    endpoint_name: str
    server_uri: str = "coap://localhost:5683"
    other_server_uris: tuple[str, ...] = ()
    """Of further server accounts, with Short Server IDs from 2 on; with any, the Access Control Object rules."""
    lwm2m_version: str = "1.1"
    """One of `release.RELEASES`."""
    formats: tuple[int, ...] = ()
    """The content formats it has; none: all that its release has."""
    composites: Composites = Composites.ON
    binding: str = "U"
    """What it registers as ``b``; it speaks over what it is connected with all the same."""
    root: str = ""
    """The alternate path of its objects, ``/lwm2m`` (contract R-11)."""
    profile_id: str = ""
    """Registered as ``pid`` instead of the object list, which follows where the server does not know it (4.09)."""
    profile_covers: tuple[Path, ...] = ()
    """The objects and instances that ``profile_id`` stands for, the others are listed; none: it stands for all."""
    object_ids: frozenset[int] | None = None
    """Those of `objects.DEFAULT`, or of `catalogue.ETS` with ``ets``, that it has, and others of `catalogue`; None: all
    of the former. Objects 0, 1 and 3 are always there."""
    ets: bool = False
    """The values of the configurations of OMA's test specification (ETS, App. C), which stand still."""
    access_rights: tuple[tuple[Path, int], ...] = ()
    """What the first server may do with an object or an instance, as bits: 1 read, 2 write, 4 execute, 8 delete,
    16 create. With any, the Access Control Object rules."""
    end_devices: int = 0
    """How many devices it is the gateway of."""
    gateway_version: str = "2.0"
    """Of object 25: 2.0, or 1.0 with a routing table in object 26."""
    end_devices_leave_every_s: float | None = None
    """So often one end device goes and the one that went before comes back."""
    lifetime_s: int = 300
    update_every_s: float | None = None
    """None: after 80 % of the lifetime."""
    sample_every_s: float = 10.0
    """How often observed values are looked at, unless it sleeps."""
    send_every_s: float | None = None
    send_paths: tuple[Path, ...] = (objects.SENSOR_VALUE, Path(objects.DEVICE, 0, 9))
    send_format: int = ContentFormat.SENML_CBOR
    """110, 112, or in 1.2 also 11544, which has no place for times."""
    muted: bool = False
    """Mute Send is true until a server writes false."""
    confirm_every: int = 8
    """Each so many-th notification of an observation is confirmable, where no attribute says so; 1 makes all so."""
    queue_mode: bool = False
    """It registers as a sleeper and is one: its radio is off but for ``awake_s`` after each message of its own. It
    wakes up for its Update, and for what the attributes of an observation want by time; observed values are looked at,
    and what was measured is sent, after an Update. What ``hqmax`` wants kept is looked at meanwhile."""
    awake_s: float = 93.0
    """How long a queue-mode device listens after its last message (MAX_TRANSMIT_WAIT, contract QM-2)."""
    moving: bool = True
    faults: tuple[Fault, ...] = ()
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
