"""OSCORE: CoAP protected from end to end (RFC 8613), between the message layer and the exchange layer.

A protected message is an ordinary one to the message layer: it has types, message IDs, duplicates and repetitions of
the same bytes. What it protects is an ordinary one to the exchange layer, whose peer is then the context
(`core.ids.context_peer`) and not the address. In between:

* `material`: what a context is derived from; `context`: its keys, nonces and numbers; `replay`: which numbers came;
* `option`: the codec of the OSCORE option; `protection`: messages in and out of their protected form;
* `recovery`: how two ends agree anew after one lost its state (App. B.2);
* `layer`: `layer.OscoreLayer`, which is a message layer to the exchange layer above it; `contexts` has what it knows;
* `engine`: that exchange layer, with `requests` and `responses`, which read what comes; `questions` bounds what waits.

Contexts come from outside: asked for by `events.ContextQuestion`, or given by `actions.AdoptContext`. Read `option`,
`context`, `protection`, then `layer`.
"""
