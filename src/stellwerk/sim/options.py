"""How one simulated device behaves."""

from dataclasses import dataclass, field

from stellwerk.lwm2m.path import Path
from stellwerk.sim import objects
from stellwerk.sim.enrolment import Patience
from stellwerk.sim.faults import Fault


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """How one device behaves. Times in seconds; None switches a timer off."""

    endpoint_name: str
    server_uri: str = "coap://localhost:5683"
    lwm2m_version: str = "1.1"
    """One of `release.RELEASES`."""
    lifetime_s: int = 300
    update_every_s: float | None = None
    """None: after 80 % of the lifetime."""
    sample_every_s: float = 10.0
    """How often observed values are looked at, unless it sleeps."""
    send_every_s: float | None = None
    send_paths: tuple[Path, ...] = (objects.SENSOR_VALUE, Path(objects.DEVICE, 0, 9))
    confirm_every: int = 8
    """Each so many-th notification of an observation is confirmable, where no attribute says so; 1 makes all so."""
    binding: str = "U"
    """How it says it can be reached, without queue mode: ``U``, ``T`` (BIN-1)."""
    queue_mode: bool = False
    """It registers as a sleeper and is one: its radio is off but for ``awake_s`` after each message of its own. It
    wakes up for its Update, and for what the attributes of an observation want by time; observed values are looked at,
    and what was measured is sent, after an Update."""
    awake_s: float = 93.0
    """How long a queue-mode device listens after its last message (MAX_TRANSMIT_WAIT, contract QM-2)."""
    moving: bool = True
    faults: tuple[Fault, ...] = ()
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
