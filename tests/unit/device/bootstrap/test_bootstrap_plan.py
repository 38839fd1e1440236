"""What is deleted and written, and above all what is not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.device.bootstrap.bootstrap_accounts import BOOTSTRAP, SECRET, accounts, configuration, entry

from stellwerk.device.bootstrap.account import BadAccount, ClientKeys
from stellwerk.device.bootstrap.discovered import Discovered, decode_discovered
from stellwerk.device.bootstrap.plan import Plan, make_correction, make_plan
from stellwerk.lwm2m.bootstrap import BootstrapWrite, PctUnsupported, encode_bootstrap_write
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink

FACTORY = b"</>;lwm2m=1.1,</0/0>,</3/0>"
IN_USE = b"</>;lwm2m=1.1,</0/0>,</0/2>;ssid=123,</0/5>;ssid=9,</1/1>;ssid=123,</1/4>;ssid=9,</3/0>"
PSK = {"securityMode": "PSK", "port": 5684}


def plan(discovered: bytes | None, *entries: dict[str, Any], acls: Any = (), updates: bool = True, **more: Any) -> Plan:
    of = configuration(*entries, acls=acls, updates=updates)
    return make_plan(of, accounts(of), None if discovered is None else decode_discovered(discovered), **more)


def steps(of: Plan) -> list[str]:
    return [("write " if isinstance(each, BootstrapWrite) else "delete ") + str(each.path) for each in of.steps]


def value(of: Plan, path: str) -> object:
    wanted = Path.parse(path)
    return next(each.value for write in of.writes for each in write.content.entries if each.path == wanted)


@pytest.mark.spec("LwM2M-contract B-2", "LwM2M-contract B-6", "Platform 12.1")
def test_a_device_from_the_factory_gets_an_account_beside_its_bootstrap_account() -> None:
    made = plan(FACTORY, entry())
    assert steps(made) == ["write /0/1", "write /1/0"]
    assert (value(made, "/0/1/10"), value(made, "/1/0/0")) == (123, 123)
    assert not made.warnings


@pytest.mark.spec("Platform 12.1")
def test_an_account_of_the_same_short_id_is_deleted_and_written_in_its_place() -> None:
    assert steps(plan(IN_USE, entry())) == ["delete /0/2", "delete /1/1", "write /0/2", "write /1/1"]


@pytest.mark.spec("Platform 12.1")
def test_a_new_account_comes_above_all_that_are_used_and_others_stay() -> None:
    assert steps(plan(IN_USE, entry(shortServerId=77))) == ["write /0/6", "write /1/5"]


@pytest.mark.spec("Platform 12.3")
def test_three_servers_are_written_one_after_the_other() -> None:
    made = plan(IN_USE, *(entry(shortServerId=each, port=each) for each in (7, 123, 8)))
    assert steps(made) == [
        "delete /0/2", "delete /1/1",
        "write /0/6", "write /1/5", "write /0/2", "write /1/1", "write /0/7", "write /1/6",
    ]  # fmt: skip


@pytest.mark.spec("LwM2M-contract B-5", "LwM2M-contract B-6", "Platform 12.3")
def test_the_bootstrap_account_is_written_where_it_is_and_never_deleted() -> None:
    made = plan(FACTORY.replace(b"</0/0>", b"</0/3>"), entry(), BOOTSTRAP)
    assert steps(made) == ["write /0/3", "write /0/4", "write /1/0"]
    assert (value(made, "/0/3/1"), value(made, "/0/4/1")) == (True, False)


@pytest.mark.spec("Platform 12.3")
def test_a_profile_of_a_bootstrap_server_alone_leaves_the_servers() -> None:
    assert steps(plan(IN_USE, BOOTSTRAP)) == ["write /0/0"]


@pytest.mark.spec("Platform 12.1", "Platform 3.4")
def test_a_bootstrap_server_that_may_not_be_updated_is_left_out() -> None:
    of = configuration(entry(), BOOTSTRAP)
    forbidden = type(of)(of.servers, updates_bootstrap_server=False)
    assert steps(make_plan(forbidden, accounts(of), decode_discovered(FACTORY))) == ["write /0/1", "write /1/0"]


@pytest.mark.spec("Platform 12.3")
def test_a_profile_without_servers_gives_nothing() -> None:
    assert not plan(FACTORY)


@pytest.mark.spec("LwM2M-contract B-6")
@pytest.mark.parametrize(
    ("listed", "warning"),
    [
        (b"</0/0>,</0/1>", "the bootstrap server is left out: instances 0, 1 of object 0 may all be its account"),
        (b"</0/4>;ssid=1", "the bootstrap server is left out: the device lists no account of one"),
        (b"", "the bootstrap server is left out: the device lists no account of one"),
    ],
)
def test_where_the_bootstrap_account_is_not_certain_it_is_left_alone(listed: bytes, warning: str) -> None:
    made = plan(listed, entry(), BOOTSTRAP)
    assert made.warnings == (warning,)
    written = {each.path for each in made.writes if each.path[0] == 0}
    assert len(written) == 1
    assert Path(0, 0) not in written
    assert value(made, f"{min(written)}/1") is False


@pytest.mark.spec("LwM2M-contract B-6")
def test_several_instances_that_may_be_the_bootstrap_account_are_all_left_alone() -> None:
    assert steps(plan(b"</0/0>,</0/1>,</1/0>", entry())) == ["write /0/2", "write /1/1"]


@pytest.mark.spec("Platform 12.1")
def test_without_a_discover_instance_0_is_the_bootstrap_account() -> None:
    made = plan(None, entry(), entry(shortServerId=2, port=1))
    assert steps(made) == ["write /0/1", "write /1/1", "write /0/2", "write /1/2"]
    assert made.warnings == (
        "the device does not say what it has: /0/0 is taken for the account of its bootstrap server",
    )
    assert steps(plan(None, BOOTSTRAP, entry())) == ["write /0/0", "write /0/1", "write /1/1"]


@pytest.mark.spec("LwM2M-contract B-6")
def test_the_highest_instance_is_no_reason_to_touch_another() -> None:
    made = plan(b"</0/0>,</0/65534>;ssid=4,</1/65534>;ssid=4", entry())
    assert steps(made) == ["write /0/1", "write /1/0"]


@pytest.mark.spec("LwM2M-contract B-4")
@pytest.mark.parametrize(("pct", "number"), [(None, 11542), (112, 112), (110, 110), (11544, 11544), (11542, 11542)])
def test_every_write_is_in_the_format_that_the_device_prefers(pct: int | None, number: int) -> None:
    made = plan(FACTORY, entry(**PSK), pct=pct)
    assert {each.content_format for each in made.writes} == {number}
    assert all(encode_bootstrap_write(each) for each in made.writes)


@pytest.mark.spec("LwM2M-contract B-4")
def test_a_format_that_nobody_writes_is_refused() -> None:
    with pytest.raises(PctUnsupported):
        plan(FACTORY, entry(), pct=0)


@pytest.mark.spec("LwM2M-contract 2.6", "LwM2M-contract 10")
def test_an_oscore_account_has_its_context_linked_and_an_old_one_goes() -> None:
    listed = b"</0/0>,</0/1>;ssid=123,</1/0>;ssid=123,</21/0>,</21/3>;ssid=123,</21/4>;ssid=123"
    made = plan(listed, entry(oscore=True))
    assert steps(made) == [
        "delete /0/1", "delete /1/0", "delete /21/3", "delete /21/4", "write /0/1", "write /1/0", "write /21/3",
    ]  # fmt: skip
    assert value(made, "/0/1/17") == ObjectLink(21, 3)
    assert steps(plan(listed, entry()))[-1] == "write /1/0"
    fresh = plan(b"</0/0>,</21/0>", entry(oscore=True))
    assert (steps(fresh)[-1], value(fresh, "/0/1/17")) == ("write /21/1", ObjectLink(21, 1))


@pytest.mark.spec("LwM2M-contract 2.6")
def test_the_context_of_the_bootstrap_account_is_written_where_it_is() -> None:
    made = plan(b"</0/0>,</21/2>", BOOTSTRAP | {"oscore": True}, entry(oscore=True))
    assert steps(made) == ["write /0/0", "write /0/1", "write /1/0", "write /21/2", "write /21/3"]
    # Where it has none yet, each gets one of its own.
    made = plan(b"</0/0>", BOOTSTRAP | {"oscore": True}, entry(oscore=True))
    assert (value(made, "/0/0/17"), value(made, "/0/1/17")) == (ObjectLink(21, 1), ObjectLink(21, 2))
    assert steps(made)[-2:] == ["write /21/1", "write /21/2"]


@pytest.mark.spec("LwM2M-contract 10")
def test_objects_that_are_too_old_are_said_to_be() -> None:
    made = plan(b"</0>;ver=1.0,</0/0>", entry(serverName="dm", certificateUsage=1))
    assert made.warnings == ("server 123: the device's objects are too old to hold serverName, certificateUsage",)
    texts = plan(b"</0/0>,</21>;ver=1.0", entry(oscore=True))
    assert "object 21 of version 1.0 holds texts; bytes are written in hex" in texts.warnings
    unstated = (
        "the device states no version of object 21: bytes are written, as 2.0 has them; LwM2M 1.1 by itself had texts"
    )
    for release, known, said in (
        ("1.1", None, True),
        ("1.2", None, False),
        ("1.1", "1.2", False),
        ("1.2", "1.1", True),
    ):
        made = plan(b"</>;lwm2m=%b,</0/0>,</21>" % release.encode(), entry(oscore=True), version=known)
        assert value(made, "/21/1/0") == SECRET
        assert (unstated in made.warnings) is said
    assert unstated not in plan(b"</>;lwm2m=1.1,</0/0>,</21>;ver=2.0", entry(oscore=True)).warnings
    assert unstated not in plan(b"</>;lwm2m=1.1,</0/0>,</21>", entry()).warnings
    with pytest.raises(BadAccount):
        plan(b"</0>;ver=1.0,</0/0>", entry(oscore=True))
    with pytest.raises(BadAccount):
        plan(None, entry(oscore=True), version="1.0")


ACLS = (
    {"objectId": 3, "owner": 123, "acl": {"0": 1}},
    {"objectId": 9, "instanceId": 65535, "owner": 65535, "acl": {"2": 16}},
)


@pytest.mark.spec("LwM2M-contract B-12", "Platform 13")
def test_access_rights_are_written_with_more_than_one_server_only() -> None:
    two = (entry(), entry(shortServerId=2, port=1))
    made = plan(FACTORY + b",</2/7>", *two, acls=ACLS)
    assert steps(made)[0] == "delete /2"
    assert steps(made)[-2:] == ["write /2/0", "write /2/1"]
    assert (value(made, "/2/1/1"), value(made, "/2/1/3"), value(made, "/2/1/2/2")) == (65535, 65535, 16)
    assert "delete /2" not in steps(plan(FACTORY, *two, acls=ACLS))
    alone = plan(FACTORY, entry(), acls=ACLS[:1])
    assert steps(alone) == ["write /0/1", "write /1/0"]
    assert alone.warnings == ("the acls of the profile are left out: with one server it may do everything",)


@pytest.mark.spec("Platform 4")
def test_keys_of_another_mode_make_no_plan() -> None:
    of = configuration(entry(**PSK))
    with pytest.raises(BadAccount):
        make_plan(of, accounts(of, ClientKeys()), None)


# -- after Finish was refused --


def correction(discovered: bytes | None, *entries: dict[str, Any], servers: dict[int, int] | None = None) -> Plan:
    of = configuration(*entries)
    read = None
    if servers is not None:
        read = Content(tuple(Entry(Path(1, at, 0), short_id) for at, short_id in servers.items()))
    known = None if discovered is None else decode_discovered(discovered)
    return make_correction(of, accounts(of), known, read)


@pytest.mark.spec("LwM2M-contract B-7")
def test_a_correction_leaves_whole_accounts_and_writes_ours_anew() -> None:
    listed = IN_USE + b",</0/6>;ssid=11,</1/5>;ssid=12"
    made = correction(listed, entry())
    assert steps(made) == [
        "delete /0/2", "delete /0/6", "delete /1/1", "delete /1/5", "write /0/2", "write /1/1",
    ]  # fmt: skip
    assert made.warnings == (
        "/0/6 (short server ID 11) is deleted: it is of no whole account",
        "/1/5 (short server ID 12) is deleted: it is of no whole account",
    )


@pytest.mark.spec("LwM2M-contract B-7")
def test_a_correction_goes_by_what_object_1_holds_now() -> None:
    made = correction(b"</0/0>,</0/1>;ssid=9,</1/0>,</1/1>", entry(), servers={0: 9, 1: 123, 2: 123})
    assert steps(made) == ["delete /0/2", "delete /1/1", "delete /1/2", "write /0/2", "write /1/2"]


@pytest.mark.spec("LwM2M-contract B-7", "LwM2M-contract B-12", "READ-2")
@pytest.mark.parametrize(("read", "is_deleted"), [(Path(2, 7, 0), True), (Path(1, 0, 0), False)])
def test_rights_that_a_device_did_not_list_go_in_a_correction_once_they_were_read(read: Path, is_deleted: bool) -> None:
    of = configuration(entry(), entry(shortServerId=2, port=1), acls=ACLS)
    made = make_correction(of, accounts(of), decode_discovered(FACTORY), Content((Entry(read, 3),)))
    assert ("delete /2" in steps(made)) is is_deleted
    assert steps(made)[-2:] == ["write /2/0", "write /2/1"]


@pytest.mark.spec("LwM2M-contract B-5", "LwM2M-contract B-7")
@pytest.mark.parametrize("listed", [None, b"</0/0>,</0/1>,</1/0>"])
def test_where_nothing_is_certain_a_correction_deletes_all_but_what_a_device_keeps(listed: bytes | None) -> None:
    made = correction(listed, entry(), BOOTSTRAP)
    assert steps(made)[:2] == ["delete /0", "delete /1"]
    assert len([each for each in steps(made) if each.startswith("write /1")]) == 1


@pytest.mark.spec("LwM2M-contract B-5")
@pytest.mark.parametrize("listed", [None, b"</0/0>,</0/1>,</1/0>,</21/0>"])
def test_where_nothing_is_certain_no_oscore_context_is_deleted(listed: bytes | None) -> None:
    # That the one of the bootstrap account stays is a rule of 1.2 alone.
    assert not [each for each in steps(correction(listed, entry(oscore=True))) if each.startswith("delete /21")]


@pytest.mark.spec("LwM2M-contract B-7")
def test_without_a_server_to_give_there_is_no_correction() -> None:
    made = correction(IN_USE, BOOTSTRAP)
    assert not made
    assert made.warnings == ("the profile gives the device no server, so that it stays without one",)


LISTED = st.dictionaries(st.integers(0, 5), st.none() | st.integers(1, 6), max_size=5)


def _listing(security: dict[int, int | None], servers: dict[int, int | None]) -> Discovered:
    links = [
        f"</{object_id}/{at}>" + (f";ssid={short_id}" if short_id else "")
        for object_id, listed in ((0, security), (1, servers))
        for at, short_id in listed.items()
    ]
    return decode_discovered(",".join(links).encode())


@given(LISTED, LISTED, st.lists(st.integers(1, 6), unique=True, min_size=1, max_size=3), st.booleans())
def test_whatever_a_device_holds_its_bootstrap_account_is_safe_and_ours_are_whole(
    security: dict[int, int | None], servers: dict[int, int | None], short_ids: list[int], corrects: bool
) -> None:
    discovered = _listing(security, servers)
    of = configuration(*(entry(shortServerId=each, port=each) for each in short_ids))
    made = make_plan(of, accounts(of), discovered)
    if corrects:
        made = make_correction(of, accounts(of), discovered, None)
    candidates = {Path(0, each) for each in discovered.bootstrap_candidates} | {Path(0, 0)} - {
        Path(0, at) for at, short_id in security.items() if short_id
    }
    assert not candidates & {each.path for each in made.steps}
    # What a device that protects its bootstrap account (B-5) holds in the end:
    held = {(0, at): short_id for at, short_id in security.items()} | {
        (1, at): short_id for at, short_id in servers.items()
    }
    for delete in made.deletes:
        for key in [each for each in held if delete.path.covers(Path(*each))]:
            if key[0] == 1 or held[key] is not None:
                del held[key]
    for write in made.writes:
        key = (write.path[0], write.path[1])
        assert key not in held, "an instance of somebody else was overwritten"
        short_id_of = 10 if key[0] == 0 else 0
        (held[key],) = (int(str(each.value)) for each in write.content.entries if each.path[2] == short_id_of)
    for short_id in short_ids:
        for object_id in (0, 1):
            assert sum(key[0] == object_id and other == short_id for key, other in held.items()) == 1
