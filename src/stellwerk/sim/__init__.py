"""The other end of the wire: simulated LwM2M devices, fleets of them, and bad networks.

A `device.Device` is a value: events of the CoAP engine and time go in, actions come out. Its values are an
`objects.ObjectTree`, declared over the models of `lwm2m.schema`; `access` answers what a server asks of them and
`reporting` keeps its observations. A `population.Population` puts any number of devices on one CoAP engine and has the
same six verbs as the engine below it, so that `net.driver` runs it on sockets (`fleet`) and `network.MemoryNetwork`
runs it in memory, with time as an argument.

`impairment` decides what becomes of a datagram, for all three bad networks: between engines in memory (`network`),
between an engine and its sockets (`lossy`), and as a process of its own on the way to any server (`relay`).
Read `device`, then `population`, then `network`.
"""
