"""docs/observability.md names every metric there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from tests.property.strategies import Scene

from greentic.envpacks.deployer import Observation
from greentic.providers.local.metrics import Doings, Families, Listing, Snapshot

PAGE = (Path(__file__).parents[3] / "docs" / "observability.md").read_text()
SUFFIX = {"counter": "_total", "info": "_info"}


def metrics() -> set[str]:
    environment = Scene().create().environment
    merged = {"revisions": {}, "unrouted": {}, "access_log": {}, "spans": {}}
    snapshot = Snapshot(environment, Observation(running=True), merged, 0, Doings())
    return {family.name + SUFFIX.get(family.type, "") for family in Families(snapshot, Listing()).collect()}


def test_the_table_of_metrics_is_complete() -> None:
    assert set(re.findall(r"^\| `(greentic_[a-z_]+)` \|", PAGE, re.M)) == metrics()


def test_alerts_are_about_metrics_that_there_are() -> None:
    (text,) = re.findall(r"```yaml\n(groups:.*?)```", PAGE, re.S)
    (group,) = yaml.safe_load(text)["groups"]
    known = metrics() | {"greentic_request_duration_seconds_bucket", "greentic_"}
    for rule in group["rules"]:
        named = set(re.findall(r"greentic_[a-z_]*", rule["expr"]))
        assert named
        assert named <= known, rule
