"""Take a deployer through checks: each in a clean world of its own, none kept from running by another's failure."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from greentic.conformance.checking import Check, Failed
from greentic.conformance.stage import Stage
from greentic.envpacks.bench import Bench
from greentic.envpacks.calls import Killed
from greentic.spec.errors import GreenticError

OpenBench = Callable[[Path], Bench]
Told = Callable[["Verdict"], None]
Outcome = Literal["passed", "failed", "broken"]
CLOSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a check ended, what was seen, and the seconds that it took.

    `failed`: something else was seen than the check proves, or the deployer refused what it must do. `broken`: what was
    raised is no error of a deployer, so nothing was judged.
    """

    check: Check
    outcome: Outcome
    evidence: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the deployer did what the check proves."""
        return self.outcome == "passed"


async def conduct(check: Check, kind: str, open_bench: OpenBench) -> Verdict:
    """One check of the deployer that is bound as `kind`, on a bench in a folder that is removed afterwards.

    Never raises but on cancellation: whatever goes wrong is the verdict.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gtc-bench-", ignore_cleanup_errors=True) as folder:
        outcome, evidence = await _on_bench(check, kind, open_bench, Path(folder) / "bench")
    return Verdict(check, outcome, evidence, round(time.monotonic() - began, 3))


async def _on_bench(check: Check, kind: str, open_bench: OpenBench, folder: Path) -> tuple[Outcome, str]:
    try:
        bench = open_bench(folder)
    except Exception as error:
        return "broken", f"the bench cannot be opened: {_said(error)}"
    ended: tuple[Outcome, str] = ("broken", "")
    try:
        stage = Stage(bench, kind)
        try:
            ended = await _judged(check, stage)
        finally:
            await stage.leave()
    except Exception as error:
        ended = "broken", _said(error)
    finally:
        closing = asyncio.ensure_future(_closed(bench))
        await asyncio.shield(closing)
    problem = closing.result()
    return ended if problem is None else ("broken", f"{problem}; before that: {ended[0]}: {ended[1]}")


async def _judged(check: Check, stage: Stage) -> tuple[Outcome, str]:
    try:
        async with asyncio.timeout(check.seconds):
            await stage.enter()
            return "passed", await check.look(stage)
    except Failed as failure:
        return "failed", str(failure)
    except TimeoutError:
        return "failed", f"it did not end within {check.seconds:g} s"
    except GreenticError as error:
        return "failed", _said(error)
    except (Exception, Killed) as error:
        return "broken", _said(error)


async def _closed(bench: Bench) -> str | None:
    """Close the bench: why it cannot be."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await bench.close()
    except TimeoutError:
        return f"the bench cannot be closed within {CLOSE_SECONDS:g} s"
    except Exception as error:
        return f"the bench cannot be closed: {_said(error)}"
    return None


def _said(error: BaseException) -> str:
    if isinstance(error, GreenticError):
        return f"{error.kind}: {error.message}"
    return f"{type(error).__name__}: {error}"


async def examine(chosen: Sequence[Check], kind: str, open_bench: OpenBench, told: Told) -> tuple[Verdict, ...]:
    """Every one of the `chosen` checks, in order; `told` hears each verdict as it comes."""
    verdicts = []
    for check in chosen:
        verdict = await conduct(check, kind, open_bench)
        told(verdict)
        verdicts.append(verdict)
    return tuple(verdicts)
