"""Values that tests of the DTLS codecs share: strategies, and an entropy that repeats."""

from hashlib import sha256

from hypothesis import strategies as st

from stellwerk.dtls.extensions import Extensions


class CountedEntropy:
    """Different bytes each time, the same in every run."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._count = 0

    def take(self, count: int) -> bytes:
        self._count += 1
        block = sha256(f"{self._seed} {self._count}".encode()).digest()
        return (block * (count // len(block) + 1))[:count]


u8 = st.integers(0, 255)
u16 = st.integers(0, 0xFFFF)
u48 = st.integers(0, (1 << 48) - 1)
cids = st.binary(max_size=20)
_KNOWN = {0, 1, 10, 11, 13, 19, 20, 22, 23, 28, 35, 54, 65281}


def _maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


def _extensions(server: bool) -> st.SearchStrategy[Extensions]:
    types = st.tuples(u8) if server else st.lists(u8, min_size=1, max_size=3).map(tuple)
    numbers = st.lists(u16, min_size=1, max_size=4).map(tuple)
    return st.builds(
        Extensions,
        server_name=_maybe(st.just(b"") if server else st.binary(min_size=1, max_size=20)),
        max_fragment_length=_maybe(u8),
        supported_groups=_maybe(numbers),
        point_formats=_maybe(st.lists(u8, min_size=1, max_size=3).map(tuple)),
        signature_algorithms=_maybe(numbers),
        client_certificate_types=_maybe(types),
        server_certificate_types=_maybe(types),
        encrypt_then_mac=st.booleans(),
        extended_master_secret=st.booleans(),
        record_size_limit=_maybe(u16),
        session_ticket=_maybe(st.binary(max_size=20)),
        connection_id=_maybe(cids),
        renegotiation_info=_maybe(st.binary(max_size=12)),
        unknown=st.lists(
            st.tuples(u16.filter(lambda n: n not in _KNOWN), st.binary(max_size=8)),
            max_size=2,
            unique_by=lambda pair: pair[0],
        ).map(tuple),
    )


client_extensions = _extensions(server=False)
server_extensions = _extensions(server=True)
