"""The rules of one element of an environment, given what it refers to (reference 01, section 1.6; its holes in 7.1
closed). Those that are about several elements of one list stand in `rules`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
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
from greentic.spec.environment import MessagingEndpoint
from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.references import SecretRef
from greentic.spec.revision import Revision
from greentic.spec.schedule import TrafficSchedule
from greentic.spec.traffic import TrafficSplit

Key = TypeVar("Key")
Known = Callable[[str], Revision | None]
"""The revision of an id."""

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


def revision_violations(
    revision: Revision, path: str, environment_id: str, owner: BundleDeployment | None
) -> Iterator[Violation]:
    """The rules of a revision and its deployment `owner`, None when there is none."""
    if revision.env_id != environment_id:
        yield foreign("revision", f"{path}.env_id", revision.env_id, environment_id)
    if owner is None:
        yield _nowhere(f"{path}.deployment_id", revision.deployment_id)
    elif owner.bundle_id != revision.bundle_id:
        yield Violation(
            "BundleRevisionWrongBundle",
            f"{path}.bundle_id",
            f"the deployment is of the bundle '{owner.bundle_id}', not '{revision.bundle_id}'",
        )


def current_violations(deployment: BundleDeployment, path: str, known: Known) -> Iterator[Violation]:
    """The rules of a deployment and its current revisions."""
    for revision_id in deployment.current_revisions:
        revision = known(revision_id)
        if revision is None:
            yield Violation("UnknownRevision", f"{path}.current_revisions", f"there is no revision {revision_id}")
        elif revision.deployment_id != deployment.deployment_id:
            yield Violation(
                "BundleRevisionWrongDeployment",
                f"{path}.current_revisions",
                f"the revision {revision_id} belongs to another deployment",
            )


def packs_of(revisions: Iterable[Revision]) -> set[str] | None:
    """The packs of a deployment's `revisions` that a parameter may be for; None when that is not known of any."""
    listed = [one for one in revisions if one.pack_list and one.lifecycle is not Lifecycle.ARCHIVED]
    return {entry.pack_id for one in listed for entry in one.pack_list} if listed else None


def override_violations(deployment: BundleDeployment, path: str, packs: set[str] | None) -> Iterator[Violation]:
    """The rules of a deployment's parameters and the packs of its revisions."""
    for pack in deployment.config_overrides:
        if packs is not None and pack not in packs:
            yield Violation(
                "ConfigOverridePackNotInRevisions",
                f"{path}.config_overrides",
                f"no revision of the deployment has a pack '{pack}' (it has {', '.join(sorted(packs))})",
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
    for party in repeated(share.party_id for share in deployment.revenue_share):
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
    for host in repeated(canonical_host(host) for host in binding.hosts):
        yield Violation("DuplicateHost", f"{path}.hosts", f"the host '{host}' stands twice")
    for prefix in repeated(canonical_prefix(prefix) for prefix in binding.path_prefixes):
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


def routes_of(deployment: BundleDeployment) -> frozenset[tuple[str, str]]:
    """The routes that the deployment takes: host (empty: any) and prefix, as they are compared.

    A paused deployment keeps its routes, so that it can always be resumed; an archived one has left.
    """
    if deployment.status is DeploymentStatus.ARCHIVED:
        return frozenset()
    binding = deployment.route_binding
    hosts = {canonical_host(host) for host in binding.hosts} or {""}
    prefixes = {canonical_prefix(prefix) for prefix in binding.path_prefixes} or {"/"}
    return frozenset((host, prefix) for host in hosts for prefix in prefixes)


def split_violations(split: TrafficSplit, path: str) -> Iterator[Violation]:
    """The rules of one split alone: weights sum to 10,000, each revision once, the slot table agrees."""
    total = sum(entry.weight_bps for entry in split.entries)
    if total != BASIS_POINTS:
        yield Violation(
            "BasisPointsSum",
            f"{path}.entries",
            f"the weights sum to {total} basis points, not {BASIS_POINTS}",
        )
    for twice in repeated(entry.revision_id for entry in split.entries):
        yield Violation("DuplicateSplitEntry", f"{path}.entries", f"the revision {twice} stands twice")
    if split.slots:
        counted: Counter[int] = Counter()
        for count, index in split.slots:
            counted[index] += count
        wanted = {index: entry.weight_bps for index, entry in enumerate(split.entries) if entry.weight_bps}
        if dict(counted) != wanted:
            yield Violation("SlotTable", f"{path}.slots", "the slot table does not agree with the weights")


def reference_violations(
    split: TrafficSplit, path: str, environment_id: str, deployment: BundleDeployment | None, known: Known
) -> Iterator[Violation]:
    """The rules of a live split, its `deployment` (None: there is none) and the revisions that it names."""
    if split.env_id != environment_id:
        yield foreign("traffic_split", f"{path}.env_id", split.env_id, environment_id)
    yield from split_violations(split, path)
    if deployment is None:
        yield _nowhere(f"{path}.deployment_id", split.deployment_id)
        return
    if deployment.bundle_id != split.bundle_id:
        yield Violation(
            "SplitDeploymentBundleMismatch",
            f"{path}.bundle_id",
            f"the deployment is of the bundle '{deployment.bundle_id}', not '{split.bundle_id}'",
        )
    for position, entry in enumerate(split.entries):
        revision = known(entry.revision_id)
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


def superseded_violations(
    split: TrafficSplit, path: str, environment_id: str, deployments: Container[str], live: TrafficSplit | None
) -> Iterator[Violation]:
    """The rules of a split of the history, given the ids of the deployments and the live split of its own."""
    if split.env_id != environment_id:
        yield foreign("traffic_split", f"{path}.env_id", split.env_id, environment_id)
    if split.deployment_id not in deployments:
        yield _nowhere(f"{path}.deployment_id", split.deployment_id)
    yield from split_violations(split, path)
    if live is not None and split.generation >= live.generation:
        yield Violation(
            "HistoryOrder",
            f"{path}.generation",
            f"generation {split.generation} of {split.deployment_id} is not before its live generation",
        )


def schedule_violations(
    schedule: TrafficSchedule, path: str, environment_id: str, deployments: Container[str]
) -> Iterator[Violation]:
    """The rules of a schedule, given the ids of the deployments."""
    if schedule.env_id != environment_id:
        yield foreign("traffic_schedule", f"{path}.env_id", schedule.env_id, environment_id)
    if schedule.deployment_id not in deployments:
        yield _nowhere(f"{path}.deployment_id", schedule.deployment_id)
    if schedule.step >= len(schedule.steps):
        yield Violation("ScheduleStep", f"{path}.step", f"there is no step {schedule.step}")
    for place, step in enumerate(schedule.steps):
        if sum(share.weight_bps for share in step.entries) != BASIS_POINTS:
            yield Violation(
                "BasisPointsSum", f"{path}.steps.{place}.entries", f"the weights do not sum to {BASIS_POINTS}"
            )


def endpoint_violations(
    endpoint: MessagingEndpoint, path: str, environment_id: str, deployed: Container[str]
) -> Iterator[Violation]:
    """The rules of an endpoint, given the bundles that are deployed."""
    if endpoint.env_id != environment_id:
        yield foreign("messaging_endpoint", f"{path}.env_id", endpoint.env_id, environment_id)
    if not endpoint.provider_id.strip():
        yield Violation("EmptyMessagingProviderId", f"{path}.provider_id", "must not be blank")
    if not endpoint.provider_type.strip():
        yield Violation("EmptyMessagingProviderType", f"{path}.provider_type", "must not be blank")
    webhook = () if endpoint.webhook_secret_ref is None else (endpoint.webhook_secret_ref,)
    for uri in (*endpoint.secret_refs, *webhook):
        yield from secret_violations(uri, f"{path}.secret_refs", environment_id, "messaging_endpoint")
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


def secret_violations(uri: str, path: str, environment_id: str, context: str) -> Iterator[Violation]:
    """The rules of a reference to a secret."""
    try:
        named = SecretRef.parse(uri).environment_id
    except InvalidArgument as error:
        yield Violation("InvalidSecretRef", path, error.message)
        return
    if named != environment_id:
        yield Violation("CrossEnvRef", path, f"{context}: '{uri}' belongs to the environment '{named}'")


def foreign(context: str, path: str, actual: str, expected: str) -> Violation:
    """What says that it is of another environment."""
    return Violation("EnvIdMismatch", path, f"{context} names the environment '{actual}', this one is '{expected}'")


def _nowhere(path: str, deployment_id: str) -> Violation:
    return Violation("UnknownDeployment", path, f"there is no deployment {deployment_id}")


def repeated(keys: Iterable[Key]) -> list[Key]:
    """The keys that stand more than once, each once, in order."""
    keys = list(keys)
    if len(set(keys)) == len(keys):
        return []
    return [key for key, count in Counter(keys).items() if count > 1]
