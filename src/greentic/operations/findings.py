"""What a doctor says of one thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: a short name, `error` or `warning`, what it is about, what is wrong, and the fix."""

    check: str
    severity: str
    subject: str
    message: str
    fix: str
