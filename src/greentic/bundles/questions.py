"""Setup questions: what a pack asks of whoever deploys it, once per environment."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from greentic.bundles.application import Closed
from greentic.spec.errors import InvalidArgument

QuestionType = Literal["string", "boolean", "integer", "number", "enum", "list"]
_MOST_PATTERN_CHARACTERS = 512


class Constraint(Closed):
    """Bounds on an answer.

    - `pattern`: regular expression (Python's `re`) that the whole of a string matches;
    - `min`, `max`: bounds of an integer or a number, both included;
    - `min_len`, `max_len`: characters of a string, or items of a list.
    """

    pattern: StrictStr | None = None
    min: StrictInt | StrictFloat | None = None
    max: StrictInt | StrictFloat | None = None
    min_len: Annotated[StrictInt, Field(ge=0)] | None = None
    max_len: Annotated[StrictInt, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _sound(self) -> Constraint:
        for bound in (self.min, self.max):
            if bound is not None and not math.isfinite(bound):
                raise ValueError("min and max must be finite")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        if self.min_len is not None and self.max_len is not None and self.min_len > self.max_len:
            raise ValueError("min_len is above max_len")
        if self.pattern is not None:
            if len(self.pattern) > _MOST_PATTERN_CHARACTERS:
                raise ValueError(f"pattern is longer than {_MOST_PATTERN_CHARACTERS} characters")
            try:
                re.compile(self.pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from error
        return self


_CONSTRAINTS: Mapping[str, frozenset[str]] = {
    "string": frozenset({"pattern", "min_len", "max_len"}),
    "boolean": frozenset(),
    "integer": frozenset({"min", "max"}),
    "number": frozenset({"min", "max"}),
    "enum": frozenset(),
    "list": frozenset({"min_len", "max_len"}),
}
"""The constraints that mean something, by type of question."""


class SetupQuestion(Closed):
    """One question. `choices` are what an `enum` may be and, when given, what the items of a `list` may be.

    The answer to a `secret` question goes to the environment's secret store and nowhere else, so it can have no
    default.
    """

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
    title: StrictStr | None = None
    type: QuestionType = "string"
    required: StrictBool = False
    secret: StrictBool = False
    default: Any = None
    choices: tuple[StrictStr, ...] = ()
    description: StrictStr | None = None
    constraint: Constraint | None = None

    @model_validator(mode="after")
    def _sound(self) -> SetupQuestion:
        if self.secret and self.default is not None:
            raise ValueError("a secret question has no default: a secret must not be part of a bundle")
        if self.secret and self.type != "string":
            raise ValueError("a secret question is of the type string")
        if self.type == "enum" and not self.choices:
            raise ValueError("an enum question needs choices")
        if self.choices and self.type not in ("enum", "list"):
            raise ValueError("only enum and list questions have choices")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("a choice appears twice")
        if self.constraint is not None:
            meaningless = set(self.constraint.model_dump(exclude_none=True)) - _CONSTRAINTS[self.type]
            if meaningless:
                raise ValueError(f"{', '.join(sorted(meaningless))} means nothing for the type {self.type}")
        if self.default is not None:
            wrong = next(self.violations(self.default), None)
            if wrong:
                raise ValueError(f"the default {wrong}")
        return self

    def violations(self, answer: Any) -> Iterator[str]:
        """What is wrong with `answer`, in words that follow its name."""
        if not _has_type(self.type, answer):
            yield f"must be {_TYPE_WORDS[self.type]}"
            return
        if self.type == "enum" and answer not in self.choices:
            yield f"must be one of {', '.join(self.choices)}"
        if self.type == "list" and self.choices:
            strangers = [item for item in answer if item not in self.choices]
            if strangers:
                yield f"may hold {', '.join(self.choices)}, not {', '.join(map(repr, strangers))}"
        if self.constraint is not None:
            yield from _outside(self.constraint, answer)


_TYPE_WORDS: Mapping[str, str] = {
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "enum": "a string",
    "list": "a list of strings",
}


def _has_type(form: QuestionType, answer: Any) -> bool:
    match form:
        case "string" | "enum":
            return isinstance(answer, str)
        case "boolean":
            return isinstance(answer, bool)
        case "integer":
            return isinstance(answer, int) and not isinstance(answer, bool)
        case "number":
            return isinstance(answer, int | float) and not isinstance(answer, bool) and math.isfinite(answer)
        case "list":
            return isinstance(answer, list | tuple) and all(isinstance(item, str) for item in answer)


def _outside(constraint: Constraint, answer: Any) -> Iterator[str]:
    if constraint.pattern is not None and not re.fullmatch(constraint.pattern, answer):
        yield f"must match {constraint.pattern}"
    if constraint.min is not None and answer < constraint.min:
        yield f"must be at least {constraint.min}"
    if constraint.max is not None and answer > constraint.max:
        yield f"must be at most {constraint.max}"
    unit = "characters" if isinstance(answer, str) else "items"
    if constraint.min_len is not None and len(answer) < constraint.min_len:
        yield f"must have at least {constraint.min_len} {unit}"
    if constraint.max_len is not None and len(answer) > constraint.max_len:
        yield f"must have at most {constraint.max_len} {unit}"


def validate_answers(pack_id: str, questions: tuple[SetupQuestion, ...], answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers to the non-secret questions, defaults filled in. Raises InvalidArgument with every problem."""
    known = {question.name: question for question in questions}
    problems: list[dict[str, str]] = []

    def refuse(name: str, problem: str) -> None:
        problems.append({"question": name, "problem": problem})

    for name in answers:
        if name not in known:
            refuse(str(name), f"is not a question of this pack; its questions: {', '.join(known) or 'none'}")
    result: dict[str, Any] = {}
    for name, question in known.items():
        if question.secret:
            if name in answers:
                refuse(name, "is a secret: its value goes to the environment's secret store, not into the answers")
        elif name in answers:
            for problem in question.violations(answers[name]):
                refuse(name, problem)
            result[name] = _plain(answers[name])
        elif question.default is not None:
            result[name] = _plain(question.default)
        elif question.required:
            refuse(name, "is required")
    if problems:
        listed = "; ".join(f"{problem['question']} {problem['problem']}" for problem in problems)
        raise InvalidArgument(
            f"the answers for pack {pack_id} are not accepted: {listed}",
            details={"pack_id": pack_id, "problems": problems},
            next_step="see the questions with: gtc bundle inspect",
        )
    return result


def _plain(answer: Any) -> Any:
    return list(answer) if isinstance(answer, list | tuple) else answer
