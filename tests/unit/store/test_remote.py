"""The client of a store server: which server, which token, what is sent again, and what is believed."""

from __future__ import annotations

import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.spec.errors import (
    AlreadyExists,
    Conflict,
    CorruptDocument,
    Denied,
    GateFailed,
    InvalidArgument,
    NotFound,
    NotImplementedYet,
    StoreError,
    TimedOut,
)
from greentic.store.conformance import WALK
from greentic.store.remote import Origin, RemoteStore, chosen
from greentic.store.remote.transport import ATTEMPTS, Transport, joined

ETAG = "a" * 64
ENVIRONMENT = {
    "schema": "greentic.environment.v1",
    "environment_id": WALK.environment_id,
    "name": "n",
    "host_config": {"env_id": WALK.environment_id},
    "packs": [],
}


class TestOrigin:
    def test_no_server_is_this_machine(self):
        assert chosen(None, None, {}) is None
        assert chosen(None, None, {"GREENTIC_STORE_URL": "", "GREENTIC_STORE_TOKEN": "t"}) is None

    @pytest.mark.parametrize(
        ("url", "token", "shown"),
        [
            (None, None, "env"),
            (None, "flag", "flag"),
            ("https://flag", None, None),
            ("https://flag", "flag", "flag"),
            ("https://env", None, None),
        ],
    )
    def test_a_token_goes_to_its_own_server_only(self, url, token, shown):
        surroundings = {"GREENTIC_STORE_URL": "https://env", "GREENTIC_STORE_TOKEN": "env"}
        assert chosen(url, token, surroundings).token == shown

    def test_a_token_without_a_server(self):
        with pytest.raises(InvalidArgument):
            chosen(None, "t", {})

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:5", "https://far.example"])
    def test_where_a_token_may_go(self, url):
        assert chosen(url, "t", {}).url.endswith("/")

    @pytest.mark.parametrize(
        "url",
        [
            "http://far.example",
            "http://127.0.0.1.evil.example",
            "http://10.0.0.1",
            "ftp://localhost",
            "localhost:8787",
            "https://user:password@far.example",
            "https://far.example/?q=1",
            "https://far.example/#x",
            "https://far.example/a/../b",
            "https://far.example/%2e%2E/b",
            "https://[",
            "https://far.example:port",
        ],
    )
    def test_where_it_may_not(self, url):
        with pytest.raises(InvalidArgument) as refused:
            chosen(url, "t", {})
        assert "password" not in refused.value.message.replace("no user", "")

    @pytest.mark.parametrize("token", ["a b", "a\nb", "ä"])
    def test_tokens_that_cannot_be_sent(self, token):
        with pytest.raises(InvalidArgument):
            chosen("https://x", token, {})

    def test_a_token_is_not_shown(self):
        assert "secret" not in repr(chosen("https://x", "secret", {}))

    @given(st.text(min_size=1, max_size=20))
    def test_no_segment_leads_elsewhere(self, segment):
        try:
            path = joined("environments", segment)
        except InvalidArgument:
            assert not segment.strip(".")
            return
        except UnicodeEncodeError:
            return
        assert path.count("/") == 1
        assert httpx2.URL("http://x/").join(path).path.startswith("/environments/")


class Wire:
    """A server that answers as it is told, request by request."""

    def __init__(self, *answers):
        self.answers, self.requests, self.pauses = list(answers), [], []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def store(self, tmp_path, token=None):
        origin = Origin("http://127.0.0.1:1/", token)
        transport = Transport(
            origin, transport=httpx2.MockTransport(self), sleep=self.pauses.append, chance=lambda: 0.5
        )
        return RemoteStore(origin, tmp_path, transport)


def envelope(**changes):
    told = {
        "result": {},
        "etag": ETAG,
        "generation": 2,
        "idempotency": {"idempotency": "applied"},
        "audit": {
            "env_id": WALK.environment_id,
            "idempotency_key": "rename-x",
            "authorization": {"decision": "allow"},
            "result": {"outcome": "ok"},
        },
        "present": {"environment": ENVIRONMENT, "etag": ETAG, "generation": 2},
    }
    return httpx2.Response(200, json={**told, **changes})


def refusal(status, kind, **more):
    return httpx2.Response(status, json={"kind": kind, **more})


class TestSending:
    def test_once_when_it_is_answered(self, tmp_path):
        wire = Wire(envelope())
        applied = wire.store(tmp_path, "t").apply(WALK.rename("x"), expected_generation=7, if_match=ETAG)
        assert (applied.generation, applied.replayed) == (2, False)
        [sent] = wire.requests
        assert (sent.method, sent.url.path) == ("POST", "/environments/conform/verbs/env/update")
        assert sent.headers["idempotency-key"] == "rename-x"
        assert sent.headers["if-match"] == f'"{ETAG}"'
        assert sent.headers["if-generation-match"] == "7"
        assert sent.headers["authorization"] == "Bearer t"
        assert json.loads(sent.content)["name"] == "x"

    @pytest.mark.parametrize(
        "trouble",
        [
            httpx2.ReadError("cut"),
            httpx2.ReadTimeout("slow"),
            httpx2.ConnectError("no"),
            httpx2.Response(502),
            httpx2.Response(503),
            httpx2.Response(504),
            refusal(429, "throttled"),
        ],
    )
    def test_again_under_the_same_key(self, tmp_path, trouble):
        wire = Wire(trouble, trouble, envelope(idempotency={"idempotency": "replayed"}))
        assert wire.store(tmp_path).apply(WALK.rename("x")).replayed
        assert {one.headers["idempotency-key"] for one in wire.requests} == {"rename-x"}
        assert len({one.content for one in wire.requests}) == 1
        assert wire.pauses == [0.1, pytest.approx(0.3)]

    @pytest.mark.parametrize("trouble", [httpx2.ReadError("cut"), httpx2.Response(502), httpx2.Response(503)])
    def test_what_stays_unknown_is_told_with_its_key(self, tmp_path, trouble):
        wire = Wire(trouble)
        with pytest.raises(StoreError, match="not known") as failed:
            wire.store(tmp_path).apply(WALK.rename("x"))
        assert len(wire.requests) == ATTEMPTS
        assert failed.value.details == {"committed": "unknown", "idempotency_key": "rename-x"}
        assert "--idempotency-key rename-x" in failed.value.next_step

    def test_what_never_left_is_no_riddle(self, tmp_path):
        with pytest.raises(StoreError, match="does not answer") as failed:
            Wire(httpx2.ConnectError("refused")).store(tmp_path).apply(WALK.rename("x"))
        assert "committed" not in failed.value.details

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 422, 500, 501])
    def test_a_refusal_is_not_sent_again(self, tmp_path, status):
        wire = Wire(httpx2.Response(status, json={"kind": "x"}))
        with pytest.raises(Exception):  # noqa: B017
            wire.store(tmp_path).apply(WALK.rename("x"))
        assert len(wire.requests) == 1

    def test_no_redirect_is_followed(self, tmp_path):
        wire = Wire(httpx2.Response(307, headers={"location": "http://evil.example/"}))
        with pytest.raises(StoreError, match="points elsewhere"):
            wire.store(tmp_path, "t").load("x")
        assert len(wire.requests) == 1

    def test_a_known_state_is_not_sent_again(self, tmp_path):
        whole = httpx2.Response(200, json={"environment": ENVIRONMENT, "etag": ETAG, "generation": 2})
        wire = Wire(whole, httpx2.Response(304))
        store = wire.store(tmp_path)
        assert store.load(WALK.environment_id) is store.load(WALK.environment_id)
        assert wire.requests[1].headers["if-none-match"] == f'"{ETAG}"'


class TestBelieving:
    AUDIT = json.loads(envelope().content)["audit"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"etag": None},
            {"audit": None},
            {"audit": {**AUDIT, "env_id": "other"}},
            {"audit": {**AUDIT, "idempotency_key": "other"}},
            {"audit": {**AUDIT, "authorization": {"decision": "deny"}}},
            {"audit": {**AUDIT, "result": {"outcome": "error"}}},
            {"present": None},
            {"present": {"environment": {**ENVIRONMENT, "environment_id": "other"}, "etag": ETAG, "generation": 2}},
            {"present": {"environment": {}, "etag": ETAG, "generation": 2}},
            {"result": None},
        ],
    )
    def test_a_success_without_its_evidence(self, tmp_path, changes):
        with pytest.raises(StoreError) as failed:
            Wire(envelope(**changes)).store(tmp_path).apply(WALK.rename("x"))
        assert failed.value.details["committed"] == "unknown"

    @pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"1"])
    def test_a_success_in_other_words(self, tmp_path, content):
        with pytest.raises(StoreError) as failed:
            Wire(httpx2.Response(200, content=content)).store(tmp_path).apply(WALK.rename("x"))
        assert failed.value.details["committed"] == "unknown"
        with pytest.raises(StoreError):
            Wire(httpx2.Response(200, content=content)).store(tmp_path).load("x")
        with pytest.raises(StoreError):
            Wire(httpx2.Response(200, content=content)).store(tmp_path).list()

    @pytest.mark.parametrize(
        ("status", "kind", "more", "raised"),
        [
            (400, "invalid-request", {"detail": "d"}, InvalidArgument),
            (401, "unauthorized", {"policy": "p", "reason": "r"}, Denied),
            (403, "unauthorized", {"policy": "p", "reason": "r"}, Denied),
            (404, "not-found", {}, NotFound),
            (404, "dependent-not-found", {"detail": "d"}, NotFound),
            (409, "already-exists", {"detail": "d"}, AlreadyExists),
            (409, "conflict", {"detail": "d"}, Conflict),
            (409, "idempotency-conflict", {"reason": "r"}, Conflict),
            (412, "precondition-failed", {"actual_etag": ETAG, "actual_generation": 3}, Conflict),
            (422, "health-gate-failed", {"revision_id": "r", "failed_checks": [], "message": "m"}, GateFailed),
            (422, "integrity-mismatch", {"expected": "a", "actual": "b"}, CorruptDocument),
            (428, "precondition-required", {"detail": "d"}, Conflict),
            (500, "internal", {"message": "m"}, StoreError),
            (501, "not-yet-implemented", {"detail": "d"}, NotImplementedYet),
        ],
    )
    def test_every_kind(self, tmp_path, status, kind, more, raised):
        with pytest.raises(raised) as failed:
            Wire(refusal(status, kind, **more)).store(tmp_path).load("x")
        assert type(failed.value) is raised

    def test_a_status_that_contradicts_its_kind(self, tmp_path):
        with pytest.raises(StoreError, match="contradicts"):
            Wire(refusal(403, "not-found")).store(tmp_path).load("x")

    def test_our_own_words_come_back_whole(self, tmp_path):
        told = {"kind": "conflict", "message": "m", "details": {"a": 1}, "next_step": "gtc op status"}
        with pytest.raises(Conflict) as failed:
            Wire(refusal(409, "conflict", detail="d", error=told)).store(tmp_path).load("x")
        assert failed.value.document() == told

    @pytest.mark.parametrize(("status", "raised"), [(401, Denied), (403, Denied), (500, StoreError), (418, StoreError)])
    def test_what_is_not_the_servers(self, tmp_path, status, raised):
        with pytest.raises(raised):
            Wire(httpx2.Response(status, content=b"<html>proxy</html>")).store(tmp_path).load("x")

    def test_too_busy_for_long(self, tmp_path):
        with pytest.raises(TimedOut):
            Wire(refusal(503, "busy", detail="d")).store(tmp_path).load("x")


def test_names_stay_inside(tmp_path):
    store = Wire(httpx2.Response(404)).store(tmp_path)
    for name in ("..", ".", "a/b", "", "a\0"):
        with pytest.raises(InvalidArgument):
            store.load(name)
        with pytest.raises(InvalidArgument):
            store.artifacts(name)
    folder = store.artifacts("prod")
    assert folder.is_relative_to(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
