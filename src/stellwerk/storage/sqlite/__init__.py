"""The store of one machine: SQLite in WAL mode, plain statements.

`store` implements `DecidingStore`: reads run on the event loop over a connection of their own, writes go through
`writer` (one thread, group commit), which lets `changes` turn decided changes into few, large statements and
`tasks` run what people write. `projected` implements `ProjectedStore` over the projector's file. `rows` translates
between rows and our types, `connection` opens files.
"""
