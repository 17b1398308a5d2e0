"""Policies, the audit log, backups and the doctor, through the command line."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from tests.integration.command_line import CommandLine

ME = pwd.getpwuid(os.geteuid()).pw_name


def test_outside_local_nothing_is_allowed_until_a_policy_says_so(gtc: CommandLine) -> None:
    assert gtc("op", "env", "create", "prod").status == 0
    words = ("op", "bundles", "add", "web", "--env", "prod", "--customer-id", "acme")
    denied = gtc(*words)
    assert (denied.status, denied.error["kind"]) == (6, "unauthorized")
    assert denied.error["next_step"] == "gtc op policy init prod"
    assert gtc("op", "policy", "init", "prod").result["policy"]["grants"] == [{"actor": ME, "role": "admin"}]
    assert gtc("op", "policy", "init", "prod").status == 4
    assert gtc(*words).status == 0
    decisions = [
        event["authorization"]["decision"] for event in gtc("op", "audit", "tail", "--env", "prod").result["events"]
    ]
    assert "deny" in decisions


def test_a_role_is_narrowed_to_customers_and_taken_back(gtc: CommandLine) -> None:
    gtc("op", "env", "create", "prod")
    gtc("op", "policy", "init", "prod")
    gtc("op", "policy", "grant", "prod", "alice", "releaser", "--customer", "acme")
    checks = {
        ("traffic.set", "acme"): True,
        ("traffic.set", "globex"): False,
        ("traffic.set", None): False,
        ("bundles.add", "acme"): False,
    }
    for (permission, customer), allowed in checks.items():
        words = ("op", "policy", "check", "prod", "alice", permission)
        told = gtc(*words, *(() if customer is None else ("--customer", customer))).result
        assert told["allowed"] is allowed, told
    assert gtc("op", "policy", "revoke", "prod", "alice").status == 0
    assert gtc("op", "policy", "revoke", "prod", "alice").status == 5
    assert gtc("op", "policy", "grant", "prod", "bob", "emperor").status == 2


def test_who_did_it_and_who_may_are_different_things(gtc: CommandLine) -> None:
    """A name given with --updated-by is recorded; it opens nothing."""
    gtc("op", "env", "create", "prod")
    gtc("op", "policy", "init", "prod")
    policy = gtc.root / "prod" / "policy.json"
    document = json.loads(policy.read_text())
    document["grants"] = [{"actor": "alice", "role": "admin"}]
    policy.write_text(json.dumps(document))
    words = ("op", "bundles", "add", "web", "--env", "prod", "--customer-id", "acme", "--updated-by", "alice")
    assert gtc(*words).status == 6


def test_an_unreadable_policy_denies(gtc: CommandLine) -> None:
    gtc("op", "env", "create", "prod")
    gtc("op", "policy", "init", "prod")
    (gtc.root / "prod" / "policy.json").write_text('{"schema": "greentic.policy.v1", "roles": {"r": ["*:*"]}}')
    denied = gtc("op", "env", "update", "prod", "--region", "eu")
    assert denied.status == 6
    assert "cannot be read" in denied.error["message"]


def test_the_log_verifies_until_a_byte_is_changed(gtc: CommandLine, tmp_path: Path) -> None:
    gtc.init()
    gtc("op", "env", "update", "local", "--region", "eu")
    exported = tmp_path / "log.jsonl"
    count = gtc("op", "audit", "export", "-o", str(exported)).result["entries"]
    assert gtc("op", "audit", "verify").result["entries"] == count
    assert gtc("op", "audit", "verify", str(exported)).status == 0
    text = exported.read_text()
    exported.write_text(text.replace('"eu"', '"us"', 1))
    refused = gtc("op", "audit", "verify", str(exported))
    assert refused.status == 1
    assert "line" in refused.error["message"]
    event = gtc("op", "audit", "tail", "-n", "1").result["events"][0]
    assert gtc("op", "audit", "show", event["event_id"]).result["events"] == [event]
    assert gtc("op", "audit", "show", "nothing").status == 5


def test_a_corrupt_document_is_found_shown_and_restored(gtc: CommandLine) -> None:
    gtc.init()
    gtc("op", "env", "update", "local", "--region", "eu")
    document = gtc.root / "local" / "environment.json"
    document.write_text(document.read_text().replace('"eu"', '"us"'))
    listed = gtc("op", "env", "list").result["environments"][0]
    assert listed["error"]["kind"] == "corrupt"
    shown = gtc("op", "env", "show", "local")
    assert shown.status == 1
    assert shown.error["next_step"] == "gtc op backup restore local"
    sick = gtc("op", "env", "doctor", "local")
    assert sick.status == 1
    findings = json.loads(sick.out)["result"]["findings"]
    assert [one["check"] for one in findings if one["severity"] == "error"] == ["document"]
    assert all(one["fix"] for one in findings)
    assert gtc("op", "backup", "restore", "local").status == 0
    assert gtc("op", "env", "doctor", "local").status == 0
    assert gtc("op", "env", "show", "local").result["environment"]["host_config"]["listen_addr"]


def test_a_policy_that_others_may_write_grants_nothing(gtc: CommandLine) -> None:
    gtc("op", "env", "create", "prod")
    gtc("op", "policy", "init", "prod")
    policy = gtc.root / "prod" / "policy.json"
    words = ("op", "env", "update", "prod", "--name", "Prod")
    for mode in (0o620, 0o602):
        policy.chmod(mode)
        denied = gtc(*words)
        assert (denied.status, denied.error["kind"]) == (6, "unauthorized")
        assert "can be written by others" in denied.error["message"]
        assert "chmod 600" in denied.error["next_step"]
        assert gtc("op", "env", "doctor", "prod").status == 1
    policy.chmod(0o600)
    assert gtc(*words).status == 0
    if os.geteuid() == 0:  # only root can give a file away
        os.chown(policy, 65534, -1)
        assert gtc(*words).status == 6


def test_a_dry_run_with_backups_changes_nothing(gtc: CommandLine) -> None:
    gtc("op", "env", "init")
    for prefix in ("/a", "/b"):
        gtc("op", "bundles", "add", f"web{prefix[1:]}", "--path-prefix", prefix)
    before = _tree(gtc.root)
    assert gtc("op", "backup", "create", "local", "--dry-run").result["backup"].endswith(".g3.kept.bak")
    would_restore = gtc("op", "backup", "restore", "local", "--dry-run").result
    assert (would_restore["restored_generation"], would_restore["generation"]) == (2, 4)
    would_go = gtc("op", "backup", "prune", "local", "--keep", "0", "--days", "0", "--dry-run").result["removed"]
    assert gtc("op", "backup", "restore", "local", "--backup", "nope", "--dry-run").status == 5
    assert gtc("op", "backup", "create", "nowhere", "--dry-run").status == 5
    assert _tree(gtc.root) == before
    assert gtc("op", "backup", "prune", "local", "--keep", "0", "--days", "0").result["removed"] == would_go != []


def test_a_dry_run_over_a_corrupt_document_leaves_it_there(gtc: CommandLine) -> None:
    gtc("op", "env", "init")
    gtc("op", "env", "update", "local", "--name", "mine")
    (gtc.root / "local" / "environment.json").write_text("{")
    before = _tree(gtc.root)
    would_restore = gtc("op", "backup", "restore", "local", "--dry-run").result
    assert _tree(gtc.root) == before
    assert gtc("op", "backup", "restore", "local").result == would_restore


def _tree(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_backups_are_made_kept_and_pruned(gtc: CommandLine) -> None:
    gtc.init()
    kept = gtc("op", "backup", "create", "local").result["backup"]
    for region in ("a", "b", "c"):
        gtc("op", "env", "update", "local", "--region", region)
    listed = gtc("op", "backup", "list", "local").result["backups"]
    assert kept in [one["name"] for one in listed]
    assert len(listed) == 4
    removed = gtc("op", "backup", "prune", "local", "--keep", "1", "--days", "0").result["removed"]
    assert len(removed) == 2
    assert gtc("op", "backup", "restore", "local", "--backup", kept).status == 0
    assert "region" not in gtc("op", "env", "show", "local").result["environment"]["host_config"]
    assert gtc("op", "backup", "restore", "local", "--backup", "../../etc/passwd").status != 0


def test_a_revision_that_lost_its_files_is_found_and_taken_out(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web")
    second = gtc("op", "deploy", "--bundle", str(bundles["v2"]), "web", "--traffic", "50%").result
    place = gtc.root / "local" / "revisions"
    (place / "leftover").mkdir()
    for path in sorted((place / second["revision_id"]).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    findings = json.loads(gtc("op", "env", "doctor", "local").out)["result"]["findings"]
    assert {"revision-files", "orphan-files"} <= {one["check"] for one in findings}
    planned = gtc("op", "env", "repair", "local").result["repaired"]
    assert len(planned) == 2
    assert (place / "leftover").exists(), "without --apply nothing is touched"
    assert gtc("op", "env", "repair", "local", "--apply").status == 0
    assert not (place / "leftover").exists()
    shares = gtc("op", "traffic", "show", "web").result["entries"]
    assert [(one["name"], one["weight_bps"]) for one in shares] == [("v1", 10_000)]
    assert gtc("op", "env", "doctor", "local").status == 0


@pytest.mark.parametrize("verb", ["doctor", "repair", "show"])
def test_what_does_not_exist_is_said(gtc: CommandLine, verb: str) -> None:
    assert gtc("op", "env", verb, "nowhere").status == 5
