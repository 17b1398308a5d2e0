"""Changes that sign a revenue policy and a head of the log, to crash, and what must hold when the place is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from tests.integration.store_disks import Unsynced
from tests.integration.store_scenarios import ID, PLACE, TIME, Scenario, applying

from greentic.engine.command import Command
from greentic.operations import revenue
from greentic.operations.heads import sealing
from greentic.operations.trust_root import operator_key, seeding
from greentic.spec import policy_files
from greentic.spec.deployment import RevenueShare
from greentic.spec.payloads import UpdateDeploymentPayload
from greentic.store.conformance import DEPLOYMENT, WALK
from greentic.store.files import FilesStore
from greentic.store.io import FileSystem


def shared(acme: int, key: str = "share") -> Command:
    """The deployment's revenue, `acme` basis points of it for acme."""
    parties = (("acme", acme), ("greentic", 10_000 - acme))
    share = tuple(RevenueShare(party_id=party, basis_points=points) for party, points in parties)
    payload = UpdateDeploymentPayload(deployment_id=DEPLOYMENT, revenue_share=share)
    return Command(ID, "bundles", "update", payload, key, "me")


class Signing(FilesStore):
    """A store whose every change is completed as the operations complete theirs."""

    def apply(self, command: Command, **expected: Any) -> Any:
        complete = seeding(create=True) if command.noun == "env" else revenue.signing(ID)
        return super().apply(command, **expected, complete=complete)


@dataclass(frozen=True)
class PolicyScenario(Scenario):
    """`ticking`: the clock goes on, so that what is signed again is not what a crash left."""

    ticking: bool = False
    _ticks: Any = field(default_factory=count)

    def store(self, root: Path, io: FileSystem | None = None) -> FilesStore:
        return self._at(root, TIME + timedelta(seconds=next(self._ticks) if self.ticking else 0), io)

    def prepare(self, root: Path) -> None:
        root.mkdir(parents=True)
        store = self._at(root, TIME)  # always the same, so that one place is like another
        for command in self.before:
            store.apply(command)
        if self.spoil is not None:
            self.spoil(root / PLACE)

    def _at(self, root: Path, moment: datetime, io: FileSystem | None = None) -> FilesStore:
        return Signing(root / PLACE, clock=lambda: moment, io=io or Unsynced(), settings=self.settings, seal=sealing())


def leave_unnamed(version: int) -> Callable[[Path], None]:
    """As a crash before the rename leaves it: files of the version that would be next, which no state names."""

    def spoil(root: Path) -> None:
        for path in (
            policy_files.document_ref("helpdesk", "acme", version),
            policy_files.signature_ref("helpdesk", "acme", version),
        ):
            target = root / ID / path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.write_bytes(b"{}")
            target.chmod(0o600)

    return spoil


BEFORE = (WALK.create(), WALK.add())
POLICY_SCENARIOS = (
    PolicyScenario("first", (WALK.create(),), applying(WALK.add()), "add"),
    PolicyScenario("next", BEFORE, applying(shared(3_000)), "share", ticking=True),
    PolicyScenario("over-what-a-crash-left", BEFORE, applying(shared(3_000)), "share", leave_unnamed(2), ticking=True),
)


def proven(scenario: Scenario, root: Path) -> None:
    """What the state names is there, whole and proven."""
    store = scenario.store(root)
    if not (root / PLACE / ID / "environment.json").exists():
        return
    environment = store.load(ID).environment
    for bundle_id, customer_id, deployment in revenue.pairs(environment):
        _, report = revenue.verify(environment, store.files(ID), bundle_id, customer_id, deployment)
        assert report.ok, report.finding
    for deployment in environment.bundles:
        assert deployment.revenue_policy_ref, "a deployment without its policy"
        assert operator_key(create=False) is not None
