"""Whatever an executable does is an error of that call, in its words and without secrets; never one of the tool."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.executable_packs import installed, write
from tests.integration.local_environments import V1, World, alive, until_dead

from greentic.envpacks import executables, heard, streams
from greentic.envpacks.deployer import DeployerContext
from greentic.envpacks.subprocess import SubprocessDeployer
from greentic.spec.errors import Conflict, CorruptDocument, GateFailed, GreenticError, ProviderError, TimedOut

PYTHON = '#!/bin/sh\nexec "$GREENTIC_PYTHON" -I -u main.py\n'
HEAR = "import sys, os, json, time\nrequest = json.loads(sys.stdin.readline())\n"
ANSWER = "print(json.dumps({'jsonrpc': '2.0', 'id': request['id'], %s}), flush=True)\n"
SECRET = "hunter2-but-longer"


class Place:
    """An environment with one revision, and executables that are asked for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World.new(folder / "environment")
        self.world.bundle()
        self.progress: list[str] = []

    def deployer(self, script: str, operator: dict[str, str] | None = None, **fields: Any) -> SubprocessDeployer:
        shutil.rmtree(self.folder / "source", ignore_errors=True)
        executable = installed(self.folder, PYTHON, files={"main.py": script}, **fields)
        variables = {"PATH": os.environ["PATH"], "PRIVATE": "never", **(operator or {})}
        return SubprocessDeployer(executable, DeployerContext("local", self.world.folder), variables)

    def observe(self, script: str, **fields: Any) -> Any:
        return asyncio.run(self.deployer(script, **fields).observe(self.world.desired))

    def warm(self, script: str, **fields: Any) -> None:
        deployer = self.deployer(script, **fields)
        asyncio.run(deployer.warm_revision(self.world.desired, V1, self.progress.append))

    def log(self) -> str:
        return (self.world.folder / "logs" / "env-packs" / "acme.deployer.test.log").read_text()

    def left(self) -> list[str]:
        return [path.name for path in (self.folder / "env-packs" / ".running").iterdir() if path.name != ".lock"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_honest_one_is_understood(place: Place) -> None:
    seen = place.observe(HEAR + ANSWER % "'result': {'running': True, 'url': 'http://x', 'newer': 1}")
    assert (seen.running, seen.url, seen.revisions) == (True, "http://x", {})
    assert place.left() == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("print('hello, world')\n", "no JSON-RPC"),
        ("print('{')\n", "no JSON-RPC"),
        ("print('[' * 100000)\n", "no JSON-RPC"),
        ("print('[]')\n", "no JSON-RPC"),
        ("print('{}')\n", "no JSON-RPC"),
        ("sys.stdout.buffer.write(bytes(range(128, 256)) + b'\\n')\n", "no JSON-RPC"),
        ("print(json.dumps({'jsonrpc': '2.0', 'id': 2, 'result': None}))\n", "no answer to it"),
        ("print(json.dumps({'jsonrpc': '2.0', 'id': True, 'result': None}))\n", "no answer to it"),
        ("print(json.dumps({'jsonrpc': '2.0', 'id': 1, 'result': 1, 'error': {}}))\n", "no answer to it"),
        (ANSWER % "'result': None", "something else than the contract says"),
        (ANSWER % "'result': {'running': 'yes'}", "running"),
        (ANSWER % "'result': {'running': True, 'revisions': {'r': {'state': 'healthy'}}}", "revision_id"),
        (ANSWER % "'error': 'no'", "it gave no reason"),
        (ANSWER % "'error': {'code': -32601, 'message': 'x'}", "does not know observe"),
        (ANSWER % "'error': {'code': -32603, 'message': 'my fault'}", "my fault"),
        (ANSWER % "'error': {'code': -32000, 'message': 'odd', 'data': 'conflict'}", "odd"),
        ("", "exit status 0"),
        ("sys.exit(7)\n", "exit status 7"),
        ("os.kill(os.getpid(), 11)\n", "SIGSEGV"),
        ("raise RuntimeError('dies mid-call')\n", "exit status 1"),
        ("os.close(1); time.sleep(60)\n", "runs on"),
    ],
)
def test_nonsense_is_an_error_of_the_call(place: Place, script: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        place.observe(HEAR + script)
    assert words in caught.value.message
    assert "env-pack 'acme.deployer.test'" in caught.value.message
    assert time.monotonic() - began < 20
    assert place.left() == []


def test_one_that_dies_is_quoted(place: Place) -> None:
    with pytest.raises(ProviderError) as caught:
        place.observe(HEAR + "print('about to die\\x1b[2J', file=sys.stderr)\nraise RuntimeError('no such luck')\n")
    lines = caught.value.details["stderr"]
    assert lines[-1] == "RuntimeError: no such luck"
    assert any(line.startswith("about to die") for line in lines)
    assert not any("\x1b" in line for line in lines)
    assert "RuntimeError: no such luck" in place.log()


def test_errors_of_the_contract_come_out_as_themselves(place: Place) -> None:
    error = {"kind": "gate-failed", "details": {"log": ["a\x1b[1mb"]}, "next_step": "look"}
    with pytest.raises(GateFailed, match="not healthy") as caught:
        place.warm(HEAR + ANSWER % f"'error': {{'code': -32000, 'message': 'not healthy', 'data': {error!r}}}")
    assert caught.value.next_step == "look"
    assert "\x1b" not in json.dumps(caught.value.details, ensure_ascii=False)
    with pytest.raises(Conflict, match="busy"):
        place.observe(HEAR + ANSWER % "'error': {'code': -32000, 'message': 'busy', 'data': {'kind': 'conflict'}}")


def test_progress_is_told_in_one_clean_line(place: Place) -> None:
    say = "print(json.dumps({'jsonrpc': '2.0', 'method': 'progress', 'params': %s}))\n"
    script = say % "{'id': 1, 'message': 'half\\n\\x1b[31mway' + 'y' * 1000}" + say % "{'id': 1}" + say % "[7]"
    place.warm(HEAR + script + ANSWER % "'result': None")
    (line,) = place.progress
    assert line.startswith("half ")
    assert line.isprintable()
    assert len(line) < 500


def test_one_that_never_answers_is_told_and_then_killed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CANCEL_SECONDS", 1.0)
    # It has a child of its own, hears that nobody waits any more, and goes on all the same.
    script = (
        "import subprocess, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'])\nprint('child', child.pid, os.getpid(), file=sys.stderr)\n"
        "print('heard', sys.stdin.readline(), file=sys.stderr)\ntime.sleep(600)\n"
    )
    with pytest.raises(TimedOut, match="did not answer observe within 1 s") as caught:
        place.observe(HEAR + script, timeouts={"observe": 1})
    lines = caught.value.details["stderr"]
    assert json.loads(lines[1].removeprefix("heard "))["method"] == "cancel"
    _, child, process = lines[0].split()
    asyncio.run(until_dead(int(child), int(process)))
    assert place.left() == []


def test_a_cancelled_call_lets_it_end_by_itself(place: Place) -> None:
    script = "line = sys.stdin.readline()\nopen(request['params']['context']['folder'] + '/ended', 'w').write(line)\n"
    say = "print(json.dumps({'jsonrpc': '2.0', 'method': 'progress', 'params': {'message': 'begun'}}), flush=True)\n"

    async def scenario() -> None:
        deployer = place.deployer(HEAR + say + script)
        call = asyncio.create_task(deployer.warm_revision(place.world.desired, V1, place.progress.append))
        while not place.progress:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(scenario())
    assert json.loads((place.world.folder / "ended").read_text())["params"] == {"id": 1}
    assert place.left() == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("while True: sys.stdout.write('x' * 65536)\n", "in one line"),
        ("line = json.dumps({'jsonrpc': '2.0', 'method': 'x', 'params': 'y' * 9000}) + '\\n'\n"
         "while True: sys.stdout.write(line * 100)\n", "said more than"),
        ("for _ in range(16384): sys.stderr.write('x' * 65535 + '\\n')\n" + ANSWER % "'result': {'running': True}", ""),
        ("for _ in range(128): sys.stderr.write('x' * 1048576)\n" + ANSWER % "'result': {'running': True}", ""),
    ],
    ids=["one line without end", "lines without end", "a gigabyte of complaints", "one complaint without end"],
)  # fmt: skip
def test_a_gigabyte_takes_neither_memory_nor_disk(place: Place, script: str, words: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if words:
        with pytest.raises(ProviderError, match=words):
            place.observe(HEAR + script)
    else:
        assert place.observe(HEAR + script).running
        assert len(place.log()) < 2 * heard.LOGGED_BYTES
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert grown < 160, f"{grown} MiB"
    assert place.left() == []


def test_it_knows_nothing_of_the_operator_and_what_it_is_given_is_not_shown(place: Place) -> None:
    script = (
        "print(sorted(os.environ), os.environ['ACME_TOKEN'], file=sys.stderr)\n"
        + ANSWER
        % "'error': {'code': -32000, 'message': 'bad ' + os.environ['ACME_TOKEN'], "
        "'data': {'kind': 'provider', 'details': {'token': [os.environ['ACME_TOKEN']]}, "
        "'next_step': os.environ['ACME_TOKEN']}}"
    )
    with pytest.raises(ProviderError) as caught:
        place.observe(HEAR + script, variables=["ACME_TOKEN", "ACME_NOT_SET"], operator={"ACME_TOKEN": SECRET})
    assert caught.value.message == "bad [hidden]"
    assert SECRET not in json.dumps(caught.value.document())
    log = place.log()
    assert SECRET not in log
    assert "ACME_TOKEN" in log
    assert "PRIVATE" not in log


def test_what_was_changed_since_it_was_installed_is_not_started(place: Place) -> None:
    deployer = place.deployer(HEAR + ANSWER % "'result': {'running': True}")
    script = next((place.folder / "env-packs").rglob("main.py"))
    data = bytearray(script.read_bytes())
    script.chmod(0o600)
    for position in (0, len(data) // 2, len(data) - 1):
        flipped = bytes(data[:position]) + bytes([data[position] ^ 1]) + bytes(data[position + 1 :])
        script.write_bytes(flipped)
        with pytest.raises(CorruptDocument, match="digest differs"):
            asyncio.run(deployer.observe(place.world.desired))
    for damage in (lambda: script.write_bytes(bytes(data) + b"\n"), script.unlink):
        damage()
        with pytest.raises((CorruptDocument, GreenticError)):
            asyncio.run(deployer.observe(place.world.desired))
    assert not (place.world.folder / "logs" / "env-packs").exists(), "nothing was started"
    script.write_bytes(bytes(data))
    assert asyncio.run(deployer.observe(place.world.desired)).running


def test_what_is_run_is_what_was_verified(place: Place) -> None:
    """The installed files are replaced the moment after they were read."""
    deployer = place.deployer(HEAR + ANSWER % "'result': {'running': True}")
    real: Callable[..., Any] = executables._copied

    def swapped(*arguments: Any) -> None:
        real(*arguments)
        for name in ("main.py", "provider"):
            for script in (place.folder / "env-packs" / "acme.deployer.test").rglob(name):
                script.chmod(0o700)
                script.write_text("#!/bin/sh\nexit 3\n")

    executables._copied = swapped
    try:
        assert asyncio.run(deployer.observe(place.world.desired)).running
    finally:
        executables._copied = real


def test_a_folder_that_others_can_change_is_not_used(place: Place) -> None:
    place.deployer(HEAR)
    root = place.folder / "env-packs"
    (root / "acme.deployer.test").chmod(0o777)
    with pytest.raises(ProviderError, match="you alone can change"):
        executables.find(root, "acme.deployer.test")


def test_copies_of_calls_that_were_killed_are_swept_away_and_those_in_use_are_not(place: Place) -> None:
    deployer = place.deployer(HEAR + ANSWER % "'result': {'running': True}")
    running = place.folder / "env-packs" / ".running"
    with deployer._executable.prepared() as (folder, _):
        (running / "of a killed call").mkdir()
        (running / "of another").mkdir()
        (running / "of another" / ".lock").touch()
        assert asyncio.run(deployer.observe(place.world.desired)).running
        assert [path.name for path in running.iterdir() if path.name != ".lock"] == [folder.name]
    assert place.left() == []


def test_what_still_runs_keeps_its_copy_until_it_ends(place: Place) -> None:
    script = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True, close_fds=False)\n"
        "print(child.pid, file=sys.stderr)\n" + ANSWER % "'result': {'running': True}"
    )
    deployer = place.deployer(HEAR + script)
    assert asyncio.run(deployer.observe(place.world.desired)).running
    child = int(place.log().split()[-1])
    try:
        assert alive(child), "it left the group of the call"
        assert len(place.left()) == 1
    finally:
        os.kill(child, 9)
    asyncio.run(until_dead(child))
    executable = deployer._executable
    with executable.prepared():
        pass
    assert place.left() == []


@pytest.mark.parametrize("program", ["#!/no/such/interpreter\n", "no program at all\n", ""])
def test_what_cannot_be_started(tmp_path: Path, program: str) -> None:
    world = World.new(tmp_path / "environment")
    executable = installed(tmp_path, program)
    deployer = SubprocessDeployer(executable, DeployerContext("local", world.folder))
    with pytest.raises(ProviderError, match=r"cannot be started|ended"):
        asyncio.run(deployer.observe(world.desired))


def test_a_source_is_written_whole(tmp_path: Path) -> None:
    write(tmp_path / "source", PYTHON, files={"main.py": ""})
    document = json.loads((tmp_path / "source" / "env-pack.json").read_text())
    assert set(document["files"]) == {"provider", "main.py"}
    assert document["files"]["provider"]["executable"]
