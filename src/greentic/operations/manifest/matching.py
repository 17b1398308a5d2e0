"""Which deployment each bundle of a manifest is about. Pure."""

from __future__ import annotations

from greentic.operations.manifest.inputs import Target
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InvalidArgument
from greentic.spec.manifest import BundleEntry, Manifest


def targets(manifest: Manifest, environment: Environment | None) -> tuple[Target, ...]:
    """The bundles with their customers and deployments, in the manifest's order.

    A customer that is not named is that of the only deployment of the bundle; in `local`, the developer. Raises
    InvalidArgument when nobody is named elsewhere, Conflict when the bundle has several customers or two entries mean
    the same deployment.
    """
    deployed: dict[str, list[BundleDeployment]] = {}
    for deployment in () if environment is None else environment.bundles:
        deployed.setdefault(deployment.bundle_id, []).append(deployment)
    found = tuple(
        _target(manifest, index, entry, deployed.get(entry.bundle_id, []))
        for index, entry in enumerate(manifest.bundles)
    )
    seen: dict[str, int] = {}
    for target in found:
        first = seen.setdefault(target.called, target.index)
        if first != target.index:
            raise Conflict(
                f"bundles.{first} and bundles.{target.index} are both about {target.called}",
                next_step="name the customer_id of each",
            )
    return found


def _target(manifest: Manifest, index: int, entry: BundleEntry, deployed: list[BundleDeployment]) -> Target:
    if entry.customer_id is not None:
        existing = next((one for one in deployed if one.customer_id == entry.customer_id), None)
        customer = entry.customer_id
    elif len(deployed) > 1:
        raise Conflict(
            f"'{entry.bundle_id}' is deployed for {', '.join(one.customer_id for one in deployed)}: which is meant?",
            details={"path": f"bundles.{index}.customer_id"},
            next_step="name the customer_id",
        )
    elif deployed:
        existing, customer = deployed[0], deployed[0].customer_id
    elif manifest.environment.id == "local":
        from greentic.operations.deployments import LOCAL_CUSTOMER  # heavy, and only a new deployment needs it

        existing, customer = None, LOCAL_CUSTOMER
    else:
        raise InvalidArgument(
            f"bundles.{index}: whom is '{entry.bundle_id}' for? Every use in '{manifest.environment.id}' is stamped "
            "with a customer",
            details={"path": f"bundles.{index}.customer_id"},
            next_step="add a customer_id",
        )
    recorded = {} if existing is None else existing.config_overrides
    overrides = recorded if entry.config_overrides is None else entry.config_overrides
    return Target(index, entry, customer, existing, overrides)
