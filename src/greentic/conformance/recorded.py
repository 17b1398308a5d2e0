"""The deployer under the product's own verbs and a real store, whose files are read afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ulid import ULID

from greentic.conformance.bundles import archive
from greentic.conformance.scene import ACTOR, host
from greentic.conformance.stage import Stage
from greentic.envpacks.registry import EnvPack, Registry
from greentic.operations import revisions, traffic
from greentic.operations.context import Context
from greentic.spec.capabilities import Slot
from greentic.spec.deployment import RouteBinding, TenantSelector
from greentic.spec.environment import PackBinding
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.payloads import AddDeploymentPayload, CreateEnvironmentPayload
from greentic.store.clock import timestamp, wall_clock
from greentic.store.files import FilesStore

_OF_STORE = ("environment.json", "runtime-config.json", "ledger", "audit", "backups")
"""What the store writes into an environment's folder; the rest there is the deployer's."""


class Recorded:
    """The stage's environment in a store of its own, around the bench's folder."""

    def __init__(self, stage: Stage) -> None:
        self._bench = stage.bench
        self._folder = stage.bench.folder
        kind = stage.scene.environment.packs[0].kind
        path, _, version = kind.partition("@")
        pack = EnvPack(path, Slot.DEPLOYER, f"^{version}", "under test", deployer=lambda _: stage.deployer)
        self.environment_id = stage.bench.environment_id
        self.context = Context(
            store=FilesStore(self._folder.parent),
            registry=Registry({path: lambda: pack}),
            actor=ACTOR,
            by=ACTOR,
            now=lambda: timestamp(wall_clock()),
            mint=lambda: str(ULID()),
            progress=stage.say,
        )
        payload = CreateEnvironmentPayload(
            environment_id=self.environment_id,
            name="the driving test",
            listen_addr="127.0.0.1:0",
            packs=(PackBinding(slot=Slot.DEPLOYER, kind=kind, pack_ref=kind),),
        )
        self.context.apply(self.environment_id, "env", "create", payload)

    def deployment(self, name: str) -> str:
        """As `gtc op bundles add`, but for the policy of its revenue, which an operator signs."""
        deployment_id = self.context.mint()
        binding = RouteBinding(hosts=(host(name),), tenant_selector=TenantSelector(tenant=ACTOR, team="default"))
        payload = AddDeploymentPayload(
            deployment_id=deployment_id, bundle_id=name, customer_id=ACTOR, route_binding=binding
        )
        self.context.apply(self.environment_id, "bundles", "add", payload)
        return deployment_id

    async def live(self, deployment_id: str, bundle: str, version: str = "1.0.0") -> None:
        """As `gtc op deploy` of a next version."""
        staged = await revisions.stage(self.context, self.environment_id, deployment_id, archive(bundle, version))
        revision = self.context.store.load(self.environment_id).environment.revision(staged["revision_id"])
        assert revision is not None
        await revisions.warm(self.context, self.environment_id, revision)
        shares = [(revision.revision_id, BASIS_POINTS)]
        await traffic.set_split(self.context, self.environment_id, deployment_id, shares)

    async def preview(self, name: str, revision: str) -> str:
        """As `gtc op traffic preview`; the token."""
        told = await traffic.preview(self.context, self.environment_id, name, revision, seconds=60)
        return str(told["url"]).rpartition("=")[2]

    async def retire(self, name: str, revision: str) -> None:
        """As `gtc op revisions archive`, which drains first."""
        found = revisions.find(self.context, self.environment_id, (name, revision))
        await revisions.archive(self.context, self.environment_id, found)

    def files(self) -> Mapping[str, str]:
        """What the store has written, by name: the document, the ledger, the audit log, the states kept before."""
        return {
            path.relative_to(self._folder).as_posix(): path.read_text(encoding="utf-8", errors="replace")
            for top in _OF_STORE
            for path in _files(self._folder / top)
        }


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
