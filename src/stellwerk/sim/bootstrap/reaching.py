"""How a device that bootstraps reaches its servers: which accounts it has, what peer each of them is, and what `ways`
is told of it."""

from collections.abc import Callable
from typing import Final, TypeAlias

from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.path import Path
from stellwerk.sim.bootstrap.accounts import (
    Inconsistent,
    ServerAccount,
    as_made,
    bootstrap_account,
    server_accounts,
)
from stellwerk.sim.bootstrap.contexts import KeptContexts
from stellwerk.sim.bootstrap.memory import Ceilings
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.bootstrap.orders import CloseWay, DropWay, MoveWays, OpenWay, WayOrder, carrier_of
from stellwerk.sim.faults import FaultKind
from stellwerk.sim.tree import SECURITY, Instance, ObjectTree

Resolve: TypeAlias = Callable[[str, int], tuple[str, int] | None]
"""The address of a host name and a port; None where it has none."""

_SCHEMES: Final = {"coap": "udp", "coaps": "dtls", "coap+tcp": "tcp", "coaps+tcp": "tls"}
"""What is spoken here, and the transport of its peers."""


class Reaching:
    """Of the device ``endpoint_name`` whose objects are ``tree``. ``home``: its bootstrap server as a peer; ``strike``:
    what befalls a handshake that begins."""

    __slots__ = ("_known", "_name", "_options", "_orders", "_resolve", "_strike", "_tree", "contexts", "home")

    def __init__(
        self,
        endpoint_name: str,
        tree: ObjectTree,
        options: BootstrapOptions,
        home: PeerId,
        resolve: Resolve,
        strike: Callable[[], FaultKind | None],
    ) -> None:
        self._name = endpoint_name
        self._tree = tree
        self._options = options
        self.home = home
        self._resolve = resolve
        self._strike = strike
        self.contexts = KeptContexts(options.oscore if options.forgets else None)
        self._orders: list[WayOrder] = []
        self._known: Instance = {}
        """What the account of the bootstrap server said when the way to it was opened."""

    def take_orders(self) -> list[WayOrder]:
        """What to tell the ways."""
        orders, self._orders = self._orders, []
        return orders

    # -- the accounts that it has --

    @property
    def home_account(self) -> ServerAccount | None:
        """The one of the bootstrap server; None where there is none, or none that can be used."""
        return bootstrap_account(self._tree, self._options)

    def found(self) -> tuple[ServerAccount, ...]:
        """Those of the others, if they can be used."""
        try:
            return tuple(as_made(each, self._tree, self._options) for each in server_accounts(self._tree))
        except Inconsistent:
            return ()

    def recall(self, ceilings: Ceilings) -> None:
        """How far numbers of contexts were used in an earlier life."""
        own = self.home_account
        for account in (*self.found(), *((own,) if own is not None else ())):
            if account.oscore is not None:
                self.contexts.recall(account.oscore, ceilings)

    # -- ways --

    def peer_of(self, account: ServerAccount) -> PeerId | None:
        """None where there is no way to it."""
        transport = _SCHEMES.get(account.scheme)
        if transport is None:
            return None
        if account.oscore is not None:
            transport = f"oscore+{transport}"
        address = self._resolve(account.host, account.port)
        return None if address is None else PeerId(transport, *address, self.home.local_host, self.home.local_port)

    def open(self, account: ServerAccount, peer: PeerId) -> None:
        """From now on ``peer`` is spoken to as ``account`` says; what there was of a session ends."""
        security = account.security(self._options)
        if security is not None and account.credentials is not None:
            way = OpenWay(carrier_of(peer), self._name, account.credentials, security, self._strike)
            self._orders.append(way)
        if account.oscore is not None:
            self._orders.append(self.contexts.protect(peer, account.oscore))

    def open_home(self) -> None:
        """The same of the bootstrap server."""
        account = self.home_account
        if account is not None:
            # What it keeps of an earlier life may name another one than it was made with.
            self.home = self.peer_of(account) or self.home
            self._known = self._tree.instance(Path(SECURITY, account.instance))
            self.open(account, self.home)

    def open_home_anew(self) -> bool:
        """The bootstrap server may have given another account of itself; whether it did."""
        account = self.home_account
        if account is None:
            return False
        cells, peer = self._tree.instance(Path(SECURITY, account.instance)), self.peer_of(account)
        if peer is None or cells == self._known:
            return False
        self.close(self.home)
        self.open_home()
        return True

    def drop(self, peer: PeerId, *, tells: bool = False) -> None:
        """The session or connection with ``peer`` is gone; there may be another."""
        self._orders.append(DropWay(carrier_of(peer), tells=tells))

    def close(self, peer: PeerId) -> None:
        """``peer`` is not spoken to any more."""
        self._orders.append(CloseWay(peer))

    def lose_context(self, peer: PeerId) -> None:
        """``peer`` could not read what was protected (`KeptContexts.lose`)."""
        anew = self.contexts.lose(peer)
        if anew is not None:
            self._orders.append(anew)

    def move(self, local: tuple[str, int]) -> None:
        """It speaks from another address from now on."""
        old = self.home.local_host, self.home.local_port
        self.home = self.home._replace(local_host=local[0], local_port=local[1])
        self._orders.append(MoveWays(old, local))
