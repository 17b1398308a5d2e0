"""From untrusted JSON to typed values, with every problem named by its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from greentic.spec.errors import AnswersParse, SpecViolation

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)
MAX_LISTED = 20
"""How many problems an error lists; the rest are counted."""
MAX_DEPTH = 100
"""How deep a free-form value may nest; readers of the reference stop at 128 levels for a whole document."""
MAX_TEXT = 2**24
"""Characters that any one text of a document may hold."""
_MAX_BITS = 14_000
"""Bits of an integer: what Python prints and reads as decimal without raising its limit of 4,300 digits."""


def _json(value: Any) -> Any:
    """`value` when it is made of what JSON can hold and hand back equal; ValueError otherwise."""
    pending = [(value, 0)]
    while pending:
        found, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
        kind = type(found)
        if kind is dict:
            for key, member in found.items():
                if type(key) is not str:
                    raise ValueError("holds a key that is not a text")
                _encodable(key)
                pending.append((member, depth + 1))
        elif kind is list:
            pending.extend((member, depth + 1) for member in found)
        elif kind is str:
            _encodable(found)
        elif kind is float:
            if found - found != 0:
                raise ValueError("holds a number that JSON cannot express")
        elif kind is int:
            if found.bit_length() > _MAX_BITS:
                raise ValueError("holds a number of more than 4,200 digits")
        elif found is not None and kind is not bool:
            raise ValueError(f"holds a {kind.__name__}, which is not a JSON value")
    return value


def _encodable(text: str) -> None:
    # A lone surrogate comes from an escape such as "\\ud800" or from bytes on a command line that are not UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a text that is not Unicode") from None


Json = Annotated[Any, AfterValidator(_json)]
"""Any JSON value that can be written and read back equal."""
Text = Annotated[str, Field(max_length=MAX_TEXT)]
"""Any text. The bound also makes pydantic refuse lone surrogates, which could not be written."""
Flag = Annotated[bool, Field(strict=True)]
"""true or false; not 1, "yes" or "off"."""


class Document(BaseModel):
    """A stored or exchanged document: immutable; keys that we do not know are kept and written back."""

    model_config = ConfigDict(frozen=True, extra="allow", serialize_by_alias=True, defer_build=True)
    __pydantic_extra__: dict[Text, Json] = Field(init=False)

    def to_json(self) -> dict[str, Any]:
        """The document as JSON values, optional fields that are unset left out."""
        return self.model_dump(mode="json")


class Payload(BaseModel):
    """What a caller asks for: immutable; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """The payload as JSON values."""
        return self.model_dump(mode="json")


def unset(value: object) -> bool:
    """Whether an optional field is left out of JSON: nobody said anything. An empty list is something said."""
    return value is None


def absent(value: object) -> bool:
    """Whether an optional field is left out of JSON: it is None or empty."""
    return value is None or value == {} or value == [] or value == ()


def parse(model: type[Model], value: Any, what: str) -> Model:
    """`value` (JSON values) as `model`; SpecViolation listing each problem with its place in `what`.

    A document must carry its discriminator (`schema`): one of another kind is never taken for it. The rule is then
    `SchemaMismatch`, otherwise `Malformed`.
    """
    try:
        parsed = model.model_validate(value)
    except ValidationError as error:
        raise malformed(what, error) from None
    if "schema_" in model.model_fields and "schema_" not in parsed.model_fields_set and not isinstance(value, model):
        expected = model.model_fields["schema_"].default
        problem = {"path": "schema", "message": f"must be '{expected}'"}
        raise SpecViolation("SchemaMismatch", f"{what}: schema: {problem['message']}", details={"problems": [problem]})
    return parsed


def malformed(what: str, error: ValidationError) -> SpecViolation:
    """The problems that pydantic found in `what`, as our error."""
    found = problems(error)
    rule = "SchemaMismatch" if any(problem["path"] == "schema" for problem in found) else "Malformed"
    return SpecViolation(rule, _explain(what, error), details={"problems": found[:MAX_LISTED]})


def parse_payload(model: type[Model], value: Any, what: str) -> Model:
    """As `parse`, for a caller's words: AnswersParse instead of SpecViolation."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise AnswersParse(_explain(what, error), details={"problems": problems(error)[:MAX_LISTED]}) from None


def parse_json(text: str | bytes, what: str) -> Any:
    """JSON values in `text`; duplicate keys, NaN, numbers beyond a double and trailing text are SpecViolations."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)
    except RecursionError:
        raise SpecViolation("Malformed", f"{what} is not JSON that we read: it is nested too deeply") from None
    except ValueError as error:
        raise SpecViolation("Malformed", f"{what} is not JSON: {error}") from None


_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a known key",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "tuple_type": "must be a list",
    "string_type": "must be a text; in YAML, put it in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "mapping_type": "must be an object",
    "string_unicode": "holds a text that is not Unicode",
    "union_tag_invalid": "is of no known kind",
    "union_tag_not_found": "does not say its kind",
}
"""Our words for problems that pydantic tells in terms of Python."""


_KINDS: set[str] = set()


def kinds(key: str, *models: type[BaseModel]) -> Any:
    """The field of a list's members that are one of `models`, told apart by the text at `key`."""
    _KINDS.update(model.model_fields[key].default for model in models)
    return Field(discriminator=key)


def problems(error: ValidationError) -> list[dict[str, str]]:
    """Each problem as `{"path": "entries.0.weight_bps", "message": …}`; never the offending value itself."""
    return [
        {
            "path": ".".join(_place(problem)) or "(document)",
            "message": _WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, "),
        }
        for problem in error.errors(include_url=False, include_input=False)
    ]


def _place(problem: ErrorDetails) -> Iterator[str]:
    """The keys and indices that lead to a problem. Pydantic also names the kind that it took a member for."""
    before: int | str = ""
    for part in problem["loc"]:
        if not (isinstance(before, int) and part in _KINDS):
            yield str(part)
        before = part
    if problem["type"].startswith("union_tag_"):
        yield str(problem.get("ctx", {}).get("discriminator", "")).strip("'")


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


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")
