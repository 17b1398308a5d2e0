"""Steps for the bundles of a manifest: deploy, move the dial, update. Pure.

A revision is recognised by its bundle's digest and its frozen parameters among the deployment's revisions that are not
archived, so that whatever can stay stays: a changed weight moves the dial and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from greentic.operations.manifest.held import Held
from greentic.operations.manifest.inputs import Artifact, Resolved, Target
from greentic.operations.manifest.plan import Action, Step, derived_id
from greentic.operations.manifest.routes import Handover, parked, wanted
from greentic.operations.manifest.tasks import Bring, Deploy, MoveTraffic, UpdateDeployment
from greentic.spec.deployment import BundleDeployment, DeploymentStatus, RouteBinding
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.manifest import BundleEntry, RevisionEntry
from greentic.spec.payloads import GREENTIC, AddDeploymentPayload, UpdateDeploymentPayload
from greentic.spec.revision import Revision
from greentic.spec.weights import format_share

Keyed = Callable[[str, str, Any], str]
"""(kind, natural key, what is wanted) -> the idempotency key of a step of this plan."""

_PREFERENCE = {
    Lifecycle.READY: 0,
    Lifecycle.WARMING: 1,
    Lifecycle.STAGED: 2,
    Lifecycle.DRAINING: 3,
    Lifecycle.INACTIVE: 4,
    Lifecycle.FAILED: 5,
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A declared revision and where it is: the record it is recognised in, or None and the id it will get."""

    revision_id: str
    label: str
    weight: int
    record: Revision | None
    artifact: Artifact | None
    drain_seconds: int | None
    source_uri: str | None


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """The steps of one bundle. `last` takes routes that change hands, once all are there and `aside` is done."""

    target: Target
    deployment: BundleDeployment
    held: Held
    placed: tuple[Placed, ...]
    steps: tuple[Step, ...]
    aside: tuple[Step, ...]
    last: tuple[Step, ...]
    warnings: tuple[str, ...]


def deployment_of(target: Target, environment_id: str, keyed: Keyed) -> BundleDeployment:
    """The deployment of `target` as it will be, with every declared part; a new one gets its id from the plan."""
    entry, known = target.entry, target.deployment
    status = entry.status or (DeploymentStatus.ACTIVE if known is None else known.status)
    route = wanted(None if entry.route_binding is None else entry.route_binding.binding(), known)
    if known is not None:
        shares = known.revenue_share if entry.shares is None else entry.shares
        return known.model_copy(
            update={
                "status": status,
                "route_binding": route,
                "revenue_share": shares,
                "config_overrides": target.overrides,
            }
        )
    return BundleDeployment(
        deployment_id=derived_id("deployment", keyed("deploy-bundle", target.called, None)),
        env_id=environment_id,
        bundle_id=entry.bundle_id,
        customer_id=target.customer_id,
        status=status,
        route_binding=route,
        revenue_share=entry.shares or GREENTIC,
        revenue_policy_ref="",
        created_at="1970-01-01T00:00:00Z",
        config_overrides=target.overrides,
    )


def plan_bundle(
    resolved: Resolved,
    target: Target,
    deployment: BundleDeployment,
    held: Held,
    handover: Handover,
    keyed: Keyed,
) -> BundlePlan:
    """The steps that bring one deployment to what is declared."""
    archived = deployment.status is DeploymentStatus.ARCHIVED
    placed, complete = _placed(resolved, target, deployment, held)
    bringing = () if archived else tuple(one for one in (_bring(place) for place in placed) if one is not None)
    late = deployment.deployment_id in handover.late
    steps = [*_reopened(target, deployment, late, keyed)]
    steps.append(_deploy(target, deployment, bringing, placed, complete, late, keyed))
    steps += _closed(target, deployment, keyed)
    if complete and not archived:
        steps.append(_dial(target, deployment, placed, held, keyed))
    aside, last = _handed_over(target, deployment, handover, late, keyed)
    steps.append(_update(target, deployment, late, keyed))
    return BundlePlan(target, deployment, held, placed, tuple(steps), aside, last, _warnings(target, placed))


def _placed(
    resolved: Resolved,
    target: Target,
    deployment: BundleDeployment,
    held: Held,
) -> tuple[tuple[Placed, ...], bool]:
    """(the declared revisions, whether all are known): one whose artifact is missing and unrecognised is left out."""
    entry = target.entry
    shares = {} if held.split is None else {one.revision_id: one.weight_bps for one in held.split.entries}
    free = [one for one in held.revisions if one.lifecycle is not Lifecycle.ARCHIVED]
    sequence = max((one.sequence for one in held.revisions), default=0)
    placed: list[Placed] = []
    declared: tuple[RevisionEntry | BundleEntry, ...] = entry.revisions or (entry,)
    for index, (revision, weight) in enumerate(zip(declared, entry.weights, strict=True)):
        artifact = resolved.artifacts.get((target.index, index))
        drain = revision.drain_seconds if isinstance(revision, RevisionEntry) else None
        source = revision.bundle_source_uri
        digest = revision.bundle_digest if artifact is None else artifact.digest
        same = [
            one
            for one in free
            if one.bundle_digest == digest
            and (_unchanged(target) if artifact is None else one.config_digest == artifact.config_digest)
        ]
        if not same and artifact is None:
            continue
        if same:
            chosen = min(same, key=lambda one: _preference(one, shares.get(one.revision_id, 0), weight))
            free.remove(chosen)
            placed.append(
                Placed(
                    chosen.revision_id,
                    f"v{chosen.sequence}",
                    weight,
                    chosen,
                    artifact,
                    drain,
                    source,
                )
            )
            continue
        assert artifact is not None
        sequence += 1
        # Out of the deployment and the sequence, not of the plan: a run that died while it unpacked goes on with the
        # same folder, and leaves none behind.
        revision_id = derived_id(
            "revision", deployment.deployment_id, sequence, artifact.digest, artifact.config_digest
        )
        placed.append(Placed(revision_id, f"v{sequence}", weight, None, artifact, drain, source))
    return tuple(placed), len(placed) == len(declared)


def _preference(revision: Revision, share: int, weight: int) -> tuple[bool, bool, int, int]:
    return share != weight, not share, _PREFERENCE[revision.lifecycle], -revision.sequence


def _unchanged(target: Target) -> bool:
    """Whether the deployment keeps its parameters, so that a revision without an artifact can be told by its digest."""
    return target.deployment is not None and target.overrides == target.deployment.config_overrides


def _bring(place: Placed) -> Bring | None:
    if place.record is not None and place.record.lifecycle is Lifecycle.READY:
        return None
    from greentic.operations.revisions import DRAIN_SECONDS  # heavy, and only needed when something is staged

    digest = place.artifact.digest if place.artifact is not None else ""
    return Bring(
        place.revision_id,
        place.label,
        None if place.record is None else place.record.lifecycle,
        None if place.artifact is None else place.artifact.path,
        digest if place.record is None else place.record.bundle_digest,
        DRAIN_SECONDS if place.drain_seconds is None else place.drain_seconds,
        place.source_uri,
    )


def _deploy(
    target: Target,
    deployment: BundleDeployment,
    bringing: tuple[Bring, ...],
    placed: Sequence[Placed],
    complete: bool,
    late: bool,
    keyed: Keyed,
) -> Step:
    kind = "deploy-bundle" if target.entry.revisions is None else "deploy-split"
    new = target.deployment is None
    if not new and not bringing:
        detail = f"{target.called} has {_listed([place.label for place in placed])} as described"
        return Step(kind, target.called, Action.NONE, detail if complete and placed else f"{target.called} is there")
    staging = [one for one in bringing if one.lifecycle is None]
    warming = [one.label for one in bringing if one.lifecycle is not None]
    words = [f"add {target.called}"] if new else []
    words += [f"stage and warm {one.label} from {one.archive.name}" for one in staging if one.archive is not None]
    words += [f"warm {_listed(warming)}"] if warming else []
    add = None
    if new:
        add = AddDeploymentPayload(
            deployment_id=deployment.deployment_id,
            bundle_id=deployment.bundle_id,
            customer_id=deployment.customer_id,
            revenue_share=deployment.revenue_share,
            route_binding=parked(deployment.deployment_id, deployment.route_binding)
            if late or deployment.status is DeploymentStatus.ARCHIVED
            else deployment.route_binding,
            config_overrides=deployment.config_overrides,
        )
    after = {place.label: None if place.artifact is None else place.artifact.digest for place in placed}
    before = {place.label: place.record.lifecycle.value for place in placed if place.record is not None}
    wish = [[one.revision_id, one.digest] for one in bringing]
    prefix = "" if new else f"{target.called}: "
    return Step(
        kind,
        target.called,
        Action.CREATE if new or staging else Action.UPDATE,
        prefix + "; ".join(words),
        {"before": before, "after": after},
        keyed(kind, target.called, wish),
        Deploy(deployment, add, bringing),
    )


def _dial(
    target: Target,
    deployment: BundleDeployment,
    placed: Sequence[Placed],
    held: Held,
    keyed: Keyed,
) -> Step:
    known = {one.revision_id: f"v{one.sequence}" for one in held.revisions}
    entries = () if held.split is None else held.split.entries
    live = {one.revision_id: one.weight_bps for one in entries if one.weight_bps}
    wished = {place.revision_id: place.weight for place in placed if place.weight}
    names = known | {place.revision_id: place.label for place in placed}
    shown = ", ".join(f"{names[one]} {format_share(weight)}" for one, weight in wished.items())
    if live == wished:
        return Step("move-traffic", target.called, Action.NONE, f"{target.called} serves {shown}")
    before = {names.get(one, one): weight for one, weight in live.items()}
    told = ", ".join(f"{name} {format_share(weight)}" for name, weight in before.items())
    wish = sorted(wished.items())
    return Step(
        "move-traffic",
        target.called,
        Action.MOVE,
        f"{target.called}: move the dial to {shown}" + (f" (now {told})" if told else ""),
        {"before": before, "after": {names[one]: weight for one, weight in wished.items()}},
        keyed("move-traffic", target.called, wish),
        MoveTraffic(deployment.deployment_id, wished),
    )


def _reopened(target: Target, deployment: BundleDeployment, late: bool, keyed: Keyed) -> list[Step]:
    """An archived deployment takes no revision and no traffic: it comes back before both."""
    if not _reopens(target, deployment):
        return []
    route = parked(deployment.deployment_id, deployment.route_binding) if late else deployment.route_binding
    return [_changed(target, deployment, {"status": deployment.status, "route_binding": route}, keyed, "reopen")]


def _reopens(target: Target, deployment: BundleDeployment) -> bool:
    known = target.deployment
    archived = known is not None and known.status is DeploymentStatus.ARCHIVED
    return archived and deployment.status is not DeploymentStatus.ARCHIVED


def _closed(target: Target, deployment: BundleDeployment, keyed: Keyed) -> list[Step]:
    """What is declared paused or archived gets no traffic, not even for the moment between two steps."""
    now = DeploymentStatus.ACTIVE if target.deployment is None else target.deployment.status
    if deployment.status is DeploymentStatus.ACTIVE or now is deployment.status or now is DeploymentStatus.ARCHIVED:
        return []
    fields: dict[str, Any] = {"status": deployment.status}
    if target.deployment is None and deployment.status is DeploymentStatus.ARCHIVED:
        fields["route_binding"] = deployment.route_binding  # it was added aside: an archived one claims no route
    return [_changed(target, deployment, fields, keyed, "close")]


def _update(target: Target, deployment: BundleDeployment, late: bool, keyed: Keyed) -> Step:
    known = target.deployment
    fields: dict[str, Any] = {}
    if known is not None:
        for field in ("revenue_share", "config_overrides", "route_binding"):
            if getattr(known, field) != getattr(deployment, field):
                fields[field] = getattr(deployment, field)
        if late or _reopens(target, deployment):
            fields.pop("route_binding", None)
        if known.status is DeploymentStatus.PAUSED and deployment.status is DeploymentStatus.ACTIVE:
            fields["status"] = deployment.status
    if not fields:
        return Step("update-bundle", target.called, Action.NONE, f"{target.called} is set up as described")
    return _changed(target, deployment, fields, keyed, "")


def _handed_over(
    target: Target, deployment: BundleDeployment, handover: Handover, late: bool, keyed: Keyed
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    aside: tuple[Step, ...] = ()
    if deployment.deployment_id in handover.aside:
        route = parked(deployment.deployment_id, deployment.route_binding)
        aside = (_changed(target, deployment, {"route_binding": route}, keyed, "aside"),)
    if not late:
        return aside, ()
    return aside, (_changed(target, deployment, {"route_binding": deployment.route_binding}, keyed, "take"),)


def _changed(target: Target, deployment: BundleDeployment, fields: dict[str, Any], keyed: Keyed, why: str) -> Step:
    known = target.deployment
    before = {} if known is None else {field: _json(getattr(known, field)) for field in fields}
    after = {field: _json(value) for field, value in fields.items()}
    words = {
        "aside": f"{target.called}: give up its route for a moment, for it changes hands",
        "take": f"{target.called}: serve {_route(deployment.route_binding)}",
    }
    changes = [_said(field, value) for field, value in fields.items()]
    detail = words.get(why) or f"{target.called}: " + ", ".join(changes)
    return Step(
        "update-bundle",
        target.called,
        Action.UPDATE,
        detail,
        {"before": before, "after": after},
        keyed("update-bundle", f"{target.called}:{why}", after),
        UpdateDeployment(UpdateDeploymentPayload(deployment_id=deployment.deployment_id, **fields)),
    )


def _said(field: str, value: Any) -> str:
    if field == "status":
        return {"active": "resume", "paused": "pause", "archived": "archive"}[value.value]
    if field == "route_binding":
        return f"serve {_route(value)}"
    if field == "revenue_share":
        return "share revenue " + ", ".join(f"{one.party_id} {format_share(one.basis_points)}" for one in value)
    keys = [f"{pack}:{key}" for pack, values in value.items() for key in values]
    return f"set the parameters {_listed(keys)}" if keys else "clear the parameters"


def _route(binding: RouteBinding) -> str:
    return f"{', '.join(binding.hosts) or 'any host'} {', '.join(binding.path_prefixes) or '/'}"


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return value.to_json() if hasattr(value, "to_json") else getattr(value, "value", value)


def _warnings(target: Target, placed: Sequence[Placed]) -> tuple[str, ...]:
    found = []
    for place in placed:
        frozen = None if place.record is None else place.record.drain_seconds
        if frozen is not None and place.drain_seconds not in {None, frozen}:
            found.append(
                f"{target.called} {place.label} was staged with drain_seconds {frozen} and keeps it; "
                f"{place.drain_seconds} holds for revisions to come"
            )
    if any(revision.abort_metrics for revision in target.entry.revisions or ()):
        found.append(f"{target.called}: abort_metrics are not acted on yet")
    return tuple(found)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
