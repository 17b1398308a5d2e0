"""`gtc start --dry-run`: what a start would change, for people and as JSON."""

from __future__ import annotations

from pathlib import Path

from tests.integration.command_line import CommandLine


def test_it_tells_and_starts_nothing(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    assert gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").status == 0
    assert gtc("start", "--dry-run").result == {
        "environment_id": "local",
        "dry_run": True,
        "changes": [],
    }
    gtc("stop")
    changes = gtc("start", "--dry-run").result["changes"]
    assert [(one["action"], one["kind"]) for one in changes] == [
        ("start", "listener"),
        ("start", "router"),
        ("start", "worker"),
        ("publish", "table"),
    ]
    assert [one["called"] for one in changes[2:]] == ["web v1", "web"]
    assert not gtc("op", "status").result["running"]


def test_an_environment_that_is_not_there_is_not_found(gtc: CommandLine) -> None:
    ran = gtc("start", "nosuch", "--dry-run")
    assert ran.status != 0
    assert '"not-found"' in ran.out + ran.err
