"""The extension is found, describes itself, and can be bound twice under two names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from acme_example import pack


def gtc(root: Path, *words: str) -> Any:
    variables = {**os.environ, "GREENTIC_STORE_ROOT": str(root), "GTC_OPERATOR_KEY_PATH": str(root / "key.pem")}
    command = [sys.executable, "-m", "greentic.cli.main", *words, "--json"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["result"]


def test_it_is_bound_twice(tmp_path: Path) -> None:
    gtc(tmp_path, "op", "env", "create", "local")
    (tmp_path / "answers.json").write_text('{"url": "https://directory"}')
    for name in ("one", "two"):
        words = ("--instance", name, "--config", str(tmp_path / "answers.json"))
        gtc(tmp_path, "op", "extensions", "add", "acme.extension.example", *words)
    bound = gtc(tmp_path, "op", "extensions", "list")["bindings"]
    assert [row["instance_id"] for row in bound] == ["one", "two"]


def test_what_it_needs_is_there() -> None:
    checks = pack().preflight
    assert checks is not None
    assert all(check.passed for check in checks())
