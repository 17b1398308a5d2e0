"""The recorded state that a deployer is given: a real environment, changed by the engine's own transitions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ulid import ULID

from greentic.conformance.bundles import HEALTHY, archive
from greentic.engine.command import Command
from greentic.engine.transition import transition
from greentic.envpacks.deployer import DesiredState
from greentic.operations.artifacts import prepare
from greentic.spec.capabilities import Slot
from greentic.spec.deployment import RouteBinding, TenantSelector
from greentic.spec.environment import Environment, PackBinding
from greentic.spec.parsing import Payload
from greentic.spec.payloads import (
    AddDeploymentPayload,
    ClearTrafficSplitPayload,
    CreateEnvironmentPayload,
    FieldUpdate,
    HealthGate,
    RevisionPayload,
    RollbackTrafficSplitPayload,
    SetTrafficSplitPayload,
    StageRevisionPayload,
    UpdateDeploymentPayload,
    UpdateEnvironmentPayload,
    WarmRevisionPayload,
    WeightedRevision,
)
from greentic.spec.router_settings import RouterSettings
from greentic.spec.traffic import PinPolicy
from greentic.store.clock import timestamp, wall_clock

ACTOR = "conformance"


class Scene:
    """The record of one environment. Each change makes a new generation; nothing here reaches a provider."""

    def __init__(self, environment_id: str, folder: Path, kind: str) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        self.generation = 0
        self._environment: Environment | None = None
        self.apply(
            "env",
            "create",
            CreateEnvironmentPayload(
                environment_id=environment_id,
                name="the driving test",
                listen_addr="127.0.0.1:0",
                packs=(PackBinding(slot=Slot.DEPLOYER, kind=kind, pack_ref=kind),),
            ),
            environment_id,
        )

    @property
    def environment(self) -> Environment:
        """The environment as recorded."""
        assert self._environment is not None
        return self._environment

    @property
    def desired(self) -> DesiredState:
        """What a deployer is given."""
        return DesiredState(self.environment, self.generation)

    def apply(self, noun: str, verb: str, payload: Payload, environment_id: str | None = None) -> Mapping[str, Any]:
        """Record one change; its result."""
        name = environment_id or self.environment.environment_id
        command = Command(name, noun, verb, payload, f"conformance-{next(self._numbers)}", ACTOR)
        outcome = transition(self._environment, command, timestamp(wall_clock()))
        if outcome.changed:
            self._environment = outcome.environment
            self.generation += 1
        return outcome.result

    def routers(self, replicas: int) -> None:
        """Ask for that many routers."""
        settings = FieldUpdate[RouterSettings](value=RouterSettings(replicas=replicas))
        self.apply("env", "update", UpdateEnvironmentPayload(router=settings))

    def deployment(self, name: str, customer: str = "customer-one", **route: Any) -> str:
        """A deployment of the suite's bundle, bound to the host `<name>.conformance.test` unless `route` says more."""
        deployment_id = str(ULID())
        binding = RouteBinding(
            hosts=route.get("hosts", (host(name),)),
            path_prefixes=route.get("path_prefixes", ()),
            tenant_selector=TenantSelector(tenant=customer, team="default"),
        )
        self.apply(
            "bundles",
            "add",
            AddDeploymentPayload(
                deployment_id=deployment_id,
                bundle_id=name,
                customer_id=customer,
                route_binding=binding,
                config_overrides=route.get("overrides", {}),
            ),
        )
        return deployment_id

    def configure(self, deployment_id: str, overrides: Mapping[str, Mapping[str, Any]]) -> None:
        """New answers for the deployment; what was staged before is frozen."""
        self.apply(
            "bundles",
            "update",
            UpdateDeploymentPayload(deployment_id=deployment_id, config_overrides=dict(overrides)),
        )

    def staged(
        self, deployment_id: str, bundle: str = HEALTHY, version: str = "1.0.0", *, drain_seconds: int = 5
    ) -> str:
        """A staged revision with its files, frozen with the deployment's answers of now."""
        revision_id = str(ULID())
        deployment = self.environment.deployment(deployment_id)
        assert deployment is not None
        prepared = prepare(
            self.folder, self.environment, revision_id, archive(bundle, version), deployment.config_overrides
        )
        self.apply(
            "revisions",
            "stage",
            StageRevisionPayload(
                revision_id=revision_id,
                deployment_id=deployment_id,
                bundle_digest=prepared.digest,
                pack_list=prepared.pack_list,
                pack_list_lock_ref=prepared.lock_ref,
                pack_config_refs=prepared.config_refs,
                config_digest=prepared.config_digest,
                drain_seconds=drain_seconds,
                display_version=prepared.version,
            ),
        )
        return revision_id

    def warming(self, revision_id: str) -> None:
        """Record that the revision is being warmed."""
        self.apply("revisions", "begin-warm", RevisionPayload(revision_id=revision_id))

    def ready(self, revision_id: str) -> None:
        """Record that the revision passed its gate."""
        self.apply("revisions", "warm", WarmRevisionPayload(revision_id=revision_id, health_gate=HealthGate(ok=True)))

    def draining(self, revision_id: str) -> None:
        """Record that the revision is being drained."""
        self.apply("revisions", "drain", RevisionPayload(revision_id=revision_id))

    def drained(self, revision_id: str) -> None:
        """Record that the drain ended."""
        self.apply("revisions", "complete-drain", RevisionPayload(revision_id=revision_id))

    def archived(self, revision_id: str) -> None:
        """Record that the revision is archived."""
        self.apply("revisions", "archive", RevisionPayload(revision_id=revision_id))

    def split(self, deployment_id: str, weights: Mapping[str, int], pins: PinPolicy | None = None) -> None:
        """Move the dial: basis points by revision, and what becomes of visitors' pins."""
        entries = tuple(WeightedRevision(revision_id=name, weight_bps=weight) for name, weight in weights.items())
        policy = {} if pins is None else {"pins": pins}
        self.apply(
            "traffic",
            "set",
            SetTrafficSplitPayload(deployment_id=deployment_id, entries=entries, updated_by=ACTOR, **policy),
        )

    def rolled_back(self, deployment_id: str) -> None:
        """Move the dial back."""
        self.apply("traffic", "rollback", RollbackTrafficSplitPayload(deployment_id=deployment_id, updated_by=ACTOR))

    def cleared(self, deployment_id: str) -> None:
        """Take all traffic away."""
        self.apply("traffic", "clear", ClearTrafficSplitPayload(deployment_id=deployment_id, updated_by=ACTOR))


def host(name: str) -> str:
    """The host that a deployment of the suite is bound to."""
    return f"{name}.conformance.test"
