"""A bench for secure devices: a DTLS engine in the server's role around a bare CoAP engine, everything in memory."""

from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from stellwerk.coap import codes
from stellwerk.coap.actions import MovePeer, SendRequest
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import ResponseReceived
from stellwerk.coap.parameters import Parameters
from stellwerk.core.identity import PskIdentity
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint as DtlsEndpoint
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.dtls.tickets import TicketKey
from stellwerk.net.secure import SECURE_EVENTS, SecureStack
from stellwerk.sim.device import Device
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Move, Stop
from stellwerk.sim.security import Credentials, Keyring, PreSharedKey, Security
from stellwerk.sim.sessions import Join, SecureDevices, client_endpoint

from .conftest import DEVICE, SERVER, Bench, SeededEntropy

KEY = bytes(range(16))
SERVER_KEY = generate_private_key(SECP256R1())


def psk(endpoint_name: str, number: int) -> Credentials:
    return PreSharedKey(endpoint_name.encode(), KEY)


class SecureBench(Bench):
    """A server that knows ``keys`` and accepts every raw public key and certificate, unless told otherwise."""

    def __init__(
        self,
        keyring: Keyring = psk,
        security: dict[str, Any] | None = None,
        *,
        chain: tuple[bytes, ...] = (),
        **network: Any,
    ) -> None:
        super().__init__(**network)
        self.keys: dict[bytes, bytes] = {b"dev-1": KEY}
        self.resumes = True
        self.established: list[events.SessionEstablished] = []
        self.failed: list[events.HandshakeFailed] = []
        self.ended: list[events.SessionEnded] = []
        self.moved: list[events.PeerMoved] = []
        self.chain = chain
        self.offered: list[bool] = []
        """Of each ClientHello, whether it offers to go on from an earlier session by its id."""
        self.network.trace = self._watch
        self._servers = 0
        self._new_server()
        self.security = Security(keyring, **(security or {}))
        self.clients = client_endpoint(self.security, 10, SeededEntropy(4))
        self.secure = SecureDevices(
            Endpoint(SeededEntropy(2), parameters=Parameters(ack_timeout_s=0.5), verified=True),
            self.clients,
            self.security,
            entropy=SeededEntropy(5),
            utc_offset_s=self.network.instant().wall_ms / 1000 - self.network.now,
        )
        self.devices = self.network.attach(DEVICE, self.secure, self._note)
        self._handles_of_devices = count(1)

    def _new_server(self) -> None:
        # Another entropy each time, or a server that restarts would make the sessions that it forgot once more.
        self._servers += 1
        dtls = DtlsEndpoint(
            SeededEntropy(100 + self._servers),
            server=ServerParameters(identity=ServerIdentity(SERVER_KEY, self.chain), cbc=True),
            ticket_keys=(TicketKey(b"a key for ticket", bytes(16)),),
        )
        self._server = Endpoint(SeededEntropy(1), verified=True)
        self._stack = SecureStack(dtls, self._server)
        self.server = self.network.attach(self.address, self._stack, self._hear)

    def restart_server(self) -> None:
        """It knows no session any more."""
        self._new_server()

    def start(self, **options: Any) -> Device:
        device = self.join(**options)
        self.network.run_for(0.5)
        return device

    def join(self, address: tuple[str, int] = DEVICE, **options: Any) -> Device:
        options.setdefault("endpoint_name", "dev-1")
        device = Device(
            DeviceOptions(**options),
            PeerId("udp", *SERVER, *address),
            utc_offset_s=self.network.instant().wall_ms / 1000 - self.network.now,
            handles=self._handles_of_devices,
        )
        self.devices.submit(Join(device, self.security.keyring(device.options.endpoint_name, 1)))
        return device

    def stop(self, device: Device, wait_s: float = 0.5) -> None:
        self.devices.submit(Stop(device))
        self.network.run_for(wait_s)

    def move(self, device: Device, port: int) -> None:
        """The device speaks from another port and does not know it."""
        self.network.attach((DEVICE[0], port), self.secure, self._note)
        self.devices.submit(Move(device, PeerId("udp", *SERVER, DEVICE[0], port), True))

    def reboot(self, device: Device) -> None:
        """From inside: nobody hears of it."""
        self.poke(device, Device._reboot)

    def end_session(self, alert: int | None = None) -> None:
        self.server.submit(actions.CloseSession(self.established[-1].peer, alert))
        self.network.run_for(0.5)

    def ask(self, code: int, path: str, wait_s: float = 0.5, **request: Any) -> ResponseReceived | None:
        handle = next(self._handles)
        token = request.pop("token", handle.to_bytes(8, "big"))
        segments = tuple(each for each in path.split("/") if each)
        self.server.submit(SendRequest(handle, self.established[-1].peer, code, token, segments, **request))
        self.network.run_until(lambda: handle in self.responses or handle in self.failures, wait_s)
        return self.responses.get(handle)

    def told(self, kind: type) -> list[Any]:
        """What happened to the devices, of one kind."""
        return [each for each in self.happenings if isinstance(each, kind)]

    @property
    def registers(self) -> int:
        return len([each for each in self.asked(codes.POST, "rd") if len(each.path) == 1])

    @property
    def updates(self) -> int:
        return len([each for each in self.asked(codes.POST, "rd") if len(each.path) == 2])

    def _watch(self, now: float, source: Any, target: Any, datagram: bytes) -> None:
        # Records: type 22, epoch 0; then a handshake header, version and random, and the length of the session id.
        if target == self.address and datagram[0] == 22 and datagram[3:5] == bytes(2) and datagram[13] == 1:
            self.offered.append(datagram[59] > 0)

    def _hear(self, happened: list[Any], instant: Instant) -> None:
        for event in happened:
            if type(event) not in SECURE_EVENTS:
                self._serve([event], instant)
                continue
            answer = self._answer(event)
            if answer is not None:
                self._stack.submit(answer, instant.now)

    def _answer(self, event: Any) -> Any:
        if isinstance(event, events.PskQuestion):
            key = self.keys.get(event.identity)
            if key is None:
                return actions.RefusePeer(event.handshake, "unknown-identity", str(PskIdentity(event.identity)))
            return actions.GivePsk(event.handshake, key, 1)
        if isinstance(event, events.CertificateQuestion):
            return actions.AcceptPeer(event.handshake, 1)
        if isinstance(event, events.ResumptionQuestion):
            if self.resumes:
                return actions.AcceptPeer(event.handshake, event.device)
            return actions.RefusePeer(event.handshake, "unknown-identity", "not any more")
        if isinstance(event, events.SessionQuestion):
            return actions.NoSession(event.question)
        if isinstance(event, events.SessionState):
            return actions.SessionStored(event.session_id, event.ceiling)
        if isinstance(event, events.SessionEstablished):
            self.established.append(event)
            if event.resumed is not None:
                return MovePeer(event.resumed, event.peer)
        elif isinstance(event, events.SessionEnded):
            self.ended.append(event)
        elif isinstance(event, events.HandshakeFailed):
            self.failed.append(event)
        elif isinstance(event, events.PeerMoved):
            self.moved.append(event)
        return None
