"""Env-packs, extensions, endpoints, secrets, credentials and configuration on the command line, in one process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from greentic.cli.main import cli
from greentic.spec.credentials import Credentials
from greentic.spec.parsing import parse
from greentic.spec.schemas import names
from greentic.store.files import FilesStore

MEMORY = "greentic.state.in-memory@0.1.0"
REDIS = "acme.state.redis@1.0.0"
CANARY = "hunter2-s3cr3t"


class Line:
    """`gtc` with its own environments."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runner = CliRunner(env={"GREENTIC_STORE_ROOT": str(root), "GREENTIC_ENV": "", "CANARY": CANARY})

    def run(self, *words: str, stdin: str | bytes | None = None, status: int = 0) -> Any:
        """Run `gtc op WORDS --json`; the result, or the error when `status` says that there is one."""
        done = self.runner.invoke(cli, ["op", *words, "--json"], input=stdin)
        assert done.exit_code == status, (words, done.output, done.stderr, done.exception)
        if done.stdout:
            return json.loads(done.stdout)["result"]
        return json.loads(done.stderr.strip().splitlines()[-1])["error"]

    def told(self, *words: str, stdin: str | None = None) -> str:
        """What a person sees."""
        done = self.runner.invoke(cli, ["op", *words], input=stdin)
        assert done.exit_code == 0, (words, done.output)
        return done.stdout

    def answers(self, document: Any) -> str:
        path = self.root.parent / "answers.json"
        path.write_text(json.dumps(document))
        return str(path)


@pytest.fixture
def gtc(tmp_path: Path) -> Line:
    line = Line(tmp_path / "environments")
    line.run("env", "init", "--listen-addr", "127.0.0.1:0")
    return line


class TestEnvPacks:
    def test_what_is_installed_is_listed_by_slot(self, gtc: Line) -> None:
        rows = gtc.run("env-packs", "available")["env_packs"]
        assert {row["slot"] for row in rows} == {"deployer", "secrets", "telemetry", "sessions", "state", "revocation"}
        assert [row["path"] for row in gtc.run("env-packs", "available", "state")["env_packs"]] == [
            "greentic.state.in-memory",
            "greentic.state.sqlite",
        ]
        needs = gtc.run("env-packs", "describe", "greentic.deployer.local-process")["capabilities"]
        assert [one["id"] for one in needs] == ["local-process.fs.writable", "local-process.port.available"]

    @pytest.mark.parametrize(
        ("words", "kind"),
        [
            (("state", REDIS), "not-found"),
            (("state", "acme.state.redis"), "not-found"),
            (("state", "greentic.sessions.in-memory"), "conflict"),
            (("state", "greentic.state.in-memory@9.0.0"), "conflict"),
            (("colour", MEMORY), "invalid-argument"),
            (("messaging", MEMORY), "conflict"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_the_reason(self, gtc: Line, words: tuple[str, str], kind: str) -> None:
        status = {"not-found": 5, "conflict": 4, "invalid-argument": 2}[kind]
        error = gtc.run("env-packs", "update", *words, status=status)
        assert error["kind"] == kind
        assert gtc.run("env-packs", "list")["bindings"][-1]["kind"] == MEMORY

    def test_a_path_alone_is_bound_in_the_installed_version(self, gtc: Line) -> None:
        gtc.run("env-packs", "remove", "state")
        bound = gtc.run("env-packs", "add", "state", "greentic.state.in-memory")
        assert (bound["binding"]["kind"], bound["binding_generation"]) == (MEMORY, 1)

    def test_an_unknown_kind_is_bound_when_the_caller_insists(self, gtc: Line) -> None:
        gtc.run("env-packs", "update", "state", REDIS, "--allow-unknown", "--note", "try it", "--updated-by", "ops")
        (row,) = [one for one in gtc.run("env-packs", "list")["bindings"] if one["slot"] == "state"]
        assert (row["kind"], row["note"], row["updated_by"], row["has_previous"]) == (REDIS, "try it", "ops", True)
        assert gtc.run("env-packs", "rollback", "state")["binding"]["kind"] == MEMORY
        error = gtc.run("env-packs", "rollback", "state", status=5)
        assert "allow-unknown" in error["next_step"]
        assert gtc.run("env-packs", "rollback", "state", "--allow-unknown")["binding"]["kind"] == REDIS
        rows = gtc.run("env-packs", "history", "state")["bindings"]
        assert [(one["generation"], one["bound"]) for one in rows] == [(3, True), (2, False), (1, False), (0, False)]

    def test_a_rollback_brings_back_the_very_answers(self, gtc: Line, tmp_path: Path) -> None:
        seen = []
        for value in ("one", "two"):
            config = tmp_path / f"{value}.yaml"
            config.write_text(f"url: {value}\n")
            bound = gtc.run("env-packs", "update", "state", MEMORY, "--config", str(config))
            seen.append(bound["binding"]["answers_ref"])
        assert seen[0] != seen[1]
        restored = gtc.run("env-packs", "rollback", "state")["binding"]["answers_ref"]
        assert restored == seen[0]
        assert json.loads((gtc.root / "local" / restored).read_text()) == {"url": "one"}
        assert gtc.run("config", "show", "--slot", "state")["pack_answers"] == {
            "state": {"present": True, "keys": ["url"]}
        }

    def test_a_dry_run_changes_nothing(self, gtc: Line, tmp_path: Path) -> None:
        config = tmp_path / "c.json"
        config.write_text('{"a": 1}')
        gtc.run("env-packs", "update", "state", MEMORY, "--config", str(config), "--dry-run")
        gtc.run("env-packs", "remove", "state", "--dry-run")
        assert gtc.run("env-packs", "list")["bindings"][-1]["generation"] == 0
        assert not (gtc.root / "local" / "env-packs").exists()

    def test_answers_have_the_keys_of_the_reference(self, gtc: Line) -> None:
        document = {"environment_id": "local", "slot": "state", "kind": MEMORY, "pack_ref": "mine"}
        bound = gtc.run("env-packs", "update", "--answers", gtc.answers({**document, "idempotency_key": "k"}))
        assert bound["binding"]["pack_ref"] == "mine"
        again = gtc.run("env-packs", "update", "--answers", gtc.answers({**document, "idempotency_key": "k"}))
        assert again["replayed"]
        removed = gtc.run("env-packs", "remove", "--answers", gtc.answers({"slot": "state"}))
        assert removed["binding"]["pack_ref"] == "mine"
        error = gtc.run("env-packs", "add", "--answers", gtc.answers({**document, "answers_ref": "/etc"}), status=2)
        assert "answers_ref" in error["message"]

    def test_people_read_tables(self, gtc: Line) -> None:
        assert MEMORY in gtc.told("env-packs", "list")
        assert "greentic.state.in-memory" in gtc.told("env-packs", "available")
        assert "needs local-process" in gtc.told("env-packs", "describe", "greentic.deployer.local-process")
        assert "state: greentic" in gtc.told("env-packs", "update", "state", MEMORY, "--pack-ref", "x")
        assert "bound" in gtc.told("env-packs", "history", "state")


def test_extensions_live_like_env_packs(gtc: Line) -> None:
    gtc.run("extensions", "add", "acme.oauth@1.0.0", status=5)
    gtc.run("extensions", "add", "acme.oauth@1.0.0", "--instance", "eu", "--allow-unknown")
    gtc.run("extensions", "update", "acme.oauth@2.0.0", "--instance", "eu", "--allow-unknown")
    assert gtc.run("extensions", "list")["bindings"][0]["name"] == "acme.oauth/eu"
    gtc.run("extensions", "rollback", "acme.oauth", "--instance", "eu", "--allow-unknown")
    answers = gtc.answers({"kind": "acme.oauth@1.0.0", "instance_id": "eu"})
    assert gtc.run("extensions", "remove", "--answers", answers)["binding_generation"] == 2
    rows = gtc.run("extensions", "history", "acme.oauth/eu")["bindings"]
    assert [one["kind"] for one in rows] == ["acme.oauth@1.0.0", "acme.oauth@2.0.0", "acme.oauth@1.0.0"]
    assert "removed_at" in rows[0]
    assert gtc.run("extensions", "available")["env_packs"] == []
    assert "acme.oauth/eu" not in gtc.told("extensions", "list")


class TestEndpoints:
    def test_telegram_gets_a_random_secret_and_others_none(self, gtc: Line) -> None:
        added = gtc.run("messaging", "endpoint", "add", "telegram", "bot")
        reference = f"default/_/messaging-{added['endpoint_id'].lower()}/webhook_secret"
        assert added["webhook_secret_ref"] == f"secret://local/{reference}"
        value = gtc.run("secrets", "get", reference, "--reveal")["value"]
        assert len(value) == 32
        gtc.run("messaging", "endpoint", "rotate-webhook-secret", "bot")
        assert gtc.run("secrets", "get", reference, "--reveal")["value"] != value
        plain = gtc.run("messaging", "endpoint", "add", "slack", "team")
        assert "webhook_secret_ref" not in plain
        assert gtc.run("messaging", "endpoint", "rotate-webhook-secret", "team", status=2)["kind"] == "invalid-argument"

    def test_a_repetition_makes_no_second_secret(self, gtc: Line) -> None:
        words = ("messaging", "endpoint", "add", "telegram", "bot", "--idempotency-key", "k")
        added = gtc.run(*words)
        path = added["webhook_secret_ref"].removeprefix("secret://local/")
        value = gtc.run("secrets", "get", path, "--reveal")["value"]
        assert gtc.run(*words) == {**added, "replayed": True}
        assert gtc.run("secrets", "get", path, "--reveal")["value"] == value
        rotate = ("messaging", "endpoint", "rotate-webhook-secret", "bot", "--idempotency-key", "r")
        gtc.run(*rotate)
        value = gtc.run("secrets", "get", path, "--reveal")["value"]
        gtc.run(*rotate)
        assert gtc.run("secrets", "get", path, "--reveal")["value"] == value

    def test_what_is_refused_makes_no_secret(self, gtc: Line) -> None:
        gtc.run("messaging", "endpoint", "add", "telegram", "bot")
        before = gtc.run("secrets", "list")["secrets"]
        gtc.run("messaging", "endpoint", "add", "telegram", "bot", status=4)
        gtc.run("messaging", "endpoint", "add", "telegram", "other", "--dry-run")
        assert gtc.run("secrets", "list")["secrets"] == before

    def test_a_channel_reaches_bundles_by_name(self, gtc: Line) -> None:
        gtc.run("bundles", "add", "web")
        added = gtc.run("messaging", "endpoint", "add", "slack", "team", "--display-name", "The Team")
        gtc.run("messaging", "endpoint", "link-bundle", "The Team", "web")
        flow = ("--pack-id", "p", "--flow-id", "hi")
        gtc.run("messaging", "endpoint", "set-welcome-flow", "slack/team", "web", *flow)
        gtc.run("messaging", "endpoint", "unlink-bundle", "team", "web", status=4)
        shown = gtc.run("messaging", "endpoint", "show", added["endpoint_id"][:20])["endpoint"]
        assert shown["welcome_flow"] == {"bundle_id": "web", "pack_id": "p", "flow_id": "hi"}
        error = gtc.run("bundles", "remove", "web", status=4)
        assert error["next_step"] == "gtc op messaging endpoint unlink-bundle team web"
        assert "web" in gtc.told("messaging", "endpoint", "list")
        gtc.run("messaging", "endpoint", "clear-welcome-flow", "team")
        answers = {"endpoint_id": added["endpoint_id"], "bundle_id": "web"}
        gtc.run("messaging", "endpoint", "unlink-bundle", "--answers", gtc.answers(answers))
        assert gtc.run("messaging", "endpoint", "remove", "team")["removed"]
        assert not gtc.run("messaging", "endpoint", "remove", added["endpoint_id"])["removed"]
        assert gtc.run("messaging", "endpoint", "remove", "team", status=5)["kind"] == "not-found"


class TestSecrets:
    PATH = "acme/_/openai/api_key"

    def test_a_value_comes_from_standard_input_or_a_variable(self, gtc: Line) -> None:
        assert not gtc.run("secrets", "put", self.PATH, stdin=f"{CANARY}\n")["replaced"]
        assert gtc.run("secrets", "get", self.PATH, "--reveal")["value"] == CANARY
        assert gtc.run("secrets", "put", self.PATH, stdin="a\nb\n\n")["replaced"]
        assert gtc.run("secrets", "get", self.PATH, "--reveal")["value"] == "a\nb\n"
        gtc.run("secrets", "rotate", self.PATH, "--from-env", "CANARY")
        assert gtc.run("secrets", "get", self.PATH, "--reveal")["value"] == CANARY
        assert gtc.told("secrets", "get", self.PATH, "--reveal") == f"{CANARY}\n"

    def test_nobody_sees_a_value_unasked(self, gtc: Line) -> None:
        gtc.run("secrets", "put", self.PATH, stdin=CANARY)
        assert gtc.run("secrets", "get", self.PATH)["present"]
        seen = [gtc.told("secrets", "get", self.PATH), gtc.told("secrets", "list"), str(gtc.run("config", "show"))]
        seen += [path.read_bytes().decode("latin-1") for path in gtc.root.rglob("*") if path.is_file()]
        assert not any(CANARY in text for text in seen)

    def test_every_attempt_is_in_the_audit_log(self, gtc: Line) -> None:
        gtc.run("secrets", "put", self.PATH, stdin=CANARY)
        gtc.run("secrets", "get", self.PATH)
        gtc.run("secrets", "get", self.PATH, "--reveal")
        gtc.run("secrets", "rotate", self.PATH, "--generate")
        gtc.run("secrets", "delete", self.PATH)
        events = list(FilesStore(gtc.root).audit("local").events())
        told = [(one["verb"], one["target"].get("reveal")) for one in events if one["noun"] == "secrets"]
        assert told == [
            pair
            for verb, reveal in (("put", None), ("get", False), ("get", True), ("rotate", None), ("delete", None))
            for pair in [(verb, reveal)] * 2
        ]
        assert all(one["target"]["path"] == self.PATH for one in events if one["noun"] == "secrets")

    def test_a_key_has_one_effect_and_tells_values_apart(self, gtc: Line) -> None:
        words = ("secrets", "put", self.PATH, "--idempotency-key", "k")
        gtc.run(*words, stdin=CANARY)
        gtc.run("secrets", "put", self.PATH, stdin="newer")
        gtc.run(*words, stdin=CANARY)
        assert gtc.run("secrets", "get", self.PATH, "--reveal")["value"] == "newer"
        error = gtc.run(*words, stdin="another", status=4)
        assert error["details"]["reason"] == "idempotency-conflict"

    @pytest.mark.parametrize("stdin", ["", "\n", "x" * 70_000, b"\xff"])
    def test_a_value_that_cannot_be_kept_is_refused(self, gtc: Line, stdin: str | bytes) -> None:
        assert gtc.run("secrets", "put", self.PATH, stdin=stdin, status=2)["kind"] == "invalid-argument"
        assert gtc.run("secrets", "list")["secrets"] == []

    def test_an_argument_or_an_answers_file_holds_no_value(self, gtc: Line) -> None:
        done = gtc.runner.invoke(cli, ["op", "secrets", "put", self.PATH, CANARY])
        assert done.exit_code == 2
        error = gtc.run("secrets", "put", "--answers", gtc.answers({"path": self.PATH, "value": CANARY}), status=2)
        assert CANARY not in str(error)

    def test_what_is_not_there_cannot_be_rotated(self, gtc: Line) -> None:
        assert gtc.run("secrets", "rotate", self.PATH, "--generate", status=5)["kind"] == "not-found"
        assert not gtc.run("secrets", "delete", self.PATH)["deleted"]
        assert not gtc.run("secrets", "get", self.PATH)["present"]
        assert not gtc.run("secrets", "put", self.PATH, "--generate", "--dry-run")["written"]
        assert gtc.run("secrets", "list")["secrets"] == []

    def test_a_team_falls_back_to_the_whole_tenant(self, gtc: Line) -> None:
        gtc.run("secrets", "put", self.PATH, stdin=CANARY)
        found = gtc.run("secrets", "get", "acme/blue/openai/api_key", "--reveal")
        assert (found["value"], found["secret_ref"]) == (CANARY, f"secret://local/{self.PATH}")

    def test_what_the_record_mentions_and_is_not_there_is_named(self, gtc: Line) -> None:
        words = ("messaging", "endpoint", "add", "slack", "team")
        gtc.run(*words, "--secret-ref", f"secret://local/{self.PATH}", "--secret-ref", "secret://local/odd")
        told = [(row["secret_ref"], row["present"]) for row in gtc.run("secrets", "list")["known_refs"]]
        assert told == [(f"secret://local/{self.PATH}", False), ("secret://local/odd", None)]
        assert "missing" in gtc.told("secrets", "list")
        gtc.run("secrets", "put", self.PATH, stdin=CANARY)
        assert gtc.run("secrets", "list")["known_refs"][0]["present"]

    def test_without_an_env_pack_there_is_no_place(self, gtc: Line) -> None:
        gtc.run("env-packs", "remove", "secrets")
        assert "env-packs add secrets" in gtc.run("secrets", "list", status=4)["next_step"]


class TestCredentials:
    def test_the_verdict_is_kept(self, gtc: Line) -> None:
        told = gtc.run("credentials", "requirements")
        assert (told["result"], told["missing_capabilities"]) == ("pass", [])
        assert [check["status"] for check in told["checks"]] == ["pass", "pass"]
        document = json.loads((gtc.root / "local" / "credentials.json").read_text())
        kept = parse(Credentials, document, "it")
        assert (kept.validation.result.value, kept.mode.value) == ("pass", "requirements")
        assert not list((gtc.root / "local").glob(".greentic-probe*"))

    def test_a_port_that_is_taken_fails_the_check(self, gtc: Line) -> None:
        import socket

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            gtc.run("config", "set", "--listen-addr", f"127.0.0.1:{taken.getsockname()[1]}")
            told = gtc.run("credentials", "requirements", status=7)
        assert told["missing_capabilities"] == ["local-process.port.available"]
        assert told["result"] == "fail"
        assert "in use" in told["checks"][1]["reason"]

    def test_there_is_nothing_to_bootstrap_on_one_machine(self, gtc: Line) -> None:
        error = gtc.run("credentials", "bootstrap", status=4)
        assert error["details"]["reason"] == "not-applicable"
        gtc.run("env-packs", "remove", "deployer")
        assert gtc.run("credentials", "requirements", status=4)["details"] == {
            "missing_capabilities": ["credentials.bind-pending"]
        }


class TestConfig:
    def test_show_gives_names_of_answers_and_discoveries(self, gtc: Line) -> None:
        assert gtc.run("config", "show")["runtime"] is None
        runtime = {
            "schema": "greentic.environment-runtime.v1",
            "environment_id": "local",
            "discovered": {"listen_addr": "127.0.0.1:8080"},
            "generated_at": "2026-07-24T10:00:00Z",
            "generated_by": "greentic.deployer.local-process@0.1.0",
            "generation": 1,
        }
        path = gtc.root / "local" / "runtime.json"
        path.write_text(json.dumps(runtime))
        assert gtc.run("config", "show")["runtime"] == runtime
        assert "127.0.0.1:8080" in gtc.told("config", "show")
        path.write_text("{")
        assert "error" in gtc.run("config", "show")["runtime"]

    def test_set_keeps_sets_and_clears(self, gtc: Line) -> None:
        gtc.run("config", "set", "--region", "eu", "--tenant-org", "acme")
        answers = gtc.answers({"region": None, "clear": ["tenant_org_id"], "gui_enabled": True})
        host = gtc.run("config", "set", "--answers", answers)["host_config"]
        assert (host["region"], host["gui_enabled"], "tenant_org_id" in host) == ("eu", True, False)
        assert gtc.run("config", "set", status=2)["kind"] == "invalid-argument"
        assert gtc.run("config", "set", "--clear", "env-id", status=2)["kind"] == "answers-parse"


def test_tools_are_checked(gtc: Line) -> None:
    told = gtc.run("env", "tool-check")
    assert (told["total_checks"], told["failed_checks"]) == (2, 0)
    gtc.run("env-packs", "update", "state", REDIS, "--allow-unknown")
    told = gtc.run("env", "tool-check", status=7)
    assert told["unresolved_bindings"][0]["kind"] == REDIS


def test_retiring_what_is_not_there_is_done_already(gtc: Line) -> None:
    assert gtc.run("bundles", "retire", "web")["state"] == "absent"
    gtc.run("bundles", "add", "web")
    assert gtc.run("bundles", "retire", "web", "--dry-run")["state"] == "present"
    assert gtc.run("bundles", "retire", "web")["state"] == "retired"
    assert gtc.run("bundles", "list")["deployments"] == []


def test_schemas_stand_at_the_top_and_only_there(gtc: Line) -> None:
    done = gtc.runner.invoke(cli, ["schema", "list", "--json"])
    assert json.loads(done.stdout)["result"]["schemas"] == sorted(names())
    for name in names():
        shown = gtc.runner.invoke(cli, ["schema", "show", name, "--json"])
        Draft202012Validator.check_schema(json.loads(shown.stdout)["result"])
    assert gtc.runner.invoke(cli, ["schema", "show", "nothing", "--json"]).exit_code == 5
    assert gtc.runner.invoke(cli, ["op", "schema", "list"]).exit_code == 2


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb of the command line by its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from verbs(found, (*path, name))
    else:
        yield path


def test_every_verb_tells_what_it_takes(tmp_path: Path) -> None:
    runner = CliRunner(env={"GREENTIC_STORE_ROOT": str(tmp_path / "none")})
    vague = {}
    for path in verbs(cli):
        done = runner.invoke(cli, [*path, "--schema", "--json"])
        for word in ("bash", "x"):
            if done.exit_code == 2:  # an argument is required before anything else
                done = runner.invoke(cli, [*path, word, "--schema", "--json"])
        assert done.exit_code == 0, (path, done.output)
        schema = json.loads(done.stdout)["result"]
        Draft202012Validator.check_schema(schema)
        untold = [key for key, told in schema["properties"].items() if not told]
        if untold:
            vague[" ".join(path)] = untold
    assert not vague, "nothing is said of these keys"
    assert not (tmp_path / "none").exists()
