"""How the contracts of the slots travel between processes: documents, values and errors as JSON.

A recorded state is `{"generation": n, "environment": {…}}`, an environment its own document, bytes are base64, anything
else is an object with the fields of its class. The signatures of a contract's protocol, such as
`greentic.envpacks.deployer.Deployer`, say what each verb takes and gives; nothing is written down twice. An error is
`{"kind", "message", "details"?, "next_step"?}` and comes out at the other end as the same member of the error family.
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from greentic.envpacks import settings
from greentic.envpacks.deployer import Deployer, DesiredState
from greentic.envpacks.secrets import SecretValue
from greentic.spec import errors
from greentic.spec.environment import Environment
from greentic.spec.parsing import parse

PROTOCOL: Final = 1
"""The version of the conversation with an executable (docs/env-packs.md)."""
LIMIT_BYTES: Final = 32 * 1024 * 1024
"""One line: room for the largest environment, and a bound for a confused peer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What a verb takes, by name, and gives; as types. `progresses`: it can also be given somebody to tell. `waits`: it
    is a coroutine. `secret`: what it gives may be shown nowhere. `optional` may be left out.
    """

    takes: Mapping[str, Any]
    gives: Any
    progresses: bool
    waits: bool = True
    secret: bool = False
    optional: frozenset[str] = frozenset()


def encode(message: Mapping[str, Any]) -> bytes:
    """`message` as one line."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


@cache
def verbs(protocol: Any = Deployer) -> Mapping[str, Signature]:
    """The verbs of a protocol by name."""
    return {
        name: _signature(member)
        for name, member in vars(protocol).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def _signature(member: Callable[..., Any]) -> Signature:
    hints = get_type_hints(member)
    gives = hints.pop("return")
    progresses = hints.pop("progress", None) is not None
    given = inspect.signature(member).parameters
    optional = frozenset(name for name in hints if given[name].default is not inspect.Parameter.empty)
    secret = SecretValue in (gives, *get_args(gives))
    return Signature(hints, gives, progresses, inspect.iscoroutinefunction(member), secret, optional)


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
    if isinstance(value, SecretValue):
        return value.reveal()
    if isinstance(value, settings.KINDS):
        return settings.to_document(value, settings.named_secrets(value))
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_json(member) for name, member in value._asdict().items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(member) for member in value]
    return value


def from_json(kind: Any, document: Any, what: str) -> Any:
    """The value of type `kind` in `document`; SpecViolation with each problem's place in `what`, never its value.

    Members that the type does not know are left out: a newer peer may say more.
    """
    if kind is DesiredState:
        return desired_from(document)
    if kind is Environment:
        return parse(Environment, document, what)
    if kind in settings.KINDS:
        return settings.from_document(kind, document)
    from pydantic import ValidationError

    from greentic.spec.parsing import malformed

    try:
        return _adapter(kind).validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise malformed(what, error) from None


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    # A class brings its own configuration, and none of ours has bytes but within another type.
    own = dataclasses.is_dataclass(kind)
    return TypeAdapter(kind) if own else TypeAdapter(kind, config=ConfigDict(val_json_bytes="base64"))


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
