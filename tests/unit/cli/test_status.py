"""What `gtc op status` shows of a record and of what is seen."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.integration.local_environments import DEPLOYMENT, V1, World

from greentic.cli.status import tree
from greentic.envpacks.deployer import Observation, RevisionObservation, RouterObservation
from greentic.operations.status import describe
from greentic.store.contract import Stored


def shown(folder: Path, observation: Observation, **more: Any) -> str:
    world = World.new(folder)
    world.record(lambda document: document["host_config"].update(router={"replicas": 2}))
    world.bundle(V1, lifecycle="draining")
    stored = Stored(world.desired.environment, world.desired.generation, "0" * 64)
    console = Console(file=StringIO(), width=200)
    console.print(tree({**describe(stored, observation), **more}))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_drain_is_told_while_it_lasts(tmp_path: Path) -> None:
    draining = RevisionObservation(V1, "healthy", in_flight=4, drain_seconds_left=11.6)
    text = shown(tmp_path, Observation(True, revisions={V1: draining}, generations={DEPLOYMENT: 1}))
    assert "4 in flight, at most 12 s more" in text


def test_a_router_that_is_not_ready_is_named_with_its_reason(tmp_path: Path) -> None:
    routers = (
        RouterObservation("router-0", True),
        RouterObservation("router-1", False, "it has not answered for 3.0 s (lease: 2 s)"),
    )
    text = shown(tmp_path, Observation(True, routers=1, router_states=routers, url="http://127.0.0.1:8080"))
    assert "running  http://127.0.0.1:8080  1/2 routers" in text
    assert "router-1 (serving): it has not answered for 3.0 s (lease: 2 s)" in text


def test_what_cannot_be_asked_is_not_said_to_be_stopped(tmp_path: Path) -> None:
    text = shown(tmp_path, Observation(False), observation_error={"message": "the runtime does not answer"})
    assert "stopped" not in text
    assert "cannot look at it: the runtime does not answer" in text


def test_what_a_deployer_discovered_is_told_once(tmp_path: Path) -> None:
    found = {
        "listen_addr": "127.0.0.1:8080",
        "namespace": "zain-prod",
        "balancer": "lb-1.example",
        "cname": "lb-1.example",
    }
    seen = Observation(True, routers=2, url="http://127.0.0.1:8080", discovered=found)
    text = shown(tmp_path, seen)
    assert "namespace: zain-prod" in text
    assert text.count("lb-1.example") == 1
    assert "listen_addr" not in text
