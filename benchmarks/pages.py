"""Live pages in a real browser, for as long as standard input is open: the list of devices, and pages of single ones.

    python benchmarks/pages.py --port 8080 --count 5 --device load-00000000 --device load-00000001

Needs Playwright and Chromium. Writes a line when all are open, and one at the end: how many messages of the server each
page got.
"""

import argparse
import json
import select
import shutil
import sys

from playwright.sync_api import Page, sync_playwright
from servers import TOKEN


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--device", action="append", required=True)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("bench: no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context()
        context.set_default_timeout(60_000)
        messages = [0] * options.count
        opened: list[Page] = []
        for number in range(options.count):
            page = context.new_page()
            _count(page, messages, number)
            device = options.device[(number - 1) % len(options.device)]
            # The first shows the list; a device is reached as a person does, through it.
            page.goto(f"http://127.0.0.1:{options.port}/" + (f"?q={device}" if number else ""))
            if number == 0:
                page.get_by_label("Name").fill("admin@localhost")
                page.get_by_label("Password").fill(TOKEN)
                page.get_by_role("button", name="Sign in").click()
                page.get_by_role("heading", name="Devices").wait_for()
            else:
                page.get_by_role("link", name=device, exact=True).click()
                page.get_by_role("heading", name=device, exact=True).wait_for()
            opened.append(page)
        print(json.dumps({"event": "open", "pages": len(opened)}), flush=True)
        _until_input_ends(opened[0])
        print(json.dumps({"event": "result", "messages": messages}), flush=True)
        browser.close()
    return 0


def _count(page: Page, messages: list[int], number: int) -> None:
    def received(_: object) -> None:
        messages[number] += 1

    page.on("websocket", lambda socket: socket.on("framereceived", received))


def _until_input_ends(page: Page) -> None:
    # Playwright only listens while it is asked something.
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], 0)
        if readable and not sys.stdin.read(1):
            return
        page.wait_for_timeout(250)


if __name__ == "__main__":
    raise SystemExit(main())
