"""Running `gtc` as a user does: the installed command, its JSON on standard output, its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0


class CommandFailed(Exception):
    """A command that should have worked did not."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that worked. Times are those of `time.perf_counter_ns`; `told` is when its result could be read."""

    result: dict[str, Any]
    began: int
    told: int
    ended: int


@dataclass(frozen=True, slots=True)
class Gtc:
    """The command, with a store root of its own so that it never touches the user's environments."""

    root: Path
    folder: Path
    program: tuple[str, ...] = field(default_factory=lambda: installed())

    def environment(self) -> dict[str, str]:
        """What the command inherits: everything but settings of ours, and where the demo keeps what it makes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GREENTIC_", "GTC_"))}
        return {**kept, "GREENTIC_STORE_ROOT": str(self.root), "GTC_OPERATOR_KEY_PATH": str(self.operator_key)}

    @property
    def operator_key(self) -> Path:
        """The demo signs with a key of its own."""
        return self.root.parent / "operator" / "key.pem"

    def line(self, *words: str) -> str:
        """The command as one would type it in the repository's folder."""
        return shlex.join(["gtc", *(self._short(word) for word in words)])

    async def run(self, *words: str) -> Ran:
        """Run it with --json. CommandFailed, with its own words, when it does not end with 0."""
        began = time.perf_counter_ns()
        # A session of its own: Ctrl-C reaches the demo, which ends the command in its own time.
        process = await asyncio.create_subprocess_exec(
            *self.program,
            *words,
            "--json",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(),
            start_new_session=True,
            limit=16 * 1024 * 1024,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        complaint = asyncio.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                line = await process.stdout.readline()
                told = time.perf_counter_ns()
                status = await process.wait()
                ended = time.perf_counter_ns()
                said = (await complaint).decode(errors="replace")
        except TimeoutError:
            await _end(process)
            raise CommandFailed(f"{self.line(*words)}: not done after {PATIENCE_SECONDS:.0f} s") from None
        except asyncio.CancelledError:
            await asyncio.shield(_end(process))
            raise
        if status != 0:
            raise CommandFailed(f"{self.line(*words)}: exit status {status}: {_words(said)}")
        try:
            return Ran(json.loads(line)["result"], began, told, ended)
        except (ValueError, KeyError):
            raise CommandFailed(f"{self.line(*words)}: this is not a result: {line[:200]!r}") from None

    def call(self, *words: str, seconds: float = PATIENCE_SECONDS) -> bool:
        """Run it to the end, whatever happens around; whether it worked."""
        try:
            done = subprocess.run(
                [*self.program, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self.environment(),
                start_new_session=True,
                timeout=seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _short(self, word: str) -> str:
        try:
            return str(Path(word).relative_to(self.folder)) if word.startswith("/") else word
        except ValueError:
            return word


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask it to end, and see to it."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _words(said: str) -> str:
    """The error's own words, of the envelope when it is one."""
    for line in reversed(said.strip().splitlines()):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line)["error"]["message"])
    return said.strip()[-400:]


def installed() -> tuple[str, ...]:
    """`gtc` beside this interpreter, or the module when the package is not installed there."""
    beside = Path(sys.executable).with_name("gtc")
    return (str(beside),) if beside.is_file() else (sys.executable, "-m", "greentic.cli.main")
