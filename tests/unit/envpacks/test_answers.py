"""Answers are refused for what is wrong with them, in agreement with a whole implementation of JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from greentic.envpacks.answers import refuse_wrong
from greentic.spec.errors import InvalidArgument

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "properties": {
        "url": {"type": "string", "pattern": "^https://", "maxLength": 20},
        "files": {"type": "integer", "minimum": 1, "maximum": 9},
        "mode": {"enum": ["fast", "safe", 1]},
        "hosts": {"type": "array", "items": {"type": "string", "minLength": 1}},
        "ratio": {"type": ["number", "null"]},
        "on": {"type": "boolean"},
        "kind": {"const": "x"},
        "other": {},
    },
}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({}, "'url' is missing"),
        ({"url": "https://x", "file": 1}, "'file' is not known; did you mean 'files'?"),
        ({"url": 7}, "'url' must be of the type string"),
        ({"url": "http://hunter2"}, "must match"),
        ({"url": "https://x", "files": True}, "'files' must be of the type integer"),
        ({"url": "https://x", "files": 10}, "at most 9"),
        ({"url": "https://x", "mode": True}, "one of fast, safe, 1"),
        ({"url": "https://x", "hosts": ["a", ""]}, "'hosts' [1] must have at least 1"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_is_shown(answers: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        refuse_wrong(SCHEMA, answers, "acme.x")
    assert words in caught.value.message
    assert "hunter2" not in str(caught.value.document())


value = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 12), st.floats(-2, 12),
        st.sampled_from(["", "fast", "x", "https://x", "h" * 25]),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "unknown"]), value, max_size=5))
def test_it_agrees_with_a_whole_implementation(answers: dict[str, Any]) -> None:
    try:
        refuse_wrong(SCHEMA, answers, "acme.x")
        found = True
    except InvalidArgument:
        found = False
    assert found == Draft202012Validator(SCHEMA).is_valid(answers)
