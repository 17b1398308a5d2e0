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


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a check ended, what was seen, and the seconds that it took.

    `failed`: something else was seen than the check proves, or the deployer refused what it must do. `broken`: what was
    raised is no error of a deployer, so nothing was judged.
    """

    check: Check
    outcome: Literal["passed", "failed", "broken"]
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
    outcome: Literal["passed", "failed", "broken"] = "failed"
    evidence = ""
    with tempfile.TemporaryDirectory(prefix="gtc-bench-") as folder:
        stage: Stage | None = None
        try:
            bench = open_bench(Path(folder) / "bench")
            stage = Stage(bench, kind)
            async with asyncio.timeout(check.seconds):
                await stage.enter()
                evidence = await check.look(stage)
            outcome = "passed"
        except Failed as failure:
            evidence = str(failure)
        except TimeoutError:
            evidence = f"it did not end within {check.seconds:g} s"
        except GreenticError as error:
            evidence = f"{error.kind}: {error.message}"
        except (Exception, Killed) as error:
            outcome, evidence = "broken", f"{type(error).__name__}: {error}"
        finally:
            if stage is not None:
                await asyncio.shield(stage.close())
    return Verdict(check, outcome, evidence, round(time.monotonic() - began, 3))


async def examine(chosen: Sequence[Check], kind: str, open_bench: OpenBench, told: Told) -> tuple[Verdict, ...]:
    """Every one of the `chosen` checks, in order; `told` hears each verdict as it comes."""
    verdicts = []
    for check in chosen:
        verdict = await conduct(check, kind, open_bench)
        told(verdict)
        verdicts.append(verdict)
    return tuple(verdicts)
