"""Stellwerk: a self-hosted platform for LwM2M devices.

Data passes through the folders in this order. Up: ``net`` receives a datagram and stamps the time,
``coap`` makes it a request, ``southbound`` makes that an LwM2M operation, ``app`` handles it and
``device`` decides, ``storage`` commits, and only then the device is acknowledged. Down: ``northbound``
makes a command, ``app`` stores it and says when it may leave, ``southbound`` makes it a CoAP request,
``coap`` and ``net`` carry it; the answer climbs the same stairs.

Start with ``coap/message.py``, ``coap/reliability.py``, ``lwm2m/operations.py``,
``device/registration.py`` and ``app/handlers/``. ``wiring.py`` is the one place where the parts meet.
"""

__version__ = "0.1.0"
