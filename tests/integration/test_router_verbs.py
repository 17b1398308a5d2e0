"""What people do about selection, with the real `gtc`: rotate keys, vouch for a caller, bind Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, request, write_worker
from redis_server import PASSWORD, redis_server


@pytest.fixture
def gtc(tmp_path: Path) -> Iterator[CommandLine]:
    gtc = CommandLine(tmp_path / "environments")
    gtc.init()
    for version in ("1.0.0", "2.0.0"):
        source = write_worker(tmp_path / version, version)
        built = gtc("bundle", "build", str(source), "--output", str(tmp_path / f"{version}.gtbundle"))
        assert built.status == 0, built.err
        deployed = gtc("op", "deploy", "--bundle", str(tmp_path / f"{version}.gtbundle"), "web", "--traffic", "100%")
        assert deployed.status == 0, deployed.err
    yield gtc
    gtc("stop")


def files(root: Path) -> str:
    return "".join(
        path.read_text("latin-1") for path in root.rglob("*") if path.is_file() and "revisions" not in path.parts
    )


def test_keys_turn_and_visitors_stay(gtc: CommandLine) -> None:
    gtc("op", "traffic", "set", "web", "v1=50%", "v2=50%")
    revisions = {
        word["name"]: word["revision_id"] for word in gtc("op", "revisions", "list", "web").result["revisions"]
    }
    place = gtc.get(x_greentic_client="me")[1]["revision"]
    preview = gtc("op", "traffic", "preview", "web", "v1").result["header"]["x-greentic-preview"]
    vouched = gtc("op", "traffic", "trust-token", "web", "--for", "5m").result["header"]["x-greentic-trust"]
    dry = gtc("op", "router", "rotate-keys", "--dry-run").result
    assert dry["rotated"] is False
    for number in range(3):
        rotated = gtc("op", "router", "rotate-keys").result
        assert (rotated["rotated"], rotated["acknowledged"]) == (True, rotated["expected"])
        assert rotated["expected"] >= 1
        assert len(rotated["verifying"]) == number + 2
        assert rotated["dropped"] is None
        assert gtc.get(x_greentic_client="me")[1]["revision"] == place
        assert gtc.get(x_greentic_preview=preview)[1]["revision"] == revisions["v1"]
        for name in ("v1", "v2"):
            answer = gtc.get(x_greentic_trust=vouched, x_greentic_revision=name)[1]
            assert answer["revision"] == revisions[name]
    # The fourth drops the key of the beginning, and with it what that one had signed.
    assert gtc("op", "router", "rotate-keys").result["dropped"] is not None
    assert gtc.get(x_greentic_preview=preview)[0] == 403
    assert gtc.get(x_greentic_client="me")[1]["revision"] == place
    events = gtc("op", "audit", "tail").result["events"]
    verbs = [event["verb"] for event in events if event["noun"] == "router"]
    assert verbs.count("rotate-keys") >= 4
    told = files(gtc.root / "local" / "audit") + files(gtc.root / "local" / "logs")
    assert vouched not in told
    for key in json.loads((gtc.root / "local" / "router-keys.json").read_text())["ring"]:
        assert key["secret"] not in told


def test_keys_turn_without_a_runtime_and_once_per_key(gtc: CommandLine) -> None:
    gtc("stop")
    first = gtc("op", "router", "rotate-keys", "--idempotency-key", "once").result
    again = gtc("op", "router", "rotate-keys", "--idempotency-key", "once").result
    assert (first["expected"], first["active"]) == (0, again["active"])
    shown = gtc("op", "router", "rotate-keys", as_json=False)
    assert "from the next start on" in shown.out
    assert "still valid" in shown.out


@pytest.mark.parametrize("words", [["nowhere"], ["--for", "0s"], ["--for", "91d"], ["--for", "soon"]])
def test_a_trust_token_that_cannot_be(gtc: CommandLine, words: list[str]) -> None:
    assert gtc("op", "traffic", "trust-token", *words).error["message"]


def test_redis_is_bound_followed_and_let_go(gtc: CommandLine, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        config = tmp_path / "redis.json"

        def bind(verb: str, **answers: Any) -> Any:
            config.write_text(json.dumps(answers))
            return gtc("op", "env-packs", verb, "sessions", "greentic.sessions.redis", "--config", str(config))

        assert "password" in bind("update", url=f"redis://:{PASSWORD.replace(' ', '-')}@127.0.0.1").error["message"]
        assert bind("update").error["next_step"]
        reference = "secret://local/default/_/redis/password"
        put = gtc("op", "secrets", "put", "default/_/redis/password", stdin=PASSWORD)
        assert put.status == 0, put.err
        bound = bind("update", url=redis.url, password_ref=reference, timeout_ms=500)
        assert bound.result["binding"]["kind"].startswith("greentic.sessions.redis@")
        assert gtc.get(x_greentic_session="alice")[0] == 200
        assert redis.ask("KEYS", "gt:pin:*")
        seen = gtc("op", "status").result["deployments"][0]["revisions"]
        assert all(set(row["pins"]) == {"cookie", "session"} for row in seen if row["weight_bps"])
        assert PASSWORD not in files(gtc.root)
        assert PASSWORD not in Path("/proc/self/cmdline").read_text()
        # A secret that is gone harms nobody: what was told before is followed on.
        gtc("op", "secrets", "delete", "default/_/redis/password")
        moved = gtc("op", "traffic", "set", "web", "v1=40%", "v2=60%")
        assert moved.status == 0, moved.err
        redis.ask("FLUSHALL")
        gtc.get(x_greentic_session="bob")
        assert redis.ask("KEYS", "gt:pin:*")
        redis.ask("CLIENT", "PAUSE", "60000", "ALL")
        assert gtc.get(x_greentic_session="dave")[0] == 200, "a store that stalls costs a session its pin only"
        redis.ask("CLIENT", "UNPAUSE")
        text = gtc("op", "metrics").result["text"]
        failed = re.findall(r"^greentic_session_pin_failures_total{.*} (.*)$", text, re.M)
        assert sum(map(float, failed)) >= 1, "and a metric says so"
        back = gtc("op", "env-packs", "rollback", "sessions")
        assert back.status == 0, back.err
        redis.ask("FLUSHALL")
        gtc.get(x_greentic_session="carol")
        assert redis.ask("KEYS", "*") == ""
        assert request(gtc.port, "/")[0] == 200
