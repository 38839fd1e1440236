"""LwM2M's vocabulary: what can be said between a device and a server, apart from how it travels.

`path` and `value` are the nouns, `operations` the verbs, `content` what a payload says once its format
is taken off. `formats` turns payload bytes into `Content` and back, one module per Content-Format behind
one registry. `link_format` reads the object list of a registration, `registration_parameters` the query
that comes with it, `attributes` the conditions of an observation. `schema` knows the object models and
answers the `Types` protocol of `content`, which is all that the formats ask of it.

Everything here is a pure function of its arguments: no clock, no I/O, no device. What a peer gets wrong is a
`PeerError` that each docstring names, what a user asks in vain is a `UserError`. Numbers of CoAP (codes,
options) do not appear, except for the Content-Format numbers that LwM2M itself assigns a meaning.

Start reading at `path`, `content`, then `formats/senml.py`.
"""
