"""Who may in, from where, and with which headers."""

import base64
import json
from typing import Any

import pytest
from console_world import HOST, NOW_MS, World
from nicegui import Client

from stellwerk.app.attempts import TooManyAttempts
from stellwerk.app.bootstrap_history import RefusedRequest
from stellwerk.app.failures import FailedHandshake
from stellwerk.app.handlers.accounts import FAILURES
from stellwerk.console.sessions import COOKIE, IDLE_MS, LONGEST_MS


def test_nobody_sees_a_page_without_signing_in(world: World) -> None:
    device = world.device("meter-1")
    for path, target in (
        ("/", "/login"),
        ("/?q=meter", "/login?next=/%3Fq%3Dmeter"),
        (f"/devices/{device.device_id}", f"/login?next=/devices/{device.device_id}"),
    ):
        answer = world.call("GET", path)
        assert (answer.status_code, answer.headers["location"]) == (303, target)
        assert "meter-1" not in answer.text


def test_signing_in_leads_to_the_page_that_was_wanted(world: World) -> None:
    world.device("meter-1")
    answer = world.sign_in(next="/?q=meter")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=meter")
    page = world.call("GET", "/")
    assert page.status_code == 200
    assert "meter-1" in page.text
    assert world.call("GET", "/login").headers["location"] == "/"


@pytest.mark.parametrize(
    "target",
    ["//evil.example/", "https://evil.example/", "/\\evil.example", "/devices/1/../../x", "/\r\nx: y", "", "/login"],
)
def test_no_link_leads_elsewhere_after_signing_in(world: World, target: str) -> None:
    assert world.sign_in(next=target).headers["location"] == "/"


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(world: World) -> None:
    cookie = world.sign_in().headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "; Secure" in world.sign_in(scheme="https").headers["set-cookie"]


def test_a_wrong_password_and_an_unknown_name_look_the_same(world: World) -> None:
    wrong = world.sign_in(password="wrong")
    unknown = world.sign_in(name="nobody@localhost")
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert "Name or password is wrong." in wrong.text
    assert wrong.text.replace("admin@localhost", "?") == unknown.text.replace("nobody@localhost", "?")
    assert not world.cookies


def test_a_name_with_markup_comes_back_as_text(world: World) -> None:
    answer = world.sign_in(name='"><script>alert(1)</script>')
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_who_fails_too_often_waits(world: World) -> None:
    for _ in range(FAILURES):
        assert world.sign_in(password="wrong").status_code == 401
    answer = world.sign_in()
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "try again in" in answer.text


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("http://evil.example", {}),
        ("null", {}),
        ("http://stellwerk.example", {}),
        (None, {"sec-fetch-site": "cross-site"}),
        (None, {"sec-fetch-site": "same-site"}),
    ],
)
def test_forms_of_other_sites_do_nothing(world: World, origin: str | None, headers: dict[str, str]) -> None:
    assert world.sign_in(origin=origin, headers=headers).status_code == 403
    assert not world.cookies
    world.sign_in()
    assert world.call("POST", "/logout", origin=origin, headers=headers).status_code == 403
    assert world.call("GET", "/").status_code == 200


@pytest.mark.parametrize("origin", ["http://[::1", "http://[x]", "//", "http://\u2100"])
def test_an_origin_that_is_no_address_is_another_site(world: World, origin: str) -> None:
    headers = {"origin": origin.encode()}
    assert world.call("POST", "/login", origin=None, headers=headers).status_code == 403
    world.sign_in()
    assert world.call("POST", "/logout", origin=None, headers=headers).status_code == 403
    cookie = {"cookie": f"{COOKIE}={world.cookies[COOKIE]}"}
    assert [each["type"] for each in connect(world, cookie | {"origin": origin})] == ["websocket.close"]


@pytest.mark.parametrize("other", ['prefs={"a": "b"}', "x=[1,2]; y", "a b=c", "=", "t=é"])
def test_what_another_server_on_this_host_left_in_the_browser_keeps_nobody_out(world: World, other: str) -> None:
    world.sign_in()
    cookie = f"{other}; {COOKIE}={world.cookies.pop(COOKIE)}"
    assert world.call("GET", "/", headers={"cookie": cookie.encode()}).status_code == 200


def test_a_network_of_one_subscriber_guesses_passwords_as_one(world: World) -> None:
    async def fail(client: str) -> None:
        assert await world.accounts.log_in("admin@localhost", "wrong", client) is None

    for number in range(FAILURES):
        world.run(fail(f"2001:db8::{number:x}"))
    with pytest.raises(TooManyAttempts):
        world.run(fail("2001:db8::ffff"))
    world.run(fail("2001:db8:0:1::1"))


def test_a_form_of_a_proxy_that_speaks_tls_is_our_own(world: World) -> None:
    assert world.sign_in(origin=f"https://{HOST}").status_code == 303


def test_a_form_that_is_too_large_is_refused(world: World) -> None:
    assert world.sign_in(password="x" * 10_000).status_code == 413


@pytest.mark.spec("Design 3")
def test_failed_handshakes_are_shown_to_whom_they_concern(world: World) -> None:
    told = "its key is another one <than> ours"
    world.failures += [
        FailedHandshake(
            1, NOW_MS, "udp://192.0.2.7:4000", "PSK identity 'm1'", "wrong-key", told, "acme", "meter-1", 3
        ),
        FailedHandshake(
            2, NOW_MS, "udp://192.0.2.8:4000", "PSK identity 'm2'", "wrong-key", told, "other", "meter-2", 4
        ),
        FailedHandshake(3, NOW_MS, "udp://192.0.2.9:4000", "", "timeout", "the peer fell silent"),
    ]
    assert world.call("GET", "/security").headers["location"] == "/login?next=/security"
    world.sign_in()
    page = world.call("GET", "/security").text
    assert "in memory" not in page
    assert "meter-1" in page
    assert "wrong-key" in page
    assert "<than>" not in page
    assert "meter-2" not in page
    assert "192.0.2.9" not in page
    world.sign_in("sysadmin@localhost")
    page = world.call("GET", "/security").text
    assert "2 secure sessions in memory" in page
    assert "meter-2" in page
    assert "192.0.2.9" in page


@pytest.mark.spec("SEC-3")
def test_who_the_bootstrap_server_refused_is_shown_to_those_whose_device_it_names(world: World) -> None:
    world.refused += [
        RefusedRequest(
            2, NOW_MS, "udp://192.0.2.7:1", "meter-1", "has-credentials", "must <use> them", "acme", "meter-1"
        ),
        RefusedRequest(1, NOW_MS, "udp://192.0.2.8:1", "stranger", "unknown-endpoint", "nobody has the name"),
    ]
    world.sign_in()
    page = world.call("GET", "/security").text
    assert "meter-1" in page
    assert "has-credentials" in page
    assert "<use>" not in page
    assert "stranger" not in page
    assert "192.0.2.8" not in page
    world.sign_in("sysadmin@localhost")
    assert "stranger" in world.call("GET", "/security").text


def test_only_a_device_that_may_be_bootstrapped_has_something_to_say_of_it(world: World) -> None:
    gateway = world.device("gateway")
    end_device = world.device("sensor", gateway_id=gateway.device_id, gateway_prefix="d01")
    world.sign_in()
    said = "It has never asked to be bootstrapped."
    assert said in world.call("GET", f"/devices/{gateway.device_id}").text
    assert said not in world.call("GET", f"/devices/{end_device.device_id}").text


def test_signing_out_ends_the_session_also_for_who_kept_the_cookie(world: World) -> None:
    world.sign_in()
    kept = dict(world.cookies)
    answer = world.call("POST", "/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert f"{COOKIE}=;" in answer.headers["set-cookie"]
    world.cookies = kept
    assert world.call("GET", "/").status_code == 303


def test_a_link_signs_nobody_out(world: World) -> None:
    world.sign_in()
    assert world.call("GET", "/logout").status_code == 405
    assert world.call("GET", "/").status_code == 200


def test_signing_in_again_ends_the_session_of_before(world: World) -> None:
    world.sign_in()
    kept = dict(world.cookies)
    world.sign_in()
    world.cookies = kept
    assert world.call("GET", "/").status_code == 303


def test_an_idle_session_ends_and_one_in_use_goes_on_for_half_a_day(world: World) -> None:
    world.sign_in()
    for _ in range(LONGEST_MS // (IDLE_MS - 1000)):
        world.clock.ms += IDLE_MS - 1000
        assert world.call("POST", "/session").status_code == 204
    world.clock.ms += IDLE_MS - 1000
    assert world.call("POST", "/session").status_code == 401
    world.sign_in()
    world.clock.ms += IDLE_MS
    assert world.call("GET", "/").status_code == 303


HALF_A_PAIR = base64.urlsafe_b64encode(json.dumps(["\ud800", "x", 1, 1]).encode()).decode()


@pytest.mark.parametrize("cookie", ["x", "x.y", "." * 50, "é.é", "a" * 5000 + ".b", "W10.b", f"{HALF_A_PAIR}.b"])
def test_a_made_up_cookie_opens_nothing(world: World, cookie: str) -> None:
    answer = world.call("GET", "/", headers={"cookie": f"{COOKIE}={cookie}".encode()})
    assert answer.status_code == 303


def test_pages_may_not_be_framed_and_load_from_nowhere_else(world: World) -> None:
    world.sign_in()
    for path in ("/", "/login"):
        headers = world.call("GET", path).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
    policy = world.call("GET", "/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


def test_a_page_names_no_other_server(world: World) -> None:
    world.sign_in()
    page = world.call("GET", "/", headers={"x-forwarded-prefix": "//evil.example"}).text
    assert "evil.example" not in page
    assert not [each for each in page.split('"') if each.startswith(("http:", "https:", "//"))]


def test_what_devices_and_people_wrote_is_text_in_a_page(world: World) -> None:
    world.device("</script><script>alert(1)</script>", labels=("a:`${alert(2)}`",))
    world.sign_in()
    page = world.call("GET", "/").text
    assert "</script><script>alert(1)" not in page
    assert "`${alert" not in page


def test_a_tenant_administrator_sees_devices_of_the_tenant_and_no_other(world: World) -> None:
    own, foreign = world.device("own"), world.device("foreign", tenant="other")
    world.sign_in()
    page = world.call("GET", "/").text
    assert "own" in page
    assert "foreign" not in page
    assert world.call("GET", f"/devices/{own.device_id}").status_code == 200
    hidden = world.call("GET", f"/devices/{foreign.device_id}")
    missing = world.call("GET", "/devices/999")
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert "foreign" not in hidden.text


def test_the_system_administrator_sees_all(world: World) -> None:
    world.device("own")
    foreign = world.device("foreign", tenant="other")
    world.sign_in("sysadmin@localhost")
    page = world.call("GET", "/").text
    assert "own" in page
    assert "foreign" in page
    assert world.call("GET", f"/devices/{foreign.device_id}").status_code == 200


@pytest.mark.parametrize("path", ["/devices/x", "/devices/-1", "/devices", "/nothing", "/_nicegui/nothing"])
def test_paths_of_nobody_are_not_found(world: World, path: str) -> None:
    world.sign_in()
    assert world.call("GET", path).status_code == 404


def test_a_number_larger_than_a_database_counts_is_not_found(world: World) -> None:
    world.sign_in()
    assert world.call("GET", f"/devices/{1 << 70}").status_code == 404


def test_a_page_says_the_banner(world: World) -> None:
    world.sign_in()
    assert "the disk is full" not in world.call("GET", "/").text
    world.banner = "the disk is full"
    assert "the disk is full" in world.call("GET", "/").text


def connect(world: World, headers: dict[str, str]) -> list[dict[str, Any]]:
    """What a WebSocket to the pages' socket gets, until it is refused or taken."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    path = "/_nicegui_ws/socket.io/"
    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"EIO=4&transport=websocket",
        "headers": [
            (name.encode(), value.encode()) for name, value in {"host": HOST, "upgrade": "websocket", **headers}.items()
        ],
        "client": ("192.0.2.9", 50000),
        "server": ("stellwerk.example", 8080),
        "subprotocols": [],
    }
    world.run(world.app(scope, receive, send))
    return sent


def test_a_socket_opens_for_nobody_but_our_own_pages_of_somebody_who_signed_in(world: World) -> None:
    """That it opens for those is shown over real sockets."""
    world.sign_in()
    cookie = {"cookie": f"{COOKIE}={world.cookies[COOKIE]}"}
    own = {"origin": f"http://{HOST}"}
    for headers in (own, cookie, cookie | {"origin": "http://evil.example"}, cookie | {"origin": "null"}, {}):
        assert [each["type"] for each in connect(world, headers)] == ["websocket.close"]


def test_there_is_no_way_in_by_polling(world: World) -> None:
    world.sign_in()
    assert world.call("GET", "/_nicegui_ws/socket.io/?EIO=4&transport=polling").status_code == 404


def test_scripts_and_styles_may_be_kept_for_ever_since_their_address_changes_with_them(world: World) -> None:
    page = world.call("GET", "/login").text
    address = next(each for each in page.split('"') if each.startswith("/console/console.css"))
    answer = world.call("GET", address)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert world.call("GET", "/console/__init__.py").status_code == 404
    assert world.call("GET", "/console/sign_in.html").status_code == 404


def test_the_initial_page_carries_what_the_list_shows(world: World) -> None:
    """No second round trip before somebody sees something."""
    world.device("meter-1", labels=("Room:12",))
    world.sign_in()
    page = world.call("GET", "/").text
    rows = [each for each in _props(page) if "rows" in each]
    assert [(row["name"], row["state"], row["labels"]) for row in rows[0]["rows"]] == [("meter-1", "never", "Room:12")]


def _props(page: str) -> list[dict[str, Any]]:
    start = page.index("String.raw`") + len("String.raw`")
    text = page[start : page.index("`", start)]
    for mark, character in (("&#36;", "$"), ("&#96;", "`"), ("&gt;", ">"), ("&lt;", "<"), ("&amp;", "&")):
        text = text.replace(mark, character)
    return [each.get("props", {}) for each in json.loads(text).values()]


@pytest.mark.parametrize("path", ["/_nicegui/x", "/_nicegui/client/x/upload/1", "/_nicegui/0/x"])
def test_a_wrong_path_of_scripts_makes_no_page(world: World, path: str) -> None:
    before = len(Client.instances)
    answer = world.call("GET", path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(Client.instances) == before
