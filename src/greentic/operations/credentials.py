"""Whether the deployer was given what it needs (reference 03, section 7)."""

from __future__ import annotations

import json
from typing import Any

from greentic.envpacks.credentials import CapabilityCheck, CredentialsContext, DeployerCredentials
from greentic.operations.context import Context
from greentic.operations.evidence import attempt
from greentic.spec.capabilities import Slot
from greentic.spec.credentials import Credentials, Mode, Validation, Verdict, violations
from greentic.spec.environment import Environment, PackBinding
from greentic.spec.errors import Conflict, NotImplementedYet, ProviderError
from greentic.spec.parsing import Payload
from greentic.spec.rules import refuse
from greentic.store import folders
from greentic.store.io import LocalFileSystem

FILE = "credentials.json"
"""The last check, in the environment's folder."""


class CheckPayload(Payload):
    """Look at every capability of the deployer and keep what was found."""


def requirements(context: Context, environment_id: str) -> dict[str, Any]:
    """Look at each capability that the deployer needs, and keep the verdict as the Credentials document.

    Conflict when no deployer is bound, or when it needs a key and none was given.
    """
    environment = context.store.load(environment_id).environment
    binding, credentials = _contract(context, environment)
    if credentials.needs_material and environment.credentials_ref is None:
        raise Conflict(
            f"{binding.kind} needs a key, and the environment '{environment_id}' has none",
            details={"deployer_kind": binding.kind},
            next_step="gtc op credentials bootstrap, with an administrator's key",
        )
    folder = context.store.artifacts(environment_id)
    found: list[CapabilityCheck] = []

    def look() -> dict[str, Any]:
        found.extend(credentials.check(CredentialsContext(environment, folder, context.answers(binding, folder))))
        document = _document(environment, binding, found, context.now())
        data = json.dumps(document.to_json(), indent=2, ensure_ascii=False).encode() + b"\n"
        folders.replace(LocalFileSystem(), folder, folder / FILE, data)
        return document.validation.to_json()

    if context.dry_run:
        found.extend(credentials.check(CredentialsContext(environment, folder, context.answers(binding, folder))))
    else:
        attempt(context, environment_id, "credentials", "requirements", CheckPayload(), look, key=context.mint())
    document = _document(environment, binding, found, context.now())
    return {
        "environment_id": environment_id,
        "deployer_kind": binding.kind,
        "credentials_ref": environment.credentials_ref,
        "mode": document.mode.value,
        "result": document.validation.result.value,
        "missing_capabilities": list(document.validation.missing_capabilities),
        "checks": [check.document() for check in found],
        "last_run_at": document.validation.last_run_at,
    }


def bootstrap(context: Context, environment_id: str) -> dict[str, Any]:
    """Make a minimal identity with an administrator's key, used once.

    Conflict with the reason where that does not apply, and when the environment has credentials already.
    """
    environment = context.store.load(environment_id).environment
    binding, credentials = _contract(context, environment)
    if credentials.why_no_bootstrap is not None:
        raise Conflict(
            f"{binding.kind} has nothing to bootstrap: {credentials.why_no_bootstrap}",
            details={"reason": "not-applicable", "deployer_kind": binding.kind},
            next_step="gtc op credentials requirements, to see that nothing is missing",
        )
    if environment.credentials_ref is not None:
        raise Conflict(
            f"the environment '{environment_id}' has credentials already",
            details={"reason": "already-bootstrapped", "credentials_ref": environment.credentials_ref},
        )
    raise NotImplementedYet(f"{binding.kind} cannot be bootstrapped by this version")


def _contract(context: Context, environment: Environment) -> tuple[PackBinding, DeployerCredentials]:
    binding = environment.binding(Slot.DEPLOYER)
    if binding is None:
        raise Conflict(
            f"the environment '{environment.environment_id}' has no deployer that could need credentials",
            details={"missing_capabilities": ["credentials.bind-pending"]},
            next_step="gtc op env-packs add deployer KIND",
        )
    pack = context.registry.resolve(binding.kind, Slot.DEPLOYER)
    if pack.credentials is None:
        raise ProviderError(f"'{binding.kind}' does not say which credentials it needs")
    return binding, pack.credentials()


def _document(environment: Environment, binding: PackBinding, found: list[CapabilityCheck], now: str) -> Credentials:
    name = environment.environment_id
    none_needed = f"secret://{name}/{binding.kind.partition('@')[0].rpartition('.')[2]}/no-material-required"
    document = Credentials(
        env_id=name,
        deployer_kind=binding.kind,
        mode=Mode.REQUIREMENTS,
        provided_credentials_ref=environment.credentials_ref or none_needed,
        validation=Validation(
            last_run_at=now,
            result=Verdict.FAIL if any(check.status == "fail" for check in found) else Verdict.PASS,
            missing_capabilities=tuple(check.capability.id for check in found if check.status != "pass"),
        ),
    )
    refuse(list(violations(document)))
    return document
