"""Rows: the stores behind the ports of `app.ports`.

Two SQLite files lie in the data directory. ``stellwerk.db`` holds what decides (devices, registrations, observations,
commands, messages that wait or were sent) and the journal; only the server's writer writes it. ``projected.db``
holds what is only read (state, values, received messages, device log) with the projector's cursor; only the projector
writes it. Each writer so has a lock of its own, and readers are free (WAL).

`sqlite` implements both ports on these files, `memory` with dicts; `tests/contract` holds them to the same behaviour.
`projection` says what a journal entry does to a device's projected rows, `projector` does it in a process of its own,
`projector_process` keeps that one running. `schema` is the schema of both files, `migrations` its history. Start with
`sqlite/writer.py` (group commit) and `sqlite/changes.py` (what a commit writes).
"""
