"""The update channel: by its verbs and by a manifest, to the same document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.command_line import CommandLine

HEAD = "schema: greentic.env-manifest.v1\nenvironment: {id: local}\n"
DEFAULT = "https://updates.greentic.cloud/v1/environments/_/plan"


def channel(gtc: CommandLine) -> dict[str, object]:
    return json.loads((gtc.root / "local" / "update-channel.json").read_text())


def apply(gtc: CommandLine, folder: Path, section: str, *words: str) -> object:
    file = folder / "env.yaml"
    file.write_text(HEAD + f"updates: {section}\n")
    return gtc("op", "env", "apply", "-f", str(file), *words)


def test_a_manifest_sets_the_channel_once(gtc: CommandLine, tmp_path: Path) -> None:
    gtc.init()
    section = "{trust_did: null, on_notify: apply, poll_interval_secs: 90}"
    assert apply(gtc, tmp_path, section, "--check").status == 3
    assert not (gtc.root / "local" / "update-channel.json").exists()
    assert apply(gtc, tmp_path, section).status == 0
    assert channel(gtc) == {
        "schema": "greentic.update-channel.v1",
        "environment_id": "local",
        "enabled": True,
        "on_notify": "stage",
        "on_update": "apply",
        "poll_interval_secs": 90,
        "plan_endpoint": DEFAULT,
    }
    assert apply(gtc, tmp_path, section, "--check").status == 0
    assert apply(gtc, tmp_path, section.replace("90", "120"), "--check").status == 3


def test_a_did_that_cannot_be_reached_stops_the_apply_and_is_tried_again(gtc: CommandLine, tmp_path: Path) -> None:
    gtc.init()
    for _ in range(2):
        ran = apply(gtc, tmp_path, "{trust_did: 'did:web:nobody.invalid'}")
        assert ran.status == 1
        assert ran.error["kind"] == "io"
    assert not (gtc.root / "local" / "update-channel.json").exists()


def test_the_fleet_is_trusted_only_by_word(gtc: CommandLine, tmp_path: Path) -> None:
    gtc.init()
    ran = apply(gtc, tmp_path, "{}")
    assert any("nobody is trusted" in one for one in ran.result["warnings"])
    assert gtc("op", "env", "doctor", "--offline").result["ok"]


def test_the_verb_keeps_what_it_does_not_name_and_what_it_does_not_know(gtc: CommandLine) -> None:
    gtc.init()
    assert gtc("op", "updates", "config-show").result["stored"] is None
    assert gtc("op", "updates", "config-set", "--enabled").result["stored"]["plan_endpoint"] == DEFAULT
    path = gtc.root / "local" / "update-channel.json"
    path.write_text(json.dumps({**channel(gtc), "newer": {"a": 1}}))
    told = gtc("op", "updates", "config-set", "--on-notify", "record-only", "--no-push").result
    assert (told["resolved"]["action"], told["resolved"]["push_enabled"]) == ("record_only", False)
    assert channel(gtc)["newer"] == {"a": 1}
    assert channel(gtc)["enabled"] is True
    manifest = gtc("op", "env", "export", "local").result["manifest"]
    assert manifest["updates"]["on_notify"] == "record-only"


def test_two_who_set_different_things_at_once_both_have_their_way(gtc: CommandLine) -> None:
    gtc.init()
    settings = {"--on-notify": "apply", "--poll-interval-secs": "77", "--plan-endpoint": "https://a.example/plan"}
    words = [
        [sys.executable, "-m", "greentic.cli.main", "op", "updates", "config-set", *one] for one in settings.items()
    ]
    running = [subprocess.Popen(one, env=gtc.environment, stdout=subprocess.DEVNULL) for one in words]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    said = channel(gtc)
    assert (said["on_update"], said["poll_interval_secs"], said["plan_endpoint"]) == (
        "apply",
        77,
        "https://a.example/plan",
    )


def test_a_precondition_that_does_not_hold_changes_nothing(gtc: CommandLine) -> None:
    gtc.init()
    ran = gtc("op", "updates", "config-set", "--enabled", "--expect-generation", "77")
    assert (ran.status, ran.error["kind"]) == (4, "conflict")
    assert not (gtc.root / "local" / "update-channel.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--poll-interval-secs", "59"),
        ("--on-notify", "explode"),
        ("--plan-endpoint", "http://far.example/plan"),
        ("--stream-endpoint", "ftp://x"),
        (),
    ],
)
def test_what_makes_no_sense_changes_nothing(gtc: CommandLine, words: tuple[str, ...]) -> None:
    gtc.init()
    assert gtc("op", "updates", "config-set", *words).status != 0
    assert not (gtc.root / "local" / "update-channel.json").exists()


def test_a_channel_that_cannot_be_read_is_named(gtc: CommandLine) -> None:
    gtc.init()
    (gtc.root / "local" / "update-channel.json").write_text("{")
    error = gtc("op", "updates", "config-show").error
    assert "update-channel.json" in error["message"]
    assert "config-set" in error["next_step"]
    assert gtc("op", "env", "doctor", "--offline").status == 1


def test_router_settings_are_declared_and_exported(gtc: CommandLine, tmp_path: Path) -> None:
    gtc.init()
    file = tmp_path / "env.yaml"
    file.write_text(HEAD.replace("{id: local}", "{id: local, router: {replicas: 1, pin_seconds: 60}}"))
    assert gtc("op", "env", "apply", "-f", str(file)).status == 0
    assert gtc("op", "env", "apply", "-f", str(file), "--check").status == 0
    exported = gtc("op", "env", "export", "local").result["manifest"]["environment"]
    assert exported["router"] == {"replicas": 1, "pin_seconds": 60}
    file.write_text(HEAD.replace("{id: local}", "{id: local, router: {pin_seconds: 90}}"))
    assert gtc("op", "env", "apply", "-f", str(file)).status == 0
    told = gtc("op", "config", "show").result["host_config"]["router"]
    assert told == {"replicas": 1, "pin_seconds": 90}
    file.write_text(HEAD.replace("{id: local}", "{id: local, router: {replica: 1}}"))
    assert "replica" in gtc("op", "env", "apply", "-f", str(file)).error["message"]


def test_keys_of_a_did_are_trusted_by_a_verb(gtc: CommandLine) -> None:
    gtc.init()
    assert gtc("op", "trust-root", "add-did", "--did", "did:web:nobody.invalid").error["kind"] == "io"
    for word in ("did:key:z6Mk", "did:web:127.0.0.1", "nonsense"):
        assert gtc("op", "trust-root", "add-did", "--did", word).error["kind"] == "invalid-argument"
    assert gtc("op", "trust-root", "add-did").status == 2
