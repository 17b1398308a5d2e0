"""The lock of the one command that drives a deployment's schedule; it ends with its process, however that ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from greentic.operations.context import Context
from greentic.spec.deployment import BundleDeployment
from greentic.spec.errors import Conflict, TimedOut
from greentic.store import lock
from greentic.store.io import LocalFileSystem

_TAKE_SECONDS = 0.2
"""How long a runner waits for the lock of one that is just ending."""


@contextmanager
def sole(context: Context, environment_id: str, deployment: BundleDeployment) -> Iterator[None]:
    """Be the only command of this machine that drives the deployment's schedule; Conflict when another does."""
    path = _lock(context, environment_id, deployment.deployment_id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    taken = lock.held(LocalFileSystem(), path, "traffic schedule", lock.Patience(_TAKE_SECONDS))
    try:
        taken.__enter__()
    except TimedOut:
        raise Conflict(
            f"{lock.holder(path) or 'another command'} drives a schedule of '{deployment.bundle_id}' already",
            details={"reason": "schedule-driven"},
            next_step=f"gtc op traffic show {deployment.bundle_id}, or pause or abort it",
        ) from None
    try:
        yield
    finally:
        taken.__exit__(None, None, None)


def driven(context: Context, environment_id: str, deployment_id: str) -> bool:
    """Whether a command of this machine drives the deployment's schedule now."""
    path = _lock(context, environment_id, deployment_id)
    if not path.exists():
        return False
    try:
        with lock.held(LocalFileSystem(), path, "traffic show", lock.Patience(0)):
            return False
    except (TimedOut, OSError):
        return True


def _lock(context: Context, environment_id: str, deployment_id: str) -> Path:
    return context.store.artifacts(environment_id) / "run" / f"schedule-{deployment_id}.lock"
