"""Whatever a server asks, a device answers and lives on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import codes

METHODS = st.sampled_from([codes.GET, codes.POST, codes.PUT, codes.DELETE, codes.FETCH, codes.PATCH, codes.IPATCH])
# No resource 4 nor 5 of objects 1 and 3: after a restart or a goodbye nobody is there to answer.
SEGMENTS = st.sampled_from(["0", "1", "2", "3", "11", "16", "25", "3303", "6", "65535", "d01", "rd", "x", "00", "é"])
PATHS = st.one_of(
    st.lists(SEGMENTS, max_size=6).map("/".join),
    st.sampled_from(
        [
            *("", "1/0", "1/0/1", "1/0/8", "2/0/2", "3", "3/0", "3/0/11", "3/0/14", "5/0/0", "5/0/2", "7/0/6", "11"),
            *("11/0/3", "13", "16", "16/0", "16/0/0", "16/0/0/1", "19/1/0", "20/0/4011", "25/0/1", "3303/0/5700"),
            *("d01", "d01/3303", "d01/3303/0/5605", "d02/3311/0", "d02/3311/0/5850", "0/0/0"),
        ]
    ),
)
QUERIES = st.sampled_from(
    ["pmin=1", "pmax", "gt=5", "depth=2", "depth", "con=1", "x", "=", "hqmax=3", "edge=1", "lt=a"]
)
FORMATS = st.sampled_from([None, 0, 40, 42, 50, 60, 110, 112, 320, 322, 11542, 11543, 11544, 65000])
BODIES = st.one_of(
    st.just(b""),
    st.binary(max_size=24),
    st.sampled_from(
        [
            *(b"1", b"x", b"0='a',1", b"\x80", b"[]", b"[{}]", b"\x81\xa1\x00\x61/", b"\xa0", b"\xc1\x01\x3c"),
            *(b'[{"n":"/3/0/14","vs":"x"}]', b'[{"n":"/16/0/0/1","v":null}]', b'[{"n":"/d01/3311/0/5850","vb":true}]'),
            *(b"\xa1\x81\x63d01\xa0", b"\x08\x00\x00", b'{"e":[{"n":"14","sv":"x"}]}'),
        ]
    ),
)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_any_request_is_answered_and_the_device_stays_registered(bench_on, version):
    bench = bench_on()
    device = bench.start(
        lwm2m_version=version, ets=True, end_devices=2, other_server_uris=("coap://10.0.0.9:5683",), moving=False
    )

    @given(METHODS, PATHS, st.lists(QUERIES, max_size=2), FORMATS, FORMATS, st.sampled_from([None, 0, 1]), BODIES)
    @settings(max_examples=150, deadline=None)
    def ask(method, path, query, content_format, accept, observe, payload):
        asked = {"content_format": content_format, "accept": accept, "observe": observe, "payload": payload}
        answer = bench.ask(method, path, wait_s=3, query=tuple(query), **asked)
        assert answer is not None
        assert codes.is_response(answer.code)
        assert answer.code != codes.INTERNAL_SERVER_ERROR
        bench.network.run_for(0.1)

    ask()
    assert device.accounts[0].enrolment.is_registered
