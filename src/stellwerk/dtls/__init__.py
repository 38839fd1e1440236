"""DTLS 1.2 (RFC 6347, 7925, 9146) without sockets or clocks: datagrams and time in, datagrams and meaning out."""
