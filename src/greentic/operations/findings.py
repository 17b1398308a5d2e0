"""What a doctor says of one thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: a short name, its severity, what it is about, what is wrong, and the fix.

    `severity`: `error`, `warning`, or `note` for what is worth knowing and needs no mending.
    """

    check: str
    severity: str
    subject: str
    message: str
    fix: str
