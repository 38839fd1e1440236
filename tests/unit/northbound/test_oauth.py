"""Programs fetch bearer tokens with a client id and a secret."""

import base64
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from stellwerk.app.records import ApiClient
from stellwerk.northbound.auth import LEEWAY_S
from stellwerk.northbound.oauth import FAILURES, FAILURES_WITHIN_S, LARGEST_BODY, LIFETIME_S, secret_hash

FORM = "application/x-www-form-urlencoded"
GRANT = "grant_type=client_credentials"
RW, RO = "rw%device-management-orchestrator", "ro%device-management-orchestrator"
SECRET = "s3cret:with%odd +signs"


def client(world: Any, client_id: str = "app", role: str = "rw", tenants: tuple[str, ...] = ("acme",)) -> None:
    world.run(world.store.put_api_client(ApiClient(client_id, secret_hash(SECRET), tenants, role, 0)))


def basic(client_id: str = "app", secret: str = SECRET) -> str:
    text = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return "Basic " + base64.b64encode(text.encode()).decode()


def ask(world: Any, body: str = GRANT, authorization: str | None = None, **more: Any) -> httpx.Response:
    headers = {"Content-Type": FORM, "Authorization": authorization, **more.pop("headers", {})}
    return world.call("POST", "/oauth/token", mount="", headers=headers, content=body, **more)


def use(world: Any, token: str, method: str = "GET", **more: Any) -> httpx.Response:
    return world.call(method, "", headers={"Authorization": f"Bearer {token}"}, **more)


def refused(answer: httpx.Response, status: int, error: str) -> str:
    """The description."""
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.json()["error_description"]) > 10
    return answer.json()["error_description"]


@pytest.mark.spec("D2C 5")
@pytest.mark.parametrize("by", ["basic", "form"])
def test_a_client_gets_a_token_that_opens_its_tenants(world: Any, by: str):
    client(world)
    if by == "basic":
        answer = ask(world, authorization=basic())
    else:
        answer = ask(world, f"{GRANT}&client_id=app&client_secret={quote(SECRET, safe='')}")
    assert answer.status_code == 200
    granted = answer.json()
    assert set(granted) == {
        "access_token",
        "expires_in",
        "refresh_expires_in",
        "token_type",
        "not-before-policy",
        "scope",
    }
    assert (granted["expires_in"], granted["refresh_expires_in"]) == (LIFETIME_S, 0)
    assert (granted["token_type"], granted["not-before-policy"], granted["scope"]) == ("Bearer", 0, RW)
    assert answer.headers["cache-control"] == "no-store"
    assert use(world, granted["access_token"]).status_code == 200
    other = use(world, granted["access_token"], mount="/device-management-orchestrator/v3/other")
    assert other.headers["x-m2m-rsc"] == "4103"


@pytest.mark.spec("D2C 5")
@pytest.mark.parametrize(
    ("role", "scope", "granted"),
    [
        ("rw", "", RW),
        ("rw", RO, RO),
        ("rw", f"{RO} {RW}", RW),
        ("rw", "openid email", RW),
        ("r", "", RO),
        ("r", RW, RO),
    ],
)
def test_a_client_may_ask_for_less_than_it_has_and_never_gets_more(world: Any, role: str, scope: str, granted: str):
    client(world, role=role)
    body = GRANT + (f"&scope={quote(scope)}" if scope else "")
    answer = ask(world, body, basic()).json()
    assert answer["scope"] == granted
    world.device()
    written = world.call("DELETE", "/device001", headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert written.status_code == (200 if granted == RW else 403)


@pytest.mark.spec("D2C 5")
def test_a_token_that_is_over_is_unauthorized_and_says_so(world: Any):
    client(world)
    token = ask(world, authorization=basic()).json()["access_token"]
    world.clock.ms += (LIFETIME_S + LEEWAY_S - 1) * 1000
    assert use(world, token).status_code == 200
    world.clock.ms += 2000
    answer = use(world, token)
    assert answer.status_code == 401
    assert "x-m2m-rsc" not in answer.headers
    assert "expired" in answer.json()["m2m:dbg"]


@pytest.mark.spec("D2C 5")
def test_two_tokens_of_a_client_differ(world: Any):
    client(world)
    tokens = {ask(world, authorization=basic()).json()["access_token"] for _ in range(3)}
    assert len(tokens) == 3


@pytest.mark.spec("D2C 5", "RFC 6749 5.2")
def test_a_wrong_secret_and_an_unknown_client_are_told_alike(world: Any):
    client(world)
    texts = set()
    for authorization in (basic(secret="wrong"), basic("nobody"), basic(secret="")):
        answer = ask(world, authorization=authorization)
        texts.add(refused(answer, 401, "invalid_client"))
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert SECRET not in answer.text
    assert len(texts) == 1


@pytest.mark.spec("D2C 5", "RFC 6749 5.2")
@pytest.mark.parametrize(
    ("body", "authorization", "status", "error"),
    [
        ("", None, 401, "invalid_client"),
        (GRANT, None, 401, "invalid_client"),
        (f"{GRANT}&client_id=app", None, 401, "invalid_client"),
        (GRANT, "Bearer x", 401, "invalid_client"),
        (GRANT, "Basic !!!", 401, "invalid_client"),
        (GRANT, "Basic " + base64.b64encode(b"nocolon").decode(), 401, "invalid_client"),
        (GRANT, "Basic " + base64.b64encode(b"\xff:\xfe").decode(), 401, "invalid_client"),
        ("", "right", 400, "invalid_request"),
        ("grant_type=", "right", 400, "invalid_request"),
        ("grant_type=password", "right", 400, "unsupported_grant_type"),
        (f"{GRANT}&{GRANT}", "right", 400, "invalid_request"),
        (f"{GRANT}&client_id=other", "right", 400, "invalid_request"),
        (f"{GRANT}&scope=%22", "right", 400, "invalid_scope"),
        (f"{GRANT}&scope=%ff", "right", 400, "invalid_request"),
        ("&".join(f"x{number}=1" for number in range(40)), "right", 400, "invalid_request"),
        (GRANT + "&x=" + "y" * LARGEST_BODY, "right", 400, "invalid_request"),
        ("\u00e4", "right", 400, "invalid_request"),
    ],
)
def test_what_is_no_request_for_a_token_is_refused(
    world: Any, body: str, authorization: str | None, status: int, error: str
):
    client(world)
    refused(ask(world, body, basic() if authorization == "right" else authorization), status, error)


def test_only_forms_are_read(world: Any):
    client(world)
    answer = ask(world, '{"grant_type": "client_credentials"}', basic(), headers={"Content-Type": "application/json"})
    assert FORM in refused(answer, 400, "invalid_request")
    assert world.call("GET", "/oauth/token", mount="").status_code == 405


@pytest.mark.spec("D2C 5")
def test_who_fails_too_often_waits_and_others_do_not(world: Any):
    client(world)
    for _ in range(FAILURES):
        refused(ask(world, authorization=basic(secret="wrong"), client=("192.0.2.1", 5)), 401, "invalid_client")
    answer = ask(world, authorization=basic(), client=("192.0.2.1", 6))
    refused(answer, 429, "temporarily_unavailable")
    assert 0 < int(answer.headers["retry-after"]) <= FAILURES_WITHIN_S + 1
    assert ask(world, authorization=basic(), client=("192.0.2.2", 5)).status_code == 200
    world.clock.ms += int(FAILURES_WITHIN_S * 1000)
    assert ask(world, authorization=basic(), client=("192.0.2.1", 6)).status_code == 200


def test_addresses_of_one_ipv6_network_count_together(world: Any):
    client(world)
    for number in range(FAILURES):
        ask(world, authorization=basic(secret="wrong"), client=(f"2001:db8::{number:x}", 5))
    assert ask(world, authorization=basic(), client=("2001:db8::ffff", 5)).status_code == 429
    assert ask(world, authorization=basic(), client=("2001:db8:0:1::1", 5)).status_code == 200


def test_behind_a_proxy_each_client_counts_for_itself(world: Any):
    client(world)
    client(world, "second")
    forwarded = {"X-Forwarded-For": "198.51.100.7"}
    for _ in range(FAILURES):
        ask(world, authorization=basic(secret="wrong"), headers=forwarded)
    assert ask(world, authorization=basic(), headers=forwarded).status_code == 429
    assert ask(world, authorization=basic("second"), headers=forwarded).status_code == 200


def test_the_document_describes_the_endpoint(world: Any):
    assert "post" in world.get("/openapi.json", mount="").json()["paths"]["/oauth/token"]
