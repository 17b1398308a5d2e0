"""Retiring, secrets, credentials and bindings with real processes: what runs, what others may, what is left."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.command_line import CommandLine

from greentic.store.files import FilesStore

CANARY = "hunter2-s3cr3t"
PATH = "acme/_/openai/api_key"


def test_a_deployment_leaves_for_good(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web")
    gtc("op", "deploy", "--bundle", str(bundles["v2"]), "web", "--traffic", "30%")
    assert gtc.get()[0] == 200
    error = gtc("op", "env-packs", "remove", "deployer").error
    assert (error["kind"], len(error["details"]["revision_ids"])) == ("conflict", 2)
    assert gtc("op", "credentials", "requirements").result["result"] == "pass", "its own runtime holds the port"
    assert gtc("op", "bundles", "retire", "web", "--dry-run").result["archived"] == ["v1", "v2"]
    told = gtc("op", "bundles", "retire", "web", "--note", "moved elsewhere", "--idempotency-key", "k").result
    assert (told["state"], told["archived"], told["traffic_cleared"]) == ("retired", ["v1", "v2"], True)
    assert len(told["pruned_revision_ids"]) == 2
    assert gtc("op", "bundles", "retire", "web", "--idempotency-key", "k").result["state"] == "absent"
    status = gtc("op", "status").result
    assert status["deployments"] == []
    assert not list((gtc.root / "local" / "revisions").iterdir())
    assert gtc("op", "env-packs", "remove", "deployer").result["binding_generation"] == 0


def test_a_secret_reaches_the_store_and_nothing_else(gtc: CommandLine) -> None:
    gtc.init()
    put = gtc("op", "secrets", "put", PATH, stdin=f"{CANARY}\n")
    assert CANARY not in put.out + put.err
    gtc.environment["CANARY"] = CANARY
    gtc("op", "secrets", "put", "acme/_/openai/other", "--from-env", "CANARY")
    assert gtc("op", "secrets", "get", PATH, "--reveal").result["value"] == CANARY
    written = [path for path in gtc.root.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in path.read_bytes() for path in written)
    for path in written:
        assert path.stat().st_mode & 0o077 == 0


def test_a_prompt_shows_nothing(gtc: CommandLine) -> None:
    gtc.init()
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "greentic.cli.main", "op", "secrets", "put", PATH]
    with subprocess.Popen(
        command, env=gtc.environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    ) as process:
        os.close(slave)
        seen = b""
        for _ in range(2):
            while not seen.rstrip().endswith(b":"):
                seen += os.read(master, 1024)
            os.write(master, f"{CANARY}\n".encode())
            seen += b"|"
        while True:
            try:
                piece = os.read(master, 1024)
            except OSError:
                break
            seen += piece
        assert process.wait(30) == 0
    os.close(master)
    assert CANARY.encode() not in seen
    assert gtc("op", "secrets", "get", PATH, "--reveal").result["value"] == CANARY


def test_without_a_policy_nobody_looks(gtc: CommandLine) -> None:
    assert gtc("op", "env", "create", "prod").status == 0
    for words in (
        ("secrets", "put", PATH, "--generate"),
        ("secrets", "get", PATH, "--reveal"),
        ("env-packs", "remove", "state"),
        ("messaging", "endpoint", "add", "slack", "team"),
        ("config", "set", "--region", "eu"),
        ("credentials", "requirements"),
    ):
        refused = gtc("op", *words, "--env", "prod")
        assert (refused.status, refused.error["kind"]) == (6, "unauthorized"), words
    events = FilesStore(gtc.root).audit("prod").events()
    denied = [one for one in events if one["authorization"]["decision"] == "deny" and one["phase"] == "outcome"]
    assert {(one["noun"], one["verb"]) for one in denied} == {
        ("secrets", "put"),
        ("secrets", "get"),
        ("env-packs", "remove"),
        ("messaging.endpoint", "add"),
        ("config", "set"),
        ("credentials", "requirements"),
    }


def test_writers_at_once_lose_no_binding(gtc: CommandLine) -> None:
    gtc.init()
    kinds = [f"acme.state.redis@1.0.{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda kind: gtc("op", "env-packs", "update", "state", kind, "--allow-unknown"), kinds))
    assert [one.status for one in done] == [0] * 6
    rows = gtc("op", "env-packs", "history", "state").result["bindings"]
    assert [row["generation"] for row in rows] == [6, 5, 4, 3, 2, 1, 0]
    assert {row["kind"] for row in rows} == {*kinds, "greentic.state.in-memory@0.1.0"}
