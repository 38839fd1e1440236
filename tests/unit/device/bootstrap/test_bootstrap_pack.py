"""A Bootstrap-Pack is made only where it cannot hurt the bootstrap account."""

import pytest
from tests.unit.device.bootstrap.bootstrap_accounts import BOOTSTRAP, accounts, configuration, entry

from stellwerk.device.bootstrap.account import BadAccount, ClientKeys
from stellwerk.device.bootstrap.pack import PackRefused, make_pack
from stellwerk.lwm2m.bootstrap import bootstrap_types, encode_pack
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink


@pytest.mark.spec("LwM2M-contract B-6", "LwM2M-contract B-9")
def test_a_pack_has_every_server_beside_the_bootstrap_account() -> None:
    of = configuration(entry(), entry(shortServerId=2, port=1, oscore=True))
    pack = make_pack(of, accounts(of), (Path(0, 0), Path(21, 0)))
    values = pack.content.latest()
    assert (values[Path(0, 1, 10)], values[Path(0, 2, 10)]) == (123, 2)
    assert (values[Path(1, 0, 0)], values[Path(1, 1, 0)]) == (123, 2)
    assert values[Path(0, 2, 17)] == ObjectLink(21, 1)
    assert {each[:2] for each in values} == {(0, 1), (0, 2), (1, 0), (1, 1), (21, 1)}
    assert make_pack(of, accounts(of), (Path(0, 1),)).content.latest()[Path(0, 0, 10)] == 123


@pytest.mark.spec("LwM2M-contract B-9", "ETS 12")
@pytest.mark.parametrize("content_format", [112, 110, 11544])
def test_a_pack_can_be_read_in_every_format(content_format: int) -> None:
    acls = [{"objectId": 3, "owner": 123, "acl": {"0": 1}}]
    of = configuration(entry(), entry(shortServerId=2, port=1), acls=acls)
    pack = make_pack(of, accounts(of), (Path(0, 0),))
    body = encode_pack(pack.content, content_format)
    assert decode_content(content_format, body, Path(), bootstrap_types(pack.content)).latest() == pack.content.latest()
    assert pack.content.latest()[Path(2, 0, 2, 0)] == 1


@pytest.mark.spec("LwM2M-contract B-9")
def test_a_small_pack_in_lwm2m_cbor() -> None:
    of = configuration(entry(host="a", port=1))
    body = encode_pack(make_pack(of, accounts(of), (Path(0, 0),)).content, 11544)
    assert body.hex() == (
        "a2"
        "820001a9" "006a636f61703a2f2f613a31" "01f4" "0203" "0340" "0440" "0540" "0a187b" "0b01" "0c00"
        "820100a5" "00187b" "0119012c" "0201" "06f5" "076155"
    )  # fmt: skip


@pytest.mark.spec("LwM2M-contract B-6")
@pytest.mark.parametrize("account", [None, (), (Path(21, 0),)])
def test_without_knowing_the_bootstrap_account_there_is_no_pack(account: tuple[Path, ...] | None) -> None:
    of = configuration(entry())
    with pytest.raises(PackRefused, match="acc="):
        make_pack(of, accounts(of), account)


@pytest.mark.spec("LwM2M-contract B-6", "LwM2M-contract B-9")
def test_what_a_pack_cannot_do_is_left_to_the_other_way() -> None:
    both = configuration(entry(), BOOTSTRAP)
    with pytest.raises(PackRefused, match="rewrites the account"):
        make_pack(both, accounts(both), (Path(0, 0),))
    nothing = configuration()
    with pytest.raises(PackRefused, match="no server"):
        make_pack(nothing, [], (Path(0, 0),))


@pytest.mark.spec("Platform 4")
def test_keys_of_another_mode_make_no_pack() -> None:
    of = configuration(entry(securityMode="PSK"))
    with pytest.raises(BadAccount):
        make_pack(of, accounts(of, ClientKeys()), (Path(0, 0),))
