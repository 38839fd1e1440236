"""The other end of the wire: simulated LwM2M devices, fleets of them, and bad networks.

A `device.Device` is a value: events of the CoAP engine and time go in, actions come out. It is a `body.Body` and an
`account.Account` for each of its servers. Its values are a `tree.ObjectTree`, declared in `objects` and `catalogue`
over the models of `lwm2m.schema`; `release` says how LwM2M 1.0, 1.1 and 1.2 differ. `places` finds the tree that a
request is for, the device's own or that of an end device behind it (`gateway`). `serving` treats it: `access` answers,
`bodies` reads and writes its payload, `rights` says what the server may do, `reactions` what follows (a restart, an
installation), `faults` what goes wrong on request. `reporting` keeps observations, `sending` what it sends by itself.

A `population.Population` puts any number of devices on one CoAP engine and has the same six verbs as the engine below
it, so that `net.driver` runs it on sockets (`fleet`) and `network.MemoryNetwork` runs it in memory, with time as an
argument. Devices that get their servers from a bootstrap server are in `bootstrap`.

`impairment` decides what becomes of a datagram, for all three bad networks: between engines in memory (`network`),
between an engine and its sockets (`lossy`), and as a process of its own on the way to any server (`relay`).
Read `device`, then `population`, then `network`.
"""
