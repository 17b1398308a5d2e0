"""The audit log: look at it, check it, hand it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from greentic.operations.context import Context
from greentic.operations.kept import files
from greentic.spec.errors import CorruptDocument, NotFound
from greentic.store.audit import AuditReport, AuditTrail, verify


def tail(context: Context, environment_id: str, count: int) -> dict[str, Any]:
    """The newest entries, oldest first."""
    return {"environment_id": environment_id, "events": list(_trail(context, environment_id).tail(count))}


def show(context: Context, environment_id: str, wanted: str) -> dict[str, Any]:
    """Every entry whose event id begins with `wanted`, or whose sequence or idempotency key it is; NotFound if none."""
    found = [event for event in _trail(context, environment_id).events() if _matches(event, wanted)]
    if not found:
        raise NotFound(
            f"the audit log of '{environment_id}' has no entry '{wanted}'",
            next_step=f"gtc op audit tail --env {environment_id}",
        )
    return {"environment_id": environment_id, "events": found}


def check(context: Context, environment_id: str, path: Path | None) -> dict[str, Any]:
    """Check the chain of the environment against its last change, or an exported file on its own, offline.

    CorruptDocument naming the first bad entry when it does not hold.
    """
    if path is not None and not path.exists():
        raise NotFound(f"there is no log at {path}")
    report: AuditReport = files(context).verify_audit(environment_id) if path is None else verify(path)
    told = {"environment_id": None if path is not None else environment_id, **asdict(report), "ok": report.ok}
    if report.finding is not None:
        finding = report.finding
        raise CorruptDocument(
            f"the audit log does not verify: {finding.file} line {finding.line}: {finding.reason}",
            details=told,
            next_step="compare with an exported copy; nothing can mend a chain that was changed",
        )
    return told


def export(context: Context, environment_id: str, target: BinaryIO, since: int) -> int:
    """Write the entries after sequence `since` as JSON lines that `check` accepts; how many."""
    return _trail(context, environment_id).export(target, since)


def events(context: Context, environment_id: str, since: int) -> Iterator[Mapping[str, Any]]:
    """The entries after sequence `since`, oldest first."""
    return _trail(context, environment_id).events(since)


def _trail(context: Context, environment_id: str) -> AuditTrail:
    store = files(context)
    if not store.artifacts(environment_id).is_dir():
        raise NotFound(f"there is no environment '{environment_id}'", next_step=f"gtc op env create {environment_id}")
    return store.audit(environment_id)


def _matches(event: Mapping[str, Any], wanted: str) -> bool:
    return (
        str(event.get("event_id", "")).startswith(wanted.upper())
        or str(event.get("sequence")) == wanted
        or event.get("idempotency_key") == wanted
    )
