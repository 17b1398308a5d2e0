"""Every verb of the command line against a server: it works there, or says plainly why it cannot."""

from __future__ import annotations

import asyncio
import json

import click
import pytest
from click.testing import CliRunner
from tests.property.manifest_scene import Scene, manifest

from greentic.cli.main import cli
from greentic.engine.command import Command
from greentic.operations import backups, doctor, updates
from greentic.spec.errors import Conflict, NotFound
from greentic.spec.update_channel import ConfigureUpdatesPayload
from greentic.spec.verbs import VERBS

LOCAL = {"policy show", "policy init", "policy grant", "policy revoke", "policy check"}
"""Verbs of a folder's own: a server has its token file for that."""
WORDS = {
    "policy show": ["local"],
    "policy init": ["local"],
    "policy grant": ["local", "x", "admin"],
    "policy revoke": ["local", "x"],
    "policy check": ["local", "x", "traffic.set"],
}
READS = [
    *("env list", "env show", "env doctor", "env export", "config show", "status", "bundles list", "revisions list"),
    *("env-packs list", "extensions list", "messaging endpoint list", "trust-root list", "audit tail", "audit verify"),
    *("backup list", "updates config-show", "secrets list", "credentials requirements"),
]


@pytest.fixture
def gtc(env, tmp_path, monkeypatch):
    monkeypatch.setenv("GREENTIC_STORE_URL", env.url)
    monkeypatch.setenv("GREENTIC_STORE_ROOT", str(tmp_path / "here"))

    def run(*words: str):
        done = CliRunner().invoke(cli, ["op", *words, "--json"])
        told = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
        return done.exit_code, told[-1] if told else {"output": done.output}

    return run


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        found = []
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += leaves(inner, (*path, name))
        return found
    return [" ".join(path)]


def all_leaves() -> list[str]:
    group = cli.get_command(click.Context(cli), "op")
    assert group is not None
    return leaves(group)


def test_what_is_named_here_is_there():
    assert set(all_leaves()) >= LOCAL | set(READS)


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_a_local_verb_says_why(gtc, name):
    _status, told = gtc(*name.split(), *WORDS[name])
    assert told["error"]["kind"] == "not-yet-implemented", told
    assert "token file" in told["error"]["message"]


@pytest.mark.parametrize("name", READS)
def test_a_verb_that_looks_works(gtc, name):
    _status, told = gtc(*name.split())
    # A slot that is empty has nothing to show; nothing is refused because it is asked from afar.
    assert "result" in told or "env-packs add" in told["error"]["next_step"], told


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_verb_that_changes_is_taken(env, verb):
    path = verb.path.replace("{environment_id}", "local")
    told = env.ask("POST", path, {"steps": 1, "nonsense": 1})
    assert told.json()["kind"] == "invalid-request", told.text


def test_the_update_channel_is_set_from_afar(env, tmp_path):
    one, other = Scene(tmp_path / "one"), Scene(tmp_path / "other")
    one.store, other.store = env.client(folder="one"), env.client(folder="other")
    updates.configure(one.context(), "local", ConfigureUpdatesPayload(enabled=True))
    told = updates.configure(other.context(key="other"), "local", ConfigureUpdatesPayload(poll_interval_secs=120))
    assert (told["stored"]["enabled"], told["stored"]["poll_interval_secs"]) == (True, 120)
    assert updates.show(one.context(), "local")["stored"] == told["stored"]
    planned = updates.configure(one.context(dry_run=True), "local", ConfigureUpdatesPayload(enabled=False))
    assert planned["stored"]["enabled"] is False
    assert updates.show(one.context(), "local")["stored"]["enabled"] is True


def test_what_somebody_else_set_meanwhile_is_kept(env):
    store = env.client()
    asked = Command("local", "updates", "config-set", ConfigureUpdatesPayload(enabled=True), "k", "me")
    quicker = iter([{"by": "another"}, None, None])

    def change(present):
        somebody = next(quicker)
        if somebody is not None:
            env.ask("PUT", "/environments/local/files/update-channel.json", somebody)
        return {"over": None if present is None else json.loads(present)}

    store.rewrite(asked, "update-channel.json", change)
    assert json.loads(store.files("local").read("update-channel.json")) == {"over": {"by": "another"}}

    def always_late(_present):
        env.keys = getattr(env, "keys", 0) + 1
        env.ask("PUT", "/environments/local/files/update-channel.json", {"n": env.keys})
        return {"mine": True}

    late = Command("local", "updates", "config-set", ConfigureUpdatesPayload(enabled=True), "late", "me")
    with pytest.raises(Conflict):
        store.rewrite(late, "update-channel.json", always_late)


def test_backups_are_rehearsed_and_pruned(env, tmp_path):
    scene = Scene(tmp_path)
    scene.store = env.client()
    planned = backups.create(scene.context(dry_run=True), "local")
    assert planned["backup"] == "new"
    assert backups.list_(scene.context(), "local")["backups"] == []
    kept = backups.create(scene.context(), "local")["backup"]
    env.ask("PATCH", "/environments/local", {"name": "n2"})
    told = asyncio.run(backups.restore(scene.context(dry_run=True), "local", None))
    assert (told["backup"], told["restored_generation"], told["generation"]) == (kept, 1, 3)
    assert env.desk.store.load("local").generation == 2
    with pytest.raises(NotFound):
        asyncio.run(backups.restore(scene.context(dry_run=True), "local", "01J0000000000000000000000Z"))
    pruned = backups.prune(scene.context(), "local", 0, 0)
    assert pruned["removed"] == []
    assert "by itself" in pruned["note"]
    assert len(backups.list_(scene.context(), "local")["backups"]) == 1


def test_the_doctor_looks_at_the_server_and_at_this_machine(env, tmp_path):
    scene = Scene(tmp_path)
    scene.store = env.client()
    scene.apply(manifest())
    stray = scene.store.artifacts("local") / "revisions" / "01J0000000000000000000000Z"
    stray.mkdir(parents=True)
    found = asyncio.run(doctor.examine(scene.context(), "local", live=False))["findings"]
    assert "orphan-files" in {one["check"] for one in found}
    told = asyncio.run(doctor.repair(scene.context(dry_run=True), "local"))
    assert len(told["repaired"]) == 1
    assert stray.exists()
    told = asyncio.run(doctor.repair(scene.context(), "local"))
    assert told["repaired"] == ["removed revisions/01J0000000000000000000000Z, which no record names"]
    assert not stray.exists()
    with pytest.raises(NotFound):
        asyncio.run(doctor.examine(scene.context(), "ghost", live=False))


def test_the_doctor_finds_what_was_spoiled_on_the_server(env, tmp_path):
    scene = Scene(tmp_path)
    scene.store = env.client()
    with env.desk.store.database.writing("") as connection:
        connection.query("UPDATE elements SET data = REPLACE(data, 'local', 'l0cal') WHERE env_id = 'local'")
    env.desk.store._known.clear()
    found = asyncio.run(doctor.examine(scene.context(), "local", live=False))["findings"]
    assert "document" in {one["check"] for one in found}


def test_an_environment_with_a_policy_elsewhere_is_applied_from_afar(server, tmp_path):
    scene = Scene(tmp_path, name="prod")
    scene.store = server.client()
    told = scene.apply(manifest(name="prod"))
    assert told["verify"]["failures"] == []
    assert server.desk.store.load("prod").generation >= 1
