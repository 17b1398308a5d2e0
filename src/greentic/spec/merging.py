"""What begins an environment, or fills it from another one (reference 01, section 2.2)."""

from __future__ import annotations

from pydantic import Field

from greentic.spec.environment import ExtensionBinding, Health, HostConfig, PackBinding, Retention, Revocation
from greentic.spec.parsing import Payload
from greentic.spec.payloads import Asked


class MigrateSeedPayload(Payload):
    """What an environment begins with when there is none; its name is its id."""

    host_config: Asked[HostConfig]
    revocation: Asked[Revocation] = Field(default_factory=Revocation)
    retention: Asked[Retention] = Field(default_factory=Retention)
    health: Asked[Health] = Field(default_factory=Health)


class MigrateMergePayload(Payload):
    """Bindings of another environment to take over where this one has none."""

    packs: tuple[Asked[PackBinding], ...] = ()
    extensions: tuple[Asked[ExtensionBinding], ...] = ()
    seed_if_missing: MigrateSeedPayload | None = None
