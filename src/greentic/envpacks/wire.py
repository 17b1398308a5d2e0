"""How the contract of the deployer travels between processes: documents, values and errors as JSON.

A recorded state is `{"generation": n, "environment": {…}}`, an environment its own document, a report or an observation
an object with the fields of its class. The signatures of `greentic.envpacks.deployer.Deployer` say what each verb takes
and gives; nothing is written down twice. An error is `{"kind", "message", "details"?, "next_step"?}` and comes out at
the other end as the same member of the error family.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, get_type_hints

from greentic.envpacks.deployer import Deployer, DesiredState
from greentic.spec import errors
from greentic.spec.environment import Environment
from greentic.spec.parsing import parse

PROTOCOL: Final = 1
"""The version of the conversation with an executable (docs/env-packs.md)."""
LIMIT_BYTES: Final = 32 * 1024 * 1024
"""One line: room for the largest environment, and a bound for a confused peer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What a verb takes, by name, and gives; as types. `progresses`: it can also be given somebody to tell."""

    takes: Mapping[str, Any]
    gives: Any
    progresses: bool


def encode(message: Mapping[str, Any]) -> bytes:
    """`message` as one line."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


@cache
def verbs() -> Mapping[str, Signature]:
    """The verbs of the contract by name."""
    found = {}
    for name, member in vars(Deployer).items():
        if inspect.iscoroutinefunction(member):
            hints = get_type_hints(member)
            gives = hints.pop("return")
            progresses = hints.pop("progress", None) is not None
            found[name] = Signature(hints, gives, progresses)
    return found


def desired_document(desired: DesiredState) -> dict[str, Any]:
    """The recorded state as JSON values."""
    return {"generation": desired.generation, "environment": desired.environment.to_json()}


def desired_from(document: Any) -> DesiredState:
    """The recorded state in `document`; SpecViolation when it is none."""
    if not isinstance(document, dict) or type(document.get("generation")) is not int:
        raise errors.SpecViolation("Malformed", "a desired state has a generation and an environment")
    environment = parse(Environment, document.get("environment"), "the desired state's environment")
    return DesiredState(environment, document["generation"])


def to_json(value: Any) -> Any:
    """A value of the contract as JSON values."""
    if isinstance(value, DesiredState):
        return desired_document(value)
    if isinstance(value, Environment):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(member) for member in value]
    return value


def from_json(kind: Any, document: Any, what: str) -> Any:
    """The value of type `kind` in `document`; SpecViolation with each problem's place in `what`.

    Members that the type does not know are left out: a newer peer may say more.
    """
    if kind is DesiredState:
        return desired_from(document)
    if kind is Environment:
        return parse(Environment, document, what)
    from pydantic import ValidationError

    from greentic.spec.parsing import malformed

    try:
        return _adapter(kind).validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise malformed(what, error) from None


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def error_from(document: Any, who: str = "the runtime") -> errors.GreenticError:
    """The error that `document` describes, as the member of the family with that kind; ProviderError for any other."""
    if not isinstance(document, dict):
        return errors.ProviderError(f"{who} answered with something that is not an error")
    message = str(document.get("message", f"{who} gave no reason"))
    found = document.get("details")
    details = found if isinstance(found, dict) else {}
    next_step = document.get("next_step")
    next_step = None if next_step is None else str(next_step)
    family = _FAMILY.get(str(document.get("kind")), errors.ProviderError)
    if issubclass(family, errors.SpecViolation):
        rule = {"rule": str(details.get("rule", ""))}
        return family(rule["rule"], message, details={**details, **rule}, next_step=next_step)
    return family(message, details=details, next_step=next_step)


def _family(root: type[errors.GreenticError]) -> dict[str, type[errors.GreenticError]]:
    found = {root.kind: root}
    for member in root.__subclasses__():
        # Of several of one kind the most general is meant: which of them it was, the kind does not say.
        found = {**_family(member), **found}
    return found


_FAMILY = {
    kind: family for kind, family in _family(errors.GreenticError).items() if family.__module__ == errors.__name__
}
"""Those of `greentic.spec.errors`: they are all made from a message alone."""
