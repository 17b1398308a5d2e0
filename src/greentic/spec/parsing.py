"""From untrusted JSON to typed values, with every problem named by its place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from greentic.spec.errors import AnswersParse, SpecViolation

Model = TypeVar("Model", bound=BaseModel)
MAX_LISTED = 20
"""How many problems an error lists; the rest are counted."""


class Document(BaseModel):
    """A stored or exchanged document: immutable; keys that we do not know are kept and written back."""

    model_config = ConfigDict(
        frozen=True, extra="allow", serialize_by_alias=True, validate_by_name=True, validate_by_alias=True
    )

    def to_json(self) -> dict[str, Any]:
        """The document as JSON values, optional fields that are unset left out."""
        return self.model_dump(mode="json")


class Payload(BaseModel):
    """What a caller asks for: immutable; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True, validate_by_alias=True
    )

    def to_json(self) -> dict[str, Any]:
        """The payload as JSON values."""
        return self.model_dump(mode="json")


def absent(value: object) -> bool:
    """Whether an optional field is left out of JSON: it is None or empty."""
    return value is None or value == {} or value == [] or value == ()


def parse(model: type[Model], value: Any, what: str) -> Model:
    """`value` (JSON values) as `model`; SpecViolation listing each problem with its place in `what`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise SpecViolation("Malformed", _explain(what, error), details={"problems": problems(error)}) from None


def parse_payload(model: type[Model], value: Any, what: str) -> Model:
    """As `parse`, for a caller's words: AnswersParse instead of SpecViolation."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise AnswersParse(_explain(what, error), details={"problems": problems(error)}) from None


def parse_json(text: str | bytes, what: str) -> Any:
    """JSON values in `text`; duplicate keys, NaN and trailing text are refused with SpecViolation."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SpecViolation("Malformed", f"{what} is not JSON: {error}") from None


def problems(error: ValidationError) -> list[dict[str, str]]:
    """Each problem as `{"path": "entries.0.weight_bps", "message": …}`; never the offending value itself."""
    return [
        {"path": ".".join(str(part) for part in problem["loc"]) or "(document)", "message": problem["msg"]}
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _explain(what: str, error: ValidationError) -> str:
    found = problems(error)
    lines = "; ".join(f"{problem['path']}: {problem['message']}" for problem in found[:MAX_LISTED])
    more = f"; and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return f"{what}: {lines}{more}"


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"the key {json.dumps(key)} stands twice")
        document[key] = value
    return document


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")
