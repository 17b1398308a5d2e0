"""Documents beside those of an environment, as the reference writes them (reference 01, section 1)."""

from __future__ import annotations

from typing import Any

ULID = "01J00000000000000000000000"
DIGEST = "ab" * 32
NOW = "2026-07-24T10:00:00Z"

CLOSED = {"greentic.pack-config-input.v1"}
"""Documents that refuse keys which are not known."""


def manifest() -> dict[str, Any]:
    """A backup's manifest."""
    return {
        "schema": "greentic.backup-manifest.v1",
        "backup_id": ULID,
        "env_id": "prod",
        "created_at": NOW,
        "generation": 7,
        "integrity": {"algorithm": "sha-256", "digest": DIGEST},
        "size_bytes": 1234,
    }


def audit_event() -> dict[str, Any]:
    """An entry of an audit log."""
    return {
        "schema": "greentic.audit.event.v1",
        "event_id": ULID,
        "ts": "2026-07-24T10:00:02.123456789Z",
        "actor": {"kind": "local-user", "user": "ops", "uid": 1000},
        "env_id": "local",
        "noun": "traffic",
        "verb": "set",
        "target": {"deployment_id": ULID, "split_generation": None},
        "new_generation": 0,
        "idempotency_key": "k1",
        "authorization": {"decision": "allow", "policy": "local-only", "reason": "…"},
        "result": {"outcome": "ok"},
    }


def other_documents() -> list[dict[str, Any]]:
    """One document of each kind that does not stand in an environment."""
    return [
        {
            "schema": "greentic.environment-runtime.v1",
            "environment_id": "local",
            "discovered": {"listen_addr": "127.0.0.1:8080", "router": {"replicas": 3, "hosts": ["a", None]}},
            "generated_at": NOW,
            "generated_by": "greentic.deployer.local-process@0.1.0",
            "generation": 2,
        },
        {
            "schema": "greentic.credentials.v1",
            "env_id": "prod",
            "deployer_kind": "greentic.deployer.k8s@1.0.0",
            "mode": "bootstrap",
            "provided_credentials_ref": "secret://prod/k8s/bound-token",
            "validation": {"last_run_at": NOW, "result": "fail", "missing_capabilities": ["k8s.pods.create"]},
            "bootstrap": {
                "admin_credential_consumed_at": NOW,
                "rules_pack_ref": "rules/greentic.deployer.k8s",
                "generated_credentials_ref": "secret://prod/k8s/bound-token",
            },
            "expiry": {"expires_at": NOW, "rotate_at": NOW},
        },
        {
            "schema": "greentic.conformance-report.v1",
            "subject": {
                "kind": "acme.deployer.nomad@1.2.0",
                "summary": "runs workers on Nomad",
                "distribution": "acme-greentic-nomad",
                "version": "1.2.0",
            },
            "surroundings": {"suite": "0.1.0", "python": "3.11.7", "system": "Linux 6.1 x86_64", "processors": 2},
            "started_at": NOW,
            "seconds": 61.5,
            "profiles": ["core"],
            "parts": ["traffic"],
            "complete": False,
            "passed": False,
            "checks": [
                {
                    "name": "core.warm-twice",
                    "profile": "core",
                    "proves": "makes exactly one worker of a revision, however often it is warmed",
                    "outcome": "failed",
                    "evidence": "after warming there are 2 workers of the revision",
                    "seconds": 0.4,
                }
            ],
        },
        {
            "schema": "greentic.pack-config-input.v1",
            "pack_id": "hello",
            "env_id": "local",
            "bundle_id": "helpdesk",
            "non_secret": {"greeting": "hi", "deep": {"list": [1, 2.5, None]}},
            "secret_refs": {"token": "secret://local/helpdesk/hello/token"},
        },
        {
            "schema": "greentic.revenue-policy.v1",
            "version": 2,
            "deployment_id": ULID,
            "env_id": "local",
            "bundle_id": "helpdesk",
            "customer_id": "local-dev",
            "revenue_share": [
                {"party_id": "greentic", "basis_points": 3000},
                {"party_id": "partner", "basis_points": 7000},
            ],
            "created_at": NOW,
            "previous_version_ref": "billing-policies/helpdesk/local-dev/v1.json.sig",
        },
        {
            "schema": "greentic.revenue-policy-predicate.v1",
            "deployment_id": ULID,
            "env_id": "local",
            "bundle_id": "helpdesk",
            "customer_id": "local-dev",
            "version": 1,
            "signed_at": NOW,
        },
        {
            "schema": "greentic.trust-root.v1",
            "keys": [{"key_id": "ab" * 16, "public_key_pem": "-----BEGIN PUBLIC KEY-----\n…"}],
        },
        {
            "schema": "greentic.update-channel.v1",
            "environment_id": "prod",
            "enabled": True,
            "on_notify": "stage",
            "on_update": "apply",
            "poll_interval_secs": 900,
            "plan_endpoint": "https://updates.greentic.cloud/v1/environments/_/plan",
            "push_enabled": False,
            "stream_endpoint": "https://updates.greentic.cloud/stream",
        },
        audit_event(),
        manifest(),
        {
            "schema": "greentic.backup-artifact.v1",
            "manifest": manifest(),
            "snapshot": {"environment": {"any": ["thing"]}, "runtime": None},
            "snapshot_digest": DIGEST,
        },
        {
            "schema": "greentic.snapshot-manifest.v1",
            "env_id": "local",
            "files": {"environment.json": True, "env-packs/deployer/answers.json": False},
        },
        {
            "schema": "greentic.rules-pack.index.v1",
            "entries": [{"filename": "rbac.yaml", "description": "what it may", "bytes": 812}],
        },
        {
            "schema": "greentic.store-rbac.v1",
            "tokens": [{"token_sha256": DIGEST, "actor": "ci", "role": "read-only", "env_ids": ["prod"]}],
        },
        traffic_schedule(),
    ]


def traffic_schedule() -> dict[str, Any]:
    """A schedule on its second of two steps. Ours: the reference has none."""
    share = {"revision_id": ULID, "weight_bps": 10_000}
    return {
        "schema": "greentic.traffic-schedule.v1",
        "schedule_id": ULID,
        "env_id": "prod",
        "deployment_id": ULID,
        "bundle_id": "web",
        "state": "running",
        "from_generation": 3,
        "steps": [
            {
                "entries": [share],
                "generation": 4,
                "began_at": NOW,
                "verdict": "v2: 40 requests, 0 failed",
            },
            {"entries": [share]},
        ],
        "step": 1,
        "step_seconds": 300.0,
        "gates": [{"kind": "health"}, {"kind": "error-rate", "limit_bps": 100, "min_requests": 20}],
        "runner": ULID,
        "generation": 5,
        "next_step_at": NOW,
        "began_at": NOW,
        "began_by": "ops",
        "updated_at": NOW,
        "updated_by": "ops",
        "authorization_ref": "auth.json",
        "pins": {"mode": "grace", "grace_seconds": 300},
        "note": "release 7",
    }
