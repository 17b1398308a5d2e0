"""The environment on one machine: real processes, one router, nothing else to install.

What is offered through the entry points; each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from greentic.envpacks.registry import EnvPack
from greentic.spec.capabilities import Slot

if TYPE_CHECKING:
    from pathlib import Path

    from greentic.envpacks.bench import Bench
    from greentic.envpacks.credentials import DeployerCredentials
    from greentic.envpacks.deployer import Deployer, DeployerContext
    from greentic.envpacks.preflight import ToolCheck
    from greentic.envpacks.revocation import Revocation, RevocationContext
    from greentic.envpacks.secrets import Secrets, SecretsContext
    from greentic.envpacks.state import State, StateContext

VERSIONS = "^0.1.0"


def local_process() -> EnvPack:
    """Workers as processes of this machine, behind a router process."""
    return EnvPack(
        path="greentic.deployer.local-process",
        slot=Slot.DEPLOYER,
        versions=VERSIONS,
        summary="runs each revision as a supervised process on this machine, behind a router process",
        deployer=_deployer,
        credentials=_credentials,
        preflight=_preflight,
        bench=_bench,
    )


def dev_store() -> EnvPack:
    """Secrets in a file of the environment's folder."""
    return EnvPack(
        path="greentic.secrets.dev-store",
        slot=Slot.SECRETS,
        versions=VERSIONS,
        summary="keeps secrets in a file on this machine, for development",
        secrets=_secrets,
    )


def telemetry_stdout() -> EnvPack:
    """Telemetry on standard output."""
    return EnvPack(
        path="greentic.telemetry.stdout",
        slot=Slot.TELEMETRY,
        versions=VERSIONS,
        summary="writes telemetry to the standard output of each process",
    )


def sessions_in_memory() -> EnvPack:
    """Session pins in the memory of each router."""
    return EnvPack(
        path="greentic.sessions.in-memory",
        slot=Slot.SESSIONS,
        versions=VERSIONS,
        summary="keeps the pins of sessions in the memory of each router; they end with it",
    )


def state_in_memory() -> EnvPack:
    """State in the memory of the data plane."""
    return EnvPack(
        path="greentic.state.in-memory",
        slot=Slot.STATE,
        versions=VERSIONS,
        summary="keeps workers' values in memory; they end with the data plane, not with a worker",
        state=_state,
    )


def state_sqlite() -> EnvPack:
    """State in a database file of the environment's folder."""
    return EnvPack(
        path="greentic.state.sqlite",
        slot=Slot.STATE,
        versions=VERSIONS,
        summary="keeps workers' values in a file of the environment; they outlive every process",
        state=_state_in_a_file,
        answers=_state_answers,
    )


def revocation_file() -> EnvPack:
    """What is revoked, in a file of the environment's folder."""
    return EnvPack(
        path="greentic.revocation.file",
        slot=Slot.REVOCATION,
        versions=VERSIONS,
        summary="refuses what stands in revocations.json of the environment's folder, read at every question",
        revocation=_revocation,
        answers=_revocation_answers,
    )


def _deployer(context: DeployerContext) -> Deployer:
    from greentic.providers.local.deployer import LocalProcessDeployer

    return LocalProcessDeployer(context)


def _secrets(context: SecretsContext) -> Secrets:
    from greentic.providers.local.secrets import DevStore

    return DevStore(context)


def _credentials() -> DeployerCredentials:
    from greentic.providers.local.credentials import LocalCredentials

    return LocalCredentials()


def _bench(folder: Path) -> Bench:
    from greentic.providers.local.bench import open_bench

    return open_bench(folder)


def _preflight() -> tuple[ToolCheck, ...]:
    from greentic.providers.local.preflight import checks

    return checks()


def _state(_: StateContext) -> State:
    from greentic.providers.local.state import MemoryState

    return MemoryState()


def _state_in_a_file(context: StateContext) -> State:
    from greentic.providers.local.sqlite_state import SqliteState

    return SqliteState(context)


def _state_answers() -> Mapping[str, Any]:
    from greentic.providers.local.sqlite_state import ANSWERS

    return ANSWERS


def _revocation(context: RevocationContext) -> Revocation:
    from greentic.providers.local.revocation import RevocationFile

    return RevocationFile(context)


def _revocation_answers() -> Mapping[str, Any]:
    from greentic.providers.local.revocation import ANSWERS

    return ANSWERS
