"""The answers to setup questions."""

from __future__ import annotations

import pytest

from greentic.bundles.manifest import PackManifest
from greentic.spec.errors import InvalidArgument


def pack(*setup: dict) -> PackManifest:
    document = {"pack_id": "web", "version": "1.0.0", "application": {"kind": "asgi", "app": "a:b"}, "setup": setup}
    return PackManifest.model_validate(document)


QUESTIONS = pack(
    {"name": "greeting", "default": "Hello", "constraint": {"pattern": "[A-Z].*", "min_len": 2, "max_len": 8}},
    {"name": "retries", "type": "integer", "required": True, "constraint": {"min": 0, "max": 5}},
    {"name": "ratio", "type": "number"},
    {"name": "loud", "type": "boolean", "default": False},
    {"name": "mode", "type": "enum", "choices": ["fast", "slow"], "default": "fast"},
    {"name": "tags", "type": "list", "choices": ["a", "b"], "constraint": {"max_len": 2}},
    {"name": "token", "secret": True, "required": True},
)


def test_defaults_are_filled_in_and_what_is_optional_stays_out():
    assert QUESTIONS.validate_answers({"retries": 3}) == {
        "greeting": "Hello",
        "retries": 3,
        "loud": False,
        "mode": "fast",
    }


def test_answers_win():
    answers = {"greeting": "Ciao", "retries": 0, "ratio": 2, "loud": True, "mode": "slow", "tags": ("a", "b")}
    assert QUESTIONS.validate_answers(answers) == {**answers, "tags": ["a", "b"]}


WRONG = {
    "missing": ({}, {"retries": "is required"}),
    "secret": ({"retries": 1, "token": "s3cret"}, {"token": "is a secret"}),
    "unknown": ({"retries": 1, "retry": 2}, {"retry": "is not a question"}),
    "boolean as integer": ({"retries": True}, {"retries": "must be a whole number"}),
    "float as integer": ({"retries": 1.0}, {"retries": "must be a whole number"}),
    "string as integer": ({"retries": "1"}, {"retries": "must be a whole number"}),
    "null": ({"retries": None}, {"retries": "must be a whole number"}),
    "below": ({"retries": -1}, {"retries": "must be at least 0"}),
    "above": ({"retries": 6}, {"retries": "must be at most 5"}),
    "infinite": ({"retries": 1, "ratio": float("inf")}, {"ratio": "must be a number"}),
    "not a number": ({"retries": 1, "ratio": float("nan")}, {"ratio": "must be a number"}),
    "pattern": ({"retries": 1, "greeting": "hello"}, {"greeting": "must match [A-Z].*"}),
    "pattern, in part": ({"retries": 1, "greeting": "Hi\n"}, {"greeting": "must match [A-Z].*"}),
    "too long": ({"retries": 1, "greeting": "Good morning"}, {"greeting": "must have at most 8 characters"}),
    "too short": ({"retries": 1, "greeting": "H"}, {"greeting": "must have at least 2 characters"}),
    "choice": ({"retries": 1, "mode": "medium"}, {"mode": "must be one of fast, slow"}),
    "choice in a list": ({"retries": 1, "tags": ["a", "c"]}, {"tags": "may hold a, b, not 'c'"}),
    "too many": ({"retries": 1, "tags": ["a", "b", "a"]}, {"tags": "must have at most 2 items"}),
    "numbers in a list": ({"retries": 1, "tags": [1]}, {"tags": "must be a list of strings"}),
    "string as list": ({"retries": 1, "tags": "a"}, {"tags": "must be a list of strings"}),
    "word as boolean": ({"retries": 1, "loud": "yes"}, {"loud": "must be true or false"}),
    "several": (
        {"greeting": 1, "token": "x", "more": 2},
        {"greeting": "must be a string", "token": "is a secret", "more": "is not", "retries": "is required"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_all_named(name):
    answers, expected = WRONG[name]
    with pytest.raises(InvalidArgument) as caught:
        QUESTIONS.validate_answers(answers)
    found = {item["question"]: item["problem"] for item in caught.value.details["problems"]}
    assert found.keys() == expected.keys()
    for question, words in expected.items():
        assert found[question].startswith(words)
        assert question in caught.value.message
    assert "s3cret" not in str(caught.value.document())


def test_the_manifest_does_not_change():
    questions = pack({"name": "tags", "type": "list", "default": ["a"]})
    questions.validate_answers({})["tags"].append("b")
    assert questions.validate_answers({}) == {"tags": ["a"]}
