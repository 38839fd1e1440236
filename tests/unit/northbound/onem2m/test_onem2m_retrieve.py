"""Retrieving with children, references, filters and pages, and what people wrote."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_onem2m_addressing import PATHS, tree, written  # noqa: F401

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.device.record import Credential
from stellwerk.northbound.onem2m import retrieve
from stellwerk.northbound.onem2m.errors import HTTP_STATUS, Rsc

NOW_MS = 1_752_761_133_829
STRICT = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"}
SHORT = {"fullName": "false"}
CONTAINERS = "/device-communication/device001"
RECEIVED = f"{CONTAINERS}/received-msg"


def updates(world: Any, device: Any, count: int, first_ms: int = NOW_MS) -> None:
    for number in range(count):
        labels = (f"outgoing_msgRN:m{number}", "Room:1")
        at_ms = first_ms + number * 1000
        world.commit((JournalEntry(Kind.UPDATE, device.device_id, at_ms, status=204, labels=labels),))


def names(answer: Any, envelope: str) -> list[str]:
    assert answer.status_code == 200, answer.text
    (parent,) = answer.json().values()
    return [each["rn"] for each in parent.get(envelope, [])]


def tags(world: Any, query: str, **headers: Any) -> list[int]:
    answer = world.get(f"{RECEIVED}?rcn=4&{query}", headers=SHORT | headers)
    assert answer.status_code == 200, answer.text
    return [each["st"] for each in answer.json()["m2m:cnt"].get("m2m:cin", [])]


def refused(answer: Any, rsc: Rsc) -> str:
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (HTTP_STATUS[rsc], str(int(rsc))), answer.text
    text: str = answer.json()["m2m:dbg"]
    return text


# -- filters --


@pytest.mark.spec("D2C 4.3")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("lbl=outgoing_msgRN:m1", [2]),
        ("lbl=outgoing-msgRN:m1", [2]),
        ("lbl=outgoing-msgRN:m1&lbl=outgoing_msgRN:m3", [4, 2]),
        ("lbl=outgoing_msgRN:*&lbl=nothing", [5, 4, 3, 2, 1]),
        ("lbl=nothing", []),
        ("ty=4", [5, 4, 3, 2, 1]),
        ("ty=4+23", [5, 4, 3, 2, 1]),
        ("ty=3&ty=4", [5, 4, 3, 2, 1]),
        ("ty=3", []),
        ("stb=3", [5, 4]),
        ("sts=3", [2, 1]),
        ("stb=1&sts=3", [2]),
        ("st=3", [3]),
        ("st=3&st=5", [5, 3]),
        ("stateTag=3", [3]),
        ("cra=20250717T140534", [5, 4, 3, 2]),
        ("crb=20250717T140534", [1]),
        ("cra=20250717T140534,829000", [5, 4, 3]),
        ("cra=2025-07-17T14:05:34.829Z", [5, 4, 3]),
        ("ms=20250717T140536", [5, 4]),
        ("us=20250717T140536", [3, 2, 1]),
        ("exb=20991231T000000", []),
        ("exa=20991231T000000", [5, 4, 3, 2, 1]),
        ("sza=1", [5, 4, 3, 2, 1]),
        ("szb=1", []),
        ("cty=application/json", [5, 4, 3, 2, 1]),
        ("cty=application/json:0", [5, 4, 3, 2, 1]),
        ("cty=text/*", []),
        ("cr=CNI-IPE", [5, 4, 3, 2, 1]),
        ("creator=CNI-*", [5, 4, 3, 2, 1]),
        ("cr=CTestApp", []),
        ("pty=3", [5, 4, 3, 2, 1]),
        ("pty=2", []),
        ("st=1&lbl=outgoing_msgRN:m4&fo=1", []),
        ("st=1&lbl=outgoing_msgRN:m4&fo=2", [5, 1]),
        ("st=1&lbl=outgoing_msgRN:m0&fo=3", []),
        ("st=1&lbl=outgoing_msgRN:m4&fo=3", [5, 1]),
        ("nonsense=1", [5, 4, 3, 2, 1]),
        ("&", [5, 4, 3, 2, 1]),
        ("lbl=Room:1&limit=2&offset=1", [4, 3]),
        ("limit=1000000000&offset=0", [5, 4, 3, 2, 1]),
    ],
)
def test_a_filter_leaves_what_meets_it(world: Any, query: str, expected: list[int]):
    updates(world, world.device(), 5)
    assert tags(world, query) == expected


@pytest.mark.spec("D2C 4.3")
def test_a_filtered_list_is_paged_over_what_is_left_of_it(world: Any):
    for number in range(12):
        world.device(f"dev-{number:02}", labels=("even:yes",) if number % 2 == 0 else ())
    pages, offset = [], "0"
    while offset is not None:
        answer = world.get(f"?rcn=8&ty=14&lbl=even:*&limit=4&offset={offset}", headers=SHORT)
        pages.append(names(answer, "m2m:nod"))
        offset = answer.headers.get("x-m2m-cto")
    assert pages == [["dev-00", "dev-02", "dev-04", "dev-06"], ["dev-08", "dev-10"]]


@pytest.mark.spec("D2C 4.3")
def test_thousands_of_devices_are_listed_in_pages_and_searched_whole(world: Any, monkeypatch: pytest.MonkeyPatch):
    devices = [world.device(f"dev-{number:04}", labels=(f"n:{number}",)) for number in range(1203)]
    first = world.get("?rcn=4&ty=14")
    assert len(first.json()["m2m:cb"]["m2m:nod"]) == 1000
    assert first.headers["x-m2m-cto"] == "1000"
    rest = world.get("?rcn=4&ty=14&offset=1000")
    assert len(rest.json()["m2m:cb"]["m2m:nod"]) == 203
    assert "x-m2m-cto" not in rest.headers
    assert names(world.get("?rcn=8&ty=14&lbl=n:1202"), "m2m:nod") == [devices[-1].name]
    monkeypatch.setattr(retrieve, "MOST_LOOKED_AT", 1000)
    assert "1000" in refused(world.get("?rcn=8&ty=14&lbl=n:1202"), Rsc.NOT_ACCEPTABLE)


@pytest.mark.spec("D2C 4.3")
@pytest.mark.parametrize(
    "query",
    [
        *("rcn=", "rcn=x", "rcn=77", "rcn=0", "rcn=9", "ty=", "ty=x", "limit=0", "limit=-1", "offset=x", "lvl=0"),
        *("lvl=x", "fo=4", "fo=0", "drt=3", "crb=yesterday", "cra=20251317T000000", "ms=", "us=1752761133829"),
        *("sts=-1", "szb=-1", "sza=x", "fu=x", "arp=", "arp=a//b", "atrl=", "atrl=nonsense", "rcn=4&atrl=rn"),
        *("cra=20250717T140534,1234567", "crb=" + "9" * 300, "rcn=" + "1" * 30, "&".join(["lbl=x"] * 101)),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(world: Any, query: str):
    assert len(refused(world.get(f"?{query}"), Rsc.BAD_REQUEST)) > 10


@pytest.mark.spec("D2C 4.3", "D2C 14")
def test_a_standards_client_hears_of_names_it_made_up(world: Any):
    for query in ("nonsense=1", "creator=CAdmin", "rcn=11", "fu=1&rcn=4", "fu=1&rcn=1"):
        refused(world.get(f"?{query}", headers=STRICT), Rsc.BAD_REQUEST)
    for query in ("cr=CAdmin", "fu=1", "fu=1&rcn=6", "rcn=6"):
        assert world.get(f"?{query}", headers=STRICT).status_code == 200


# -- what of it is shown --


@pytest.mark.spec("D2C 4.3")
def test_references_name_their_resources(tree: Any):  # noqa: F811
    references = tree.get(f"{CONTAINERS}?rcn=6").json()["m2m:rrl"]["rrf"]
    assert [each["nm"] for each in references] == ["outgoing-msg", "sent-msg", "received-msg"]
    assert references[0]["val"] == "acme/device-communication/device001/outgoing-msg"
    assert references[0]["typ"] == 3
    container = tree.get(f"{CONTAINERS}?rcn=5").json()["m2m:cnt"]
    assert container["ch"] == references
    assert container["rn"] == "device001"
    ids = [each["val"] for each in tree.get(f"{CONTAINERS}?rcn=6&drt=2").json()["m2m:rrl"]["rrf"]]
    assert ids[0] == tree.get(f"{CONTAINERS}/outgoing-msg", headers=SHORT).json()["m2m:cnt"]["ri"]
    assert tree.get(f"{CONTAINERS}?rcn=6&ty=4").json() == {"m2m:rrl": {"rrf": []}}


@pytest.mark.spec("D2C 4.3")
def test_discovery_finds_every_address_and_every_address_is_there(tree: Any):  # noqa: F811
    found = tree.get("?fu=1").json()["m2m:uril"]
    written_paths = {path for path in PATHS if not path.endswith("/la")}
    assert {f"acme{path}" for path in written_paths} <= set(found)
    assert len(found) == len(set(found))
    for address in found:
        assert tree.get(f"/{address}", mount="/onem2m").status_code == 200, address
    ids = tree.get("?fu=1&drt=2").json()["m2m:uril"]
    assert len(ids) == len(set(ids)) == len(found)
    for each in ids:
        assert tree.get(f"/{each}", mount="/onem2m").status_code == 200
    assert tree.get("?rcn=11").json()["m2m:uril"] == found


@pytest.mark.spec("D2C 4.3")
def test_discovery_is_filtered_bounded_in_depth_and_paged(tree: Any):  # noqa: F811
    assert tree.get("?fu=1&ty=14").json() == {"m2m:uril": ["acme/device001"]}
    assert tree.get("?fu=1&ty=2&rn=a*").json() == {"m2m:uril": ["acme/app"]}
    assert tree.get("/app?fu=1&lvl=1").json() == {"m2m:uril": ["acme/app/connector-logs"]}
    messages = tree.get("?fu=1&ty=4").json()["m2m:uril"]
    assert len(messages) == 3
    found, offset = [], "0"
    while offset is not None:
        answer = tree.get(f"?fu=1&ty=4&limit=2&offset={offset}")
        found += answer.json()["m2m:uril"]
        offset = answer.headers.get("x-m2m-cto")
    assert found == messages
    newest = tree.get("?fu=1&ty=3&rn=received-msg&arp=la").json()["m2m:uril"]
    assert len(newest) == 1
    assert newest[0].startswith("acme/device-communication/device001/received-msg/")
    assert tree.get("/app?fu=1&arp=nothing").json() == {"m2m:uril": []}
    by_message = tree.get("?rcn=8&lvl=4&ty=4", headers=SHORT).json()["m2m:cb"]
    assert list(by_message) == ["m2m:cin"]


@pytest.mark.spec("D2C 4.3", "D2C 4.2")
@pytest.mark.parametrize("full", [True, False])
def test_grandchildren_nest_in_their_parents(tree: Any, full: bool):  # noqa: F811
    answer = tree.get(f"{CONTAINERS}?rcn=4&lvl=2", headers={"fullName": str(full)}).json()
    container = answer["container" if full else "m2m:cnt"]
    parts = container["container" if full else "m2m:cnt"]
    assert [each["resourceName" if full else "rn"] for each in parts] == ["outgoing-msg", "sent-msg", "received-msg"]
    (waiting,) = parts[0]["contentInstance" if full else "m2m:cin"]
    assert waiting["content" if full else "con"] == "READ /3"
    (subscription,) = parts[0]["subscription" if full else "m2m:sub"]
    assert subscription["notificationContentType" if full else "nct"] == 1
    assert subscription["eventNotificationCriteria" if full else "enc"] == {
        "notificationEventType" if full else "net": [3]
    }
    shallow = tree.get(f"{CONTAINERS}?rcn=4", headers=SHORT).json()["m2m:cnt"]
    assert "m2m:cin" not in shallow["m2m:cnt"][0]
    deep = tree.get(f"{CONTAINERS}?rcn=4", headers=STRICT).json()["m2m:cnt"]
    assert "m2m:cin" in deep["m2m:cnt"][0]


@pytest.mark.spec("D2C 4.3")
def test_a_retrieve_may_name_the_attributes_it_wants(world: Any):
    world.device(labels=("a:b",))
    assert world.get("/device001?atrl=rn+lbl", headers=SHORT).json() == {"m2m:nod": {"lbl": ["a:b"], "rn": "device001"}}
    assert world.get("/device001?atrl=resourceName").json() == {"node": {"resourceName": "device001"}}


@pytest.mark.spec("D2C 4.1", "D2C 14")
def test_only_a_standards_client_sees_an_expiration_time(tree: Any):  # noqa: F811
    for path in PATHS:
        (strict,) = tree.get(path, headers=STRICT).json().values()
        assert strict["et"] == "99991231T235959,000000", path
        (lenient,) = tree.get(path, headers=SHORT).json().values()
        assert "et" not in lenient
    written(tree, "acme", "mortal", "m2m:ae", 2, et="20300101T000000", api="N", aei="Cmortal")
    assert tree.get("/mortal", headers=STRICT).json()["m2m:ae"]["et"] == "20300101T000000"
    assert "et" not in tree.get("/mortal").json()["m2m:ae"]
    assert "et" in tree.get(f"{CONTAINERS}?rcn=4", headers=STRICT).json()["m2m:cnt"]["m2m:cnt"][0]


# -- messages --


@pytest.mark.spec("D2C 4.4")
@pytest.mark.parametrize("container", ["outgoing-msg", "sent-msg", "received-msg"])
def test_an_empty_container_has_no_newest_and_no_oldest(world: Any, container: str):
    world.device()
    for name in ("la", "ol"):
        assert container in refused(world.get(f"{CONTAINERS}/{container}/{name}"), Rsc.NOT_FOUND)


@pytest.mark.spec("D2C 4.4")
def test_newest_and_oldest_are_those_that_the_limits_leave(world: Any):
    updates(world, world.device(), 7)
    held = world.get(RECEIVED, headers=SHORT).json()["m2m:cnt"]
    assert (held["cni"], held["st"], held["lt"]) == (5, 7, "20250717T140539,829000")
    all_of_it = world.get(f"{RECEIVED}?rcn=8", headers=SHORT).json()["m2m:cnt"]["m2m:cin"]
    assert [each["st"] for each in all_of_it] == [7, 6, 5, 4, 3]
    assert held["cbs"] == sum(each["cs"] for each in all_of_it)
    for name, tag in (("la", 7), ("ol", 3)):
        instance = world.get(f"{RECEIVED}/{name}", headers=SHORT).json()["m2m:cin"]
        assert instance["st"] == tag
        assert world.get(f"{RECEIVED}/{instance['rn']}", headers=SHORT).json()["m2m:cin"] == instance
    # The vendor's client asks for children of everything.
    assert world.get(f"{RECEIVED}/la?rcn=4", headers=SHORT).json()["m2m:cin"]["st"] == 7


# -- applications, groups, keys, device-info --


@pytest.mark.spec("D2C 5", "D2C 2")
def test_an_application_shows_what_registration_answered(world: Any):
    written(world, "acme", "app", "m2m:ae", 2, api="Napp", aei="CTestApp")
    ae = world.get("/app").json()["m2m:ae"]
    assert set(ae) == {"api", "poa", "lbl", "rn", "ty", "ri", "aei", "pi", "cr", "ct", "lt"}
    assert (ae["poa"], ae["pi"], ae["ty"]) == (None, "acme", 2)
    assert "poa" not in world.get("/app", headers=STRICT).json()["m2m:ae"]
    assert names(world.get("?rcn=8&ty=2"), "m2m:ae") == ["NI-IPE", "device-provisioning", "device-group", "app"]
    assert world.get("/app", headers={"fullName": "true"}).json()["AE"]["AE-ID"] == "CTestApp"


@pytest.mark.spec("D2C 4.2", "D2C 6.2")
@pytest.mark.parametrize("full", [True, False])
def test_vendor_types_keep_their_envelopes(world: Any, full: bool):
    headers = {"fullName": str(full)}
    items = [{"noRNe": "new", "ni": "urn:x:new", "profe": "SCS-LwM2M"}]
    order = {"dtiot:noPRt": {"opern": 1, "rn": "order", "reqLt": items}}
    ri = world.post("/device-provisioning/request", 28, order, headers=SHORT).json()["dtiot:noPRt"]["ri"]
    request = world.get("/device-provisioning/request/order", headers=headers).json()["dtiot:noPRt"]
    assert request["resourceID" if full else "ri"] == ri
    assert request["requestList" if full else "reqLt"][0]["nodeID" if full else "ni"] == "urn:x:new"
    (result,) = world.get("/device-provisioning/response?rcn=4").json()["m2m:cnt"]["dtiot:prRRe"]
    assert result["reqRD"] == ri
    alone = world.get(f"/device-provisioning/response/responseToRequest-{ri}").json()
    assert alone["flexContainer"]["resSs"] == 1
    written(world, "device-group", "all", "dtiot:devGr", 28, nds=["new"], aes=["app"])
    (group,) = world.get("/device-group?rcn=4").json()["m2m:ae"]["dtiot:devGr"]
    assert (group["rn"], group["nds"], group["aes"]) == ("all", ["new"], ["app"])


@pytest.mark.spec("D2C 6.5")
def test_the_secret_is_for_those_who_may_write(world: Any):
    device = world.device()
    refused(world.get("/device001/credentials"), Rsc.NOT_FOUND)
    credential = Credential(
        "identity", "hidden-key", envelope="dcfg:crds", created_ms=NOW_MS, modified_ms=NOW_MS + 1000
    )
    world.run(world.store.set_credential(device.device_id, credential))
    shown = world.get("/device001/credentials", headers=SHORT).json()["dcfg:crds"]
    assert (shown["crid"], shown["crse"], shown["dc"], shown["mgd"]) == ("identity", "hidden-key", "cred", 1029)
    assert (shown["ct"], shown["lt"]) == ("20250717T140533,829000", "20250717T140534,829000")
    reader = {"Authorization": "Bearer reader"}
    for path in ("/device001/credentials", "/device001?rcn=4", "/device001?rcn=8&ty=13", "?rcn=4&lvl=3"):
        answer = world.get(path, headers=reader)
        assert "hidden-key" not in answer.text
        assert "identity" in answer.text
    # Nor may a filter be asked whether it is right.
    assert names(world.get("/device001?rcn=4&crse=hidden*", headers=SHORT | reader), "dcfg:crds") == []


@pytest.mark.spec("D2C 9")
@pytest.mark.parametrize(
    ("latitude", "longitude", "place"),
    [
        (b"-20", b"-40", "geo:-20,-40"),
        (b"50.73", b"7.0982", "geo:50.73,7.0982"),
        (b"0.0000001", b"-0.00002", "geo:0.0000001,-0.00002"),
        (b"91", b"0", None),
        (b"north", b"0", None),
        (b"NaN", b"0", None),
    ],
)
def test_a_place_is_a_geo_uri_or_nothing(world: Any, latitude: bytes, longitude: bytes, place: str | None):
    device = world.device()
    for path, payload in (("/6/0/0", latitude), ("/6/0/1", longitude)):
        reading = JournalEntry(
            Kind.READING, device.device_id, NOW_MS, status=205, path=path, content_format=0, payload=payload
        )
        world.commit((reading,))
    assert world.get("/device001/device-info", headers=SHORT).json()["m2m:dvi"].get("loc") == place


@pytest.mark.spec("D2C 9")
def test_device_info_follows_the_device_and_keeps_what_people_named(world: Any):
    device = world.device(device_info=(("dlb", "Pump 7"), ("man", "typed in"), ("cnty", "DE")))
    world.register(device)
    before = world.get("/device001/device-info", headers=SHORT).json()["m2m:dvi"]
    assert (before["dlb"], before["man"], before["cnty"]) == ("Pump 7", "typed in", "DE")
    for path, payload in (("/3/0/0", b"Maker"), ("/3/0/13", b"1752761133"), ("/3/0/19", b"2.0")):
        entry = JournalEntry(
            *(Kind.READING, device.device_id, NOW_MS + 5000), status=205, path=path, content_format=0, payload=payload
        )
        world.commit((entry,))
    world.clock.ms += 60_000
    after = world.get("/device001/device-info", headers=SHORT).json()["m2m:dvi"]
    assert (after["dlb"], after["man"], after["swv"], after["dvnm"]) == ("Pump 7", "Maker", "2.0", "Maker")
    assert (after["syst"], after["lt"]) == ("1752761133000", "20250717T140538,829000")
    strict = world.get("/device001/device-info", headers=STRICT).json()["m2m:dvi"]
    assert strict["syst"] == "20250717T140533,000000"


@pytest.mark.spec("D2C 8.1")
def test_a_node_is_modified_when_its_labels_are(world: Any):
    device = world.device()
    world.commit((JournalEntry(Kind.UPDATE, device.device_id, NOW_MS + 1000, status=204),))
    node = world.get("/device001", headers=SHORT).json()["m2m:nod"]
    assert (node["ct"], node["lt"]) == ("20250717T140533,829000", "20250717T140534,829000")


# -- anything at all --

_WORDS = st.sampled_from(
    [
        *("acme", "other", "-", "~", "_", "device001", "app", "device-communication", "received-msg", "la", "ol"),
        *("device-info", "credentials", "..", ".", "", "%2e", "\0", "\ufffd", "\U0001f600", "f" * 24),
    ]
)
_SEGMENT = _WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_NAMES = st.sampled_from(
    [
        *("rcn", "ty", "lbl", "lvl", "fu", "fo", "drt", "arp", "atrl", "limit", "offset", "crb", "ms", "exa", "sts"),
        *("sza", "cty", "pty", "cr", "con", "st", "chty", "rt", "nonsense", "ri", "*"),
    ]
)
_VALUES = st.sampled_from(
    ["0", "1", "2", "3", "4", "5", "6", "8", "11", "14", "*", "", "la", "rn+lbl", "20250717T140534", "-1", "+"]
) | st.text(max_size=8)


def ask(world: Any, path: str, query: str = "", strict: bool = False) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and document of a GET that no HTTP client has tidied up; ``path`` as servers decode it."""
    headers = [(b"x-m2m-ri", b"123"), (b"x-m2m-origin", b"CAdmin"), (b"authorization", b"Bearer writer")]
    if strict:
        headers.append((b"x-m2m-rvi", b"4"))
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": query.encode()}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    world.run(world.app({**scope, "headers": headers, "client": ("127.0.0.1", 50000)}, receive, send))
    start, body = sent
    return start["status"], dict(start["headers"]), json.loads(body["body"])


@pytest.mark.spec("D2C 4.5")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mount=st.sampled_from(["/onem2m", "/device-management-orchestrator/v3"]),
    segments=st.lists(_SEGMENT, max_size=7),
    query=st.lists(st.tuples(_NAMES, _VALUES), max_size=4),
    strict=st.booleans(),
)
def test_any_path_and_query_is_answered_in_a_known_shape(
    tree: Any,  # noqa: F811
    mount: str,
    segments: list[str],
    query: list[tuple[str, str]],
    strict: bool,
):
    search = "&".join(f"{name}={quote(value, errors='replace')}" for name, value in query)
    status, headers, document = ask(tree, f"{mount}/{'/'.join(segments)}", search, strict)
    rsc = Rsc(int(headers[b"x-m2m-rsc"]))
    assert rsc is not Rsc.INTERNAL_SERVER_ERROR
    assert status == HTTP_STATUS[rsc]
    (name,) = document
    assert (name == "m2m:dbg") == (rsc is not Rsc.OK)


@pytest.mark.parametrize(
    "path",
    [
        *("/" + "x" * 60_000, "/x" * 5000, "/device001/../device001", "/./device001", "/device001/%2e%2e/device001"),
        *(
            "/ger\u00e4t",
            "/\U0001f600",
            "/device-communication/a/b/received-msg/la",
            "/device001 ",
            "/\0",
            "//device001",
        ),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_no_path_reaches_what_it_does_not_name(world: Any, path: str, strict: bool):
    world.device()
    status, headers, document = ask(world, f"/onem2m/acme{path}", strict=strict)
    assert status in (400, 404)
    assert headers[b"x-m2m-rsc"] in (b"4000", b"4004")
    assert 10 < len(document["m2m:dbg"]) < 400


@pytest.mark.spec("D2C 14")
def test_a_trailing_slash_is_an_address_of_its_own_for_standards_clients(world: Any):
    world.device()
    assert world.get("/device001/").status_code == 200
    assert world.get("/device001/", headers=STRICT).status_code == 400


@pytest.mark.spec("D2C 4.3")
def test_an_answer_that_would_be_too_large_is_partial_and_goes_on(world: Any, monkeypatch: Any):
    monkeypatch.setattr(retrieve, "LARGEST_ANSWER", 2500)
    for number in range(4):
        world.device(f"d{number}")
        world.post(f"/device-communication/d{number}/received-msg", 4, {"m2m:cin": {"con": "x" * 1000}})
    found: list[str] = []
    offset: str | None = "0"
    pages = 0
    while offset is not None:
        answer = world.get(f"/device-communication?rcn=8&lvl=3&ty=4&offset={offset}", headers={"fullName": "false"})
        found += [each["pi"] for each in answer.json()["m2m:cnt"]["m2m:cin"]]
        offset = answer.headers.get("x-m2m-cto")
        pages += 1
    assert len(set(found)) == len(found) == 4
    assert pages == 2


@pytest.mark.spec("D2C 4.3")
def test_of_two_long_searches_one_waits_and_a_short_one_does_not(world: Any, monkeypatch: Any):
    monkeypatch.setattr(retrieve, "LONG", 5)
    for number in range(4):
        world.device(f"d{number}")
    turns = world.services.long_searches
    world.run(turns.acquire())

    async def ask(path: str) -> httpx.Response:
        headers = {"Authorization": "Bearer writer", "X-M2M-Origin": "CTestApp", "X-M2M-RI": "1"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url="http://x") as http:
            return await http.get(f"/onem2m/acme{path}", headers=headers)

    async def story() -> None:
        long = [asyncio.ensure_future(ask("?fu=1")) for _ in range(2)]
        assert (await ask("?fu=1&lvl=1&ty=5")).status_code == 200
        assert (await ask("/d1?fu=1")).status_code == 200
        assert not any(each.done() for each in long)
        turns.release()
        assert [(await each).status_code for each in long] == [200, 200]
        assert not turns.locked()

    world.run(story())
