"""What a fleet of simulated devices is, and what can be combined."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from stellwerk.coap.parameters import Parameters
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.enrolment import Patience
from stellwerk.sim.faults import MISBEHAVIOUR, Fault, InvalidFault
from stellwerk.sim.impairment import Conditions
from stellwerk.sim.key_files import ContextKeyring
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.reach import SECURE_SCHEME, TCP_SCHEME, TLS_SCHEME, NoServer
from stellwerk.sim.security import Security
from stellwerk.sim.tls_streams import require_tls


class Behaviour(Enum):
    """What kind of device one is."""

    QUIET = "quiet"
    """Awake; nothing moves, and it speaks only to keep its registration."""
    MOVING = "moving"
    SLEEPER = "sleeper"
    """Queue mode: does not listen outside its awake window."""
    MISBEHAVING = "misbehaving"
    """Late, silent, refusing or talking nonsense now and then."""


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What to simulate. Times in seconds, None switches a timer off.

    Devices are named ``{prefix}{first}``, ``{prefix}{first + 1}`` and so on; ``behaviours`` says what the first ones
    are, and the last of it counts for all that follow. ``conditions`` hold for both directions.
    """

    server: str = "coap://127.0.0.1:5683"
    count: int = 1
    prefix: str = "sim-"
    first: int = 1
    lwm2m_version: str = "1.1"
    lifetime_s: int = 300
    update_every_s: float | None = None
    sample_every_s: float = 10.0
    send_every_s: float | None = None
    queue_mode: bool = False
    """All of them sleep, whatever else they are."""
    sleeper_update_every_s: float = 60.0
    """How often a sleeper wakes up, where ``update_every_s`` says nothing."""
    awake_s: float = 10.0
    start_per_s: float = 250.0
    conditions: Conditions = field(default_factory=Conditions)
    behaviours: Sequence[Behaviour] = (Behaviour.MOVING,)
    template: DeviceOptions = field(default_factory=lambda: DeviceOptions(""))
    """What all of them are besides: formats, alternate path, profile, further servers, end devices. What is said here
    counts above it."""
    faults: tuple[Fault, ...] = ()
    """What all of them get wrong, besides what their behaviour brings."""
    patience: Patience = field(default_factory=Patience)
    reboot_moves: bool = False
    """After a reboot a device speaks from a new port, as one that gets another address would."""
    security: Security | None = None
    """What they have in common as secure devices, whose ``server`` is written ``coaps://``. None: they are not."""
    bootstrap: Commissioning | None = None
    """How they bootstrap; ``server`` is their bootstrap server then. None: they register with ``server``."""
    oscore: ContextKeyring | None = None
    """The OSCORE context that each has with ``server``; within DTLS or TLS where it is secure besides."""
    parameters: Parameters = field(default_factory=Parameters)
    """Transmission parameters of the devices; modems on slow links have an ACK timeout of 4 to 15 s."""
    seed: int = 1
    summary_every_s: float = 5.0
    leave_within_s: float = 5.0
    """How long a stop waits for the answers to De-register."""

    @property
    def is_stream(self) -> bool:
        """Whether the devices speak over TCP, or TLS."""
        return self.server.startswith(f"{TCP_SCHEME}://") or self.is_tls

    @property
    def is_tls(self) -> bool:
        """Whether the devices speak over TLS."""
        return self.server.startswith(f"{TLS_SCHEME}://")

    @property
    def commissioning(self) -> Commissioning | None:
        """How they get the accounts that say which security they have with whom. None: they need none."""
        if self.oscore is not None and self.bootstrap is None:
            return Commissioning(BootstrapOptions("", is_bootstrap=False))
        return self.bootstrap

    @property
    def is_secure(self) -> bool:
        """Whether the server is to be reached by DTLS."""
        return self.server.startswith(f"{SECURE_SCHEME}://")

    def behaviour_of(self, index: int) -> Behaviour:
        """What the device with ``index`` (from 0) is."""
        return self.behaviours[min(index, len(self.behaviours) - 1)] if self.behaviours else Behaviour.MOVING

    def device(self, index: int) -> DeviceOptions:
        """The options of the device with ``index`` (from 0)."""
        behaviour = self.behaviour_of(index)
        sleeps = self.queue_mode or behaviour is Behaviour.SLEEPER
        quiet = behaviour is Behaviour.QUIET
        return replace(
            self.template,
            endpoint_name=f"{self.prefix}{self.first + index}",
            server_uri=self.server,
            lwm2m_version=self.lwm2m_version,
            lifetime_s=self.lifetime_s,
            update_every_s=self.update_every_s or (self.sleeper_update_every_s if sleeps else None),
            sample_every_s=self.sample_every_s,
            send_every_s=None if quiet else self.send_every_s,
            binding="T" if self.is_stream and self.template.binding == "U" else self.template.binding,
            queue_mode=sleeps,
            awake_s=self.awake_s,
            moving=not quiet,
            faults=(*self.faults, *(MISBEHAVIOUR if behaviour is Behaviour.MISBEHAVING else ())),
            patience=self.patience,
            seed=self.seed * 1_000_003 + index,
        )


def require_possible(options: FleetOptions) -> None:
    """Raises `NoServer`, `InvalidFault` or `NoWay` where devices cannot be all of that at once."""
    server, security, commissioning = options.server, options.security, options.commissioning
    if (options.is_secure or options.is_tls) is (security is None):
        raise NoServer(
            server,
            "devices that speak DTLS need credentials; give them some (--psk, --rpk or --cert), or write coap://"
            if options.is_secure
            else "devices that speak TLS need credentials; give them some (--psk or --cert), or write coap+tcp://"
            if options.is_tls
            else "devices with credentials speak DTLS or TLS; write coaps://HOST:PORT or coaps+tcp://HOST:PORT",
        )
    bootstraps = commissioning is not None and commissioning.template.is_bootstrap
    if security is not None and options.is_tls and not bootstraps:
        require_tls(security)
    if commissioning is not None and options.template.other_server_uris:
        why = "devices that bootstrap or have OSCORE speak with the one server that is named"
        raise NoServer(server, f"{why}; write no second server")
    astray = next((each for each in options.faults if each.is_of_handshake), None)
    if astray is not None and not options.is_secure and not bootstraps:
        if options.is_tls:
            raise InvalidFault(astray.kind.value, "it befalls handshakes of DTLS; write coaps://")
        raise InvalidFault(astray.kind.value, "it befalls handshakes, and without security there are none")
    if commissioning is not None and not (options.is_stream or options.is_secure):
        hanging_up = next((each for each in commissioning.template.faults if each.needs_channel), None)
        if hanging_up is not None:
            text = "it ends a connection or a secure session; write coap+tcp://, or give keys"
            raise InvalidFault(hanging_up.kind.value, text)
    for each in options.template.other_server_uris:
        if options.is_stream or options.is_secure or not each.startswith("coap://"):
            raise NoServer(each, "several servers of one device are reached over UDP; write coap:// for all of them")
    if options.is_stream and not options.conditions.perfect:
        raise NoServer(server, "a bad network is one of datagrams; leave out the losses or write coap://")
