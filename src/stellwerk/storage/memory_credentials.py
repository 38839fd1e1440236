"""What devices prove themselves with, OSCORE contexts and bootstrap sessions with plain dicts: a part of `memory`."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

from stellwerk.app.bootstrap_progress import as_interrupted, progress_in, spent_in
from stellwerk.app.credential_record import bootstrap_id, bootstrap_oscore, is_one_time, taken_up
from stellwerk.app.oscore import SAME_KEY, UNKNOWN, OscoreContext, later, read_oscore
from stellwerk.app.ports import BOOTSTRAP_SESSIONS_KEPT
from stellwerk.app.records import AlreadyExists, CredentialChanged, DeviceGone
from stellwerk.app.security_ports import CredentialChange
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState
from stellwerk.device.record import PSK, X509, Credential, DeviceRecord, basis_of, proof_of, security_of
from stellwerk.storage.identifiers import BOOTSTRAP_ID, taken_once
from stellwerk.storage.memory_journal import MemoryJournal
from stellwerk.storage.memory_sessions import MemorySessions

_Slot: TypeAlias = tuple[DeviceId, bool, bool]
"""Of an OSCORE context: its device, whether it goes with the fresh credential, whether it is for the bootstrap
server."""


class MemoryCredentials(MemorySessions):
    """A part of `MemoryStore`."""

    def __init__(self, salt: bytes, journal: MemoryJournal) -> None:
        super().__init__()
        self._salt = salt
        self._journal = journal
        self._devices: dict[DeviceId, DeviceRecord] = {}
        self._credentials: dict[DeviceId, Credential] = {}
        self._fresh_credentials: dict[DeviceId, Credential] = {}
        self._credential_changes: dict[DeviceId, CredentialChange] = {}
        self._last_credential_change = 0
        self._authorities: frozenset[str] = frozenset()
        self._contexts: dict[_Slot, OscoreContext] = {}
        self._last_context = 0
        self._spent: dict[bytes, int] = {}
        """Ceilings of contexts that are gone, by fingerprint."""
        self._bootstrap_sessions: dict[int, BootstrapSession] = {}
        self._last_bootstrap_session = 0

    # -- credentials --

    async def credential_of(self, device_id: DeviceId) -> Credential | None:
        return self._credentials.get(device_id)

    async def credential_by_identity(self, credentials_id: str) -> tuple[DeviceRecord, Credential] | None:
        return self._credential(lambda each: each.identity == credentials_id)

    async def credential_by_key(self, key_id: str) -> tuple[DeviceRecord, Credential] | None:
        return self._credential(lambda each: each.key_id == key_id) if key_id else None

    async def bootstrap_credential(self, bootstrap_id: str) -> tuple[DeviceRecord, Credential] | None:
        wanted = bootstrap_id
        return self._credential(lambda each: _part(each, BOOTSTRAP_ID) == wanted) if wanted else None

    async def set_credential(self, device_id: DeviceId, credential: Credential | None) -> DeviceRecord | None:
        if device_id not in self._devices:
            return None
        before = self._credentials.get(device_id)
        changed, changed_there = proof_of(before) != proof_of(credential), _there(before) != _there(credential)
        is_noted = basis_of(before) != basis_of(credential)
        going = {(device_id, False, False)} if changed else set()
        going |= {(device_id, True, False)} if is_noted else set()
        going |= {(device_id, False, True)} if changed_there else set()
        contexts = self._contexts_of(device_id, credential)
        if credential is not None:
            self._refuse_taken(device_id, credential)
            self._refuse_contexts(contexts, going)
        if is_noted:
            self._note_credential(device_id, only_bootstrap=not changed)
            self._forget_fresh(device_id)
        for slot in going:
            self._drop_context(slot)
        if credential is None:
            self._credentials.pop(device_id, None)
        else:
            self._credentials[device_id] = credential
        for each in contexts:
            if _slot(each) in going:
                self._replace_context(each)
        return self._secured(device_id, credential)

    async def change_credential(
        self, device_id: DeviceId, change: Callable[[Credential | None], Credential | None]
    ) -> DeviceRecord | None:
        if device_id not in self._devices:
            return None
        return await self.set_credential(device_id, change(self._credentials.get(device_id)))

    async def spend_bootstrap_credential(self, device_id: DeviceId, now_ms: int) -> None:
        known = self._credentials.get(device_id)
        if known is None or known.modified_ms > now_ms:
            return
        if is_one_time(known.bootstrap) and not known.spent_ms:
            self._credentials[device_id] = replace(known, spent_ms=now_ms)

    async def credential_changes(self, limit: int) -> Sequence[CredentialChange]:
        return list(islice(self._credential_changes.values(), limit))

    async def trust_authorities(self, fingerprints: Collection[str]) -> int:
        before, self._authorities = self._authorities, frozenset(fingerprints)
        if before <= self._authorities:
            return 0
        found = [key for key, each in self._credentials.items() if each.kind == X509 and not each.key_id]
        for device_id in found:
            self._note_credential(device_id)
        return len(found)

    async def forget_credential_change(self, number: int) -> None:
        for device_id, each in list(self._credential_changes.items()):
            if each.number == number:
                del self._credential_changes[device_id]

    # -- fresh --

    async def fresh_credential(self, device_id: DeviceId) -> Credential | None:
        return self._fresh_credentials.get(device_id)

    async def put_fresh_credential(
        self, device_id: DeviceId, credential: Credential | None, *, basis: tuple[str, ...] | None = None
    ) -> None:
        if credential is None:
            self._forget_fresh(device_id)
            return
        if device_id not in self._devices:
            raise DeviceGone
        if basis not in (None, basis_of(self._credentials.get(device_id))):
            raise CredentialChanged
        credential = replace(credential, is_fresh=True, bootstrap="")
        if self._fresh_credentials.get(device_id) == credential:
            return
        self._refuse_taken(device_id, credential)
        own = self._credentials.get(device_id)
        if own is not None and credential.kind == own.kind == PSK and own.identity == credential.identity:
            raise AlreadyExists("PSK identity", credential.identity)
        contexts = self._contexts_of(device_id, credential)
        self._refuse_contexts(contexts, {(device_id, True, False)})
        self._forget_fresh(device_id)
        self._fresh_credentials[device_id] = credential
        for each in contexts:
            self._replace_context(each)

    async def promote_fresh_credential(
        self, device_id: DeviceId, used: Credential | None = None, *, session: bytes = b""
    ) -> DeviceRecord | None:
        fresh = self._fresh_credentials.get(device_id)
        if fresh is None or used not in (None, fresh):
            return None
        del self._fresh_credentials[device_id]
        credential = self._credentials[device_id] = taken_up(self._credentials.get(device_id), fresh)
        self._drop_context((device_id, False, False))
        context = self._contexts.pop((device_id, True, False), None)
        if context is not None:
            self._contexts[device_id, False, False] = replace(context, is_fresh=False)
        for each in await self.sessions_of(device_id):
            if each.session_id != session:
                del self._sessions[each.session_id]
        return self._secured(device_id, credential)

    # -- OSCORE --

    async def oscore_context(
        self, sender_id: bytes, id_context: bytes | None, *, is_bootstrap: bool = False
    ) -> OscoreContext | None:
        for each in self._contexts.values():
            if (each.sender_id, each.is_bootstrap) == (sender_id, is_bootstrap) and id_context in (
                None,
                each.id_context,
            ):
                return each
        return None

    async def oscore_context_of(self, device_id: DeviceId, *, is_bootstrap: bool = False) -> OscoreContext | None:
        return self._contexts.get((device_id, False, is_bootstrap))

    async def put_oscore_context(self, context: OscoreContext) -> OscoreContext:
        if context.device_id not in self._devices:
            raise DeviceGone
        self._refuse_contexts([context], {_slot(context)})
        return self._replace_context(context)

    async def raise_oscore_ceiling(self, number: int, ceiling: int) -> bool:
        for key, each in self._contexts.items():
            if each.number == number and each.ceiling != UNKNOWN:
                self._contexts[key] = replace(each, ceiling=max(each.ceiling, ceiling))
                return True
        return False

    # -- bootstrap sessions --

    async def put_bootstrap_session(self, session: BootstrapSession) -> int:
        assert session.device_id is not None
        if session.number:
            if session.number in self._bootstrap_sessions:
                self._bootstrap_sessions[session.number] = session
            return session.number
        if session.device_id not in self._devices:
            raise DeviceGone
        self._last_bootstrap_session += 1
        number = self._last_bootstrap_session
        self._bootstrap_sessions[number] = replace(session, number=number)
        for old in (await self.bootstrap_sessions(session.device_id, number))[BOOTSTRAP_SESSIONS_KEPT:]:
            del self._bootstrap_sessions[old.number]
        return number

    async def bootstrap_sessions(self, device_id: DeviceId, limit: int) -> Sequence[BootstrapSession]:
        found = [each for each in self._bootstrap_sessions.values() if each.device_id == device_id]
        return found[::-1][:limit]

    async def interrupt_bootstrap_sessions(self, now_ms: int) -> int:
        known = progress_in(self._journal.entries)
        interrupted = 0
        for each in list(self._bootstrap_sessions.values()):
            if each.state is BootstrapState.RUNNING and each.device_id is not None:
                ended = self._bootstrap_sessions[each.number] = as_interrupted(each, known, now_ms)
                interrupted += ended.state is BootstrapState.INTERRUPTED
                if spent_ms := spent_in(each, known):
                    await self.spend_bootstrap_credential(each.device_id, spent_ms)
        return interrupted

    # -- inside --

    def _credential(self, fits: Callable[[Credential], bool]) -> tuple[DeviceRecord, Credential] | None:
        for device_id, credential in (*self._credentials.items(), *self._fresh_credentials.items()):
            if fits(credential):
                return self._devices[device_id], credential
        return None

    def _secured(self, device_id: DeviceId, credential: Credential | None) -> DeviceRecord:
        changed = self._devices[device_id] = replace(self._devices[device_id], security=security_of(credential))
        return changed

    def _note_credential(self, device_id: DeviceId, only_bootstrap: bool = False) -> None:
        self._last_credential_change += 1
        before = self._credential_changes.pop(device_id, None)
        only_bootstrap = only_bootstrap and (before is None or before.only_bootstrap)
        self._credential_changes[device_id] = CredentialChange(device_id, self._last_credential_change, only_bootstrap)

    def _refuse_taken(self, device_id: DeviceId | None, credential: Credential) -> None:
        for column, value, what in taken_once(credential):
            for owner, each in (*self._credentials.items(), *self._fresh_credentials.items()):
                if owner != device_id and _part(each, column) == value:
                    raise AlreadyExists(what, value)

    def _contexts_of(self, device_id: DeviceId | None, credential: Credential | None) -> list[OscoreContext]:
        """What ``credential`` brings with it."""
        if credential is None:
            return []
        owner, since_ms = device_id or DeviceId(0), credential.modified_ms or credential.created_ms
        found = []
        if credential.oscore:
            context = read_oscore(credential.oscore, owner, since_ms)
            found.append(replace(context, is_fresh=credential.is_fresh))
        if text := _there(credential):
            found.append(replace(read_oscore(text, owner, since_ms), is_bootstrap=True))
        return found

    def _refuse_contexts(self, contexts: Collection[OscoreContext], going: Collection[_Slot]) -> None:
        """``going``: in their place, or without one."""
        staying = {slot: each for slot, each in self._contexts.items() if slot not in going}
        for context in contexts:
            slot = _slot(context)
            for each in (each for owner, each in staying.items() if owner != slot):
                if (each.sender_id, each.is_bootstrap) == (context.sender_id, context.is_bootstrap):
                    raise AlreadyExists("OSCORE sender ID", context.sender_id.hex())
                if each.fingerprint(self._salt) == context.fingerprint(self._salt):
                    raise AlreadyExists(SAME_KEY, context.recipient_id.hex())
            staying[slot] = context

    def _put_credential(self, device_id: DeviceId, credential: Credential) -> None:
        """Of a device that had none."""
        self._credentials[device_id] = credential
        for each in self._contexts_of(device_id, credential):
            self._replace_context(each)

    def _replace_context(self, context: OscoreContext) -> OscoreContext:
        text = self._given(context)
        base = read_oscore(text, context.device_id).fingerprint(self._salt) if text else None
        self._drop_context(_slot(context), base)
        self._last_context += 1
        spent = self._spent.get(context.fingerprint(self._salt), 0)
        put = replace(context, number=self._last_context, ceiling=later(context.ceiling, spent))
        self._contexts[_slot(context)] = put
        return put

    def _given(self, context: OscoreContext) -> str:
        """The context as the device's credential, or its fresh one, has it for that server; empty where it has none."""
        if context.is_bootstrap:
            return _there(self._credentials.get(context.device_id))
        known = (self._fresh_credentials if context.is_fresh else self._credentials).get(context.device_id)
        return "" if known is None else known.oscore

    def _drop_context(self, slot: _Slot, only: bytes | None = None) -> None:
        gone = self._contexts.pop(slot, None)
        if gone is None or not gone.ceiling:
            return
        fingerprint = gone.fingerprint(self._salt)
        if only in (None, fingerprint):
            self._spent[fingerprint] = later(gone.ceiling, self._spent.get(fingerprint, 0))

    def _forget_fresh(self, device_id: DeviceId) -> None:
        self._fresh_credentials.pop(device_id, None)
        self._drop_context((device_id, True, False))

    def _drop_credentials(self, device_id: DeviceId) -> None:
        """All that hangs on a device which is removed."""
        self._forget_fresh(device_id)
        self._drop_context((device_id, False, False))
        self._drop_context((device_id, False, True))
        self._credentials.pop(device_id, None)
        self._credential_changes.pop(device_id, None)
        self._bootstrap_sessions = {
            key: each for key, each in self._bootstrap_sessions.items() if each.device_id != device_id
        }


def _slot(context: OscoreContext) -> _Slot:
    return context.device_id, context.is_fresh, context.is_bootstrap


def _there(credential: Credential | None) -> str:
    """The OSCORE context with the bootstrap server."""
    return "" if credential is None else bootstrap_oscore(credential.bootstrap)


def _part(credential: Credential, column: str) -> str:
    return bootstrap_id(credential.bootstrap) if column == BOOTSTRAP_ID else getattr(credential, column)
