"""A command that goes on by itself after this one has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from greentic.cli.invocation import Invocation, store_root
from greentic.operations import names
from greentic.spec.errors import ProviderError

BEGIN_SECONDS = 10.0
_LOOK_SECONDS = 0.02


async def drive(invocation: Invocation, deployment: str) -> Path:
    """Have the schedule of `deployment` driven by a process of its own; its log, once it drives.

    ProviderError with its last words when it ends before.
    """
    import asyncio

    context = invocation.context()
    environment = context.store.load(invocation.environment_id).environment
    found = names.deployment(environment, deployment)
    former = environment.schedule(found.deployment_id)
    log = context.store.artifacts(invocation.environment_id) / "logs" / f"schedule-{found.deployment_id}.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = ["op", "traffic", "resume", found.deployment_id, "--env", invocation.environment_id]
    words += ["--store-root", str(store_root(invocation.root).absolute())]
    words += [] if invocation.by is None else ["--updated-by", invocation.by]
    process = _spawn(words, log)
    async with asyncio.timeout(BEGIN_SECONDS):
        while True:
            now = context.store.load(invocation.environment_id).environment.schedule(found.deployment_id)
            if now is not None and (former is None or now.runner != former.runner):
                return log
            status = process.poll()
            if status is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-2:]
                raise ProviderError(
                    f"the command that was to drive the schedule ended with status {status}: {' '.join(last)}",
                    details={"log": str(log)},
                    next_step=f"gtc op traffic resume {found.bundle_id}",
                )
            await asyncio.sleep(_LOOK_SECONDS)


def _spawn(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """`gtc WORDS` in a session of its own, so that neither Ctrl-C nor the end of this terminal reaches it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "greentic.cli.main", *words],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
