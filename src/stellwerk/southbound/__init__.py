"""CoAP message <-> LwM2M operation: the only place that speaks both.

``translate_up`` makes an uplink of a request, ``translate_down`` a request of an operation; ``link`` runs them over
one CoAP engine, implements `app.device_ports.DeviceLink`, and hands the outcomes to `app`.
"""
