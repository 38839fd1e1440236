"""Use cases, and what we need of the world.

``ports`` (with ``security_ports``, ``reading_ports`` and ``device_ports``) say what stores and the device side must
offer; ``journal`` is the record of everything that happened; ``handlers`` hold one use case each: registrations, uplink
data, notifications, commands, observations, provisioning, expiry. ``messages`` renders what an application sees of a
journal entry. All faces come in here; nothing here knows CoAP, HTTP or a database.
"""
