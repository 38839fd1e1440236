"""What the use cases need of storage about security, as a protocol: what devices prove themselves with, the secure
sessions that came of it, and their OSCORE contexts. A part of `ports.DecidingStore`."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from stellwerk.app.oscore import OscoreContext
from stellwerk.app.session import SecureSession
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.record import Credential, DeviceRecord

Marks: TypeAlias = Sequence[tuple[bytes, int]]
"""Of secure sessions by their IDs: the highest number (epoch << 48 | sequence number) of a record that was read."""


class CredentialChange(NamedTuple):
    """``number``: of the device's latest change. ``only_bootstrap``: all that changed since it was last forgotten is
    what the bootstrap server goes by."""

    device_id: DeviceId
    number: int
    only_bootstrap: bool = False


class SecurityStore(Protocol):
    """Methods raise the store's own errors only when the store itself fails."""

    marks: Callable[[], Marks] | None
    """Asked when a group of commits forms: read marks that are new since it was asked last. They are stored with the
    group, so that after a crash no record is taken again whose effect was stored. Marks of a group that fails are
    stored with the next."""

    # -- credentials --

    async def credential_of(self, device_id: DeviceId) -> Credential | None: ...

    async def credential_by_identity(self, credentials_id: str) -> tuple[DeviceRecord, Credential] | None:
        """Whose ``identity`` that is, whatever the kind of credential."""
        ...

    async def credential_by_key(self, key_id: str) -> tuple[DeviceRecord, Credential] | None:
        """Whose raw public key or certificate that is; None for an empty ``key_id``."""
        ...

    async def bootstrap_credential(self, bootstrap_id: str) -> tuple[DeviceRecord, Credential] | None:
        """Whose bootstrap credential is found by ``bootstrap_id``: ``psk:`` with the identity, ``rpk:`` with the
        SHA-256 of the SubjectPublicKeyInfo in hex, ``x509:`` with that of the certificate."""
        ...

    async def set_credential(self, device_id: DeviceId, credential: Credential | None) -> DeviceRecord | None:
        """Give the device a credential, or take it away; ``security`` follows. None where there is no such device.
        Raises `AlreadyExists` for an identity or a key that another device has. Sessions stay, and so does the
        registration, but where the device proves itself otherwise from now on (`proof_of`), or the bootstrap server
        goes by something else, `credential_changes` names it."""
        ...

    async def change_credential(
        self, device_id: DeviceId, change: Callable[[Credential | None], Credential | None]
    ) -> DeviceRecord | None:
        """`set_credential` with what ``change`` makes of the credential that the device has then: nothing comes in
        between, no other program and no fresh key that is taken. ``change`` looks at nothing else and is quick; what it
        raises is raised, and nothing is changed."""
        ...

    async def spend_bootstrap_credential(self, device_id: DeviceId, now_ms: int) -> None:
        """A one-time bootstrap credential was used up at that time (`Credential.spent_ms`); nothing where it is not
        one-time, was spent before, or was set after that. It can be used again once somebody sets it anew."""
        ...

    async def credential_changes(self, limit: int) -> Sequence[CredentialChange]:
        """Devices whose credentials changed, longest ago first, until that is forgotten."""
        ...

    async def forget_credential_change(self, number: int) -> None:
        """The change was taken notice of."""
        ...

    async def trust_authorities(self, fingerprints: Collection[str]) -> int:
        """Only these are trusted from now on, and remembered. Where one that was trusted before is not among them, a
        change is noted for every device that brings a certificate which only its name and an authority vouch for;
        returns of how many."""
        ...

    # -- credentials that are not used yet --

    async def fresh_credential(self, device_id: DeviceId) -> Credential | None:
        """The credential that the device was given and has not used yet. `credential_by_identity` and
        `credential_by_key` find the device by it too, and give it as `Credential.is_fresh`."""
        ...

    async def put_fresh_credential(
        self, device_id: DeviceId, credential: Credential | None, *, basis: tuple[str, ...] | None = None
    ) -> None:
        """Keep it beside the one that holds, in the place of an earlier fresh one, with its OSCORE context; None:
        forget it. ``bootstrap`` of it is not kept. Raises `AlreadyExists` for an identity, a key or an OSCORE sender ID
        that another device has, and where it cannot be told from the one that holds; `DeviceGone`; `CredentialChanged`
        where ``basis`` is not `basis_of` the credential that holds, None: whatever that is. It is forgotten too when
        `set_credential` changes what the device proves itself with, or what the bootstrap server goes by. Nothing
        changes where it is kept already."""
        ...

    async def promote_fresh_credential(
        self, device_id: DeviceId, used: Credential | None = None, *, session: bytes = b""
    ) -> DeviceRecord | None:
        """The device has used its fresh credential: it is the one that holds from now on, its OSCORE context keeps its
        number, and the former are forgotten, with its secure sessions but ``session``; ``bootstrap`` stays, used up
        where it was for one time. None where there was none, or it is another than ``used`` by now.
        `credential_changes` does not name the device: whoever calls this ends what came in with the former and
        lives."""
        ...

    # -- secure sessions --

    async def session(self, session_id: bytes) -> SecureSession | None:
        """With the highest read mark that rows and groups know. Raises `core.errors.UserError` where it cannot be
        decrypted."""
        ...

    async def session_from(self, address: PeerId) -> SecureSession | None:
        """Of the sessions heard last from there the one that was made last, of those that are found ``by_address``."""
        ...

    async def sessions_of(self, device_id: DeviceId) -> Sequence[SecureSession]:
        """As they were made, at most `SESSIONS_PER_DEVICE`."""
        ...

    async def drop_sessions(self) -> int:
        """Forget all sessions of all devices; returns how many there were."""
        ...

    # -- OSCORE contexts --

    async def oscore_context(
        self, sender_id: bytes, id_context: bytes | None, *, is_bootstrap: bool = False
    ) -> OscoreContext | None:
        """The context of the device that sends as ``sender_id`` to the bootstrap server or to that of device
        management, there also one that is fresh; ``id_context`` None: whatever it is. At one server no two contexts
        have the same ``sender_id``."""
        ...

    async def oscore_context_of(self, device_id: DeviceId, *, is_bootstrap: bool = False) -> OscoreContext | None:
        """The one that holds. `set_credential` makes it of `Credential.oscore`, that with the bootstrap server of what
        `Credential.bootstrap` says, and leaves each alone where the device proves itself as before."""
        ...

    async def put_oscore_context(self, context: OscoreContext) -> OscoreContext:
        """Make it, or replace the one that the device had (the fresh one with one that ``is_fresh``); the context with
        its number, another than before. ``ceiling`` is higher, or `UNKNOWN`, where the same keys were used before and
        were gone meanwhile. Raises `AlreadyExists` for a ``sender_id`` that another context has at that server, and for
        a key of ours that another one has, wherever (`app.oscore.SAME_KEY`); `DeviceGone`."""
        ...

    async def raise_oscore_ceiling(self, number: int, ceiling: int) -> bool:
        """Numbers below ``ceiling`` may be used from now on; never lowered. False where there is no such context, or
        its ceiling is `UNKNOWN`: then nothing may be protected with it."""
        ...
