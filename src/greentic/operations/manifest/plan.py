"""What a plan is: ordered steps, what is missing, what to know, and the token that names it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from greentic.operations.manifest.tasks import Task
from greentic.spec.integrity import canonical_json, digest
from greentic.spec.manifest import SCHEMA

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Action(StrEnum):
    """What a step does."""

    CREATE = "create"
    UPDATE = "update"
    MOVE = "move"
    REMOVE = "remove"
    PUT = "put"
    NONE = "no-op"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `kind` and `key` name it, `detail` says it to a person, `change` holds before and after (JSON values).

    `task` is what is carried out; None exactly when there is nothing to do.
    """

    kind: str
    key: str
    action: Action
    detail: str
    change: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str = ""
    task: Task | None = None

    def document(self) -> dict[str, Any]:
        """The step as JSON (reference 01, section 5.6, with `change`)."""
        told = {
            "kind": self.kind,
            "key": self.key,
            "action": self.action.value,
            "detail": self.detail,
            "idempotency_key": self.idempotency_key,
        }
        return {**told, "change": dict(self.change)} if self.change else told


@dataclass(frozen=True, slots=True)
class Missing:
    """An input that is not there: a `kind` of secret_value, bundle_artifact or answers_file; `source` env:X, path:…."""

    kind: str
    key: str
    source: str

    def document(self) -> dict[str, str]:
        """The missing input as JSON (reference 01, section 5.6)."""
        return {"kind": self.kind, "key": self.key, "source": self.source}


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, in order, to the environment at `generation` and `etag` (0 and "" when it does not exist).

    `pins` are the digests that the plan rests on besides the record: of the manifest and of the artifacts.
    """

    environment_id: str
    generation: int
    etag: str
    steps: tuple[Step, ...]
    pins: Mapping[str, str]
    missing: tuple[Missing, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that do something."""
        return tuple(step for step in self.steps if step.action is not Action.NONE)

    @property
    def differs(self) -> bool:
        """Whether the environment is not as the manifest says, or that cannot be known."""
        return bool(self.changes or self.missing)

    @property
    def token(self) -> str:
        """Names exactly this plan: the state it starts from, the manifest, the artifacts and the steps."""
        content = {
            "environment_id": self.environment_id,
            "generation": self.generation,
            "etag": self.etag,
            "pins": dict(self.pins),
            "steps": [step.document() for step in self.steps],
        }
        return f"plan-{digest(content)[:40]}"

    def counted(self) -> Mapping[str, int]:
        """How many steps there are of each action."""
        return Counter(step.action.value for step in self.steps)


def step_key(environment_id: str, kind: str, natural: str, desired: Any, epoch: str) -> str:
    """The idempotency key of a step: a ULID out of what it is and wants (reference 01, section 5.4), and of `epoch`.

    The reference derives it from the wish alone. Keys are remembered for days, so a second change to an earlier wish
    would be taken for a repetition of the first and do nothing; `epoch` (where the plan starts from) tells them apart.
    """
    hashed = hashlib.sha256()
    for part in (SCHEMA, environment_id, kind, natural, digest(desired), epoch):
        hashed.update(part.encode() + b"\0")
    return ulid_of(hashed.digest())


def derived_id(*parts: Any) -> str:
    """A ULID out of `parts`: the same parts give the same identifier, so that a repetition makes nothing twice."""
    return ulid_of(hashlib.sha256(canonical_json(list(parts))).digest())


def ulid_of(data: bytes) -> str:
    """The first 16 bytes as a ULID."""
    number = int.from_bytes(data[:16], "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
