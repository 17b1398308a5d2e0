"""The index of a rules pack: the files that an administrator reviews and applies (reference 03, section 7.6)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from greentic.spec.identifiers import Counter
from greentic.spec.parsing import Document, Text
from greentic.spec.references import RelativePath
from greentic.spec.revision import OMITTED


class RulesPackEntry(Document):
    """One file, relative to the index. `digest` (`sha256:<hex>` of its bytes) is ours."""

    filename: RelativePath
    description: Text | None = OMITTED
    bytes: Counter
    digest: Text | None = OMITTED


class RulesPackIndex(Document):
    """`rules/<deployer path>/index.json`."""

    schema_: Literal["greentic.rules-pack.index.v1"] = Field("greentic.rules-pack.index.v1", alias="schema")
    entries: tuple[RulesPackEntry, ...] = ()
