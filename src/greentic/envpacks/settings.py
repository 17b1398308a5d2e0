"""What an env-pack whose answers may name secrets is made of, over the wire: the answers, and those secrets by value.

An answer that is the address of a secret of the environment (`secret://…`) is looked up here: an executable is given
those secrets and no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from greentic.envpacks.secrets import SecretValue
from greentic.envpacks.sessions import SessionsContext
from greentic.envpacks.state import StateContext
from greentic.envpacks.telemetry import TelemetryContext
from greentic.spec.errors import InvalidArgument, NotFound, SpecViolation
from greentic.spec.secrets import SecretAddress

SettingsContext = SessionsContext | TelemetryContext | StateContext
KINDS: Final = (SessionsContext, TelemetryContext, StateContext)


def named_secrets(context: SettingsContext) -> dict[str, str]:
    """The secrets that the answers name, by their address as it stands there.

    InvalidArgument for an address of another environment, NotFound for a secret that is not there.
    """
    found = {}
    for name, answer in context.answers.items():
        if not isinstance(answer, str) or not answer.startswith("secret://"):
            continue
        address = SecretAddress.of_uri(answer)
        if address.environment_id != context.environment_id:
            raise InvalidArgument(f"'{name}' must name a secret of the environment '{context.environment_id}'")
        value = context.secret(address)
        if value is None:
            raise NotFound(
                f"there is no secret {address.path}, which '{name}' names",
                details={"secret_ref": address.uri},
                next_step=f"gtc op secrets put {address.path}",
            )
        found[answer] = value.reveal()
    return found


def to_document(context: SettingsContext, secrets: Mapping[str, str]) -> dict[str, Any]:
    """The context as JSON values."""
    return {
        "environment_id": context.environment_id,
        "answers": dict(context.answers),
        "secrets": dict(secrets),
        "folder": None if context.folder is None else str(context.folder.absolute()),
    }


def from_document(kind: type[SettingsContext], document: Any) -> SettingsContext:
    """The context in `document`; SpecViolation when it is none."""
    found = document if isinstance(document, dict) else {}
    name, answers = found.get("environment_id"), found.get("answers", {})
    secrets, folder = found.get("secrets", {}), found.get("folder")
    right = isinstance(name, str) and isinstance(answers, dict) and isinstance(secrets, dict)
    if not right or not (folder is None or isinstance(folder, str)):
        raise SpecViolation("Malformed", "the context has an environment_id, answers, secrets and a folder")
    values = {SecretAddress.of_uri(address): SecretValue(str(value)) for address, value in secrets.items()}
    if folder is None and kind is StateContext:
        raise SpecViolation("Malformed", "the context of a store of state has a folder")
    made: Any = kind
    context: SettingsContext = made(
        environment_id=name, answers=answers, secret=values.get, folder=None if folder is None else Path(folder)
    )
    return context
