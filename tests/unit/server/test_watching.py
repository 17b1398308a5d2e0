"""Streams: an environment and its audit log as they change."""

from __future__ import annotations

import contextlib
import json
import time

import httpx2
import pytest
from scene import ENV, ok, refused
from test_access import guarded, keys  # noqa: F401 - fixtures

from greentic.server import tokens


@contextlib.contextmanager
def stream(server, path, **headers):
    """The events of a stream, as (name, id, data)."""
    named = {"accept": "text/event-stream", **headers}
    with (
        httpx2.Client(base_url=server.url, trust_env=False, verify=False, timeout=20) as client,
        client.stream("GET", path.lstrip("/"), headers=named) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events(response.iter_lines())


def events(lines):
    found = {}
    for line in lines:
        if not line:
            if "event" in found:
                yield found["event"], int(found["id"]), json.loads(found["data"])
            found = {}
            continue
        name, _, value = line.partition(": ")
        found[name] = value


def test_an_environment_as_it_changes(env):
    with stream(env, f"{ENV}/watch") as found:
        assert next(found)[:2] == ("environment", 1)
        told = ok(env.ask("PATCH", ENV, {"name": "x"}))
        name, number, data = next(found)
        assert (name, number, data["etag"]) == ("environment", 2, told["etag"])


def test_who_knows_the_newest_state_is_told_of_the_next(env):
    with stream(env, f"{ENV}/watch", **{"last-event-id": "1"}) as found:
        ok(env.ask("PATCH", ENV, {"name": "x"}))
        assert next(found)[1] == 2


def test_an_audit_log_is_followed_and_resumed(env):
    with stream(env, f"{ENV}/audit") as found:
        first = next(found)
        assert first[2]["verb"] == "create"
        ok(env.ask("PATCH", ENV, {"name": "x"}, key="followed"))
        assert next(found)[2]["idempotency_key"] == "followed"
    with stream(env, f"{ENV}/audit", **{"last-event-id": str(first[1])}) as found:
        assert next(found)[2]["idempotency_key"] == "followed"


@pytest.mark.parametrize("path", ["watch", "audit"])
@pytest.mark.parametrize("narrowed", [None, {"env_ids": ("other",)}, {"customer_ids": ("acme",)}])
def test_a_busy_stream_ends_with_its_callers_right_to_it(guarded, monkeypatch, path, narrowed):  # noqa: F811
    """No silence is waited for: the right is looked at again before anything is sent."""
    root, value = guarded.keys_of.values["root"], guarded.keys_of("reader", "read-only")
    with stream(guarded, f"{ENV}/{path}", authorization=f"Bearer {value}") as found:
        next(found)
        monkeypatch.setattr(guarded.desk, "clock", lambda: time.monotonic() + 20)
        ok(guarded.ask("PATCH", ENV, {"name": "known"}, token=root))
        assert next(found)[1] > 1, "who may still be told is told, however old the stream"
        (entry,) = (one for one in tokens.read(guarded.keys_of.path).tokens if one.actor == "reader")
        tokens.remove(guarded.keys_of.path, entry.token_id)
        if narrowed is not None:
            tokens.add(guarded.keys_of.path, entry.model_copy(update=narrowed))
        monkeypatch.setattr(guarded.desk, "clock", lambda: time.monotonic() + 40)
        ok(guarded.ask("PATCH", ENV, {"name": "not for them"}, token=root))
        if (path, narrowed) == ("watch", {"customer_ids": ("acme",)}):
            assert next(found)[1] > 2, "generations are for customers, too"
        else:
            assert next(found, None) is None


def test_what_cannot_be_streamed(env):
    refused(env.ask("GET", "/environments/ghost/watch"), 404, "not-found")
    refused(env.ask("GET", "/environments/ghost/audit", accept="text/event-stream"), 404, "not-found")
    refused(env.ask("GET", f"{ENV}/audit", accept="text/event-stream", last_event_id="x"), 400, "invalid-request")


@pytest.mark.parametrize("query", ["after=-1", "limit=0", "limit=1001", "after=x"])
def test_pages_that_are_none(env, query):
    refused(env.ask("GET", f"{ENV}/audit?{query}"), 400, "invalid-request")


def test_pages_of_an_audit_log(env):
    for number in range(3):
        ok(env.ask("PATCH", ENV, {"name": f"n{number}"}))
    whole = ok(env.ask("GET", f"{ENV}/audit"))["events"]
    first = ok(env.ask("GET", f"{ENV}/audit?limit=2"))
    rest = ok(env.ask("GET", f"{ENV}/audit?after={first['next']}"))
    assert first["events"] + rest["events"] == whole
    assert ok(env.ask("GET", f"{ENV}/audit?after={rest['next']}"))["events"] == []
