"""JSON as bundles hold it, and what pydantic finds wrong, said in the words of the document."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any, NoReturn

import pydantic


def canonical_json(document: Any) -> bytes:
    """One spelling for one document: keys sorted, no white space, UTF-8, a line feed at the end."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def parse_json(data: bytes) -> Any:
    """The document in `data`. Raises ValueError for what JSON does not define: a key twice, NaN, an endless nesting."""
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        if b"\\u" in data:
            # An escaped half of a surrogate pair is read as a character that nothing can write.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def problems(error: pydantic.ValidationError, model: type[pydantic.BaseModel]) -> list[dict[str, str]]:
    """Each violation as {"path", "problem"}: where it is in the document, and what is wrong there."""
    return [{"path": _path(item["loc"]), "problem": _problem(item, model)} for item in error.errors(include_url=False)]


def _problem(item: Any, model: type[pydantic.BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        return f"unknown key; known keys: {', '.join(known_keys(model, item['loc'][:-1]))}"
    if item["type"] == "union_tag_invalid":
        return f"unknown kind {item['ctx']['tag']!r}; known kinds: {item['ctx']['expected_tags']}"
    if item["type"] == "union_tag_not_found":
        return "the kind is missing"
    if item["type"] == "missing":
        return "is missing"
    message: str = item["msg"]
    return message.removeprefix("Value error, ")


def _path(location: tuple[int | str, ...]) -> str:
    """`application.command[0]`; the tags that pydantic puts in for a union are not part of the document."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (path == "application" and part in ("asgi", "process")):
            path += f".{part}" if path else part
    return path or "(the document)"


def known_keys(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping at `location` may have."""
    models = [model]
    for part in location:
        if isinstance(part, int):
            continue
        inner = [
            found
            for candidate in models
            if part in candidate.model_fields
            for found in _models(candidate.model_fields[part].annotation)
        ]
        tagged = [
            candidate
            for candidate in models
            if "kind" in candidate.model_fields and candidate.model_fields["kind"].default == part
        ]
        models = inner or tagged or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (tuple, typing.Union, typing.Annotated, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _models(argument)
