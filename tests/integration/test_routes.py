"""A route belongs to its deployment from the moment it is recorded, whether anything serves there or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.command_line import CommandLine, free_port, request


def test_a_new_route_is_not_served_by_the_deployment_above_it(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    assert gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").status == 0
    assert gtc.get("/shop/x")[0] == 200
    assert gtc("op", "bundles", "add", "shop", "--path-prefix", "/shop").status == 0
    assert gtc.get("/shop/x")[0] == 503
    assert gtc.get("/other")[0] == 200


def test_a_deploy_that_fails_its_gate_leaves_its_route_to_nobody_else(
    gtc: CommandLine, bundles: dict[str, Path]
) -> None:
    gtc.init()
    assert gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").status == 0
    assert gtc("op", "deploy", "--bundle", str(bundles["broken"]), "shop", "--path-prefix", "/shop").status == 7
    assert gtc.get("/shop/x")[0] == 503


@pytest.mark.parametrize("words", [("env", "update", "local"), ("config", "set")])
def test_a_running_router_moves_with_its_recorded_address(
    gtc: CommandLine, bundles: dict[str, Path], words: tuple[str, ...]
) -> None:
    gtc.init()
    gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web")
    elsewhere = free_port()
    assert gtc("op", *words, "--listen-addr", f"127.0.0.1:{elsewhere}").status == 0
    assert request(elsewhere, "/")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        request(gtc.port, "/")
