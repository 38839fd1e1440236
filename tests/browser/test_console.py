"""What a person sees and does, in a real browser."""

from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect

from stellwerk.coap import codes

from .conftest import TOKEN, HandDevice, SecureDevices, Served, Watched, ask_to_be_bootstrapped

expect.set_options(timeout=15_000)

MakeDevice = Callable[..., HandDevice]


def row(watched: Watched, name: str) -> Locator:
    return watched.page.get_by_role("row").filter(has=watched.page.get_by_text(name, exact=True))


def section(watched: Watched, title: str) -> Locator:
    heading = watched.page.get_by_role("heading", name=title, exact=True)
    return watched.page.locator("section").filter(has=heading)


def open_device(watched: Watched, name: str) -> None:
    watched.open(f"/?q={name}")
    watched.sign_in()
    watched.page.get_by_role("link", name=name, exact=True).click()
    expect(watched.page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def post(watched: Watched, command: str) -> None:
    box = watched.page.get_by_label("Command", exact=True)
    box.fill(command)
    box.press("Enter")


def test_a_wrong_password_is_told_and_the_right_one_leads_to_the_devices(watched: Watched) -> None:
    watched.open("/")
    watched.sign_in(password="wrong")
    expect(watched.page.get_by_role("alert")).to_have_text("Name or password is wrong.")
    expect(watched.page.get_by_label("Name")).to_have_value("admin@localhost")
    # The browser's own word for the 401.
    watched.complaints.clear()
    watched.sign_in()
    expect(watched.page.get_by_role("heading", name="Devices")).to_be_visible()
    assert watched.complaints == []


def test_a_device_appears_moves_and_is_found(watched: Watched, make_device: MakeDevice) -> None:
    device = make_device("hand-mover")
    watched.open("/?q=mover")
    watched.sign_in()
    line = row(watched, "hand-mover")
    expect(line.get_by_text("registered", exact=True)).to_be_visible()
    line.get_by_role("link").click()
    values = section(watched, "Values")
    for value in (21.5, 22.25, 23.75):
        device.send(b'[{"n":"/3303/0/5700","v":%g}]' % value)
        expect(values.get_by_text(f"{value:g}", exact=True)).to_be_visible()
    expect(values.get_by_role("rowheader", name="Temperature /3303/0")).to_be_visible()
    expect(values.get_by_role("cell", name="Sensor Value", exact=True)).to_be_visible()
    message = section(watched, "Messages").get_by_text("3303/0/5700 = 23.75")
    message.click()
    expect(section(watched, "Messages").get_by_text('"messageType": "send"').first).to_be_visible()
    assert watched.complaints == []


def test_every_request_stays_with_the_server(watched: Watched, make_device: MakeDevice) -> None:
    make_device("hand-local")
    open_device(watched, "hand-local")
    expect(section(watched, "Device log").get_by_text("registration", exact=True)).to_be_visible()
    hosts = {urlsplit(each).netloc for each in watched.requests if not each.startswith("data:")}
    assert hosts == {urlsplit(watched.served.url).netloc}


def test_a_command_is_posted_and_answered_while_one_looks(watched: Watched, make_device: MakeDevice) -> None:
    device = make_device("hand-answerer")
    open_device(watched, "hand-answerer")
    post(watched, "READ /3/0/0")
    device.answer_read(b"ACME")
    expect(section(watched, "Commands").get_by_text("succeeded")).to_be_visible()
    expect(section(watched, "Values").get_by_text("ACME", exact=True)).to_be_visible()
    expect(section(watched, "Messages").get_by_text("read 3/0/0: success, 3/0/0 = ACME")).to_be_visible()
    expect(watched.page.get_by_label("Command", exact=True)).to_have_value("")
    assert watched.complaints == []


def test_a_command_that_cannot_be_sent_is_told_with_what_would_be_right(
    watched: Watched, make_device: MakeDevice
) -> None:
    make_device("hand-picky")
    open_device(watched, "hand-picky")
    post(watched, "FETCH /3/0/0")
    expect(watched.page.get_by_text("'FETCH' is no method")).to_be_visible()
    expect(watched.page.get_by_label("Command", exact=True)).to_have_value("FETCH /3/0/0")


def test_a_command_that_waits_for_a_sleeper_can_be_cancelled(watched: Watched, make_device: MakeDevice) -> None:
    make_device("hand-sleeper", "UQ")
    open_device(watched, "hand-sleeper")
    expect(watched.page.get_by_text("asleep", exact=True)).to_be_visible()
    post(watched, "READ /3/0/0")
    commands = section(watched, "Commands")
    expect(commands.get_by_text("queued, 1 of 1, until it wakes", exact=True)).to_be_visible()
    commands.get_by_role("button", name="Cancel").click()
    expect(commands.get_by_text("cancelled", exact=True)).to_be_visible()
    expect(commands.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(section(watched, "Messages").get_by_text("cancelled before it was sent").first).to_be_visible()


def test_on_a_telephone_no_page_is_wider_than_the_screen(watched: Watched, make_device: MakeDevice) -> None:
    name = "hand-of-a-name-that-is-long-and-does-not-wrap"
    make_device(name)
    watched.page.set_viewport_size({"width": 390, "height": 844})
    open_device(watched, name)
    for path in ("", "/", "/security"):
        if path:
            watched.open(path)
            expect(watched.page.locator("table").first).to_be_visible()
        assert watched.page.evaluate("document.documentElement.scrollWidth") == 390


def test_searching_narrows_the_list_while_one_types(watched: Watched, make_device: MakeDevice) -> None:
    make_device("hand-needle")
    make_device("hand-hay")
    watched.open("/")
    watched.sign_in()
    expect(row(watched, "hand-hay")).to_be_visible()
    watched.page.get_by_label("Search").fill("NEEDLE")
    expect(row(watched, "hand-hay")).to_have_count(0)
    expect(row(watched, "hand-needle")).to_be_visible()
    assert urlsplit(watched.page.url).query == "q=NEEDLE"
    watched.page.get_by_label("Search").fill("nothing like it")
    expect(watched.page.get_by_text("No device.")).to_be_visible()


def test_a_hidden_page_is_sent_nothing_and_catches_up_when_looked_at(
    watched: Watched, context: BrowserContext, served: Served, make_device: MakeDevice
) -> None:
    device = make_device("hand-hidden")
    open_device(watched, "hand-hidden")
    witness = Watched(context.new_page(), served)
    witness.open(urlsplit(watched.page.url).path)
    device.send(b'[{"n":"/3303/0/5700","v":1.5}]')
    for each in (watched, witness):
        expect(section(each, "Values").get_by_text("1.5", exact=True)).to_be_visible()
    # What the page's script says when its window is covered.
    watched.page.evaluate("emitEvent('visible', false)")
    for value in (2.5, 3.5):
        device.send(b'[{"n":"/3303/0/5700","v":%g}]' % value)
        expect(section(witness, "Values").get_by_text(f"{value:g}", exact=True)).to_be_visible()
    assert section(watched, "Values").get_by_text("3.5", exact=True).count() == 0
    watched.page.evaluate("emitEvent('visible', true)")
    expect(section(watched, "Values").get_by_text("3.5", exact=True)).to_be_visible()


def test_dark_stays_dark(watched: Watched) -> None:
    watched.open("/")
    watched.sign_in()
    body = watched.page.locator("body")
    expect(body).to_have_class("desktop no-touch body--light")
    watched.page.get_by_role("button", name="Dark or light").click()
    expect(body).to_have_class("desktop no-touch body--dark")
    watched.page.reload()
    expect(body).to_have_class("desktop no-touch body--dark")


def test_signing_out_in_one_window_ends_the_other(watched: Watched, context: BrowserContext, served: Served) -> None:
    watched.open("/")
    watched.sign_in()
    expect(watched.page.get_by_role("heading", name="Devices")).to_be_visible()
    other = Watched(context.new_page(), served)
    other.open("/")
    other.page.get_by_role("button", name="Sign out").click()
    expect(other.page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(watched.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_page_survives_a_restart_of_the_server(watched: Watched, make_device: MakeDevice, served: Served) -> None:
    device = make_device("hand-survivor")
    open_device(watched, "hand-survivor")
    served.stop()
    expect(watched.page.locator("#popup")).to_be_visible()
    served.start()
    expect(watched.page.locator("#popup")).to_be_hidden(timeout=30_000)
    device.send(b'[{"n":"/3303/0/5700","v":42.5}]')
    expect(section(watched, "Values").get_by_text("42.5", exact=True)).to_be_visible()


def test_what_a_device_proves_itself_with_is_shown_without_the_key_and_follows_changes(
    watched: Watched, make_device: MakeDevice
) -> None:
    make_device("hand-secure")
    open_device(watched, "hand-secure")
    security = section(watched, "Security")
    expect(security.get_by_text("nothing: it comes without security (NoSec)")).to_be_visible()
    expect(security.get_by_text("without security", exact=True)).to_be_visible()
    key = {"m2m:crds": {"crid": "hand-identity", "crse": "psk-hex:00112233445566778899aabbccddeeff"}}
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json;ty=13",
        "X-M2M-Origin": "C",
        "X-M2M-RI": "1",
    }
    base = f"{watched.served.url}/device-management-orchestrator/v3/default"
    assert httpx.post(f"{base}/hand-secure", json=key, headers=headers, verify=False).status_code == 201
    expect(security.get_by_text("a pre-shared key")).to_be_visible()
    expect(security.get_by_text("hand-identity")).to_be_visible()
    # The registration without the key has ended.
    expect(security.get_by_text("without security", exact=True)).to_have_count(0)
    assert "00112233" not in watched.page.content()
    assert watched.complaints == []


def test_a_failed_handshake_is_shown_with_its_reason_to_those_whose_device_it_names(
    watched: Watched, browser: Browser, served: Served
) -> None:
    key, wrong = "00" * 16, "11" * 16
    served.provision("default", "knock-1", "ours", key)
    served.provision("another", "knock-2", "theirs", key)
    knocking = SecureDevices(
        served, "knock-", f"knock-1 ours {wrong}", f"knock-2 theirs {wrong}", f"knock-3 stranger {key}"
    )
    context = browser.new_context()
    try:
        everything = Watched(context.new_page(), served)
        everything.open("/security")
        everything.sign_in("sysadmin@localhost")
        for identity, device, reason in (
            ("ours", "knock-1", "wrong-key"),
            ("theirs", "knock-2", "wrong-key"),
            ("stranger", "", "unknown-identity"),
        ):
            line = row(everything, f"PSK identity '{identity}'").first
            expect(line.get_by_text(reason, exact=True)).to_be_visible()
            expect(line.get_by_role("link")).to_have_text([device] if device else [])
        expect(everything.page.get_by_text("no device has the PSK identity 'stranger'").first).to_be_visible()

        watched.open("/security")
        watched.sign_in()
        ours = row(watched, "PSK identity 'ours'").first
        expect(ours.get_by_text("give both ends the same pre-shared key")).to_be_visible()
        for other in ("theirs", "knock-2", "stranger", "secure session"):
            assert other not in watched.page.locator("body").inner_text()
        ours.get_by_role("link", name="knock-1", exact=True).click()
        log = section(watched, "Device log")
        expect(log.get_by_text("handshake-failed", exact=True)).to_be_visible()
        expect(log.get_by_text("PSK identity 'ours': wrong-key")).to_be_visible()
        assert watched.complaints == []
    finally:
        knocking.stop()
        context.close()


@pytest.mark.spec("Platform 12")
def test_a_device_that_is_bootstrapped_is_watched_step_by_step_and_no_key_is_shown(
    watched: Watched, served: Served
) -> None:
    factory_key, key = "0f1e2d3c4b5a69788796a5b4c3d2e1f1", "f11e2d3c4b5a69788796a5b4c3d2e102"
    served.commission("boot-1", factory_key, key)
    open_device(watched, "boot-1")
    bootstrap = section(watched, "Bootstrap")
    expect(bootstrap.get_by_text("It has never asked to be bootstrapped.")).to_be_visible()

    bootstrap.get_by_role("button", name="What would it be given?").click()
    dialog = watched.page.get_by_role("dialog")
    expect(dialog.get_by_text(f"LWM2M Server URI: coaps://127.0.0.1:{served.coaps_port}")).to_be_visible()
    expect(dialog.get_by_text("16 bytes, withheld")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)

    devices = SecureDevices(served, "boot-", f"boot-1 boot-1@bootstrapServer {factory_key}", bootstraps=True)
    try:
        expect(bootstrap.get_by_text("configured", exact=True)).to_be_visible()
        expect(watched.page.get_by_text("registered", exact=True).first).to_be_visible()
        bootstrap.get_by_text("4 steps in").click()
        for shown in ("Bootstrap-Discover /  2.05", "Bootstrap-Write /0/1  2.04", "Bootstrap-Finish  2.04"):
            expect(bootstrap.get_by_text(shown)).to_be_visible()
        expect(bootstrap.get_by_text("5 Secret Key: 16 bytes, not shown")).to_be_visible()
        for secret in (factory_key, key):
            assert secret not in watched.page.content()
        assert watched.complaints == []
    finally:
        devices.stop()


@pytest.mark.spec("SEC-3", "Platform 12")
def test_who_the_bootstrap_server_refused_is_shown_to_those_whose_device_it_names(
    watched: Watched, browser: Browser, served: Served
) -> None:
    served.commission("boot-2", "00" * 15 + "12", "00" * 15 + "34")
    for name in ("boot-2", "stranger"):
        assert ask_to_be_bootstrapped(served.bootstrap_port, name) == codes.BAD_REQUEST
    context = browser.new_context()
    try:
        everything = Watched(context.new_page(), served)
        everything.open("/security")
        everything.sign_in("sysadmin@localhost")
        refused = section(everything, "Bootstrap server")
        for name, device, reason in (("boot-2", "boot-2", "has-credentials"), ("stranger", "", "unknown-endpoint")):
            line = refused.get_by_role("row").filter(has_text=f"endpoint '{name}'").first
            expect(line.get_by_text(reason, exact=True)).to_be_visible()
            expect(line.get_by_role("link")).to_have_text([device] if device else [])

        watched.open("/security")
        watched.sign_in()
        ours = section(watched, "Bootstrap server").get_by_role("link", name="boot-2", exact=True)
        expect(ours).to_be_visible()
        assert "stranger" not in watched.page.locator("body").inner_text()
        ours.click()
        expect(section(watched, "Bootstrap").get_by_text("refused", exact=True)).to_be_visible()
        assert watched.complaints == []
    finally:
        context.close()
