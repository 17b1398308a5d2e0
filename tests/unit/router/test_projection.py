"""The routing table that follows from the record."""

from __future__ import annotations

from typing import Any

from greentic.providers.local import keys
from greentic.router import projection
from greentic.router.table import RoutingTable
from greentic.spec.environment import Environment
from greentic.spec.router_settings import RouterSettings

D1, D2 = "01J00000000000000000000D01", "01J00000000000000000000D02"
R1, R2, R3 = (f"01J00000000000000000000R0{number}" for number in (1, 2, 3))
AT = "2026-07-24T10:00:00Z"
ADDRESSES = {R1: "127.0.0.1:1001", R2: "127.0.0.1:1002", R3: "127.0.0.1:1003"}


def environment(lifecycles: dict[str, str], split: dict[str, Any] | None = None, **deployment: Any) -> Environment:
    return Environment.model_validate(
        {
            "schema": "greentic.environment.v1",
            "environment_id": "local",
            "name": "local",
            "host_config": {"env_id": "local"},
            "packs": [],
            "bundles": [
                {
                    "schema": "greentic.bundle-deployment.v1",
                    "deployment_id": D1,
                    "env_id": "local",
                    "bundle_id": "web",
                    "customer_id": "acme",
                    "status": "active",
                    "route_binding": {
                        "hosts": ["a.example"],
                        "path_prefixes": ["/api"],
                        "tenant_selector": {"tenant": "t1", "team": "blue"},
                    },
                    "revenue_share": [{"party_id": "p", "basis_points": 10_000}],
                    "revenue_policy_ref": "policy.json",
                    "created_at": AT,
                    **deployment,
                }
            ],
            "revisions": [
                {
                    "schema": "greentic.revision.v1",
                    "revision_id": revision_id,
                    "env_id": "local",
                    "bundle_id": "web",
                    "deployment_id": D1,
                    "sequence": int(revision_id[-1]),
                    "created_at": AT,
                    "bundle_digest": "sha256:0",
                    "pack_list": [],
                    "pack_list_lock_ref": "",
                    "config_digest": "",
                    "signature_sidecar_ref": "",
                    "lifecycle": lifecycle,
                }
                for revision_id, lifecycle in lifecycles.items()
            ],
            "traffic_splits": [] if split is None else [split],
        }
    )


def split(entries: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "schema": "greentic.traffic-split.v1",
        "env_id": "local",
        "deployment_id": D1,
        "bundle_id": "web",
        "generation": 5,
        "entries": entries,
        "updated_at": AT,
        "updated_by": "x",
        "idempotency_key": "k",
        "authorization_ref": "auth.json",
        **fields,
    }


def entry(revision_id: str, weight: int, **fields: Any) -> dict[str, Any]:
    return {"revision_id": revision_id, "weight_bps": weight, **fields}


def row(found: Environment, **options: Any) -> dict[str, Any]:
    (only,) = projection.deployments(found, ADDRESSES, **options)
    return only


def test_a_whole_row_that_the_router_takes(tmp_path: Any) -> None:
    found = row(environment({R1: "ready", R2: "ready"}, split([entry(R2, 100, since=5), entry(R1, 9_900, since=1)])))
    assert found == {
        "deployment_id": D1,
        "bundle_id": "web",
        "customer_id": "acme",
        "tenant": "t1",
        "team": "blue",
        "hosts": ["a.example"],
        "path_prefixes": ["/api"],
        "generation": 5,
        "pin_seconds": 3600,
        "revisions": [
            {"revision_id": R1, "address": "127.0.0.1:1001", "state": "ready", "since": 1, "name": "v1"},
            {"revision_id": R2, "address": "127.0.0.1:1002", "state": "ready", "since": 5, "name": "v2"},
        ],
        "slots": [[100, 1], [9_900, 0]],
    }
    RoutingTable.parse({"version": 1, "env_id": "local", "keys": keys.ensure(tmp_path / "k"), "deployments": [found]})


def test_a_promise_to_honour_pins_reaches_the_router_rounded_in_the_visitors_favour() -> None:
    until = "2026-07-24T10:00:00.000001Z"
    found = row(
        environment(
            {R1: "draining", R2: "ready"},
            split([entry(R2, 10_000, since=5), entry(R1, 0, honour_until=until, honour_since=3)]),
        )
    )
    told = [
        (one["revision_id"], one["since"], one.get("honour_until"), one.get("honour_since"))
        for one in found["revisions"]
    ]
    assert told == [(R1, 0, 1_784_887_201, 3), (R2, 5, None, None)]


def test_how_long_a_pin_lasts_is_a_setting() -> None:
    found = environment({R1: "ready"})
    host = found.host_config.model_copy(update={"router": RouterSettings(pin_seconds=60)})
    assert row(found.model_copy(update={"host_config": host}))["pin_seconds"] == 60


def test_the_slots_of_the_split_are_kept_and_mapped() -> None:
    runs = [[50, 1], [9_900, 0], [50, 1]]
    found = row(environment({R1: "ready", R2: "ready"}, split([entry(R2, 9_900), entry(R1, 100)], slots=runs)))
    assert found["slots"] == [[50, 0], [9_900, 1], [50, 0]]


def test_what_is_ready_is_listed_without_a_share_and_nothing_else_is() -> None:
    found = row(environment({R1: "ready", R2: "ready", R3: "warming"}, split([entry(R1, 10_000)])))
    assert [revision["revision_id"] for revision in found["revisions"]] == [R1, R2]
    for lifecycle in ("inactive", "staged", "failed", "archived"):
        assert row(environment({R1: lifecycle}))["revisions"] == []


def test_draining() -> None:
    states = {
        item["revision_id"]: item["state"] for item in row(environment({R1: "draining", R2: "ready"}))["revisions"]
    }
    assert states == {R1: "draining", R2: "ready"}
    asked = row(environment({R1: "ready"}), draining={R1})["revisions"]
    assert [item["state"] for item in asked] == ["draining"]


def test_what_has_ended_or_has_no_address_is_not_listed() -> None:
    found = environment({R1: "ready", R2: "draining"})
    assert [item["revision_id"] for item in row(found, ended={R2})["revisions"]] == [R1]
    (only,) = projection.deployments(found, {R2: "127.0.0.1:1002"})
    assert [item["revision_id"] for item in only["revisions"]] == [R2]


def test_a_share_never_becomes_anothers() -> None:
    """A split that names what cannot be listed has no slots at all: an honest 503, not somebody else's traffic."""
    found = row(environment({R1: "ready", R2: "failed"}, split([entry(R1, 5_000), entry(R2, 5_000)])))
    assert found["slots"] == []


def test_an_archived_deployment_gives_its_routes_back() -> None:
    archived = environment({R1: "ready"}, split([entry(R1, 10_000)]), status="archived")
    assert projection.deployments(archived, ADDRESSES) == []


def test_a_paused_deployment_keeps_its_routes_with_nothing_behind_them() -> None:
    paused = environment({R1: "ready"}, split([entry(R1, 10_000)]), status="paused")
    (row,) = projection.deployments(paused, ADDRESSES)
    assert (row["revisions"], row["slots"]) == ([], [])


def test_without_a_split_there_are_no_slots_and_the_generation_of_its_clearing() -> None:
    found = row(environment({R1: "ready"}, traffic_generation=8))
    assert (found["slots"], found["generation"]) == ([], 8)
    assert row(environment({R1: "ready"}))["generation"] == 0


def test_hosts_and_prefixes_are_as_the_router_compares_them() -> None:
    binding = {"hosts": [" A.Example:8080 ", "b.example."], "path_prefixes": ["/api/"], "tenant_selector": {}}
    found = row(environment({}, route_binding=binding))
    assert (found["hosts"], found["path_prefixes"]) == (["a.example", "b.example"], ["/api"])
