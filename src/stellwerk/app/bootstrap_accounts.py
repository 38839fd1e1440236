"""What a bootstrap server gives one device: its profile's list with the keys of its credential record, or with fresh
ones (device platform §4 and §12.1 step 2; contract B-7, B-10)."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from stellwerk.app.bootstrap_admission import Admitted
from stellwerk.app.bootstrap_blocks import StoredKeys
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import AlreadyExists, CredentialChanged
from stellwerk.app.speaking import Refusal
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.account import (
    Account,
    BadAccount,
    ClientKeys,
    OscoreKeys,
    ServerMaterial,
    check_account,
)
from stellwerk.device.bootstrap.configuration import (
    EST_KEYS,
    FRESH_KEYS,
    NO_BOOTSTRAP,
    BootstrapConfiguration,
    ServerEntry,
)
from stellwerk.device.record import NOSEC, PSK, X509, Credential, DeviceRecord, basis_of, security_of
from stellwerk.lwm2m.status import Status

Issue = Callable[[DeviceRecord, ServerEntry, int], tuple[ClientKeys, Credential]]
"""Makes fresh keys for a device at that server, at that time (UTC milliseconds since 1970): what the device is given,
and what is known of it then. Raises `UserError`."""
OwnMaterial = Callable[[bool], ServerMaterial]
"""What this platform's servers show: True the bootstrap server, False that of device management."""


class OpenKeys(UserError):
    """Keys would be told to whoever says the device's name."""


@dataclass(frozen=True, slots=True)
class Given:
    """``accounts``: one for each server of ``configuration``, in their order. ``fresh``: the credential that goes with
    keys that were made for it and not used since, to be stored before they leave, beside the credential that ``basis``
    is `basis_of`; None where none were."""

    configuration: BootstrapConfiguration = NO_BOOTSTRAP
    accounts: tuple[Account, ...] = ()
    fresh: Credential | None = field(default=None, repr=False)
    basis: tuple[str, ...] = field(default=(), repr=False)


class BootstrapAccounts:
    """``issue`` None: nobody makes fresh keys here."""

    def __init__(self, store: DecidingStore, own: OwnMaterial, issue: Issue | None = None) -> None:
        self._store = store
        self._own = own
        self._issue = issue

    async def configuration_of(self, record: DeviceRecord) -> BootstrapConfiguration:
        """What the device's profile says. Raises `StoreTrouble`."""
        profile = await self._store.profile(record.tenant_id, record.profile)
        return NO_BOOTSTRAP if profile is None else profile.bootstrap

    async def gather(
        self, admitted: Admitted, *, is_secure: bool, now_ms: int, may_enrol: bool = True, transport: str = "udp"
    ) -> Given:
        """What the device gets. ``is_secure``: only it will hear it. ``may_enrol``: it came over DTLS. ``transport``:
        ``udp`` or ``tcp``, over which it comes, and where the profile leaves that open, goes to its servers. Raises
        `BadAccount`, `OpenKeys` and other `UserError` for what people have to mend, `StoreTrouble`."""
        configuration = await self.configuration_of(admitted.record)
        servers = configuration.given_over(transport)
        accounts = []
        issued: tuple[ServerEntry, ClientKeys, Credential] | None = None
        for entry in servers:
            if entry.is_bootstrap:
                keys = keys_of(admitted.blocks.bootstrap_server)
            elif entry.keys == EST_KEYS:
                _check_enrolment(admitted, entry, is_secure=is_secure, may_enrol=may_enrol)
                keys = ClientKeys(X509)
            elif entry.keys == FRESH_KEYS:
                if issued is None:
                    unused = await self._unused(admitted, entry) if is_secure else None
                    issued = entry, *(unused or self._make(admitted, entry, is_secure, now_ms))
                elif (entry.mode, entry.oscore) != (issued[0].mode, issued[0].oscore):
                    raise BadAccount(
                        f"server {entry.short_id}", "all servers that give a device fresh keys give it one of a kind"
                    )
                keys = issued[1]
            else:
                keys = _device_keys(admitted, entry, is_secure)
            account = Account(entry, keys, self._own(entry.is_bootstrap))
            check_account(account)
            accounts.append(account)
        fresh = None if issued is None else issued[2]
        return Given(replace(configuration, servers=servers), tuple(accounts), fresh, basis_of(admitted.credential))

    async def _unused(self, admitted: Admitted, entry: ServerEntry) -> tuple[ClientKeys, Credential] | None:
        """The pre-shared key that an earlier session gave the device, and it has not used yet. It may have it, or not:
        with another one in its place here, a session that fails would leave it with one that nobody takes. Private keys
        are kept nowhere, and a device that is given an OSCORE context again may count its messages from zero, so that
        of these there is a new one each time."""
        fresh = await self._store.fresh_credential(admitted.record.device_id)
        if fresh is None or entry.oscore or security_of(fresh) != entry.mode or entry.mode != PSK:
            return None
        return ClientKeys(PSK, fresh.identity.encode(), fresh.key), fresh

    def _make(
        self, admitted: Admitted, entry: ServerEntry, is_secure: bool, now_ms: int
    ) -> tuple[ClientKeys, Credential]:
        record = admitted.record
        if not is_secure and record.security != NOSEC:
            raise OpenKeys(
                f"device {record.name!r} has credentials, and gets fresh ones only over a secure session with the "
                "bootstrap server; give it keys for that (bootstrap.bootstrapServer), or take its credentials away"
            )
        if self._issue is None:
            raise BadAccount(f"server {entry.short_id}", "this server makes no fresh keys; the record has to have them")
        return self._issue(record, entry, now_ms)

    async def keep_fresh(self, admitted: Admitted, fresh: Credential) -> Refusal | None:
        """Store what the device is given before it leaves, beside the credential that it was ``admitted`` with; why it
        may not leave, None where it may. Raises `StoreTrouble`, `DeviceGone`."""
        record = admitted.record
        try:
            await self._store.put_fresh_credential(record.device_id, fresh, basis=basis_of(admitted.credential))
        except CredentialChanged as error:
            return Refusal("revoked", Status.BAD_REQUEST, str(error), record)
        except AlreadyExists as error:
            return Refusal("not-stored", Status.BAD_REQUEST, str(error), record)
        return None


def _check_enrolment(admitted: Admitted, entry: ServerEntry, *, is_secure: bool, may_enrol: bool) -> None:
    """Raises `BadAccount` where the device would be left with an account that it cannot enrol for."""
    if not (is_secure and may_enrol):
        has_keys = admitted.blocks.bootstrap_server.kind != NOSEC
        cure = (
            "let it come to the bootstrap server over coaps://"
            if has_keys
            else "give it keys for the bootstrap server (bootstrap.bootstrapServer)"
        )
        raise BadAccount(
            f"server {entry.short_id}",
            f"the profile wants device {admitted.record.name!r} to enrol, which goes over DTLS only; {cure}",
        )
    if admitted.blocks.one_time:
        raise BadAccount(
            f"server {entry.short_id}",
            "the profile wants the device to enrol, which it may do after the session, and its bootstrap credential is "
            "for one time (oneTime)",
        )


def _device_keys(admitted: Admitted, entry: ServerEntry, is_secure: bool) -> ClientKeys:
    block = admitted.blocks.of_server(entry.short_id or 0)
    keys = keys_of(block)
    if not entry.oscore:
        return replace(keys, oscore=None)
    if keys.oscore is None and admitted.credential is not None and admitted.credential.oscore:
        # What it proves itself with at our own server; in the open anybody could ask for it in its name.
        if not is_secure:
            raise OpenKeys(
                f"server {entry.short_id}: the OSCORE context of device {admitted.record.name!r} is told only over a "
                "secure session with the bootstrap server; give it keys for that (bootstrap.bootstrapServer), or a "
                "context that may be told in the open (bootstrap.lwm2mServer.oscore)"
            )
        keys = replace(keys, oscore=_oscore(json.loads(admitted.credential.oscore)))
    return keys


def keys_of(block: StoredKeys) -> ClientKeys:
    """What a device is given that has ``block`` in its record."""
    oscore = None if block.oscore is None else _oscore(block.oscore)
    if block.kind == NOSEC:
        return ClientKeys(oscore=oscore)
    if block.kind == PSK:
        return ClientKeys(PSK, block.public.encode(), bytes.fromhex(block.secret), oscore)
    return ClientKeys(block.kind, base64.b64decode(block.public), base64.b64decode(block.secret), oscore)


def _oscore(members: dict[str, Any]) -> OscoreKeys:
    keys = OscoreKeys(
        bytes.fromhex(members["senderId"]),
        bytes.fromhex(members["recipientId"]),
        bytes.fromhex(members["masterSecret"]),
        bytes.fromhex(members.get("masterSalt", "")),
        bytes.fromhex(members.get("idContext", "")),
    )
    return replace(keys, aead=members.get("aead", keys.aead), hkdf=members.get("hkdf", keys.hkdf))
