"""The rules of an environment that no single document can check (reference 01, section 1.6; its holes in 7.1 closed).

`violations` collects every broken rule with its place; `check` raises for the first with all of them in the details.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from greentic.spec.deployment import (
    MAX_OVERRIDE_BYTES,
    MAX_OVERRIDE_KEYS,
    MAX_OVERRIDE_PACKS,
    BundleDeployment,
    DeploymentStatus,
    Overrides,
    RouteBinding,
)
from greentic.spec.environment import Environment, MessagingEndpoint
from greentic.spec.errors import InvalidArgument, SpecViolation
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.references import PackDescriptor, SecretRef
from greentic.spec.revision import Revision
from greentic.spec.traffic import TrafficSplit

Key = TypeVar("Key")

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?(?::[0-9]{1,5})?")
_PORT = re.compile(r"(?<=[^:]):[0-9]{0,5}\Z")
_HOST_V6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,;=:@-]+)*/?")
MAX_HOST = 253
"""Characters of a host name without port and final dot (RFC 1035)."""
MAX_PREFIX = 1_024


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: its name, its place in the document, and what is wrong."""

    rule: str
    path: str
    message: str


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


def broken_by(before: Environment | None, after: Environment) -> list[Violation]:
    """The rules that `after` breaks and `before` did not.

    An environment that somebody else left broken can be mended step by step; a step may not break anything more.
    """
    found = list(violations(after, unlike=before))
    if not found or before is None:
        return found
    # Places shift when something is taken out, so a violation is known by its rule and message, as often as it stood.
    known = Counter((one.rule, one.message) for one in violations(before, unlike=after))
    fresh = []
    for one in found:
        if known[one.rule, one.message] > 0:
            known[one.rule, one.message] -= 1
        else:
            fresh.append(one)
    return fresh


_NEXT_STEPS = {
    "OverlappingRoute": "choose another --path-prefix or --host; `gtc op bundles list` shows who has which",
    "ConfigOverridePackNotInRevisions": "gtc op bundles update, without the parameters of that pack",
    "BasisPointsSum": "name shares that sum to 10000 basis points (100%)",
}
"""What to do about a broken rule, where a command helps."""


def violations(environment: Environment, *, unlike: Environment | None = None) -> Iterator[Violation]:
    """Every broken rule of `environment`, in document order.

    `unlike`: only those that this other environment may not share. A rule whose fields are the same objects in both is
    broken in both or in neither, and is not looked at.
    """
    for find, fields in _RULES:
        if unlike is None or any(
            getattr(environment, field) is not getattr(unlike, field) for field in ("environment_id", *fields)
        ):
            yield from find(environment)


def _host(environment: Environment) -> Iterator[Violation]:
    if environment.host_config.env_id != environment.environment_id:
        yield _foreign("host_config", "host_config", environment.host_config.env_id, environment.environment_id)
    if environment.credentials_ref is not None:
        yield from _secret(
            environment.credentials_ref, "credentials_ref", environment.environment_id, "credentials_ref"
        )


def _packs(environment: Environment) -> Iterator[Violation]:
    for index, binding in enumerate(environment.packs):
        if not binding.slot.single:
            yield Violation("NotPackSlot", f"packs.{index}.slot", f"the slot {binding.slot} does not stand in packs")
    for slot in _repeated(binding.slot.value for binding in environment.packs):
        yield Violation("DuplicateCapabilitySlot", "packs", f"the slot {slot} is bound twice")


def _revisions(environment: Environment) -> Iterator[Violation]:
    deployments = {deployment.deployment_id: deployment for deployment in environment.bundles}
    for repeated in _repeated(revision.revision_id for revision in environment.revisions):
        yield Violation("DuplicateRevision", "revisions", f"the revision {repeated} stands twice")
    sequences: set[tuple[str, int]] = set()
    for index, revision in enumerate(environment.revisions):
        path = f"revisions.{index}"
        if revision.env_id != environment.environment_id:
            yield _foreign("revision", f"{path}.env_id", revision.env_id, environment.environment_id)
        owner = deployments.get(revision.deployment_id)
        if owner is None:
            yield Violation(
                "UnknownDeployment",
                f"{path}.deployment_id",
                f"there is no deployment {revision.deployment_id}",
            )
        elif owner.bundle_id != revision.bundle_id:
            yield Violation(
                "BundleRevisionWrongBundle",
                f"{path}.bundle_id",
                f"the deployment is of the bundle '{owner.bundle_id}', not '{revision.bundle_id}'",
            )
        if (revision.deployment_id, revision.sequence) in sequences:
            yield Violation("DuplicateSequence", f"{path}.sequence", f"the sequence {revision.sequence} stands twice")
        sequences.add((revision.deployment_id, revision.sequence))


def _deployments(environment: Environment) -> Iterator[Violation]:
    for repeated in _repeated(deployment.deployment_id for deployment in environment.bundles):
        yield Violation("DuplicateDeployment", "bundles", f"the deployment {repeated} stands twice")
    for bundle, customer in _repeated(
        (deployment.bundle_id, deployment.customer_id) for deployment in environment.bundles
    ):
        yield Violation("AlreadyDeployed", "bundles", f"the bundle '{bundle}' is deployed twice for '{customer}'")
    revisions = {revision.revision_id: revision for revision in environment.revisions}
    packs: dict[str, set[str]] = {}
    configured = {deployment.deployment_id for deployment in environment.bundles if deployment.config_overrides}
    for revision in environment.revisions if configured else ():
        if revision.deployment_id in configured and revision.pack_list and revision.lifecycle is not Lifecycle.ARCHIVED:
            packs.setdefault(revision.deployment_id, set()).update(entry.pack_id for entry in revision.pack_list)
    for index, deployment in enumerate(environment.bundles):
        path = f"bundles.{index}"
        if deployment.env_id != environment.environment_id:
            yield _foreign("bundle_deployment", f"{path}.env_id", deployment.env_id, environment.environment_id)
        yield from deployment_violations(deployment, path)
        yield from _current(deployment, revisions, path)
        known = packs.get(deployment.deployment_id)
        for pack in deployment.config_overrides:
            if known is not None and pack not in known:
                yield Violation(
                    "ConfigOverridePackNotInRevisions",
                    f"{path}.config_overrides",
                    f"no revision of the deployment has a pack '{pack}' (it has {', '.join(sorted(known))})",
                )


def _current(deployment: BundleDeployment, revisions: dict[str, Revision], path: str) -> Iterator[Violation]:
    for revision_id in deployment.current_revisions:
        revision = revisions.get(revision_id)
        if revision is None:
            yield Violation("UnknownRevision", f"{path}.current_revisions", f"there is no revision {revision_id}")
        elif revision.deployment_id != deployment.deployment_id:
            yield Violation(
                "BundleRevisionWrongDeployment",
                f"{path}.current_revisions",
                f"the revision {revision_id} belongs to another deployment",
            )


def deployment_violations(deployment: BundleDeployment, path: str) -> Iterator[Violation]:
    """The rules of one deployment alone: shares, routes, overrides."""
    total = sum(share.basis_points for share in deployment.revenue_share)
    if total != BASIS_POINTS:
        yield Violation(
            "BasisPointsSum",
            f"{path}.revenue_share",
            f"the shares sum to {total} basis points, not {BASIS_POINTS}",
        )
    for party in _repeated(share.party_id for share in deployment.revenue_share):
        yield Violation("DuplicateParty", f"{path}.revenue_share", f"the party '{party}' has two shares")
    yield from _binding(deployment.route_binding, f"{path}.route_binding")
    yield from _overrides(deployment.config_overrides, f"{path}.config_overrides")


def _binding(binding: RouteBinding, path: str) -> Iterator[Violation]:
    for host in binding.hosts:
        problem = _host_problem(host)
        if problem is not None:
            yield Violation("InvalidHost", f"{path}.hosts", f"'{host[:100]}' is not a host name: {problem}")
    for prefix in binding.path_prefixes:
        if (
            not _PREFIX.fullmatch(prefix)
            or not prefix
            or len(prefix) > MAX_PREFIX
            or any(segment in {".", ".."} for segment in prefix.split("/"))
        ):
            yield Violation(
                "InvalidPathPrefix",
                f"{path}.path_prefixes",
                f"'{prefix[:100]}' is not a path prefix: it begins with '/', holds only ASCII letters, digits and "
                f"._~!$&'()+,;=:@- between slashes, no '.' or '..' segment and no '//'",
            )
    for host in _repeated(canonical_host(host) for host in binding.hosts):
        yield Violation("DuplicateHost", f"{path}.hosts", f"the host '{host}' stands twice")
    for prefix in _repeated(canonical_prefix(prefix) for prefix in binding.path_prefixes):
        yield Violation("DuplicatePathPrefix", f"{path}.path_prefixes", f"the prefix '{prefix}' stands twice")


def _overrides(overrides: Overrides, path: str) -> Iterator[Violation]:
    if len(overrides) > MAX_OVERRIDE_PACKS:
        yield Violation("ConfigOverridesTooManyPacks", path, f"{len(overrides)} packs, at most {MAX_OVERRIDE_PACKS}")
    for pack, values in overrides.items():
        if not pack:
            yield Violation("ConfigOverrideEmptyPackId", path, "a pack id is empty")
        if len(values) > MAX_OVERRIDE_KEYS:
            yield Violation(
                "ConfigOverridesTooManyKeysForPack",
                f"{path}.{pack}",
                f"{len(values)} keys, at most {MAX_OVERRIDE_KEYS}",
            )
        if "" in values:
            yield Violation("ConfigOverrideEmptyKey", f"{path}.{pack}", "a key is empty")
    size = len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False).encode()) if overrides else 0
    if size > MAX_OVERRIDE_BYTES:
        yield Violation("ConfigOverridesTooLarge", path, f"{size} bytes, at most {MAX_OVERRIDE_BYTES}")


def _host_problem(host: str) -> str | None:
    if len(canonical_host(host)) > MAX_HOST:
        return "it is too long"
    if "*" in host:
        return "wildcards are not supported; name each host, or none for every host"
    if not host.isascii():
        return f"write it as browsers send it{_punycode(host)}"
    six = _HOST_V6.fullmatch(host)
    if six is not None:
        from ipaddress import IPv6Address  # slow to import, seldom needed

        try:
            spelled = str(IPv6Address(six[1]))
        except ValueError:
            return "it is not an IPv6 address"
        return None if spelled == six[1].lower() else f"write the address as [{spelled}]"
    if not _HOST.fullmatch(host):
        return "write a name such as api.example.com or an address such as 10.0.0.1 or [::1]"
    return None


def _punycode(host: str) -> str:
    try:
        return f": {host.encode('idna').decode()}"
    except UnicodeError:
        return " (IDNA-encoded)"


def canonical_host(host: str) -> str:
    """A host as it is compared: trimmed, lower case, without port and trailing dot."""
    text = host.strip().lower()
    return _PORT.sub("", text).removesuffix(".")


def canonical_prefix(prefix: str) -> str:
    """A path prefix as it is compared: one leading slash, no trailing one; the root is `/`."""
    return "/" + prefix.strip("/")


def canonical_binding(binding: RouteBinding) -> RouteBinding:
    """`binding` as the data plane takes it: canonical hosts and prefixes, each once, in the order given."""
    return binding.model_copy(
        update={
            "hosts": tuple(dict.fromkeys(canonical_host(host) for host in binding.hosts)),
            "path_prefixes": tuple(dict.fromkeys(canonical_prefix(prefix) for prefix in binding.path_prefixes)),
        }
    )


def _routes(environment: Environment) -> Iterator[Violation]:
    # A paused deployment keeps its routes, so that it can always be resumed; an archived one has left.
    owners: dict[tuple[str, str], int] = {}
    for index, deployment in enumerate(environment.bundles):
        if deployment.status is DeploymentStatus.ARCHIVED:
            continue
        binding = deployment.route_binding
        for host in {canonical_host(host) for host in binding.hosts} or {""}:
            for prefix in {canonical_prefix(prefix) for prefix in binding.path_prefixes} or {"/"}:
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
    for repeated in _repeated(split.deployment_id for split in environment.traffic_splits):
        yield Violation("DuplicateSplit", "traffic_splits", f"the deployment {repeated} has two splits")
    deployments = {deployment.deployment_id: deployment for deployment in environment.bundles}
    revisions = {revision.revision_id: revision for revision in environment.revisions}
    for index, split in enumerate(environment.traffic_splits):
        path = f"traffic_splits.{index}"
        if split.env_id != environment.environment_id:
            yield _foreign("traffic_split", f"{path}.env_id", split.env_id, environment.environment_id)
        yield from split_violations(split, path)
        deployment = deployments.get(split.deployment_id)
        if deployment is None:
            yield Violation(
                "UnknownDeployment", f"{path}.deployment_id", f"there is no deployment {split.deployment_id}"
            )
            continue
        if deployment.bundle_id != split.bundle_id:
            yield Violation(
                "SplitDeploymentBundleMismatch",
                f"{path}.bundle_id",
                f"the deployment is of the bundle '{deployment.bundle_id}', not '{split.bundle_id}'",
            )
        for position, entry in enumerate(split.entries):
            revision = revisions.get(entry.revision_id)
            place = f"{path}.entries.{position}"
            if revision is None:
                yield Violation("UnknownRevision", place, f"there is no revision {entry.revision_id}")
            elif revision.deployment_id != split.deployment_id:
                yield Violation(
                    "SplitRevisionWrongDeployment",
                    place,
                    f"the revision {entry.revision_id} belongs to another deployment",
                )
            elif revision.bundle_id != split.bundle_id:
                yield Violation(
                    "SplitRevisionWrongBundle",
                    place,
                    f"the revision {entry.revision_id} is of another bundle",
                )


def _history(environment: Environment) -> Iterator[Violation]:
    deployments = {deployment.deployment_id for deployment in environment.bundles}
    newest = {split.deployment_id: split.generation for split in environment.traffic_splits}
    for index, split in enumerate(environment.split_history):
        path = f"split_history.{index}"
        if split.env_id != environment.environment_id:
            yield _foreign("traffic_split", f"{path}.env_id", split.env_id, environment.environment_id)
        if split.deployment_id not in deployments:
            yield Violation(
                "UnknownDeployment", f"{path}.deployment_id", f"there is no deployment {split.deployment_id}"
            )
        yield from split_violations(split, path)
        if split.generation >= newest.get(split.deployment_id, 2**63):
            yield Violation(
                "HistoryOrder",
                f"{path}.generation",
                f"generation {split.generation} of {split.deployment_id} is not before its live generation",
            )
    for deployment, generation in _repeated(
        (split.deployment_id, split.generation) for split in environment.split_history
    ):
        yield Violation("DuplicateGeneration", "split_history", f"generation {generation} of {deployment} stands twice")


def _schedules(environment: Environment) -> Iterator[Violation]:
    for repeated in _repeated(schedule.deployment_id for schedule in environment.traffic_schedules):
        yield Violation("DuplicateSchedule", "traffic_schedules", f"the deployment {repeated} has two schedules")
    deployments = {deployment.deployment_id for deployment in environment.bundles}
    for index, schedule in enumerate(environment.traffic_schedules):
        path = f"traffic_schedules.{index}"
        if schedule.env_id != environment.environment_id:
            yield _foreign("traffic_schedule", f"{path}.env_id", schedule.env_id, environment.environment_id)
        if schedule.deployment_id not in deployments:
            yield Violation(
                "UnknownDeployment", f"{path}.deployment_id", f"there is no deployment {schedule.deployment_id}"
            )
        if schedule.step >= len(schedule.steps):
            yield Violation("ScheduleStep", f"{path}.step", f"there is no step {schedule.step}")
        for place, step in enumerate(schedule.steps):
            if sum(share.weight_bps for share in step.entries) != BASIS_POINTS:
                yield Violation(
                    "BasisPointsSum", f"{path}.steps.{place}.entries", f"the weights do not sum to {BASIS_POINTS}"
                )


def split_violations(split: TrafficSplit, path: str) -> Iterator[Violation]:
    """The rules of one split alone: weights sum to 10,000, each revision once, the slot table agrees."""
    total = sum(entry.weight_bps for entry in split.entries)
    if total != BASIS_POINTS:
        yield Violation(
            "BasisPointsSum",
            f"{path}.entries",
            f"the weights sum to {total} basis points, not {BASIS_POINTS}",
        )
    for repeated in _repeated(entry.revision_id for entry in split.entries):
        yield Violation("DuplicateSplitEntry", f"{path}.entries", f"the revision {repeated} stands twice")
    if split.slots:
        counted: Counter[int] = Counter()
        for count, index in split.slots:
            counted[index] += count
        wanted = {index: entry.weight_bps for index, entry in enumerate(split.entries) if entry.weight_bps}
        if dict(counted) != wanted:
            yield Violation("SlotTable", f"{path}.slots", "the slot table does not agree with the weights")


def _endpoints(environment: Environment) -> Iterator[Violation]:
    for repeated in _repeated(endpoint.endpoint_id for endpoint in environment.messaging_endpoints):
        yield Violation("DuplicateMessagingEndpoint", "messaging_endpoints", f"the endpoint {repeated} stands twice")
    for kind, provider in _repeated(
        (endpoint.provider_type, endpoint.provider_id) for endpoint in environment.messaging_endpoints
    ):
        yield Violation("DuplicateProviderInstance", "messaging_endpoints", f"{kind} '{provider}' has two endpoints")
    deployed = {deployment.bundle_id for deployment in environment.bundles}
    for index, endpoint in enumerate(environment.messaging_endpoints):
        yield from _endpoint(endpoint, f"messaging_endpoints.{index}", environment.environment_id, deployed)


def _endpoint(endpoint: MessagingEndpoint, path: str, environment_id: str, deployed: set[str]) -> Iterator[Violation]:
    if endpoint.env_id != environment_id:
        yield _foreign("messaging_endpoint", f"{path}.env_id", endpoint.env_id, environment_id)
    if not endpoint.provider_id.strip():
        yield Violation("EmptyMessagingProviderId", f"{path}.provider_id", "must not be blank")
    if not endpoint.provider_type.strip():
        yield Violation("EmptyMessagingProviderType", f"{path}.provider_type", "must not be blank")
    webhook = () if endpoint.webhook_secret_ref is None else (endpoint.webhook_secret_ref,)
    for uri in (*endpoint.secret_refs, *webhook):
        yield from _secret(uri, f"{path}.secret_refs", environment_id, "messaging_endpoint")
    for bundle in endpoint.linked_bundles:
        if bundle not in deployed:
            yield Violation(
                "MessagingEndpointBundleNotLinked",
                f"{path}.linked_bundles",
                f"the bundle '{bundle}' is not deployed",
            )
    if endpoint.welcome_flow is not None:
        if not endpoint.welcome_flow.flow_id.strip():
            yield Violation("EmptyWelcomeFlowId", f"{path}.welcome_flow.flow_id", "must not be blank")
        if endpoint.welcome_flow.bundle_id not in endpoint.linked_bundles:
            yield Violation("WelcomeFlowBundleNotLinked", f"{path}.welcome_flow.bundle_id", "must be a linked bundle")


def _extensions(environment: Environment) -> Iterator[Violation]:
    for path, instance in _repeated(
        (PackDescriptor.parse(extension.kind).path, extension.instance_id or "") for extension in environment.extensions
    ):
        yield Violation("DuplicateExtension", "extensions", f"{path}{'/' if instance else ''}{instance} is bound twice")


def _bindings(environment: Environment) -> Iterator[Violation]:
    if environment.binding_history:
        from greentic.spec.binding_rules import history_violations

        yield from history_violations(environment)


def _secret(uri: str, path: str, environment_id: str, context: str) -> Iterator[Violation]:
    try:
        named = SecretRef.parse(uri).environment_id
    except InvalidArgument as error:
        yield Violation("InvalidSecretRef", path, error.message)
        return
    if named != environment_id:
        yield Violation("CrossEnvRef", path, f"{context}: '{uri}' belongs to the environment '{named}'")


def _foreign(context: str, path: str, actual: str, expected: str) -> Violation:
    return Violation("EnvIdMismatch", path, f"{context} names the environment '{actual}', this one is '{expected}'")


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


def _repeated(keys: Iterable[Key]) -> list[Key]:
    keys = list(keys)
    if len(set(keys)) == len(keys):
        return []
    return [key for key, count in Counter(keys).items() if count > 1]
