"""Keeps the projector running as a helper process of the server, and wakes it after commits."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from stellwerk.app.ports import Limits

log = structlog.get_logger(__name__)

_WAKE_AFTER_S: Final = 0.003
"""How long to gather commits before the projector is woken: a command's three arrive within this."""
_REST_S: Final = 0.1
"""And under load: each wake-up and each slice has its price, and a message may be this much older."""
_LOAD: Final = 16
"""More commits than this within `_WAKE_AFTER_S` are load; a few commands at a time are not."""
"""Group commits this close together share one wake-up; shorter than what a person or a test would notice."""
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_STEADY_AFTER_S: Final = 60.0
_STOP_WITHIN_S: Final = 2.0
"""A slice takes a fraction of this; a projector that is killed loses nothing, and the server has five seconds."""


class ProjectorProcess:
    """Starts the projector, starts it again when it dies (with growing pauses), ends it when asked. It ends by itself
    when this process does, since its standard input closes. All methods belong to one event loop."""

    def __init__(self, data_dir: Path, limits: Limits | None = None, command: Sequence[str] | None = None) -> None:
        """``command`` runs instead of the projector (for tests); it gets the same pipe."""
        limits = limits or Limits()
        self._command = command or (
            sys.executable,
            "-m",
            "stellwerk.storage.projector",
            f"--data-dir={data_dir}",
            f"--max-instances={limits.max_instances}",
            f"--max-bytes={limits.max_bytes}",
        )
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._waking: asyncio.TimerHandle | None = None
        self._commits = 0

    @property
    def alive(self) -> bool:
        """Whether it runs just now."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; returns once the process exists. Raises OSError when it cannot be started."""
        self._process = await self._spawn()
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="projector keeper")

    def wake(self, commits: int = 1) -> None:
        """Say that there is something to project. Cheap, and never blocks."""
        self._commits += commits
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(_WAKE_AFTER_S, self._write_or_rest)

    def restart(self) -> None:
        """End it, whatever it is at; another one takes its place. Nothing is lost: its slice is not committed."""
        if self._process is not None and self._process.returncode is None:
            # Also where the process was stopped and would not hear anything milder.
            self._process.kill()

    @property
    def pid(self) -> int | None:
        """Of the process that runs just now."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def stop(self) -> None:
        """End it after the slice at hand. What waits in the journal is projected at the next start."""
        if self._waking is not None:
            self._waking.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            log.warning("projector.killed", after_s=_STOP_WITHIN_S)
            process.kill()
            await process.wait()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            started = loop.time()
            if self._process is not None:
                code = await self._process.wait()
                if loop.time() - started > _STEADY_AFTER_S:
                    pause_s = _FIRST_PAUSE_S
                log.warning("projector.died", exit_code=code, again_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            try:
                self._process = await self._spawn()
                self.restarts += 1
            except OSError as error:
                self._process = None
                log.error("projector.not_started", error=str(error), again_in_s=pause_s)

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.PIPE)

    def _write_or_rest(self) -> None:
        if self._commits > _LOAD:
            self._waking = asyncio.get_running_loop().call_later(_REST_S - _WAKE_AFTER_S, self._write)
        else:
            self._write()

    def _write(self) -> None:
        self._waking = None
        self._commits = 0
        if self._process is None or self._process.returncode is not None:
            return
        pipe = self._process.stdin
        # A full pipe has woken it already.
        if pipe is not None and not pipe.is_closing() and pipe.transport.get_write_buffer_size() == 0:
            pipe.write(b"\n")
