"""Words that every part shares: who a peer is, points in time, a byte cursor, the error root.

Imports nothing else of the project and does no I/O.
"""
