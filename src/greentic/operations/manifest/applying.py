"""Plan a manifest, apply it, check it (reference 01, sections 5.3 and 5.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greentic.operations.context import Context
from greentic.operations.manifest import ownership
from greentic.operations.manifest.ownership import Claims
from greentic.operations.manifest.plan import Action, Plan
from greentic.operations.manifest.planning import make_plan
from greentic.operations.manifest.reading import UNFINISHED, Gathered, Source, gather, with_secrets
from greentic.operations.manifest.tasks import CreateEnvironment, RemoveDeployment, UpdateHost
from greentic.spec.errors import Conflict, Differs, InputOutput, InvalidArgument
from greentic.spec.manifest import SCHEMA
from greentic.store.contract import Stored

if TYPE_CHECKING:
    from greentic.envpacks.secrets import SecretValue

_DONE = {
    Action.CREATE: "created",
    Action.UPDATE: "changed",
    Action.MOVE: "moved",
    Action.REMOVE: "removed",
    Action.PUT: "written",
    Action.NONE: "as they were",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a manifest is applied.

    - `check`: change nothing, raise Differs when something would change.
    - `token`: carry out that plan or nothing.
    - `prune`: remove what was declared before and is no more.
    - `confirm`: asked with the plan before anything is changed; may say no.
    - `paste`: gives the value of a secret that has none, or None.
    - `say`: told the plan, line by line.
    """

    check: bool = False
    token: str | None = None
    prune: bool = False
    confirm: Callable[[Plan], bool] | None = None
    paste: Callable[[str], str | None] | None = None
    say: Callable[[str], None] | None = None


async def plan(context: Context, source: Source, *, prune: bool = False) -> dict[str, Any]:
    """What applying the manifest would do, with the token that names it. Raises what `apply` would raise before it
    changes anything, but for inputs that are missing, which are listed.
    """
    gathered = gather(context, source)
    planned, _ = _planned(context, gathered, prune)
    await _judge_settings(context, planned)
    gathered.digests.save()
    return {**report(planned, "plan"), "manifest": source.origin, "prune": prune}


def planned_of(context: Context, source: Source) -> tuple[Plan, Stored | None]:
    """(the plan itself, the environment it starts from)."""
    gathered = gather(context, source)
    planned, _ = _planned(context, gathered, prune=False)
    gathered.digests.save()
    return planned, gathered.stored


async def apply(context: Context, source: Source, wishes: Wishes) -> dict[str, Any]:
    """Make the environment as the manifest says, in the order of the plan, and prove it.

    Raises Conflict when the plan of the token is not the plan any more or somebody else changes the environment
    meanwhile, Differs for a check that finds something, InvalidArgument when inputs are missing, and what a step
    refuses: then the run stops, and the next one goes on from there.
    """
    _check_wishes(source, wishes)
    gathered = gather(context, source)
    _check_expected(context, gathered)
    planned, claims = _planned(context, gathered, wishes.prune)
    gathered.digests.save()
    if wishes.token is not None and wishes.token != planned.token:
        raise Conflict(
            f"this is not the plan {wishes.token} any more: the environment, the manifest or a bundle changed",
            details={"expected": wishes.token, "actual": planned.token},
            next_step=f"look again: gtc op env plan -f {source.origin}",
        )
    await _judge_settings(context, planned)
    _say(planned, wishes)
    if wishes.check:
        return _checked(planned)
    if context.dry_run:
        return report(planned, "dry-run")
    gathered = _pasted(gathered, wishes)
    if gathered.resolved.missing:
        raise InvalidArgument(
            "inputs are missing: " + "; ".join(f"{one.key} ({one.source})" for one in gathered.resolved.missing),
            details={"missing": [one.document() for one in gathered.resolved.missing]},
            next_step="put them there; `gtc op env plan` lists them",
        )
    if planned.changes and wishes.confirm is not None and not wishes.confirm(planned):
        raise InvalidArgument("not confirmed, nothing was changed", next_step="answer y, or add --yes")
    planned = replace(planned, missing=())
    receipts = await _carry_out(context, source, gathered, planned, claims) if planned.changes else []
    if not planned.changes:
        _claim(source, gathered, context.store.artifacts(planned.environment_id), claims)
    told = report(planned, "apply")
    if planned.changes:
        told["verify"] = _verified(context, source, wishes)
    return {**told, "receipt": _worst(receipts)}


def report(planned: Plan, mode: str) -> dict[str, Any]:
    """A plan as JSON (reference 01, section 5.6, with the token and what each step changes)."""
    counted = planned.counted()
    return {
        "manifest_schema": SCHEMA,
        "environment_id": planned.environment_id,
        "mode": mode,
        "generation": planned.generation,
        "etag": planned.etag,
        "token": planned.token,
        "steps": [step.document() for step in planned.steps],
        "counts": {word: counted[action.value] for action, word in _DONE.items() if counted.get(action.value)},
        "changed": len(planned.changes),
        "no_op": counted.get(Action.NONE.value, 0),
        "undiffable": counted.get(Action.PUT.value, 0),
        "missing": [one.document() for one in planned.missing],
        "warnings": list(planned.warnings),
    }


def _planned(context: Context, gathered: Gathered, prune: bool) -> tuple[Plan, Claims]:
    planned, claims = make_plan(gathered.resolved, gathered.recorded, actor=context.by, prune=prune, key=context.key)
    return replace(planned, warnings=(*planned.warnings, *gathered.warnings)), claims


def _check_wishes(source: Source, wishes: Wishes) -> None:
    if wishes.prune and source.path is None:
        raise InvalidArgument(
            "a manifest from standard input declared nothing before, so nothing of it can be pruned",
            next_step="put it into a file: -f env.yaml",
        )


def _check_expected(context: Context, gathered: Gathered) -> None:
    recorded = gathered.recorded
    for asked, actual, what in (
        (context.expected_generation, recorded.generation, "generation"),
        (context.if_match, recorded.etag, "etag"),
    ):
        if asked is not None and asked != actual:
            raise Conflict(
                f"the environment is at {what} {actual}, not {asked}",
                details={f"expected_{what}": asked, f"actual_{what}": actual},
                next_step="look what changed, then apply again",
            )


def _say(planned: Plan, wishes: Wishes) -> None:
    if wishes.say is None:
        return
    for step in planned.changes:
        wishes.say(f"{step.action.value:>6}  {step.detail}")
    for one in planned.missing:
        wishes.say(f"missing {one.kind.replace('_', ' ')} {one.key} ({one.source})")
    for warning in planned.warnings:
        wishes.say(f"note: {warning}")


def _checked(planned: Plan) -> dict[str, Any]:
    told = report(planned, "check")
    if not planned.differs:
        return told
    parts = [f"{len(planned.changes)} steps to do"] if planned.changes else []
    parts += [f"{len(planned.missing)} inputs missing"] if planned.missing else []
    raise Differs(
        f"the environment '{planned.environment_id}' is not as the manifest says: {', '.join(parts)}",
        details=told,
        next_step="gtc op env plan shows it, gtc op env apply does it",
    )


def _pasted(gathered: Gathered, wishes: Wishes) -> Gathered:
    if wishes.paste is None:
        return gathered
    from greentic.envpacks.secrets import SecretValue

    values: dict[str, SecretValue] = {}
    for one in gathered.resolved.missing:
        if one.kind == "secret_value" and one.source == "paste":
            text = wishes.paste(one.key)
            if text:
                values[one.key] = SecretValue(text)
    return with_secrets(gathered, values)


async def _judge_settings(context: Context, planned: Plan) -> None:
    """Refuse settings of the routers that could not be served (a broken certificate) while nothing is changed yet."""
    tasks = [step.task for step in planned.changes]
    wanted = next(
        (one.payload for one in tasks if isinstance(one, UpdateHost) and one.payload.router is not None), None
    )
    if wanted is None or wanted.router is None:
        return
    from greentic.operations.following import judge, rehearsing

    asking, name = rehearsing(context), planned.environment_id
    made = next((one.payload for one in tasks if isinstance(one, CreateEnvironment)), None)
    if made is None:
        await judge(context, asking.apply(name, "env", "update", wanted))
        return
    applied = asking.apply(name, "env", "create", made)
    host = applied.environment.host_config.model_copy(update={"router": wanted.router.value})
    await judge(context, replace(applied, environment=applied.environment.model_copy(update={"host_config": host})))


async def _carry_out(
    context: Context, source: Source, gathered: Gathered, planned: Plan, claims: Claims
) -> list[dict[str, Any]]:
    from greentic.operations.manifest import ahead
    from greentic.operations.manifest.guarded import Guarded
    from greentic.operations.manifest.performing import Performer  # heavy, and a run without changes needs it not

    name = planned.environment_id
    folder = context.store.artifacts(name)
    own = replace(context, expected_generation=None, if_match=None)
    guarded = Guarded(context.store, planned.generation)
    performer = Performer(replace(own, store=guarded), own, name, gathered.values)
    receipts: list[dict[str, Any]] = []
    marked = False
    for run in ahead.runs(planned.changes):
        if not marked and folder.is_dir():
            # Before the first change: what a run declares is its own even if it never ends.
            _mark(folder, _removed(gathered, planned))
            _claim(source, gathered, folder, claims.joined(gathered.recorded.mine))
            marked = True
        for step in await performer.record_ahead(run):
            receipts += await performer.perform(step)
            context.progress(f"{step.kind} {step.key}: {_DONE[step.action].replace('as they were', 'nothing')}")
    if folder.is_dir():
        _claim(source, gathered, folder, claims)
        (folder / UNFINISHED).unlink(missing_ok=True)
        gathered.digests.save()
    return receipts


def _removed(gathered: Gathered, planned: Plan) -> set[str]:
    """The revisions whose files go with their deployment, those of an earlier run that died included."""
    leaving = {step.task.deployment_id for step in planned.changes if isinstance(step.task, RemoveDeployment)}
    environment = gathered.recorded.environment
    revisions = () if environment is None else environment.revisions
    gone = {one.revision_id for one in revisions if one.deployment_id in leaving}
    return gone | (gathered.recorded.unfinished or frozenset())


def _mark(folder: Path, removed: set[str]) -> None:
    try:
        (folder / UNFINISHED).parent.mkdir(mode=0o700, exist_ok=True)
        draft = folder / f"{UNFINISHED}.draft"
        draft.write_text("".join(f"{one}\n" for one in sorted(removed)), encoding="utf-8")
        draft.replace(folder / UNFINISHED)
    except OSError as error:
        raise InputOutput(f"{folder / UNFINISHED} cannot be written: {error.strerror}") from None


def _claim(source: Source, gathered: Gathered, folder: Path, claims: Claims) -> None:
    if source.path is not None and gathered.owner is not None and claims != gathered.recorded.mine:
        ownership.write(folder, gathered.owner, source.path, claims)


def _verified(context: Context, source: Source, wishes: Wishes) -> dict[str, Any]:
    """Plan again: nothing may be left to do."""
    again, _ = _planned(context, gather(replace(context, key=None), source), wishes.prune)
    failures = again.changes
    if failures:
        raise Conflict(
            f"applied, but {len(failures)} steps are still to do: {'; '.join(step.detail for step in failures[:5])}",
            details={"failures": [step.document() for step in failures]},
            next_step="somebody else may be changing the environment; apply again",
        )
    return {"checked": len(again.steps), "failures": []}


def _worst(receipts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The receipt that took longest."""
    return dict(max(receipts, key=lambda one: float(one["milliseconds"]))) if receipts else None
