"""Where the revenue policies of an environment stand: which version is the newest of a bundle and customer.

Versions are only ever added, so the newest is remembered past the deployment that it was made for, and nothing brings
an older one back: neither removing and adding a deployment, nor restoring a backup.
"""

from __future__ import annotations

from collections.abc import Iterator

from greentic.spec import policy_files
from greentic.spec.environment import Environment, RetiredPolicy


def newest(environment: Environment, bundle_id: str, customer_id: str) -> str | None:
    """The `revenue_policy_ref` of the newest version of the pair; None when there is none."""
    found = [
        (version, policy.revenue_policy_ref)
        for policy in _all(environment)
        if (policy.bundle_id, policy.customer_id) == (bundle_id, customer_id) and (version := version_of(policy))
    ]
    return max(found)[1] if found else None


def version_of(policy: RetiredPolicy) -> int:
    """The version that is meant; 0 when none is."""
    return policy_files.version_of(policy.revenue_policy_ref, policy.bundle_id, policy.customer_id) or 0


def retired(environment: Environment) -> Environment:
    """`environment`, remembering each pair whose newest version its deployment, if it has one, does not refer to."""
    best: dict[tuple[str, str], RetiredPolicy] = {}
    for policy in _all(environment):
        pair = (policy.bundle_id, policy.customer_id)
        if pair not in best or version_of(policy) > version_of(best[pair]):
            best[pair] = policy
    named = {(found.bundle_id, found.customer_id): found.revenue_policy_ref for found in environment.bundles}
    left = tuple(
        policy for pair, policy in best.items() if version_of(policy) and named.get(pair) != policy.revenue_policy_ref
    )
    if left == environment.retired_policies:
        return environment
    return environment.model_copy(update={"retired_policies": left})


def carried_over(backup: Environment, present: Environment) -> Environment:
    """The environment of a backup as it may become the present state again.

    What is not to be undone is taken from `present`: whom it trusts (a key that was removed since stays removed), and
    the revenue policies that were signed since. A deployment that is in both keeps its present shares, for the policy
    that says so is signed; of other pairs only the newest version is remembered.
    """
    now = {found.deployment_id: found for found in present.bundles}
    bundles = tuple(
        found.model_copy(
            update={
                "revenue_share": later.revenue_share,
                "revenue_policy_ref": later.revenue_policy_ref,
            }
        )
        if (later := now.get(found.deployment_id)) is not None
        and later.revenue_policy_ref != found.revenue_policy_ref
        and later.revenue_policy_ref == newest(present, found.bundle_id, found.customer_id)
        else found
        for found in backup.bundles
    )
    return retired(
        backup.model_copy(
            update={
                "trust_root": present.trust_root or backup.trust_root,
                "bundles": bundles,
                "retired_policies": (*backup.retired_policies, *_all(present)),
            }
        )
    )


def _all(environment: Environment) -> Iterator[RetiredPolicy]:
    yield from environment.retired_policies
    for found in environment.bundles:
        yield RetiredPolicy(
            bundle_id=found.bundle_id, customer_id=found.customer_id, revenue_policy_ref=found.revenue_policy_ref
        )
