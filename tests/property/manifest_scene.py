"""Manifests applied for real: the engine, the files store, and a deployer that stands at its contract and records."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greentic.envpacks.deployer import (
    Deployer,
    DeployerContext,
    DesiredState,
    DrainReport,
    Observation,
    Progress,
    Receipt,
    RevisionObservation,
    silent,
)
from greentic.envpacks.registry import EnvPack, Registry
from greentic.operations.context import Context
from greentic.operations.manifest import applying
from greentic.operations.manifest.applying import Wishes
from greentic.operations.manifest.reading import Source
from greentic.providers import local
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import GateFailed
from greentic.spec.lifecycle import PRESENT
from greentic.store.files import FilesStore

ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass
class World:
    """What a fake provider runs. `calls` are the verbs it was given; `sick` digests never become healthy."""

    running: set[str] = field(default_factory=set)
    served: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    sick: set[str] = field(default_factory=set)


class FakeDeployer:
    """A deployer at its contract: workers are names in a set."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _called(self, verb: str) -> None:
        self._world.calls.append(verb)

    async def check_settings(self, environment: Environment) -> None:
        self._called("check")

    async def stage_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        self._called("stage")
        desired.revision(revision_id)

    async def warm_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        self._called("warm")
        if desired.revision(revision_id).bundle_digest in self._world.sick:
            raise GateFailed("it does not answer")
        self._world.running.add(revision_id)

    async def drain_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> DrainReport:
        self._called("drain")
        self._world.running.discard(revision_id)
        return DrainReport(revision_id, 0, 0, 0.0)

    async def archive_revision(self, desired: DesiredState, revision_id: str, progress: Progress = silent) -> None:
        self._called("archive")
        self._world.running.discard(revision_id)

    async def apply_traffic_split(
        self, desired: DesiredState, deployment_id: str, progress: Progress = silent
    ) -> Receipt:
        self._called("traffic")
        split = desired.environment.split(deployment_id)
        deployment = desired.environment.deployment(deployment_id)
        assert deployment is not None
        generation = split.generation if split is not None else deployment.traffic_generation or 0
        self._world.served[deployment_id] = generation
        return Receipt(deployment_id, generation, 1, 1, 2.0)

    async def reconcile(self, desired: DesiredState, progress: Progress = silent) -> Observation:
        self._called("reconcile")
        wanted = {one.revision_id for one in desired.environment.revisions if one.lifecycle in PRESENT}
        self._world.running &= wanted
        self._world.running |= {
            one.revision_id for one in desired.environment.revisions if one.lifecycle.value == "ready"
        }
        self._world.served = {split.deployment_id: split.generation for split in desired.environment.traffic_splits}
        return self._observed()

    async def observe(self, desired: DesiredState) -> Observation:
        self._called("observe")
        return self._observed()

    def _observed(self) -> Observation:
        seen = {one: RevisionObservation(one, "healthy") for one in self._world.running}
        return Observation(True, "http://127.0.0.1:1", 1, dict(self._world.served), seen)

    async def serve(self, desired: DesiredState, progress: Progress = silent) -> None:
        raise NotImplementedError

    async def stop(self, desired: DesiredState, progress: Progress = silent) -> bool:
        return False

    async def preview(self, desired: DesiredState, revision_id: str, seconds: int) -> str:
        return "token"


def registry(world: World) -> Registry:
    """The built-in env-packs, with the fake in the place of the local deployer, and an extension."""

    def deployer(_: DeployerContext) -> Deployer:
        return FakeDeployer(world)

    path, extension = "greentic.deployer.local-process", "acme.directory"
    offers: dict[str, Callable[[], EnvPack]] = {
        path: lambda: EnvPack(path, Slot.DEPLOYER, "^0.1.0", "fake", deployer=deployer),
        extension: lambda: EnvPack(extension, Slot.EXTENSION, "^1.0.0", "fake"),
        "greentic.secrets.dev-store": local.dev_store,
        "greentic.telemetry.stdout": local.telemetry_stdout,
        "greentic.sessions.in-memory": local.sessions_in_memory,
        "greentic.state.in-memory": local.state_in_memory,
    }
    return Registry(offers)


class Scene:
    """One store in `folder`, a clock and identifiers of its own."""

    def __init__(self, folder: Path, *, name: str = "local") -> None:
        self.folder = folder
        self.name = name
        self.world = World()
        self.store = FilesStore(folder / "root")
        self._minted = itertools.count(1)

    def context(self, **options: Any) -> Context:
        from datetime import UTC, datetime

        return Context(
            store=self.store,
            registry=registry(self.world),
            actor="tester",
            by="tester",
            now=lambda: datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            mint=self._mint,
            **options,
        )

    def _mint(self) -> str:
        number, digits = next(self._minted), ""
        while number:
            number, digit = divmod(number, 32)
            digits = ULID[digit] + digits
        return digits.rjust(26, "0")

    def source(self, manifest: dict[str, Any], name: str = "env.json") -> Source:
        path = self.folder / name
        data = json.dumps(manifest).encode()
        path.write_bytes(data)
        return Source(data, str(path), path, self.folder)

    def plan(self, manifest: dict[str, Any], *, name: str = "env.json", prune: bool = False) -> dict[str, Any]:
        return asyncio.run(applying.plan(self.context(), self.source(manifest, name), prune=prune))

    def apply(self, manifest: dict[str, Any], *, name: str = "env.json", **wishes: Any) -> dict[str, Any]:
        return asyncio.run(applying.apply(self.context(), self.source(manifest, name), Wishes(**wishes)))

    @property
    def environment(self) -> Environment:
        return self.store.load(self.name).environment


def changes(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(kind, key, action) of the steps that do something."""
    return [(one["kind"], one["key"], one["action"]) for one in told["steps"] if one["action"] != "no-op"]


def manifest(*bundles: dict[str, Any], name: str = "local", **sections: Any) -> dict[str, Any]:
    """A manifest of these bundles."""
    return {
        "schema": "greentic.env-manifest.v1",
        "environment": {"id": name, **sections.pop("host", {})},
        **({"bundles": list(bundles)} if bundles else {}),
        **sections,
    }


def make_bundle(folder: Path, name: str, *, setup: bool = True) -> Path:
    """A small bundle whose content is `name`."""
    from greentic.bundles.build import build

    source = folder / f"source-{name}"
    pack = source / "packs" / "assistant"
    pack.mkdir(parents=True)
    (source / "bundle.yaml").write_text(f"bundle_id: assistant\nbundle_name: {name}\nversion: 1.0.0\n")
    questions = "setup:\n  - {name: tone, type: string, default: calm}\n" if setup else ""
    (pack / "pack.yaml").write_text(
        "pack_id: assistant\nversion: 1.0.0\nkind: application\n"
        "application: {kind: asgi, app: 'main:application'}\nhealth: {path: /healthz}\n" + questions
    )
    (pack / "main.py").write_text(f"application = {name!r}\n")
    return build(source, folder / f"{name}.gtbundle").path
