"""What somebody sees of an environment who is there for some customers only, field by field."""

from __future__ import annotations

import pytest
from scene import ENV, ONE, bundle, deployed, ok, ready, split

from greentic.server import views
from greentic.spec.environment import Environment
from greentic.spec.schedule import TrafficSchedule

OF_SOMEBODY = {
    "bundles",
    "revisions",
    "traffic_splits",
    "split_history",
    "traffic_schedules",
    "messaging_endpoints",
}
"""Elements that belong to deployments: only those of the customers are shown."""
LEFT_OUT = {"trust_root", "retired_policies"}
SHARED = {
    "schema_",
    "environment_id",
    "name",
    "host_config",
    "packs",
    "credentials_ref",
    "extensions",
    "revocation",
    "retention",
    "health",
    "binding_history",
}
"""What concerns the environment as a whole and names no deployment."""


def test_every_field_is_named_as_somebodys_as_left_out_or_as_shared():
    """A new field of the document must be judged before a customer is shown it."""
    assert set(Environment.model_fields) == OF_SOMEBODY | LEFT_OUT | SHARED


@pytest.fixture
def two(env):
    """An environment with a deployment and a schedule for each of two customers."""
    ours = deployed(env)
    route = {"hosts": [], "path_prefixes": ["/b"], "tenant_selector": {"tenant": "t", "team": "t"}}
    theirs = ok(env.ask("POST", f"{ENV}/bundles", bundle("crm", "rival", route_binding=route)))["result"][
        "deployment_id"
    ]
    ready(env, ours)
    ok(env.ask("POST", f"{ENV}/traffic", split(ours, one=10_000)))
    environment = env.desk.store.load("local").environment
    schedules = (scheduled(ours, "web"), scheduled(theirs, "crm"))
    return environment.model_copy(update={"traffic_schedules": schedules}), ours


def scheduled(deployment: str, bundle_id: str) -> TrafficSchedule:
    return TrafficSchedule.model_construct(schedule_id=ONE, deployment_id=deployment, bundle_id=bundle_id)


def test_a_schedule_is_shown_to_its_own_customer_only(two):
    environment, ours = two
    seen = views.of(environment, frozenset({"acme"}))
    assert [one.deployment_id for one in seen.traffic_schedules] == [ours]
    assert views.of(environment, None).traffic_schedules == environment.traffic_schedules
    assert views.of(environment, frozenset({"nobody"})).traffic_schedules == ()


def test_what_is_shown_of_somebody_is_of_the_customer_alone(two):
    environment, _ = two
    seen = views.of(environment, frozenset({"nobody"}))
    assert all(getattr(seen, name) == () for name in OF_SOMEBODY)
    assert all(not getattr(seen, name) for name in LEFT_OUT)
    assert all(getattr(seen, name) == getattr(environment, name) for name in SHARED)
