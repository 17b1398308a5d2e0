"""`make demo`, in its short form and a folder of its own: the main job with real processes under real load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from demo.state import State  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SECONDS = 120


@pytest.fixture
def state(tmp_path: Path):
    """The demo's folder, in a path with a space; nothing is left running whatever a test does."""
    place = tmp_path / "a folder"
    place.mkdir()
    state = State(place / ".demo", ROOT)
    yield state
    state.stop()


def command(state: State, *options: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "demo.py"), "--folder", str(state.folder), *options]


def demo(state: State, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(state, *options),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def begin(state: State, *options: str) -> subprocess.Popen[str]:
    """A demo that can be interrupted: SIGINT is not ignored, as it may be in a background job."""
    return subprocess.Popen(
        command(state, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it says up to a line with `words`."""
    said = ""
    until = time.monotonic() + SECONDS
    assert process.stdout is not None
    while words not in said:
        line = process.stdout.readline()
        assert line, f"it ended before it said '{words}': {said}"
        assert time.monotonic() < until
        said += line
    return said


def test_every_promise_holds_and_nothing_is_left(state: State) -> None:
    done = demo(state, "--short")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every promise held." in done.stdout
    assert "\x1b" not in done.stdout, "colour where there is no terminal"
    for step in ("v1 100 %", "v2 1 %", "v2 10 %", "v2 100 %", "rollback"):
        assert step in done.stdout
    assert state.running() == []
    assert not state.folder.exists()


@pytest.mark.parametrize("moment", ["gtc bundle build", "gtc op deploy", "gtc op traffic set"])
def test_ctrl_c_at_any_moment_stops_everything(state: State, moment: str) -> None:
    with begin(state, "--short") as process:
        read_until(process, moment)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, said
    assert "nothing is left running" in said
    assert state.running() == []
    assert not state.folder.exists()


def test_what_was_kept_answers_and_the_next_demo_stops_it_first(state: State) -> None:
    kept = demo(state, "--short", "--keep")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    url = next(word for word in kept.stdout.split() if word.startswith("http://"))
    request = urllib.request.Request(url + "message", data=json.dumps({"text": "password"}).encode())
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["version"] == "1.0.0"
    assert state.running()

    # The next one finds it, whether it was kept or its demo was killed, and stops it before it begins.
    with begin(state, "--short") as process:
        assert "stopping it first" in read_until(process, "gtc op deploy")
        process.kill()
        process.wait(timeout=SECONDS)
    stopped = demo(state, "--stop")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert state.running() == []
    assert not state.folder.exists()
    assert demo(state, "--stop").returncode == 0


def test_two_at_once_are_refused_and_a_strangers_folder_is_left_alone(state: State) -> None:
    with begin(state, "--short") as process:
        read_until(process, "gtc bundle build")
        second = demo(state, "--short")
        assert second.returncode == 1
        assert "another demo is running here" in second.stderr
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    state.folder.mkdir()
    (state.folder / "letter.txt").write_text("mine")
    refused = demo(state, "--short")
    assert refused.returncode == 1
    assert "was not made by the demo" in refused.stderr
    assert (state.folder / "letter.txt").read_text() == "mine"


def test_a_command_of_a_killed_demo_is_ended_before_the_folder_goes(state: State) -> None:
    with begin(state, "--short") as process:
        read_until(process, "gtc op deploy")
        until = time.monotonic() + SECONDS
        while not state.commands():
            assert time.monotonic() < until
        process.kill()
        process.wait(timeout=SECONDS)
    stopped = demo(state, "--stop")
    assert "removed" in stopped.stdout
    assert (state.commands(), state.running()) == ([], [])
    assert not state.folder.exists()


def test_a_demo_killed_before_its_first_command_is_left_too(state: State) -> None:
    state.make()
    stopped = demo(state, "--stop")
    assert "removed" in stopped.stdout
    assert not state.folder.exists()
