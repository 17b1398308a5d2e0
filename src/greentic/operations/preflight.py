"""The tools that the bound env-packs use: are they there?"""

from __future__ import annotations

from typing import Any

from greentic.engine.bindings import Binding
from greentic.operations.context import Context
from greentic.spec.binding_rules import key_of
from greentic.spec.capabilities import Slot
from greentic.spec.errors import GreenticError


def check_tools(context: Context, environment_id: str) -> dict[str, Any]:
    """The checks of every bound env-pack and extension; those that no installed env-pack serves are named apart."""
    environment = context.store.load(environment_id).environment
    packs, unresolved = _checked(context, environment.packs)
    extensions, extensions_unresolved = _checked(context, environment.extensions)
    outcomes = [check["outcome"]["status"] for row in (*packs, *extensions) for check in row["checks"]]
    return {
        "environment_id": environment_id,
        "bindings": packs,
        "unresolved_bindings": unresolved,
        "extension_bindings": extensions,
        "extension_unresolved_bindings": extensions_unresolved,
        "total_checks": len(outcomes),
        "failed_checks": sum(outcome != "ok" for outcome in outcomes),
        "checked_at": context.now(),
    }


def _checked(context: Context, bindings: tuple[Binding, ...]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    resolved: list[dict[str, Any]] = []
    unresolved: list[dict[str, Any]] = []
    for binding in bindings:
        slot: Slot = key_of(binding)[0]
        row = {"slot": slot.value, "kind": binding.kind}
        try:
            pack = context.registry.resolve(binding.kind, slot)
        except GreenticError as error:
            unresolved.append({**row, "error": error.document()})
            continue
        checks = () if pack.preflight is None else pack.preflight()
        resolved.append({**row, "checks": [check.document() for check in checks]})
    return resolved, unresolved
