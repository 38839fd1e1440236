"""What a server does for peers and networks that mean it no good, or are only unlucky."""

import pytest
from dtls_by_hand import ByHand
from dtls_wire import Bed, answer, bed

from stellwerk.dtls import events
from stellwerk.dtls.parameters import ServerParameters


@pytest.mark.spec("RFC 6347 4.2.2", "RFC 6347 4.2.1")
@pytest.mark.parametrize("number", [256, 65_534, 65_535])
def test_a_client_hello_whose_number_leaves_none_for_the_answers_is_dropped(number: int) -> None:
    client = ByHand(bed())
    client.get_cookie()
    client.message_seq = number
    assert client.send(client.hello_record()) == []
    assert client.bed.drops() == ["format"]
    assert client.bed.server.half_open == 0
