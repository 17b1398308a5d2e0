"""What of a plan can be recorded at once: on a store server each change is a round trip, and this saves most of them.

New deployments and their revisions come before anything is started. Between those of one bundle and the next the plan
starts workers and moves the dial; neither has a say in whether another bundle can be added or staged. Changes of
deployments that follow each other are one change, after which the routers are told once. Whatever a run that was killed
had recorded is found there by the next one, which goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from greentic.operations import artifacts
from greentic.operations.context import Context
from greentic.operations.health_evidence import Distant
from greentic.operations.manifest.plan import Step, derived_id
from greentic.operations.manifest.tasks import Bring, Change, Deploy, MoveTraffic, UpdateDeployment
from greentic.spec import changes
from greentic.spec.errors import Conflict, Denied, GreenticError, NotImplementedYet, StoreError, TimedOut
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import Payload
from greentic.spec.payloads import StageRevisionPayload
from greentic.store.contract import Store

LOOK_AHEAD = 25
"""How many bundles are recorded before the first of them is started. Each answer of a server tells the environment as
it is by then, and each artifact is unpacked by then: all of hundreds at once costs more than it saves."""
MAX_STEPS = 500
MAX_BYTES = 1024 * 1024
"""A batch is closed when it holds as much: a server takes 1,000 verbs and 2 MiB."""


@dataclass(frozen=True, slots=True)
class Part:
    """One verb of a batch, and the revision whose files stand for it, if any."""

    step: changes.Step
    revision_id: str | None
    size: int


def runs(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """`steps` in their order, in runs: those of deploying and moving the dial, those that only change the record, and
    every other one alone."""
    run: tuple[Step, ...] = ()
    for step in steps:
        enough = isinstance(step.task, Deploy) and sum(isinstance(one.task, Deploy) for one in run) >= LOOK_AHEAD
        if run and (enough or _kind(step) is None or _kind(step) != _kind(run[-1])):
            yield run
            run = ()
        run = (*run, step)
    if run:
        yield run


def _kind(step: Step) -> str | None:
    if isinstance(step.task, Deploy | MoveTraffic):
        return "deploy"
    return "record" if isinstance(step.task, UpdateDeployment | Change) else None


def record(context: Context, store: Store, environment_id: str, run: Sequence[Step]) -> int:
    """Record what `run` adds, stages and changes, in as few changes as it takes; how many verbs that were.

    `store` is where the changes of `context` go in the end. One on this machine is left alone: there is no way to save,
    and what completes a verb is asked verb by verb. A server that has no batches, or a token that may not, is left
    alone too: the steps do the same themselves.
    """
    if not isinstance(store, Distant):
        return 0
    recorded = 0
    for batch in _batches(_parts(context, environment_id, run)):
        key = derived_id("batch", *(step.idempotency_key for step in run), recorded)
        if len(batch) < 2 or not _applied(context, environment_id, key, batch):
            _discard(context, environment_id, batch)
            return recorded
        recorded += len(batch)
        context.progress(f"recorded {len(batch)} changes at once")
    return recorded


def _applied(context: Context, environment_id: str, key: str, batch: Sequence[Part]) -> bool:
    """Whether `batch` was carried out; not by a server that has no batches, or for a token that may not."""
    payload = changes.ApplyChangesPayload(steps=tuple(part.step for part in batch))
    try:
        replace(context, key=key).apply(environment_id, "changes", "apply", payload)
    except (NotImplementedYet, Denied):
        return False
    except GreenticError as error:
        if surely_not(error):
            _discard(context, environment_id, batch)
        raise
    return True


def surely_not(error: GreenticError) -> bool:
    """Whether a change that ended with `error` did not happen, so that files which stand for it may go. Of one whose
    answer was lost nobody knows; the next run finds out, and needs the files if it did happen."""
    return not isinstance(error, StoreError | TimedOut)


def staged(context: Context, environment_id: str, task: Deploy, bring: Bring) -> StageRevisionPayload:
    """The revision's files put in place, and what records it: of exactly the artifact that was planned, under the id
    that was planned. Conflict, with nothing left behind, for an artifact that is another one by now."""
    assert bring.archive is not None, "what is not recorded yet is staged from an artifact"
    environment = context.store.load(environment_id).environment
    folder = context.store.artifacts(environment_id)
    overrides = task.deployment.config_overrides
    prepared = artifacts.prepare(folder, environment, bring.revision_id, bring.archive, overrides)
    if prepared.digest != bring.digest:
        artifacts.discard(folder, bring.revision_id)
        raise Conflict(
            f"{bring.archive} is not the file that was planned any more",
            details={"expected": bring.digest, "actual": prepared.digest},
            next_step="plan again",
        )
    return StageRevisionPayload(
        revision_id=bring.revision_id,
        deployment_id=task.deployment.deployment_id,
        bundle_digest=prepared.digest,
        bundle_source_uri=bring.source_uri,
        pack_list=prepared.pack_list,
        pack_list_lock_ref=prepared.lock_ref,
        pack_config_refs=prepared.config_refs,
        config_digest=prepared.config_digest,
        drain_seconds=bring.drain_seconds,
        display_version=prepared.version,
    )


def _parts(context: Context, environment_id: str, run: Sequence[Step]) -> Iterator[Part]:
    for step in run:
        task = step.task
        if isinstance(task, UpdateDeployment):
            yield _part("bundles", "update", task.payload, None)
        if isinstance(task, Change):
            yield _part(task.noun, task.verb, task.payload, None)
        if not isinstance(task, Deploy):
            continue
        if task.add is not None:
            yield _part("bundles", "add", task.add, None)
        for bring in task.revisions:
            if bring.lifecycle is None:
                yield _part("revisions", "stage", staged(context, environment_id, task, bring), bring.revision_id)


def _part(noun: str, verb: str, payload: Payload, revision_id: str | None) -> Part:
    said = payload.to_json()
    return Part(changes.Step(noun=noun, verb=verb, payload=said), revision_id, len(canonical_json(said)))


def _batches(parts: Iterator[Part]) -> Iterator[list[Part]]:
    batch: list[Part] = []
    size = 0
    for part in parts:
        if batch and (len(batch) >= MAX_STEPS or size + part.size > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += part.size
    if batch:
        yield batch


def _discard(context: Context, environment_id: str, batch: Sequence[Part]) -> None:
    folder = context.store.artifacts(environment_id)
    for part in batch:
        if part.revision_id is not None:
            artifacts.discard(folder, part.revision_id)
