"""DTLS 1.2 (RFC 6347, 7925, 9146) without sockets or clocks: datagrams and time in, datagrams and meaning out.

Owns who a peer has proven to be and that bytes are genuine; knows nothing of what they mean. Each module has one job,
from the wire inward:

- `records`, `protection` (with `cbc`), `replay`: a datagram to records, what seals and opens them, what came before
- `messages`, `fragments`, `extensions`, `vectors`, `alerts`: what handshakes and alerts say, bytes to values and back,
  and messages out of pieces
- `suites`, `prf`, `ecdhe`, `signatures`, `certificates`: what is agreed on, and the keys and proofs behind it
- `cookies`, `tickets`, `session`: what stands outside a live session: before it, with the client, in the store
- `parameters`, `actions`, `events`, `failures`: what an engine is told and tells

All of these are pure, total over any bytes, and bounded; errors are named. On top of them:

- `flights`, `stash`: what is repeated, what came too early
- `machine`, `keying`, `handshake`; `server` with `negotiation`, `client`: two state machines, each one table
- `association`, `sessions`, `live`; `resumption`: what is alive, and what goes on from it
- `half_open`, `handshakes`, `questions`: what is on its way, asked and bounded
- `endpoint`: the six verbs of every engine here, and whose each record is

Start reading with `events`, `server` and `endpoint`.
"""
