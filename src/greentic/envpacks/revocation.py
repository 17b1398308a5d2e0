"""The contract of the revocation slot: what was good once and must not be used any more.

What every implementation must guarantee, before any method:

1. **It fails closed.** A list that cannot be read, is malformed or too old raises; it is never taken for an empty one.
   Whoever asks refuses then.
2. **Only what is listed.** A subject is named whole and exactly (a digest, a key id); nothing is matched by prefix.
3. **Freshness.** An answer is at most as old as the provider says in its summary. What was added to the list before a
   call is seen by that call when the list is a file of the environment.
4. **Idempotence.** Looking changes nothing.

Errors: CorruptDocument (the list is malformed), NotFound (there is no list where there must be one), ProviderError
(anything the provider said). No call waits longer than TIMEOUT_SECONDS; one that is cancelled has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

TIMEOUT_SECONDS: Final = 5.0
SubjectKind = Literal["bundle", "key", "env-pack"]
"""What can be revoked: a bundle or an env-pack by the digest of its bytes (`sha256:…`), a signing key by its id."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry of a list: what is revoked, since when (RFC 3339) and why."""

    kind: SubjectKind
    subject: str
    since: str
    reason: str


@dataclass(frozen=True, slots=True)
class RevocationContext:
    """What a list is found by: the environment, its folder, and the answers of its binding."""

    environment_id: str
    folder: Path
    answers: Mapping[str, Any] = field(default_factory=dict)


class Revocation(Protocol):
    """A list of what is revoked. The guarantees stand in the module's docstring."""

    def find(self, kind: SubjectKind, subject: str) -> Revoked | None:
        """The entry of `subject`, None when it is not revoked."""
        ...

    def entries(self) -> tuple[Revoked, ...]:
        """Every entry, in the order of the list."""
        ...
