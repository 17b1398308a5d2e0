"""Transitions that begin an environment or fill it from another one (reference 01, section 2.2)."""

from __future__ import annotations

from greentic.engine import bindings
from greentic.engine.command import Command, Outcome
from greentic.spec.binding_rules import key_of, name_of
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.merging import MigrateMergePayload, MigrateSeedPayload


def seed(environment: Environment | None, payload: MigrateSeedPayload, command: Command, now: str) -> Outcome:
    """The environment as it is, or when there is none a new one, named by its id."""
    if environment is not None:
        return Outcome(environment, {"environment_id": environment.environment_id, "seeded": False}, changed=False)
    seeded = _seeded(command.environment_id, payload)
    return Outcome(seeded, {"environment_id": seeded.environment_id, "seeded": True})


def merge(environment: Environment | None, payload: MigrateMergePayload, command: Command, now: str) -> Outcome:
    """Take over the bindings whose slot or key is not bound here: what is bound stays as it is.

    NotFound when there is no environment and nothing to seed it from; InvalidArgument for a slot that holds no binding.
    """
    merged = environment
    if merged is None:
        if payload.seed_if_missing is None:
            raise NotFound(
                f"there is no environment '{command.environment_id}'",
                details={"environment_id": command.environment_id},
                next_step=f"gtc op env create {command.environment_id}",
            )
        merged = _seeded(command.environment_id, payload.seed_if_missing)
    for pack in payload.packs:
        if not pack.slot.single:
            raise InvalidArgument(f"the slot {pack.slot} does not stand among the env-packs")
    taken: dict[bool, list[str]] = {True: [], False: []}
    offered: tuple[bindings.Binding, ...] = (*payload.packs, *payload.extensions)
    for binding in offered:
        key = key_of(binding)
        if bindings.bound(merged, key) is not None:
            continue
        generation = max(binding.generation, bindings.next_generation(merged, key))
        merged = bindings.place(merged, binding.model_copy(update={"generation": generation}))
        taken[key[0] is Slot.EXTENSION].append(name_of(key))
    result = {"merged_slots": taken[False], "merged_extensions": taken[True]}
    return Outcome(merged, result, changed=merged is not environment)


def _seeded(environment_id: str, payload: MigrateSeedPayload) -> Environment:
    return Environment(
        environment_id=environment_id,
        name=environment_id,
        host_config=payload.host_config.model_copy(update={"env_id": environment_id}),
        packs=(),
        revocation=payload.revocation,
        retention=payload.retention,
        health=payload.health,
    )
