"""Where a deployment is reached whose client said nothing of routes.

In the reference a deployment without a route claims every request, and so do two of them: which one is asked is
nobody's to say. Its clients add several bundles without routes all the same, and give them routes later or never. In
the words of A8 the first of them gets every request, as there; what comes after it is reached below a path of its own,
so that whatever is recorded can be routed in one way only.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from greentic.spec.deployment import DeploymentStatus, RouteBinding
from greentic.spec.element_rules import canonical_prefix
from greentic.spec.environment import Environment
from greentic.spec.payloads import AddDeploymentPayload


def routed(environment: Environment, payload: AddDeploymentPayload) -> AddDeploymentPayload:
    """`payload` with a route that nobody has, when it names none and every request is somebody else's already: below
    `/<bundle>`, else below `/<bundle>/<customer>`, else as it is, to be refused."""
    binding = payload.route_binding
    if binding.hosts or binding.path_prefixes:
        return payload
    taken = set(_everywhere(environment))
    bundle, customer = quote(payload.bundle_id, safe=""), quote(payload.customer_id, safe="")
    for prefix in ("/", f"/{bundle}", f"/{bundle}/{customer}"):
        if canonical_prefix(prefix) not in taken:
            prefixes = () if prefix == "/" else (prefix,)
            own = RouteBinding(**{**binding.to_json(), "path_prefixes": prefixes})
            return payload.model_copy(update={"route_binding": own})
    return payload


def _everywhere(environment: Environment) -> Iterator[str]:
    """The paths below which requests for any host are somebody's."""
    for deployment in environment.bundles:
        binding = deployment.route_binding
        if deployment.status is not DeploymentStatus.ARCHIVED and not binding.hosts:
            yield from {canonical_prefix(prefix) for prefix in binding.path_prefixes} or {"/"}
