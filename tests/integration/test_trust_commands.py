"""Trust as an operator meets it: the real `gtc`, a key of its own, one environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def op(gtc, tmp_path: Path):
    gtc.environment["GTC_OPERATOR_KEY_PATH"] = str(tmp_path / "keys" / "key.pem")
    return lambda *words, **options: gtc("op", *words, **options)


def shares(folder: Path, acme: int) -> str:
    parties = [{"party_id": "acme", "basis_points": acme}, {"party_id": "greentic", "basis_points": 10_000 - acme}]
    path = folder / f"share-{acme}.json"
    path.write_text(json.dumps({"revenue_share": parties}))
    return str(path)


def test_a_newcomer_never_hears_of_keys(op, tmp_path) -> None:
    assert op("env", "init").result["trust_root"]["trusted_key_count"] == 1
    assert op("bundles", "add", "web").status == 0
    assert (tmp_path / "keys" / "key.pem").stat().st_mode & 0o777 == 0o600
    told = op("bundles", "policies", "web").result
    assert (told["ok"], [row["version"] for row in told["versions"]]) == (True, [1])
    assert op("env", "doctor").result["ok"]
    assert "the chain is proven" in op("bundles", "policies", "web", as_json=False).out


def test_a_removed_key_signs_nothing_until_it_is_restored(op, tmp_path) -> None:
    op("env", "init")
    op("bundles", "add", "web")
    key_id = op("trust-root", "list").result["keys"][0]["key_id"]
    removed = op("trust-root", "remove", "--key-id", key_id).result
    assert (removed["removed_key_id"], removed["trusted_key_count"]) == (key_id, 0)
    refused = op("bundles", "update", "web", "--answers", shares(tmp_path, 3_000))
    assert (refused.status, refused.error["kind"]) == (4, "conflict")
    assert "--restore" in refused.error["next_step"]
    assert op("trust-root", "bootstrap").error["kind"] == "trust-root"
    assert op("env", "init").result["outcome"] == "untouched"
    assert op("env", "doctor").status == 1
    assert op("backup", "restore").status == 0  # to before there was a deployment, and a signed policy of it
    assert op("trust-root", "list").result["keys"] == []
    assert op("trust-root", "add", "--key-id", key_id, "--restore").result["trusted_key_count"] == 1
    assert op("bundles", "add", "web").status == 0
    told = op("bundles", "policies", "web").result
    assert (told["ok"], [row["version"] for row in told["versions"]]) == (True, [1, 2])


def test_an_environment_without_a_trust_root_names_the_command(op, gtc) -> None:
    op("env", "init")
    path = gtc.root / "local" / "environment.json"
    document = json.loads(path.read_text())
    del document["trust_root"], document["x-greentic-store"]
    path.write_text(json.dumps(document))
    (gtc.root / "local" / "trust-root.json").unlink()
    refused = op("bundles", "add", "web")
    assert (refused.status, refused.error["next_step"]) == (4, "gtc op trust-root bootstrap local")
    told = op("trust-root", "bootstrap").result
    assert set(told) >= {"environment_id", "operator_key_id", "operator_public_key_pem", "trusted_key_count"}
    assert op("bundles", "add", "web").status == 0


def test_a_public_key_comes_from_a_file_a_text_or_answers(op, tmp_path) -> None:
    op("env", "init")
    public = (tmp_path / "keys" / "key.pem.pub").read_text()
    named = op("trust-root", "add", "local", "--public-key-file", str(tmp_path / "keys" / "key.pem.pub")).result
    assert named["trusted_key_count"] == 1
    assert op("trust-root", "add", "--public-key-pem", public).result["added_key_id"] == named["added_key_id"]
    answers = tmp_path / "key.json"
    answers.write_text(json.dumps({"public_key_pem": public, "key_id": named["added_key_id"]}))
    assert op("trust-root", "add", "--answers", str(answers)).result["trusted_key_count"] == 1
    assert op("trust-root", "add", "--public-key-file", "/nowhere").error["kind"] == "io"


def test_the_log_is_verified_far_away(op, gtc, tmp_path) -> None:
    op("env", "init")
    op("bundles", "add", "web")
    assert op("audit", "verify").result["signed_head"]["key"] == "trusted"
    log, root = tmp_path / "log.jsonl", gtc.root / "local" / "trust-root.json"
    op("audit", "export", "-o", str(log))
    assert op("audit", "verify", str(log), "--trust-root", str(root)).result["signed_head"]["key"] == "trusted"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:-2], lines[-1]]))
    cut = op("audit", "verify", str(log), "--trust-root", str(root))
    assert cut.error["kind"] == "corrupt"
    kept = tmp_path / "head.json"
    kept.write_bytes((gtc.root / "local" / "audit" / "head.json").read_bytes())
    assert op("audit", "verify", "--head", str(kept)).status == 0
