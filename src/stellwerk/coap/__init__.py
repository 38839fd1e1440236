"""CoAP as an engine without I/O (RFC 7252, 7641, 7959, 8132): over UDP, and in `tcp` over streams (RFC 8323).

An `endpoint.Endpoint` takes bytes and time and gives bytes and meaning, through six verbs: ``feed``, ``tick``,
``submit``, ``take_datagrams``, ``take_events``, ``deadline``. Inside, two layers stand apart:

* the message layer (`reliability`, with `transmission`, `probes`, `duplicates` and `peers`): message types, message
  IDs, retransmission, duplicates, ping and reset;
* the exchange layer, which `engine` puts together: `serving` for requests that arrive, `requests` for those of ours
  (each an `exchange`), `observe` for notifications, `blockwise` and `transfers` for whole bodies.

`layer` is what the second asks of the first, so that it stands on streams as well. `message` and `options` are the
codec below both. `events` and `actions` are the vocabulary to the outside; `parameters` holds the numbers of RFC 7252
§4.8 and our bounds. What the engine does not know - whether an old request was already answered before a restart,
whether a token belongs to an observation - it asks by event and gets by ``submit``. Read `message`, then `endpoint`,
`reliability`, `serving` and `requests`.
"""
