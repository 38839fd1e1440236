"""The example of docs/embedding.md does what the page says."""

import asyncio
import importlib.util
import re
from pathlib import Path

import pytest

from stellwerk.app.posting import ServerStopped
from stellwerk.embed import NewDevice, NotStarted, Server, Settings, Step


def test_the_example_prints_what_its_page_says(project_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.spec_from_file_location("embed_example", project_root / "examples" / "embed.py")
    assert found is not None
    assert found.loader is not None
    example = importlib.util.module_from_spec(found)
    found.loader.exec_module(example)
    asyncio.run(asyncio.wait_for(example.main(), 30))
    page = (project_root / "docs" / "embedding.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == said


def test_every_line_of_code_on_the_page_is_one_of_the_example(project_root: Path) -> None:
    page = (project_root / "docs" / "embedding.md").read_text(encoding="utf-8")
    example = (project_root / "examples" / "embed.py").read_text(encoding="utf-8")
    lines = {line.strip() for line in example.splitlines()}
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    assert [line for block in blocks for line in block.splitlines() if line.strip() not in lines] == []


def test_every_name_that_programs_may_use_is_there() -> None:
    import stellwerk.embed

    assert [each for each in stellwerk.embed.__all__ if not hasattr(stellwerk.embed, each)] == []
    assert sorted(stellwerk.embed.__all__) == stellwerk.embed.__all__


def test_a_server_that_was_not_started_has_no_operations(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="await its start\\(\\) first"):
        _ = Server(Settings(data_dir=tmp_path)).operations


def test_a_wait_ends_with_its_server_and_the_command_is_there_with_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        settings = Settings(
            data_dir=tmp_path,
            http_port=None,
            coap_port=None,
            coaps_port=None,
            bootstrap_coap_port=None,
            bootstrap_coaps_port=None,
        )
        server = Server(settings)
        await server.start()
        await server.provision([NewDevice("pump-1", "urn:dev:os:pump-1")])
        operations = server.operations
        pending = await operations.read("pump-1", "/3/0/0", expires_s=600).post()
        waiting = asyncio.ensure_future(pending.outcome())
        refused = await operations.read("pump-1", "/3/0/0")
        assert (refused.step, refused.reason) == (Step.REFUSED, "timeout-binding")
        await server.stop()
        for each in (waiting, pending.state(), pending.cancel(), operations.pending(pending.ref)):
            with pytest.raises(ServerStopped, match="after the next start"):
                await each
        with pytest.raises(ServerStopped):
            await operations.read("pump-1", "/3/0/0")
        again = Server(settings)
        await again.start()
        try:
            found = await again.operations.pending(pending.ref)
            assert (await found.state()).step is Step.QUEUED
            assert await found.cancel()
            assert (await found.outcome()).step is Step.CANCELLED
        finally:
            await again.stop()

    asyncio.run(story())
