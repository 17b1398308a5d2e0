"""Documents beside those of an environment: their rules, resolutions and discriminators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from tests.property.samples import DIGEST, NOW, ULID, audit_event, other_documents

from greentic.engine.command import Command
from greentic.spec import credentials, pack_config_input, wire
from greentic.spec.audit import AuditEvent
from greentic.spec.backup import BackupArtifact, StateIntegrity
from greentic.spec.errors import InvalidArgument, NotFound, SpecViolation
from greentic.spec.integrity import digest
from greentic.spec.parsing import parse
from greentic.spec.payloads import CreateEnvironmentPayload
from greentic.spec.schemas import document
from greentic.spec.update_channel import UpdateAction, UpdateChannelConfig
from greentic.store.files import FilesStore

SAMPLES = {found["schema"]: found for found in other_documents()}


def sample(name: str, **changes: Any) -> dict[str, Any]:
    return {**SAMPLES[f"greentic.{name}.v1"], **changes}


@pytest.mark.parametrize("name", list(SAMPLES))
def test_another_discriminator_is_refused(name: str) -> None:
    model = document(name)
    assert model is not None
    with pytest.raises(SpecViolation) as caught:
        parse(model, {**SAMPLES[name], "schema": "greentic.other.v1"}, "it")
    assert caught.value.rule == "SchemaMismatch"


@pytest.mark.parametrize(
    ("name", "changes", "place"),
    [
        ("environment-runtime", {"generated_by": "nothing"}, "generated_by"),
        ("environment-runtime", {"generation": -1}, "generation"),
        ("credentials", {"mode": "borrowed"}, "mode"),
        ("credentials", {"provided_credentials_ref": "prod/k8s"}, "provided_credentials_ref"),
        ("credentials", {"validation": {"last_run_at": NOW, "result": "maybe"}}, "validation.result"),
        ("pack-config-input", {"surprise": 1}, "surprise"),
        ("update-channel", {"on_update": "explode"}, "on_update"),
        ("update-channel", {"on_notify": "apply"}, "on_notify"),
        ("audit.event", {"result": {"outcome": "perhaps"}}, "result.outcome"),
        ("audit.event", {"result": {"outcome": "error", "kind": "x"}}, "result"),
        ("audit.event", {"authorization": {"decision": "maybe", "policy": "", "reason": ""}}, "authorization.decision"),
        ("backup-manifest", {"backup_id": "1"}, "backup_id"),
        ("snapshot-manifest", {"files": {"../x": True}}, "files.../x.[key]"),
        ("snapshot-manifest", {"files": {"x": 1}}, "files.x"),
        ("rules-pack.index", {"entries": [{"filename": "/etc/passwd", "bytes": 1}]}, "entries.0.filename"),
        (
            "store-rbac",
            {"tokens": [{"token_sha256": "secret", "actor": "x", "role": "admin"}]},
            "tokens.0.token_sha256",
        ),
        ("revenue-policy", {"version": 0}, "version"),
    ],
)
def test_what_is_malformed_is_named_by_its_place(name: str, changes: dict[str, Any], place: str) -> None:
    model = document(f"greentic.{name}.v1")
    assert model is not None
    with pytest.raises(SpecViolation) as caught:
        parse(model, sample(name, **changes), "it")
    assert [problem["path"] for problem in caught.value.details["problems"]] == [place]


def test_credentials_stay_in_their_environment() -> None:
    good = parse(credentials.Credentials, sample("credentials"), "it")
    assert not list(credentials.violations(good))
    bad = sample("credentials", provided_credentials_ref="secret://dev/x")
    bad["bootstrap"] = {**bad["bootstrap"], "generated_credentials_ref": "secret://dev/y"}
    found = list(credentials.violations(parse(credentials.Credentials, bad, "it")))
    assert [(one.rule, one.path) for one in found] == [
        ("CrossEnvRef", "credentials.provided_credentials_ref"),
        ("CrossEnvRef", "credentials.bootstrap.generated_credentials_ref"),
    ]


def test_pack_configuration_is_for_one_bundle_in_one_environment() -> None:
    parsed = parse(pack_config_input.PackConfigInput, sample("pack-config-input"), "it")
    assert not list(pack_config_input.violations(parsed, "local", "helpdesk"))
    assert [one.rule for one in pack_config_input.violations(parsed, "prod", "other")] == [
        "EnvIdMismatch",
        "BundleMismatch",
    ]
    stray = sample("pack-config-input", secret_refs={"token": "secret://local/helpdesk/hello/other"})
    found = list(
        pack_config_input.violations(parse(pack_config_input.PackConfigInput, stray, "it"), "local", "helpdesk")
    )
    assert [one.rule for one in found] == ["InvalidSecretRef"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (False, "stage", 3600, None, True, None)),
        ({"on_notify": "record_only"}, (False, "record_only", 3600, None, True, None)),
        ({"on_notify": "record_only", "on_update": "apply"}, (False, "apply", 3600, None, True, None)),
        ({"poll_interval_secs": 5, "enabled": True}, (True, "stage", 60, None, True, None)),
        (
            {"plan_endpoint": "https://u/v1/plan", "push_enabled": False},
            (False, "stage", 3600, "https://u/v1/plan", False, "https://u/v1/updates/stream"),
        ),
        ({"plan_endpoint": "https://u/v1"}, (False, "stage", 3600, "https://u/v1", True, None)),
        (
            {"plan_endpoint": "https://u/v1/plan", "stream_endpoint": "https://s"},
            (False, "stage", 3600, "https://u/v1/plan", True, "https://s"),
        ),
    ],
)
def test_a_channel_resolves_to_its_defaults(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    channel = parse(
        UpdateChannelConfig, {"schema": "greentic.update-channel.v1", "environment_id": "prod", **fields}, "it"
    )
    found = channel.resolved()
    assert expected == (
        found.enabled,
        found.action.value,
        found.poll_seconds,
        found.plan_endpoint,
        found.push_enabled,
        found.stream_endpoint,
    )


def test_setting_an_action_writes_the_older_field_too() -> None:
    channel = parse(UpdateChannelConfig, {**sample("update-channel"), "x-later": 1}, "it")
    applied = channel.with_action(UpdateAction.APPLY).to_json()
    assert (applied["on_update"], applied["on_notify"], applied["x-later"]) == ("apply", "stage", 1)
    assert channel.with_action(UpdateAction.RECORD_ONLY).to_json()["on_notify"] == "record_only"


@pytest.mark.parametrize("text", ["record-only", "record_only", " Record-Only "])
def test_an_action_is_read_with_hyphens_or_underscores(text: str) -> None:
    assert UpdateAction.parse(text) is UpdateAction.RECORD_ONLY


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        UpdateAction.parse("explode")


@pytest.mark.parametrize(
    "result",
    [
        {"outcome": "pending"},
        {"outcome": "ok"},
        {"outcome": "error", "kind": "conflict", "message": "no"},
        {"outcome": "not-yet-implemented", "detail": "later"},
    ],
)
def test_every_outcome_of_an_attempt_is_read(result: dict[str, str]) -> None:
    event = {**audit_event(), "result": result, "phase": "intent"}
    assert parse(AuditEvent, event, "it").to_json() == event


def test_what_the_store_writes_is_an_audit_event(tmp_path: Path) -> None:
    store = FilesStore(tmp_path)
    payload = CreateEnvironmentPayload(environment_id="local", name="local")
    store.apply(Command("local", "env", "create", payload, "k", "ops"))
    with pytest.raises(NotFound):
        store.apply(Command("local", "traffic", "set", _unbalanced(), "k2", "ops"))
    events = list(store.audit("local").events())
    assert len(events) == 4
    for event in events:
        assert parse(AuditEvent, event, "it").to_json() == event


def _unbalanced() -> Any:
    from greentic.spec.payloads import SetTrafficSplitPayload

    return SetTrafficSplitPayload(deployment_id=ULID, entries=(), updated_by="ops")


def test_a_digest_is_of_the_canonical_form() -> None:
    value = {"b": [1, 2], "a": "ü"}
    integrity = StateIntegrity.of(value)
    assert integrity.matches({"a": "ü", "b": [1, 2]})
    assert not integrity.matches({"a": "u", "b": [1, 2]})
    with pytest.raises(SpecViolation):
        StateIntegrity(algorithm="md5", digest=DIGEST).matches(value)


def test_an_artifact_knows_whether_it_is_intact() -> None:
    whole = {**sample("backup-artifact"), "snapshot_digest": digest(sample("backup-artifact")["snapshot"])}
    assert parse(BackupArtifact, whole, "it").intact()
    assert not parse(BackupArtifact, {**whole, "snapshot": {}}, "it").intact()


@pytest.mark.parametrize(
    ("expected", "met"),
    [
        ({}, True),
        ({"if_match": DIGEST}, True),
        ({"expected_generation": 7}, True),
        ({"if_match": DIGEST, "expected_generation": 7}, True),
        ({"if_match": DIGEST, "expected_generation": 6}, False),
        ({"if_match": "cd" * 32, "expected_generation": 7}, False),
        ({"expected_generation": 8}, False),
    ],
)
def test_a_precondition_needs_all_that_it_names(expected: dict[str, Any], met: bool) -> None:
    precondition = wire.Precondition.model_validate(expected)
    assert precondition.conditional == bool(expected)
    conflict = precondition.conflict(DIGEST, 7)
    assert (conflict is None) == met
    if conflict is not None:
        assert conflict.to_json() == {
            **({"expected_etag": expected["if_match"]} if "if_match" in expected else {}),
            **({"expected_generation": expected["expected_generation"]} if "expected_generation" in expected else {}),
            "actual_etag": DIGEST,
            "actual_generation": 7,
        }


ERRORS: list[dict[str, Any]] = [
    {"kind": "precondition-failed", "actual_etag": "", "actual_generation": 0},
    {"kind": "precondition-required", "detail": "d"},
    {"kind": "idempotency-conflict", "reason": "r"},
    {"kind": "unauthorized", "policy": "p", "reason": "r"},
    {"kind": "not-found"},
    {"kind": "dependent-not-found", "detail": "d"},
    {"kind": "already-exists", "detail": "d"},
    {"kind": "conflict", "detail": "d"},
    {"kind": "invalid-request", "detail": "d"},
    {"kind": "health-gate-failed", "revision_id": ULID, "failed_checks": ["route-table"], "message": "m"},
    {"kind": "integrity-mismatch", "expected": "a", "actual": "b"},
    {"kind": "not-yet-implemented", "detail": "d"},
    {"kind": "internal", "message": "m"},
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error["kind"])
def test_every_wire_error_reads_back_and_has_a_status(error: dict[str, Any]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(wire.RemoteStoreError)
    assert adapter.validate_python(error).to_json() == error
    assert wire.STATUSES[error["kind"]] >= 400


def test_every_status_has_an_error() -> None:
    assert {error["kind"] for error in ERRORS} == set(wire.STATUSES)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (wire.IdempotencyRecord, {"key": "k", "request_fingerprint": DIGEST, "response": {"a": 1}, "stored_at": NOW}),
        (wire.IdempotencyOutcome, {"idempotency": "applied"}),
        (
            wire.MutationResponse,
            {
                "result": None,
                "etag": DIGEST,
                "generation": 1,
                "idempotency": {"idempotency": "replayed"},
                "audit": audit_event(),
            },
        ),
        (
            wire.RbacRequest,
            {"actor": {"kind": "anonymous"}, "env_id": "prod", "noun": "traffic", "verb": "set", "target": {"a": 1}},
        ),
        (wire.ImportRequest, {"artifact": SAMPLES["greentic.backup-artifact.v1"]}),
        (wire.ImportOutcome, {"imported_generation": 1, "integrity": {"algorithm": "sha-256", "digest": DIGEST}}),
        (wire.RestoreRequest, {"backup_id": ULID, "precondition": {}}),
        (wire.RestoreOutcome, {"restored_generation": 9, "integrity": {"algorithm": "sha-256", "digest": DIGEST}}),
        (
            wire.ReconcileCompletionRequest,
            {
                "authorized_generation": 3,
                "authorized_etag": DIGEST,
                "completion": {"status": "succeeded", "applied": 1, "pruned": 0},
            },
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wire_messages_read_back(model: Any, message: dict[str, Any]) -> None:
    assert parse(model, message, "it").to_json() == message


@pytest.mark.parametrize(
    "completion",
    [
        {"status": "succeeded", "applied": 1, "pruned": 0, "more": 1},
        {"status": "succeeded", "applied": -1, "pruned": 0},
        {"status": "done"},
    ],
)
def test_a_completion_refuses_what_it_does_not_know(completion: dict[str, Any]) -> None:
    with pytest.raises(SpecViolation):
        parse(
            wire.ReconcileCompletionRequest,
            {"authorized_generation": 3, "authorized_etag": DIGEST, "completion": completion},
            "it",
        )
