"""The rules of an environment that no single document can check (reference 01, section 1.6; its holes in 7.1 closed).

`violations` collects every broken rule with its place; `check` raises for the first with all of them in the details.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from greentic.spec.element_rules import (
    Violation,
    current_violations,
    deployment_violations,
    endpoint_violations,
    foreign,
    override_violations,
    packs_of,
    reference_violations,
    repeated,
    revision_violations,
    routes_of,
    schedule_violations,
    secret_violations,
    superseded_violations,
)
from greentic.spec.environment import Environment
from greentic.spec.errors import SpecViolation
from greentic.spec.references import PackDescriptor
from greentic.spec.revision import Revision


def check(environment: Environment) -> None:
    """Raise SpecViolation when any rule is broken; `details.violations` lists them all."""
    refuse(list(violations(environment)))


def refuse(found: Sequence[Violation]) -> None:
    """Raise SpecViolation for the first of `found`, with all of them in the details; nothing when there is none."""
    if found:
        first = found[0]
        raise SpecViolation(
            first.rule,
            f"{first.path}: {first.message}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""),
            details={
                "violations": [{"rule": one.rule, "path": one.path, "message": one.message} for one in found[:100]]
            },
            next_step=_NEXT_STEPS.get(first.rule),
        )


_NEXT_STEPS = {
    "OverlappingRoute": "choose another --path-prefix or --host; `gtc op bundles list` shows who has which",
    "ConfigOverridePackNotInRevisions": "gtc op bundles update, without the parameters of that pack",
    "BasisPointsSum": "name shares that sum to 10000 basis points (100%)",
}
"""What to do about a broken rule, where a command helps."""


def violations(
    environment: Environment, *, unlike: Environment | None = None, apart: Container[str] = ()
) -> Iterator[Violation]:
    """Every broken rule of `environment`, in document order.

    `unlike`: only those that this other environment may not share. A rule whose fields are the same objects in both is
    broken in both or in neither, and is not looked at. `apart`: fields that count as the same whatever they are.
    """
    for find, fields in _RULES:
        if unlike is None or any(
            field not in apart and getattr(environment, field) is not getattr(unlike, field)
            for field in ("environment_id", *fields)
        ):
            yield from find(environment)


def _host(environment: Environment) -> Iterator[Violation]:
    if environment.host_config.env_id != environment.environment_id:
        yield foreign("host_config", "host_config", environment.host_config.env_id, environment.environment_id)
    if environment.credentials_ref is not None:
        yield from secret_violations(
            environment.credentials_ref, "credentials_ref", environment.environment_id, "credentials_ref"
        )


def _packs(environment: Environment) -> Iterator[Violation]:
    for index, binding in enumerate(environment.packs):
        if not binding.slot.single:
            yield Violation("NotPackSlot", f"packs.{index}.slot", f"the slot {binding.slot} does not stand in packs")
    for slot in repeated(binding.slot.value for binding in environment.packs):
        yield Violation("DuplicateCapabilitySlot", "packs", f"the slot {slot} is bound twice")


def _revisions(environment: Environment) -> Iterator[Violation]:
    deployments = {deployment.deployment_id: deployment for deployment in environment.bundles}
    for twice in repeated(revision.revision_id for revision in environment.revisions):
        yield Violation("DuplicateRevision", "revisions", f"the revision {twice} stands twice")
    sequences: set[tuple[str, int]] = set()
    for index, revision in enumerate(environment.revisions):
        path = f"revisions.{index}"
        owner = deployments.get(revision.deployment_id)
        yield from revision_violations(revision, path, environment.environment_id, owner)
        if (revision.deployment_id, revision.sequence) in sequences:
            yield Violation("DuplicateSequence", f"{path}.sequence", f"the sequence {revision.sequence} stands twice")
        sequences.add((revision.deployment_id, revision.sequence))


def _deployments(environment: Environment) -> Iterator[Violation]:
    for twice in repeated(deployment.deployment_id for deployment in environment.bundles):
        yield Violation("DuplicateDeployment", "bundles", f"the deployment {twice} stands twice")
    for bundle, customer in repeated(
        (deployment.bundle_id, deployment.customer_id) for deployment in environment.bundles
    ):
        yield Violation("AlreadyDeployed", "bundles", f"the bundle '{bundle}' is deployed twice for '{customer}'")
    revisions = {revision.revision_id: revision for revision in environment.revisions}
    configured = {deployment.deployment_id for deployment in environment.bundles if deployment.config_overrides}
    own: dict[str, list[Revision]] = {}
    for revision in environment.revisions if configured else ():
        if revision.deployment_id in configured:
            own.setdefault(revision.deployment_id, []).append(revision)
    for index, deployment in enumerate(environment.bundles):
        path = f"bundles.{index}"
        if deployment.env_id != environment.environment_id:
            yield foreign("bundle_deployment", f"{path}.env_id", deployment.env_id, environment.environment_id)
        yield from deployment_violations(deployment, path)
        yield from current_violations(deployment, path, revisions.get)
        yield from override_violations(deployment, path, packs_of(own.get(deployment.deployment_id, ())))


def _routes(environment: Environment) -> Iterator[Violation]:
    owners: dict[tuple[str, str], int] = {}
    for index, deployment in enumerate(environment.bundles):
        for host, prefix in sorted(routes_of(deployment)):
            other = owners.setdefault((host, prefix), index)
            if other != index:
                yield Violation(
                    "OverlappingRoute",
                    f"bundles.{index}.route_binding",
                    f"{host or 'any host'} {prefix} is already routed to "
                    f"'{environment.bundles[other].bundle_id}' "
                    f"({environment.bundles[other].customer_id})",
                )


def _splits(environment: Environment) -> Iterator[Violation]:
    for twice in repeated(split.deployment_id for split in environment.traffic_splits):
        yield Violation("DuplicateSplit", "traffic_splits", f"the deployment {twice} has two splits")
    deployments = {deployment.deployment_id: deployment for deployment in environment.bundles}
    revisions = {revision.revision_id: revision for revision in environment.revisions}
    for index, split in enumerate(environment.traffic_splits):
        deployment = deployments.get(split.deployment_id)
        yield from reference_violations(
            split, f"traffic_splits.{index}", environment.environment_id, deployment, revisions.get
        )


def _history(environment: Environment) -> Iterator[Violation]:
    deployments = {deployment.deployment_id for deployment in environment.bundles}
    live = {split.deployment_id: split for split in environment.traffic_splits}
    for index, split in enumerate(environment.split_history):
        path = f"split_history.{index}"
        yield from superseded_violations(
            split, path, environment.environment_id, deployments, live.get(split.deployment_id)
        )
    for deployment, generation in repeated(
        (split.deployment_id, split.generation) for split in environment.split_history
    ):
        yield Violation("DuplicateGeneration", "split_history", f"generation {generation} of {deployment} stands twice")


def _schedules(environment: Environment) -> Iterator[Violation]:
    for twice in repeated(schedule.deployment_id for schedule in environment.traffic_schedules):
        yield Violation("DuplicateSchedule", "traffic_schedules", f"the deployment {twice} has two schedules")
    deployments = {deployment.deployment_id for deployment in environment.bundles}
    for index, schedule in enumerate(environment.traffic_schedules):
        path = f"traffic_schedules.{index}"
        yield from schedule_violations(schedule, path, environment.environment_id, deployments)


def _endpoints(environment: Environment) -> Iterator[Violation]:
    for twice in repeated(endpoint.endpoint_id for endpoint in environment.messaging_endpoints):
        yield Violation("DuplicateMessagingEndpoint", "messaging_endpoints", f"the endpoint {twice} stands twice")
    for kind, provider in repeated(
        (endpoint.provider_type, endpoint.provider_id) for endpoint in environment.messaging_endpoints
    ):
        yield Violation("DuplicateProviderInstance", "messaging_endpoints", f"{kind} '{provider}' has two endpoints")
    deployed = {deployment.bundle_id for deployment in environment.bundles}
    for index, endpoint in enumerate(environment.messaging_endpoints):
        yield from endpoint_violations(endpoint, f"messaging_endpoints.{index}", environment.environment_id, deployed)


def _extensions(environment: Environment) -> Iterator[Violation]:
    for path, instance in repeated(
        (PackDescriptor.parse(extension.kind).path, extension.instance_id or "") for extension in environment.extensions
    ):
        yield Violation("DuplicateExtension", "extensions", f"{path}{'/' if instance else ''}{instance} is bound twice")


def _bindings(environment: Environment) -> Iterator[Violation]:
    if environment.binding_history:
        from greentic.spec.binding_rules import history_violations

        yield from history_violations(environment)


_RULES: tuple[tuple[Callable[[Environment], Iterable[Violation]], tuple[str, ...]], ...] = (
    (_host, ("host_config", "credentials_ref")),
    (_packs, ("packs",)),
    (_revisions, ("revisions", "bundles")),
    (_deployments, ("bundles", "revisions")),
    (_routes, ("bundles",)),
    (_splits, ("traffic_splits", "bundles", "revisions")),
    (_history, ("split_history", "traffic_splits", "bundles")),
    (_schedules, ("traffic_schedules", "bundles")),
    (_endpoints, ("messaging_endpoints", "bundles")),
    (_extensions, ("extensions",)),
    (_bindings, ("binding_history", "packs", "extensions")),
)
"""What finds broken rules, in document order, and the fields it looks at beside the environment's own id."""
