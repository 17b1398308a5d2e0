"""Schedules with the real command, runtime, router and workers: run to the end, failed, killed and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command_line import CommandLine, build, write_worker


@pytest.fixture(scope="module")
def gtc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """`web` with v1 live and v2 ready."""
    folder = tmp_path_factory.mktemp("schedules")
    line = CommandLine(folder / "envs")
    line.init()
    for version, share in (("1.0.0", "100%"), ("2.0.0", "0%")):
        archive = build(write_worker(folder / version, version), folder / f"{version}.gtbundle")
        assert line("op", "deploy", "--bundle", str(archive), "web", "--traffic", share).status == 0
    yield line
    line("stop")


@pytest.fixture(autouse=True)
def v1_serves(gtc: CommandLine) -> Iterator[None]:
    yield
    gtc("op", "traffic", "abort", "web")
    gtc("op", "traffic", "set", "web", "v1=100%")


def begin(gtc: CommandLine, *words: str) -> subprocess.Popen[bytes]:
    """`gtc op traffic set web v2=100% WORDS`, running beside."""
    command = [sys.executable, "-m", "greentic.cli.main", "op", "traffic", "set", "web", "v2=100%", *words]
    return subprocess.Popen(command, env=gtc.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def show(gtc: CommandLine) -> Any:
    return gtc("op", "traffic", "show", "web").result


def shares(gtc: CommandLine) -> dict[str, int]:
    return {entry["name"]: entry["weight_bps"] for entry in show(gtc)["entries"] if entry["weight_bps"]}


def until(gtc: CommandLine, condition: Callable[[Any], bool], seconds: float = 30) -> Any:
    """What `traffic show` says of the schedule, once `condition` holds of it."""
    deadline = time.monotonic() + seconds
    while True:
        schedule = show(gtc).get("schedule")
        if schedule is not None and condition(schedule):
            return schedule
        assert time.monotonic() < deadline, schedule


def running(step: int) -> Callable[[Any], bool]:
    return lambda schedule: schedule["state"] == "running" and schedule["step"] == step


def test_to_the_end_and_back(gtc: CommandLine) -> None:
    told = gtc("op", "traffic", "set", "web", "v2=100%", "--over", "2s", "--steps", "10%,50%,100%").result
    assert told["schedule"]["state"] == "finished"
    assert {gtc.get()[1]["version"] for _ in range(5)} == {"2.0.0"}
    assert gtc("op", "traffic", "rollback", "web").status == 0
    assert shares(gtc) == {"v1": 10_000}, "to before the schedule"
    verbs = [
        (event["verb"], event["result"]["outcome"])
        for event in gtc("op", "audit", "tail", "-n", "12").result["events"]
        if event["phase"] == "outcome"
    ]
    assert [verb for verb, _ in verbs][-5:] == ["begin-schedule", "advance", "advance", "finish", "rollback"]


def test_a_worker_that_dies_on_the_way_brings_the_old_split_back(gtc: CommandLine) -> None:
    driving = begin(gtc, "--over", "60s", "--steps", "50%,100%", "--json")
    until(gtc, running(1))
    worker = next(one for one in gtc("op", "status").result["deployments"][0]["revisions"] if one["name"] == "v2")[
        "process_id"
    ]
    os.kill(worker, signal.SIGKILL)
    _, errors = driving.communicate(timeout=30)
    assert driving.returncode == 7
    error = json.loads(errors.splitlines()[-1])["error"]
    assert "failed its gate: the worker of v2 " in error["message"]
    assert shares(gtc) == {"v1": 10_000}
    assert show(gtc)["schedule"]["state"] == "failed"


def test_a_killed_command_is_taken_up_again(gtc: CommandLine) -> None:
    driving = begin(gtc, "--over", "60s", "--steps", "10%,100%")
    until(gtc, lambda schedule: running(1)(schedule) and schedule["driven"])
    assert gtc("op", "traffic", "resume", "web").error["kind"] == "conflict", "one drives it already"
    assert gtc("op", "traffic", "set", "web", "v1=100%").error["details"]["reason"] == "schedule-open"
    driving.kill()
    driving.communicate()
    assert until(gtc, lambda schedule: not schedule["driven"])["state"] == "running"
    assert shares(gtc) == {"v2": 1_000, "v1": 9_000}, "the dial stays where it was"
    told = gtc("op", "traffic", "resume", "web", "--detach").result
    assert Path(told["log"]).is_file()
    assert until(gtc, lambda schedule: schedule.get("driven"))["step"] == 1
    assert gtc("op", "traffic", "pause", "web", "--note", "lunch").result["schedule"]["state"] == "paused"
    assert gtc("op", "traffic", "abort", "web").result["receipt"]["acknowledged"] == 1
    assert shares(gtc) == {"v1": 10_000}


def test_ctrl_c_pauses_and_a_rollback_needs_no_permission_of_the_schedule(gtc: CommandLine) -> None:
    driving = begin(gtc, "--over", "60s", "--steps", "10%,100%")
    until(gtc, lambda schedule: running(1)(schedule) and schedule["driven"])
    driving.send_signal(signal.SIGINT)
    _, errors = driving.communicate(timeout=30)
    assert driving.returncode == 130
    assert b"gtc op traffic resume web" in errors
    assert show(gtc)["schedule"]["state"] == "paused"
    assert gtc("op", "traffic", "rollback", "web").status == 0
    assert shares(gtc) == {"v1": 10_000}
    assert show(gtc)["schedule"]["state"] == "aborted"


@pytest.mark.parametrize(
    "words",
    [
        ("--over", "-1"),
        ("--over", "0"),
        ("--over", "2s", "--steps", "0%,100%"),
        ("--over", "2s", "--steps", "50%,10%,100%"),
        ("--over", "2s", "--steps", "50%"),
        ("--over", "2s", "--steps", ""),
        ("--over", "2s", "--max-errors", "x"),
        ("--steps", "1%,100%"),
        ("--detach",),
    ],
)
def test_nonsense_is_a_usage_error_and_moves_nothing(gtc: CommandLine, words: tuple[str, ...]) -> None:
    ran = gtc("op", "traffic", "set", "web", "v2=100%", *words)
    assert ran.status == 2, ran.err
    assert shares(gtc) == {"v1": 10_000}
