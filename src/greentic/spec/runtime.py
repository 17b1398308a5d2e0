"""EnvironmentRuntime (`runtime.json`): what a producer discovered at run time (reference 01, section 1.6)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from greentic.spec.identifiers import Counter, EnvironmentId, Timestamp
from greentic.spec.parsing import Document, Json, Text
from greentic.spec.references import Descriptor


class EnvironmentRuntime(Document):
    """Discovered values by key, any JSON; `runtime://<env>/discovered/<key>` names one.

    `generated_by` is the env-pack that wrote it; nobody overwrites what another one discovered.
    """

    schema_: Literal["greentic.environment-runtime.v1"] = Field("greentic.environment-runtime.v1", alias="schema")
    environment_id: EnvironmentId
    discovered: dict[Text, Json] = Field(default_factory=dict)
    generated_at: Timestamp
    generated_by: Descriptor
    generation: Counter
