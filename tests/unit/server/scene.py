"""Requests in the words of A8, for tests."""

from __future__ import annotations

from typing import Any

DIGEST = "sha256:" + "a" * 64
ONE = "01J0000000000000000000000A"
TWO = "01J0000000000000000000000B"
ENV = "/environments/local"


def stage(deployment: str, revision: str, **more: Any) -> dict[str, Any]:
    return {
        "revision_id": revision,
        "deployment_id": deployment,
        "bundle_digest": DIGEST,
        "bundle_source_uri": None,
        "pack_list": [],
        "pack_list_lock_ref": "pack-list.lock",
        "pack_config_refs": [],
        "config_digest": DIGEST,
        "signature_sidecar_ref": "rev.sig",
        "drain_seconds": 30,
        **more,
    }


def warm(revision: str, expected: str = "staged", **gate: Any) -> dict[str, Any]:
    return {"revision_id": revision, "expected_lifecycle": expected, "health_gate": gate or {"ok": True}}


BAD_GATE = {"ok": False, "failure": {"failed_checks": ["route-table"], "message": "no route"}}


def bundle(bundle_id: str = "web", customer: str = "acme", **more: Any) -> dict[str, Any]:
    share = [{"party_id": "greentic", "basis_points": 10_000}]
    return {"bundle_id": bundle_id, "customer_id": customer, "revenue_share": share, **more}


def binding(slot: str = "secrets", kind: str = "acme.secrets@1.0.0", **more: Any) -> dict[str, Any]:
    return {"binding": {"slot": slot, "kind": kind, "pack_ref": "p", **more}}


def endpoint(**more: Any) -> dict[str, Any]:
    named = {"provider_id": "p1", "provider_type": "messaging.teams", "display_name": "T", "updated_by": "ops"}
    return {**named, **more}


def ok(response: Any) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: Any, status: int, kind: str) -> Any:
    body = response.json()
    assert (response.status_code, body["kind"]) == (status, kind), response.text
    return body


def deployed(server: Any, bundle_id: str = "web", customer: str = "acme") -> str:
    """The id of a deployment in `local`."""
    ok(server.ask("POST", f"{ENV}/trust-root/bootstrap"))
    return ok(server.ask("POST", f"{ENV}/bundles", bundle(bundle_id, customer)))["result"]["deployment_id"]


def ready(server: Any, deployment: str, revision: str = ONE) -> str:
    ok(server.ask("POST", f"{ENV}/revisions", stage(deployment, revision)))
    ok(server.ask("POST", f"{ENV}/revisions/{revision}/warm", warm(revision)))
    return revision


def split(deployment: str, **weights: int) -> dict[str, Any]:
    named = {"one": ONE, "two": TWO}
    entries = [{"revision_id": named[name], "weight_bps": weight} for name, weight in weights.items()]
    return {"deployment_id": deployment, "entries": entries, "updated_by": "ops"}
