"""Several changes of an environment at once: all of them or none, in one step of its generation. Ours."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from greentic.spec.parsing import Json, Payload, Text

MAX_STEPS = 1_000


class Step(Payload):
    """One verb and what it is asked, as it would be alone."""

    noun: Text
    verb: Text
    payload: dict[Text, Json] = Field(default_factory=dict)


class ApplyChangesPayload(Payload):
    """Verbs that are carried out in this order, each on what the one before it left."""

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MAX_STEPS)]
