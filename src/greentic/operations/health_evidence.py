"""What a data plane shows a store that cannot see its workers: that it saw them healthy, signed (`trust.health`).

The key is the data plane's own, of one environment on one store server. It says what runs and is good for nothing
else: who holds a token can change the record, who holds this key can tell what is seen, and a worker is ready when both
agree.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from greentic.envpacks.deployer import Deployer
from greentic.operations.context import Context, desired
from greentic.spec.errors import GateFailed, InvalidArgument
from greentic.spec.revision import Revision
from greentic.store.contract import Applied
from greentic.trust import health, keys
from greentic.trust.keys import OperatorKey

VARIABLE = "GREENTIC_DATA_PLANE_KEY"
"""The key file of a data plane that does not keep it in its own folder."""


@runtime_checkable
class Distant(Protocol):
    """A store that is elsewhere than the workers."""

    def data_plane_key(self, environment_id: str) -> Path:
        """Where the key of the data plane here is kept."""
        ...


def key(context: Context, environment_id: str, environ: Mapping[str, str] = os.environ) -> OperatorKey:
    """The key of this machine's data plane for the environment; made when there is none.

    InvalidArgument for a store of this machine, which sees for itself; OperatorKeyError for a key that is not safe.
    """
    if not isinstance(context.store, Distant):
        raise InvalidArgument(
            "the environments of this machine need no evidence: the store is where the workers are",
            next_step="name the store server: --store-url URL",
        )
    named = environ.get(VARIABLE)
    path = Path(os.path.realpath(named)) if named else context.store.data_plane_key(environment_id)
    return keys.load_or_create(path)


async def seen(context: Context, deployer: Deployer, applied: Applied, revision_id: str) -> tuple[str, ...]:
    """The evidence that goes with the verdict that a warming revision is healthy; none where the store sees itself.

    GateFailed when the deployer, asked once more, does not see a healthy worker.
    """
    if not isinstance(context.store, Distant):
        return ()
    environment = applied.environment
    revision = environment.revision(revision_id)
    assert revision is not None, "it began to warm"
    worker = (await deployer.observe(desired(applied))).revisions.get(revision_id)
    state = "absent" if worker is None else worker.state
    if worker is None or state != health.HEALTHY:
        detail = worker.detail if worker is not None and worker.detail else f"its worker is {state}"
        raise GateFailed(
            f"the worker of {revision_id} answered and is not healthy any more: {detail}",
            details={"revision_id": revision_id, "failed_checks": ["provider-health"]},
            next_step="gtc op status",
        )
    signer = key(context, environment.environment_id)
    return (health.sign(signer, revision, state, _named(revision, worker.process_id), context.now()),)


def _named(revision: Revision, process_id: int | None) -> str:
    return revision.revision_id if process_id is None else f"{revision.revision_id} (process {process_id})"
