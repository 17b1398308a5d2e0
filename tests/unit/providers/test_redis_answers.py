"""What may be answered to `greentic.sessions.redis`, and what the routers are told of it."""

from __future__ import annotations

from typing import Any

import pytest

from greentic.envpacks.registry import Registry
from greentic.envpacks.secrets import SecretValue
from greentic.envpacks.sessions import SessionsContext
from greentic.providers.redis import answers as module
from greentic.providers.redis.answers import RedisSessions
from greentic.spec.capabilities import Slot
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument, NotFound

GOOD = {"url": "redis://user@redis.example:6380/2"}
REFERENCE = "secret://zain/default/_/redis/password"


def test_it_is_found_by_its_entry_points() -> None:
    pack = Registry.installed().resolve("greentic.sessions.redis@0.1.0", Slot.SESSIONS)
    assert pack.sessions is not None
    pack.sessions().check("zain", GOOD)


def test_settings_have_their_defaults_and_the_password() -> None:
    context = SessionsContext("zain", {**GOOD, "password_ref": REFERENCE}, lambda _: SecretValue("hunter2"))
    settings = RedisSessions().settings(context)
    assert settings == {"url": GOOD["url"], "namespace": "gt", "timeout_ms": 50, "password": "hunter2"}
    assert RedisSessions().settings(SessionsContext("zain", {**GOOD, "namespace": "a.b", "timeout_ms": 9})) == {
        **GOOD,
        "namespace": "a.b",
        "timeout_ms": 9,
    }


def test_a_secret_that_is_not_there() -> None:
    with pytest.raises(NotFound) as caught:
        RedisSessions().settings(SessionsContext("zain", {**GOOD, "password_ref": REFERENCE}))
    assert caught.value.next_step == "gtc op secrets put default/_/redis/password"


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h:1/0", "rediss://u@h/3", "redis://[::1]:6379", "unix:///run/r.sock"]
)
def test_urls(url: str) -> None:
    RedisSessions().check("zain", {"url": url})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"url": ""},
        {"url": 3},
        {"url": "http://h"},
        {"url": "redis://"},
        {"url": "h:6379"},
        {"url": "redis://h:port"},
        {"url": "redis://:hunter2@h"},
        {"url": "redis://u:hunter2@h"},
        {"url": "redis://h?password=hunter2"},
        {"url": "redis://[hunter2"},
        {**GOOD, "password": "hunter2"},
        {**GOOD, "namespace": "a:b"},
        {**GOOD, "namespace": ""},
        {**GOOD, "namespace": 1},
        {**GOOD, "timeout_ms": 0},
        {**GOOD, "timeout_ms": 1001},
        {**GOOD, "timeout_ms": True},
        {**GOOD, "timeout_ms": 5.5},
        {**GOOD, "password_ref": "hunter2"},
        {**GOOD, "password_ref": 3},
        {**GOOD, "password_ref": "secret://other/default/_/redis/password"},
    ],
)
def test_answers_that_cannot_work_are_refused_and_show_no_password(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        RedisSessions().check("zain", wrong)
    assert "hunter2" not in str(caught.value.document())


def test_a_machine_without_the_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(Conflict) as caught:
        RedisSessions().check("zain", GOOD)
    assert isinstance(caught.value, GreenticError)
    assert caught.value.next_step == "pip install 'greentic[redis]'"
