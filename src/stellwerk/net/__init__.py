"""Sockets and timers: turns readiness into `feed`, time into `tick`, and what an engine gives into datagrams.

`udp` owns sockets and addresses, `driver` runs one engine over any number of them. Neither knows what the bytes mean.
"""
