"""CoAP over TCP as an engine without I/O (RFC 8323; contract §1.8).

`frames` is the codec, `signalling` what the ends of a connection say about it, `connection` the state and the bounds,
`layer` the message layer that the exchange layer stands on, `endpoint` the engine. Requests, observations and blocks
are those of `stellwerk.coap`. Read `frames`, then `endpoint`.
"""
