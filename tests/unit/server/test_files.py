"""What stands beside a document leaves the server only where it is meant to be seen."""

from __future__ import annotations

import pytest

from greentic.spec.errors import InvalidArgument
from greentic.store.files import FilesStore


@pytest.fixture
def env(server):
    """A server over a folder, with the environment `local`."""
    server.desk.store = FilesStore(server.root / "environments")
    body = {"env_id": "local", "name": "local", "host_config": {"env_id": "local"}}
    assert server.ask("POST", "/environments", body).status_code == 200
    return server


def test_files_that_are_meant_to_be_seen(env):
    folder = env.desk.store.artifacts("local") / "billing-policies" / "web" / "acme"
    folder.mkdir(parents=True)
    (folder / "v1.json").write_bytes(b"{}\n")
    files = env.client().files("local")
    assert files.names("billing-policies") == ("billing-policies/web/acme/v1.json",)
    assert files.read("billing-policies/web/acme/v1.json") == b"{}\n"
    assert files.read("billing-policies/web/acme/v2.json") is None


@pytest.mark.parametrize(
    "path", ["router-keys.json", "environment.json", "audit/events.jsonl", ".lock", "run/desired.json", "secrets/x"]
)
def test_everything_else_is_as_if_it_were_not_there(env, path):
    (env.desk.store.artifacts("local") / "router-keys.json").write_text("KEY")
    assert env.client().files("local").read(path) is None
    told = env.ask("GET", f"/environments/local/files/{path}")
    assert told.status_code == 404
    assert "KEY" not in told.text


@pytest.mark.parametrize(
    "path", ["..", "billing-policies/../router-keys.json", "billing-policies/%2e%2e/router-keys.json"]
)
def test_no_path_leads_out(env, path):
    (env.desk.store.artifacts("local") / "router-keys.json").write_text("KEY")
    with pytest.raises(InvalidArgument):
        env.client().files("local").read("billing-policies/../router-keys.json")
    assert "KEY" not in env.ask("GET", f"/environments/local/files/{path}").text
