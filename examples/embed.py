"""Stellwerk inside a program: a server on free ports, one device, and what the program asks of it.

Run it with ``.venv/bin/python examples/embed.py``; it needs nothing and leaves nothing behind. docs/embedding.md
explains each step.
"""

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

from stellwerk.embed import NewDevice, Server, Settings, UnknownDevice
from stellwerk.logs import configure_logs
from stellwerk.sim.fleet import Fleet, FleetOptions


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stellwerk-embed-") as scratch:
        # Port 0 is a free one; no HTTP, so neither the other faces nor the console are there.
        settings = Settings(
            data_dir=Path(scratch),
            coap_host="127.0.0.1",
            coap_port=0,
            coaps_port=None,
            bootstrap_coap_port=None,
            bootstrap_coaps_port=None,
            http_port=None,
        )
        server = Server(settings)
        await server.start()
        try:
            await server.provision([NewDevice("pump-1", "urn:dev:os:pump-1"), NewDevice("pump-2", "urn:dev:os:pump-2")])
            _, port = server.bound.coap[0]
            # A simulated device stands for yours: any LwM2M client that is pointed at this port.
            pump = Fleet(FleetOptions(server=f"coap://127.0.0.1:{port}", prefix="pump-", sample_every_s=0.2))
            await pump.open()
            try:
                await pump.start()
                await ask(server)
                await pump.leave()
            finally:
                pump.close()
        finally:
            await server.stop()


async def ask(server: Server) -> None:
    operations = server.operations

    # What the device tells, from its first Register on.
    async with aclosing(operations.reports("pump-1")) as reports, asyncio.timeout(10):
        async for report in reports:
            if report.kind == "registration":
                print("pump-1 is registered")
                break

    # One call for each operation; what came of it is a value.
    outcome = await operations.read("pump-1", "/3/0/0")
    print("manufacturer:", outcome.value())

    outcome = await operations.write("pump-1", "/1/0/1", 600)
    print("lifetime written:", outcome.succeeded)

    outcome = await operations.read_composite("pump-1", ["/3/0/0", "/1/0/1", "/3/0/99"])
    for path, value in outcome.latest().items():
        print(f"{path}:", value)
    print("left out:", *outcome.missing)

    # What the device refuses is a value as well.
    outcome = await operations.execute("pump-1", "/3/0/0")
    print("execute:", outcome.step.value, outcome.status, outcome.detail)

    # An observation holds until it is cancelled; its notifications are reports.
    outcome = await operations.observe("pump-1", "/3303/0/5700", {"pmin": 0})
    print("observing:", outcome.succeeded)
    async with aclosing(operations.reports("pump-1")) as reports, asyncio.timeout(10):
        async for report in reports:
            if report.kind == "notify":
                print("notified of:", *report.values)
                break
    await operations.cancel_observation("pump-1", "/3303/0/5700")

    # A device that is not there: at once where the command has no time of its own ...
    outcome = await operations.read("pump-2", "/3/0/0")
    print("pump-2:", outcome.step.value, outcome.status, outcome.detail)

    # ... and where it has, it waits as a row, over restarts too, and can be asked about and cancelled.
    pending = await operations.read("pump-2", "/3/0/0", expires_s=86_400).post()
    state = await (await operations.pending(pending.ref)).state()
    print("waits for:", state.place.waits_for if state.place else "nothing")
    await pending.cancel()
    print("then:", (await pending.outcome()).step.value)

    # Only mistakes of the program are exceptions.
    try:
        await operations.read("pump-3", "/3/0/0")
    except UnknownDevice as error:
        print("mistake:", error)


if __name__ == "__main__":
    configure_logs("warning", "console")
    asyncio.run(main())
