"""Simulated devices that get their accounts from a bootstrap server (Core 1.2.2 §6.1; contract §5), and those that were
made with one that needs OSCORE.

A `device.BootstrapDevice` knows one server, its bootstrap server. A `client.BootstrapClient` asks it in one of the
modes of `options` and lets `serving` answer what it sends; `faults` go wrong on request. What the objects then say is
read by `accounts`: whom the device registers with, and how it proves itself there; where by a certificate of its own,
`est` gets it. `reaching` knows the ways there. `memory` is what it keeps across restarts, `furnishing` what it has at
first or then, `contexts` what it knows of OSCORE.

One device may speak to a server with every kind of security at once, so a handshake belongs to a way and not to the
device: `ways` is a CoAP engine whose datagrams go to addresses, through a session where there has to be one.
Read `options`, then `device`, then `client`.
"""
