"""A program in another language than greentic's own fills every slot: the contracts hold over the wire, and whatever it
does is an error of that call.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command_line import CommandLine
from tests.integration.executable_packs import installed, write
from tests.integration.slot_program import PROGRAM, PROVIDER

from greentic.envpacks.executables import Executable
from greentic.envpacks.offering import pack_of
from greentic.envpacks.registry import EnvPack
from greentic.envpacks.revocation import RevocationContext
from greentic.envpacks.secrets import SecretsContext, SecretValue
from greentic.envpacks.sessions import SessionsContext
from greentic.envpacks.state import ABSENT, MAX_VALUE, StateContext, StateScope
from greentic.envpacks.telemetry import TelemetryContext
from greentic.providers.executable import pin_store, span_exporter
from greentic.router.pin_conformance import ALL, CHECKS, SCOPE
from greentic.router.pins import Pin
from greentic.router.spans import Origin, Span
from greentic.spec.errors import Conflict, InvalidArgument, NotFound, ProviderError, SpecViolation, TimedOut
from greentic.spec.secrets import SecretAddress

VALUE = "correct horse\nbattery"
ADDRESS = SecretAddress.of_path("local", "acme/_/openai/api_key")


def admit(_: Any) -> None:
    """Everybody."""


def executable(place: Path, slot: str, program: str = PROGRAM, **fields: Any) -> Executable:
    return installed(place, PROVIDER, files={"program.py": program}, slot=slot, path=f"acme.{slot}.test", **fields)


def offered(place: Path, slot: str, **fields: Any) -> EnvPack:
    return pack_of(executable(place, slot, **fields), admit)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "environment"
    found.mkdir()
    return found


# Secrets


def test_secrets_by_an_executable(tmp_path: Path, folder: Path) -> None:
    pack = offered(tmp_path, "secrets")
    assert pack.secrets is not None
    store = pack.secrets(SecretsContext("local", folder))
    value = SecretValue(VALUE)
    assert store.names() == ()
    assert store.get(ADDRESS) is None
    assert not store.put(ADDRESS, value, "2026-11-01T00:00:00Z")
    assert store.put(ADDRESS, value, "2026-11-01T00:00:00Z")
    assert store.get(ADDRESS) == value
    assert [entry.address for entry in store.names()] == [ADDRESS]
    assert store.mark(ADDRESS, value, "k") == store.mark(ADDRESS, value, "k") != store.mark(ADDRESS, value, "other")
    assert store.place() == "a file of the program"
    assert store.delete(ADDRESS)
    assert not store.delete(ADDRESS)


def test_a_secret_that_the_program_says_aloud_is_written_nowhere(tmp_path: Path, folder: Path) -> None:
    store = offered(tmp_path, "secrets").secrets(SecretsContext("local", folder))  # type: ignore[misc]
    store.put(ADDRESS, SecretValue(VALUE), "2026-11-01T00:00:00Z")
    assert store.get(ADDRESS) == SecretValue(VALUE)
    log = (folder / "logs" / "env-packs" / "acme.secrets.test.log").read_text()
    assert "keeping [hidden]" in log
    assert "the value is [hidden]" in log
    assert "horse" not in log
    assert "battery" not in log
    with pytest.raises(ProviderError, match="exit status 3") as caught:
        store.get(SecretAddress.of_path("local", "acme/_/openai/crash"))
    assert "hunter2" not in f"{caught.value.message} {caught.value.details}"
    assert "left out" in str(caught.value.details)
    assert "hunter2" not in (folder / "logs" / "env-packs" / "acme.secrets.test.log").read_text()


def test_a_secret_that_is_none_is_refused_without_its_words(tmp_path: Path, folder: Path) -> None:
    program = PROGRAM.replace("return None if held is None else held[0]", "return ['hunter2']")
    store = offered(tmp_path, "secrets", program=program).secrets(SecretsContext("local", folder))  # type: ignore[misc]
    with pytest.raises(ProviderError, match="something else than the contract says") as caught:
        store.get(ADDRESS)
    assert "hunter2" not in f"{caught.value.message} {caught.value.details}"


def test_secrets_are_asked_for_inside_of_a_loop(tmp_path: Path, folder: Path) -> None:
    store = offered(tmp_path, "secrets").secrets(SecretsContext("local", folder))  # type: ignore[misc]

    async def inside() -> Any:
        return store.get(ADDRESS)

    assert asyncio.run(inside()) is None


# State


def test_state_by_an_executable(tmp_path: Path, folder: Path) -> None:
    pack = offered(tmp_path, "state")
    assert pack.state is not None
    scope, other = StateScope("local", "D1", "acme"), StateScope("local", "D1", "other")

    async def scenario() -> None:
        one, two = (pack.state(StateContext("local", folder)) for _ in range(2))  # type: ignore[misc]
        assert await one.get(scope, "k", 1.0) is None
        assert await one.put(scope, "k", b"\x00\xff", 1.0, expected=ABSENT) == 1
        found = await two.get(scope, "k", 1.0)
        assert found is not None
        assert (found.data, found.version, found.expires) == (b"\x00\xff", 1, None)
        with pytest.raises(Conflict, match="another version"):
            await two.put(scope, "k", b"", 1.0, expected=ABSENT)
        raced = await asyncio.gather(
            *(store.put(scope, "k", b"x", 1.0, expected=1) for store in (one, two) for _ in range(5)),
            return_exceptions=True,
        )
        assert sorted(type(one).__name__ for one in raced) == ["Conflict"] * 9 + ["int"]
        assert await one.get(other, "k", 1.0) is None
        assert await one.put(scope, "kk", b"", 1.0, expires=5.0) == 1
        assert await two.keys(scope, "k", 1.0) == ("k", "kk")
        assert await two.keys(scope, "k", 5.0) == ("k",)
        assert await one.delete(scope, "k", 1.0)
        assert await one.put(scope, "k", b"", 1.0) == 3, "versions grow over a deletion"
        with pytest.raises(InvalidArgument):
            await one.put(scope, "", b"", 1.0)
        with pytest.raises(InvalidArgument):
            await one.put(scope, "k", b"x" * (MAX_VALUE + 1), 1.0)
        await one.close()
        assert await one.get(scope, "k", 1.0) is not None, "another process is started when it is needed"
        await one.close()
        await two.close()

    asyncio.run(scenario())
    left = [path.name for path in (tmp_path / "env-packs" / ".running").iterdir()]
    assert left == [".lock"], "the kept process has ended, and its folder with it"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("os._exit(9)", ProviderError),
        ("print('hello', flush=True)", ProviderError),
        ("time.sleep(60)", TimedOut),
        ("raise ValueError('my fault')", ProviderError),
    ],
)
def test_what_a_kept_program_does_is_an_error_of_those_calls(
    tmp_path: Path, folder: Path, words: str, error: type[Exception]
) -> None:
    program = PROGRAM.replace(
        "def answer(method, told):", f"def answer(method, told):\n    if 'bad' in told.values(): {words}"
    )
    pack = offered(tmp_path, "state", program=program, timeouts={"get": 1})
    scope = StateScope("local", "D1", "acme")

    async def scenario() -> None:
        store = pack.state(StateContext("local", folder))  # type: ignore[misc]
        await store.put(scope, "good", b"1", 1.0)
        bad = [asyncio.ensure_future(store.get(scope, "bad", 1.0)) for _ in range(3)]
        for ended in await asyncio.gather(*bad, return_exceptions=True):
            assert isinstance(ended, error)
        if error is TimedOut:  # it works off what it was asked, one after the other
            await store.close()
        found = await store.get(scope, "good", 1.0)
        assert found is not None
        await store.close()

    asyncio.run(scenario())


# Revocation


def test_revocation_by_an_executable_fails_closed(tmp_path: Path, folder: Path) -> None:
    found = offered(tmp_path, "revocation").revocation(RevocationContext("local", folder))  # type: ignore[misc]
    with pytest.raises(ProviderError):
        found.find("bundle", "sha256:1")
    entry = {"kind": "bundle", "subject": "sha256:1", "since": "2026-01-01T00:00:00Z", "reason": "leaks"}
    (folder / "revoked.json").write_text(json.dumps([entry]))
    revoked = found.find("bundle", "sha256:1")
    assert revoked is not None
    assert revoked.reason == "leaks"
    assert found.find("bundle", "sha256:2") is None
    assert found.entries() == (revoked,)
    (folder / "revoked.json").write_text(json.dumps([{**entry, "kind": "rumour"}]))
    with pytest.raises(ProviderError, match="something else than the contract says"):
        found.entries()


# The routers' halves


def settings(pack: EnvPack, folder: Path, **answers: Any) -> Mapping[str, Any]:
    assert pack.sessions is not None
    context = SessionsContext("local", {"place": str(folder), **answers}, lambda _: SecretValue("hunter2"), folder)
    return pack.sessions().settings(context)


def test_answers_are_checked_and_only_named_secrets_are_given(tmp_path: Path, folder: Path) -> None:
    pack = offered(tmp_path, "sessions")
    assert pack.sessions is not None
    with pytest.raises(InvalidArgument, match="where"):
        pack.sessions().check("local", {})
    pack.sessions().check("local", {"place": "here"})
    found = settings(pack, folder, password_ref=ADDRESS.uri)
    assert found["settings"]["password"] == "hunter2"
    assert settings(pack, folder)["settings"]["password"] == ""
    with pytest.raises(InvalidArgument, match="environment 'local'"):
        settings(pack, folder, password_ref="secret://other/acme/_/openai/api_key")
    with pytest.raises(NotFound, match="password_ref"):
        pack.sessions().settings(SessionsContext("local", {"password_ref": ADDRESS.uri}))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_pins_of_an_executable_conform(
    tmp_path: Path, folder: Path, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greentic.providers.executable.pins.LONGEST_TIMEOUT_MS", 20_000)  # the machine may be busy
    found = settings(offered(tmp_path, "sessions"), folder, timeout_ms=20_000)
    asyncio.run(check(lambda: pin_store(found)))


@pytest.mark.parametrize("behaviour", ["hang", "die"])
def test_a_store_that_fails_costs_its_bound_and_then_nothing(tmp_path: Path, folder: Path, behaviour: str) -> None:
    found = settings(offered(tmp_path, "sessions"), folder, behaviour=behaviour, timeout_ms=50)

    async def asked() -> tuple[list[float], dict[str, Any]]:
        store = pin_store(found)
        spent = []
        for number in range(40):
            began = time.monotonic()
            pin = Pin("R1", 1, int(time.time()) + 60)
            assert await store.try_pin(SCOPE, b"%d" % number, pin, ALL, time.time()) is None
            spent.append(time.monotonic() - began)
        assert dict(await store.counts(SCOPE, time.time())) == {}
        document = store.document()
        await store.close()
        return spent, document

    spent, document = asyncio.run(asked())
    assert sorted(spent)[30] < 0.02, "it is left alone"
    assert document["interruptions"] == 1
    assert sum(document["failures"].values()) == 41
    assert document["skipped"] == 0
    assert document["kind"] == "acme.sessions.test"


def test_another_executable_than_was_bound_is_not_started(tmp_path: Path, folder: Path) -> None:
    pack = offered(tmp_path, "sessions")
    found = settings(pack, folder)
    with pytest.raises(Exception, match="another one than was bound"):
        pin_store({**found, "digest": "sha256:" + "0" * 64})


def test_spans_by_an_executable(tmp_path: Path, folder: Path) -> None:
    pack = offered(tmp_path, "telemetry")
    assert pack.telemetry is not None
    given = pack.telemetry().settings(TelemetryContext("local", {"place": str(folder)}, folder=folder))
    span = Span(
        "a" * 32, "b" * 16, "", 1.5, 0.25, b"GET", False, b"web.example", b"/\xff", 200, b"r1", *[""] * 5, 3, "slot", ""
    )
    exporter = span_exporter(given, Origin("local", 7))
    assert exporter.export([tuple(span), tuple(span)]) == 0
    exporter.close()
    lines = [json.loads(line) for line in (folder / "spans.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert (lines[0]["host"], lines[0]["path"], lines[0]["generation"]) == ("web.example", "/\\xff", 3)
    dying = pack.telemetry().settings(TelemetryContext("local", {"place": str(folder), "behaviour": "die"}))
    exporter = span_exporter(dying, Origin("local", 7))
    with pytest.raises(ProviderError):
        exporter.export([tuple(span)])
    exporter.close()


# As an operator


def test_an_environment_whose_slots_are_all_executables(
    gtc: CommandLine, tmp_path: Path, bundles: dict[str, Path]
) -> None:
    gtc.environment["GREENTIC_ENV_PACKS"] = str(tmp_path / "env-packs")
    gtc.init()
    home = gtc.root / "local"
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"place": str(home), "password_ref": ADDRESS.uri}))
    for slot in ("secrets", "sessions", "telemetry", "state", "revocation"):
        source = write(tmp_path / slot, PROVIDER, {"program.py": PROGRAM}, slot=slot, path=f"acme.{slot}.test")
        assert gtc("env-pack", "install", str(source), "--unsigned").status == 0
        verb = "add" if slot == "revocation" else "update"
        with_answers = ("--config", str(answers)) if slot in ("sessions", "telemetry") else ()
        if slot == "sessions":
            assert gtc("op", "secrets", "put", ADDRESS.path, stdin="hunter2-of-redis").status == 0
            told = gtc("op", "env-packs", verb, slot, f"acme.{slot}.test").error
            assert told["kind"] == "invalid-argument", "its answers are checked before it is bound"
        assert gtc("op", "env-packs", verb, slot, f"acme.{slot}.test", *with_answers).status == 0
    refused = gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").error
    assert "failed to find" in refused["message"], "a list that cannot be read allows nothing"
    (home / "revoked.json").write_text("[]")
    assert gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").status == 0
    assert gtc.get()[0] == 200
    deadline = time.monotonic() + 20
    while not (home / "spans.jsonl").exists():
        assert time.monotonic() < deadline, "no span was ever sent"
        time.sleep(0.05)
    assert gtc("op", "secrets", "get", ADDRESS.path, "--reveal").result["value"] == "hunter2-of-redis"
    for path in home.rglob("*"):
        if path.is_file() and path.name not in ("program.db", "program.db-journal"):
            assert b"hunter2-of-redis" not in path.read_bytes(), path
    assert gtc("stop").status == 0


def test_what_cannot_be_an_executable(tmp_path: Path) -> None:
    with pytest.raises(SpecViolation, match="messaging"):
        installed(tmp_path / "one", PROVIDER, slot="messaging")
    with pytest.raises(SpecViolation, match="unless it offers a bench"):
        installed(tmp_path / "two", PROVIDER, slot="extension")
