"""Sockets and timers: turns readiness into `feed`, time into `tick`, and what an engine gives into datagrams.

`udp` owns sockets and addresses, `driver` runs one engine over any number of them; `tcp` does both for an engine over
streams. None knows what the bytes mean.
"""
