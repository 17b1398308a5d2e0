"""The text of a document, whatever was copied from the text before, is that of the environment and no other."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.strategies import Scene, rearranged, reference_environment, scenes, sprinkled

from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument
from greentic.spec.integrity import canonical_json, digest
from greentic.store import document, layout
from greentic.store.document import Record

PATH = Path("environment.json")
REFERENCE = reference_environment()


def written(environment: Environment, before: Record | None) -> Record:
    """The next version of the file, as its writer keeps it."""
    return document.encode(document.body(environment, before), environment, 1, {"key": "k"})


def check(record: Record, environment: Environment) -> Record:
    """That `record` says `environment` and its digest; the version that a reader gets."""
    values = json.loads(record.raw)
    del values[document.KEY]
    wanted = environment.to_json()
    assert canonical_json(values) == canonical_json(wanted)
    assert record.stored.etag == digest(wanted)
    read = document.decode(record.raw, PATH, environment.environment_id)
    assert (read.stored, read.laid_out) == (record.stored, True)
    return read


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_what_is_copied_is_what_would_be_written_anew(data: st.DataObject) -> None:
    begin = Environment.model_validate(data.draw(sprinkled(REFERENCE)))
    other = Environment.model_validate(REFERENCE)
    environment, record = begin, check(written(begin, None), begin)
    for _ in range(3):
        environment = data.draw(rearranged(record.stored.environment, other))
        by_hand = written(environment, None)
        record = written(environment, record)
        assert record.raw == by_hand.raw
        if data.draw(st.booleans()):
            record = check(record, environment)


@given(scenes())
@settings(deadline=None, max_examples=30)
def test_a_life_by_real_verbs_is_laid_out(scene: Scene) -> None:
    check(written(scene.environment, None), scene.environment)


def test_a_line_is_an_element() -> None:
    environment = Environment.model_validate(REFERENCE)
    lines = written(environment, None).raw.splitlines()
    for revision in environment.revisions:
        assert any(line.removesuffix(b",") == canonical_json(revision.to_json()) for line in lines)


@pytest.mark.parametrize("place", ["inside", "between", "joined"])
def test_lines_that_moved_are_no_lines(place: str) -> None:
    """Line breaks mean nothing to JSON: whoever moved them left the document what it was, but not as we laid it out."""
    environment = Environment.model_validate(REFERENCE)
    raw = written(environment, None).raw
    (line,) = (
        line for name, section in layout.sections(raw) if name == "revisions" for line in layout.lines(section)[:1]
    )
    moved = {
        "inside": raw.replace(line, line.replace(b'"pack_list":[{', b'"pack_list":[\n{')),
        "between": raw.replace(line, b"\n" + line),
        "joined": raw.replace(b'"revisions":[\n', b'"revisions":['),
    }[place]
    assert moved != raw
    read = document.decode(moved, PATH, environment.environment_id)
    assert (read.stored.environment, read.laid_out) == (environment, False)
    assert written(read.stored.environment, read).raw == raw


def test_a_document_of_the_earlier_layout_is_read_and_laid_out_anew() -> None:
    environment = Environment.model_validate(REFERENCE)
    values = environment.to_json()
    pretty = json.dumps(values, indent=2).encode()
    header = {
        "generation": 7,
        "digest": digest(values),
        "content": sha256(pretty).hexdigest(),
        "commit": {"key": "k"},
    }
    header["seal"] = digest(header)
    raw = json.dumps({**values, document.KEY: header}, indent=2).encode() + b"\n"
    read = document.decode(raw, PATH, environment.environment_id)
    assert (read.stored.environment, read.stored.generation, read.laid_out) == (environment, 7, False)
    check(written(environment, read), environment)
    with pytest.raises(CorruptDocument, match="its digest is"):
        document.decode(raw.replace(b'"name": "', b'"name": "!', 1), PATH, environment.environment_id)
